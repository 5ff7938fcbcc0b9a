"""The log's vocabulary: every event that we write down, its level and its words.

Where php-fpm has the event the wording is php-fpm's (zlog.c, fpm_events.c, fpm_children.c, fpm_request.c of 8.2), so
that parsers and eyes that know its log know ours. A note's name and fields are an interface: removing one is a
breaking change. Rendering is at the edge (`runtime/logs.py` adds the time and the level).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from lastcall.core import exits


class Level(enum.IntEnum):
    """php-fpm's levels (zlog.h), lowest first."""

    DEBUG = 1
    NOTICE = 2
    WARNING = 3
    ERROR = 4
    ALERT = 5


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened, as the log knows it."""

    level: ClassVar[Level] = Level.NOTICE

    def text(self) -> str:
        """One line (or several, for a traceback), without time and level."""
        raise NotImplementedError


# --- The master --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Running(Note):
    pid: int

    def text(self) -> str:
        return f"lastcall is running, pid {self.pid}"


@dataclass(frozen=True, slots=True)
class ReadyToServe(Note):
    """All workers of the first generation are in service."""

    def text(self) -> str:
        return "ready to handle connections"


@dataclass(frozen=True, slots=True)
class SocketInherited(Note):
    """A listener that was there before us (fpm_sockets.c:468)."""

    fd: int
    address: str

    def text(self) -> str:
        return f'using inherited socket fd={self.fd}, "{self.address}"'


@dataclass(frozen=True, slots=True)
class Holding(Note):
    """A stopped master's listeners wait for the next one."""

    listeners: int
    seconds: float
    pid: int

    def text(self) -> str:
        what = "1 listener" if self.listeners == 1 else f"{self.listeners} listeners"
        return f"holding {what} for {self.seconds:g} s, pid {self.pid}"


@dataclass(frozen=True, slots=True)
class HoldEnded(Note):
    pid: int
    why: str

    def text(self) -> str:
        return f"holding no more, pid {self.pid}: {self.why}"


@dataclass(frozen=True, slots=True)
class Terminating(Note):
    """SIGTERM, SIGINT, `lastcall stop`. Unlike php-fpm's, it drains."""

    def text(self) -> str:
        return "Terminating ..."


@dataclass(frozen=True, slots=True)
class Finishing(Note):
    """SIGQUIT."""

    def text(self) -> str:
        return "Finishing ..."


@dataclass(frozen=True, slots=True)
class Reloading(Note):
    generation: int

    def text(self) -> str:
        return "Reloading in progress ..."


@dataclass(frozen=True, slots=True)
class ReloadFinished(Note):
    generation: int

    def text(self) -> str:
        return f"reload finished, generation {self.generation} is in service"


@dataclass(frozen=True, slots=True)
class ReloadFailed(Note):
    generation: int
    why: str
    level = Level.ERROR

    def text(self) -> str:
        # The traceback, if there is one, stands above, in the worker's own note.
        first = self.why.partition("\n")[0]
        return f"reload failed, generation {self.generation} is given up, the one before serves on: {first}"


@dataclass(frozen=True, slots=True)
class Reexecuting(Note):
    """php-fpm's line (fpm_process_ctl.c), which names the first eleven arguments."""

    path: str
    arguments: tuple[str, ...]

    def text(self) -> str:
        named = ", ".join(f'"{argument}"' for argument in self.arguments[:11])
        return f'reloading: execvp("{self.path}", {{{named}}})'


@dataclass(frozen=True, slots=True)
class UpgradeFailed(Note):
    """Another image of the master could not take over."""

    why: str
    level = Level.ERROR

    def text(self) -> str:
        return f"restart failed, this lastcall serves on: {self.why}"


@dataclass(frozen=True, slots=True)
class ErrorLogReopened(Note):
    def text(self) -> str:
        return "error log file re-opened"


