"""A machine of a test's own: namespaces in which /etc, /var, /run, /srv, /dev and the network are nobody else's.

Debian's own programs run in it, with Debian's own files in /etc as far as a shop has them; what they write stays in the
machine's folder. It needs root. It knows nothing of what happens on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from support.processes import SBIN, eventually

HERE: Final = Path(__file__).parent
COMMAND_S: Final = 60.0
"""Seconds that a command inside may take: a graceful stop and a busy machine."""

ETC: Final = (
    "passwd", "group", "shadow", "nsswitch.conf", "pam.d", "pam.conf", "security", "login.defs", "ld.so.cache",
    "alternatives", "environment", "hosts", "host.conf", "debian_version", "default", "php", "nginx",
    "logrotate.conf", "rsyslog.conf", "sudo.conf", "sudoers", "mime.types", "crontab", "init.d/nginx", "init.d/php8.2-fpm",
    "init.d/cron", "logrotate.d/nginx", "logrotate.d/php8.2-fpm", "logrotate.d/rsyslog", "cron.daily/logrotate",
)  # fmt: skip
"""What a shop's machine has of ours. Of cron's tables only those named here: what else is due is not to run again."""
FOLDERS: Final = (
    "etc/cron.d", "etc/cron.hourly", "etc/cron.weekly", "etc/cron.monthly", "etc/sudoers.d", "etc/rsyslog.d", "run", "dev",
    "var/log/nginx", "var/lib/nginx", "var/lib/logrotate", "var/lib/php/sessions", "var/lib/sudo", "var/spool/rsyslog",
    "var/spool/cron/crontabs", "var/tmp", "var/mail", "var/cache", "srv", "home", "usr/local/sbin",
)  # fmt: skip
SECRET: Final = ("shadow", "sudoers", "pam.d", "security", "alternatives", "ld.so.cache")
"""Of /etc what its logs need no explanation from: it is left out of what is kept."""
FAKETIME: Final = next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")
COMMANDS: Final = ("unshare", "nsenter", "mount", "cron", "rsyslogd", "logrotate", "sudo", "nginx", "php-fpm8.2")


def missing() -> str:
    """What there is not to make a machine of; "" where nothing is missing."""
    if os.geteuid() != 0:
        return "root"
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    lacking = [command for command in COMMANDS if shutil.which(command, path=path) is None]
    return next(iter([*lacking, *([] if FAKETIME else ["libfaketime"])]), "")


class Machine:
    """One machine. `own_pids`: it has a process number 1; else the numbers are those that the kernel's log has too."""

    def __init__(self, folder: Path, name: str, *, own_pids: bool = True) -> None:
        self.folder = folder
        self.name = name
        self._own_pids = own_pids
        self._init: subprocess.Popen[bytes] | None = None
        self._clients: list[subprocess.Popen[bytes]] = []
        self._environment = {"PATH": f"{SBIN}:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
        for place in FOLDERS:
            self.path(place).mkdir(parents=True, exist_ok=True)
        self.path("/var/run").symlink_to("/run")
        self.path("/var/tmp").chmod(0o1777)
        for file in ETC:
            _copy(Path("/etc") / file, self.path(f"/etc/{file}"))

    def path(self, inside: str) -> Path:
        """Where a file of the machine is for us."""
        return self.folder / inside.lstrip("/")

    def write(self, inside: str, text: str, *, mode: int = 0o644) -> None:
        """Put a file there."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def set_clock(self, ahead: float) -> None:
        """All its programs read another time of day, from its next start on: so many seconds from ours."""
        self.write("/etc/faketimerc", f"{ahead:+.0f}\n")
        self.write("/etc/ld.so.preload", f"{FAKETIME}\n")

    # --- Power ---------------------------------------------------------------------------------

    def boot(self) -> None:
        """Make the namespaces. Nothing runs in them yet."""
        kinds = ["--mount", "--net", "--uts", "--propagation", "private"]
        if self._own_pids:
            kinds += ["--pid", "--fork", "--mount-proc", "--kill-child"]
        command = ["unshare", *kinds, sys.executable, "-I", "-S", str(HERE / "init.py"), str(self.folder), self.name]
        with (self.folder / "console").open("ab") as console:
            self._init = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=console, start_new_session=True
            )
        assert self._init.stdout is not None
        said = self._init.stdout.readline()
        assert said == b"ready\n", self.said()

    def end(self) -> None:
        """Everything on it ends, at once."""
        if self._init is None:
            return
        assert self._init.stdin is not None
        assert self._init.stdout is not None
        self._init.stdin.close()
        self._init.wait(COMMAND_S)
        self._init.stdout.close()
        self._init = None
        for client in self._clients:
            client.kill()
            client.wait(COMMAND_S)

    @property
    def _first(self) -> int:
        """The process whose namespaces they are: unshare's child, or what unshare has become."""
        assert self._init is not None
        if not self._own_pids:
            return self._init.pid
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children")
        return int(children.read_text().split()[0])

    # --- What runs on it -----------------------------------------------------------------------

    def run(self, *command: str, user: str = "") -> None:
        """A command, as root or this user. Fails when it does."""
        spaces = ["--mount", "--net", "--uts", *(["--pid"] if self._own_pids else []), "--wd=/"]
        become = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user else []
        done = self._inside(spaces, [*become, *command]).wait(COMMAND_S)
        assert done == 0, f"{command}: {done}\n{self.said()}"

    def said(self) -> str:
        """What its programs wrote to the terminal."""
        return (self.folder / "console").read_text()

    def start_client(self, *command: str) -> subprocess.Popen[bytes]:
        """A command that goes on: one of ours, that has nothing of the machine but its network."""
        client = self._inside(["--net"], command)
        self._clients.append(client)
        return client

    def _inside(self, spaces: Sequence[str], command: Sequence[str]) -> subprocess.Popen[bytes]:
        enter = ["nsenter", "--target", str(self._first), *spaces]
        console: IO[bytes]
        with (self.folder / "console").open("ab") as console:
            return subprocess.Popen(
                [*enter, *command], stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                env=self._environment, start_new_session=True,
            )  # fmt: skip

    def wait_for(self, inside: str) -> None:
        """Until that file is there."""
        eventually(self.path(inside).exists, f"{inside} on {self.name}")

    # --- What is left of it --------------------------------------------------------------------

    def keep(self, root: Path) -> None:
        """Its file tree, as far as a log or a configuration is in it."""
        secret = shutil.ignore_patterns(*SECRET)
        shutil.copytree(self.path("/etc"), root / "etc", symlinks=True, ignore=secret)
        for place in ("var/log", "var/spool/cron", "usr/local/sbin"):
            shutil.copytree(self.path(place), root / place, symlinks=True)
        for script in self.path("/srv").rglob("*.sh"):
            _copy(script, root / script.relative_to(self.folder))
        for shared in ("/usr/lib/php/php8.2-fpm-reopenlogs", "/lib/lsb/init-functions"):
            _copy(Path(shared), root / shared.lstrip("/"))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    elif source.exists():
        shutil.copy2(source, target)
