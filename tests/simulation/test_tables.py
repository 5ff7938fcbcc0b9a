"""docs/LIFECYCLE.md says what the machine does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulation.tables import TABLES

PAGE = (Path(__file__).parents[2] / "docs" / "LIFECYCLE.md").read_text()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_the_page_is_what_the_machine_does(name: str) -> None:
    """To renew it: python -m simulation.tables."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)
    assert found is not None
    assert found[1] == TABLES[name]()
