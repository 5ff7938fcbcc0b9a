"""Drills: a service under load, an operator who repeats one operation, and a judgement of what the clients saw.

* the load, the outcomes and the numbers are those of `lastcall drill` (`lastcall.tools.drill`): ours are no others
* `judge` says what was lost at each front, how long nobody was served, and how sure one may be
* `fronts`, `stage`, `operators` put a real service on a stage: nginx before it, ledgers behind it, an operator beside it
* `apps` is what is served where it is not the gift app
* `without` starts lastcall with one of its mechanisms switched off, to show that a drill notices
"""

from __future__ import annotations

from typing import Final

RESTARTS: Final = "LASTCALL_DRILL_RESTARTS"
"""In the environment: how often an operation is repeated in one cell. Without it the drills are short, as in CI."""
REQUESTS: Final = "LASTCALL_DRILL_REQUESTS"
"""In the environment: requests between two operations."""
TABLE: Final = "LASTCALL_DRILL_TABLE"
"""In the environment: a file that every cell appends its rows to."""
