"""A user's own server, as a TOML file describes it: how it is started, restarted and asked, and what its books are.

    url = "http://127.0.0.1:8000/orders"
    start = "gunicorn shop:app --bind 127.0.0.1:8000"

    [strategies.reload]
    do = "kill -HUP {pid}"

docs/DRILL.md has every key. Every mistake is told with its file, its line, and what to write instead.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import shlex
import socket
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lastcall.config import toml
from lastcall.config.origins import Problem
from lastcall.core.mistakes import Mistake
from lastcall.core.quantities import parse_duration
from lastcall.tools.drill.engine import Request
from lastcall.tools.drill.strategies import Strategy

WAIT_S: Final = 1.0
"""Seconds after which an operation of which nothing more is known is over."""
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


class Wrong(Exception):
    """The description cannot be used; `problems` has every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


@dataclass(frozen=True, slots=True)
class Url:
    """Where requests go, and what they ask for."""

    address: str
    """`host:port` or `[v6]:port`, the host as an address."""
    host: str
    """As it was written."""
    target: str
    fastcgi: bool = False

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.address.rpartition(":")[0].strip("[]")).is_loopback


@dataclass(frozen=True, slots=True)
class Deed:
    """One of the user's strategies."""

    title: str
    do: str
    """A command for the shell; `{pid}` is the server's."""
    start: bool = False
    """It ends the server, which is started again when it has ended."""
    wait: float = WAIT_S
    """Seconds after the command until it is over."""


@dataclass(frozen=True, slots=True)
class Spec:
    """The whole description."""

    name: str
    url: Url
    request: Request
    strategies: Mapping[str, Deed]
    start: Sequence[str] = ()
    """Its command line, in the foreground; nothing: it runs already, and is left running."""
    ready: str = ""
    """A path that is answered when it serves; "": it serves when it accepts."""
    folder: Path = Path()
    env: Mapping[str, str] = field(default_factory=dict)
    pid_file: Path | None = None
    ledgers: tuple[str, str] | None = None
    """Two commands that print ids, one a line: what the first action has left, and the second."""


