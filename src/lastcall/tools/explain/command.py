"""`lastcall explain`: which restart cut which request, and who ordered it, from logs that are there. Changes nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from lastcall.core.mistakes import Mistake
from lastcall.tools.explain import answer, clock, page, text
from lastcall.tools.explain.investigate import Question, investigate
from lastcall.tools.explain.progress import Progress

FOUND = 1
"""Exit code: an incident was found."""


@click.command(
    epilog="""\b
Examples:
  lastcall explain                                     # this host: every restart that has cut a request
  lastcall explain --since yesterday
  lastcall explain --at "2017-06-25 05:28" --logs /var/log
  lastcall explain --order 12345                       # what stands in a request's address
  lastcall explain --request 5f2c9a                    # a request's id, as a log has it
  lastcall explain --root ./host --html incident.html  # a backup, an image, a copy of /etc and /var/log
  lastcall explain --json | jq '.incidents[].requests[] | select(.class == "half-done") | .uri'

\b
Exit codes: 0 no incident was found, 1 one was, 64 a wrong option.
"""
)
@click.option("--at", "at", metavar="TIME", help="Around this time: '2017-06-25 05:28', or 2h (ago).")
@click.option("--request", "requests", multiple=True, metavar="ID", help="The request with this id; may be repeated.")
@click.option(
    "--order", "orders", multiple=True, metavar="KEY", help="The request in whose address this stands; may be repeated."
)
@click.option("--since", metavar="TIME", help="Only what happened since: yesterday, 7d, or a time.")
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
    help="Look at this tree of a host's files in place of this host.",
)  # fmt: skip
@click.option(
    "--logs", "given", multiple=True, type=click.Path(exists=True, path_type=Path), metavar="PATH",
    help="A log or a folder of logs, in place of those of this host; with --root, besides its own. May be repeated.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with the timeline, too.",
)
@click.option("--quiet", is_flag=True, help="Do not tell how far the reading is.")
def explain(
    at: str | None, requests: tuple[str, ...], orders: tuple[str, ...], since: str | None, root: Path | None,
    given: tuple[Path, ...], as_json: bool, html: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Say which restart cut which request, and who ordered it, from the logs that are there.

    Reads the logs of php-fpm, nginx, gunicorn, uWSGI, uvicorn, supervisor and lastcall, syslog, auth.log, exports of the
    journal, packed ones too; and crontabs, timers, logrotate, hooks, init scripts and units. Needs no root, changes nothing.
    """
    now = time.time()
    try:
        for written in filter(None, (at, since)):
            clock.moment(written, clock.UTC_ASSUMED, now)
    except Mistake as mistake:
        raise click.UsageError(str(mistake)) from None
    question = Question(
        root or Path("/"),
        root is None,
        given,
        bool(given) and root is None,
        at or "",
        since or "",
        names=(*requests, *orders),
    )
    progress = Progress(wanted=not quiet and sys.stderr.isatty())
    findings = investigate(question, now, progress.tell)
    progress.end()
    if html is not None:
        _write(html, page.draw(findings))
    if as_json:
        click.echo(answer.as_json(findings))
    else:
        for line in text.lines(findings):
            click.echo(line)
    raise click.exceptions.Exit(FOUND if findings.incidents else 0)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from None
