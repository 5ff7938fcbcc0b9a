"""The journal in a directory: whose file is whose, and what is done when a file, the disk or a process goes wrong."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lastcall import durable
from lastcall.durable import place
from lastcall.durable.engine import Manner
from lastcall.durable.files import read_only
from lastcall.durable.journal import JournalError, Terms
from lastcall.durable.record import State, full_key, number
from lastcall.durable.sqlite import Reader, Sqlite
from lastcall.durable.wsgi import Application, Environ, Start
from support.durable import Remote, World, post

QUICK = Terms(durability="process")


@pytest.fixture
def where(folder: Path) -> Path:
    return folder / "journal"


@contextmanager
def at_work(journal: Sqlite, said: list[str] | None = None) -> Iterator[None]:
    said = [] if said is None else said
    place.use(journal, Manner(wait=0.0, tell=said.append))
    yield
    place.use(None)


def shop(remote: Remote, size: int = 10) -> Application:
    @durable.request(key="order_id")
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        durable.step("present", remote.do, "p", in_doubt="retry")
        start_response("200 OK", [])
        return [b"x" * size]

    return app


def test_a_file_has_one_owner_and_the_next_goes_on_with_it(where: Path) -> None:
    """As many files as there are workers at once."""
    first, second = Sqlite(where, QUICK), Sqlite(where, QUICK)
    assert [journal.path.name for journal in (first, second)] == ["0.db", "1.db"]
    first.close()
    third = Sqlite(where, QUICK)
    assert third.path.name == "0.db"
    second.close()
    third.close()
    assert sorted(path.name for path in where.glob("*.db")) == ["0.db", "1.db"]


def test_what_a_worker_left_in_a_file_that_nobody_has_is_found(where: Path) -> None:
    """After scaling down: whoever is there takes it over, once; what is done stays to be read."""
    remote = Remote()
    app = shop(remote)
    first, second = Sqlite(where, QUICK), Sqlite(where, QUICK)
    with at_work(second):
        assert post(app, {"order_id": "done"}).status == 200
    world = World(lambda: second, lambda journal: journal.close())
    world.workers.append(second)
    remote.die = "before"
    assert world.call(second, app, "left") is None
    remote.die = ""
    assert first.orphans() == []
    first.tidy()
    (key,) = first.orphans()
    assert key.endswith("left")
    assert [answer.status for answer in World(lambda: first, lambda _: None).recover(first, app)] == [200]
    with at_work(first):
        assert post(app, {"order_id": "done"}).status == 200
    assert remote.calls == ["p", "p"]
    first.tidy()
    assert first.orphans() == []
    first.close()


def test_a_claim_is_held_against_other_processes_and_ends_with_them(where: Path) -> None:
    """And a child of the application's does not keep it alive."""
    journal = Sqlite(where, QUICK)
    assert journal.claim("k", 0.0)
    other = Sqlite(where, QUICK)
    assert not other.claim("k", 0.01)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def live() -> None:
        theirs.send("alive")
        theirs.recv()

    child = context.Process(target=live, daemon=True)
    child.start()
    assert ours.recv() == "alive"
    journal.close()
    assert other.claim("k", 0.0)
    ours.send("go")
    child.join()
    assert Sqlite(where, QUICK).path.name == "0.db"
    other.close()


def test_a_full_journal_refuses_before_it_begins(where: Path) -> None:
    """503, nothing is run; what has begun may end, and what is there stays readable; there is room again after a while."""
    now = [1000.0]
    terms = Terms(durability="process", size=64 * 4096, keep=60.0)
    journal = Sqlite(where, terms, now=lambda: now[0])
    remote, said = Remote(), list[str]()
    app = shop(remote, 20_000)
    with at_work(journal, said):
        statuses = [post(app, {"order_id": str(number)}).status for number in range(100)]
        full = statuses.index(503)
        assert set(statuses[:full]) == {200}
        assert statuses[-1] == 503
        assert len(remote.calls) == statuses.count(200)
        assert "the journal is full" in said[0]
        assert post(app, {"order_id": "0"}).status == 200  # the stored response
        now[0] += 61
        journal.tidy()
        assert journal.listing() == []
        assert post(app, {"order_id": "again"}).status == 200
    journal.close()


def test_a_disk_without_room_refuses_before_it_begins(where: Path) -> None:
    """The same, when it is the file that cannot grow."""
    journal = Sqlite(where, QUICK)
    ((pages,),) = journal._db.execute("PRAGMA page_count").fetchall()
    journal._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    remote, said = Remote(), list[str]()
    app = shop(remote, 4000)
    with at_work(journal, said):
        statuses = [post(app, {"order_id": str(number), "more": "x" * 1000}).status for number in range(20)]
        assert 503 in statuses
        assert any("database or disk is full" in line for line in said)
        journal._db.execute("PRAGMA max_page_count = 100000")
        journal.tidy()
        world = World(lambda: journal, lambda _: None)
        world.recover(journal, app)
        assert [record.state for record in journal.listing() if record.state is not State.DONE] == []
        assert len(remote.calls) == len(journal.listing())
    journal.close()


