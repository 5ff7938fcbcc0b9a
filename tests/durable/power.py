"""What a power cut leaves of a journal: the writes that were recorded (power.c) up to a moment, less unsynced ones.

python -m durable.power FOLDER DURABILITY      runs durable requests under the recorder
"""

from __future__ import annotations

import os
import random
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lastcall import durable
from lastcall.durable import place, seen
from lastcall.durable.engine import Manner
from lastcall.durable.journal import Terms
from lastcall.durable.sqlite import Sqlite
from lastcall.durable.wsgi import Environ, Start
from support.durable import post

REQUESTS: Final = 6
SECTOR: Final = 512
_HEAD: Final = struct.Struct("=c3xII4xq")
MARKS: Final = "marks"


@dataclass(frozen=True)
class Op:
    """Something that the program did to a file, or a mark: what it had come to."""

    kind: str
    path: str
    data: bytes
    offset: int


def recorded(log: Path) -> list[Op]:
    """The log, in its order."""
    raw, at, ops = log.read_bytes(), 0, []
    while at < len(raw):
        kind, path, data, offset = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        name = raw[at : at + path].decode()
        ops.append(Op(kind.decode(), name, raw[at + path : at + path + data], offset))
        at += path + data
    return ops


@dataclass
class File:
    """One file on the disk: what is certainly there, and what may be."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Op] = field(default_factory=list)
    named: bool = False
    """Its name is in the directory, on the disk."""
    gone: bool = False
    """It was unlinked, which the directory on the disk need not know."""


class Disk:
    """The disk, as the program's calls leave it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._files: dict[str, File] = {}
        self.marks: list[str] = []
        self._seen = 0

    def take(self, op: Op) -> None:
        if Path(op.path).name == MARKS:
            self.marks += op.data.decode().splitlines()
            return
        if Path(op.path).name == seen.NAME:
            self._seen = op.offset  # a map, whose writes nobody syncs: after a cut it is empty, or not there
            return
        if op.path == self._folder:
            for path, file in list(self._files.items()):
                file.named = not file.gone
                if file.gone:
                    del self._files[path]
            return
        file = self._files.setdefault(op.path, File())
        match op.kind:
            case "u":
                file.gone = True
            case "s":
                for each in file.pending:
                    _apply(file.synced, each)
                file.pending.clear()
            case _:
                if file.gone:  # a new file of the same name
                    file = self._files[op.path] = File()
                file.pending.append(op)

    def after_a_cut(self, where: Path, chance: random.Random, share: float) -> None:
        """Write down one of the states that the disk may be in: each write that was not synced is there with this chance,
        whole or in part, and so is each change of a name.
        """
        where.mkdir()
        if chance.random() < share:
            (where / seen.NAME).touch()
            os.truncate(where / seen.NAME, self._seen)
        for path, file in self._files.items():
            if (file.gone or not file.named) and chance.random() >= share:
                continue
            content = bytearray(file.synced)
            for op in file.pending:
                if chance.random() < share:
                    _apply(content, op if chance.random() < 0.7 else _torn(op, chance))
            (where / Path(path).name).write_bytes(content)


def _apply(content: bytearray, op: Op) -> None:
    if op.kind == "t":
        del content[op.offset :]
        content.extend(bytes(op.offset - len(content)))
        return
    content.extend(bytes(max(0, op.offset - len(content))))
    content[op.offset : op.offset + len(op.data)] = op.data


def _torn(op: Op, chance: random.Random) -> Op:
    """As many of its sectors as were written."""
    if op.kind != "w" or len(op.data) <= SECTOR:
        return op
    return Op("w", op.path, op.data[: SECTOR * chance.randrange(1, len(op.data) // SECTOR + 1)], op.offset)


def states(folder: Path, log: Path, scratch: Path, seed: int) -> Iterator[tuple[Path, list[str]]]:
    """After every call that was recorded: some of the disks that a power cut may leave, and what had been done before."""
    disk = Disk(str(folder))
    number = 0
    for op in recorded(log):
        disk.take(op)
        if op.kind == "s" and Path(op.path).name != MARKS:
            continue  # the state is among those of the moment before
        for share in (0.0, 0.5, 1.0):
            number += 1
            where = scratch / str(number)
            disk.after_a_cut(where, random.Random(seed * 1_000_003 + number), share)
            yield where, list(disk.marks)


# --- The program ---------------------------------------------------------------------


def main(folder: Path, durability: str) -> None:
    """Some requests, with a small WAL, so that it is checkpointed and begun again in between."""
    journal = Sqlite(folder, Terms(durability=durability))
    journal._pin.limit = 48 << 10
    place.use(journal, Manner())
    marks = os.open(folder / MARKS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def mark(text: str) -> None:
        os.write(marks, f"{text}\n".encode())

    @durable.request(key="order_id")
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        order = str(environ["QUERY_STRING"])
        durable.step("present", mark, f"present {order}")
        durable.step("order", mark, f"order {order}", in_doubt="retry")
        start_response("201 Created", [])
        return [b"done " + order.encode()]

    for number in range(REQUESTS):
        post(app, {"order_id": str(number)}, QUERY_STRING=str(number))
        mark(f"answered {number}")
    journal.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
