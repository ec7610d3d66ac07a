"""The vocabulary: frozen records and exact arithmetic, without framework or I/O."""
