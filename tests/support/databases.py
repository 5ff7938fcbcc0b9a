"""Real databases: a PostgreSQL and a MariaDB, each in a folder of its own, on a UNIX socket and on nothing else."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg
import pymysql

from support.processes import SBIN, Process

PATH = f"{os.environ.get('PATH', '')}:{SBIN}"


def postgresql_program(name: str) -> str:
    """A program of the newest PostgreSQL that is here: Debian keeps them off the PATH."""
    found = shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default=None)
    assert found is not None, f"no PostgreSQL here: {name} is missing"
    return found


def as_somebody_else(user: str) -> list[str]:
    """What comes before a command so that root does not run it: PostgreSQL insists."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups", "--"]


class Postgres:
    """A running PostgreSQL with a database `gift`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "postgres"
        self.folder.mkdir()
        before = as_somebody_else("postgres")
        if before:
            shutil.chown(self.folder, "postgres", "postgres")
        data = str(self.folder / "data")
        initdb = [
            postgresql_program("initdb"),
            "-D",
            data,
            "-U",
            "gift",
            "-A",
            "trust",
            "--no-sync",
            "--no-locale",
            "-E",
            "UTF8",
        ]
        subprocess.run([*before, *initdb], check=True, capture_output=True, cwd=self.folder)
        server = [postgresql_program("postgres"), "-D", data, "-k", str(self.folder), "-h", "", "-F"]
        self._process = Process([*before, *server], folder / "postgres.log", cwd=self.folder)
        self._process.wait_accepting(f"unix:{self.folder}/.s.PGSQL.5432")
        self._process.wait_until(self._ready, "accepts connections")

    def address(self, table: str) -> str:
        """A table as `lastcall reconcile` takes it."""
        return f"postgresql://gift@/gift.{table}?host={quote(str(self.folder))}"

    def run(self, *statements: str) -> None:
        """Execute these."""
        with psycopg.connect(f"postgresql://gift@/gift?host={quote(str(self.folder))}", autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def stop(self) -> None:
        """End in order."""
        self._process.stop(within=60)

    def _ready(self) -> bool:
        try:
            where = f"postgresql://gift@/postgres?host={quote(str(self.folder))}"
            with psycopg.connect(where, autocommit=True) as connection:
                connection.execute("CREATE DATABASE gift")
        except psycopg.OperationalError:
            return False  # it is starting up
        return True


class MariaDb:
    """A running MariaDB with a database `gift`, whose own time zone is not UTC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mariadb"
        self.folder.mkdir()
        common = ["--no-defaults", f"--datadir={self.folder / 'data'}", *(["--user=root"] if os.geteuid() == 0 else [])]
        install = ["mariadb-install-db", *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(install, check=True, capture_output=True, env={**os.environ, "PATH": PATH})
        self.socket = str(self.folder / "socket")
        fast = [
            "--skip-networking",
            "--innodb-flush-log-at-trx-commit=0",
            "--skip-log-bin",
            "--default-time-zone=+03:00",
        ]
        arguments = ["mariadbd", *common, f"--socket={self.socket}", f"--pid-file={self.folder / 'pid'}", *fast]
        self._process = Process(arguments, folder / "mariadb.log")
        self._process.wait_accepting(f"unix:{self.socket}")
        self.run("CREATE DATABASE gift", database=None)

    def address(self, table: str) -> str:
        """A table as `lastcall reconcile` takes it."""
        return f"mysql://root@localhost/gift.{table}?unix_socket={quote(self.socket)}"

    def run(self, *statements: str, database: str | None = "gift") -> None:
        """Execute these."""
        connection = pymysql.connect(
            unix_socket=self.socket, user="root", database=database, autocommit=True, charset="utf8mb4"
        )
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()

    def stop(self) -> None:
        """End in order."""
        self._process.stop(within=60)
