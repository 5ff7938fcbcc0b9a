"""`lastcall doctor`: looks at a host or a folder, and says what will cut a request one day. Changes nothing."""

from __future__ import annotations

from pathlib import Path

import click

from lastcall.tools.doctor import report
from lastcall.tools.doctor.files import gather
from lastcall.tools.doctor.judge import Judgement, judge
from lastcall.tools.doctor.patch import patch
from lastcall.tools.doctor.rules.catalogue import GROUPS, RULES
from lastcall.tools.doctor.verdicts import Severity

FOUND = 1
"""Exit code: there is a finding as bad as --fail-on, or worse."""

NEVER = "never"


def _ids(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> frozenset[str]:
    found = {part.strip().upper() for text in texts for part in text.split(",") if part.strip()}
    for unknown in sorted(found - set(RULES)):
        raise click.BadParameter(f"there is no rule {unknown}; `lastcall doctor rules` lists them", ctx, param)
    return frozenset(found)


@click.command(
    epilog="""\b
Examples:
  lastcall doctor                              # this host
  lastcall doctor --root ./infrastructure      # a repository, an image, a backup
  lastcall doctor --root . --exclude tests --exclude '*.j2'
  lastcall doctor --explain LC001
  lastcall doctor --fix > mines.patch          # read it, then: patch -p1 -d / < mines.patch
  lastcall doctor --root . --sarif --fail-on warning > lastcall.sarif

\b
A comment `lastcall: ignore LC101` on the line, or on the one above, silences one finding.
Exit codes: 0 nothing as bad as --fail-on, 1 something is, 64 a wrong option.
"""
)
@click.argument("what", required=False, type=click.Choice(["rules"]), metavar="[rules]")
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
    help="Look at this folder in place of this host.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--sarif", "as_sarif", is_flag=True, help="Print SARIF 2.1.0, for code hosts.")
@click.option("--fix", is_flag=True, help="Print a patch (patch -p1 -d DIR); nothing is applied.")
@click.option(
    "--fail-on", type=click.Choice([*(s.value for s in Severity), NEVER]), default=Severity.ERROR.value, show_default=True,
    help="The least severity that makes the exit code 1.",
)  # fmt: skip
@click.option("--ignore", multiple=True, callback=_ids, metavar="LC101", help="Leave a rule out; may be repeated.")
@click.option(
    "--exclude", multiple=True, metavar="PATH", help="Leave a folder or a pattern out (tests, '*.j2'); may be repeated."
)
@click.option("--explain", multiple=True, callback=_ids, metavar="LC101", help="Say all that is known about a rule.")
def doctor(
    what: str | None, root: Path | None, as_json: bool, as_sarif: bool, fix: bool, fail_on: str, ignore: frozenset[str],
    exclude: tuple[str, ...], explain: frozenset[str],
) -> None:  # fmt: skip
    """Find what will cut or lose requests one day, in the configuration of this host or of any folder.

    Reads crontabs, units, init scripts, logrotate, php-fpm, nginx, HAProxy, application servers, supervisors, images,
    compose files, Kubernetes manifests, scripts. Needs no root, and changes nothing. `rules` lists what it knows.
    """
    if what is not None or explain:
        _told(explain)
        return
    if as_json + as_sarif + fix > 1:
        raise click.UsageError("--json, --sarif and --fix exclude each other: choose one")
    host = root is None
    facts = gather(root or Path("/"), host=host, exclude=exclude)
    judgement = judge(facts, ignore)
    if as_json:
        click.echo(report.as_json(facts, judgement, host=host))
    elif as_sarif:
        click.echo(report.sarif(facts, judgement))
    elif fix:
        made, left = patch(facts, judgement.told)
        click.echo(made, nl=False)
        for sentence in left:
            click.echo(f"lastcall: not in the patch: {sentence}", err=True)
    else:
        for line in report.text(facts, judgement, host=host):
            click.echo(line)
    raise click.exceptions.Exit(_code(judgement, fail_on))


def _code(judgement: Judgement, fail_on: str) -> int:
    worst = judgement.worst()
    bad = worst is not None and fail_on != NEVER and worst.rank <= Severity(fail_on).rank
    return FOUND if bad else 0


def _told(ids: frozenset[str]) -> None:
    if ids:
        click.echo("\n\n".join("\n".join(report.explained(RULES[found])) for found in sorted(ids)))
        return
    for title, rules in GROUPS:
        click.echo(f"{title}:")
        for rule in rules:
            click.echo(f"  {rule.id}  {rule.severity.value:<7}  {rule.title}")
