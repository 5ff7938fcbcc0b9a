"""The first process of a test's machine: it makes the namespaces' inside, and everybody's orphans are its own.

Executed by `unshare`, with the machine's folder and name. It says `ready`, and ends when its input does: with
it goes everything that runs on the machine: the kernel sees to it where it is process number 1, else it does that itself.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

BOUND = ("etc", "var", "run", "srv", "home", "usr/local/sbin")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "kmsg")
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
SIOCSIFFLAGS = 0x8914
IFF_UP, IFF_RUNNING = 0x1, 0x40


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def own_devices(folder: Path) -> None:
    """A /dev in which /dev/log is ours: cron's lines are not to reach the syslog of the machine that we are on."""
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder))
    for name in DEVICES:
        (folder / name).touch()
        mount("--bind", f"/dev/{name}", str(folder / name))
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    (folder / "shm").mkdir(mode=0o1777)
    (folder / "pts").mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=666,mode=620", "devpts", str(folder / "pts"))
    mount("--rbind", str(folder), "/dev")


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh", b"lo", IFF_UP | IFF_RUNNING)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request + bytes(22))


def reap(_number: int, _frame: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def others() -> list[int]:
    """Who is in our namespace besides ourselves."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if pid != os.getpid() and namespace(pid) == namespace(os.getpid())]


def namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    except OSError:
        return ""  # it has just ended


def main(folder: Path, name: str) -> None:
    for place in BOUND:
        mount("--bind", str(folder / place), f"/{place}")
    own_devices(folder / "dev")
    loopback_up()
    socket.sethostname(name)
    signal.signal(signal.SIGCHLD, reap)
    print("ready", flush=True)
    sys.stdin.read()
    while os.getpid() != 1 and (left := others()):
        for pid in left:
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