@dataclass(frozen=True, slots=True)
class AccessLogReopened(Note):
    def text(self) -> str:
        return "access log file re-opened"


@dataclass(frozen=True, slots=True)
class Bye(Note):
    def text(self) -> str:
        return "exiting, bye-bye!"


@dataclass(frozen=True, slots=True)
class Asked(Note):
    """Who sent a signal or a command: `SIGTERM from pid 4711 uid 0 (killproc ...) < /etc/init.d/... < cron`."""

    what: str
    sender: str

    def text(self) -> str:
        return f"{self.what} from {self.sender}"


@dataclass(frozen=True, slots=True)
class Resized(Note):
    workers: int

    def text(self) -> str:
        return f"scaled to {self.workers} workers"


@dataclass(frozen=True, slots=True)
class LameDuck(Note):
    """A stop is announced, and everything goes on until load balancers have noticed."""

    duration: float

    def text(self) -> str:
        return f"lame duck: serving on for {self.duration:g} s"


@dataclass(frozen=True, slots=True)
class Hurrying(Note):
    """A second stop: what still runs will be cut."""

    level = Level.WARNING

    def text(self) -> str:
        return "asked to stop again: what still runs is cut"


@dataclass(frozen=True, slots=True)
class GivingUp(Note):
    """No worker of the first generation could be brought up."""

    why: str
    level = Level.ALERT

    def text(self) -> str:
        first = self.why.partition("\n")[0]  # as in ReloadFailed
        return f"giving up: {first}"


@dataclass(frozen=True, slots=True)
class BackingOff(Note):
    pool: str
    failures: int
    delay: float
    why: str
    level = Level.WARNING

    def text(self) -> str:
        times = "once" if self.failures == 1 else f"{self.failures} times in a row"
        return f"[pool {self.pool}] a worker failed {times} ({self.why}), next try in {self.delay:.1f}s"


# --- Workers -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChildStarted(Note):
    pool: str
    pid: int

    def text(self) -> str:
        return f"[pool {self.pool}] child {self.pid} started"


@dataclass(frozen=True, slots=True)
class ChildReady(Note):
    pool: str
    pid: int
    generation: int
    boot: float
    level = Level.DEBUG

    def text(self) -> str:
        return (
            f"[pool {self.pool}] child {self.pid} of generation {self.generation} ready after {self.boot:.3f} seconds"
        )


@dataclass(frozen=True, slots=True)
class ChildExited(Note):
    """`status` is the wait status. NOTICE for an exit that was asked for or clean, else WARNING."""

    pool: str
    pid: int
    status: int
    lived: float
    expected: bool

    @property
    def level(self) -> Level:  # type: ignore[override]
        return Level.NOTICE if self.expected or self.status == 0 else Level.WARNING

    def text(self) -> str:
        how = exits.words(self.status)
        return f"[pool {self.pool}] child {self.pid} exited {how} after {self.lived:.6f} seconds from start"


@dataclass(frozen=True, slots=True)
class ChildUnknown(Note):
    """An orphan reaped by us as PID 1 or as subreaper."""

    pid: int
    status: int
    level = Level.DEBUG

    def text(self) -> str:
        return f"unknown child ({self.pid}) exited {exits.words(self.status)}"


@dataclass(frozen=True, slots=True)
class ForkFailed(Note):
    pool: str
    why: str
    level = Level.ERROR

    def text(self) -> str:
        return f"[pool {self.pool}] fork() failed: {self.why}"


@dataclass(frozen=True, slots=True)
class BootFailed(Note):
    """The application did not load; `why` holds the (shortened) traceback."""

    pool: str
    pid: int
    why: str
    level = Level.ERROR

    def text(self) -> str:
        return f"[pool {self.pool}] child {self.pid} could not load the application\n{self.why}"


@dataclass(frozen=True, slots=True)
class BootTimedOut(Note):
    pool: str
    pid: int
    after: float
    level = Level.ERROR

    def text(self) -> str:
        return f"[pool {self.pool}] child {self.pid} was not ready after {self.after:g} seconds, killing"


