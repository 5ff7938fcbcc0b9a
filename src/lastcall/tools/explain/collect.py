"""Reads the logs: first who says what about servers, then, near what has happened, the lines about requests.

A small file is read line by line. Of a large one only lines in which a telling word stands are looked at, and of a large
access log the blocks that are near: so a gigabyte costs seconds. What was not understood is counted.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from lastcall.tools.explain import fpmlog, kinds, logs, syslog
from lastcall.tools.explain.clock import UTC_ASSUMED, Zone, fixed, year_of
from lastcall.tools.explain.kinds import Kind
from lastcall.tools.explain.logs import Broken, LogFile, Search
from lastcall.tools.explain.records import (
    NOTHING,
    Access,
    Complaint,
    Content,
    Did,
    Found,
    Happening,
    Nothing,
    Quote,
    Sighting,
    Told,
    When,
)
from lastcall.tools.explain.setup import Setup, base
from lastcall.tools.readers import servers

WHOLE: Final = 8 << 20
"""Bytes up to which a file is read line by line."""
KEPT_MAX: Final = 100_000
"""Records of one kind that are kept; beyond, they are counted."""
EARLIEST: Final = 86400.0
LATEST: Final = 32503680000.0
"""Times that a log may have, up to the year 3000: what is outside is a number that only looks like one."""
SLACK: Final = 120.0
"""Seconds by which a large access log may be out of order: requests are logged when they end."""
NAMED_MAX: Final = 10_000
"""Lines that are kept because what was asked for stands in them: who asks for `1` gets no more."""
ANSWERED_MAX: Final = 50_000
"""Lines of requests that were answered, and are kept for comparison."""
MINUTE_MAX: Final = 3_000
HOUR_MAX: Final = 10_000
"""Of these, in one minute, and in one hour."""
MINUTE: Final = len("2017/06/25 05:28")
QUOTE_MAX: Final = 1000
"""Characters of a line that are kept."""

Span = tuple[float, float]
Progress = Callable[[str, int], None]
"""What is read, and how many bytes more of it."""


@dataclass
class Read:
    """What became of a file."""

    file: LogFile
    kind: Kind | None
    zone: Zone
    lines: int = 0
    understood: int = 0
    not_understood: int = 0
    first: float | None = None
    last: float | None = None
    trouble: str = ""
    shift: float = 0.0
    dropped: int = 0
    """Records for which there was no room."""
    out_of_order: int = 0
    """Lines that are older than the one before."""
    ready: str = ""
    """The server of which the last that it has told is that it is ready."""
    lastcall: bool = False
    """It is lastcall's, which writes as php-fpm does."""
    mixed: bool = False
    """An access log into which others write as well."""
    undated: bool = False
    """It has times without a year."""

    @property
    def told_first(self) -> bool:
        """Whether it may say what happened to a server; else it is only asked about requests."""
        return self.kind is not None and (not self.kind.access or self.mixed)

    def covers(self, at: float, slack: float = 60.0) -> bool:
        """Whether its lines go from before that time to after it."""
        return self.first is not None and self.last is not None and self.first - slack <= at <= self.last + slack

    def seen(self, at: float) -> None:
        """A line of this time is in it."""
        self.out_of_order += self.last is not None and at < self.last - 1.0
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)


