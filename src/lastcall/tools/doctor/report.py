"""A judgement in words, as JSON, and as SARIF 2.1.0. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from urllib.parse import quote

from lastcall import __version__
from lastcall.tools.doctor.facts import Facts, Trouble
from lastcall.tools.doctor.judge import Judgement
from lastcall.tools.doctor.rules.catalogue import RULES
from lastcall.tools.doctor.verdicts import Rule, Severity, Told
from lastcall.tools.readers.text import Spot, redacted
from lastcall.tools.report import printable

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
QUOTE_MAX = 160
"""Characters of a line that are quoted."""

UNCLEAR_SHOWN = 20
"""Files that were not understood in full and are listed for people; JSON and SARIF have all."""


def shown(path: str, *, host: bool) -> str:
    """A path for people: absolute where the root is this host's."""
    return f"/{path}" if host else path


def _at(spot: Spot, *, host: bool) -> str:
    return shown(spot.file, host=host) + (f":{spot.line}" if spot.line else "")


def quoted(facts: Facts, spot: Spot) -> str:
    """The line at a place, fit for a terminal, without passwords."""
    line = redacted(facts.line(spot).strip()[: QUOTE_MAX * 10])
    return printable(line if len(line) <= QUOTE_MAX else line[:QUOTE_MAX] + " ...")


# --- For people --------------------------------------------------------------


def text(facts: Facts, judgement: Judgement, *, host: bool) -> Iterator[str]:
    """Lines: by rule, the worst first; each finding with its place, its line, and how it came about."""
    for rule, group in groupby(judgement.told, key=lambda one: one.rule):
        yield f"{rule.severity.value}  {rule.id}  {rule.title}"
        for one in group:
            yield from _finding(facts, one, host=host)
        yield f"  fix: {rule.fix}"
        yield ""
    yield from _unclear(judgement.unclear, host=host)
    yield summary(facts, judgement)


def _finding(facts: Facts, one: Told, *, host: bool) -> Iterator[str]:
    finding = one.finding
    yield f"  {_at(finding.spot, host=host)}: {printable(finding.text)}"
    if line := quoted(facts, finding.spot):
        yield f"      | {line}"
    for step in finding.steps:
        yield f"      <- {_at(step.spot, host=host)}: {printable(redacted(step.text))}"


def _unclear(unclear: tuple[Trouble, ...], *, host: bool) -> Iterator[str]:
    files = [list(group) for _, group in groupby(unclear, key=lambda trouble: trouble.path)]
    if files:
        yield "not read, or not understood:"
        for group in files[:UNCLEAR_SHOWN]:
            first = group[0]
            more = f" (and {len(group) - 1} more in this file)" if len(group) > 1 else ""
            yield f"  {_at(Spot(first.path or '.', first.line), host=host)}: {printable(first.why)}{more}"
        if len(files) > UNCLEAR_SHOWN:
            yield f"  and {len(files) - UNCLEAR_SHOWN} files more: --json has all of them"
        yield ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def summary(facts: Facts, judgement: Judgement) -> str:
    """The last line."""
    found = Counter(one.rule.severity for one in judgement.told)
    counts = [_count(found[severity], severity.value) for severity in Severity if found[severity]]
    said = ", ".join(counts) or "nothing found"
    waved = f", {judgement.ignored} ignored" if judgement.ignored else ""
    unclear = f", {_count(len(judgement.unclear), 'place')} not understood" if judgement.unclear else ""
    return f"{said}{waved} in {_count(len(facts.files), 'file')}{unclear}"


def explained(rule: Rule) -> Iterator[str]:
    """All that is known about a rule."""
    yield f"{rule.id} ({rule.severity.value}): {rule.title}"
    for head, body in (
        ("why", rule.why), ("not", rule.unless), ("verify", rule.verify), ("fix", rule.fix), ("source", rule.source),
    ):  # fmt: skip
        yield f"\n{head}:"
        yield f"    {body}"


# --- For programs ------------------------------------------------------------


def as_json(facts: Facts, judgement: Judgement, *, host: bool) -> str:
    """One object; its fields are an interface."""
    found = [
        {
            "rule": one.rule.id,
            "severity": one.rule.severity.value,
            "title": one.rule.title,
            "file": shown(one.finding.spot.file, host=host),
            "line": one.finding.spot.line,
            "quote": quoted(facts, one.finding.spot),
            "text": one.finding.text,
            "why": one.rule.why,
            "fix": one.rule.fix,
            "patch": bool(one.finding.edits),
            "steps": [
                {"file": shown(step.spot.file, host=host), "line": step.spot.line, "text": redacted(step.text)}
                for step in one.finding.steps
            ],
        }
        for one in judgement.told
    ]
    unclear = [{"file": shown(t.path, host=host), "line": t.line, "why": t.why} for t in judgement.unclear]
    return json.dumps(
        {"findings": found, "not_understood": unclear, "ignored": judgement.ignored, "files": len(facts.files)},
        indent=2,
    )


def sarif(facts: Facts, judgement: Judgement) -> str:
    """SARIF 2.1.0, with paths relative to the root."""
    order = {rule: index for index, rule in enumerate(RULES)}
    results = [
        {
            "ruleId": one.rule.id,
            "ruleIndex": order[one.rule.id],
            "level": one.rule.severity.value,
            "message": {"text": one.finding.text},
            "locations": [_location(facts, one.finding.spot)],
            "relatedLocations": [
                {**_location(facts, step.spot), "message": {"text": redacted(step.text)}} for step in one.finding.steps
            ],
            "partialFingerprints": {
                "lastcall/v1": f"{one.rule.id}:{one.finding.spot.file}:{quoted(facts, one.finding.spot)}"
            },
        }
        for one in judgement.told
    ]
    notes = [
        {
            "level": "note",
            "message": {"text": trouble.why},
            "locations": [_location(facts, Spot(trouble.path or ".", trouble.line))],
        }
        for trouble in judgement.unclear
    ]
    driver = {
        "name": "lastcall doctor",
        "version": __version__,
        "rules": [_descriptor(rule) for rule in RULES.values()],
    }
    run = {
        "tool": {"driver": driver},
        "results": results,
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _location(facts: Facts, spot: Spot) -> dict[str, object]:
    place: dict[str, object] = {"artifactLocation": {"uri": quote(spot.file), "uriBaseId": "%SRCROOT%"}}
    if spot.line:
        place["region"] = {"startLine": spot.line, "snippet": {"text": quoted(facts, spot)}}
    return {"physicalLocation": place}


def _descriptor(rule: Rule) -> dict[str, object]:
    told = "\n\n".join((
        rule.why, f"It does not apply: {rule.unless}", f"Verify: {rule.verify}", f"Fix: {rule.fix}",
        f"Source: {rule.source}",
    ))  # fmt: skip
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": told},
        "defaultConfiguration": {"level": rule.severity.value},
    }
