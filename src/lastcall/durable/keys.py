"""Which key a request has: from a header, a field of its body or query, or a function of the application's."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from lastcall.durable.engine import NoKey
from lastcall.durable.record import Asked

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Header:
    """The key is in this header field, as in the IETF draft on Idempotency-Key: with quotes, or without."""

    name: str = "Idempotency-Key"

    def of(self, asked: Asked) -> str:
        """Raises NoKey."""
        value = asked.environ.get("HTTP_" + self.name.upper().replace("-", "_"), "").strip()
        if not value:
            raise NoKey(f"this request needs a header {self.name}")
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        return value


Key = str | Header | Callable[[Asked], str]
"""A field's name, a header, or a function of the request."""


def find_key(key: Key, asked: Asked) -> object:
    """The key of a request. Raises NoKey."""
    match key:
        case str():
            return _field(key, asked)
        case Header():
            return key.of(asked)
        case _:
            return key(asked)


def _field(name: str, asked: Asked) -> str:
    """From the query, or from a body in JSON or from a form."""
    query = urllib.parse.parse_qs(asked.environ.get("QUERY_STRING", ""))
    if name in query:
        return query[name][-1]
    if asked.environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() == FORM:
        form = urllib.parse.parse_qs(asked.body.decode("utf-8", "replace"))
        if name in form:
            return form[name][-1]
    elif asked.body:
        try:
            value = msgspec.json.decode(asked.body, type=dict[str, msgspec.Raw]).get(name)
            if value is not None:
                return str(msgspec.json.decode(value, type=str | int))
        except msgspec.MsgspecError:
            pass  # no JSON, no object, or neither a text nor a number
    raise NoKey(f"this request needs a field {name}")
