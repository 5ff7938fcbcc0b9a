"""Durable requests in tests: a world with a journal that workers share, and applications that are called as by a server."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lastcall import durable
from lastcall.durable import place
from lastcall.durable.engine import Manner
from lastcall.durable.journal import Journal
from lastcall.durable.wsgi import Application, Environ

WAIT_S = 0.2
"""For which a request waits for another one with its key, here."""


class Killed(BaseException):
    """Stands for the death of a worker: it goes through everything, and nobody writes anything down any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.body)
        return found


@dataclass
class Remote:
    """The other side of a step: what it was asked for, and with which keys."""

    calls: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    fail: str = ""
    """What it raises."""
    die: str = ""
    """`before` or `after` it has done it, the worker dies."""
    _receipts: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def do(self, what: str) -> dict[str, object]:
        if self.die == "before":
            raise Killed
        self.keys.append(durable.key())
        if self.fail:
            raise OSError(self.fail)
        self.calls.append(what)
        if self.die == "after":
            raise Killed
        return {"receipt": next(self._receipts), "of": (what, 1)}


@dataclass
class World:
    """A journal, and workers that share it. `open` gives each worker its own view of it; `kill` ends one as SIGKILL does."""

    open: Callable[[], Journal]
    kill: Callable[[Journal], None]
    said: list[str] = field(default_factory=list)
    workers: list[Journal] = field(default_factory=list)

    def worker(self) -> Journal:
        journal = self.open()
        self.workers.append(journal)
        return journal

    @contextmanager
    def at_work(self, journal: Journal) -> Iterator[None]:
        """This process is that worker; if it is Killed, its journal is."""
        place.use(journal, Manner(wait=WAIT_S, tell=self.said.append))
        try:
            yield
        except Killed:
            self.kill(journal)
            self.workers.remove(journal)
        finally:
            place.use(None)

    def call(self, journal: Journal, app: Application, order: object = "1", **environ: str) -> Answer | None:
        """POST an order to a worker; None when it has died."""
        answer: Answer | None = None
        with self.at_work(journal):
            answer = post(app, {"order_id": order}, **environ)
        return answer  # noqa: RET504 - the block ends early where the worker dies

    def recover(self, journal: Journal, app: Application) -> list[Answer]:
        """What a worker does about the requests that the dead have left."""
        answers = []
        journal.tidy()
        for key in journal.orphans():
            record = journal.find(key)
            assert record is not None
            assert record.asked is not None
            with self.at_work(journal):
                answers.append(serve(app, {**record.asked.environ}, record.asked.body))
        return answers

    def close(self) -> None:
        for journal in self.workers:
            journal.close()


def post(app: Application, fields: object, **environ: str) -> Answer:
    body = json.dumps(fields).encode()
    env: Environ = {"REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": "/send", "QUERY_STRING": "", **environ}
    return serve(app, env, body)


def serve(app: Application, environ: Environ, body: bytes) -> Answer:
    """Call an application, as a server does."""
    heads: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], object]:
        heads.append((status, headers))
        return lambda _: None

    environ = {**environ, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    answer = b"".join(app(environ, start))
    status, headers = heads[-1]
    return Answer(int(status[:3]), dict(headers), answer)
