"""Being a service, with real files, forks, users and sockets."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lastcall.runtime import locks, service
from lastcall.runtime.service import Notifier, PidFile, ServiceError
from support.processes import eventually

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to become somebody else")

LEAD = "import os, signal, sys, time; from pathlib import Path; from lastcall.runtime import service\n"


def run(script: str, *arguments: str, lead: str = LEAD, **options: object) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own: what is tried here cannot be undone."""
    command = [sys.executable, "-c", lead + script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(each.name for each in folder.iterdir())


# --- The pid file ------------------------------------------------------------


def test_a_pid_file_holds_digits_and_a_newline(tmp_path: Path) -> None:
    """And is readable for everybody, whatever the umask; nothing else is left in the directory."""
    mask = os.umask(0o077)
    pid_file = PidFile(tmp_path / "app.pid")
    pid_file.claim()
    os.umask(mask)
    assert pid_file.path.read_bytes() == b"%d\n" % os.getpid()
    assert pid_file.path.stat().st_mode & 0o777 == 0o644
    assert (names(tmp_path), locks.holder(pid_file.path)) == (["app.pid"], os.getpid())
    pid_file.remove()
    assert names(tmp_path) == []


def test_a_second_instance_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    """As long as it lives."""
    first = PidFile(tmp_path / "app.pid")
    first.claim()
    with pytest.raises(ServiceError, match=f"already running as pid {os.getpid()} "):
        PidFile(tmp_path / "app.pid").claim()
    assert names(tmp_path) == ["app.pid"]
    first.remove()


def test_the_pid_file_of_a_dead_instance_is_stale(tmp_path: Path) -> None:
    """After SIGKILL, too."""
    path = tmp_path / "app.pid"
    pid = os.fork()
    if pid == 0:
        PidFile(path).claim()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert path.read_text() == f"{pid}\n"
    assert locks.holder(path) is None
    ours = PidFile(path)
    ours.claim()
    assert path.read_text() == f"{os.getpid()}\n"
    ours.remove()


@pytest.mark.parametrize("text", [f"{os.getppid()}\n", "1", "", "garbage\n", "99999999999\n"])
def test_a_pid_file_whose_lock_nobody_holds_is_stale_whatever_it_says(tmp_path: Path, text: str) -> None:
    """Pids are reused: after a boot the number may be anybody's."""
    path = tmp_path / "app.pid"
    path.write_text(text)
    ours = PidFile(path)
    ours.claim()
    assert locks.holder(path) == os.getpid()
    ours.remove()


def test_only_our_own_pid_file_is_removed(tmp_path: Path) -> None:
    """Whoever has put another one there needs it."""
    path = tmp_path / "app.pid"
    ours = PidFile(path)
    ours.claim()
    path.unlink()
    path.write_text("1\n")
    ours.remove()
    ours.remove()
    assert path.read_text() == "1\n"


def test_of_many_that_start_at_once_one_gets_the_pid_file(tmp_path: Path) -> None:
    """Over a stale one, which is the harder case."""
    path = tmp_path / "app.pid"
    path.write_text("1\n")
    told, tell = os.pipe()
    hold, release = os.pipe()
    for _ in range(8):
        if os.fork() == 0:
            os.close(release)
            try:
                PidFile(path).claim()
                os.write(tell, b"+")
            except ServiceError:
                os.write(tell, b"-")
            os.read(hold, 1)
            os._exit(0)
    answers = b""
    while len(answers) < 8:
        answers += os.read(told, 8)
    os.close(release)
    for _ in range(8):
        os.wait()
    for fd in (told, tell, hold):
        os.close(fd)
    assert sorted(answers) == sorted(b"+-------")


def test_a_worker_that_has_left_does_not_keep_the_pid_file(tmp_path: Path) -> None:
    """The lock is the master's."""
    ours = PidFile(tmp_path / "app.pid")
    ours.claim()
    copy = os.dup(ours._fd)  # as fork makes one
    ours.leave()
    assert locks.holder(ours.path) == os.getpid()
    os.close(copy)
    assert locks.holder(ours.path) is None


def test_a_pid_file_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(ServiceError, match=r"cannot write the pid file /none/app\.pid: No such file or directory"):
        PidFile(Path("/none/app.pid")).claim()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ServiceError, match="folder"):
        PidFile(tmp_path / "folder").claim()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ServiceError, match="symbolic links"):
        PidFile(tmp_path / "link").claim()
    assert names(tmp_path) == ["folder", "link"]


# --- The background ----------------------------------------------------------

DAEMON = """
foreground = service.daemonize()
"""


