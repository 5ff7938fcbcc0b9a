"""A worker is killed at every line of its code, one after the other: no request is answered twice, and none is forgotten.

Each ends in exactly one of: answered; run again, and then answered; answered 503; cut, for the client to see and in the
list.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lastcall.core.slot import State
from lastcall.runtime import progress
from lastcall.runtime.board import SlotWriter
from lastcall.runtime.worker.connection import Connection
from simulation.mortal import Outcome, Scene, lives
from support import fcgi, http

GET = http.head("GET", "/plain")
POST = http.head("POST", "/order", b"rose") + b"rose"
SECOND = http.head("GET", "/second")


def front(method: str, path: str, body: bytes = b"", *, keep: bool = True) -> bytes:
    """What a FastCGI front sends."""
    variables = {"REQUEST_METHOD": method, "REQUEST_URI": path, "SCRIPT_NAME": path, "CONTENT_LENGTH": str(len(body))}
    return fcgi.message(variables, body, keep=keep)


FASTCGI = [
    Scene("GET", front("GET", "/plain"), front("GET", "/second"), eager=True, fastcgi=True),
    Scene("POST", front("POST", "/order", b"rose"), front("GET", "/second"), eager=True, fastcgi=True),
    Scene("GET, not kept", front("GET", "/plain", keep=False), fastcgi=True, ends=True),
]
PLAIN = [
    Scene("GET, and the next request the moment that the answer is there", GET, SECOND, eager=True),
    Scene("GET, and the next request at once", GET, SECOND),
    Scene("POST, and the next request the moment that the answer is there", POST, SECOND, eager=True),
]
IN_PARTS = [
    Scene("a file", http.head("GET", "/file")),
    Scene("an answer in three parts", http.head("GET", "/stream"), SECOND, eager=True),
]
ENDS = [
    Scene(f"{way}, {path}", http.head("GET", path, None, (("Connection", "close"),)), unix=way == "UNIX", ends=True)
    for way in ("TCP", "UNIX")
    for path in ("/plain", "/stream")
]
UNIX = [
    Scene("GET", GET, unix=True),
    Scene("an order", POST, unix=True),
]


def assert_right(scene: Scene, outcome: Outcome) -> None:
    """What must hold wherever a worker has died."""
    done = [fate.done for fate in outcome.fates]
    assert set(done) <= {"run again", "answered 503", "cut"}, done
    assert set(outcome.statuses) <= {200, 503}, outcome
    runs = Counter(outcome.runs)
    again = Counter(fate.lane.request for fate in outcome.fates if fate.done == "run again")
    assert all(runs[request] <= 1 + again[request] for request in runs), outcome
    assert not any(request.startswith("POST") for request in again), outcome
    assert done.count("answered 503") == outcome.statuses.count(503), outcome
    if len(outcome.statuses) < scene.asked:
        assert 503 in outcome.statuses or done[-1] == "cut", outcome
        assert outcome.ended != "silence", outcome
    else:
        assert "cut" not in done, f"it was answered: {outcome}"


@pytest.mark.parametrize("scene", PLAIN, ids=lambda scene: scene.name)
def test_an_answer_in_one_piece_is_never_cut(folder: Path, scene: Scene) -> None:
    """TCP: a GET is answered, whatever happens; a POST is answered, or refused in words."""
    for _, outcome in lives(folder, scene):
        assert_right(scene, outcome)
        if scene.first == GET:
            assert outcome.statuses == [200, 200], outcome
        else:
            assert outcome.statuses in ([200, 200], [503]), outcome


@pytest.mark.parametrize("scene", FASTCGI, ids=lambda scene: scene.name)
def test_a_fronts_connection_outlives_all_of_its_requests(folder: Path, scene: Scene) -> None:
    """FastCGI: the next request is answered on the same connection, also after a refusal."""
    for _, outcome in lives(folder, scene):
        assert_right(scene, outcome)
        assert outcome.statuses[1:] == [200] * (scene.asked - 1), outcome
        assert outcome.statuses[0] == 200 or scene.name == "POST", outcome


@pytest.mark.parametrize("scene", IN_PARTS, ids=lambda scene: scene.name)
def test_an_answer_in_several_parts_is_whole_or_cut(folder: Path, scene: Scene) -> None:
    """And one that was sent as a whole is in no list."""
    seen: Counter[int] = Counter()
    for _, outcome in lives(folder, scene):
        assert_right(scene, outcome)
        seen[len(outcome.statuses)] += 1
    assert seen[0] < 60, f"cut at so many lines: {seen}"


@pytest.mark.parametrize("scene", ENDS, ids=lambda scene: scene.name)
def test_a_connection_that_is_not_kept_ends(folder: Path, scene: Scene) -> None:
    """FastCGI fronts that do not keep their connections wait for it, though the answer says where it ends."""
    for _, outcome in lives(folder, scene):
        if not scene.unix:
            assert_right(scene, outcome)


def test_a_connection_that_is_given_away_has_one_owner(folder: Path) -> None:
    """Whoever dies while it puts it into the inbox, or lets go of it: it is not given to two, and not to nobody."""
    scene = Scene("half a head", GET[:20], departs=GET[20:])
    doubtful = 0
    for _, outcome in lives(folder, scene):
        assert outcome.runs == ["GET /plain"], outcome
        assert outcome.statuses == [200], outcome
        assert not outcome.fates
        doubtful += State.GIVEN in outcome.states
    assert doubtful > 5, "lines between the note that it is given away, and the end"


@pytest.mark.parametrize("scene", UNIX, ids=lambda scene: scene.name)
def test_a_unix_socket_has_one_weak_point(folder: Path, scene: Scene) -> None:
    """Between taking the request and sending the answer: some lines, which nothing else comes between."""
    silent = 0
    for _, outcome in lives(folder, scene):
        if outcome.ended == "silence":
            assert outcome.states == [State.ANSWERING]
            silent += 1
        else:
            assert_right(scene, outcome)
    assert silent <= 6


@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "UNIX"])
def test_a_second_death_changes_nothing(folder: Path, unix: bool) -> None:
    """The worker that was to refuse an order dies as well, at every line: the client is told once, and the list."""
    scene = Scene("an order", POST, unix=unix)
    first = next(last for last, outcome in lives(folder, scene) if outcome.statuses == [503] and outcome.runs)
    seen: Counter[str] = Counter()
    for _, outcome in lives(folder, scene, before=(first,)):
        seen[str(outcome.statuses or outcome.ended)] += 1
        assert outcome.runs == ["POST /order"], outcome
        assert [fate.done for fate in outcome.fates] == ["answered 503"], outcome
        assert outcome.ended != "silence", outcome
        if not unix:
            assert outcome.statuses == [503], outcome
    assert seen["[503]"] > 0.9 * seen.total(), seen


def test_a_request_that_is_run_again_survives_another_death(folder: Path) -> None:
    """A GET whose second worker dies at any line as well is answered once."""
    scene = Scene("GET", GET)
    first = next(last for last, outcome in lives(folder, scene) if len(outcome.runs) == 2)
    for _, outcome in lives(folder, scene, before=(first,)):
        assert_right(scene, outcome)
        assert outcome.statuses == [200], outcome


# --- Would it find a bug? --------------------------------------------------------------------


def assert_all_answered(folder: Path) -> None:
    scene = Scene("GET", GET)
    for _, outcome in lives(folder, scene):
        assert_right(scene, outcome)
        assert outcome.statuses == [200], outcome


def test_an_answer_that_is_called_cut_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be if nobody asked the kernel what was written."""
    monkeypatch.setattr(progress, "counts", lambda _sock: None)
    with pytest.raises(AssertionError):
        assert_all_answered(folder)


def test_a_request_that_is_answered_twice_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be if a worker did not write down that it answers."""
    monkeypatch.setattr(SlotWriter, "mark", lambda _self, _fd, _state: None)
    with pytest.raises(AssertionError, match="more than was asked for"):
        assert_all_answered(folder)


def test_a_request_that_is_taken_too_early_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: taken before the answer was sent, which is all that can be done with a UNIX socket."""
    fresh = Connection.fresh

    def uncounted(self: Connection) -> None:
        fresh(self)
        self.counted = False

    monkeypatch.setattr(Connection, "fresh", uncounted)
    with pytest.raises(AssertionError):
        assert_all_answered(folder)
