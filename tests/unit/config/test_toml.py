"""The TOML file: flat keys, each with its line; every mistake told, with its place and a remedy."""

from __future__ import annotations

import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.config import toml


def said(text: str) -> list[str]:
    """The problems of a file with this text, as printed."""
    return [str(problem) for problem in toml.parse(text, "x.toml")[1]]


def test_values_are_read_with_their_lines() -> None:
    """Comments, blank lines, lists and texts over several lines do not confuse the count."""
    text = '''# a comment = 1
app = "gift.app:app"   # workers = 9

http = [
    "127.0.0.1:8000",  # ]
    "unix:/run/[x]",
]
"workers" = 4
access_format = """\\
pid = 'no' \\
\\"""" # the end
drain_timeout = '2m'
'''
    entries, problems = toml.parse(text, "x.toml")
    assert not problems
    lines = {name: entry.place.line for name, entry in entries.items()}
    assert lines == {"app": 2, "http": 4, "workers": 8, "access_format": 9, "drain_timeout": 12}
    assert entries["http"].value == ("127.0.0.1:8000", "unix:/run/[x]")
    assert entries["drain_timeout"].value == 120.0
    assert str(entries["workers"].place) == "x.toml:8"


def test_all_mistakes_are_told_at_once() -> None:
    """In the order of the file."""
    assert said('wrokers = 3\nworkers = "two"\nfoo = 1\npool = "my pool"\nhttp = ["x"]\n') == [
        "x.toml:1: wrokers: there is no such setting (did you mean workers?)",
        "x.toml:2: workers: the text 'two' stands where a number is expected (write workers = 2)",
        "x.toml:3: foo: there is no such setting (docs/CONFIGURATION.md and `lastcall serve --help` list the settings)",
        "x.toml:4: pool: 'my pool' cannot be a pool's name (use 1 to 32 letters, digits, dots, dashes, underscores)",
        "x.toml:5: http: 'x' has no port (write host:port, [v6]:port or unix:/path)",
    ]


def test_a_route_that_is_none_is_told_with_its_line() -> None:
    """And with what to write instead."""
    (text,) = said('app = "a:b"\nreplay_routes = [\n  "/ok/* none",\n  "/search/* allways",\n]\n')
    wrong = "'allways' in '/search/* allways' is no rule"
    assert text == f"x.toml:2: replay_routes: {wrong} (write safe, idempotent, none or always)"


@pytest.mark.parametrize(("key", "meant"), [("max-requests", "max_requests"), ("Workers", "workers"), ("usr", "user")])
def test_a_slip_in_a_name_is_told_with_the_likely_one(key: str, meant: str) -> None:
    """Dashes for underscores, capitals, a letter too few."""
    assert said(f"{key} = 1") == [f"x.toml:1: {key}: there is no such setting (did you mean {meant}?)"]


def test_tables_are_refused_with_a_remedy() -> None:
    """Settings stand at the top: there is one pool a file."""
    assert said("\n[gift.www]\nworkers = 3\n") == [
        "x.toml:2: gift: there are no tables (write the settings at the top, without [gift])"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1\na = 2\n", "x.toml:2:6: the key is given twice (keep one of the lines)"),
        ("app = gift.app\n", 'x.toml:1:7: there is no value that can be read (write texts in quotes: key = "text")'),
        (
            'app = "gift\n',
            "x.toml:1:12: a text is not closed (end it with the quote that it begins with, on the same line)",
        ),
        ("\nhttp = [1,\n\n", "x.toml:2: the file ends where a value or a list should (close the list or the text)"),
        (
            "workers 4\n",
            "x.toml:1:9: expected '=' after a key in a key/value pair (see https://toml.io for the syntax)",
        ),
        ("= 4\n", 'x.toml:1:1: this is not `key = value` (write key = "text", key = 4, key = true, or # a comment)'),
    ],
)
def test_a_syntax_error_is_told_with_line_and_column(text: str, problem: str) -> None:
    """In the words of somebody who edits the file."""
    assert said(text) == [problem]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "cannot be read: No such file or directory (name a file that exists and that may be read)"),
        (b"a = 1\n# caf\xe9\n", "2: is not UTF-8 (save the file as UTF-8)"),
        (b"#" * (toml.FILE_MAX + 1), "is larger than 1 MiB (name a configuration file)"),
    ],
)
def test_a_file_that_is_no_text_is_told(tmp_path: Path, data: bytes | None, problem: str) -> None:
    """Not with a traceback."""
    file = tmp_path / "x.toml"
    if data is not None:
        file.write_bytes(data)
    entries, problems = toml.load(file)
    assert not entries
    assert [str(found).removeprefix(f"{file}:").strip() for found in problems] == [problem]


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """It is told like any file that cannot be read."""
    assert "cannot be read: Is a directory" in str(toml.load(tmp_path)[1][0])


NAMES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)
TEXTS = st.sampled_from(
    ['"a#b"', "'[x'", '"\\""', '"""a\n"b\n"""', "'''\n# ]\n'''", '[1, [2,\n"]"],\n# ]\n]', "{ a = 1 }", "1"]
)


@given(st.lists(st.tuples(NAMES, TEXTS, st.sampled_from(["", "# x = 1\n", "\n"])), unique_by=lambda item: item[0]))
def test_every_key_is_found_on_its_line(items: list[tuple[str, str, str]]) -> None:
    """Whatever stands between the keys."""
    text, lines = "", {}
    for name, value, between in items:
        text += between
        lines[name] = text.count("\n") + 1
        text += f"{name} = {value}\n"
    assert toml.key_lines(text) == lines


@given(st.text(alphabet="ab=[]{}\"'\\#\n .1", max_size=40))
def test_no_text_makes_it_fail(text: str) -> None:
    """Whatever is in the file: entries, or problems with a line that the file has."""
    _, problems = toml.parse(text, "x.toml")
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in problems)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert problems
    else:
        assert set(toml.key_lines(text)) == set(document)
