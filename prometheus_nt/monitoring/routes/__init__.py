"""The paths of the interface, one module an area: each reads the stores and says what it found."""
