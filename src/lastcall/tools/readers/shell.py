"""Shell scripts: simple commands with their lines, the variables that are known, functions, and the arms of `case`.

No shell: nothing is run, substitutions stay as they are written, and both branches of an `if` count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lastcall.tools.readers.text import lines

COMMANDS_MAX = 20_000
REACH_MAX = 2_000
"""Commands that are followed from one action of a script, with the functions that it calls."""

_ASSIGNMENT = re.compile(r"(?:local\s+|export\s+|readonly\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^}]*))?\})")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1")
_PIDS = re.compile(r"(?:\$\(|`)(?:cat|pidof|pgrep|head|<)\b[^$`()]*[)`]")
"""A substitution that gives somebody's pids."""
_KEYWORDS = frozenset({"if", "then", "else", "elif", "fi", "do", "done", "while", "until", "!", "time", "{", "}", "in"})
_SUBSTITUTION = r"\$\((?>[^()]|\([^()]{0,300}\)){0,300}+\)"
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\r]+) | (?P<newline>\n) | (?P<comment>\#[^\n]*) | (?P<joined>\\\n)
      | (?P<operator>;;&?|;&|&&|\|\||\|&?|;|&(?!>)|\(|\))
      | (?P<redirect>[0-9]*(?:<<<|<<-?|>>|>&|<&|&>>?|>\||>|<))
      | (?P<piece>"(?>\\.|{_SUBSTITUTION}|`[^`]{{0,300}}`|[^"\\])*+" | '[^']*' | {_SUBSTITUTION}
          | `[^`]{{0,2000}}` | \${{[^}}]{{0,300}}}} | \\. | [^\s;&|()<>"'`\\$]+ | \$)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
"""Repetitions are possessive or bounded: a quote that never closes costs no more than one that does."""


@dataclass(frozen=True, slots=True)
class Command:
    """A simple command: its words with known variables filled in, and where in the script it stands."""

    words: tuple[str, ...]
    line: int
    function: str = ""
    """The function that it is in."""
    arm: tuple[str, ...] = ()
    """The patterns of the arm of `case "$1"` that it is in: an init script's action."""
    pipeline: str = ""
    """The commands before it in its pipeline, as written."""


