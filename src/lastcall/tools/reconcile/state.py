"""The state file: which orders were off in the last run, so that this one can say what is new and what was resolved.

JSON lines, which people can read: first what was compared, then one line for each order that is off. It is replaced as a
whole, and only when everybody who should hear of this run has heard.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lastcall.tools.reconcile.compare import OFF, VERDICT
from lastcall.tools.reconcile.duck import Duck
from lastcall.tools.reconcile.question import NoVerdict, Question, literal, quoted
from lastcall.tools.reconcile.question import file as question_file

SHOWN = 100
_OFF = ", ".join(f"'{one.value}'" for one in OFF)


@dataclass(frozen=True, slots=True)
class Change:
    """What is different from the last run."""

    new: int
    resolved: int
    gone: int
    resolved_keys: list[str]


def subject(question: Question) -> dict[str, object]:
    """What a state is the state of."""
    return {
        "left": question.left.place.label,
        "right": question.right.place.label,
        "key": [column.name for column in question.keys],
        "compared": [column.name for column in question.compared],
    }


def load(duck: Duck, question: Question, file: Path) -> None:
    """Make the table `known` of it, empty where there is no file yet. Raises NoVerdict."""
    duck.run("CREATE TABLE known (key VARCHAR, verdict VARCHAR, since VARCHAR)")
    try:
        with file.open("rb") as lines:
            head = lines.readline()
    except FileNotFoundError:
        return
    except OSError as error:
        raise NoVerdict(f"{file}: {error.strerror}") from None
    try:
        of = msgspec.json.decode(head, type=dict[str, object])["subject"]
    except (msgspec.DecodeError, KeyError):
        raise NoVerdict(f"{file} is no state of lastcall reconcile") from None
    if of != subject(question):
        raise NoVerdict(f"{file} is the state of another comparison: {json.dumps(of)}; give each its own file")
    columns = "{subject: 'JSON', key: 'VARCHAR', verdict: 'VARCHAR', since: 'VARCHAR'}"
    source = f"read_json({question_file(file)}, format = 'newline_delimited', columns = {columns})"
    duck.run(f"INSERT INTO known SELECT key, verdict, since FROM {source} WHERE key IS NOT NULL")


def change(duck: Duck, question: Question) -> Change:
    """Compare `judged` with `known`, which keeps those of which nothing is known today."""
    key = _key(question)
    duck.run(
        f"CREATE TEMP TABLE today AS SELECT {key} AS key, {VERDICT} AS verdict FROM judged WHERE {VERDICT} IN ({_OFF})"
    )
    ((new,),) = duck.run("SELECT count(*) FROM today ANTI JOIN known USING (key, verdict)")
    # an order is resolved when it is seen to agree, not when nobody looks at it any more
    seen = f"SELECT {key} AS key, {VERDICT} AS now FROM judged WHERE {key} IN (SELECT key FROM known)"
    duck.run(f"CREATE TEMP TABLE settled AS SELECT DISTINCT known.key, now FROM known LEFT JOIN ({seen}) USING (key)")
    ((resolved, gone),) = duck.run(
        "SELECT count(*) FILTER (now = 'matched'), count(*) FILTER (now IS NULL) FROM settled"
    )
    keys = duck.run(f"SELECT key FROM settled WHERE now = 'matched' ORDER BY key LIMIT {SHOWN}")
    return Change(new, resolved, gone, [" ".join(json.loads(one)) for (one,) in keys])


def known(duck: Duck) -> dict[str, str]:
    """Since when each order of today is known that the last run knew as well."""
    rows = duck.run("SELECT verdict || ' ' || key, since FROM today JOIN known USING (key, verdict)")
    return dict(rows)


def save(duck: Duck, question: Question, file: Path, at: str) -> None:
    """Replace the file by what is off now, and what was and could not be looked at today. Raises NoVerdict."""
    new, rows = file.with_name(f"{file.name}.new"), file.with_name(f"{file.name}.rows")
    select = (
        f"SELECT key, verdict, coalesce(since, {literal(at)}) AS since FROM today LEFT JOIN known USING (key, verdict) "
        "UNION ALL SELECT known.key, verdict, since FROM known JOIN settled USING (key) WHERE now IN ('outside', 'pending') "
        "ORDER BY since, key"
    )
    try:
        duck.run(f"COPY ({select}) TO {literal(str(rows))} (FORMAT json)")
        with new.open("wb") as out, rows.open("rb") as found:
            out.write(msgspec.json.encode({"subject": subject(question), "at": at}) + b"\n")
            shutil.copyfileobj(found, out)
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)
    except OSError as error:
        raise NoVerdict(f"{file}: the state cannot be written: {error.strerror}") from None
    finally:
        rows.unlink(missing_ok=True)
        new.unlink(missing_ok=True)


def _key(question: Question) -> str:
    values = ", ".join(f"CAST({quoted(column.name)} AS VARCHAR)" for column in question.keys)
    return f"CAST(to_json([{values}]) AS VARCHAR)"
