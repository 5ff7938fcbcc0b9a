"""nginx's configuration: directives and blocks as they are nested, includes read in place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from lastcall.tools.readers.text import Doubt, Spot

DEPTH_MAX = 20
"""Blocks and includes within each other."""

DIRECTIVES_MAX = 20_000
"""Directives with all includes: a file that is included from everywhere is read again each time."""

Load = Callable[[str], Iterable[tuple[str, str]]]
"""A pattern of `include` -> the files that match, and their texts."""

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*) | (?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*') | (?P<mark>[{};])
      | (?P<word>(?:\$\{[^}\n]{0,200}\}|\\.|[^\s;{}"'\\])(?:\$\{[^}\n]{0,200}\}|\\.|[^\s;{}\\])*) | (?P<other>\S)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Directive:
    """`name args;` or `name args { ... }`."""

    name: str
    args: tuple[str, ...]
    spot: Spot
    block: tuple[Directive, ...] | None = None

    def walk(self, above: tuple[Directive, ...] = ()) -> Iterator[tuple[Directive, tuple[Directive, ...]]]:
        """This one and all within it, each with the blocks around it, the outermost first."""
        yield self, above
        for inner in self.block or ():
            yield from inner.walk((*above, self))

    def first(self, name: str) -> Directive | None:
        """The first directive of this name right in the block."""
        return next((inner for inner in self.block or () if inner.name == name), None)


@dataclass(frozen=True, slots=True)
class NginxConf:
    """A file and what it includes."""

    file: str
    directives: tuple[Directive, ...]
    files: tuple[str, ...]
    doubts: tuple[tuple[str, Doubt], ...]

    def walk(self) -> Iterator[tuple[Directive, tuple[Directive, ...]]]:
        """Every directive with the blocks around it."""
        for directive in self.directives:
            yield from directive.walk()


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    line: int
    mark: bool


class _Reader:
    """The state of one reading: what has been read, and what is left of the bounds."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.files: list[str] = []
        self.doubts: list[tuple[str, Doubt]] = []
        self.left = DIRECTIVES_MAX

    def file(self, file: str, text: str, chain: tuple[str, ...]) -> tuple[Directive, ...]:
        if file not in self.files:
            self.files.append(file)
        tokens = _tokens(text)
        found, rest = self.block(file, tokens, 0, (*chain, file), 0)
        if rest < len(tokens):
            self.doubts.append((file, Doubt(tokens[rest].line, "a block is closed that was not opened")))
        return found

    def block(
        self, file: str, tokens: list[_Token], at: int, chain: tuple[str, ...], depth: int
    ) -> tuple[tuple[Directive, ...], int]:
        """The directives from `at` to the end of the block, and where that is."""
        found, words = list[Directive](), list[_Token]()
        while at < len(tokens) and self.left > 0:
            token = tokens[at]
            at += 1
            if not token.mark:
                words.append(token)
            elif token.text == "}":
                return tuple(found), at if depth else at - 1
            elif words or token.text == "{":
                head = words[0] if words else token
                name, args = head.text, tuple(word.text for word in words[1:])
                self.left -= 1
                directive, words = Directive(name, args, Spot(file, head.line)), []
                if token.text == ";":
                    found += self.included(directive, chain) if name == "include" else [directive]
                    continue
                if depth >= DEPTH_MAX or name.endswith("_by_lua_block"):
                    at = _skipped(tokens, at)
                    inner: tuple[Directive, ...] = ()
                else:
                    inner, at = self.block(file, tokens, at, chain, depth + 1)
                found.append(replace(directive, block=inner))
        if words:
            self.doubts.append((file, Doubt(words[0].line, "a directive does not end with ;")))
        elif depth and self.left > 0:
            self.doubts.append((file, Doubt(tokens[-1].line, "a block is not closed")))
        return tuple(found), at

    def included(self, directive: Directive, chain: tuple[str, ...]) -> list[Directive]:
        found, (file, line) = list[Directive](), (directive.spot.file, directive.spot.line)
        for inner, text in self.load(" ".join(directive.args)):
            if inner in chain:
                self.doubts.append((file, Doubt(line, f"{inner} includes itself")))
            elif len(chain) > DEPTH_MAX:
                self.doubts.append((file, Doubt(line, "includes are nested too deep")))
            else:
                found += self.file(inner, text, chain)
        return found


def parse(file: str, text: str, load: Load = lambda _pattern: ()) -> NginxConf:
    """A file and what it includes, in place."""
    reader = _Reader(load)
    directives = reader.file(file, text, ())
    if reader.left <= 0:
        reader.doubts.append((file, Doubt(0, f"more than {DIRECTIVES_MAX} directives; the rest was not read")))
    return NginxConf(file, directives, tuple(reader.files), tuple(reader.doubts))


def _tokens(text: str) -> list[_Token]:
    tokens, line, last = list[_Token](), 1, 0
    for token in _TOKEN.finditer(text):
        line += text.count("\n", last, token.start())
        last = token.start()
        if token.lastgroup == "comment":
            continue
        word = token[0][1:-1] if token.lastgroup == "quoted" else token[0]
        tokens.append(_Token(word, line, token.lastgroup == "mark"))
    return tokens


def _skipped(tokens: list[_Token], at: int) -> int:
    """Behind the end of the block that begins at `at`."""
    depth = 1
    while at < len(tokens) and depth:
        if tokens[at].mark:
            depth += {"{": 1, "}": -1}.get(tokens[at].text, 0)
        at += 1
    return at