@dataclass(frozen=True, slots=True)
class Script:
    """All simple commands in order, and the variables that were set to something known."""

    commands: tuple[Command, ...]
    variables: dict[str, str]
    functions: frozenset[str]
    actions: frozenset[str]
    """The patterns of `case "$1"`."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def parse(text: str, variables: dict[str, str] | None = None) -> Script:
    """Any text; `variables` are known before."""
    return _Parser(dict(variables or {})).run(_tokens(_without_heredocs(text)))


def reach(script: Script, action: str) -> tuple[Command, ...]:
    """What `script ACTION` runs: outside of `case`, in the arm, and in the functions that are called from there.

    Without a `case` that knows the action: all that is outside of functions.
    """
    arms = {pattern for pattern in script.actions if action in pattern.split("|") or pattern == action}
    found, open_functions = list[Command](), set[str]()
    todo = [c for c in script.commands if not c.function and (not c.arm or arms & set(c.arm))]
    while todo and len(found) < REACH_MAX:
        command = todo.pop(0)
        found.append(command)
        # RedHat's way: `case "$1" in start|stop) $1 ;;` calls the function that is called like the action
        called = action if command.words[0] in ("$1", "${1}") and not command.function else command.words[0]
        if called in script.functions and called not in open_functions:
            open_functions.add(called)
            todo = [*(c for c in script.commands if c.function == called), *todo]
        elif command.words[0] in ("$0", "${0}") and len(command.words) > 1 and command.words[1] not in open_functions:
            open_functions.add(command.words[1])
            again = command.words[1]
            todo = [*(c for c in script.commands if not c.function and again in c.arm), *todo]
    return tuple(found)


# --- Words -------------------------------------------------------------------


def _without_heredocs(text: str) -> str:
    """The same lines, those of here-documents emptied."""
    kept, until = list[str](), ""
    for _, line in lines(text):
        if until:
            until = "" if line.strip() == until else until
            kept.append("")
            continue
        kept.append(line)
        mark = _HEREDOC.search(line)
        if mark and "<<<" not in line and not line.lstrip().startswith("#"):
            until = mark[2]
    return "\n".join(kept)


def _tokens(text: str) -> Iterator[_Token]:
    """Words and operators; pieces that touch are one word."""
    line, word, begun, fresh = 1, "", 0, True
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup or "other"
        if kind == "comment" and not fresh:
            kind = "piece"
        if kind in ("piece", "other"):
            begun = begun or line
            word += token[0]
            fresh = False
        elif kind != "joined":
            if word:
                yield _Token("word", word, begun)
            word, begun, fresh = "", 0, True
            if kind in ("newline", "operator", "redirect"):
                yield _Token(kind, token[0], line)
        line += token[0].count("\n")
    if word:
        yield _Token("word", word, begun)


def _unquoted(word: str, variables: dict[str, str]) -> str:
    """The word as the command sees it, as far as that is known."""
    parts = list[str]()
    for piece in re.finditer(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.|[^'\"\\]+|.", word, re.DOTALL):
        text = piece[0]
        if text[0] == "'" and len(text) > 1:
            parts.append(text[1:-1])
        else:
            bare = text[1:-1] if text[0] == '"' and len(text) > 1 else text.removeprefix("\\")
            parts.append(_VARIABLE.sub(lambda found: _known(found, variables), bare))
    return "".join(parts)


def _known(found: re.Match[str], variables: dict[str, str]) -> str:
    name = found[1] or found[2]
    if name in variables:
        return variables[name]
    # `${X:-default}`: what it is unless somebody says otherwise, which a script's caller rarely does
    return found[3] if found[3] is not None and "$" not in found[3] else found[0]


class _Parser:
    """The state of one reading: where in the script we are."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables
        self.commands: list[Command] = []
        self.functions: set[str] = set()
        self.actions: set[str] = set()
        self.words: list[_Token] = []
        self.pipeline: list[str] = []
        self.function, self.braces, self.declared = "", 0, ""
        self.cases: list[tuple[str, ...] | None] = []
        """The arm of each `case` that is open; None while its pattern is awaited."""
        self.subjects: list[bool] = []

    def run(self, tokens: Iterator[_Token]) -> Script:
        skip = False
        for token in tokens:
            if skip:  # where a redirection goes to
                skip = False
                if token.kind == "word":
                    continue
            if token.kind == "redirect":
                skip = True
            elif token.kind == "word":
                self.word(token)
            else:
                self.operator(token)
            if len(self.commands) >= COMMANDS_MAX:
                break
        self.end()
        return Script(tuple(self.commands), self.variables, frozenset(self.functions), frozenset(self.actions))

    def word(self, token: _Token) -> None:
        if self.cases and self.cases[-1] is None and token.text == "esac":
            self.closed_case()
            return
        if not self.words and token.text == "esac" and self.cases:
            self.closed_case()
            return
        if not self.words and token.text in _KEYWORDS:
            self.brace(token.text)
            return
        self.words.append(token)
        if len(self.words) > 2 and self.words[0].text == "case" and token.text == "in":
            subject = " ".join(word.text for word in self.words[1:-1])
            self.cases.append(None)
            self.subjects.append(re.search(r"\$(?:1|\{1|@|\{@)", subject) is not None)
            self.words = []

    def brace(self, text: str) -> None:
        if text == "{":
            if self.declared:
                self.function, self.declared, self.braces = self.declared, "", 0
                self.functions.add(self.function)
            self.braces += 1
        elif text == "}":
            self.braces -= 1
            if self.braces <= 0:
                self.function, self.braces = "", 0

    def closed_case(self) -> None:
        self.end()
        self.cases.pop()
        self.subjects.pop()

    def operator(self, token: _Token) -> None:
        if self.cases and self.cases[-1] is None:
            self.pattern(token)
            return
        if token.text == "(" and len(self.words) == 1 and re.fullmatch(r"[\w.:-]+", self.words[0].text):
            self.declared = self.words[0].text
            self.words = []
            return
        if token.text == ")" and self.declared and not self.words:
            return
        if len(self.words) == 2 and self.words[0].text == "function":
            self.declared, self.words = self.words[1].text, []
            return
        piped = token.text in ("|", "|&")
        self.end(piped=piped)
        if token.text in (";;", ";&", ";;&") and self.cases:
            self.cases[-1] = None

    def pattern(self, token: _Token) -> None:
        if token.text == ")":
            patterns = tuple(_unquoted(word.text, {}) for word in self.words)
            self.cases[-1], self.words = patterns, []
            if self.subjects[-1]:
                self.actions.update(patterns)
        elif token.kind != "newline" and token.text not in ("|", "("):
            self.words = []

    def end(self, *, piped: bool = False) -> None:
        """A simple command is complete."""
        tokens, self.words = self.words, []
        if tokens and tokens[0].text == "function" and len(tokens) > 1:
            self.declared, tokens = tokens[1].text, []
        while tokens and tokens[0].text in _KEYWORDS:
            self.brace(tokens.pop(0).text)
        if tokens and tokens[0].text == "for":
            if len(tokens) > 3 and tokens[2].text == "in":
                self.assign(tokens[1].text, " ".join(token.text for token in tokens[3:]))
            tokens = []
        while tokens and (found := _ASSIGNMENT.fullmatch(tokens[0].text)):
            self.assign(found[1], found[2])
            tokens.pop(0)
        if tokens and tokens[0].text in ("local", "export", "readonly", "declare"):
            for token in tokens[1:]:
                if found := _ASSIGNMENT.fullmatch(token.text):
                    self.assign(found[1], found[2])
            tokens = []
        if tokens:
            known = tuple(_unquoted(token.text, self.variables) for token in tokens)
            arm = next((arm for arm, acts in zip(self.cases, self.subjects, strict=True) if arm and acts), ())
            before = " | ".join(self.pipeline)
            self.commands.append(Command(known, tokens[0].line, self.function, arm, before))
            self.pipeline = [*self.pipeline, " ".join(known)] if piped else []
        elif not piped:
            self.pipeline = []

    def assign(self, name: str, value: str) -> None:
        known = _unquoted(value, self.variables)
        if _PIDS.fullmatch(known):
            self.variables[name] = known  # not known which, but known whose
        elif "$" in known or "`" in known:
            self.variables.pop(name, None)
        else:
            self.variables[name] = known
