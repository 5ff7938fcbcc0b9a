"""The only layer that touches the operating system."""
