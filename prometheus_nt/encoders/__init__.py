"""Vectors of windows, texts and joint spaces, and the search for what is similar."""
