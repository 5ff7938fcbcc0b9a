"""A FastCGI request as a front sends it: the whole of it, as bytes. For requests that a worker makes of itself."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Final

_HEADER: Final = struct.Struct(">BBHHBB")
_BEGIN, _PARAMS, _STDIN = 1, 4, 5
_RESPONDER: Final = struct.pack(">HB5x", 1, 0)
"""The role, and that the connection is not kept."""
_CONTENT_MAX: Final = 65535
_STATUS: Final = re.compile(rb"Status: (\d{3})")


def request(variables: Mapping[str, str], body: bytes) -> bytes:
    """The records of one request, in order."""
    params = b"".join(_pair(name.encode("latin-1"), value.encode("latin-1")) for name, value in variables.items())
    return _record(_BEGIN, _RESPONDER) + _stream(_PARAMS, params) + _stream(_STDIN, body)


def _pair(name: bytes, value: bytes) -> bytes:
    return _length(len(name)) + _length(len(value)) + name + value


def _length(size: int) -> bytes:
    return bytes((size,)) if size < 128 else struct.pack(">L", size | 1 << 31)


def _stream(kind: int, content: bytes) -> bytes:
    pieces = range(0, len(content), _CONTENT_MAX)
    return b"".join(_record(kind, content[at : at + _CONTENT_MAX]) for at in pieces) + _record(kind, b"")


def _record(kind: int, content: bytes) -> bytes:
    return _HEADER.pack(1, kind, 1, len(content), 0, 0) + content


def status(answer: bytes) -> int:
    """The status of an answer, from all that came back; 0: there was none."""
    if not answer:
        return 0
    found = _STATUS.search(answer[:1024])
    return int(found[1]) if found else 200
