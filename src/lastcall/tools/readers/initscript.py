"""Init scripts: which signals each of their actions sends in the end."""

from __future__ import annotations

from dataclasses import dataclass

from lastcall.tools.readers import shell
from lastcall.tools.readers.orders import Order, of_commands
from lastcall.tools.readers.servers import mentioned, started


@dataclass(frozen=True, slots=True)
class InitScript:
    """A script: its name, the server that it is for, and what each action orders."""

    name: str
    server: str
    """"" where nothing in it says so."""
    actions: dict[str, tuple[Order, ...]]


def parse(name: str, text: str) -> InitScript:
    """Any text; a script without `case "$1"` has no actions."""
    script = shell.parse(text)
    actions = {
        action: of_commands(shell.reach(script, action))
        for action in sorted({part for pattern in script.actions for part in pattern.split("|")})
        if action.isidentifier() or "-" in action
    }
    server = mentioned(name)
    if not server:
        told = [
            mentioned(value) for key, value in script.variables.items() if key in ("DAEMON", "NAME", "prog", "exec")
        ]
        told += [started(command.words) for command in script.commands]
        server = next((found for found in told if found), "")
    return InitScript(name, server, actions)