def test_a_damaged_file_is_set_aside_and_what_can_be_read_of_it_is_kept(where: Path) -> None:
    """The log says so; the service goes on."""
    remote, said = Remote(), list[str]()
    app = shop(remote, 5000)
    journal = Sqlite(where, QUICK)
    with at_work(journal):
        for number in range(40):
            post(app, {"order_id": str(number)})
    path = journal.path
    journal.close()
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(os.urandom(4096))
    journal = Sqlite(where, QUICK, tell=said.append)
    assert "is damaged" in said[0]
    assert "there may be others" in said[0] or "all of its requests" in said[0]
    assert len(list(where.glob("0.db.broken-*"))) >= 1
    assert len(journal.listing()) > 0
    with at_work(journal):
        assert post(app, {"order_id": "new"}).status == 200
    journal.close()


def test_a_damaged_file_that_nobody_owns_holds_nothing_up(where: Path) -> None:
    """It is set aside by whoever tidies up, who has what could be read of it; what waits in other files is completed."""
    remote, said = Remote(), list[str]()
    app = shop(remote, 5000)
    first, second, third = Sqlite(where, QUICK, tell=said.append), Sqlite(where, QUICK), Sqlite(where, QUICK)
    with at_work(second):
        for number in range(40):
            post(app, {"order_id": str(number)})
    damaged = second.path
    second.close()
    with damaged.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(os.urandom(4096))
    world = World(lambda: third, lambda journal: journal.close())
    world.workers.append(third)
    remote.die = "before"
    assert world.call(third, app, "left") is None
    remote.die = ""
    first._look_around()
    assert [answer.status for answer in World(lambda: first, lambda _: None).recover(first, app)] == [200]
    assert str(damaged) in said[0]
    assert "is damaged" in said[0]
    assert not damaged.exists()
    assert len(first.listing()) > 1
    first.close()


def test_a_file_that_is_no_database_is_set_aside(where: Path) -> None:
    """Whatever it is, it is not thrown away."""
    where.mkdir()
    (where / "0.db").write_bytes(b"no database " * 1000)
    said: list[str] = []
    journal = Sqlite(where, QUICK, tell=said.append)
    assert "some of its requests" in said[0]
    (kept,) = where.glob("0.db.broken-*")
    assert kept.read_bytes() == b"no database " * 1000
    journal.close()


def test_what_is_said_to_be_new_is_new(where: Path) -> None:
    """Whatever becomes of the file that says so: while others have it, when it is lost, and when the machine was started."""
    remote = Remote()
    app = shop(remote)
    first, second = Sqlite(where, QUICK), Sqlite(where, QUICK)
    with at_work(first):
        post(app, {"order_id": "1"})
    place = number(full_key("/send", "1"))
    assert second._seen.may_have(place)
    assert not second._seen.may_have(place + 1)
    second.close()
    first.close()
    for harm in (
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"x" * 100),
        lambda path: os.truncate(path, 0),
    ):
        harm(where / "seen")
        journal = Sqlite(where, QUICK)
        assert journal._seen.may_have(place)
        assert not journal._seen.may_have(place + 1)
        with at_work(journal):
            assert post(app, {"order_id": "1"}).status == 200
        journal.close()
    assert remote.calls == ["p"]


def test_where_not_every_key_is_known_none_is_said_to_be_new(where: Path) -> None:
    """A file cannot be read while the map is made: everybody looks everywhere."""
    first = Sqlite(where, QUICK)
    first.close()
    (where / "seen").unlink()
    (where / "7.db").write_bytes(b"no database " * 1000)
    journal = Sqlite(where, QUICK)
    assert journal._seen.may_have(17)
    journal.close()


def test_whoever_looks_changes_nothing(where: Path) -> None:
    """A reader beside a living worker, of one that was killed, and of a directory without any."""
    journal = Sqlite(where, QUICK)
    with at_work(journal):
        post(shop(Remote()), {"order_id": "1"})
    before = (where / "0.db-wal").read_bytes()
    reader = Reader(where)
    (record,) = reader.listing()
    assert reader.show(record.id) == journal.show(record.id)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._dbs[0].execute("DELETE FROM requests")
    reader.close()
    assert (where / "0.db-wal").read_bytes() == before
    journal.close()
    with pytest.raises(JournalError, match="no such directory"):
        Reader(where / "nothing")


def test_the_journal_is_its_owner_s_alone(where: Path) -> None:
    """Requests of customers are in it."""
    journal = Sqlite(where, QUICK)
    assert where.stat().st_mode & 0o777 == 0o700
    journal.close()


def test_a_journal_is_worked_into_its_file(where: Path) -> None:
    """Its log does not grow with the requests, but for the time in which somebody reads what was before; nor does anybody
    who reads see less for it.
    """
    journal, other = Sqlite(where, QUICK), Sqlite(where, QUICK)
    journal._pin.limit = 64 << 10
    log = where / "0.db-wal"
    app = shop(Remote(), 10)

    def grown(begin: int, end: int) -> int:
        with at_work(journal):
            for number in range(begin, end):
                assert post(app, {"order_id": str(number)}).status == 200
        return log.stat().st_size

    assert grown(0, 300) < 200_000
    with closing(read_only(where / "0.db")) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM requests").fetchone() == (300,)
        assert grown(300, 500) > 400_000
        assert len(other.listing()) == 500
        assert reader.execute("SELECT count(*) FROM requests").fetchone() == (300,)
        reader.execute("COMMIT")
    largest = grown(500, 600)
    assert grown(600, 900) == largest
    journal.close()
    assert len(other.listing()) == 900
    other.close()
