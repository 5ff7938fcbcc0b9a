"""A real MariaDB in a folder of its own, on a UNIX socket and on nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import quote

import pymysql

from support.processes import SBIN, Process

PATH = f"{os.environ.get('PATH', '')}:{SBIN}"


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
