"""Where a request says that it is: `lastcall.step` and `lastcall.critical`, which applications call.

Decides which request the caller works for. It is the one of the calling context (`contextvars`): the thread that the
application was called on, what runs with a copy of its context (`contextvars.copy_context().run`, `asyncio.to_thread`), and
nobody else. Anywhere else, under another server, in a test, after the request's end, nothing is said, and nothing is wrong.
Where it is written down is the pen's business.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Protocol


class Pen(Protocol):
    """What writes it down: for a lane, and for the one request in it that `begin` has named so."""

    def step(self, lane: int, version: int, text: str) -> None: ...

    def enter(self, lane: int, version: int) -> None: ...

    def leave(self, lane: int, version: int) -> None: ...


Here = tuple[Pen, int, int]
"""The pen, and the lane and the version that it knows the request by."""

_here: ContextVar[Here | None] = ContextVar("lastcall.here", default=None)


def begin(pen: Pen, lane: int, version: int) -> None:
    """From now on this context works for this request. Its end need not be said: the pen knows."""
    _here.set((pen, lane, version))


def step(name: str, about: str = "") -> None:
    """Say which step of its work this request has come to: `step("sendPresent", order_id)`.

    The latest sixteen, with their times, are in `lastcall status`, in the log while a drain waits for the request, and in
    the cut list if the request is cut; `about` says what a repair has to look for. Both together have 72 bytes of UTF-8.
    It takes about a microsecond and never fails; outside of a request, or of lastcall, it does nothing.
    """
    here = _here.get()
    if here is not None:
        here[0].step(here[1], here[2], f"{name}\x1f{about}" if about else f"{name}")


class critical:  # noqa: N801 - read as a statement: `with lastcall.critical():`
    """A point of no return: `with lastcall.critical(): ...` is not cut in the middle by lastcall itself.

    A cut that is due (the end of `drain_timeout`, `request_timeout`) waits until the block is left, `critical_timeout` at
    most. A request that has entered such a block is not run again when its worker dies. Blocks may be nested. docs/STEPS.md
    says what does not wait: a second stop, and whatever kills the worker from outside.
    """

    __slots__ = ("_entered",)

    def __init__(self) -> None:
        self._entered: list[Here | None] = []

    def __enter__(self) -> None:
        here = _here.get()
        self._entered.append(here)
        if here is not None:
            here[0].enter(here[1], here[2])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        here = self._entered.pop()
        if here is not None:
            here[0].leave(here[1], here[2])