def parse_url(text: str) -> Url:
    """`http://127.0.0.1:8000/x` or `fastcgi://127.0.0.1:9000/x`. Raises Mistake."""
    remedy = "write http://127.0.0.1:8000/path, or fastcgi://127.0.0.1:9000/path"
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Mistake(f"{text!r} is no URL", remedy) from None
    if parts.scheme not in ("http", "fastcgi") or not host or (parts.scheme == "fastcgi" and port is None):
        raise Mistake(f"{text!r} is no URL that can be drilled", remedy)
    try:
        found = socket.getaddrinfo(host, port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Mistake(f"{host!r} is no host that is known: {error.strerror}", remedy) from None
    family, *_, where = min(found, key=lambda one: one[0] != socket.AF_INET)
    number, at = socket.getnameinfo(where, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    address = f"[{number}]:{at}" if family == socket.AF_INET6 else f"{number}:{at}"
    target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    return Url(address, host, target, fastcgi=parts.scheme == "fastcgi")


def attached(url: Url, do: str, wait: float, request: Request) -> Spec:
    """A server that runs already, and one command. Raises Mistake."""
    if "{pid}" in do:
        raise Mistake(
            f"{do!r}: nobody knows the pid of a server that runs already", "write it, or describe it in a file"
        )
    return Spec(url.host, url, request, {"do": Deed(do, do, wait=wait)})


def load(file: Path) -> Spec:
    """The description in a file. Raises Wrong."""
    text = toml.read(file)
    if isinstance(text, Problem):
        raise Wrong([text])
    return parse(text, file)


def parse(text: str, file: Path) -> Spec:
    """The same for a text. Raises Wrong."""
    document = toml.decode(text, str(file))
    if isinstance(document, Problem):
        raise Wrong([document])
    reader = _Reader(file, lines(text))
    spec = _spec(reader, document, file)
    if reader.problems or spec is None:
        raise Wrong(reader.problems)
    return spec


# --- Reading ---------------------------------------------------------------------------------

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")


def lines(text: str) -> dict[str, int]:
    """The line on which each key and table first stands, as `strategies.reload.do`."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header is not None:
            table = re.sub(r"\s*\.\s*", ".", header[1]).replace('"', "").replace("'", "")
            found.setdefault(table, number)
        elif key is not None:
            name = key[1].replace('"', "").replace("'", "")
            found.setdefault(f"{table}.{name}" if table else name, number)
    return found


class _Reader:
    """Takes values out of a document, and notes what is wrong with them."""

    def __init__(self, file: Path, places: Mapping[str, int]) -> None:
        self.problems: list[Problem] = []
        self._file = str(file)
        self._places = places

    def wrong(self, key: str, text: str, remedy: str) -> None:
        line = self._places.get(key) or self._places.get(key.rpartition(".")[0]) or 1
        self.problems.append(Problem(self._file, line, key, text, remedy))

    def known(self, table: Mapping[str, object], path: str, *keys: str) -> None:
        """No other keys than these."""
        for key in table.keys() - set(keys):
            near = difflib.get_close_matches(key, keys, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}"
            self.wrong(_join(path, key), "there is no such key", remedy)

    def table(self, table: Mapping[str, object], key: str, path: str = "") -> dict[str, object]:
        value = table.get(key, {})
        if isinstance(value, dict):
            return value
        self.wrong(_join(path, key), "is no table", f"write [{_join(path, key)}], and its keys below")
        return {}

    def text(self, table: Mapping[str, object], key: str, path: str = "", default: str = "") -> str:
        value = table.get(key, default)
        if isinstance(value, str):
            return value
        self.wrong(_join(path, key), f"{value!r} is no text", f'write it in quotes: {key} = "..."')
        return default

    def flag(self, table: Mapping[str, object], key: str, path: str) -> bool:
        value = table.get(key, False)
        if isinstance(value, bool):
            return value
        self.wrong(_join(path, key), f"{value!r} is neither true nor false", f"write {key} = true")
        return False

    def duration(self, table: Mapping[str, object], key: str, path: str, default: float) -> float:
        value = table.get(key)
        if value is None:
            return default
        try:
            return parse_duration(str(value))
        except Mistake as mistake:
            self.wrong(_join(path, key), mistake.text, mistake.remedy)
            return default

    def texts(self, table: Mapping[str, object], key: str, path: str = "") -> dict[str, str]:
        """A table of texts."""
        inner = self.table(table, key, path)
        return {name: self.text(inner, name, _join(path, key)) for name in inner}

    def words(self, table: Mapping[str, object], key: str) -> list[str]:
        """A command line: a list of texts, or a text as a shell would split it."""
        value = table.get(key, [])
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return [str(word) for word in value]
        if isinstance(value, str):
            try:
                return shlex.split(value)
            except ValueError as error:
                self.wrong(key, f"cannot be split into words: {error}", "close the quote, or write a list of texts")
                return []
        self.wrong(key, f"{value!r} is no command line", f'write {key} = "program argument", or a list of texts')
        return []


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _spec(reader: _Reader, document: Mapping[str, object], file: Path) -> Spec | None:
    keys = ("name", "url", "start", "ready", "folder", "pid_file", "env", "request", "strategies", "ledgers")
    reader.known(document, "", *keys)
    url = None
    if "url" not in document:
        reader.wrong("url", "is missing", 'write what is requested: url = "http://127.0.0.1:8000/path"')
    else:
        try:
            url = parse_url(reader.text(document, "url"))
        except Mistake as mistake:
            reader.wrong("url", mistake.text, mistake.remedy)
    start = reader.words(document, "start")
    folder = (file.absolute().parent / reader.text(document, "folder", default=".")).resolve()
    if not folder.is_dir():
        reader.wrong("folder", f"{folder} is no directory", "name the directory in which the server is started")
    pid_file = reader.text(document, "pid_file")
    strategies = _strategies(reader, document, started=bool(start), pid=bool(start or pid_file))
    request = _request(reader, document, url.target if url is not None else "/")
    ready, env, ledgers = reader.text(document, "ready"), reader.texts(document, "env"), _ledgers(reader, document)
    name = reader.text(document, "name", default=file.stem)
    if url is None:
        return None
    where = folder / pid_file if pid_file else None
    return Spec(name, url, request, strategies, start, ready, folder, env, where, ledgers)


def _request(reader: _Reader, document: Mapping[str, object], target: str) -> Request:
    table = reader.table(document, "request")
    reader.known(table, "request", "method", "headers", "body", "params")
    body = reader.text(table, "body", "request") if "body" in table else None
    method = reader.text(table, "method", "request", "GET" if body is None else "POST")
    headers, params = reader.texts(table, "headers", "request"), reader.texts(table, "params", "request")
    return Request(method, target, headers, body, params)


def _strategies(reader: _Reader, document: Mapping[str, object], *, started: bool, pid: bool) -> dict[str, Deed]:
    found: dict[str, Deed] = {}
    table = reader.table(document, "strategies")
    for name in table:
        path = f"strategies.{name}"
        if not NAME.fullmatch(name) or name == Strategy.NONE:
            reader.wrong(path, "is no name for a strategy", "write small letters, digits and -, and not none")
            continue
        deed = reader.table(table, name, "strategies")
        reader.known(deed, path, "title", "do", "start", "wait")
        do = reader.text(deed, "do", path)
        if not do:
            reader.wrong(f"{path}.do", "is missing", 'write what an operator does: do = "kill -HUP {pid}"')
        elif "{pid}" in do and not pid:  # with 0 for it, kill(1) would mean ourselves
            reader.wrong(
                f"{path}.do", "nobody knows the server's pid", "write at the top: start = ..., or pid_file = ..."
            )
        again = reader.flag(deed, "start", path)
        if again and not started:
            reader.wrong(f"{path}.start", "nobody knows how it is started", "write at the top: start = ...")
        title = reader.text(deed, "title", path, name)
        found[name] = Deed(title, do, again, reader.duration(deed, "wait", path, WAIT_S))
    if not table and started:
        found[str(Strategy.TERM)] = Deed("TERM, start", "kill -TERM {pid}", start=True)
    elif not table:
        reader.wrong("strategies", "there is none", 'write [strategies.reload], and below it do = "..."')
    return found


def _ledgers(reader: _Reader, document: Mapping[str, object]) -> tuple[str, str] | None:
    if "ledgers" not in document:
        return None
    table = reader.table(document, "ledgers")
    reader.known(table, "ledgers", "first", "second")
    for key in ("first", "second"):
        if key not in table:
            reader.wrong(f"ledgers.{key}", "is missing", f'write a command that prints ids, one a line: {key} = "..."')
    return reader.text(table, "first", "ledgers"), reader.text(table, "second", "ledgers")
