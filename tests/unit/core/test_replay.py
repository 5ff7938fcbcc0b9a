"""Which requests may be run again."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.core.mistakes import Mistake
from lastcall.core.replay import Replay, Route, glob, parse, replay

RULES = ("POST /search/* always", "GET|HEAD /once/* none", "/files/*.json idempotent", "PUT * none", "* none")
FORM = "write METHODS PATH RULE, as in POST|PUT /search/* always, or PATH RULE"
LIST = "write them in capitals, with | between them"
BOLD = "write always, if that may be run twice"


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("POST|PUT /search/* always", Route(frozenset({"POST", "PUT"}), "/search/*", "always")),
        ("  /static/*   idempotent ", Route(frozenset(), "/static/*", "idempotent")),
        ("* none", Route(frozenset(), "*", "none")),
        ("GET /a%20b%2Cc safe", Route(frozenset({"GET"}), "/a b,c", "safe")),
        ("POST /pay none", Route(frozenset({"POST"}), "/pay", "none")),
    ],
)
def test_how_a_route_is_written(text: str, route: Route) -> None:
    """Methods, path, rule."""
    assert parse(text) == route


@pytest.mark.parametrize(
    ("text", "wrong", "remedy"),
    [
        ("/search/*", "'/search/*' is no route with a rule", FORM),
        ("search always", "'search always' is no route with a rule", FORM),
        ("post /x always", "'post' in 'post /x always' is not a list of methods", LIST),
        ("GET;POST /x always", "'GET;POST' in 'GET;POST /x always' is not a list of methods", LIST),
        ("/x allways", "'allways' in '/x allways' is no rule", "write safe, idempotent, none or always"),
        ("GET|POST /x idempotent", "'GET|POST /x idempotent' never runs POST again", BOLD),
        ("PUT /x safe", "'PUT /x safe' never runs PUT again", BOLD),
    ],
)
def test_a_slip_is_named_with_its_remedy(text: str, wrong: str, remedy: str) -> None:
    """What is wrong with it, and what to write."""
    with pytest.raises(Mistake) as caught:
        parse(text)
    assert (caught.value.text, caught.value.remedy) == (wrong, remedy)


@pytest.mark.parametrize(
    ("method", "uri", "allowed"),
    [
        ("POST", "/search/roses", True),
        ("POST", "/search/roses?page=2", True),
        ("POST", "/search/", True),
        ("POST", "/search", False),
        ("POST", "/sear%63h/roses", True),
        ("POST", "http://gifts/search/roses", True),
        ("POST", "/other?/search/", False),
        ("GET", "/search/roses", False),
        ("GET", "/once/a", False),
        ("POST", "/once/a", False),
        ("DELETE", "/files/a/b.json", True),
        ("POST", "/files/a/b.json", False),
        ("PUT", "/files/a/b.json", True),
        ("PUT", "/x", False),
        ("GET", "/", False),
    ],
)
def test_the_first_route_that_matches_decides(method: str, uri: str, allowed: bool) -> None:
    """In the order in which they are written; the path as it is meant, without the query."""
    assert replay("safe", RULES).allows(method, uri) is allowed


def test_without_a_match_the_rule_for_all_decides() -> None:
    """As if there were no routes."""
    routes = replay("safe", ("POST /search/* always",))
    assert routes.allows("GET", "/")
    assert not routes.allows("POST", "/")
    assert Replay("idempotent").allows("PUT", "/")
    assert not Replay("none").allows("GET", "/")


def test_a_path_whose_end_is_not_known_is_no_routes() -> None:
    """It might be one that must not be run again; where there are no routes it does not matter."""
    routes = replay("safe", ("/search/* always",))
    assert not routes.allows("GET", "/search/" + "x" * 292, whole=False)
    assert routes.allows("POST", "/search/?" + "x" * 292, whole=False)
    assert Replay("safe").allows("GET", "/search/" + "x" * 292, whole=False)


@pytest.mark.parametrize(
    ("first", "second", "hides"),
    [
        ("* none", "GET /x safe", True),
        ("GET /* none", "/x safe", False),
        ("GET /x none", "GET /x safe", True),
        ("GET|HEAD /x none", "GET /x safe", True),
        ("GET /x none", "GET|HEAD /x safe", False),
        ("/x none", "/y safe", False),
    ],
)
def test_a_route_that_comes_too_late(first: str, second: str, hides: bool) -> None:
    """Whoever reads the configuration is told."""
    assert parse(first).hides(parse(second)) is hides


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_a_star_is_any_characters(pattern: str, text: str) -> None:
    """As fnmatch(3) has it."""
    assert glob(pattern, text) is (re.match(fnmatch.translate(pattern), text) is not None)
