"""What settings must satisfy together (`relations`), and what the system must offer for them (`system`).

Nothing is created, opened or bound: `lastcall check` may be run next to a serving instance.
"""

from __future__ import annotations

import difflib
import grp
import os
import pwd
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lastcall.config.origins import Loaded, Place, Problem, problem_at
from lastcall.core import accesslog, address, replay
from lastcall.core.quantities import format_duration
from lastcall.core.settings import Settings

# --- Settings among themselves -----------------------------------------------


_EMPTIED = ("/run/", "/var/run/", "/dev/shm/", "/tmp/")  # noqa: S108 - compared, not used


def relations(settings: Settings, places: Mapping[str, Place]) -> Iterator[Problem]:
    """Values that are sound one by one and make no sense together."""
    yield from _duplicates(settings, places)
    yield from _format(settings.access_format, places["access_format"])
    if settings.threads > 1 and settings.worker == "sync":
        text = f"a sync worker runs one request at a time, not {settings.threads}"
        yield problem_at(places["threads"], text, "set worker to auto or threads, or threads to 1")
    if settings.max_request_line > settings.max_head:
        text = "a request's first line may be longer than its whole head"
        yield problem_at(places["max_request_line"], text, "raise max_head, or lower max_request_line", fatal=False)
    if 0 < settings.drain_timeout < settings.request_timeout:
        request, drain = format_duration(settings.request_timeout), format_duration(settings.drain_timeout)
        text = f"a request may run for {request}, but a stop or a reload cuts it after {drain}"
        yield problem_at(places["drain_timeout"], text, f"set drain_timeout to {request} or more", fatal=False)
    yield from _routes(settings, places["replay_routes"])
    yield from _journal(settings, places)
    if settings.max_requests_jitter and not settings.max_requests:
        text = "has no effect: workers are never recycled"
        yield problem_at(places["max_requests_jitter"], text, "set max_requests", fatal=False)
    if settings.max_age_jitter and not settings.max_age:
        text = "has no effect: workers are never recycled for their age"
        yield problem_at(places["max_age_jitter"], text, "set max_age", fatal=False)
    if settings.daemon and settings.error_log == "-":
        text = "a daemon has no stderr: its log is lost"
        yield problem_at(places["daemon"], text, "set error_log to a file", fatal=False)


def _duplicates(settings: Settings, places: Mapping[str, Place]) -> Iterator[Problem]:
    # port 0 is another free port each time
    fixed = [(name, place) for name, place in settings.listeners if place.family == "unix" or place.port]
    for place, times in Counter(place for _, place in fixed).items():
        if times > 1:
            last = [name for name, other in fixed if other == place][-1]
            yield problem_at(places[last], f"{place} is listened on {times} times", "name each address once")


def _journal(settings: Settings, places: Mapping[str, Place]) -> Iterator[Problem]:
    """A journal has to be there when the machine has started again."""
    if settings.journal.startswith(_EMPTIED) or settings.journal == "memory:":
        text = f"{settings.journal} does not outlive the machine, as durable requests should"
        yield problem_at(places["journal"], text, "name a directory on a disk that stays", fatal=False)
    defaults = Settings()
    for name in ("durability", "journal_size", "journal_keep", "durable_wait"):
        if not settings.journal and getattr(settings, name) != getattr(defaults, name):
            yield problem_at(places[name], "has no effect: there is no journal", "set journal", fatal=False)


def _routes(settings: Settings, place: Place) -> Iterator[Problem]:
    if settings.replay_routes and settings.custody == "off":
        yield problem_at(place, "has no effect: without custody nothing is run again", "set custody to on", fatal=False)
    routes = replay.replay(settings.replay, settings.replay_routes).routes
    for number, route in enumerate(routes):
        earlier = next((first for first in range(number) if routes[first].hides(route)), None)
        if earlier is not None:
            one, other = settings.replay_routes[earlier], settings.replay_routes[number]
            yield problem_at(
                place, f"{one!r} comes before {other!r}, and hides it", "write it behind that", fatal=False
            )


