"""A real PostgreSQL in a folder of its own: Debian's, as another user where we are root, which it refuses to run as."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import urllib.parse
from pathlib import Path
from typing import Final

import psycopg

from support.processes import Process

USER: Final = "postgres"
"""Made by Debian's package."""
SETTINGS: Final = (
    *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=50"),
    *("-c", "timezone=UTC"),
)


def binary(name: str) -> str:
    """One of its programs, of the newest version that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else name


class Postgres:
    """A running server that listens on a socket in its folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lc-pg-"))
        self._as: tuple[str, ...] = ()
        if os.geteuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
        self._data = self.folder / "data"
        make = (binary("initdb"), "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        subprocess.run([*self._as, *make, "--locale=C"], check=True, capture_output=True, cwd=self.folder)
        self._process = self._run()
        self._schemas = itertools.count(1)

    def _run(self) -> Process:
        arguments = (binary("postgres"), "-D", str(self._data), "-k", str(self.folder), *SETTINGS)
        process = Process([*self._as, *arguments], self.folder / "output.log", cwd=self.folder)
        process.wait_until(self._answers, "answers")
        return process

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, schema: str = "public") -> str:
        """Where it is, with everything in this schema."""
        options = urllib.parse.quote(f"-csearch_path={schema}")
        return f"postgresql://{USER}@/postgres?host={urllib.parse.quote(str(self.folder))}&options={options}"

    def fresh(self) -> str:
        """The URL of a new, empty schema."""
        schema = f"s{next(self._schemas)}"
        with psycopg.connect(self.url(), autocommit=True) as db:
            db.execute(f"CREATE SCHEMA {schema}".encode())
        return self.url(schema)

    def kill(self) -> None:
        """SIGKILL, all of it."""
        self._process.kill()

    def start(self) -> None:
        """Start again after `kill`."""
        self._process = self._run()

    def stop(self) -> None:
        """The end: fast, and nothing is left."""
        self._process.kill()
        shutil.rmtree(self.folder)