@dataclass(frozen=True, slots=True)
class Recycling(Note):
    """A worker has reached a limit (`214 MiB, limit 200 MiB`); its successor is started first."""

    pool: str
    pid: int
    why: str

    def text(self) -> str:
        return f"[pool {self.pool}] child {self.pid} is due for recycling: {self.why}"


@dataclass(frozen=True, slots=True)
class DrainTimedOut(Note):
    pool: str
    pid: int
    after: float
    level = Level.WARNING

    def text(self) -> str:
        return f"[pool {self.pool}] child {self.pid} has not finished after {self.after:g} seconds, terminating"


@dataclass(frozen=True, slots=True)
class Spared(Note):
    """The time for a drain is over, but a request is past a point of no return (`lastcall.critical`)."""

    pool: str
    pid: int
    within: float
    level = Level.WARNING

    def text(self) -> str:
        return (
            f"[pool {self.pool}] child {self.pid} should have finished, and is past a point of no return: "
            f"it has {self.within:g} seconds more"
        )


@dataclass(frozen=True, slots=True)
class TimedOut(Note):
    """php-fpm's request_terminate_timeout line (fpm_request.c:272)."""

    pool: str
    pid: int
    request: str
    request_id: str
    elapsed: float
    level = Level.WARNING

    def text(self) -> str:
        return (
            f'[pool {self.pool}] child {self.pid}, request "{self.request}" ({self.request_id}) '
            f"execution timed out ({self.elapsed:.6f} sec), terminating"
        )


@dataclass(frozen=True, slots=True)
class Traced(Note):
    """Where a request is, asked before it is cut; `where` is the stack, innermost call last."""

    pool: str
    pid: int
    request: str
    request_id: str
    elapsed: float
    where: str
    level = Level.WARNING

    def text(self) -> str:
        return (
            f'[pool {self.pool}] child {self.pid}, request "{self.request}" ({self.request_id}), '
            f"{self.elapsed:.3f} sec, is here:\n{self.where}"
        )


@dataclass(frozen=True, slots=True)
class RequestCut(Note):
    """A worker died inside a request: the one line that nobody else writes."""

    pool: str
    pid: int
    request: str
    request_id: str
    client: str
    elapsed: float
    why: str
    done: str
    """What was done about it."""
    step: str = ""
    """How far it says that it had got."""
    level = Level.ERROR

    def text(self) -> str:
        step = f", at step {self.step}" if self.step else ""
        return (
            f'[pool {self.pool}] child {self.pid}, request "{self.request}" ({self.request_id}) from {self.client} '
            f"was cut after {self.elapsed:.6f} sec{step}: {self.why}; {self.done}"
        )


@dataclass(frozen=True, slots=True)
class Completed(Note):
    """The application's `on_cut` has returned for a request that was cut."""

    pool: str
    request: str
    request_id: str
    tries: int
    took: float

    def text(self) -> str:
        tries = f" at try {self.tries}" if self.tries > 1 else ""
        return (
            f'[pool {self.pool}] on_cut has completed request "{self.request}" ({self.request_id}){tries}, '
            f"in {self.took:.3f} sec"
        )


@dataclass(frozen=True, slots=True)
class NotCompletedYet(Note):
    """The application's `on_cut` has failed for a request that was cut, and will be run again."""

    pool: str
    request: str
    request_id: str
    tries: int
    why: str
    pause: float
    level = Level.WARNING

    def text(self) -> str:
        return (
            f'[pool {self.pool}] on_cut has failed for request "{self.request}" ({self.request_id}) at try {self.tries}: '
            f"{self.why}; again in {self.pause:g} seconds"
        )


@dataclass(frozen=True, slots=True)
class NotCompleted(NotCompletedYet):
    """The same, so often that somebody has to look."""

    level = Level.ERROR


