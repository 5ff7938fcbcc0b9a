"""The rules in docs/DOCTOR.md, made from the catalogue.

    python -m lastcall.tools.doctor.document docs/DOCTOR.md

writes them anew between their two marks; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from lastcall.tools.doctor.rules.catalogue import GROUPS
from lastcall.tools.doctor.verdicts import Rule
from lastcall.tools.readers.servers import EFFECTS, Effect

BEGIN = "<!-- rules: made by `python -m lastcall.tools.doctor.document docs/DOCTOR.md` -->"
END = "<!-- rules: end -->"

_SHORT = {Effect.CUT: "**cuts**", Effect.DRAIN: "drains", Effect.RELOAD: "reloads", Effect.REOPEN: "reopens logs"}
_SIGNALS = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH")


def rules() -> str:
    """The table of signals, the list of rules, and a section for each."""
    return "\n".join(
        (*_signals(), *_list(), *(line for _, group in GROUPS for rule in group for line in _section(rule)))
    )


def _signals() -> Iterator[str]:
    yield "### What a signal to the master does"
    yield ""
    yield f"| | {' | '.join(_SIGNALS)} |"
    yield f"|---|{'---|' * len(_SIGNALS)}"
    for server, effects in EFFECTS.items():
        yield f"| {server} | {' | '.join(_SHORT.get(effects.get(signal, Effect.OTHER), '') for signal in _SIGNALS)} |"
    yield ""


def _list() -> Iterator[str]:
    for title, group in GROUPS:
        yield f"### {title}"
        yield ""
        yield "| | severity | |"
        yield "|---|---|---|"
        for rule in group:
            yield f"| [{rule.id}](#{rule.id.lower()}) | {rule.severity.value} | {rule.title} |"
        yield ""


def _section(rule: Rule) -> Iterator[str]:
    yield f"#### {rule.id}"
    yield ""
    yield f"**{rule.title}** ({rule.severity.value})"
    yield ""
    yield rule.why
    yield ""
    for head, body in (
        ("It does not apply", rule.unless), ("Verify", rule.verify), ("Fix", rule.fix), ("Source", rule.source),
    ):  # fmt: skip
        yield f"* {head}: {body}"
    yield ""


def renewed(text: str) -> str:
    """The document with its rules as they should be now."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{rules()}\n{END}{after}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(renewed(document.read_text()))
