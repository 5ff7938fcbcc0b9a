"""From a fork to a serving worker: let go of what is the master's, load the application, say ready, run, exit.

Nothing here returns into the master's code: `become_worker` ends in `_exit`.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, assert_never

from lastcall.core import exits, notes
from lastcall.core.settings import Settings
from lastcall.core.trust import Trust
from lastcall.gateway import loading, warmup
from lastcall.gateway.wsgi import Application, explain
from lastcall.protocol.link import Report, Word, pack
from lastcall.runtime import custody, identity, service
from lastcall.runtime.bequest import Bequest
from lastcall.runtime.board import Board
from lastcall.runtime.inbox import Inbox
from lastcall.runtime.logs import AccessLog, ErrorLog
from lastcall.runtime.posix import die_with_master
from lastcall.runtime.sockets import Listener
from lastcall.runtime.worker import memory
from lastcall.runtime.worker.attendant import hear, take_logs
from lastcall.runtime.worker.worker import Place, Worker

if TYPE_CHECKING:
    from lastcall.runtime.worker.recovery import Recovery
    from lastcall.runtime.worker.sync import Sync
    from lastcall.runtime.worker.threads import Threads

DRAIN_SIGNALS: Final = (signal.SIGTERM, signal.SIGQUIT)
"""Sent to a worker by hand, or by systemd to the whole control group: finish and exit."""
HEARD_BY_MASTER: Final = (
    signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip
"""Ctrl-C reaches the whole process group, the master included: a worker waits to be told."""


@dataclass(frozen=True, slots=True)
class Birth:
    """What a new worker is born with."""

    settings: Settings
    serial: int
    generation: int
    slot: int
    link: socket.socket
    """The worker's end of its control socket."""
    listeners: tuple[Listener, ...]
    former: tuple[Listener, ...]
    inbox: Inbox
    board: Board
    error_log: ErrorLog
    access_log: AccessLog | None
    trust: Trust
    spend_after: int
    custody: socket.socket | None
    """What its custodian reports to; None: it has none."""
    output: tuple[int, int] | None
    """Descriptors that become stdout and stderr, when the application's output is caught."""
    door: Door | None
    """Where the next master is let in, should this one die; None: nobody is waited for."""
    blocked: Iterable[int]
    """The signals that the master had blocked."""


@dataclass(frozen=True, slots=True)
class Door:
    """A worker's door, and what is kept for whoever comes in."""

    sock: socket.socket
    path: Path
    heard: tuple[int, ...]
    """The reading ends of what it prints."""


def become_worker(birth: Birth, let_go: Callable[[], None]) -> NoReturn:
    """Never returns, and never raises. `let_go` closes the master's descriptors."""
    code = exits.SOFTWARE
    try:
        atexit._clear()  # noqa: SLF001 - what the master wanted done at its end is not ours to do
        let_go()
        code = _live(birth)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else exits.SOFTWARE
    except BaseException as error:
        birth.error_log.write(
            notes.Trouble(f"[pool {birth.settings.pool}] child {os.getpid()} broke: {explain(error)}")
        )
    finally:
        _flush()
        os._exit(code)


def _live(birth: Birth) -> int:
    settings = birth.settings
    for number in (*DRAIN_SIGNALS, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)  # while it boots it has nothing to finish
    signal.pthread_sigmask(signal.SIG_UNBLOCK, birth.blocked)
    if birth.output is not None:
        for target, fd in zip((1, 2), birth.output, strict=True):
            os.dup2(fd, target)
            os.close(fd)
    try:
        master = os.getppid()
        memory.volunteer()  # another user may not
        service.drop_privileges(settings.user, settings.group, settings.umask)
        die_with_master(master)
        bequest = _bequeath(birth)
        _place_in_custody(birth, bequest)
        if settings.chdir:
            os.chdir(settings.chdir)
        app = loading.load(settings.app, factory=settings.factory, app_dir=settings.app_dir)
        if settings.on_cut:
            loading.function(settings.on_cut, settings.app_dir)  # a slip must not wait for the first cut to be found
    except (loading.LoadError, OSError, service.ServiceError) as error:
        _say(birth, Report.BOOT_FAILED, str(error))
        return exits.SOFTWARE
    worker = _build(birth, app, bequest)
    recovery = _recovery(worker)
    try:
        _warm_up(birth, worker)
    except warmup.WarmUpError as error:
        _say(birth, Report.BOOT_FAILED, str(error))
        return exits.SOFTWARE
    _take_signals(worker)
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it again
    too_much = memory.excess(settings.max_memory) if settings.max_memory else ""
    if too_much:
        text = f"[pool {settings.pool}] child {os.getpid()} exceeds max_memory before its first request: {too_much}"
        birth.error_log.write(notes.Caution(text))
    die_with_master(0)  # from here on it hears of that by its link, and may have been told to serve
    _say(birth, Report.READY, "")
    if _may_serve(birth.link, worker):
        if recovery is not None:
            recovery.start()
        worker.run()
    worker.place.slot.ended()
    if bequest is not None:
        bequest.close()
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - what Python does at exit: wait for the app's own threads
    atexit._run_exitfuncs()  # noqa: SLF001 - as above
    return exits.OK


