"""Bytes to values and back: pure, without I/O, clock or randomness."""
