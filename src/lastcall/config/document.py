"""The table of all settings in docs/CONFIGURATION.md, made from the settings.

    python -m lastcall.config.document docs/CONFIGURATION.md

writes it anew between its two marks; a test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lastcall.core import values
from lastcall.core.settings import SPECS, Group, Kind, Spec

BEGIN = "<!-- settings: made by `python -m lastcall.config.document docs/CONFIGURATION.md` -->"
END = "<!-- settings: end -->"


def table() -> str:
    """All settings, a section for each group."""
    parts: list[str] = []
    for group in Group:
        rows = [_row(spec) for spec in SPECS.values() if spec.group is group]
        head = ["| option, key | value | default | |", "|---|---|---|---|"]
        parts += [f"### {group.value}", "", *head, *rows, ""]
    return "\n".join(parts)


def _row(spec: Spec) -> str:
    option = "`APP`, `app`" if spec.name == "app" else f"`{spec.option}`<br>`{spec.name}`"
    kind = " \\| ".join(f"`{choice}`" for choice in spec.choices) if spec.choices else spec.kind.value
    meaning = f"{spec.doc} {_bounds(spec)}".rstrip()
    return f"| {option} | {kind} | {values.default_words(spec)} | {meaning.replace('|', chr(92) + '|')} |"


def _bounds(spec: Spec) -> str:
    said = f"0: {spec.zero}. " if spec.zero and spec.default and spec.kind in (Kind.DURATION, Kind.SIZE) else ""
    if spec.least and spec.most != float("inf"):
        low, high = values.show_number(spec, spec.least), values.show_number(spec, spec.most)
        said += f"From {low} to {high}."
    elif spec.least:
        said += f"At least {values.show_number(spec, spec.least)}."
    return said.rstrip()


def renewed(text: str) -> str:
    """The document with its table as it should be now."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(renewed(document.read_text()))
