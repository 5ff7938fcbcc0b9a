"""The process in which an application's `on_cut` runs: from a fork to its end.

It is what a worker is (user, directory, environment, a fresh import), but for what belongs to the master: no descriptor of
it is open here, so that nobody waits for this process, or at a socket of it.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NoReturn, cast

from lastcall.core import exits
from lastcall.core.cuts import Cut
from lastcall.core.settings import Settings
from lastcall.gateway import loading
from lastcall.runtime import service
from lastcall.runtime.posix import die_with_master

NAME: Final = "lastcall-on-cut"
"""What `ps` calls it."""
_PR_SET_NAME: Final = 15


@dataclass(frozen=True, slots=True)
class Errand:
    """What it is sent with."""

    settings: Settings
    cut: Cut
    output: tuple[int, int]
    """Descriptors that become stdout and stderr."""
    blocked: Iterable[int]
    """The signals that the master had blocked."""


def run_errand(errand: Errand) -> NoReturn:
    """Never returns, and never raises. It exits with 0 when the function has returned."""
    code = exits.SOFTWARE
    try:
        gc.freeze()  # nothing of the master's is to be collected here: its descriptors have other owners by then
        atexit._clear()  # noqa: SLF001 - what the master wanted done at its end is not ours to do
        master = os.getppid()
        os.setsid()  # no key at a terminal ends it, and whatever it starts can be ended with it
        _let_go(errand.output)
        for number in errand.blocked:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, errand.blocked)
        code = _run(errand, master)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else exits.OK if error.code is None else exits.SOFTWARE
    except (loading.LoadError, service.ServiceError) as error:
        print(error, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass
        os._exit(code)


def _run(errand: Errand, master: int) -> int:
    settings = errand.settings
    service.drop_privileges(settings.user, settings.group, settings.umask)
    die_with_master(master)  # the next master runs it again: not beside this one
    if settings.chdir:
        os.chdir(settings.chdir)
    complete = cast("Callable[[Cut], object]", loading.function(settings.on_cut, settings.app_dir))
    complete(errand.cut)
    return exits.OK


def _let_go(output: tuple[int, int]) -> None:
    """Nothing is open afterwards but an empty stdin, and what is said."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, fd in enumerate((nothing, *output)):
        os.dup2(fd, target)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    faulthandler.enable(2)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