@dataclass(frozen=True, slots=True)
class LeftUncompleted(Note):
    """The master ends, and `on_cut` has not returned for these: the next start goes on."""

    pool: str
    cuts: int
    level = Level.WARNING

    def text(self) -> str:
        cuts = "1 cut is" if self.cuts == 1 else f"{self.cuts} cuts are"
        return f"[pool {self.pool}] {cuts} left for on_cut at the next start"


@dataclass(frozen=True, slots=True)
class RunAgain(Note):
    """A worker died inside a request that is safe to run again; its client waits, and hears nothing of it."""

    pool: str
    pid: int
    request: str
    request_id: str
    client: str
    elapsed: float
    why: str
    level = Level.WARNING

    def text(self) -> str:
        return (
            f'[pool {self.pool}] child {self.pid}, request "{self.request}" ({self.request_id}) from {self.client} '
            f"is run again, {self.elapsed:.6f} sec after it began: {self.why}"
        )


@dataclass(frozen=True, slots=True)
class Poison(Note):
    """A request that has taken workers with it is kept away from the others."""

    request: str
    seconds: float
    level = Level.ERROR

    def text(self) -> str:
        return f'poison: "{self.request}" has ended the workers that ran it; it is answered 500 for {self.seconds:g} seconds'


@dataclass(frozen=True, slots=True)
class Refused(Note):
    """A request that had reached us when nobody was left to serve it: answered with 503, not begun."""

    pool: str
    request: str
    client: str
    why: str
    level = Level.WARNING

    def text(self) -> str:
        return f'[pool {self.pool}] request "{self.request}" from {self.client} was not begun, 503: {self.why}'


@dataclass(frozen=True, slots=True)
class Waiting(Note):
    """What a drain is waiting for, every few seconds: a request. `where` is the line of code that it is in."""

    pool: str
    pid: int
    request: str
    request_id: str
    elapsed: float
    step: str
    where: str = ""
    since: float = 0.0
    """Seconds for which it has been at that step."""
    critical: float = 0.0
    """Seconds for which it has been past a point of no return; 0: it is not."""

    def text(self) -> str:
        step = f", at step {self.step} for {self.since:.1f} sec" if self.step else ""
        critical = f", past a point of no return for {self.critical:.1f} sec" if self.critical else ""
        where = f", {self.where}" if self.where else ""
        return (
            f'[pool {self.pool}] waiting for child {self.pid}, request "{self.request}" ({self.request_id}), '
            f"{self.elapsed:.1f} sec{step}{critical}{where}"
        )


@dataclass(frozen=True, slots=True)
class WaitingForMore(Note):
    """There are too many to name each of them: those that are named are the oldest."""

    pool: str
    requests: int

    def text(self) -> str:
        return f"[pool {self.pool}] waiting for {self.requests} younger requests as well"


@dataclass(frozen=True, slots=True)
class WaitingConnections(Note):
    """What a drain is waiting for besides requests that run. `what` says it in words, with numbers."""

    pool: str
    pid: int
    what: str

    def text(self) -> str:
        return f"[pool {self.pool}] waiting for child {self.pid}, {self.what}"


@dataclass(frozen=True, slots=True)
class Said(Note):
    """What a worker wrote to its stdout or stderr (fpm_stdio.c)."""

    pool: str
    pid: int
    stream: str
    said: str
    level = Level.WARNING

    def text(self) -> str:
        return f'[pool {self.pool}] child {self.pid} said into {self.stream}: "{self.said}"'


# --- Requests ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AppFailed(Note):
    """The application raised, or broke the WSGI protocol."""

    pool: str
    pid: int
    request: str
    request_id: str
    why: str
    level = Level.ERROR

    def text(self) -> str:
        return f'[pool {self.pool}] child {self.pid}, request "{self.request}" ({self.request_id}): {self.why}'


