"""Durable requests whose worker has died are completed without their clients: a thread beside the loop.

It looks into the journal when its worker begins to serve (each death makes a new worker, each start makes all) and from
time to time, and gives what it finds to its own worker as an ordinary request, one at a time: so slot, log, custody and cut
list hold for it as for any other. It needs no answer: what there is to know is in the journal before the first byte leaves.
"""

from __future__ import annotations

import _thread
import os
import socket
import threading
import time
from typing import Final

from lastcall.core import notes, rescue
from lastcall.core import slot as layout
from lastcall.core.settings import Settings
from lastcall.durable import place
from lastcall.durable.engine import Engine, Manner
from lastcall.durable.journal import JournalError, Terms
from lastcall.durable.record import Record, State
from lastcall.gateway import marks
from lastcall.gateway.wsgi import explain
from lastcall.protocol import asking
from lastcall.runtime.worker.visits import Visit
from lastcall.runtime.worker.worker import Worker

PERIOD: Final = 2.0
"""Seconds between two looks. A look at a journal in which nothing waits takes some microseconds."""
TRY_AGAIN: Final = (8.0, 32.0, 128.0, 512.0)
"""Seconds until a request is tried again that could not be completed for want of somebody (a database that is away): after
the first time, the second, ... It is given up after the last."""
PATIENCE: Final = 600.0
"""Seconds for which a request that we have given ourselves is waited for, before the next one is looked for."""
QUARANTINED_AT: Final = 2
"""Attempts after which a request is parked whose kind is in quarantine: it may be the one that has ended workers."""


def terms(settings: Settings) -> Terms:
    """What the settings say about the journal."""
    return Terms(settings.durability, settings.journal_size, settings.journal_keep, settings.workers)


class Recovery:
    """One worker's. Opens the process's journal; made before the worker serves, and after its last fork."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._settings = worker.settings
        self._never = threading.Event()
        self._complained = ""
        self._later: dict[str, tuple[int, float]] = {}  # id -> how often it was tried in vain, and until when it rests
        place.tell = self._tell
        place.at_step = marks.step
        place.trouble = self._trouble
        place.arrange(self._open)

    def _open(self) -> Engine:
        settings = self._settings
        journal = place.open_journal(settings.journal, terms(settings), tell=self._tell)
        return Engine(journal, Manner(settings.durable_wait, self._tell))

    def _tell(self, text: str) -> None:
        self._worker.note(notes.Trouble(f"[pool {self._settings.pool}] child {os.getpid()}: {text}"))

    def _trouble(self, error: BaseException) -> None:
        request_id = self._worker.errors.request_id
        self._worker.note(
            notes.AppFailed(self._settings.pool, os.getpid(), "a durable request", request_id, explain(error))
        )

    def start(self) -> None:
        """Begin to look, until the process ends. Without an object in `threading`, as the attendant."""
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        while not self._worker.draining:
            try:
                self._look(place.engine())
                self._complained = ""
            except JournalError as error:
                if str(error) != self._complained:
                    self._complained = str(error)
                    self._tell(f"durable requests cannot be recovered: {error}")
            self._never.wait(PERIOD)

    def _look(self, engine: Engine) -> None:
        journal = engine.journal
        trouble: JournalError | None = None
        try:
            journal.tidy()
        except JournalError as error:
            trouble = error  # with what another has left; ours need not wait for it
        for key in journal.orphans():
            if self._worker.draining or self._worker.resting:
                return
            if not journal.claim(key, 0.0):
                continue
            try:
                record = journal.find(key)
            finally:
                journal.release(key)
            if record is not None and record.state is State.RUNNING and self._may_run(engine, record):
                self._complete(engine, record)
        if trouble is not None:
            raise trouble

    def _may_run(self, engine: Engine, record: Record) -> bool:
        """A kind of request that has ended workers by a fault of its own is left alone for a while, or for good."""
        board = self._worker.place.board
        if not board.has_quarantine:
            return True
        method, uri = record.method[: layout.TEXTS["method"]], record.target[: layout.TEXTS["uri"]]
        if not board.is_quarantined(rescue.fingerprint(method, uri), time.monotonic()):
            return True
        if record.attempt >= QUARANTINED_AT:
            self._park(engine, record, "requests like it have ended the workers that ran them")
        return False

    def _complete(self, engine: Engine, record: Record) -> None:
        """Give it to the worker, and wait until it has been answered."""
        tried, until = self._later.pop(record.id, (0, 0.0))
        if time.monotonic() < until:
            self._later[record.id] = (tried, until)
            return
        what = f"{record.method} {record.target}"
        self._worker.note(notes.Completing(self._settings.pool, os.getpid(), record.id, what, record.attempt + 1))
        status = self._visit(record)
        if not status or self._worker.draining:
            return
        if status >= 500 and tried < len(TRY_AGAIN):
            self._later[record.id] = (tried + 1, time.monotonic() + TRY_AGAIN[tried])
        else:
            self._park(engine, record, f"the application has answered {status}, and not run it: has its code changed?")

    def _park(self, engine: Engine, record: Record, why: str) -> None:
        """Unless something has become of it in the meantime."""
        if not engine.journal.claim(record.key, 0.0):
            return
        try:
            now = engine.journal.find(record.key)
            if now is not None and now.state is State.RUNNING and now.attempt == record.attempt:
                engine.park(now, why)
        finally:
            engine.journal.release(record.key)

    def _visit(self, record: Record) -> int:
        """The status of the answer; 0: there was none."""
        assert record.asked is not None
        ours, theirs = socket.socketpair()
        with ours:
            self._worker.visit(Visit(theirs, record.id, record.asked.request_id))
            body = record.asked.body
            variables = {**record.asked.environ, "CONTENT_LENGTH": str(len(body))}
            try:
                ours.settimeout(PATIENCE)
                ours.sendall(asking.request(variables, body))
                ours.shutdown(socket.SHUT_WR)
                return asking.status(_all_of(ours))
            except OSError:
                return 0


def _all_of(sock: socket.socket) -> bytes:
    """What comes, to its end or as far as a status needs."""
    came = b""
    while data := sock.recv(65536):
        came = (came + data)[:4096]
    return came
