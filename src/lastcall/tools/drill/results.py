"""What a drill has found, as a value: the report draws it, `--json` writes it, the exit code follows from it.

A drill is *runs*: one target under one strategy, over one path. Offsets (`began`, `ended`, `when`) are in seconds
from the begin of the run that they belong to, so that two runs can be laid over each other.

The form is an interface: fields are added, never changed or removed, and `format` counts what could not be helped.
"""

from __future__ import annotations

import enum
from typing import Final, Self

import msgspec

from lastcall.tools.drill.outcomes import Amiss

FORMAT: Final = 1
RECORDS_MAX: Final = 20_000
"""Requests kept one by one, in one run: a dot for each is what a page can draw, and 1 MB of JSON."""
LINES_MAX: Final = 200
"""Lines kept of nginx's error log in one run, and operator's notes: the first ones say it."""


class NotAResult(Exception):
    """These bytes are no drill's result; the text says why."""


class Path(enum.StrEnum):
    """The way from the clients to the target."""

    DIRECT = "direct"
    NGINX_KEPT = "nginx, kept connections"
    """nginx keeps its connections to the target."""
    NGINX_NEW = "nginx, new connections"
    """nginx makes one for each request."""


class Strength(enum.StrEnum):
    """How much a verdict says."""

    PROVED = "proved"
    """A loss was seen: no more is needed."""
    BOUNDED = "bounded"
    """None was seen, of so many: the share that may still be lost is below `Verdict.below` at 95 %."""
    ENUMERATED = "enumerated"
    """None was seen, and the restart was fired at every step of a request: nothing was left to luck."""
    NONE = "says nothing"
    """Nobody asked for anything, or the operation did not happen."""


class Verdict(msgspec.Struct, frozen=True):
    """Lost or not, in words, and how sure one may be."""

    lost: int
    """Requests whose client saw an error, or of which the books are wrong. Where the service was stopped for good,
    those that were refused at connect are not among them."""
    requests: int
    below: float
    """The share that is lost, at most, with a confidence of 95 %: 0 to 1."""
    strength: Strength
    sentence: str
    """`0 of 5334 lost: below 0.056 % at 95 %`."""


class Settings(msgspec.Struct, frozen=True):
    """The load, and how often it was disturbed."""

    connections: int
    rate: float
    """Requests a second that arrive whatever happens (open loop); 0: each client waits for its answer (closed)."""
    pace: float
    """Closed loop: seconds that a client thinks between two requests."""
    keep: bool
    """Clients keep their connections."""
    body: int
    """Bytes of filling in each request."""
    slow: float
    """Share of the clients that send slowly: 0 to 1."""
    work: float
    """Seconds that the first action takes."""
    restarts: int
    seed: int
    timeout: float
    """Seconds after which a client gives up."""
    others: dict[str, str] = {}
    """What else was asked for, by option."""


class Restart(msgspec.Struct, frozen=True):
    """One operation: ordered at `began`, over at `ended` (the target serves again)."""

    began: float
    ended: float
    what: str
    """`kill -TERM 4711, start`."""
    ok: bool = True
    """It ended as such an operation does."""
    note: str = ""
    """What was said: by the command, or about its end."""
    step: str = ""
    """The step at which it was fired, of a request that was held there; "" when it was fired by the clock."""


class Records(msgspec.Struct, frozen=True):
    """Requests, a column for each thing that is known: `began[i]`, `took[i]`... are of the same request.

    In order of their begin. Where there were more than RECORDS_MAX, every one that was lost or amiss is here as far
    as they go, and of the others each n-th; `left_out` counts the rest.
    """

    began: list[float]
    took: list[float]
    """Seconds, counted from when it was to be sent."""
    outcome: list[int]
    """Index into `outcomes`."""
    amiss: list[int]
    """Index into `ledger`: 0 where the ledgers agree, or none are kept."""
    client: list[int]
    """Index into `clients`."""
    id: list[str]
    """As in the header X-Request-Id, and the ledgers."""
    near: list[int]
    """Which restart (index into `Run.restarts`) it was under way at, or within half a second of; -1: none."""
    outcomes: list[str]
    """`200`, `502`, `reset before the head`, ...: `Seen.what`."""
    ledger: list[str]
    """The values of Amiss."""
    clients: list[str]
    """Names of connections: `HTTP 3`."""
    step: dict[int, str] = {}
    """Index of a request to the step at which it was held while the restart was fired."""
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.began)

    @classmethod
    def none(cls) -> Self:
        """No requests."""
        return cls([], [], [], [], [], [], [], [], [str(one) for one in Amiss], [])


