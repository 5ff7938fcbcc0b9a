"""The attendant: a thread beside the loop that hears the master while the application runs.

It sleeps in poll(2), without the GIL, until the master has a word: drain, rest, trace, new log files. No signal is needed to
reach a worker that is inside a request, and none interrupts the application's system calls.
"""

from __future__ import annotations

import _thread
import os
import select
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Final, assert_never

from lastcall.core import notes
from lastcall.gateway import wsgi
from lastcall.protocol.link import Report, Word, pack_where, unpack_word
from lastcall.runtime import rights
from lastcall.runtime.worker import where
from lastcall.runtime.worker.orphan import Orphan
from lastcall.runtime.worker.worker import Place, Worker

PACKET_MAX: Final = 65536
_RIGHTS_MAX: Final = 2
_CALL: Final = (wsgi.__file__, wsgi.run.__name__)
"""The frame that calls the application."""


class Attendant:
    """Listens to `link`, the worker's end of its control socket. The master gone (EOF): see `orphan.py`."""

    def __init__(self, worker: Worker, link: socket.socket, relay: Callable[[], float | None] | None = None) -> None:
        self._worker = worker
        self._link = link
        self._relay = relay
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._orphan = Orphan(worker, worker.place.bequest, self._poll, trace)

    def start(self) -> None:
        """Begin to listen, until the process ends.

        A thread without an object in `threading`: an application that counts its threads finds its own, and a worker is
        the smaller by 160 kB.
        """
        _thread.start_new_thread(self._run, ())

    def wake(self) -> None:
        """Have `relay` asked again how long to sleep. Callable from the loop's thread."""
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        link, poll, orphan = self._link.fileno(), self._poll, self._orphan
        poll.register(link, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        nap: float | None = None
        while True:
            due = orphan.due()
            if due is not None:
                left = max(0.0, due - time.monotonic())
                nap = left if nap is None else min(nap, left)
            for fd, _ in poll.poll(None if nap is None else nap * 1000):
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                elif fd != link:
                    if orphan.hear(fd):
                        poll.register(link, select.POLLIN)
                elif not self._hear():
                    poll.unregister(link)
                    orphan.begin()
            orphan.turn()
            nap = None if self._relay is None else self._relay()

    def _hear(self) -> bool:
        worker = self._worker
        try:
            word, fds = hear(self._link, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        match word:
            case None:
                return False
            case Word.DRAIN:
                worker.draining = True
                worker.nudge()
            case Word.TRACE:
                for note in trace(worker):
                    worker.note(note)
                say_where(self._link, worker)
                worker.place.say(Report.TRACED, "")
            case Word.WHERE:
                say_where(self._link, worker)
            case Word.LOGS:
                take_logs(worker.place, fds)
            case Word.REST | Word.SERVE:
                worker.resting = word is Word.REST
                worker.nudge()
            case _:
                assert_never(word)
        return True


def hear(link: socket.socket, flags: int = 0) -> tuple[Word | None, list[int]]:
    """The master's next word, and descriptors that came with it; None when the master is gone."""
    try:
        packet, fds = rights.receive(link, PACKET_MAX, _RIGHTS_MAX, flags)
    except BlockingIOError:
        raise
    except OSError:
        return None, []
    return (unpack_word(packet) if packet else None), fds


def say_where(link: socket.socket, worker: Worker) -> None:
    """Tell the master what this worker is busy with. A master that takes nothing will ask again."""
    try:
        link.send(pack_where(where.whereabouts(worker)), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        pass


def take_logs(place: Place, fds: list[int]) -> None:
    """Write into these files from now on: the error log, then the access log."""
    for log, fd in zip((place.error_log, place.access_log), fds, strict=False):
        if log is not None:
            log.replace(fd)
        else:
            os.close(fd)


def _theirs(stack: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The application's part of a stack: from where it was called on, without frames of ours."""
    calls = [number for number, frame in enumerate(stack) if (frame.filename, frame.name) == _CALL]
    inside = stack[calls[-1] + 1 :] if calls else stack
    return [frame for frame in inside if not frame.filename.startswith(where.OURS)] or stack


def trace(worker: Worker) -> list[notes.Note]:
    """Where each request in flight is, innermost call last."""
    now = time.monotonic()
    frames = sys._current_frames()  # noqa: SLF001 - the one way to see another thread's stack
    out: list[notes.Note] = []
    for lane, thread in worker.inside():
        stack = traceback.extract_stack(frames[thread]) if thread in frames else []
        text = "".join(traceback.format_list(_theirs(stack))).rstrip() or f"  ({where.NO_FRAME})"
        pool, pid = worker.settings.pool, worker.pid
        out.append(notes.Traced(pool, pid, lane.request, lane.request_id, now - lane.begun, text))
    return out
