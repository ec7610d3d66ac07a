"""What people watch and steer with: an HTTP interface over the stores, and the desk upon it."""