def _format(text: str, place: Place) -> Iterator[Problem]:
    names = (*accesslog.NAMED, "json")
    if text not in names and "%" not in text:
        near = difflib.get_close_matches(text, names, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"write {', '.join(names)}, or a format with fields: %R %s"
        yield problem_at(place, f"{text!r} is no format's name and has no fields", remedy)
        return
    try:
        accesslog.compile(text)
    except ValueError as error:
        yield problem_at(place, str(error), f"correct the field, or write {', '.join(names)}")


# --- Settings and the system -------------------------------------------------


def system(loaded: Loaded) -> list[Problem]:
    """What the system lacks for these settings: directories, users, rights."""
    settings, places = loaded.settings, loaded.places

    def told(name: str, found: Iterator[tuple[str, str]], *, fatal: bool = True) -> Iterator[Problem]:
        return (problem_at(places[name], text, remedy, fatal=fatal) for text, remedy in found)

    problems: list[Problem] = []
    for name in ("app_dir", "chdir"):
        problems += told(name, _directory(getattr(settings, name)))
    problems += told("tmp_dir", _directory(settings.tmp_dir, writable=True))
    problems += told("run_dir", _can_make(settings.run_dir))
    for name in ("error_log", "access_log", "pid"):
        problems += told(name, _can_write(getattr(settings, name)))
    for name, place in settings.listeners:
        problems += told(name, _can_bind(place))
    for name in ("user", "socket_owner"):
        problems += told(name, _known(getattr(settings, name), "user", _uid))
    for name in ("group", "socket_group"):
        problems += told(name, _known(getattr(settings, name), "group", _gid))
    problems += told("user", _may_become(settings))
    problems += told("user", _is_root(settings), fatal=False)
    return problems


def _directory(path: str, *, writable: bool = False) -> Iterator[tuple[str, str]]:
    if path and not Path(path).is_dir():
        what = "is not a directory" if Path(path).exists() else "does not exist"
        yield f"{path} {what}", "name a directory that exists"
    elif path and not os.access(path, os.W_OK | os.X_OK if writable else os.X_OK):
        yield f"{path} may not be {'written to' if writable else 'entered'} by us", "change its mode or its owner"


def _can_write(path: str) -> Iterator[tuple[str, str]]:
    """A file that is opened for writing, and made where it is missing."""
    if path in ("", "-"):
        return
    if Path(path).is_dir():
        yield f"{path} is a directory", "name a file"
    elif Path(path).exists():
        if not os.access(path, os.W_OK):
            yield f"{path} may not be written to by us", "change its mode or its owner"
    else:
        yield from _directory(str(Path(path).parent), writable=True)


def _can_make(path: str) -> Iterator[tuple[str, str]]:
    """A directory that is made, with those above it, where it is missing."""
    if path:
        existing = next(above for above in (Path(path), *Path(path).parents) if above.exists())
        yield from _directory(str(existing), writable=True)


def _can_bind(place: address.Address) -> Iterator[tuple[str, str]]:
    if place.family == "unix" and not place.abstract:
        if Path(place.path).exists() and not Path(place.path).is_socket():
            yield f"{place.path} exists and is not a socket", "choose another path"
        yield from _directory(str(Path(place.path).parent), writable=True)


# --- Users -------------------------------------------------------------------


def _uid(name: str) -> int:
    return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid


def _known(name: str, what: str, find: Callable[[str], int]) -> Iterator[tuple[str, str]]:
    try:
        if name:
            find(name)
    except KeyError:
        listing = "getent passwd" if what == "user" else "getent group"
        yield f"there is no {what} {name!r}", f"name a {what} that `{listing}` lists, or a number"


def _may_become(settings: Settings) -> Iterator[tuple[str, str]]:
    try:
        uid = _uid(settings.user) if settings.user else os.geteuid()
        named = _gid(settings.group) if settings.group else None
    except KeyError:
        return  # `_known` has said it
    gid = named if named is not None else _usual_group(uid) if settings.user else os.getegid()
    if os.geteuid() != 0 and (uid != os.geteuid() or gid not in (None, os.getegid())):
        # A further group of ours does not do: without root nobody changes to it.
        yield "only root can run workers as someone else", "start as root, or leave user and group out"
    elif gid is None:
        yield f"user {settings.user} has no entry in the user database", "name a group, too"


def _usual_group(uid: int) -> int | None:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return None


def _is_root(settings: Settings) -> Iterator[tuple[str, str]]:
    if os.geteuid() == 0 and not settings.user:
        yield "workers run as root", "set user to an account of the application's own"
