"""The journal of this process: which one it is, and when it is opened.

lastcall's workers say so at their start. Elsewhere (another server, a test of an application) `use` says it, or the
environment variable LASTCALL_JOURNAL: a directory, postgresql://, mongodb://, or `memory:`. Where nobody has said anything
a durable request is refused: a journal that nobody asked for would be one that nobody looks at.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from lastcall.durable.engine import Engine, Manner, problem
from lastcall.durable.journal import MEMORY, Journal, JournalError, Terms
from lastcall.durable.record import Response

VARIABLE = "LASTCALL_JOURNAL"

_log = logging.getLogger("lastcall.durable")
_lock = threading.Lock()
_engine: Engine | None = None
_open: Callable[[], Engine] | None = None
wanted = False
"""Whether the application has durable requests."""
tell: Callable[[str], None] = _log.error
"""What an operator must see."""


def _nowhere(_step: str) -> None:
    pass


def _to_the_log(error: BaseException) -> None:
    _log.error("inside a durable request", exc_info=error)


at_step: Callable[[str], None] = _nowhere
"""Told of each step, before it begins."""
trouble: Callable[[BaseException], None] = _to_the_log
"""Told of what an application has raised inside a durable request that is parked now."""


def open_journal(where: str, terms: Terms | None = None, *, tell: Callable[[str], None] = lambda _: None) -> Journal:
    """The journal that a setting names. Raises JournalError."""
    terms = terms or Terms()
    if where == MEMORY:
        from lastcall.durable.memory import Memory  # noqa: PLC0415 - one of them is needed

        return Memory(terms)
    if where.startswith("postgres"):
        return _postgresql(where, terms)
    if where.startswith("mongodb"):
        return _mongodb(where, terms)
    from lastcall.durable.sqlite import Sqlite  # noqa: PLC0415

    return Sqlite(Path(where), terms, tell=tell)


def _postgresql(where: str, terms: Terms) -> Journal:
    try:
        from lastcall.durable.postgresql import Postgresql  # noqa: PLC0415 - an extra
    except ImportError:
        raise JournalError("the journal: PostgreSQL needs psycopg: pip install 'lastcall[postgresql]'") from None
    return Postgresql(where, terms)


def _mongodb(where: str, terms: Terms) -> Journal:
    try:
        from lastcall.durable.mongodb import Mongodb  # noqa: PLC0415 - an extra
    except ImportError:
        raise JournalError("the journal: MongoDB needs pymongo: pip install 'lastcall[mongodb]'") from None
    return Mongodb(where, terms)


def use(journal: Journal | str | None, manner: Manner | None = None) -> None:
    """Have this process's durable requests written there; None: as if nobody had said anything."""
    global _engine  # noqa: PLW0603 - one journal a process is the point
    if isinstance(journal, str):
        journal = open_journal(journal)
    with _lock:
        _engine = None if journal is None else Engine(journal, manner or Manner(tell=tell))


def arrange(opener: Callable[[], Engine]) -> None:
    """Have the journal opened when it is first needed, and again whenever that has failed."""
    global _open, _engine
    with _lock:
        _open, _engine = opener, None


def engine() -> Engine:
    """This process's. Raises JournalError."""
    global _engine  # noqa: PLW0603 - as above
    known = _engine
    if known is not None:
        return known
    with _lock:
        if _engine is None:
            _engine = _from_environment() if _open is None else _open()
        return _engine


def _from_environment() -> Engine:
    where = os.environ.get(VARIABLE)
    if not where:
        raise JournalError(f"there is no journal: set journal, or {VARIABLE}, or call durable.use")
    return Engine(open_journal(where, tell=tell), Manner(tell=tell))


def refused(error: JournalError) -> Response:
    """What is answered where there is no journal."""
    tell(f"a durable request was refused, for {error}")
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "The journal cannot be opened: this request was not begun.", begun=False
    )
