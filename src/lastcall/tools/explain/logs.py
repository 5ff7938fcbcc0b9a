"""Finds log files and reads them in blocks of whole lines, packed or not. Knows nothing of what they say.

Nothing is followed out of the root. A file is read once from its beginning to its end, in bounded memory; what cannot be
read, or breaks off, is said.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import subprocess
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, cast

from lastcall.tools.doctor.files import Tree

BLOCK: Final = 1 << 20
"""Bytes of a block."""
LINE_MAX: Final = 64 * 1024
"""Bytes of a line that is looked at: php-fpm cuts its own at 2 KiB, and nginx's with large headers are below."""
FILES_MAX: Final = 5_000
"""Log files that are opened."""
SNIFFED: Final = 64 * 1024
GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
UNREADABLE: Final = {b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}
"""Forms that logs are packed in, and that we do not unpack."""
JOURNAL: Final = b"LPKSHHRH"

_ASIDE = re.compile(r"(?:^|/)(?:journal|installer|private|sysstat|btmp|wtmp|lastlog|faillog|tallylog)(?:[./-]|$)")
"""Below /var/log: what is no text, or about nobody's requests."""


@dataclass(frozen=True)
class LogFile:
    """A file, and what it is called in what we say."""

    path: Path
    shown: str
    size: int
    modified: float

    @property
    def unpacked(self) -> int:
        """About how large it is when it is read: logs are packed to a tenth."""
        return self.size * (10 if self.shown.endswith((".gz", ".zst")) else 1)


@dataclass
class Search:
    """What was found, and what could not be looked at."""

    files: list[LogFile] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """Files in which nothing stands, which may say that nothing was to be said."""
    seen: set[tuple[int, int]] = field(default_factory=set)

    def add(self, path: Path, shown: str) -> None:
        """A file, unless it was found before."""
        try:
            about = path.stat(follow_symlinks=False)
        except OSError as error:
            self.troubles.append(f"{shown}: cannot be read: {error.strerror}")
            return
        if not stat.S_ISREG(about.st_mode) or (about.st_dev, about.st_ino) in self.seen:
            return
        if not about.st_size:
            self.empty.append(shown)
            return
        if len(self.files) >= FILES_MAX:
            if len(self.files) == FILES_MAX:
                self.troubles.append(f"{shown}: more than {FILES_MAX} files; the rest was not read")
            return
        self.seen.add((about.st_dev, about.st_ino))
        self.files.append(LogFile(path, shown, about.st_size, about.st_mtime))


def within(root: Path, folders: Iterable[str], named: Iterable[str], search: Search) -> None:
    """The files below these folders of a root, and those that its configuration names (with what they were rotated to)."""
    tree = Tree(Path(os.path.realpath(root)))
    for name in named:
        real = tree.real(name.strip("/"))
        if real is None or real.startswith(("dev/", "proc/")):
            continue
        folder, _, base = real.rpartition("/")
        try:
            listed = sorted(entry.name for entry in (tree.root / folder).iterdir())
        except OSError:
            continue
        for entry in listed:
            # gift.log, gift.log.1, gift.log-20170625.gz
            if entry == base or (entry.startswith(base) and re.match(r"[.-]\d", entry[len(base) :])):
                path = f"{folder}/{entry}"
                search.add(tree.root / path, f"/{path}")
    for folder in folders:
        real = tree.real(folder.strip("/"))
        if real is not None and (tree.root / real).is_dir():
            _walk(tree.root / real, f"/{real}", search)


def given(path: Path, search: Search) -> None:
    """A file or a folder that somebody has named."""
    if path.is_dir():
        _walk(path, str(path), search)
    else:
        search.add(path.resolve(), str(path))


def _walk(folder: Path, shown: str, search: Search) -> None:
    def trouble(error: OSError) -> None:
        search.troubles.append(f"{error.filename}: cannot be listed: {error.strerror}")

    for place, inner, names in os.walk(folder, onerror=trouble):
        inner.sort()
        below = f"{shown.rstrip('/')}/{os.path.relpath(place, folder)}".removesuffix("/.")
        if "journal" in inner and any(_journals(Path(place, "journal"))):
            search.troubles.append(
                f"{below}/journal: systemd's journal is not read as it lies there: "
                "journalctl -o json --since ... > journal.json, and name that file with --logs"
            )
        inner[:] = [name for name in inner if not _ASIDE.search(name)]
        for name in sorted(names):
            if not _ASIDE.search(name):
                search.add(Path(place, name), f"{below}/{name}")


