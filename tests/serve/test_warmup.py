"""`--warmup`, from outside: before a worker is ready, and what its failure means for a start and for a reload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support import http
from support.lastcall import Server, Servers
from support.processes import eventually

Shop = Callable[..., Server]
APP = """
import os
import sys

warm = []

def fill():
    print("filling", flush=True)
    warm.append("filled")

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if environ.get("lastcall.warmup"):
        environ["wsgi.errors"].write("warming\\n")
        warm.append(path)
        {WHEN_WARMED}
    body = " ".join(warm).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def write(code: Path, when_warmed: str = "pass") -> None:
    """The application, which does this when it is warmed up."""
    (code / "shop.py").write_text(APP.replace("{WHEN_WARMED}", when_warmed))


def test_every_worker_is_warm_before_it_serves(shop: Shop, code: Path) -> None:
    """Paths and functions, in the order given; what is printed goes where it always goes."""
    write(code)
    server = shop("--warmup", "/one", "--warmup", "shop:fill,/two?x=1", "--catch-output")
    for _ in range(10):
        assert http.get(server.http_address, "/").body == b"/one filled /two"
    assert len(server.log_lines(r"\(warm-up\): application message: warming$")) == 4
    filling = r"said into stdout: \"filling\"$"  # by a pipe, which the master reads when it comes to it
    eventually(lambda: len(server.log_lines(filling)) == 2, "both have said so")


def test_a_start_that_cannot_warm_up_ends_with_70(shop: Shop, code: Path) -> None:
    """Named with the path and the traceback, once."""
    write(code, "raise RuntimeError('no cache')")
    server = shop("--warmup", "/warm", wait=False)
    assert server.wait() == 70
    assert "warm-up GET /warm failed: RuntimeError: no cache" in server.log()
    assert server.log().count("Traceback") == 1


def test_a_reload_that_cannot_warm_up_changes_nothing(shop: Shop, code: Path) -> None:
    """Whether it is answered with 500, raises, or exits; `reload --wait` says why, and the old generation serves on."""
    write(code)
    server = shop("--warmup", "/warm")
    before = server.workers()
    for when_warmed, said in (
        ("start_response('503 Busy', []); return []", "warm-up GET /warm was answered with 503"),
        ("raise RuntimeError('no cache')", "warm-up GET /warm failed: RuntimeError: no cache"),
        ("sys.exit(3)", "warm-up GET /warm: the application called exit()"),
    ):
        write(code, when_warmed)
        done = server.command("reload", "--wait")
        assert done.returncode == 1
        assert said in done.stdout + done.stderr
        eventually(lambda: server.workers() == before, "only the old workers are left")
        assert http.get(server.http_address, "/").body == b"/warm"
    write(code)
    assert server.command("reload", "--wait").returncode == 0


def test_a_warm_up_that_hangs_is_bounded_by_the_boot_timeout(shop: Shop, code: Path) -> None:
    """It is part of the boot."""
    write(code)
    server = shop("--warmup", "/warm", "--boot-timeout", "500ms")
    write(code, "__import__('threading').Event().wait()")
    assert server.command("reload", "--wait").returncode == 1
    assert http.get(server.http_address, "/").body == b"/warm"


def test_a_path_that_is_not_there_is_doubtful(shop: Shop, code: Path) -> None:
    """It is told, and the service starts."""
    write(code, "start_response('404 Not Found', []); return []")
    server = shop("--warmup", "/wram")
    server.wait_log("warm-up GET /wram was answered with 404")
    assert http.get(server.http_address, "/").status == 200


def test_the_file_may_have_a_list(serve: Servers, code: Path) -> None:
    """And what is none of both is a mistake."""
    write(code)
    config = code / "lastcall.toml"
    config.write_text(f'app = "shop:app"\napp_dir = "{code}"\nwarmup = ["/a,b", "shop:fill"]\n')
    server = serve("-c", str(config))
    assert http.get(server.http_address, "/").body == b"/a,b filled"
    config.write_text(f'app = "shop:app"\napp_dir = "{code}"\nwarmup = ["warm it"]\n')
    done = server.command("reload", "--wait")
    assert done.returncode == 1
    assert "nothing that an application can be warmed up with" in done.stdout + done.stderr
