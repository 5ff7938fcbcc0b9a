"""Code that cannot be brought up: at the start, at a reload, and later."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from support import http
from support.lastcall import Server, Servers
from support.processes import eventually

Shop = Callable[..., Server]


def test_a_module_that_does_not_import_ends_the_start_with_70(shop: Shop, code: Path) -> None:
    """One short traceback, no crash loop."""
    (code / "shop.py").write_text("import stock\n")
    server = shop(wait=False)
    assert server.wait() == 70
    log = server.log()
    assert log.count("Traceback (most recent call last)") == 1
    assert "ModuleNotFoundError: No module named 'stock'" in log
    assert "shop.py" in log
    assert "importlib" not in log
    assert "giving up" in log


def test_a_module_that_is_not_there_is_named_with_its_folder(serve: Servers, folder: Path) -> None:
    """A wrong name is told apart from a broken module."""
    server = serve("nowhere:app", "--app-dir", str(folder), wait=False)
    assert server.wait() == 70
    assert f"there is no module 'nowhere' in {folder}" in server.log()


def test_the_only_candidate_is_found_by_itself(serve: Servers, code: Path) -> None:
    """`lastcall serve` in a folder with one wsgi.py."""
    (code / "shop.py").rename(code / "wsgi.py")
    server = serve("--app-dir", str(code))
    assert http.get(server.http_address).body == b"hello\n"
    assert server.status().application == "found by itself"


def test_a_factory_makes_the_application(serve: Servers, code: Path) -> None:
    """`module:factory()`, and --factory."""
    with (code / "shop.py").open("a") as file:
        file.write("\n\ndef make():\n    return app\n")
    for arguments in (("shop:make()",), ("shop:make", "--factory")):
        server = serve(*arguments, "--app-dir", str(code))
        assert http.get(server.http_address).body == b"hello\n"


def test_a_reload_of_broken_code_changes_nothing(shop: Shop, code: Path) -> None:
    """The old generation has never stopped serving; `reload --wait` fails with the traceback; status shows it."""
    server = shop()
    before = {worker.pid for worker in server.status().workers}
    (code / "shop.py").write_text("raise RuntimeError('half a deploy')\n")
    done = server.command("reload", "--wait")
    assert done.returncode == 1
    assert "half a deploy" in done.stdout + done.stderr
    assert http.get(server.http_address).body == b"hello\n"
    status = server.status()
    assert {worker.pid for worker in status.workers if worker.stage == "ready"} == before
    assert status.last_reload is not None
    assert not status.last_reload.ok
    assert "half a deploy" in status.last_reload.text


def test_a_reload_that_hangs_in_import_is_rolled_back(shop: Shop, code: Path) -> None:
    """--boot-timeout bounds it; the old code serves on."""
    server = shop("--boot-timeout", "500ms")
    (code / "shop.py").write_text("import threading\nthreading.Event().wait()\n")
    done = server.command("reload", "--wait")
    assert done.returncode == 1
    assert http.get(server.http_address).body == b"hello\n"


def test_a_reload_whose_workers_exit_is_rolled_back(shop: Shop, code: Path) -> None:
    """Workers that die while they boot: tried a few times, then given up in words."""
    server = shop()
    (code / "shop.py").write_text("import os\nos._exit(3)\n")
    done = server.command("reload", "--wait")
    assert done.returncode == 1
    assert "with code 3" in done.stdout + done.stderr
    assert http.get(server.http_address).body == b"hello\n"


def test_a_configuration_that_is_broken_at_a_reload_is_refused(shop: Shop, serve: Servers, code: Path) -> None:
    """Every mistake with file and line; the old generation serves on."""
    config = code / "lastcall.toml"
    config.write_text(f'app = "shop:app"\napp_dir = "{code}"\nworkers = 1\n')
    server = serve("-c", str(config))
    config.write_text('app = "shop:app"\nworkers = "many"\nwrokers = 2\n')
    done = server.command("reload", "--wait")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"{config}:2" in said
    assert f"{config}:3" in said
    assert http.get(server.http_address).status == 200
    server.signal(signal.SIGHUP)
    server.wait_log("reload refused", times=2)


def test_a_reload_follows_the_configuration(serve: Servers, code: Path) -> None:
    """More workers, another listener, without a restart."""
    config = code / "lastcall.toml"
    config.write_text(f'app = "shop:app"\napp_dir = "{code}"\nworkers = 1\n')
    server = serve("-c", str(config))
    other = f"unix:{code}/other.sock"
    config.write_text(f'app = "shop:app"\napp_dir = "{code}"\nworkers = 3\nfastcgi = ["{other}"]\n')
    done = server.command("reload", "--wait")
    assert done.returncode == 0, done
    eventually(lambda: len(server.status().workers) == 3, "there are three workers")
    assert any(other in listener for listener in server.status().listen)


def test_a_worker_that_keeps_dying_is_started_again_more_and_more_slowly(shop: Shop) -> None:
    """A proven release is never given up; the log says when the next try is."""
    server = shop("--workers", "1")
    for _ in range(3):
        try:
            http.get(server.http_address, "/exit/9")
        except (http.Closed, OSError):
            pass
    server.wait_log("next try in 0.2s")
    assert http.get(server.http_address).status == 200


def test_recycling_by_count_has_the_successor_ready_first(shop: Shop) -> None:
    """--max-requests: other workers, no failed request, never fewer than wanted."""
    server = shop("--workers", "2", "--max-requests", "10")
    pids: set[bytes] = set()
    with http.Connection(server.http_address) as kept:

        def served_by_a_third() -> bool:
            pids.add(kept.request("GET", "/pid").body)
            return len(pids) >= 3

        eventually(served_by_a_third, "a successor serves, on the connection that was kept")
