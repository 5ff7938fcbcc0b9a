"""The journal of several machines in MongoDB: any of them may take over a dead one's work.

Two collections, `lastcall_requests` and `lastcall_claims`. A request is one document with its steps in it, so that each
write is one atomic update, which names the attempt that it belongs to. `w="majority"`, for a single node may lose what it
has acknowledged when it is killed: the server must be a replica set, if only of one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import pymongo
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from lastcall.durable import judge, orders
from lastcall.durable.journal import JournalError, Lost, Terms
from lastcall.durable.leases import LEASE, SOMEBODY, Leases, holder
from lastcall.durable.record import Asked, Record, Response, State, Step

ORPHANS_MAX: Final = 1000
"""Requests without an end that one look sees, the oldest first: more than run at one time."""
SELECT_MS: Final = 5000
"""Milliseconds within which a primary must be there: as long as a client may wait to hear that nothing has begun."""
_BRIEF: Final = {"asked": 0, "response": 0, "steps": 0}

Document = dict[str, Any]


class Mongodb:
    """See `journal.Journal`. The client is made after the last fork, as it has threads."""

    def __init__(
        self, url: str, terms: Terms | None = None, *, lease: float = LEASE, now: Callable[[], float] = time.time
    ) -> None:
        """Raises JournalError where the server cannot be reached, or is no replica set."""
        self._terms = terms or Terms()
        self._now = now
        self._lease_ms = int(lease * 1000)
        self.holder = holder()
        self._client: pymongo.MongoClient[Document] = pymongo.MongoClient(
            url, w="majority", journal=True, serverSelectionTimeoutMS=SELECT_MS, appname="lastcall"
        )
        base = self._client.get_default_database("lastcall")
        self._requests = base.get_collection("lastcall_requests", read_concern=ReadConcern("majority"))
        self._claims = base["lastcall_claims"]
        try:
            self._prepare()
        except JournalError:
            self._client.close()
            raise
        self._leases = Leases(
            self.holder, lease, take=self._take, steal=self._steal, renew=self._renew, give=self._give
        )

    def _prepare(self) -> None:
        with _translated():
            if "setName" not in self._client.admin.command("hello"):
                raise JournalError("the journal: this MongoDB is no replica set, and may lose what it has acknowledged")
            self._requests.create_index("id", unique=True)
            self._requests.create_index("state", partialFilterExpression={"state": {"$in": [1, 3]}}, name="unfinished")

    # --- Claims -----------------------------------------------------------------------

    def claim(self, key: str, patience: float) -> bool:
        return self._leases.claim(key, patience)

    def release(self, key: str) -> None:
        self._leases.release(key)

    def _mine(self) -> list[Mapping[str, Any]]:
        until = {"$add": ["$$NOW", self._lease_ms]}  # by the server's clock
        return [{"$set": {"holder": {"$literal": self.holder}, "until": until}}]

    def _take(self, key: str) -> str | None:
        (mine,) = self._mine()
        ours = {"$eq": ["$holder", {"$literal": self.holder}]}  # one that could not be given up: the server was away
        ended = {"$or": [{"$eq": [{"$type": "$until"}, "missing"]}, {"$lt": ["$until", "$$NOW"]}, ours]}
        if_ended = {name: {"$cond": [ended, value, f"${name}"]} for name, value in mine["$set"].items()}
        with _translated():
            try:
                found = self._claims.find_one_and_update(
                    {"_id": key}, [{"$set": if_ended}], upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:
                return SOMEBODY  # who was faster, and will be found there
        assert found is not None  # it was put there just now
        return None if found["holder"] == self.holder else str(found["holder"])

    def _steal(self, key: str, other: str) -> bool:
        with _translated():
            return self._claims.update_one({"_id": key, "holder": other}, self._mine()).matched_count == 1

    def _renew(self, keys: list[str]) -> None:
        with _translated():
            self._claims.update_many({"_id": {"$in": keys}, "holder": self.holder}, self._mine())

    def _give(self, key: str) -> None:
        with _translated():
            self._claims.delete_one({"_id": key, "holder": self.holder})

    # --- Reading ----------------------------------------------------------------------

    def find(self, key: str) -> Record | None:
        with _translated():
            found = self._requests.find_one({"_id": key})
        return None if found is None else _record(found)

    def orphans(self) -> Sequence[str]:
        with _translated():
            found = self._requests.find({"state": 1}, {"_id": 1}).sort("begun", pymongo.ASCENDING).limit(ORPHANS_MAX)
            keys = [str(each["_id"]) for each in found]
            look: list[Mapping[str, Any]] = [
                {"$match": {"_id": {"$in": keys}}},
                {"$project": {"holder": 1, "ended": {"$lt": ["$until", "$$NOW"]}}},
            ]
            claims = {each["_id"]: each for each in self._claims.aggregate(look)} if keys else {}
        nobody = {"holder": SOMEBODY, "ended": True}
        others = {key: claims.get(key, nobody) for key in keys}
        return [key for key, its in others.items() if self._leases.is_left(key, its["holder"], ended=its["ended"])]

    def listing(self, state: State | None = None, limit: int = 1000) -> Sequence[Record]:
        where = {} if state is None else {"state": int(state)}
        with _translated():
            found = self._requests.find(where, _BRIEF).sort("begun", pymongo.DESCENDING).limit(limit)
            return [_record(each) for each in found]

    def show(self, identity: str) -> Record | None:
        with _translated():
            found = list(self._requests.find({"id": {"$gte": identity, "$lt": identity + "\U0010ffff"}}).limit(10))
        if len(found) > 1:
            raise JournalError(f"{identity}: there are several: {', '.join(sorted(each['id'] for each in found))}")
        return _record(found[0]) if found else None

    # --- Writing ----------------------------------------------------------------------

    def begin(self, record: Record) -> None:
        with _translated():
            try:
                self._requests.insert_one(_document(record))
            except DuplicateKeyError:
                raise _lost() from None

    def adopt(self, record: Record) -> None:
        fields = {"attempt": record.attempt, "owner": record.owner, "changed": record.changed}
        self._update({"_id": record.key, "attempt": record.attempt - 1}, {"$set": fields})

    def note(self, record: Record, step: Step) -> None:
        self._update(_running(record), {"$set": {f"steps.{step.seq}": msgspec.msgpack.encode(step)}})

    def erase(self, record: Record, step: Step) -> None:
        self._update(_running(record), {"$unset": {f"steps.{step.seq}": ""}})

    def end(self, record: Record, state: State, *, response: Response | None = None, why: str = "") -> None:
        fields: Document = {"state": int(state), "why": why, "changed": self._now()}
        fields["response"] = None if response is None else msgspec.msgpack.encode(response)
        if state is not State.PARKED:
            fields["asked"] = None
        where = {"_id": record.key, "attempt": record.attempt, "state": {"$in": [1, 3]}}
        self._update(where, {"$set": fields})

    def forget(self, record: Record) -> None:
        with _translated():
            self._requests.delete_one(_running(record))

    def revive(self, record: Record, steps: Sequence[Step]) -> None:
        fresh = judge.revived(record, steps, self._now())
        fields = {"state": 1, "why": "", "changed": fresh.changed, "attempt": fresh.attempt, "steps": _steps(steps)}
        self._update({"_id": record.key, "attempt": record.attempt, "state": 3}, {"$set": fields})

    def _update(self, where: Document, update: Document) -> None:
        with _translated():
            if self._requests.update_one(where, update).matched_count != 1:
                raise _lost()

    def tidy(self) -> None:
        with _translated():
            self._requests.delete_many({"state": {"$in": [2, 4]}, "changed": {"$lt": self._now() - self._terms.keep}})
            self._claims.delete_many({"$expr": {"$lt": ["$until", {"$subtract": ["$$NOW", 3_600_000]}]}})

    def order(self, verb: str, identity: str, result: bytes | None = None) -> str:
        return orders.at_once(self, orders.Order(verb, identity, result))

    def close(self) -> None:
        self._leases.close()
        self._client.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DuplicateKeyError:
        raise
    except PyMongoError as error:
        raise JournalError(f"the journal: {str(error).partition(', Timeout:')[0]}") from error


def _lost() -> Lost:
    return Lost("the journal: the request was taken over by somebody else")


def _running(record: Record) -> Document:
    return {"_id": record.key, "attempt": record.attempt, "state": 1}


def _steps(steps: Sequence[Step]) -> dict[str, bytes]:
    return {str(step.seq): msgspec.msgpack.encode(step) for step in steps}


def _document(record: Record) -> Document:
    return {
        "_id": record.key, "id": record.id, "fingerprint": record.fingerprint, "method": record.method,
        "target": record.target, "begun": record.begun, "changed": record.changed, "owner": record.owner,
        "attempt": record.attempt, "state": int(record.state), "why": record.why,
        "asked": None if record.asked is None else msgspec.msgpack.encode(record.asked), "response": None,
        "steps": _steps(record.steps),
    }  # fmt: skip


def _record(found: Document) -> Record:
    steps = [msgspec.msgpack.decode(step, type=Step) for step in found.get("steps", {}).values()]
    asked, response = found.get("asked"), found.get("response")
    return Record(
        found["_id"], found["id"], found["fingerprint"], found["method"], found["target"], found["begun"],
        found["changed"], found["owner"], found["attempt"], State(found["state"]), found["why"],
        msgspec.msgpack.decode(asked, type=Asked) if asked else None,
        msgspec.msgpack.decode(response, type=Response) if response else None,
        tuple(sorted(steps, key=lambda step: step.seq)),
    )  # fmt: skip
