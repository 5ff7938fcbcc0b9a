"""lastcall: a process manager and application server that finishes what it has begun."""

__version__ = "0.1.0"
