"""The ways in which operators restart a server, and how each is done to a kind of server."""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass


class Strategy(enum.StrEnum):
    """As on the command line."""

    NONE = "none"
    TERM = "term"
    QUIT = "quit"
    HUP = "hup"
    USR2 = "usr2"
    USR1 = "usr1"
    RECYCLE = "recycle"
    KILL_WORKER = "kill-worker"
    KILL_MASTER = "kill-master"
    SLOW_BOOT = "slow-boot"
    BROKEN_CODE = "broken-code"
    STOP = "stop"


TITLES = {
    Strategy.NONE: "none",
    Strategy.TERM: "TERM, start",
    Strategy.QUIT: "QUIT, start",
    Strategy.HUP: "HUP",
    Strategy.USR2: "USR2",
    Strategy.USR1: "USR1",
    Strategy.RECYCLE: "recycling",
    Strategy.KILL_WORKER: "kill -9, a worker",
    Strategy.KILL_MASTER: "kill -9, the master",
    Strategy.SLOW_BOOT: "slow boot",
    Strategy.BROKEN_CODE: "broken code",
    Strategy.STOP: "TERM, no start",
}
WORDS = {
    Strategy.NONE: "nothing: what the others are compared with",
    Strategy.TERM: "SIGTERM to the master; when it has ended, the same command line again, as an init script does it",
    Strategy.QUIT: "the same with SIGQUIT",
    Strategy.HUP: "SIGHUP, and all workers are others",
    Strategy.USR2: "SIGUSR2, and master or workers are others",
    Strategy.USR1: "SIGUSR1 (puma: a phased restart)",
    Strategy.RECYCLE: "nobody orders it: workers end after so many requests",
    Strategy.KILL_WORKER: "SIGKILL to a worker, as the kernel does it when memory is short",
    Strategy.KILL_MASTER: "SIGKILL to the master, and a start",
    Strategy.SLOW_BOOT: "a reload to code that takes seconds to load",
    Strategy.BROKEN_CODE: "a reload to code that cannot be loaded; then it is repaired",
    Strategy.STOP: "SIGTERM, and nobody starts it again",
}
UNFIRED = frozenset({Strategy.NONE, Strategy.RECYCLE})
"""What nobody orders, and so cannot be fired at a step of a request."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Time passes."""


@dataclass(frozen=True, slots=True)
class Restart:
    """A signal to the master, and when it has ended a start."""

    number: signal.Signals


@dataclass(frozen=True, slots=True)
class Reload:
    """A signal to the master, which then has other workers."""

    number: signal.Signals


@dataclass(frozen=True, slots=True)
class Succeed:
    """gunicorn's upgrade: USR2 begets a second master; when its workers are there, the first one is sent TERM."""


@dataclass(frozen=True, slots=True)
class Recycle:
    """Workers end after so many requests: wait until as many have been replaced as there are."""


@dataclass(frozen=True, slots=True)
class KillWorker:
    """SIGKILL to one of them, inside a request where one is."""


@dataclass(frozen=True, slots=True)
class KillMaster:
    """SIGKILL to it, and a start. `sweep`: its workers keep the address, and so are ended first, as systemd does."""

    sweep: bool = True


@dataclass(frozen=True, slots=True)
class Slow:
    """A reload to code that takes seconds to load."""

    number: signal.Signals


@dataclass(frozen=True, slots=True)
class Broken:
    """A reload to code that cannot be loaded; after a while it is repaired, and reloaded or started."""

    number: signal.Signals


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The same with a configuration that cannot be read, where code is read at each request."""

    number: signal.Signals


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGTERM, and the end."""


Way = (
    Nothing | Restart | Reload | Succeed | Recycle | KillWorker | KillMaster | Slow | Broken | Misconfigured | Stop
)  # fmt: skip

TERM = Restart(signal.SIGTERM)
QUIT = Restart(signal.SIGQUIT)


def ways(**others: Way | None) -> dict[Strategy, Way]:
    """Those that every server knows, and these, in the order of Strategy; `broken_code=Broken(...)`. None: not known."""
    known: dict[Strategy, Way | None] = {
        Strategy.NONE: Nothing(),
        Strategy.TERM: TERM,
        Strategy.KILL_WORKER: KillWorker(),
        Strategy.KILL_MASTER: KillMaster(),
        Strategy.STOP: Stop(),
    }
    known |= {Strategy(name.replace("_", "-")): way for name, way in others.items()}
    return {strategy: way for strategy in Strategy if (way := known.get(strategy)) is not None}
