"""lastcall as a service: pid file, daemon, privileges, limits, readiness, PID 1, places, addresses. All of it real.

What needs root is skipped for others, and CI is root.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lastcall.tools.drill.processes import session
from support import http
from support.lastcall import READY, Server, Servers
from support.processes import ROOT, WITHIN_S, Process, children, eventually, free_port

from .test_signals import in_flight

Shop = Callable[..., Server]
Launch = Callable[..., Process]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
LASTCALL = (sys.executable, "-m", "lastcall")
NOBODY = 65534

WRITER = """
import os, signal

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/make/"):
        open("/" + path.removeprefix("/make/"), "w").close()
    if path == "/orphan":
        gate, opened = os.pipe()
        between = os.fork()
        if between == 0:
            if os.fork() == 0:
                os.close(opened)
                os.read(gate, 1)
            os._exit(0)
        os.waitpid(between, 0)
        os.close(opened)
        os.close(gate)
    if path == "/environment":
        body = "\\n".join(f"{key}={value}" for key, value in os.environ.items()).encode()
    else:
        body = str(len(environ["wsgi.input"].read())).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
"""An application that makes files, orphans a process, tells its environment, and counts what it is sent."""


MURDERER = """
import os, pathlib, signal
pathlib.Path(__file__).with_name("worker.pid").write_text(str(os.getpid()))
os.kill(os.getppid(), signal.SIGKILL)
os.read(os.pipe()[0], 1)
"""
"""An application that kills its master and never comes back from being imported."""