def test_the_foreground_exits_when_the_daemon_is_ready(tmp_path: Path) -> None:
    """And the daemon has a session of its own, leads none, and prints where it is told."""
    script = """
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
print("before", flush=True)
service.redirect(out)
foreground.ready()
print(os.getpid(), os.getppid(), os.getsid(0), os.getcwd(), os.readlink("/proc/self/fd/0"), flush=True)
os.write(2, b"done\\n")
os.unlink(sys.argv[2])
"""
    out, running = tmp_path / "out", tmp_path / "running"
    running.write_text("")
    done = run(DAEMON + script, str(out), str(running), cwd=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "before\n", "")
    eventually(lambda: not running.exists(), "the daemon ends")
    line, end = out.read_text().splitlines()
    pid, forebear, session, folder, stdin = line.split()
    assert (folder, stdin, end) == (str(tmp_path), "/dev/null", "done")
    assert len({pid, session, str(os.getsid(0))}) == 3
    assert forebear != str(os.getpid())


def test_a_failed_start_is_told_in_the_foreground_with_its_code() -> None:
    """`lastcall serve --daemon` in a script must not look as if it had worked."""
    done = run(DAEMON + "foreground.failed(78, 'no such\\nfile é')")
    assert (done.returncode, done.stdout, done.stderr) == (78, "", "no such\nfile é\n")


def test_a_daemon_that_dies_before_it_is_ready_is_a_failure() -> None:
    """Even without a word."""
    done = run(DAEMON + "os.kill(os.getpid(), 9)")
    assert (done.returncode, done.stdout) == (70, "")
    assert "died before it was ready" in done.stderr


def test_a_worker_that_has_left_does_not_keep_the_foreground_waiting() -> None:
    """It may outlive a master that dies while it starts."""
    script = """
if os.fork() == 0:
    foreground.leave()
    foreground.ready()  # not for it to say
    os.read(hold, 1)
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", LEAD + "hold = os.dup(0)\n" + DAEMON + script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.wait(timeout=30) == 70  # while the worker is there, until its input ends


def test_a_foreground_that_has_been_killed_is_no_harm(tmp_path: Path) -> None:
    """Somebody pressed Ctrl-C."""
    script = """
fd = os.open(sys.argv[1], os.O_WRONLY)
os.write(fd, b"%d\\n" % first)
os.read(os.open(sys.argv[2], os.O_RDONLY), 1)
foreground.ready()
os.write(fd, b"survived\\n")
"""
    os.mkfifo(tmp_path / "out")
    os.mkfifo(tmp_path / "go")
    lead = LEAD + "first = os.getpid()\n" + DAEMON
    command = [sys.executable, "-c", lead + script, str(tmp_path / "out"), str(tmp_path / "go")]
    with subprocess.Popen(command) as process, (tmp_path / "out").open() as out:
        assert out.readline() == f"{process.pid}\n"
        process.kill()
        process.wait()
        (tmp_path / "go").write_text("x")
        assert out.readline() == "survived\n"


def test_closed_standard_descriptors_are_filled_first() -> None:
    """Else the pipe to the foreground would be stdin, and be closed for /dev/null."""
    script = LEAD + DAEMON + "foreground.failed(33, '')"
    command = ["/bin/sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, script]
    assert subprocess.run(command, check=False).returncode == 33


# --- Privileges --------------------------------------------------------------


@root_only
def test_privileges_are_dropped_for_good() -> None:
    """User, group and the user's other groups; the umask, and what the environment says of the user."""
    script = """
os.environ.update(USER="root", LOGNAME="root", HOME="/root")
service.drop_privileges("daemon", "games", 0o027)
print([os.environ[name] for name in ("USER", "LOGNAME", "HOME")])
print(os.getresuid(), os.getresgid(), os.getgroups(), oct(os.umask(0)))
try: os.setuid(0)
except PermissionError: print("no way back")
"""
    done = run(script)
    assert done.stderr == ""
    uid, gid = 1, 60
    assert done.stdout.splitlines() == [
        "['daemon', 'daemon', '/usr/sbin']",
        f"{(uid,) * 3} {(gid,) * 3} [{gid}] 0o27",
        "no way back",
    ]


@root_only
def test_a_user_may_be_a_number_without_an_entry() -> None:
    """Containers have no user database to speak of; a group is then needed, too."""
    script = """
service.drop_privileges('4242', '4343')
print(os.getresuid(), os.getresgid(), os.getgroups(), "HOME" in os.environ)
"""
    assert run(script).stdout == "(4242, 4242, 4242) (4343, 4343, 4343) [4343] False\n"
    with pytest.raises(ServiceError, match="user 4242 has no entry in the user database: name a group, too"):
        service.identify("4242", "")


