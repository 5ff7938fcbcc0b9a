"""The reconciliation: compares the platform's presents, our orders, and what the clients were told.

    python -m gift.reconcile --platform http://127.0.0.1:8100 --orders sqlite:orders.db [--seen seen.jsonl]

In 2017 this is what found the damage, days later.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from .load import Seen
from .orders import open_orders

SHOWN = 5
"""Order ids named in the table, for each kind; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that does not agree, as order ids in order; empty everywhere is what one hopes for."""

    half_done: tuple[str, ...] = ()
    unsent: tuple[str, ...] = ()
    sent_twice: tuple[str, ...] = ()
    told_but_missing: tuple[str, ...] = ()
    done_not_told: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def ledgers_agree(self) -> bool:
        """One present for each order, one order for each present, and no yes without both."""
        return not (self.half_done or self.unsent or self.sent_twice or self.told_but_missing)

    @property
    def flawless(self) -> bool:
        """The ledgers agree and every client was told so."""
        return self == Findings()


WORDS: Mapping[str, str] = {
    "half_done": "present sent, no order written",
    "unsent": "order written, no present sent",
    "sent_twice": "present sent more than once",
    "told_but_missing": "client was told yes, not in both ledgers",
    "done_not_told": "in both ledgers, client was not told yes",
    "failed": "in neither ledger, client saw an error",
}
"""What each kind of finding means."""


def reconcile(presents: Iterable[str], orders: Iterable[str], seen: Iterable[Seen]) -> Findings:
    """Compare the order ids of both ledgers with each other, and with what the clients saw."""
    sent, written = Counter(presents), set(orders)
    told = {one.order: one.yes for one in seen}
    both, neither = sent.keys() & written, told.keys() - sent.keys() - written
    yes = {order for order, said_yes in told.items() if said_yes}
    return Findings(
        half_done=tuple(sorted(sent.keys() - written)),
        unsent=tuple(sorted(written - sent.keys())),
        sent_twice=tuple(sorted(order for order, times in sent.items() if times > 1)),
        told_but_missing=tuple(sorted(yes - both)),
        done_not_told=tuple(sorted(both & (told.keys() - yes))),
        failed=tuple(sorted(neither - yes)),
    )


def table(findings: Findings, counts: Mapping[str, int]) -> str:
    """The findings as lines of text: what was counted, then what does not agree."""
    lines = [f"  {what:<44}{count:>6}" for what, count in counts.items()]
    lines.append("  " + "-" * 50)
    for kind in fields(findings):
        ids: tuple[str, ...] = getattr(findings, kind.name)
        named = ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")
        lines.append(f"  {WORDS[kind.name]:<44}{len(ids):>6}  {named}".rstrip())
    return "\n".join(lines)


def verdict(findings: Findings) -> str:
    """One sentence."""
    if findings.flawless:
        return "The ledgers agree, and no client saw an error."
    if findings.ledgers_agree:
        return f"The ledgers agree, but {len(findings.done_not_told + findings.failed)} clients saw an error."
    return "THE LEDGERS DO NOT AGREE."


def ledger(platform: str) -> list[str]:
    """The platform's side, asked for over HTTP."""
    with urllib.request.urlopen(f"{platform}/ledger", timeout=30) as response:  # noqa: S310 (our own URL)
        order_ids: list[str] = json.loads(response.read())["order_ids"]
    return order_ids


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison; 1 when the ledgers disagree or a client saw an error."""
    parser = argparse.ArgumentParser(prog="gift.reconcile", description="Compare the two ledgers.")
    parser.add_argument("--platform", required=True, metavar="URL")
    parser.add_argument("--orders", required=True, metavar="STORE", help="sqlite:PATH or mongodb://...")
    parser.add_argument("--seen", type=Path, metavar="FILE", help="what gift.load wrote down")
    options = parser.parse_args(arguments)
    orders = open_orders(options.orders)
    presents, written = ledger(options.platform), list(orders.ids())
    orders.close()
    seen = [Seen(**json.loads(line)) for line in options.seen.read_text().splitlines()] if options.seen else []
    findings = reconcile(presents, written, seen)
    counts = {"presents sent": len(presents), "orders written": len(written), "answers seen": len(seen)}
    print(table(findings, counts), verdict(findings), sep="\n\n")
    return 0 if findings.flawless else 1


if __name__ == "__main__":
    sys.exit(main())