def _recovery(worker: Worker) -> Recovery | None:
    """What durable requests need, where there are any."""
    if not worker.settings.journal:
        durable = sys.modules.get("lastcall.durable.place")
        if durable is not None and durable.wanted:
            text = (
                "the application has durable requests, and there is no journal: they are refused (the setting journal)"
            )
            worker.note(notes.Caution(f"[pool {worker.settings.pool}] child {os.getpid()}: {text}"))
        return None
    from lastcall.runtime.worker.recovery import Recovery  # noqa: PLC0415 - most services have no journal

    return Recovery(worker)


def _bequeath(birth: Birth) -> Bequest | None:
    """Open the door. After the change of user: whoever knocks sees who we are. Raises OSError."""
    if birth.door is None:
        return None
    bequest = Bequest(
        door=birth.door.sock, path=birth.door.path, owner=birth.door.path.parent.stat().st_uid,
        timeout=birth.settings.orphan_timeout, serial=birth.serial, pid=os.getpid(), link=birth.link,
        custody=birth.custody, listeners=birth.listeners, inbox=birth.inbox,
        outputs=tuple(zip(("stdout", "stderr"), birth.door.heard, strict=False)), board=birth.board, slot=birth.slot,
    )  # fmt: skip
    bequest.open()
    return bequest


def _place_in_custody(birth: Birth, bequest: Bequest | None) -> None:
    """After the change of user: the custodian is as powerless as the worker. Without threads: it is a fork."""
    if birth.custody is None:
        return
    try:
        custody.place(birth.custody, birth.listeners, bequest)
    except OSError as error:
        text = f"[pool {birth.settings.pool}] child {os.getpid()} has no custodian: {error.strerror}"
        birth.error_log.write(notes.Caution(text))


def _warm_up(birth: Birth, worker: Worker) -> None:
    """Raises WarmUpError."""
    worker.errors.request_id = warmup.REQUEST_ID
    environ = warmup.base(worker.errors, multithread=worker.multithread)
    for doubt in warmup.warm_up(worker.app, birth.settings.warmup, environ):
        birth.error_log.write(notes.Caution(f"[pool {birth.settings.pool}] child {os.getpid()}: {doubt}"))
    worker.errors.flush()


def _may_serve(link: socket.socket, worker: Worker) -> bool:
    """Wait for the master's word. Only then are there requests: before it, whoever is not needed may just be killed."""
    while True:
        word, fds = hear(link)
        match word:
            case Word.SERVE:
                return True
            case Word.LOGS:
                take_logs(worker.place, fds)
            case Word.TRACE:
                worker.place.say(Report.TRACED, "")
            case Word.WHERE:
                pass  # nowhere yet
            case Word.REST:
                pass  # it takes nothing yet
            case Word.DRAIN | None:
                return False
            case _:
                assert_never(word)


def _threaded(settings: Settings) -> bool:
    return settings.worker == "threads" or (settings.worker == "auto" and settings.threads > 1)


def kind(settings: Settings) -> type[Sync | Threads]:
    """The worker's class; imports it."""
    if _threaded(settings):
        from lastcall.runtime.worker.threads import Threads  # noqa: PLC0415 - one of the two is never needed

        return Threads
    from lastcall.runtime.worker.sync import Sync  # noqa: PLC0415 - as above

    return Sync


def _build(birth: Birth, app: Application, bequest: Bequest | None) -> Worker:
    settings = birth.settings
    slot = birth.board.claim(
        birth.slot, pid=os.getpid(), generation=birth.generation, serial=birth.serial,
        lanes=settings.threads if _threaded(settings) else 1, started=identity.started(os.getpid()),
    )  # fmt: skip
    os.register_at_fork(after_in_child=slot.forget)
    place = Place(
        settings=settings, serial=birth.serial, generation=birth.generation, listeners=birth.listeners, former=birth.former,
        inbox=birth.inbox, board=birth.board, slot=slot, error_log=birth.error_log, access_log=birth.access_log,
        trust=birth.trust, say=lambda report, text: _say(birth, report, text), spend_after=birth.spend_after,
        bequest=bequest,
    )  # fmt: skip
    return kind(settings)(place, app, birth.link)


def prepare(settings: Settings, log: ErrorLog) -> None:
    """What the master does before it forks, so that it need not be done, nor paid for with memory, in each worker."""
    kind(settings)
    faulthandler.enable(log.fileno())  # whose number stays the same, whatever the log is
    _leave_to_the_master()


def _leave_to_the_master() -> None:
    """Handlers that do nothing, and interrupt nothing: system calls of the application are restarted (SA_RESTART).

    Handlers, for what is ignored would stay ignored in every program that the application starts. In the master they are
    never called: it has these signals blocked, and reads them.
    """
    for number in HEARD_BY_MASTER:
        signal.signal(number, lambda _number, _frame: None)
        signal.siginterrupt(number, False)


def _take_signals(worker: Worker) -> None:
    def drain(_number: int, _frame: object) -> None:
        worker.draining = True
        worker.nudge()

    for number in DRAIN_SIGNALS:
        signal.signal(number, drain)
        signal.siginterrupt(number, False)


def _say(birth: Birth, report: Report, text: str) -> None:
    try:
        birth.link.send(pack(report, text), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        pass  # the master is gone; the attendant hears that, too


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