def test_unknown_names_are_told_in_php_fpms_words() -> None:
    """Before anything has been changed."""
    with pytest.raises(ServiceError, match="cannot get uid for user 'nobody-at-all'"):
        service.identify("nobody-at-all", "")
    with pytest.raises(ServiceError, match="cannot get gid for group 'nobody-at-all'"):
        service.identify("root", "nobody-at-all")


@root_only
def test_without_root_another_user_is_refused_and_our_own_is_fine() -> None:
    """php-fpm goes on as who it is, and the application writes files that the next start cannot read."""
    script = """
os.setgroups([]); os.setgid(1); os.setuid(1)
for user, group in (("games", ""), ("", "games"), ("daemon", ""), ("", "")):
    try: print(service.drop_privileges(user, group))
    except service.ServiceError as error: print(error)
"""
    assert run(script).stdout.splitlines() == [
        "only root can run workers as games, group 60",
        "only root can run workers as another user, group games",
        "None",
        "None",
    ]


# --- Limits ------------------------------------------------------------------

LIMITS = """
import resource
def show(which): print(*resource.getrlimit(getattr(resource, "RLIMIT_" + which)))
"""


def test_the_limit_on_open_files_is_raised_by_itself() -> None:
    """Up to the hard one, but not to a thousand million."""
    script = "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096)); service.limits(None, None); show('NOFILE')"
    assert run(LIMITS + script).stdout == "4096 4096\n"
    done = run(LIMITS + "service.limits(None, None); show('NOFILE')")
    soft, hard = map(int, done.stdout.split())
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= before[0]
    assert hard == before[1]


def test_limits_are_set_as_asked() -> None:
    """-1 is unlimited."""
    script = """
service.limits(300, 0); show("NOFILE"); show("CORE")
"""
    files, core = run(LIMITS + script).stdout.splitlines()
    assert files.startswith("300 ")
    assert core.startswith("0 ")


def test_a_limit_above_the_hard_one_is_refused_with_what_that_is() -> None:
    """Once it is lowered only CAP_SYS_RESOURCE raises it, which a container's root does not have."""
    script = """
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200)); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if os.geteuid() == 0: os.setuid(1)
for limits in ((300, None), (-1, None), (None, -1)):
    try: service.limits(*limits)
    except service.ServiceError as error: print(error)
"""
    files, most, core = run(LIMITS + script).stdout.splitlines()
    assert files == "rlimit_files 300 cannot be set: the hard limit is 200 (see ulimit -H)"
    assert re.fullmatch(r"rlimit_files \d+ cannot be set: the hard limit is 200 \(see ulimit -H\)", most)
    assert core == "rlimit_core unlimited cannot be set: the hard limit is 0 (see ulimit -H)"


def test_who_may_raise_the_hard_limit_does() -> None:
    """That is CAP_SYS_RESOURCE: the kernel is asked first whether we have it."""
    script = """
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
try: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 201))
except ValueError: print("may not")
else: service.limits(300, None); show("NOFILE")
"""
    assert run(LIMITS + script).stdout in ("may not\n", "300 300\n")


# --- systemd -----------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, *, abstract: bool) -> None:
    """At a path and at an abstract address; the variables are not for workers."""
    name = f"@lastcall-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid()), "OTHER": "stays"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        notifier = Notifier.take(environ)
        assert (environ, notifier.interval()) == ({"OTHER": "stays"}, 2.0)
        told = [
            notifier.ready("4 workers"), notifier.status("busy"), notifier.watchdog(), notifier.main_pid(7),
            notifier.stopping(), notifier.reloading(),
        ]  # fmt: skip
        assert all(told)
        said = [manager.recv(1000) for _ in told]
        assert said[:-1] == [b"READY=1\nSTATUS=4 workers", b"STATUS=busy", b"WATCHDOG=1", b"MAINPID=7", b"STOPPING=1"]
        match = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)", said[-1])
        assert match
        assert 0 <= time.monotonic() - int(match[1]) / 1e6 < 60


@pytest.mark.parametrize("address", ["", "@", "/none/notify", "@lastcall-nobody-is-here", "/" + "x" * 200, "nonsense"])
def test_where_nobody_listens_nothing_happens(address: str) -> None:
    """Outside of systemd, or with a wrong variable."""
    notifier = Notifier({"NOTIFY_SOCKET": address}, 1)
    assert (notifier.ready(), notifier.interval()) == (False, None)


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    """Its queue is full: what is said then is lost."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}, 1)
        while notifier.watchdog():
            pass
        manager.recv(100)
        assert notifier.watchdog()