def _journals(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.glob("*/*.journal")
    except OSError:
        return


# --- Reading -----------------------------------------------------------------


class Broken(Exception):
    """The file ends before its end, or is no log; in words."""


@contextmanager
def opened(file: LogFile) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked. Raises Broken, OSError."""
    with open(file.path, "rb", opener=_careful) as plain:
        first = plain.peek(8)[:8]
        for magic, name in UNREADABLE.items():
            if first.startswith(magic):
                raise Broken(f"it is packed with {name}: unpack it, and name it with --logs")
        if first.startswith(JOURNAL):
            raise Broken("it is systemd's journal: journalctl -o json --file NAME > journal.json, and name that")
        if first.startswith(GZIP):
            with gzip.GzipFile(fileobj=plain) as packed:
                yield cast("IO[bytes]", packed)  # it reads, and that is all that is wanted
        elif first.startswith(ZSTD):
            with _unpacked(plain) as packed_stream:
                yield packed_stream
        else:
            yield plain


def _careful(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)


@contextmanager
def _unpacked(plain: IO[bytes]) -> Iterator[IO[bytes]]:
    """Through zstd(1), which is there where logrotate packs with it."""
    program = shutil.which("zstd")
    if program is None:
        raise Broken("it is packed with zstd, and there is no zstd command: install it, or unpack the file")
    os.lseek(plain.fileno(), 0, os.SEEK_SET)  # what was looked at before is in our buffer, and not in the file any more
    with subprocess.Popen([program, "-dcq"], stdin=plain, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        ended = False
        try:
            yield running.stdout
            ended = not running.stdout.read(1)
        finally:
            running.stdout.close()
            code = running.wait()
    if ended and code:
        raise Broken("the zstd file is broken: what stands before that place was read")


def blocks(file: LogFile) -> Iterator[tuple[int, bytes]]:
    """Whole lines, with the number of the first one. Raises Broken, OSError, in the midst of it too."""
    number, rest = 1, b""
    with opened(file) as stream:
        while True:
            try:
                data = stream.read(BLOCK)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                if rest:
                    yield number, rest
                raise Broken(f"the gzip file is broken: {error}; what stands before that place was read") from None
            if not data:
                break
            end = data.rfind(b"\n") + 1
            if not end:
                # a line without an end: what is beyond the bound is nobody's line
                rest = (rest + data)[:LINE_MAX]
                continue
            block, rest = rest + data[:end], data[end:]
            yield number, block
            number += block.count(b"\n")
        if rest:
            yield number, rest


def head(file: LogFile) -> bytes:
    """The first bytes, unpacked; what is broken behind them does not matter yet. Raises Broken, OSError."""
    with opened(file) as stream:
        try:
            return stream.read(SNIFFED)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Broken(f"the gzip file is broken: {error}") from None


def lines(number: int, block: bytes) -> Iterator[tuple[int, str]]:
    """A block's lines with their numbers; what is no UTF-8 is shown as it can be."""
    for line in block.split(b"\n"):
        if line:
            yield number, text(line)
        number += 1


def text(line: bytes) -> str:
    """A line's text. Zeros come from machines that went down while they wrote."""
    if len(line) > LINE_MAX:
        line = line[:LINE_MAX]
    if b"\0" in line:
        line = line.replace(b"\0", b"")
    return line.decode("utf-8", "backslashreplace").rstrip("\r")


def spans(block: bytes, needles: Iterable[bytes]) -> list[tuple[int, int]]:
    """Where the lines of a block are in which one of these stands, in order."""
    found: dict[int, int] = {}
    for needle in needles:
        at = block.find(needle)
        while at >= 0:
            begin = block.rfind(b"\n", 0, at) + 1
            end = block.find(b"\n", at)
            end = len(block) if end < 0 else end
            found[begin] = end
            at = block.find(needle, end)
    return sorted(found.items())


def chosen(number: int, block: bytes, needles: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """The lines of a block in which one of these stands, with their numbers."""
    last = 0
    for begin, end in spans(block, needles):
        number += block.count(b"\n", last, begin)
        last = begin
        yield number, text(block[begin:end])
