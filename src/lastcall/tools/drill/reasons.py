"""Why requests were lost, and what to do about it, in words.

What is said of a server is what was found by reading its source and by many drills; it is said only where this drill has
seen the loss that it explains. A sentence begins with what is seen and ends with its cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from lastcall.tools.drill.judge import Judgement
from lastcall.tools.drill.outcomes import HARM, Amiss, Outcome
from lastcall.tools.drill.results import Path, Reason
from lastcall.tools.drill.strategies import Strategy


@dataclass(frozen=True, slots=True)
class Case:
    """What was drilled, and how."""

    target: str
    strategy: str
    path: Path
    settings: Mapping[str, str]

    @property
    def kind(self) -> str:
        return self.target.partition(":")[0]

    @property
    def graceless(self) -> bool:
        """php-fpm as it comes: its graceful signals give no grace."""
        return self.settings.get("process_control_timeout") == "0"


SHOWN: Final = 64
"""Characters of an id from the user's ledger."""

# --- Why -------------------------------------------------------------------------------------

QUEUE: Final = "it waited in the listener's queue when the listener was closed with the last process that had it"
NOBODY: Final = (
    "nobody listens between the end of the old master and the moment when the new one has opened its listener"
)
KEPT: Final = "the server closed a kept connection while the next request was already on its way"

HALF_DONE: Mapping[tuple[str, str], str] = {
    ("php-fpm", "term"): "php-fpm's workers leave SIGTERM at its default, which ends them in the middle of a request, "
    "whatever process_control_timeout says",
    ("php-fpm", "quit"): "process_control_timeout is too short: php-fpm sends SIGTERM when it is over, and with the "
    "default, 0, that is within microseconds of the graceful signal",
    ("php-fpm", "usr2"): "process_control_timeout is too short: php-fpm sends SIGTERM when it is over, and with the "
    "default, 0, that is within microseconds of the graceful signal",
    ("php-fpm", "stop"): "php-fpm's workers leave SIGTERM at its default, which ends them in the middle of a request",
    (
        "gunicorn",
        "quit",
    ): "gunicorn's SIGQUIT is its quick stop: workers end within a request (TERM is the graceful one)",
    ("uwsgi", "term"): "with die-on-term, SIGTERM ends uWSGI's workers in the middle of a request",
    ("uwsgi", "stop"): "with die-on-term, SIGTERM ends uWSGI's workers in the middle of a request",
    (
        "hypercorn",
        "term",
    ): "when its first worker has ended, hypercorn terminates those that still finish their requests",
}
"""Why an order is half done, of servers of which that is known."""

_KILLED = "SIGKILL ends a process wherever it is; nothing can be done about that but to name the request"
_ENDED = "the worker was ended between the two actions, and nobody has written down which request that was"


def _half_done(case: Case) -> str:
    if case.strategy in (Strategy.KILL_WORKER, Strategy.KILL_MASTER):
        return _KILLED
    return HALF_DONE.get((case.kind, case.strategy), _ENDED)


def _reset(case: Case) -> str:
    if case.strategy == Strategy.KILL_WORKER:
        return "the connection was reset with the process that was killed"
    if case.strategy in (Strategy.TERM, Strategy.QUIT, Strategy.STOP, Strategy.KILL_MASTER):
        return f"the connection was reset: {QUEUE}, or its worker was ended"
    if case.kind == "granian":
        return "the connection was reset: each worker of granian's has a listener of its own, whose queue ends with it"
    return f"the connection was reset: {KEPT}, or its worker was ended"


def _bad_gateway(_case: Case) -> str:
    return (
        "nginx had sent the request, or could not, and got no answer; it never sends a POST twice. Its log says which"
    )


_WHY: dict[str, Callable[[Case], str]] = {
    Amiss.HALF_DONE: lambda case: f"the present was sent and the order never written: {_half_done(case)}",
    Amiss.UNASKED: lambda _: "the order was written without a present",
    Amiss.TWICE: lambda _: (
        "it was run twice: somebody on the way has sent it again, without knowing how far it had got"
    ),
    Amiss.UNTOLD: lambda _: "both actions were done, but the client never got the answer, and may well ask again",
    Amiss.TOLD_NOT_DONE: lambda _: "the client was told yes, and the books do not have it",
    Outcome.REFUSED: lambda _: f"the connection was refused: {NOBODY}. Nothing was sent, and it is safe to ask again",
    Outcome.CONNECT_TIMED_OUT: lambda _: "no connection came about in time: the listener's queue was full",
    Outcome.RESET: _reset,
    Outcome.CLOSED: lambda case: (
        "the connection ended with the process that was killed"
        if case.strategy == Strategy.KILL_WORKER
        else f"the connection was closed without an answer: {KEPT}, or its worker has ended"
    ),
    Outcome.CUT: lambda _: "the connection ended inside the answer: whoever sent it was ended",
    Outcome.TIMED_OUT: lambda _: "no answer came in time: its worker was lost without the client being told, or hangs",
    "500": lambda _: "the application was interrupted and failed, or could not be loaded",
    "502": _bad_gateway,
    "503": lambda case: (
        "its worker was killed, and lastcall told the client so instead of running it again: it had begun"
        if case.kind == "lastcall"
        else "the server refused it"
    ),
    "504": lambda _: "nginx got no answer in time",
}


