"""Commands and orders in YAML that is a program: GitHub's workflows, GitLab's pipelines, Ansible's tasks and handlers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lastcall.tools.readers.orders import Order, orders
from lastcall.tools.readers.yamlnodes import Node

SCRIPTS = frozenset({"run", "script", "before_script", "after_script"})
_SHELLS = frozenset({"shell", "command", "raw"})
_SERVICES = frozenset({"service", "systemd", "systemd_service", "sysvinit"})
_STATES = {"restarted": "restart", "reloaded": "reload", "stopped": "stop"}

ANSIBLE = "ansible"
"""Who gives the orders of Ansible's service modules."""


def found(node: Node) -> Iterator[Order]:
    """All orders of a document, with their lines."""
    for key, line, value in node.keys:
        name = key.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
        if key in SCRIPTS or name in _SHELLS:
            yield from _commands(value)
        elif name in _SERVICES:
            yield from _service(value, line)
        else:
            yield from found(value)
    for item in node.items:
        yield from found(item)


def _commands(value: Node) -> Iterator[Order]:
    if value.keys:
        inner = value.get("cmd")
        value = inner if inner is not None else value
    for node in (value, *value.items):
        if node.text:
            yield from orders(node.text, node.line)


def _service(value: Node, line: int) -> Iterator[Order]:
    if value.text is not None:
        pairs = dict(re.findall(r"(\w+)=(\S+)", value.text))
        name, state, at = pairs.get("name", ""), pairs.get("state", ""), line
    else:
        name, state, at = value.value("name"), value.value("state"), value.at("state")
    verb = _STATES.get(state)
    if verb and name:
        yield Order(ANSIBLE, name.strip("\"'").removesuffix(".service"), at, verb=verb)