@pytest.fixture
def launch(folder: Path) -> Iterator[Launch]:
    """Start `lastcall` with any arguments, also behind another program; at the end nobody of it is left."""
    processes: list[Process] = []

    def start(
        *arguments: str, prefix: tuple[str, ...] = (), env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        log = folder / f"launched-{len(processes)}.log"
        own = {"PYTHONPATH": str(ROOT / "src"), **(env or {})}
        processes.append(Process([*prefix, *LASTCALL, *arguments], log, env=own, cwd=cwd or folder))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def lastcall(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and until nobody holds its output any more."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **(env or {})}
    return subprocess.run(
        [*LASTCALL, *arguments], env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def proc(pid: int, name: str) -> str:
    """A file of /proc/PID."""
    return Path(f"/proc/{pid}", name).read_text()


def field(pid: int, name: str) -> list[str]:
    """A line of /proc/PID/status, in words."""
    (found,) = re.findall(rf"^{name}:\s*(.*)$", proc(pid, "status"), re.MULTILINE)
    return str(found).split()


def gone(pid: int) -> bool:
    """The process has ended (a zombie counts: whose it is, that one reaps it)."""
    try:
        return field(pid, "State")[0] == "Z"
    except FileNotFoundError:
        return True


# --- The pid file ------------------------------------------------------------


def test_the_pid_file_holds_digits_only_and_goes_with_the_server(shop: Shop, folder: Path) -> None:
    """Init scripts do `kill $(cat FILE)`; everybody may read it."""
    file = folder / "lastcall.pid"
    server = shop("--pid", str(file))
    assert file.read_bytes() == b"%d\n" % server.pid
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert server.stop() == 0
    assert not file.exists()


@pytest.mark.parametrize("content", ["dead", "stranger", "garbage"])
def test_a_stale_pid_file_is_replaced(shop: Shop, folder: Path, content: str) -> None:
    """Of a dead process; of a living one that is no lastcall (pids are given anew after a boot); of nobody."""
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    file = folder / "lastcall.pid"
    file.write_text({"dead": f"{dead.pid}\n", "stranger": f"{os.getpid()}\n", "garbage": "not a pid"}[content])
    server = shop("--pid", str(file))
    assert file.read_text() == f"{server.pid}\n"


def test_the_pid_file_of_a_killed_master_is_replaced(shop: Shop, folder: Path) -> None:
    """SIGKILL leaves it behind; the next start does not mind."""
    file = folder / "lastcall.pid"
    first = shop("--pid", str(file))
    first.kill()
    assert file.read_text() == f"{first.pid}\n"
    second = shop("--pid", str(file))
    assert file.read_text() == f"{second.pid}\n"


def test_a_second_start_with_the_pid_file_of_a_living_one_is_refused(shop: Shop, folder: Path) -> None:
    """78, who runs; and the file stays the first one's."""
    file = folder / "lastcall.pid"
    first = shop("--pid", str(file))
    second = shop("--pid", str(file), wait=False)
    assert second.wait() == 78
    assert f"already running as pid {first.pid}" in second.process.text()
    assert file.read_text() == f"{first.pid}\n"
    assert http.get(first.http_address).status == 200


def test_a_pid_file_that_is_somebody_elses_by_now_stays(shop: Shop, folder: Path) -> None:
    """At its end the server removes its own file only."""
    file = folder / "lastcall.pid"
    server = shop("--pid", str(file))
    file.unlink()
    file.write_text("1\n")
    assert server.stop() == 0
    assert file.read_text() == "1\n"


def test_a_start_that_fails_says_so_on_the_terminal_as_well(shop: Shop, code: Path) -> None:
    """Also where the log is a file: nobody has to guess why nothing runs."""
    (code / "shop.py").write_text("import stock\n")
    server = shop(wait=False)
    assert server.wait() == 70
    assert "No module named 'stock'" in server.process.text()
    assert str(server.error_log) in server.process.text()


def test_a_start_that_fails_leaves_no_pid_file(shop: Shop, code: Path, folder: Path) -> None:
    """Neither for an application that does not load, nor for an address that is taken."""
    file = folder / "lastcall.pid"
    first = shop()
    assert shop("--pid", str(file), http=first.http_address, wait=False).wait() == 78
    assert not file.exists()
    (code / "shop.py").write_text("import stock\n")
    assert shop("--pid", str(file), wait=False).wait() == 70
    assert not file.exists()


# --- In the background -------------------------------------------------------


class Background:
    """`lastcall serve --daemon`, with the places that it needs."""

    def __init__(self, folder: Path, code: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.pid_file = folder / "daemon.pid"
        self.log = folder / "daemon.log"
        self.run_dir = folder / "daemon"
        self._code = code

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What the one in the foreground says, and its exit code."""
        return lastcall(
            "serve", "shop:app", "--app-dir", str(self._code), "--http", self.address, "--daemon",
            "--pid", str(self.pid_file), "--run-dir", str(self.run_dir), "--error-log", str(self.log), *arguments,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The master's."""
        return int(self.pid_file.read_text())

    def kill(self) -> None:
        """Whatever is left of it: workers outlive their master."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for pid in session(os.getsid(self.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def background(folder: Path, code: Path) -> Iterator[Background]:
    """A daemon to be started; at the end it is gone."""
    daemon = Background(folder, code)
    yield daemon
    daemon.kill()


def test_a_daemon_is_ready_when_the_foreground_returns(background: Background) -> None:
    """0, not a word, the pid file written, requests answered: an init script need not poll."""
    done = background.start()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert http.get(background.address).body == b"hello\n"
    assert f"is running, pid {background.pid}" in background.log.read_text()
    eventually(lambda: READY in background.log.read_text(), "the log says so, too")


def test_a_daemon_belongs_to_nobody(background: Background) -> None:
    """A session of its own, init's process, stdin /dev/null, what it and its workers print goes to the log."""
    background.start()
    for pid in (background.pid, *children(background.pid)):
        assert os.getsid(pid) not in (os.getsid(0), background.pid)
        standard = [str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in range(3)]
        assert standard == ["/dev/null", str(background.log), str(background.log)]
    assert proc(background.pid, "stat").rpartition(")")[2].split()[1] != str(os.getpid())


def test_a_daemon_is_stopped_by_its_pid_file(background: Background) -> None:
    """`lastcall stop --pid FILE`, which finds its run directory, too."""
    background.start()
    pid = background.pid
    done = lastcall("stop", "--wait", "--pid", str(background.pid_file))
    assert done.returncode == 0, done
    assert gone(pid)
    assert not background.pid_file.exists()


def test_a_daemon_whose_application_does_not_load_says_so_in_the_foreground(background: Background, code: Path) -> None:
    """70, with the reason on stderr and the traceback in the log; nothing is left."""
    (code / "shop.py").write_text("import stock\n")
    done = background.start()
    assert done.returncode == 70
    assert "No module named 'stock'" in done.stderr
    assert background.log.read_text().count("Traceback") == 1
    assert not background.pid_file.exists()


def test_a_daemon_without_a_log_keeps_no_terminal(background: Background, code: Path) -> None:
    """`--error-log -` leads nowhere then; that the application does not load is told all the same."""
    background.log = Path("-")
    done = background.start()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert http.get(background.address).body == b"hello\n"
    assert lastcall("stop", "--wait", "--pid", str(background.pid_file)).returncode == 0
    (code / "shop.py").write_text("import stock\n")
    done = background.start()
    assert done.returncode == 70
    assert "No module named 'stock'" in done.stderr


def test_a_daemon_that_cannot_start_says_so_in_the_foreground(background: Background, shop: Shop) -> None:
    """78: its address is taken."""
    background.address = shop().http_address
    done = background.start()
    assert done.returncode == 78
    assert done.stderr.count(f"cannot listen on {background.address}: address already in use") == 1


def test_a_daemon_that_is_killed_before_it_is_ready_is_not_waited_for(background: Background, code: Path) -> None:
    """The foreground hears the end of it, also while a worker that is still importing lives on."""
    (code / "shop.py").write_text(MURDERER)
    done = background.start("--workers", "1")
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((code / "worker.pid").read_text()), signal.SIGKILL)
    assert done.returncode == 70
    assert "died before it was ready" in done.stderr


# --- Users, modes, limits ----------------------------------------------------


@as_root
def test_workers_run_as_the_user_and_the_master_as_root(shop: Shop, code: Path) -> None:
    """All four uids and gids, the groups of the user, no capabilities left."""
    server = shop("--user", "nobody")
    for worker in server.workers():
        assert field(worker, "Uid") == [str(NOBODY)] * 4
        assert field(worker, "Gid") == [str(NOBODY)] * 4
        assert field(worker, "Groups") in ([], [str(NOBODY)])
        assert field(worker, "CapEff") == ["0000000000000000"]
    assert field(server.pid, "Uid") == ["0"] * 4
    (code / "shop.py").write_text(WRITER)
    assert server.command("reload", "--wait").returncode == 0
    environment = http.get(server.http_address, "/environment").body.decode().splitlines()
    assert "USER=nobody" in environment
    assert "HOME=/root" not in environment


@as_root
def test_numbers_and_a_group_of_its_own(shop: Shop) -> None:
    """A user that no file knows, in the group that is named."""
    server = shop("--user", "61234", "--group", "daemon")
    for worker in server.workers():
        assert field(worker, "Uid") == ["61234"] * 4
        assert field(worker, "Gid") == ["1"] * 4
        assert field(worker, "Groups") in ([], ["1"])


@as_root
def test_a_group_alone_leaves_the_user(shop: Shop) -> None:
    """--group without --user."""
    server = shop("--group", "daemon")
    for worker in server.workers():
        assert field(worker, "Uid") == ["0"] * 4
        assert field(worker, "Gid") == ["1"] * 4


@as_root
def test_another_user_can_take_large_bodies_and_new_logs(shop: Shop, code: Path, folder: Path) -> None:
    """What is spooled goes where the worker may write; the logs are the master's, and travel."""
    (code / "shop.py").write_text(WRITER)
    access = folder / "access.log"
    server = shop("--user", "nobody", "--body-buffer", "1k", "--access-log", str(access))
    with http.Connection(server.http_address) as connection:
        assert connection.request("POST", "/", b"x" * 100_000).body == b"100000"
    access.unlink()
    assert server.command("reopen").returncode == 0

    def heard() -> bool:
        http.get(server.http_address, "/after")
        return "/after" in access.read_text()

    eventually(heard, "the worker writes into the new log")


def test_large_bodies_lie_with_the_systems_temporary_files(shop: Shop, code: Path, folder: Path) -> None:
    """In TMPDIR, not in the run directory, which is often memory."""
    (code / "shop.py").write_text(WRITER)
    spool = folder / "spool"
    spool.mkdir()
    server = shop("--workers", "1", "--body-buffer", "1k", env={"TMPDIR": str(spool)})
    (worker,) = server.workers()

    def spooled() -> bool:
        return any(str(fd.readlink()).startswith(f"{spool}/") for fd in Path(f"/proc/{worker}/fd").iterdir())

    with http.Connection(server.http_address) as client:
        client.send(http.head("POST", "/", b"x" * 10_000) + b"x" * 9_999)
        eventually(spooled, "the body lies in TMPDIR")
        client.send(b"x")
        assert client.response("POST").body == b"10000"


@as_root
def test_whoever_is_not_root_cannot_give_workers_another_user(launch: Launch, folder: Path) -> None:
    """78, said before anything is started (64 where it is the command line's mistake)."""
    server = launch("serve", "shop:app", prefix=as_user(NOBODY), env={"LASTCALL_USER": "root"})
    assert server.wait() == 78
    assert "only root can run workers as someone else" in server.text()


def as_user(uid: int) -> tuple[str, ...]:
    """A program that becomes this user and runs another one."""
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")


@pytest.mark.parametrize(("mask", "mode"), [("027", 0o640), ("000", 0o666)])
def test_the_umask_is_the_applications(shop: Shop, code: Path, folder: Path, mask: str, mode: int) -> None:
    """Of the files that it makes; what lastcall makes is not wider for it."""
    (code / "shop.py").write_text(WRITER)
    file = folder / "lastcall.pid"
    server = shop("--umask", mask, "--pid", str(file))
    http.get(server.http_address, f"/make{folder}/made")
    assert stat.S_IMODE((folder / "made").stat().st_mode) == mode
    assert stat.S_IMODE(file.stat().st_mode) & 0o022 == 0
    assert stat.S_IMODE((server.run_dir / "control.sock").stat().st_mode) & 0o077 == 0


def test_the_limits_are_everybodys(shop: Shop) -> None:
    """--rlimit-files and --rlimit-core, of the master and its workers."""
    server = shop("--rlimit-files", "300", "--rlimit-core", "0")
    for pid in (server.pid, *server.workers()):
        limits = proc(pid, "limits")
        assert re.search(r"^Max open files +300 ", limits, re.MULTILINE)
        assert re.search(r"^Max core file size +0 ", limits, re.MULTILINE)


def test_without_a_word_about_files_the_soft_limit_is_raised_to_the_hard_one(
    launch: Launch, code: Path, folder: Path
) -> None:
    """1024 is for programs with select(2); ours have none."""
    address = f"127.0.0.1:{free_port()}"
    server = launch(
        "serve", "shop:app", "--app-dir", str(code), "--http", address, "--run-dir", str(folder / "run"),
        prefix=("prlimit", "--nofile=256:777"),
    ).wait_accepting(address)  # fmt: skip
    assert re.search(r"^Max open files +777 +777 ", proc(server.pid, "limits"), re.MULTILINE)


def test_chdir_is_for_master_and_workers(shop: Shop, folder: Path) -> None:
    """The application finds its files, and no mount is kept busy by the directory that it was started in."""
    where = folder / "where"
    where.mkdir()
    server = shop("--chdir", str(where))
    for pid in (server.pid, *server.workers()):
        assert Path(f"/proc/{pid}/cwd").readlink() == where


# --- Readiness and watchdog --------------------------------------------------


class ServiceManager:
    """The receiving end of sd_notify(3)."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.settimeout(WITHIN_S)
        self._sock.bind(str(path))

    def hear(self) -> list[str]:
        """The next message, as its lines."""
        return self._sock.recv(4096).decode().splitlines()

    def until(self, line: str) -> list[str]:
        """The first message with this line."""
        while line not in (message := self.hear()):
            pass
        return message

    def rest(self) -> list[list[str]]:
        """What has come and was not heard yet."""
        self._sock.setblocking(False)
        heard: list[list[str]] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(self.hear())
        return heard

    def close(self) -> None:
        """Listen no more."""
        self._sock.close()


@pytest.fixture
def manager(folder: Path) -> Iterator[ServiceManager]:
    """A service manager that listens at `notify.sock` in the folder."""
    listening = ServiceManager(folder / "notify.sock")
    yield listening
    listening.close()


def test_type_notify_hears_of_start_reload_and_stop(shop: Shop, folder: Path, manager: ServiceManager) -> None:
    """READY=1 when requests are answered, RELOADING=1 with its time, READY=1 again, STOPPING=1."""
    server = shop(env={"NOTIFY_SOCKET": str(folder / "notify.sock")}, wait=False)
    manager.until("READY=1")
    assert http.get(server.http_address).status == 200
    server.signal(signal.SIGHUP)
    told = manager.until("RELOADING=1")
    assert any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in told)
    manager.until("READY=1")
    assert server.status().generation == 2
    assert server.stop() == 0
    manager.until("STOPPING=1")


def test_a_reload_that_fails_ends_in_ready_as_well(
    shop: Shop, folder: Path, code: Path, manager: ServiceManager
) -> None:
    """The service is up, whatever became of the new code: systemd must not wait for ever."""
    server = shop(env={"NOTIFY_SOCKET": str(folder / "notify.sock")})
    manager.until("READY=1")
    (code / "shop.py").write_text("import stock\n")
    assert server.command("reload", "--wait").returncode == 1
    manager.until("RELOADING=1")
    manager.until("READY=1")


def test_a_daemon_tells_the_manager_who_it_is(
    background: Background, folder: Path, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MAINPID=: the manager has started another process than the one that serves."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify.sock"))
    background.start()
    manager.until(f"MAINPID={background.pid}")


def test_the_application_does_not_speak_for_the_service(
    shop: Shop, folder: Path, code: Path, manager: ServiceManager
) -> None:
    """NOTIFY_SOCKET and what belongs to it are the master's: no library of the application finds them."""
    (code / "shop.py").write_text(WRITER)
    server = shop(env={"NOTIFY_SOCKET": str(folder / "notify.sock"), "WATCHDOG_USEC": "10000000"})
    environment = http.get(server.http_address, "/environment").body
    assert b"NOTIFY_SOCKET=" not in environment
    assert b"WATCHDOG_USEC=" not in environment


def test_the_watchdog_is_fed_while_the_master_lives(shop: Shop, folder: Path, manager: ServiceManager) -> None:
    """Twice in WATCHDOG_USEC, as sd_watchdog_enabled(3) asks for."""
    shop(env={"NOTIFY_SOCKET": str(folder / "notify.sock"), "WATCHDOG_USEC": "200000"})
    for _ in range(3):
        manager.until("WATCHDOG=1")


def test_a_watchdog_for_somebody_else_is_not_ours(shop: Shop, folder: Path, manager: ServiceManager) -> None:
    """WATCHDOG_PID names another process."""
    env = {"NOTIFY_SOCKET": str(folder / "notify.sock"), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    assert shop(env=env).stop() == 0
    assert not any("WATCHDOG=1" in message for message in manager.rest())


def test_a_manager_that_is_gone_harms_nobody(shop: Shop, folder: Path) -> None:
    """Nobody listens at NOTIFY_SOCKET."""
    server = shop(env={"NOTIFY_SOCKET": str(folder / "nowhere"), "WATCHDOG_USEC": "200000"})
    assert http.get(server.http_address).status == 200
    assert server.stop() == 0


# --- In a container ----------------------------------------------------------


@as_root
def test_as_pid_1_orphans_are_reaped_and_term_drains(launch: Launch, code: Path, folder: Path) -> None:
    """What a container's init has to do: no zombie stays, and `docker stop` loses nothing."""
    (code / "shop.py").write_text(WRITER)
    address = f"127.0.0.1:{free_port()}"
    outer = launch(
        "serve", "shop:app", "--app-dir", str(code), "--http", address, "--run-dir", str(folder / "run"),
        "--log-level", "debug", prefix=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
    ).wait_accepting(address)  # fmt: skip
    outer.wait_until(lambda: READY in outer.text(), "is ready")
    assert "is running, pid 1" in outer.text()
    (init,) = children(outer.pid)
    assert field(init, "NSpid")[-1] == "1"
    assert http.get(address, "/orphan").status == 200
    outer.wait_until(lambda: re.search(r"unknown child \(\d+\) exited with code 0", outer.text()), "reaps the orphan")
    assert [pid for pid in children(init) if field(pid, "State")[0] == "Z"] == []
    with http.Connection(address) as client:
        body = b"x" * 100
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + body[:50])
        os.kill(init, signal.SIGTERM)
        outer.wait_until(lambda: "Terminating ..." in outer.text(), "hears the signal")
        client.send(body[50:])
        assert client.response("POST").body == b"100"
    assert outer.wait() == 0


@as_root
@pytest.mark.parametrize("place", ["/run", "/dev/shm"])
def test_a_read_only_root_without_a_home_will_do(launch: Launch, code: Path, place: str) -> None:
    """One writable tmpfs for the run directory, which also takes large bodies; no HOME, the working directory /."""
    (code / "shop.py").write_text(WRITER)
    address = f"127.0.0.1:{free_port()}"
    read_only = "mount -o bind,remount,ro / && mount -o bind,remount,ro /dev/shm && "
    writable = f"mount -t tmpfs -o mode=1777 tmpfs {place} && "
    server = launch(
        "serve", "shop:app", "--app-dir", str(code), "--http", address, "--body-buffer", "1k",
        prefix=(
            "unshare", "--mount", "sh", "-c", f'{read_only}{writable}exec "$@"', "sh",
            "env", "-i", f"PYTHONPATH={ROOT / 'src'}",
        ),
        cwd=Path("/"),
    ).wait_accepting(address)  # fmt: skip
    where = f"/run/lastcall/http-{address.replace(':', '-')}" if place == "/run" else "/dev/shm/lastcall-0"
    opened = [str(fd.readlink()) for fd in Path(f"/proc/{server.pid}/fd").iterdir()]
    assert any(name.startswith(where) and name.endswith("/lock") for name in opened), opened
    with http.Connection(address) as connection:
        assert connection.request("POST", "/", b"x" * 100_000).body == b"100000"
    assert server.stop() == 0


# --- Finding an instance -----------------------------------------------------


@pytest.fixture
def lonely(folder: Path) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """How to run as a user who has no other instance on this machine: a prefix and an environment."""
    uid = 200_000 + os.getpid() if os.geteuid() == 0 else os.geteuid()
    session = folder / "session"
    session.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(session, uid, uid)
    yield (as_user(uid) if os.geteuid() == 0 else (), {"XDG_RUNTIME_DIR": str(session), "HOME": "/nowhere"})
    shutil.rmtree(session)


def test_instances_are_found_by_the_commands(
    launch: Launch, code: Path, lonely: tuple[tuple[str, ...], dict[str, str]]
) -> None:
    """None: 69. One: it is meant. Two: both are listed, with what tells them apart. One has stopped: the other."""
    prefix, env = lonely

    def status() -> tuple[int, str]:
        done = launch("status", prefix=prefix, env=env)
        return done.wait(), done.text()

    def start() -> tuple[Process, str]:
        address = f"127.0.0.1:{free_port()}"
        arguments = ("serve", "shop:app", "--app-dir", str(code), "--http", address)
        server = launch(*arguments, prefix=prefix, env=env)
        server.wait_until(lambda: READY in server.text(), "is ready")
        return server, address

    assert status()[0] == 69
    one, first = start()
    code_of_one, shown = status()
    assert (code_of_one, first in shown) == (0, True), shown
    _, second = start()
    code_of_two, listed = status()
    assert code_of_two == 64
    assert "2 instances are running" in listed
    for address in (first, second):
        name = f"http-{address.replace(':', '-')}"
        assert re.search(rf"--run-dir \S+/session/lastcall/{name} .*{address}", listed), listed
    assert one.stop() == 0
    code_of_other, shown = status()
    assert (code_of_other, second in shown) == (0, True), shown


def test_a_second_instance_at_the_same_address_is_refused_before_it_touches_anything(
    launch: Launch, code: Path, lonely: tuple[tuple[str, ...], dict[str, str]]
) -> None:
    """The default directory is the address's: 78, who it is, and what to do."""
    prefix, env = lonely
    address = f"127.0.0.1:{free_port()}"
    arguments = ("serve", "shop:app", "--app-dir", str(code), "--http", address)
    first = launch(*arguments, prefix=prefix, env=env).wait_accepting(address)
    second = launch(*arguments, prefix=prefix, env=env)
    assert second.wait() == 78
    assert re.search(rf"another lastcall, pid {first.pid}, uses .*--run-dir", second.text())
    assert http.get(address).status == 200


def test_a_run_directory_may_have_a_very_long_path(folder: Path, code: Path) -> None:
    """Far beyond the 107 bytes of a UNIX socket's path: the control socket is in it all the same."""
    servers = Servers(folder.joinpath(*["d" * 200] * 4))
    try:
        server = servers("shop:app", "--app-dir", str(code))
        assert len(str(server.run_dir)) > 800
        assert server.status().phase == "running"
        assert server.stop() == 0
    finally:
        servers.kill()


def test_the_leftovers_of_a_killed_instance_are_cleared(shop: Shop, launch: Launch, folder: Path) -> None:
    """The next one in the same directory starts, and nothing of the old one is taken for its own."""
    first = shop()
    first.kill()
    assert (first.run_dir / "control.sock").exists()
    address = f"127.0.0.1:{free_port()}"
    second = launch(
        "serve", "shop:app", "--app-dir", str(folder / "code"), "--http", address, "--run-dir", str(first.run_dir)
    ).wait_accepting(address)
    assert second.stop() == 0
    assert not list(first.run_dir.iterdir()) if first.run_dir.exists() else True


def test_an_error_log_in_no_directory_is_refused(launch: Launch, code: Path, folder: Path) -> None:
    """78, with the directory that is missing (64 where it is the command line's mistake)."""
    env = {"LASTCALL_ERROR_LOG": str(folder / "none" / "error.log")}
    server = launch("serve", "shop:app", "--app-dir", str(code), env=env)
    assert server.wait() == 78
    assert f"{folder}/none does not exist" in server.text()


# --- Addresses ---------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "mode"), [((), 0o660), (("--socket-mode", "600"), 0o600)])
def test_a_unix_socket_has_its_mode_and_goes_with_the_server(shop: Shop, arguments: tuple[str, ...], mode: int) -> None:
    """0660 unless said otherwise, whatever the umask."""
    server = shop(*arguments, "--umask", "077", http="unix")
    path = Path(server.http_address.removeprefix("unix:"))
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert http.get(server.http_address).status == 200
    assert server.stop() == 0
    assert not path.exists()


def test_a_unix_socket_that_nobody_listens_on_is_replaced(shop: Shop, folder: Path) -> None:
    """A killed server has left it."""
    path = folder / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = shop(http=f"unix:{path}")
    assert http.get(server.http_address).status == 200


def test_a_unix_socket_that_somebody_listens_on_is_refused(shop: Shop) -> None:
    """78, and the first one keeps its path."""
    first = shop(http="unix")
    second = shop(http=first.http_address, wait=False)
    assert second.wait() == 78
    assert "address already in use" in second.process.text()
    assert http.get(first.http_address).status == 200


def test_ipv6_is_spoken(shop: Shop) -> None:
    """`[::1]:port`, and it is called so."""
    address = f"[::1]:{free_port()}"
    server = shop(http=address)
    assert http.get(address).status == 200
    assert server.status().listen == [f"http {address}"]


def test_port_and_web_concurrency_are_honoured(shop: Shop) -> None:
    """What hosting platforms set."""
    port = str(free_port())
    server = shop(http=False, env={"PORT": port, "WEB_CONCURRENCY": "3"})
    assert http.get(f"127.0.0.1:{port}").status == 200
    status = server.status()
    assert (status.listen, len(status.workers)) == ([f"http 0.0.0.0:{port}"], 3)


def test_a_stop_leaves_nothing_behind(shop: Shop, folder: Path) -> None:
    """After a request that was waited for: no socket, no pid file, no run directory."""
    server = shop("--pid", str(folder / "lastcall.pid"), http=True)
    thread, answers, end = in_flight(server, folder)
    server.signal(signal.SIGTERM)
    end.touch()
    thread.join()
    assert server.wait() == 0
    assert [answer.body for answer in answers] == [b"waited\n"]
    assert not (folder / "lastcall.pid").exists()
    assert not server.run_dir.exists() or not list(server.run_dir.iterdir())
