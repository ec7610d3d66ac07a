"""Selection that counts its luck: statistics of many trials, pure arrays in, figures out."""
