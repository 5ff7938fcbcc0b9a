"""lastcall: a process manager and application server that finishes what it has begun.

What an application may say to it, and import anywhere: `step`, where a request is in its work, and `critical`, a point
of no return. Neither does anything under another server or in a test.
"""

from lastcall.gateway.marks import critical, step

__all__ = ["__version__", "critical", "step"]
__version__ = "0.1.0"
