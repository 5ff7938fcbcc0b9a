"""When a worker has reached its age."""

from __future__ import annotations

from lastcall.runtime.recycling import Ages


def test_each_is_named_when_its_time_has_come() -> None:
    """With how long it has served; who has no limit, or is gone, never."""
    ages = Ages()
    ages.serves(1, 100.0, 60.0)
    ages.serves(2, 101.0, 1.25)
    ages.serves(3, 101.0, 0)
    ages.serves(4, 101.0, 1.0)
    ages.forget(4)
    assert ages.next_due() == 102.25
    assert ages.due(102.0) == []
    assert ages.due(102.25) == [(2, "has served for 1.25s")]
    assert ages.due(103.0) == []
    assert ages.due(160.0) == [(1, "has served for 1m")]
    assert ages.next_due() is None
