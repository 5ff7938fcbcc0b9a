"""Durable requests: what has begun is finished, whatever dies in between; see docs/DURABLE.md.

from lastcall import durable

@durable.request(key="order_id")
def send(environ, start_response):
    present = durable.step("sendPresent", platform.send_present, order, in_doubt="retry")
    durable.step("saveOrder", orders.insert, order, present, in_doubt="retry")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from lastcall.durable import wsgi
from lastcall.durable.engine import Manner
from lastcall.durable.journal import Journal, JournalError, Terms
from lastcall.durable.judge import InDoubt
from lastcall.durable.keys import Header, Key
from lastcall.durable.memory import Memory
from lastcall.durable.place import use
from lastcall.durable.record import BODY_MAX
from lastcall.durable.record import Asked as Request
from lastcall.durable.run import Halt, NotDone, StepFailed, current

T = TypeVar("T")
_DECLARED: Final = {"hold": InDoubt.HOLD, "retry": InDoubt.RETRY}


def request(
    key: Key = Header(),  # noqa: B008 - frozen
    *,
    scope: str | None = None,
    max_body: int = BODY_MAX,
) -> Callable[[wsgi.Application], wsgi.Application]:
    """Make a WSGI application, or a part of one, durable.

    `key` says what makes two requests one: the name of a field of the body (JSON, form) or of the query, a `Header`, or a
    function of the `Request`. Keys of different paths have nothing to do with each other, unless `scope` joins them.
    """

    def decorate(app: wsgi.Application) -> wsgi.Application:
        return wsgi.wrap(app, key, scope, max_body)

    return decorate


def step(
    name: str,
    fn: Callable[..., T],
    *args: object,
    in_doubt: str = "hold",
    check: Callable[..., T] | None = None,
    **kwargs: object,
) -> T:
    """Run `fn(*args, **kwargs)` once, and return its result, which has gone through JSON; from then on it is returned from
    the journal.

    What it raises is written down, too, and comes as StepFailed. When nobody knows whether it has happened, `in_doubt`
    says what is done: `retry` it, or `hold`: park the request. With `check`, that function is called with the same arguments
    instead: it returns the result if the step has happened, and raises NotDone if not.
    """
    declared = InDoubt.CHECK if check is not None else _DECLARED.get(in_doubt)
    if declared is None:
        raise ValueError("in_doubt is hold or retry; to have somebody asked, give check")
    return current().step(name, fn, args, kwargs, in_doubt=declared, check=check)


def key() -> str:
    """Inside a step: a key to pass to whoever is called, the same each time that this step of this request is run."""
    return current().key()


__all__ = [
    "Halt", "Header", "Journal", "JournalError", "Manner", "Memory", "NotDone", "Request", "StepFailed", "Terms", "key",
    "request", "step", "use",
]  # fmt: skip
