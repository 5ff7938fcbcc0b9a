"""What should happen. Pure: no I/O, no clock, no randomness."""