@dataclass(frozen=True, slots=True)
class AppSaid(Note):
    """What the application wrote to `wsgi.errors`, line by line."""

    pool: str
    pid: int
    request_id: str
    said: str
    level = Level.NOTICE

    def text(self) -> str:
        return f"[pool {self.pool}] child {self.pid} ({self.request_id}): application message: {self.said}"


# --- Without a master ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Masterless(Note):
    """Written by a worker; once, or as often as workers notice it at the same moment."""

    pool: str
    seconds: float
    level = Level.ERROR

    def text(self) -> str:
        rest = (
            f"the workers serve on, and wait {self.seconds:g} seconds for another one" if self.seconds else "they end"
        )
        return f"[pool {self.pool}] the master is gone: {rest}"


@dataclass(frozen=True, slots=True)
class NoMaster(Note):
    """A worker has waited long enough."""

    pool: str
    pid: int
    level = Level.ERROR

    def text(self) -> str:
        return f"[pool {self.pool}] child {self.pid} ends: no other master has come"


@dataclass(frozen=True, slots=True)
class TakingOver(Note):
    """What a master has found that another one has left without a word."""

    master: int
    """The pid of the one that has died."""
    workers: int
    dead: int
    """Workers that have died since, or with it."""
    seconds: float
    """For which there was none."""
    level = Level.WARNING

    def text(self) -> str:
        without = f"after {self.seconds:.3f} seconds without a master"
        died = f"; {self.dead} more have died" if self.dead else ""
        return f"the master {self.master} has died: taking over {self.workers} workers, {without}{died}"


@dataclass(frozen=True, slots=True)
class TakenOver(Note):
    """It manages on."""

    workers: int
    dead: int
    connections: int
    """Rescued from those that had died."""
    cuts: int
    """Requests of theirs that nobody can finish."""

    def text(self) -> str:
        died = (
            f", {self.connections} connections of {self.dead} dead ones, {self.cuts} requests cut" if self.dead else ""
        )
        return f"took over {self.workers} workers{died}"


@dataclass(frozen=True, slots=True)
class NotTakenOver(Note):
    """Workers of a master that has died, which cannot be had."""

    why: str
    level = Level.WARNING

    def text(self) -> str:
        return f"the workers of the last master are not taken over: {self.why}"


@dataclass(frozen=True, slots=True)
class MasterDied(Note):
    """Written by whoever supervises it."""

    pid: int
    status: int
    delay: float
    level = Level.ERROR

    def text(self) -> str:
        how = exits.words(self.status)
        return f"the master, pid {self.pid}, exited {how}; the next one starts in {self.delay:g} seconds"


@dataclass(frozen=True, slots=True)
class SupervisionEnds(Note):
    """The master dies again and again: nobody is helped by one more."""

    pid: int
    status: int
    times: int
    level = Level.ALERT

    def text(self) -> str:
        how = exits.words(self.status)
        return f"the master, pid {self.pid}, exited {how}, as {self.times} before it: no other one is started"


@dataclass(frozen=True, slots=True)
class Trouble(Note):
    """Anything an operator must see that has no line of its own: a full disk, EMFILE, a socket that will not bind."""

    what: str
    level = Level.ERROR

    def text(self) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class Caution(Note):
    """Nothing has failed, but somebody should look."""

    what: str
    level = Level.WARNING

    def text(self) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class Completing(Note):
    """A durable request whose worker has died is run again, without its client."""

    pool: str
    pid: int
    id: str
    request: str
    attempt: int

    def text(self) -> str:
        what = f'durable request {self.id} "{self.request}" is completed without its client'
        return f"[pool {self.pool}] child {self.pid}: {what}, attempt {self.attempt}"


@dataclass(frozen=True, slots=True)
class Remark(Note):
    """Detail for whoever debugs lastcall."""

    what: str
    level = Level.DEBUG

    def text(self) -> str:
        return self.what