class Ledgers(msgspec.Struct, frozen=True):
    """The books against each other, and against what clients were told: counts."""

    half_done: int = 0
    unasked: int = 0
    """The second action only."""
    twice: int = 0
    untold: int = 0
    """Done, and the client saw an error."""
    never_begun: int = 0
    """Neither action, and the client saw an error."""
    told_not_done: int = 0
    first: int = 0
    """Entries of the first ledger (sendPresent)."""
    second: int = 0
    """Entries of the second (the orders)."""

    @property
    def harm(self) -> int:
        """How often the books are wrong."""
        return self.half_done + self.unasked + self.twice + self.told_not_done


class Line(msgspec.Struct, frozen=True):
    """A line of nginx's error log."""

    when: float
    text: str
    request: str = ""
    """The id of the request that it belongs to, where that is known."""
    index: int = -1
    """That request's place in the records; -1: unknown, or left out."""


class Reason(msgspec.Struct, frozen=True):
    """Why requests were lost."""

    count: int
    what: str
    """The kind of loss, as in `outcomes` or `ledger`."""
    why: str
    """A sentence or two, for people."""


class Latency(msgspec.Struct, frozen=True):
    """In seconds. `near`: of requests that a restart was under way at, or had been half a second before."""

    median: float = 0.0
    p99: float = 0.0
    p99_near: float = 0.0
    longest: float = 0.0


class Run(msgspec.Struct, frozen=True):
    """One target, one strategy, one path."""

    target: str
    """`php-fpm:10s`, as on the command line."""
    title: str
    """`php-fpm 8.2.29, process_control_timeout = 10s`."""
    protocol: str
    """What the target speaks: `HTTP` or `FastCGI`."""
    strategy: str
    """`term`, as on the command line."""
    strategy_title: str
    """`TERM, start`."""
    path: Path
    settings: dict[str, str]
    """The target's own: versions, workers, worker class."""
    clock: float
    """When it began: Unix time."""
    took: float
    restarts: list[Restart]
    records: Records
    requests: int
    """How many there were, kept as records or not."""
    outcomes: dict[str, int]
    """How many ended so, by `Records.outcomes`; answered ones are `200`."""
    left: int
    """Kept connections that ended without a request to blame."""
    latency: Latency
    gap: float
    """The longest time without a success, in seconds."""
    gap_began: float
    verdict: Verdict
    ledgers: Ledgers | None = None
    """None: the target is the user's, and nobody has shown us his books."""
    logged: list[Line] = []
    logged_count: int = 0
    reasons: list[Reason] = []
    recommendation: str = ""
    """What to set, which signal to use, and what remains; "" when there is nothing to say."""
    interrupted: bool = False
    """Ctrl-C: what is here is what there was until then."""
    failed: str = ""
    """Why it could not be done to its end; the rest is what there was until then."""


class Skipped(msgspec.Struct, frozen=True):
    """What was asked for and not done."""

    target: str
    why: str
    strategy: str = ""
    """"": all of them."""


class Drill(msgspec.Struct, frozen=True):
    """All of it."""

    format: int
    lastcall: str
    """The version that drilled."""
    command: list[str]
    machine: dict[str, str]
    """`kernel`, `processors`, `python`, `load` (before it began)."""
    clock: float
    """When it began: Unix time."""
    took: float
    settings: Settings
    runs: list[Run]
    skipped: list[Skipped]
    verdict: Verdict
    """Of all runs together."""
    interrupted: bool = False

    @property
    def lost(self) -> int:
        """What the exit code follows from."""
        return self.verdict.lost


def encode(drill: Drill) -> bytes:
    """As JSON."""
    return msgspec.json.encode(drill)


def decode(data: bytes) -> Drill:
    """The same, back. Raises NotAResult."""
    try:
        drill = msgspec.json.decode(data, type=Drill)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotAResult(f"this is no result of a drill: {error}") from None
    if drill.format != FORMAT:
        raise NotAResult(f"this result has format {drill.format}, and this lastcall reads format {FORMAT}")
    for run in drill.runs:
        _check(run)
    return drill


def _check(run: Run) -> None:
    """Columns of the same length, and every index within its list: a page that draws them need not look again."""
    records = run.records
    columns = (records.took, records.outcome, records.amiss, records.client, records.id, records.near)
    if any(len(column) != len(records) for column in columns):
        raise NotAResult(f"{run.target}, {run.strategy}: the columns of its records differ in length")
    if len(records) > RECORDS_MAX:
        raise NotAResult(f"{run.target}, {run.strategy}: {len(records)} records, more than {RECORDS_MAX}")
    bounds = (
        (records.outcome, 0, len(records.outcomes)),
        (records.amiss, 0, len(records.ledger)),
        (records.client, 0, len(records.clients)),
        (records.near, -1, len(run.restarts)),
        ([line.index for line in run.logged], -1, len(records)),
        (list(records.step), 0, len(records)),
    )
    for column, low, high in bounds:
        if any(not low <= index < high for index in column):
            raise NotAResult(f"{run.target}, {run.strategy}: a record points at what is not there")
