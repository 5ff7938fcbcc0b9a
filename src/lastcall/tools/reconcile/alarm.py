"""Who is told: a command, with the summary as JSON on its standard input, or a webhook, which gets it as a POST."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request

import msgspec

from lastcall.tools.reconcile.result import Finding, Summary

COMMAND_S = 60
WEBHOOK_S = 15
FINDINGS = 20
"""Of each kind: an alarm is read by people, or has a bound on its size."""


class NotHeard(Exception):
    """Somebody who should have been told was not; the text says who and why."""


def message(summary: Summary) -> bytes:
    """The summary, with so many of its findings that a chat can show them."""
    kept: list[Finding] = []
    left_out = dict(summary.left_out)
    seen: dict[str, int] = {}
    for one in summary.findings:
        seen[one.verdict] = seen.get(one.verdict, 0) + 1
        if seen[one.verdict] <= FINDINGS:
            kept.append(one)
        else:
            left_out[one.verdict] = left_out.get(one.verdict, 0) + 1
    return msgspec.json.encode(msgspec.structs.replace(summary, findings=kept, left_out=left_out))


def run(command: str, text: bytes) -> None:
    """Run a command for it. Raises NotHeard."""
    try:
        shell = ["/bin/sh", "-c", command]
        done = subprocess.run(shell, input=text, capture_output=True, timeout=COMMAND_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotHeard(f"the alarm has not ended within {COMMAND_S} s: {command}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout)[-500:].decode(errors="replace").strip()
        raise NotHeard(f"the alarm ended with {done.returncode}: {command}" + (f": {said}" if said else ""))


def post(url: str, text: bytes) -> None:
    """POST it. Raises NotHeard; a redirect to somewhere else is followed by nobody."""
    request = urllib.request.Request(url, data=text, headers={"Content-Type": "application/json"}, method="POST")  # noqa: S310 (checked by the command line)
    try:
        with urllib.request.urlopen(request, timeout=WEBHOOK_S) as response:  # noqa: S310
            response.read(1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise NotHeard(f"the webhook was not reached: {error}") from None
