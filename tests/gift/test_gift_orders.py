"""Our ledger: the same promises from SQLite, from MongoDB, and from a file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from examples.gift.orders import MongoOrders, Order, Orders, open_orders

from support.mongod import Mongod
from support.processes import ROOT

ROSE = Order("a-1", "rose", "ann", 1, 1.5)


@pytest.fixture(params=["sqlite", "file", pytest.param("mongodb", marks=pytest.mark.xdist_group("mongod"))])
def orders(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Orders]:
    """An empty store of each kind."""
    if request.param != "mongodb":
        with closing(open_orders(f"{request.param}:{tmp_path}/orders")) as store:
            yield store
        return
    mongod: Mongod = request.getfixturevalue("mongod")
    with closing(open_orders(mongod.uri, "test_gift_orders")) as store:
        assert isinstance(store, MongoOrders)
        store.drop()
        yield store


def test_an_order_is_found_as_it_was_written(orders: Orders) -> None:
    """Every field of it."""
    orders.write(ROSE)
    assert orders.find("a-1") == ROSE
    assert orders.find("a-2") is None


def test_writing_again_changes_nothing(orders: Orders) -> None:
    """The first one stands."""
    orders.write(ROSE)
    orders.write(Order("a-1", "castle", "bob", 2, 9.0))
    assert orders.find("a-1") == ROSE
    assert list(orders.ids()) == ["a-1"]


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_workers_that_write_to_one_file_lose_nothing(tmp_path: Path, kind: str) -> None:
    """Four processes, fifty orders each, at the same time."""
    where = f"{kind}:{tmp_path}/orders"
    program = (
        "import sys; from examples.gift.orders import Order, open_orders; orders = open_orders(sys.argv[1]);"
        "[orders.write(Order(f'{sys.argv[2]}-{n}', 'rose', 'ann', n, 0.0)) for n in range(50)]"
    )
    workers = [subprocess.Popen([sys.executable, "-c", program, where, str(n)], cwd=ROOT) for n in range(4)]
    assert [worker.wait() for worker in workers] == [0, 0, 0, 0]
    with closing(open_orders(where)) as orders:
        assert len(list(orders.ids())) == 200


@pytest.mark.parametrize("where", ["", "sqlite:", "orders.db", "postgresql://here"])
def test_what_names_no_store_is_refused(where: str) -> None:
    """In words."""
    with pytest.raises(ValueError, match="names no store"):
        open_orders(where)
