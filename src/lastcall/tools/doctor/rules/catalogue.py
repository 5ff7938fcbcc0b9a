"""All rules, in the order of their ids."""

from __future__ import annotations

from lastcall.tools.doctor.rules import commands, containers, data, fronts, own, php, programs, units
from lastcall.tools.doctor.verdicts import Rule

GROUPS: tuple[tuple[str, tuple[Rule, ...]], ...] = (
    ("php-fpm and php-cgi", php.RULES),
    ("Cron, init scripts, logrotate, deploys", commands.RULES),
    ("systemd", units.RULES),
    ("Application servers and their supervisors", programs.RULES),
    ("Containers", containers.RULES),
    ("Web servers in front", fronts.RULES),
    ("The kernel and MongoDB", data.RULES),
    ("lastcall itself", own.RULES),
)
"""The rules by subject."""

RULES: dict[str, Rule] = {rule.id: rule for _, rules in GROUPS for rule in rules}
