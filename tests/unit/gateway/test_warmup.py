"""Warming an application up: an ordinary request, or a function, and what is said when it fails."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lastcall.gateway import warmup
from lastcall.gateway.warmup import WarmUpError, warm_up

Environ = dict[str, object]
Start = Callable[..., object]


def base() -> Environ:
    """What a worker would give."""
    return warmup.base(io.StringIO(), multithread=False)


class App:
    """Answers with a status, and remembers the environ, and that its body was read to its end and closed."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.seen: list[Environ] = []
        self.drained = 0
        self.closed = 0

    def __call__(self, environ: Environ, start_response: Start) -> App:
        self.seen.append(environ)
        start_response(self.status, [])
        return self

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * 100_000
        self.drained += 1

    def close(self) -> None:
        self.closed += 1


def test_a_path_is_an_ordinary_request_from_this_machine() -> None:
    """But for its mark; its body is read to the end, and closed."""
    app = App()
    assert warm_up(app, ["/w%61rm/it?all=1", "/"], base()) == []
    first, second = app.seen
    assert (first["REQUEST_METHOD"], first["PATH_INFO"], first["QUERY_STRING"]) == ("GET", "/warm/it", "all=1")
    assert (first["REMOTE_ADDR"], first["HTTP_HOST"]) == ("127.0.0.1", "localhost")
    assert first["lastcall.warmup"] is True
    assert first["lastcall.request_id"] == "warm-up"
    body = first["wsgi.input"]
    assert isinstance(body, io.BytesIO)
    assert body.read() == b""
    assert second["PATH_INFO"] == "/"
    assert (app.drained, app.closed) == (2, 2)


def test_an_error_of_the_server_fails_and_one_of_the_client_is_doubtful() -> None:
    """500 is what a load balancer would see; 404 may be a slip in the configuration."""
    with pytest.raises(WarmUpError, match=r"^warm-up GET /warm was answered with 503$"):
        warm_up(App("503 Service Unavailable"), ["/warm"], base())
    assert warm_up(App("404 Not Found"), ["/wram"], base()) == ["warm-up GET /wram was answered with 404"]


def test_an_exception_is_told_with_its_traceback() -> None:
    """The application's frames, and none of ours."""

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        raise KeyError("cache")

    with pytest.raises(WarmUpError) as caught:
        warm_up(app, ["/warm"], base())
    text = str(caught.value)
    assert text.startswith("warm-up GET /warm failed: KeyError: 'cache'\nTraceback")
    assert "test_warmup.py" in text
    assert "gateway" not in text.replace(str(Path(__file__).parent), "")


def test_exit_is_no_way_to_end_a_warm_up() -> None:
    """It is told as what it is, and ends nothing but the boot."""

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        sys.exit(3)

    with pytest.raises(WarmUpError, match=r"^warm-up GET /warm: the application called exit\(\)\nSystemExit: 3\n"):
        warm_up(app, ["/warm"], base())


def test_a_file_is_read_to_its_end(folder: Path) -> None:
    """Through `wsgi.file_wrapper`, too."""
    (folder / "file").write_bytes(b"x" * 1_000_000)
    file = (folder / "file").open("rb")

    def app(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        wrapper = environ["wsgi.file_wrapper"]
        assert callable(wrapper)
        answer: list[bytes] = wrapper(file)
        return answer

    assert warm_up(app, ["/file"], base()) == []
    assert file.closed


@pytest.fixture
def module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module `warm` that can be imported."""
    monkeypatch.syspath_prepend(str(folder))
    (folder / "warm.py").write_text(
        "import sys\n"
        "called = []\n"
        "def cache():\n    called.append(1)\n"
        "class Pool:\n    fill = staticmethod(cache)\n"
        "def fails():\n    raise OSError('no database')\n"
        "def leaves():\n    sys.exit('enough')\n"
    )
    yield folder
    sys.modules.pop("warm", None)


def test_functions_are_called(module: Path) -> None:
    """Without arguments, in the order given."""
    assert warm_up(App(), ["warm:cache", "warm:Pool.fill"], base()) == []
    assert sys.modules["warm"].called == [1, 1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("warm:fails", "warm-up warm:fails failed\nTraceback (most recent call last):"),
        ("warm:fails", "OSError: no database"),
        ("warm:leaves", "warm-up warm:leaves called exit()\n"),
        ("warm:called", "TypeError: warm:called is no function: list cannot be called"),
        ("warm:missing", "AttributeError: module 'warm' has no attribute 'missing'"),
        ("nowhere:cache", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_a_function_that_fails_is_told(module: Path, name: str, said: str) -> None:
    """With its traceback, which begins in the application."""
    with pytest.raises(WarmUpError) as caught:
        warm_up(App(), [name], base())
    assert said in str(caught.value)
    assert "warmup.py" not in str(caught.value)


def test_a_path_that_is_no_request_is_told() -> None:
    """What the settings let through, and the codec does not."""
    with pytest.raises(WarmUpError, match="is no request"):
        warm_up(App(), ["/" + "x" * 10_000], base())