def reasons(case: Case, judgement: Judgement, errors: Sequence[tuple[float, str, str]]) -> list[Reason]:
    """One for each kind of loss that was seen: what is wrong in the books first, then what clients saw."""
    amiss = Counter(judgement.amiss.values())
    lost = Counter(one.what for one in judgement.lost if not one.yes)
    books = [(kind, amiss[kind]) for kind in (*HARM, Amiss.UNTOLD) if amiss[kind]]
    found = [Reason(count, str(kind), _WHY[kind](case)) for kind, count in books]
    strangers = _strangers(judgement)
    if strangers:
        found = [msgspec.structs.replace(each, why=f"{each.why}. {strangers}") for each in found]
    for what, count in lost.most_common():
        why = _WHY[what](case) if what in _WHY else "the server answered with an error"
        found.append(Reason(count, what, why + _logged(what, errors)))
    return found


def _strangers(judgement: Judgement) -> str:
    """Ledgers that know of no request at all are those of something else, or say who it is in another way."""
    books = judgement.books
    written = [*books.first, *books.second] if books is not None else []
    asked = {one.id for one in judgement.requests}
    if not written or asked.intersection(written):
        return ""
    return (
        f"But the ledgers have none of the ids that were asked: they print {written[-1][:SHOWN]!r}, and a request is called "
        f"{min(asked)!r}. Write down what is in X-Request-Id, or {{id}} of the body"
    )


LOGGED: Mapping[str, str] = {
    "104: Connection reset by peer": "104 (reset)",
    "111: Connection refused": "111 (refused)",
    "prematurely closed": "closed before the head",
    "110: Connection timed out": "110 (timed out)",
    "32: Broken pipe": "32 (broken pipe)",
}
"""What nginx says of an upstream, and a shorter word for it."""


def _logged(what: str, errors: Sequence[tuple[float, str, str]]) -> str:
    if what not in ("502", "504") or not errors:
        return ""
    count = Counter(word for _, text, _ in errors for said, word in LOGGED.items() if said in text)
    return ": " + ", ".join(f"{times} times {word}" for word, times in count.most_common()) if count else ""


# --- What to do ------------------------------------------------------------------------------

FPM_GRACE = (
    "Set process_control_timeout to more than your longest request takes (the default, 0, makes QUIT and USR2 do what "
    "TERM does), and reload with USR2. What remains: "
)
FPM_TERM = (
    "Do not restart php-fpm with TERM (`systemctl restart` sends it unless KillSignal says otherwise): it cuts at any "
    "process_control_timeout. Reload with USR2 and a process_control_timeout above your longest request. What remains: "
)
FPM_REMAINS = (
    "USR2 serves nobody until the slowest request has ended; and with fastcgi_keep_conn on it still loses requests on "
    "kept connections."
)
FPM_QUIT = (
    "process_control_timeout saves what has begun. It does not save the listener: QUIT and a start reset whoever waits in "
    "its queue, and refuse whoever comes before the start. Reload with USR2, or let systemd hold the socket."
)
FPM_KEPT = (
    "php-fpm closes kept connections without being able to say so before (FastCGI has no word for it). Turn "
    "fastcgi_keep_conn off, or accept a few 502 at each reload."
)
TERM_OTHERS = (
    "Do not stop it to start it again: the listener goes with the master. Reload instead, or let somebody else hold the "
    "listener (a systemd socket unit)."
)
RECOMMENDED: Mapping[tuple[str, str], str] = {
    ("gunicorn", "quit"): "QUIT is gunicorn's quick stop. Reload with HUP; stop with TERM.",
    (
        "gunicorn",
        "broken-code",
    ): "gunicorn's HUP retires the old workers before the new ones have loaded the code: try the "
    "new code elsewhere first (`gunicorn --check-config`), or upgrade with USR2, which leaves the old ones.",
    (
        "lastcall",
        "kill-worker",
    ): "SIGKILL cannot be prevented. `lastcall cuts` names the requests; those that had begun are "
    "to be looked after. Durable requests are finished by another worker: drill lastcall:durable. "
    "Look for who sends it: memory, most often (max_memory recycles before the kernel does).",
}


def recommendation(case: Case, judgement: Judgement) -> str:
    """What to set, which signal to use, and what remains; "" when nothing was lost."""
    if not judgement.lost:
        return ""
    if case.kind == "php-fpm":
        return _for_fpm(case)
    known = RECOMMENDED.get((case.kind, case.strategy))
    if known is not None:
        return known
    if case.kind != "lastcall" and case.strategy in (Strategy.TERM, Strategy.QUIT, Strategy.KILL_MASTER):
        return TERM_OTHERS
    return ""


def _for_fpm(case: Case) -> str:
    match case.strategy:
        case Strategy.TERM | Strategy.STOP:
            return FPM_TERM + FPM_REMAINS
        case Strategy.QUIT:
            return FPM_GRACE + FPM_REMAINS if case.graceless else FPM_QUIT
        case Strategy.USR2:
            if case.graceless:
                return FPM_GRACE + FPM_REMAINS
            return FPM_KEPT if case.path is Path.NGINX_KEPT else ""
        case Strategy.RECYCLE:
            return FPM_KEPT if case.path is Path.NGINX_KEPT else ""
        case Strategy.BROKEN_CODE:
            return "Test the configuration before each reload: `php-fpm -t`. php-fpm lets its workers go before it reads it."
        case _:
            return ""
