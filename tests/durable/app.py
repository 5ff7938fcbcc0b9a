"""A durable application whose steps leave lines in files, and wait for a file to appear where they are told to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from lastcall import durable
from lastcall.durable.wsgi import Environ, Start

FOLDER = Path(os.environ["STEPS"])


def leave(name: str, order: str) -> int:
    """Write a line down, and wait: before it for `before-NAME`, after it for `after-NAME`, where these are asked for."""
    pass_gate(f"before-{name}")
    with (FOLDER / name).open("a") as file:
        file.write(f"{order} {durable.key()}\n")
    pass_gate(f"after-{name}")
    return len((FOLDER / name).read_text().splitlines())


def pass_gate(name: str) -> None:
    """A gate is a FIFO: it opens when somebody opens its other end."""
    gate = FOLDER / name
    if gate.exists():
        (FOLDER / f"{name}.reached").write_text(str(os.getpid()))
        with gate.open("rb") as file:
            file.read()


@durable.request(key="order_id")
def send(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Two steps."""
    fields = json.loads(environ["wsgi.input"].read())  # type: ignore[attr-defined]
    order = fields["order_id"]
    present = durable.step("present", leave, "present", order, in_doubt=fields.get("in_doubt", "retry"))
    durable.step("order", leave, "order", order, in_doubt="retry")
    answer = {
        "order": order,
        "present": present,
        "attempt": environ.get("lastcall.attempt", 1),
        "length": len(str(fields)),
    }
    start_response("201 Created", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """`/send` is durable, everything else tells which worker one has met."""
    if environ["PATH_INFO"] == "/send":
        return send(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
