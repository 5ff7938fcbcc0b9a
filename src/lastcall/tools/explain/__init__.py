"""`lastcall explain`: which restart cut which request, and who ordered it.

For other tools there is one function, `hits`: the requests that restarts and deaths have hit, each with a sentence that says
what cut it and by whose order.

    from lastcall.tools.explain import hits

    for hit in hits(root=Path("/"), since=yesterday):
        hit.at            # Unix time at which it was cut
        hit.began         # when it had begun; None where no log says
        hit.kind          # "half-done", "never-begun", "retried", "done-untold"
        hit.confidence    # 0 to 1, that it is of this kind
        hit.uri, hit.id   # as the front's access log has them; hit.ids: whatever else names it
        hit.text          # all texts in which an order's key may stand: look for the key here
        hit.sentence      # "cut at 2017-06-25 05:28:01 after 0.31 s: php-fpm was stopped with SIGTERM, ordered by cron ..."
        hit.certainty     # "certain", "likely", "possible": the words that reconcile has for a confidence

`logs=[...]` names logs (files or folders) in place of those below root/var/log; the configuration is always the root's.
`since` and `until` are Unix times and bound the incidents, not what is read. Nothing is changed, no root is needed; a log
that cannot be read or understood is no error: `troubles` lists what could not be seen, where it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class HitRequest:
    """A request that was hit."""

    at: float
    began: float | None
    kind: str
    confidence: float
    method: str
    uri: str
    client: str
    status: int | None
    id: str
    ids: tuple[str, ...]
    text: str
    sentence: str
    evidence: tuple[tuple[str, int], ...]
    """File and line of each log line that says so."""

    @property
    def certainty(self) -> str:
        """In reconcile's words."""
        return "certain" if self.confidence >= 0.99 else "likely" if self.confidence >= 0.6 else "possible"


def hits(
    root: Path = ROOT,
    logs: Sequence[Path] = (),
    since: float | None = None,
    until: float | None = None,
    troubles: list[str] | None = None,
) -> list[HitRequest]:
    """Every request that was hit worse than by waiting, in the order of their times."""
    # imported when it is used: reconcile without logs needs none of this
    from lastcall.tools.explain import found  # noqa: PLC0415

    return found.hits(root, tuple(logs), since, until, troubles)
