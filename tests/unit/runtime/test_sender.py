"""Who sent a signal: from /proc as it was written by hand, and from the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lastcall.runtime import sender
from support.processes import eventually


def put(proc: Path, pid: int, forebear: int, *, name: bytes = b"sh", command: bytes = b"", uid: int = 0) -> None:
    """A process in a /proc of our own."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_bytes(b"%d (%s) S %d 1 1 0 -1 4194560 0" % (pid, name, forebear))
    (folder / "cmdline").write_bytes(command)
    (folder / "status").write_bytes(b"Name:\t%s\nUid:\t%d\t0\t0\t0\n" % (name, uid))


def test_a_sender_is_named_with_its_ancestors(tmp_path: Path) -> None:
    """The story that lastcall comes from, in one line."""
    put(tmp_path, 1, 0, command=b"/sbin/init\0")
    put(tmp_path, 812, 1, command=b"cron -f\0\0\0")
    put(tmp_path, 4700, 812, command=b"/bin/sh\0/etc/init.d/php-fpm\0restart\0")
    put(tmp_path, 4711, 4700, command=b"killproc\0-p\0/run/my app.pid\0php-fpm\0")
    assert sender.describe(4711, 0, proc=tmp_path) == (
        "pid 4711 uid 0 (killproc -p '/run/my app.pid' php-fpm) < pid 4700 (/bin/sh /etc/init.d/php-fpm restart) "
        "< pid 812 (cron -f) < pid 1 (/sbin/init)"
    )


def test_a_sender_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    """With what the signal itself brought."""
    assert sender.describe(4711, 33, proc=tmp_path) == "pid 4711 uid 33 (gone)"
    assert sender.describe(4711, proc=tmp_path) == "pid 4711 (gone)"


def test_pid_0_is_the_kernel() -> None:
    """Ctrl-C, or a process outside of the container: `docker stop`."""
    assert sender.describe(0, 0).startswith("the kernel")


def test_a_zombie_is_known_by_its_name(tmp_path: Path) -> None:
    """Whatever its name is made of."""
    put(tmp_path, 7, 1, name=b"a) S 1 (b\n")
    assert sender.describe(7, proc=tmp_path) == "pid 7 uid 0 ([a) S 1 (b\\x0A])"


def test_a_command_line_is_bounded_and_printable(tmp_path: Path) -> None:
    """It is chosen by whoever sends the signal."""
    put(tmp_path, 7, 0, command=b"kill\0\x1b[2J\xc3\xa9\n" + b"x" * 500 + b"\0", uid=1000)
    text = sender.describe(7, proc=tmp_path)
    assert text.startswith("pid 7 uid 1000 (kill '\\x1B[2J\\xC3\\xA9\\x0Axxx")
    assert text.endswith("xxx...)")
    assert len(text) < 230


def test_empty_arguments_are_seen(tmp_path: Path) -> None:
    """Quoted as a shell would want them."""
    put(tmp_path, 7, 0, command=b"kill\0\0-9\0")
    assert sender.describe(7, proc=tmp_path) == "pid 7 uid 0 (kill '' -9)"


def test_ancestors_are_bounded_even_where_they_are_a_circle(tmp_path: Path) -> None:
    """Pids are reused while we look."""
    put(tmp_path, 7, 8, command=b"a\0")
    put(tmp_path, 8, 7, command=b"b\0")
    assert sender.describe(7, proc=tmp_path).count(" < ") == sender.ANCESTORS_MAX


def test_nonsense_in_proc_is_no_reason_to_fail(tmp_path: Path) -> None:
    """Nor is a file that is empty because its process ends just now."""
    put(tmp_path, 7, 0)
    (tmp_path / "7" / "stat").write_bytes(b"")
    (tmp_path / "7" / "status").write_bytes(b"")
    assert sender.describe(7, proc=tmp_path) == "pid 7 (gone)"


def test_a_real_family_is_found() -> None:
    """A shell, started by this test, that waits for its input's end."""
    script = 'read line; : "of the family"'
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE) as shell:
        # Popen returns when the exec has begun: the command line is there a moment later.
        eventually(lambda: Path(f"/proc/{shell.pid}/cmdline").read_bytes().startswith(b"/bin/sh\0"), "it is a shell")
        text = sender.describe(shell.pid, 12)
    ours = sender.describe(os.getpid())
    assert text == f"""pid {shell.pid} uid 12 (/bin/sh -c 'read line; : "of the family"') < """ + ours.replace(
        f" uid {os.getuid()}", "", 1
    )
    assert Path(sys.executable).name in ours
    assert sender.describe(shell.pid, 12) == f"pid {shell.pid} uid 12 (gone)"