@dataclass
class Heard:
    """All that the logs say that matters."""

    reads: list[Read] = field(default_factory=list)
    told: list[tuple[Read, Found]] = field(default_factory=list)
    """Everything but access lines; sorted by time once all is read."""
    accesses: list[tuple[Read, Found]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """Files in which nothing stands."""
    named: list[tuple[Read, Found]] = field(default_factory=list)
    """Lines in which what was asked for stands."""


def survey(search: Search, setup: Setup, machine: Zone | None) -> list[Read]:
    """Each file's kind and zone, by its first lines."""
    reads, offsets = list[Read](), dict[int, int]()
    for file in search.files:
        read = Read(file, None, machine or UTC_ASSUMED)
        reads.append(read)
        try:
            first = logs.head(file)
        except Broken as broken:
            read.trouble = str(broken)
            continue
        except OSError as error:
            read.trouble = f"cannot be read: {error.strerror}"
            continue
        if b"\0" in first[:4096].strip(b"\0"):
            read.trouble = "it is no text"
            continue
        sample = [text for _, text in logs.lines(1, first[: first.rfind(b"\n") + 1] or first)][: kinds.SAMPLE]
        read.kind = setup.kind_of(file.shown) or kinds.recognize(sample, file.shown)
        read.lastcall = _lastcalls(sample, file.shown)
        if read.kind is not None and read.kind.access and sample:
            read.mixed = kinds.mixed(sample, read.kind)
            told = next((told for line in sample if (told := read.kind.read(line)) is not None), None)
            if told is not None and told.when is not None and told.when.offset is not None:
                offsets[told.when.offset] = offsets.get(told.when.offset, 0) + 1
    if machine is None and offsets:
        most = max(offsets, key=lambda offset: offsets[offset])
        guessed = fixed(most, "no file says which zone the machine is in: the one that the access logs have")
        for read in reads:
            read.zone = guessed
    return reads


# --- First reading -----------------------------------------------------------


class Collector:
    """The state of a reading: what there is room for, and whom to tell how far it is."""

    def __init__(
        self, heard: Heard, known: Setup, progress: Progress, matters: Callable[[Sighting], bool], names: Sequence[bytes]
    ) -> None:  # fmt: skip
        self.heard, self.progress = heard, progress
        self._programs = known.programs
        self._matters = matters
        self._names = tuple(names)
        self._room = dict[str, int]()
        self._full = set[str]()
        """Minutes, as nginx writes them, of which no more complaints are kept."""

    def first(self, read: Read) -> None:
        """Everything that a log says about servers and those who command them."""
        assert read.kind is not None
        large = read.file.unpacked > WHOLE and bool(read.kind.needles)
        last: When | None = None
        for number, block in self._blocks(read):
            read.lines += block.count(b"\n") + (not block.endswith(b"\n"))
            if large and read.kind.needles:
                listed: Iterable[tuple[int, str]] = logs.chosen(number, block, (*read.kind.needles, *self._names))
            else:
                listed = logs.lines(number, block)
            for at, line in listed:
                if read.kind is kinds.NGINX and line[:MINUTE] in self._full:
                    read.dropped += 1  # before it is read: there are millions of them
                    read.understood += 1
                    continue
                told = self._understood(read, line)
                if told is None:
                    continue
                last = told.when or last
                if last is not None:
                    self._keep(read, told.what, last, Quote(read.file.shown, at, line))

    def _blocks(self, read: Read) -> Iterator[tuple[int, bytes]]:
        self.progress(read.file.shown, 0)
        try:
            for number, block in logs.blocks(read.file):
                self.progress(read.file.shown, len(block))
                yield number, block
        except Broken as broken:
            read.trouble = str(broken)
        except OSError as error:
            read.trouble = f"cannot be read: {error.strerror or error}"

    def _understood(self, read: Read, line: str) -> Told | None:
        assert read.kind is not None
        told = read.kind.read(line)
        if told is None:
            told = next((told for kind in kinds.KINDS if kind is not read.kind and (told := kind.read(line))), None)
        if told is None or (told.when is not None and not EARLIEST <= told.when.wall <= LATEST):
            read.not_understood += 1
            return None
        read.understood += 1
        return told

    def _keep(self, read: Read, what: Content, when: When, quote: Quote) -> None:
        at = read.zone.unix(when)
        if when.dated:
            read.seen(at)
        else:
            read.undated = True
        self._look_for(read, Found(at, when.grain, what, quote))
        if isinstance(what, Happening):
            what = self._named(what) if what.service else _of_service(what, read)
        if isinstance(what, Happening):
            # a server that replaces its workers says again and again that one is ready
            again = what.did is Did.READY and read.ready == what.service
            read.ready = what.service if what.did is Did.READY else ""
            if again:
                return
        if isinstance(what, Nothing) or (isinstance(what, Sighting) and not self._matters(what)):
            return
        if not self._has_room(what, at):
            read.dropped += 1
            if isinstance(what, Complaint):
                self._full.add(quote.text[:MINUTE])
            return
        into = self.heard.accesses if isinstance(what, Access) else self.heard.told
        into.append((read, Found(at, when.grain, what, _short(quote))))

    def _look_for(self, read: Read, found: Found) -> None:
        """Keep a line in which stands what was asked for."""
        if not self._names or len(self.heard.named) >= NAMED_MAX:
            return
        line = found.quote.text.encode()
        if any(name in line for name in self._names):
            self.heard.named.append((read, found._replace(quote=_short(found.quote))))

    def _named(self, what: Happening) -> Content:
        """The same, about the server that a unit or a program starts; one that starts none may be who orders."""
        name = what.service.removeprefix(syslog.UNIT)
        service = self._programs.get(name) or self._programs.get(name.removesuffix(".service"), "")
        if service:
            return replace(what, service=service)
        if not what.service.startswith(syslog.UNIT):
            return what
        return Sighting("systemd", name) if what.did in (Did.STARTING, Did.READY) else NOTHING

    def _has_room(self, what: Content, at: float) -> bool:
        """An outage may have a million complaints: each minute, and each hour, has its share of the room."""
        if isinstance(what, Happening):
            return True
        kind = type(what).__name__
        shares = ((kind, KEPT_MAX), (f"{kind} {at // 60:.0f} m", MINUTE_MAX), (f"{kind} {at // 3600:.0f} h", HOUR_MAX))
        if any(self._room.get(name, 0) >= most for name, most in shares):
            return False
        for name, _ in shares:
            self._room[name] = self._room.get(name, 0) + 1
        return True

    # --- Second reading: access logs ---

    def near(self, read: Read, spans: Sequence[Span], *, failures: bool) -> None:
        """The lines about requests within these spans, which are sorted and apart; `failures`: 502 and 504 anywhere."""
        assert read.kind is not None
        large = read.file.unpacked > WHOLE
        words = (*((b"502", b"504") if failures else ()), *self._names)
        for number, block in self._blocks(read):
            read.lines += block.count(b"\n") + (not block.endswith(b"\n"))
            if not large or _touches(self._times(read, block), spans):
                listed: Iterable[tuple[int, str]] = logs.lines(number, block)
            elif words:
                listed = logs.chosen(number, block, words)
            else:
                continue
            for at, line in listed:
                told = self._understood(read, line)
                if told is not None and told.when is not None:
                    self._request(
                        read, told.what, told.when, Quote(read.file.shown, at, line), spans, failures=failures
                    )

    def _request(
        self, read: Read, what: Content, when: When, quote: Quote, spans: Sequence[Span], *, failures: bool
    ) -> None:
        at = read.zone.unix(when)
        # lines are in the order in which requests ended, whatever their times tell of
        read.seen(at + (what.took or 0.0) if isinstance(what, Access) and what.began else at)
        self._look_for(read, Found(at, when.grain, what, quote))
        if not isinstance(what, Access):
            self._keep(read, what, when, quote)
            return
        ran = what.took or 0.0
        begin, end = (at, at + ran) if what.began else (at - ran, at)
        failed = failures and what.status in (502, 504)
        if not failed and not within(begin, end + when.grain, spans):
            return
        # those that were answered only say what is usual: there is less room for them, and less for each of many incidents
        if what.status < 500 and what.tried < 2:
            minute = f"{id(read)} {at // 60:.0f}"
            if self._room.get(minute, 0) >= max(ANSWERED_MAX // max(len(spans), 1), 200):
                return
            self._room[minute] = self._room.get(minute, 0) + 1
        elif not self._has_room(what, at):
            read.dropped += 1
            return
        self.heard.accesses.append((read, Found(at, when.grain, what, _short(quote))))

    def _times(self, read: Read, block: bytes) -> list[float]:
        """The times of some lines of a block: its first, its last, and one every 64 KiB."""
        assert read.kind is not None
        found = list[float]()
        for begin in (*range(0, len(block), 1 << 16), len(block) - 2):
            start = block.rfind(b"\n", 0, begin) + 1
            end = block.find(b"\n", start)
            told = read.kind.read(logs.text(block[start : end if end >= 0 else len(block)]))
            if told is not None and told.when is not None and EARLIEST <= told.when.wall <= LATEST:
                found.append(read.zone.unix(told.when))
                read.seen(found[-1])
        return found


def _short(quote: Quote) -> Quote:
    return quote if len(quote.text) <= QUOTE_MAX else Quote(quote.file, quote.line, quote.text[:QUOTE_MAX] + " ...")


def _of_service(what: Happening, read: Read) -> Happening:
    """The same, with whose log it is: php-fpm and lastcall write alike."""
    service = servers.LASTCALL if read.lastcall else servers.PHP_FPM
    return replace(what, service=service)


def _lastcalls(sample: Sequence[str], name: str) -> bool:
    """Whether a log is lastcall's: it names itself when it starts, and whoever sends it a signal."""
    told = (fpmlog.read(line) for line in sample)
    said = (one.what.service for one in told if one is not None and isinstance(one.what, Happening))
    return "lastcall" in name.rpartition("/")[2] or servers.LASTCALL in said


def _touches(times: Sequence[float], spans: Sequence[Span]) -> bool:
    """Whether a block with lines of these times may have some in the spans; one of which nothing is known may."""
    return not times or within(min(times) - SLACK, max(times) + SLACK, spans)


def within(begin: float, end: float, spans: Sequence[Span]) -> bool:
    """Whether any of these spans, which are sorted and apart, has a part of it."""
    at = bisect.bisect_right(spans, (end, float("inf")))
    return at > 0 and spans[at - 1][1] >= begin


def joined(spans: Iterable[Span]) -> list[Span]:
    """Sorted, and those that overlap made one."""
    found = list[Span]()
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def date(heard: Heard) -> None:
    """Give a year to what has none, and sort everything by time."""
    latest = max((read.last for read in heard.reads if read.last is not None), default=0.0)
    for listed in (heard.told, heard.named):
        for at, (read, found) in enumerate(listed):
            if read.undated and found.at < 3 * 366 * 86400:
                reference = latest or read.file.modified
                wall = found.at + read.zone.offset(found.at)
                moved = year_of(wall, reference)
                when = found._replace(at=read.zone.unix(When(moved)))
                listed[at] = (read, when)
                read.seen(when.at)
        listed.sort(key=order)


_TURN: Final = {
    Did.TOLD: 1,
    Did.RELOADING: 1,
    Did.VANISHED: 1,
    Did.WORKER_DIED: 2,
    Did.GONE: 3,
    Did.STARTING: 4,
    Did.READY: 5,
}


def order(pair: tuple[Read, Found]) -> tuple[float, int, int, str, int]:
    """By time; within a second, what stands in an older file first, and as it stands there.

    In a log that is out of order that means nothing: there, what has to come first comes first.
    """
    read, found = pair
    turn = _TURN.get(found.what.did, 0) if read.out_of_order and isinstance(found.what, Happening) else 0
    return found.at, -_age(found.quote.file), turn, found.quote.file, found.quote.line


def _age(path: str) -> int:
    """1 for gift.log.1 and gift.log-20170625, 0 for gift.log."""
    match = re.search(r"[.-](\d{1,10})(?:\.\w+)?$", path)
    return int(match[1]) if match is not None and len(match[1]) < 6 else int(match is not None)


def complaints(heard: Heard) -> list[Found]:
    """What fronts complain of, in order."""
    return [found for _, found in heard.told if isinstance(found.what, Complaint)]


def own(read: Read, setup: Setup) -> str:
    """The server whose access log this is; "" for a front's, and for what is none."""
    if read.kind is None or not read.kind.access:
        return ""
    if read.kind.service:
        return read.kind.service
    known = setup.service_of.get(base(read.file.shown), "")
    if known and known != servers.NGINX:
        return known
    named = servers.mentioned(read.file.shown.rpartition("/")[2])
    return named if named in servers.APP_SERVERS else ""
