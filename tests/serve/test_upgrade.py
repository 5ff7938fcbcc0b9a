"""USR2 and `lastcall restart`: another image of the master, under the same pid, and nobody notices."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lastcall import __version__
from lastcall.core import exits
from serve.test_signals import in_flight
from support import fcgi, http
from support.lastcall import Server, Servers
from support.processes import ROOT, connect, eventually

Shop = Callable[..., Server]


def restarts(server: Server) -> int:
    """How often the master has begun anew."""
    return server.log().count("lastcall is running")


def release(folder: Path, name: str, version: str) -> Path:
    """A release as a deploy lays it down: lastcall of this version, and a script that runs it. Its folder."""
    where = folder / name
    shutil.copytree(ROOT / "src" / "lastcall", where / "lib" / "lastcall", ignore=shutil.ignore_patterns("__pycache__"))
    package = where / "lib" / "lastcall" / "__init__.py"
    package.write_text(package.read_text().replace(f'"{__version__}"', f'"{version}"'))
    script = where / "lastcall"
    path = f"import sys; sys.path.insert(0, {str(where / 'lib')!r})"
    script.write_text(f"#!{sys.executable}\n{path}\nfrom lastcall.cli import main\nmain()\n")
    script.chmod(0o755)
    return where


def point(link: Path, where: Path) -> None:
    """Let `current` lead to another release, at one moment."""
    fresh = link.with_name("fresh")
    fresh.symlink_to(where)
    fresh.replace(link)


@pytest.fixture
def deployed(serve: Servers, folder: Path, code: Path) -> tuple[Server, Path]:
    """A server that was started from `current/lastcall`, and that link."""
    current = folder / "current"
    point(current, release(folder, "one", "1.0.0"))
    arguments = ("shop:app", "--app-dir", str(code), "--boot-timeout", "10")
    server = serve(*arguments, program=(str(current / "lastcall"),), env={"PYTHONPATH": ""})
    return server, current


def test_a_restart_runs_the_lastcall_that_the_link_leads_to_now(deployed: tuple[Server, Path], folder: Path) -> None:
    """Another lastcall, the same pid, other workers; who asked is told when they serve."""
    server, current = deployed
    before = server.status()
    point(current, release(folder, "two", "2.0.0"))
    done = server.command("restart", "--wait")
    assert done.returncode == 0, done.stderr
    after = server.status()
    assert (before.version, after.version) == ("1.0.0", "2.0.0")
    assert after.pid == before.pid == server.pid
    assert after.generation == 2
    assert {worker.pid for worker in before.workers}.isdisjoint(
        {worker.pid for worker in after.workers if worker.stage == "ready"}
    )
    assert f'reloading: execvp("{current / "lastcall"}"' in server.log()


@pytest.mark.parametrize("broken", ["raise ImportError('half a deploy')", "import os; os._exit(3)", "while True: pass"])
def test_a_lastcall_that_cannot_start_leaves_the_old_one_running(
    serve: Servers, folder: Path, code: Path, broken: str
) -> None:
    """The reason goes to the log, to whoever waits and to the status; a good one afterwards is taken."""
    current = folder / "current"
    point(current, release(folder, "one", "1.0.0"))
    arguments = ("shop:app", "--app-dir", str(code), "--boot-timeout", "6")
    server = serve(*arguments, program=(str(current / "lastcall"),), env={"PYTHONPATH": ""})
    two = release(folder, "two", "2.0.0")
    good = (two / "lib" / "lastcall" / "cli.py").read_text()
    (two / "lib" / "lastcall" / "cli.py").write_text(broken + "\n")
    point(current, two)
    pids = {worker.pid for worker in server.status().workers}
    done = server.command("restart", "--wait")
    assert done.returncode == 1
    assert "the new lastcall cannot start" in done.stderr
    status = server.status()
    assert status.version == "1.0.0"
    assert {worker.pid for worker in status.workers} == pids
    assert status.last_reload is not None
    assert not status.last_reload.ok
    assert "restart failed, this lastcall serves on" in server.log()
    assert http.get(server.http_address).status == 200
    (two / "lib" / "lastcall" / "cli.py").write_text(good)
    assert server.command("restart", "--wait").returncode == 0
    assert server.status().version == "2.0.0"


def test_a_program_that_is_gone_leaves_the_old_one_running(deployed: tuple[Server, Path]) -> None:
    """As a failed exec(2) does."""
    server, current = deployed
    current.unlink()
    done = server.command("restart", "--wait")
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert http.get(server.http_address).status == 200


def test_a_configuration_with_a_mistake_is_refused_before_anything_happens(
    serve: Servers, folder: Path, code: Path
) -> None:
    """As a reload does."""
    config = folder / "lastcall.toml"
    config.write_text('app = "shop:app"\n')
    server = serve("-c", str(config), "--app-dir", str(code))
    config.write_text('app = "shop:app"\nworkrs = 3\n')
    done = server.command("restart", "--wait")
    assert done.returncode == 1
    assert "workrs" in done.stderr
    assert restarts(server) == 1
    config.write_text('app = "shop:app"\nworkers = 3\n')
    assert server.command("restart", "--wait").returncode == 0
    assert server.status().workers_wanted == 3


def test_code_that_does_not_load_rolls_a_restart_back(shop: Shop, code: Path) -> None:
    """The master is another image; the workers are the old ones, and serve on."""
    server = shop()
    pids = {worker.pid for worker in server.status().workers}
    (code / "shop.py").write_text("raise RuntimeError('not today')\n")
    done = server.command("restart", "--wait")
    assert done.returncode == 1
    assert "not today" in done.stdout + done.stderr
    eventually(lambda: {worker.pid for worker in server.status().workers} == pids, "only the old workers are left")
    assert restarts(server) == 2
    assert http.get(server.http_address).body == b"hello\n"


def test_requests_and_connections_cross_a_restart(shop: Shop, folder: Path) -> None:
    """One in flight is finished; kept connections stay open, and are served by the new generation."""
    server = shop("--workers", "2")
    kept = http.Connection(server.http_address)
    first = kept.request("GET", "/pid").body
    thread, answers, end = in_flight(server, folder)
    assert server.command("restart", "--wait").returncode == 0
    assert kept.request("GET", "/pid").body != first
    end.touch()
    thread.join()
    assert [answer.body for answer in answers] == [b"waited\n"]
    kept.close()
    eventually(lambda: len(server.status().workers) == 2, "the old workers are gone")
    assert "was cut" not in server.log()


def test_what_the_master_counts_goes_on(shop: Shop) -> None:
    """Requests, the time of the start, deaths, the size that the pool was scaled to until the next reload."""
    server = shop("--workers", "1")
    for _ in range(5):
        http.get(server.http_address)
    os.kill(server.workers()[0], signal.SIGKILL)
    eventually(lambda: server.status().restarts == 1, "the death is counted")
    before = server.status()
    assert server.command("restart", "--wait").returncode == 0
    after = server.status()
    assert (after.requests, after.restarts, after.started) == (before.requests, 1, before.started)
    assert after.uptime > before.uptime


def test_fastcgi_and_unix_listeners_cross_a_restart(serve: Servers, code: Path) -> None:
    """The same sockets, at the same paths; a FastCGI connection that is kept serves on."""
    server = serve("shop:app", "--app-dir", str(code), http="unix", fastcgi="unix")
    inode = Path(server.http_address.removeprefix("unix:")).stat().st_ino
    variables = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/pid", "SCRIPT_NAME": "/pid"}
    sock = connect(server.fastcgi_address)
    first = fcgi.request(sock, variables, keep=True).stdout
    assert server.command("restart", "--wait").returncode == 0
    assert fcgi.request(sock, variables, keep=True).stdout != first
    sock.close()
    assert Path(server.http_address.removeprefix("unix:")).stat().st_ino == inode
    assert http.get(server.http_address).status == 200


def test_restarts_leak_no_descriptor(shop: Shop) -> None:
    """After ten of them the master has as many as after two."""
    server = shop("--catch-output")

    def count() -> int:
        eventually(lambda: [worker.stage for worker in server.status().workers] == ["ready"] * 2, "the pool is whole")
        return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))

    def again(times: int) -> None:
        for _ in range(times):
            assert server.command("restart", "--wait").returncode == 0

    again(2)
    before = count()
    again(8)
    eventually(lambda: count() == before, "as many descriptors as before")


def test_a_burst_of_restarts_is_neither_lost_nor_piled_up(shop: Shop) -> None:
    """25 USR2 while others are under way: at least one begins after the last signal, and the pool is whole."""
    server = shop()
    for _ in range(25):
        server.signal(signal.SIGUSR2)
    eventually(lambda: restarts(server) >= 2, "another image runs")
    eventually(lambda: "reload finished" in server.log(), "its generation serves")
    assert server.command("restart", "--wait").returncode == 0
    eventually(lambda: [worker.stage for worker in server.status().workers] == ["ready"] * 2, "the pool is whole again")
    assert server.status().pid == server.pid


def test_all_who_wait_for_a_restart_hear_of_it(shop: Shop) -> None:
    """Those who ask while one is being prepared join it."""
    server = shop()
    codes: list[int] = []
    askers = [
        threading.Thread(target=lambda: codes.append(server.command("restart", "--wait").returncode)) for _ in range(4)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert codes == [0, 0, 0, 0]


def test_a_stop_overtakes_a_restart(shop: Shop) -> None:
    """The signal that comes while the probe runs is not lost: the master ends, and drains."""
    server = shop()
    server.signal(signal.SIGUSR2)
    server.signal(signal.SIGTERM)
    assert server.wait() == exits.OK
    assert "bye-bye" in server.log()


def test_a_restart_while_stopping_is_refused(shop: Shop, folder: Path) -> None:
    """There is nothing to restart."""
    server = shop()
    thread, answers, end = in_flight(server, folder)
    server.signal(signal.SIGTERM)
    server.wait_log("Terminating")
    done = server.command("restart", "--wait")
    assert done.returncode == 1
    assert "stopping" in done.stderr
    end.touch()
    thread.join()
    assert len(answers) == 1
    assert server.wait() == exits.OK


def test_the_locks_stay_held(shop: Shop, code: Path, folder: Path) -> None:
    """After a restart nobody else can take the run directory or the pid file, and the end removes the pid file."""
    pid_file = folder / "shop.pid"
    server = shop("--pid", str(pid_file))
    assert server.command("restart", "--wait").returncode == 0
    assert pid_file.read_text() == f"{server.pid}\n"
    refused = server.command("serve", "shop:app", "--app-dir", str(code), "--http", "127.0.0.1:0")
    assert refused.returncode == exits.CONFIG
    assert "another lastcall" in refused.stderr
    assert server.stop() == exits.OK
    assert not pid_file.exists()


def test_what_a_worker_prints_crosses_a_restart(shop: Shop, folder: Path) -> None:
    """An old worker that still runs a request is heard by the new image."""
    server = shop("--workers", "1", "--catch-output")
    end = folder / "end"
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(http.get(server.http_address, f"/say-later{end}").body))
    thread.start()
    eventually((folder / "end.begun").exists, "the request is inside")
    assert server.command("restart", "--wait").returncode == 0
    end.touch()
    thread.join()
    server.wait_log("said later")
