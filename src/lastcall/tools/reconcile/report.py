"""The answer for people, as lines of text. Nothing that a ledger holds can steer the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lastcall.tools.reconcile.compare import OFF, Verdict
from lastcall.tools.reconcile.repair import Outcome
from lastcall.tools.reconcile.result import AGREE, NONE, Finding, Repair, Repairs, SideSummary, Summary
from lastcall.tools.report import printable

LABEL = 14


def words(summary: Summary) -> Mapping[str, str]:
    """What each kind of finding means, with the names of these two ledgers."""
    left, right = summary.left.label, summary.right.label
    return {
        Verdict.MATCHED.value: "in both, and they agree",
        Verdict.ONLY_LEFT.value: f"in {left}, not in {right}",
        Verdict.ONLY_RIGHT.value: f"in {right}, not in {left}",
        Verdict.DIFFERENT.value: "in both, and they do not agree",
        Verdict.DUPLICATED.value: "in both, and more than once in one of them",
        Verdict.PENDING.value: f"younger than {summary.grace}: they may still be on their way",
        Verdict.OUTSIDE.value: "outside the time that was asked for",
    }


def title(verdict: str) -> str:
    """`only left` of `only_left`."""
    return verdict.replace("_", " ")


def sentence(summary: Summary) -> str:
    """The verdict, in one."""
    if summary.verdict == NONE:
        return f"No verdict: {summary.error}"
    if summary.verdict == AGREE:
        pending = summary.counts[Verdict.PENDING.value]
        waiting = _waiting(summary.repairs)
        return "The ledgers agree." + (f" {pending:,} orders are too young to tell." if pending else "") + waiting
    parts = [f"{summary.off:,} {'order' if summary.off == 1 else 'orders'}"] if summary.off else []
    if summary.broken:
        parts.append(f"{summary.broken:,} {'row' if summary.broken == 1 else 'rows'} that cannot be used")
    return f"THE LEDGERS DO NOT AGREE: {', '.join(parts)}."


def _waiting(repairs: Repairs | None) -> str:
    """Repairs that somebody has to look at though the ledgers agree."""
    words = (Outcome.PARKED.value, Outcome.UNFINISHED.value)
    parts = [f"{count:,} {word}" for word in words if repairs and (count := repairs.outcomes.get(word))]
    return f" Of the repairs {', '.join(parts)}." if parts else ""


def repairs_in_words(repairs: Repairs) -> str:
    """What has become of all of them, in one sentence."""
    if repairs.refused:
        return f"Nothing is repaired: {repairs.refused}."
    counts = ", ".join(f"{count:,} {word}" for word, count in repairs.outcomes.items()) or "nothing to repair"
    return f"{counts}." if repairs.applied else f"{counts}. Nothing was changed (--apply)."


def repair_in_words(one: Repair) -> str:
    """What has become of one order."""
    when = f" ({one.changed[:10]} {one.changed[11:19]} UTC)" if one.outcome == Outcome.BEFORE.value else ""
    resumed = ", after an earlier run was cut" if one.resumed else ""
    return f"{one.outcome}{when}{resumed}" + (f": {one.text}" if one.text else "")


def changes(summary: Summary) -> str:
    """What is different from the last run; empty without a state file."""
    if summary.new is None:
        return ""
    text = f"Since the last run: {summary.new:,} new, {summary.resolved:,} resolved"
    return text + (f", {summary.gone:,} no longer in either ledger." if summary.gone else ".")


def lines(summary: Summary, shown: int) -> Iterator[str]:
    """The whole report, with so many findings of each kind."""
    for name, side in (("left", summary.left), ("right", summary.right)):
        broken = f", {side.broken:,} cannot be used" if side.broken else ""
        yield printable(f"{name:<{LABEL}}{side.label}: {side.rows:,} {'row' if side.rows == 1 else 'rows'}{broken}")
    yield ""
    meaning = words(summary)
    for verdict in Verdict:
        count = summary.counts[verdict.value]
        if count or verdict in (Verdict.MATCHED, *OFF):
            yield printable(f"{title(verdict.value):<{LABEL}}{count:>12,}  {_about(summary, verdict, meaning)}")
    for verdict in (*OFF, Verdict.PENDING):
        found = [one for one in summary.findings if one.verdict == verdict.value]
        if found:
            yield from _section(summary, verdict, found[:shown])
    for side in (summary.left, summary.right):
        yield from _broken(side, shown)
    if summary.repairs:
        yield from _repairs(summary.repairs, shown)
    yield ""
    yield from filter(None, (changes(summary), f"The evidence: {summary.spool}" if summary.spool else ""))
    yield sentence(summary)


def _about(summary: Summary, verdict: Verdict, meaning: Mapping[str, str]) -> str:
    text = meaning[verdict.value]
    if verdict is Verdict.DIFFERENT and summary.differing:
        text += f" ({', '.join(f'{name} {count:,}' for name, count in summary.differing.items())})"
    return text


def _section(summary: Summary, verdict: Verdict, found: list[Finding]) -> Iterator[str]:
    yield ""
    yield f"{title(verdict.value)}:"
    for one in found:
        yield printable(f"  {' '.join(one.key.values())}{_facts(summary, one)}")
        if one.explained:
            yield printable(f"      {one.explained.confidence}: {one.explained.text}")
    rest = summary.counts[verdict.value] - len(found)
    if rest > 0:
        yield f"  and {rest:,} more"


def _facts(summary: Summary, one: Finding) -> str:
    """What else is known about one order, after its key."""
    facts = [f"  {one.at} UTC"] if one.at else []
    facts += [f"{name} {_value(one.left, name)} | {_value(one.right, name)}" for name in one.columns]
    for side, times, where in (
        (summary.left, one.left_times, one.left_lines),
        (summary.right, one.right_times, one.right_lines),
    ):
        if times > 1:
            facts.append(f"{times} times in {side.label}")
        if where:
            facts.append(f"{side.label}:{'..'.join(map(str, where))}")
    if one.new:
        facts.append("new")
    elif one.since:
        facts.append(f"known since {one.since}")
    return "  " + ", ".join(fact.strip() for fact in facts) if facts else ""


def _value(values: Mapping[str, str | None] | None, name: str) -> str:
    value = (values or {}).get(name)
    return "null" if value is None else value


def _broken(side: SideSummary, shown: int) -> Iterator[str]:
    if not side.broken:
        return
    yield ""
    yield printable(f"cannot be used, in {side.label}:")
    for row in side.broken_rows[:shown]:
        yield printable(f"  {side.counted or 'row'} {row.line}: {row.why}: {row.text}")
    if side.broken > shown:
        yield f"  and {side.broken - min(shown, len(side.broken_rows)):,} more"


def _repairs(repairs: Repairs, shown: int) -> Iterator[str]:
    yield ""
    yield printable(f"repairs, by {repairs.function}:")
    for one in repairs.each[:shown]:
        verdict = f"  {title(one.verdict)}," if one.verdict else ""
        yield printable(f"  {' '.join(one.key.values())}{verdict}  {repair_in_words(one)}")
        if one.journal and one.outcome != Outcome.REPAIRED.value:
            yield printable(f"      lastcall journal show {one.journal} --journal {repairs.journal}")
        elif one.explained:
            yield printable(f"      {one.explained.confidence}: {one.explained.text}")
    if len(repairs.each) > shown:
        yield f"  and {len(repairs.each) - shown:,} more"
    yield f"  {repairs_in_words(repairs)}"
