"""A user's own server, described: what may be written, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastcall.core.mistakes import Mistake
from lastcall.tools.drill import spec
from lastcall.tools.drill.engine import Request
from lastcall.tools.drill.spec import Deed, Url
from support.processes import ROOT

WHOLE = """\
name = "shop"
url = "http://127.0.0.1:8000/orders?x=1"
start = "gunicorn 'shop:app' --bind 127.0.0.1:8000"
ready = "/health"
folder = "."
pid_file = "shop.pid"

[env]
SHOP = "test"

[request]
method = "PUT"
body = '{"order": "{id}"}'
headers = { Content-Type = "application/json" }

[strategies.reload]
title = "reload"
do = "kill -HUP {pid}"
wait = "3s"

[strategies.restart]
do = "kill -TERM {pid}"
start = true

[ledgers]
first = "cat presents"
second = "cat orders"
"""
SHORT = 'url = "http://127.0.0.1:8000/x"\nstart = "app"\n'


def problems(text: str, file: Path) -> list[str]:
    with pytest.raises(spec.Wrong) as caught:
        spec.parse(text, file)
    return [str(problem) for problem in caught.value.problems]


def test_everything_that_may_be_written(tmp_path: Path) -> None:
    """A text is split as a shell does it; folders are relative to the file."""
    (tmp_path / "mydrill.toml").write_text(WHOLE)
    found = spec.load(tmp_path / "mydrill.toml")
    assert found.url == Url("127.0.0.1:8000", "127.0.0.1", "/orders?x=1")
    assert found.start == ["gunicorn", "shop:app", "--bind", "127.0.0.1:8000"]
    assert found.request == Request("PUT", "/orders?x=1", {"Content-Type": "application/json"}, '{"order": "{id}"}')
    assert found.strategies == {
        "reload": Deed("reload", "kill -HUP {pid}", wait=3.0),
        "restart": Deed("restart", "kill -TERM {pid}", start=True),
    }
    assert (found.name, found.ready, found.env) == ("shop", "/health", {"SHOP": "test"})
    assert (found.folder, found.pid_file) == (tmp_path, tmp_path / "shop.pid")
    assert found.ledgers == ("cat presents", "cat orders")


def test_the_example_of_the_manual_can_be_used(tmp_path: Path) -> None:
    """As it stands there."""
    page = (ROOT / "docs" / "DRILL.md").read_text()
    found = spec.parse(page.partition("```toml\n")[2].partition("```")[0], tmp_path / "mydrill.toml")
    assert (found.name, list(found.strategies)) == ("mydrill", ["reload", "restart"])
    assert found.request.body == '{"order": "{id}"}'


def test_little_is_needed(tmp_path: Path) -> None:
    """A URL and a command line: TERM and a start, as an init script does it."""
    found = spec.parse(SHORT, tmp_path / "mine.toml")
    assert (found.name, found.strategies) == ("mine", {"term": Deed("TERM, start", "kill -TERM {pid}", start=True)})
    assert found.request == Request("GET", "/x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "m.toml:1: url: is missing"),
        ('url = "ftp://x/"\nstart = "a"', "m.toml:1: url: 'ftp://x/' is no URL that can be drilled"),
        ('url = "http://127.0.0.1:x/"\nstart = "a"', "m.toml:1: url: 'http://127.0.0.1:x/' is no URL"),
        ('start = "a"\nurl = 7', "m.toml:2: url: 7 is no text"),
        (f"{SHORT}strat = 1", "m.toml:3: strat: there is no such key (did you mean start?)"),
        (f"{SHORT}folder = 'nowhere'", "m.toml:3: folder: "),
        (f"{SHORT}env = 3", "m.toml:3: env: is no table (write [env], and its keys below)"),
        (f"{SHORT}[env]\nA = 1", "m.toml:4: env.A: 1 is no text"),
        (f"{SHORT}[request]\nverb = 'GET'", "m.toml:4: request.verb: there is no such key"),
        (f"{SHORT}[strategies.reload]\ntitle = 'x'", "m.toml:3: strategies.reload.do: is missing"),
        (
            f"{SHORT}[strategies.reload]\n\ndo = 'x'\nwait = 'soon'",
            "m.toml:6: strategies.reload.wait: 'soon' is not a dur",
        ),
        (f"{SHORT}[strategies.reload]\ndo = 'x'\nstart = 'yes'", "m.toml:5: strategies.reload.start: 'yes' is neither"),
        (f"{SHORT}[strategies.Re_load]\ndo = 'x'", "m.toml:3: strategies.Re_load: is no name for a strategy"),
        (f"{SHORT}[ledgers]\nfirst = 'x'", "m.toml:3: ledgers.second: is missing"),
        ('url = "http://127.0.0.1/"', "m.toml:1: strategies: there is none"),
        (
            'url = "http://127.0.0.1/"\n[strategies.a]\ndo = "kill -HUP {pid}"',
            "m.toml:3: strategies.a.do: nobody knows the server's pid",
        ),
        (
            'url = "http://127.0.0.1/"\n[strategies.a]\ndo = "x"\nstart = true',
            "m.toml:4: strategies.a.start: nobody knows how it is started",
        ),
        ('url = "http://127.0.0.1/"\nstart = "a \'b"', "m.toml:2: start: cannot be split into words"),
        ('url = "http://127.0.0.1/"\nstart = 3', "m.toml:2: start: 3 is no command line"),
        ("url = 'a\n", "m.toml:1:"),
        ("url = \n", "m.toml:1:7: there is no value that can be read"),
    ],
)
def test_every_mistake_has_a_line_and_a_remedy(tmp_path: Path, text: str, said: str) -> None:
    """And none hides another."""
    found = problems(text, tmp_path / "m.toml")
    assert any(problem.startswith(f"{tmp_path}/{said}") for problem in found), found
    assert all(problem.endswith(")") for problem in found)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Not the first one, and then the next."""
    assert len(problems('start = 3\nnonsense = 1\n[ledgers]\nfirst = ""', tmp_path / "m.toml")) == 5


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """As a configuration file is."""
    with pytest.raises(spec.Wrong, match="cannot be read: No such file"):
        spec.load(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:8000", Url("127.0.0.1:8000", "127.0.0.1", "/")),
        ("http://localhost/x?y=1#z", Url("127.0.0.1:80", "localhost", "/x?y=1")),
        ("http://[::1]:81/x", Url("[::1]:81", "::1", "/x")),
        ("fastcgi://127.0.0.1:9000/index.php", Url("127.0.0.1:9000", "127.0.0.1", "/index.php", fastcgi=True)),
        ("http://10.1.2.3:8000/", Url("10.1.2.3:8000", "10.1.2.3", "/")),
    ],
)
def test_a_url_is_an_address_and_what_is_asked_for(text: str, url: Url) -> None:
    """The host is looked up once, so that the load need not."""
    assert spec.parse_url(text) == url
    assert url.loopback == (url.host != "10.1.2.3")


def test_whoever_attaches_knows_the_pid() -> None:
    """With 0 for it, kill(1) would mean ourselves."""
    url = spec.parse_url("http://127.0.0.1:8000/")
    with pytest.raises(Mistake, match="nobody knows the pid"):
        spec.attached(url, "kill -HUP {pid}", 1.0, Request())
