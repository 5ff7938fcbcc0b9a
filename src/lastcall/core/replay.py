"""Which requests may be run again when their worker has died: the rule for all, and other rules for routes.

A route is written `POST|PUT /search/* always`: the methods (all, where none are named), the path, in which `*` stands for
any characters, and the rule. The first that a request matches decides; where none does, the rule for all.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from lastcall.core.mistakes import Mistake

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110 section 9.2.1, without TRACE, which is not for servers behind a front."""
IDEMPOTENT: Final = SAFE | {"PUT", "DELETE"}
"""RFC 9110 section 9.2.2."""
METHODS: Final = {"safe": SAFE, "idempotent": IDEMPOTENT, "none": frozenset[str]()}
"""The values of the setting `replay`, and what each allows."""
ALWAYS: Final = "always"
"""A rule for routes only: whatever the method. The application is known to bear it."""
RULES: Final = (*METHODS, ALWAYS)

_ROUTE: Final = re.compile(r"(?:(?P<methods>\S+)\s+)?(?P<path>[/*]\S*)\s+(?P<rule>[a-z]+)")
_METHODS: Final = re.compile(r"[A-Z]+(\|[A-Z]+)*")
_EXAMPLE: Final = "write METHODS PATH RULE, as in POST|PUT /search/* always, or PATH RULE"


@dataclass(frozen=True, slots=True)
class Route:
    """Some requests, and the rule for them."""

    methods: frozenset[str]
    """Empty: all."""
    path: str
    rule: str

    def matches(self, method: str, path: str) -> bool:
        return (not self.methods or method in self.methods) and glob(self.path, path)

    def hides(self, later: Route) -> bool:
        """Whether nothing that matches `later` would come as far as that."""
        return (not self.methods or bool(later.methods and later.methods <= self.methods)) and (
            self.path in ("*", "/*", later.path)
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """The whole of it."""

    rule: str
    routes: tuple[Route, ...] = ()

    def allows(self, method: str, uri: str, *, whole: bool = True) -> bool:
        """`uri` as the client has sent it; `whole` is False where its end may be missing: no route can be trusted then."""
        path, query, _ = uri.partition("?")
        if self.routes and not (whole or query):
            return False
        path = unquote(re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/]*", "", path))
        rule = next((route.rule for route in self.routes if route.matches(method, path)), self.rule)
        return rule == ALWAYS or method in METHODS[rule]


NEVER: Final = Replay("none")


@functools.lru_cache(maxsize=16)
def replay(rule: str, routes: tuple[str, ...]) -> Replay:
    """From the settings. Raises Mistake."""
    return Replay(rule, tuple(parse(route) for route in routes))


def parse(text: str) -> Route:
    """One route. Raises Mistake."""
    found = _ROUTE.fullmatch(text.strip())
    if found is None:
        raise Mistake(f"{text!r} is no route with a rule", _EXAMPLE)
    names, rule = found["methods"] or "", found["rule"]
    if names and not _METHODS.fullmatch(names):
        raise Mistake(f"{names!r} in {text!r} is not a list of methods", "write them in capitals, with | between them")
    if rule not in RULES:
        raise Mistake(f"{rule!r} in {text!r} is no rule", f"write {', '.join(RULES[:-1])} or {RULES[-1]}")
    methods = frozenset(names.split("|")) if names else frozenset[str]()
    never = sorted(methods - METHODS.get(rule, methods)) if rule != "none" else []
    if never:
        raise Mistake(f"{text!r} never runs {' or '.join(never)} again", f"write {ALWAYS}, if that may be run twice")
    return Route(methods, unquote(found["path"]), rule)


def glob(pattern: str, text: str) -> bool:
    """Whether a text is as the pattern says; `*` is any characters, also none, also slashes."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
