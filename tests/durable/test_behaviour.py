"""What may be relied on of durable requests, whatever the store."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable

import pytest

from lastcall import durable
from lastcall.durable.record import State
from lastcall.durable.wsgi import Application, Environ, Start
from support.durable import Answer, Remote, World


def gift(platform: Remote, orders: Remote, *, present: str = "hold", order: str = "retry") -> Application:
    """Send a present, then write the order."""

    @durable.request(key="order_id")
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()  # type: ignore[attr-defined]
        number = str(json.loads(body)["order_id"])
        sent = durable.step("sendPresent", platform.do, number, in_doubt=present)
        durable.step("saveOrder", orders.do, number, in_doubt=order)
        start_response("201 Created", [("Content-Type", "application/json"), ("X-Attempt", _attempt(environ))])
        return [json.dumps(sent).encode()]

    return app


def _attempt(environ: Environ) -> str:
    return str(environ.get("lastcall.attempt", 1))


def test_a_request_is_run_once_and_answered_as_often_as_it_is_asked(world: World) -> None:
    """The same key again, at whatever worker, gives the stored response to the last byte."""
    platform, orders = Remote(), Remote()
    app, first, second = gift(platform, orders), world.worker(), world.worker()
    answers = [world.call(worker, app) for worker in (first, first, second)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0] is not None
    assert answers[0].status == 201
    assert (platform.calls, orders.calls) == (["1"], ["1"])
    (record,) = second.listing()
    assert (record.state, record.attempt) == (State.DONE, 1)


def test_another_request_with_the_same_key_is_refused(world: World) -> None:
    """422, as the IETF draft has it; nothing is run."""
    platform, orders = Remote(), Remote()
    app, worker = gift(platform, orders), world.worker()
    world.call(worker, app)
    other = world.call(worker, app, QUERY_STRING="again=1")
    assert other is not None
    assert other.status == 422
    assert platform.calls == ["1"]


def test_keys_of_different_paths_are_different(world: World) -> None:
    """A refund with an order's number is not the order."""
    platform, orders = Remote(), Remote()
    app, worker = gift(platform, orders), world.worker()
    world.call(worker, app)
    world.call(worker, app, PATH_INFO="/refund")
    assert platform.calls == ["1", "1"]


@pytest.mark.parametrize("headers", [{}, {"HTTP_IDEMPOTENCY_KEY": '""'}, {"HTTP_IDEMPOTENCY_KEY": "x" * 256}])
def test_a_request_without_a_usable_key_is_refused(world: World, headers: dict[str, str]) -> None:
    """400, before anything has happened."""

    @durable.request()
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        raise AssertionError

    answer = world.call(world.worker(), app, **headers)
    assert answer is not None
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_running_request_is_waited_for_and_then_its_answer_is_given(world: World) -> None:
    """Whoever waits runs nothing."""
    inside, go_on = threading.Event(), threading.Event()
    runs: list[str] = []

    @durable.request(key=durable.Header("Idempotency-Key"))
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        runs.append("run")
        inside.set()
        assert go_on.wait(10)
        start_response("200 OK", [])
        return [b"done"]

    answers: list[Answer | None] = []
    worker = world.worker()
    with world.at_work(worker):
        from support.durable import post  # noqa: PLC0415

        threads = [
            threading.Thread(target=lambda: answers.append(post(app, {}, HTTP_IDEMPOTENCY_KEY='"k"'))) for _ in range(2)
        ]
        threads[0].start()
        assert inside.wait(10)
        late = post(app, {}, HTTP_IDEMPOTENCY_KEY="k")
        threads[1].start()
        go_on.set()
        for thread in threads:
            thread.join()
    assert (late.status, late.headers["Retry-After"]) == (409, "1")
    assert [answer and answer.body for answer in answers] == [b"done", b"done"]
    assert runs == ["run"]


def test_what_was_done_is_not_done_again(world: World) -> None:
    """The worker dies at its second step: the first is answered from the journal, with the very result, elsewhere."""
    platform, orders = Remote(), Remote(die="before")
    app, first, second = gift(platform, orders), world.worker(), world.worker()
    assert world.call(first, app) is None
    orders.die = ""
    again = world.call(second, app)
    assert again is not None
    assert (again.status, again.json, again.headers["X-Attempt"]) == (201, {"receipt": 1, "of": ["1", 1]}, "2")
    assert (platform.calls, orders.calls) == (["1"], ["1"])


def test_the_dead_worker_s_request_is_found_without_its_client(world: World) -> None:
    """Recovery runs it with what was written down of it, once, and there is nothing left to recover."""
    platform, orders = Remote(), Remote(die="before")
    app, first = gift(platform, orders), world.worker()
    assert world.call(first, app) is None
    orders.die = ""
    second = world.worker()
    assert [answer.status for answer in world.recover(second, app)] == [201]
    assert world.recover(second, app) == []
    assert world.recover(world.worker(), app) == []
    assert (platform.calls, orders.calls) == (["1"], ["1"])
    late = world.call(second, app)
    assert late is not None
    assert late.status == 201


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_step_in_doubt_is_held(world: World, moment: str) -> None:
    """Nobody knows, so nobody guesses: the request is parked, whether the present was sent or not, and says so."""
    platform, orders = Remote(die=moment), Remote()
    app, first, second = gift(platform, orders), world.worker(), world.worker()
    assert world.call(first, app) is None
    platform.die = ""
    (answer,) = world.recover(world.worker(), app)
    assert answer.status == 500
    assert answer.json["durable"] is True
    again = world.call(second, app)
    assert again is not None
    assert again.status == 409
    assert "sendPresent" in again.body.decode()
    assert len(platform.calls) == (moment == "after")
    assert orders.calls == []
    (record,) = second.listing(State.PARKED)
    assert "nobody knows whether it has happened" in record.why
    assert any("is parked" in line for line in world.said)


def test_a_step_in_doubt_is_retried_with_the_same_key(world: World) -> None:
    """A callee that honours the key does it once."""
    platform, orders = Remote(die="after"), Remote()
    app, first = gift(platform, orders, present="retry"), world.worker()
    assert world.call(first, app) is None
    platform.die = ""
    assert [answer.status for answer in world.recover(world.worker(), app)] == [201]
    assert platform.calls == ["1", "1"]
    assert len(platform.keys) == 2
    assert len(set(platform.keys)) == 1


@pytest.mark.parametrize("happened", [True, False])
def test_a_step_in_doubt_is_asked_about(world: World, *, happened: bool) -> None:
    """The check's result is the step's; NotDone means that it is run."""
    platform, asked = Remote(die="after" if happened else "before"), []

    def check(what: str) -> str:
        asked.append(what)
        if not platform.calls:
            raise durable.NotDone
        return "found"

    @durable.request(key="order_id")
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        sent = durable.step("sendPresent", platform.do, "p", check=check)
        start_response("200 OK", [])
        return [json.dumps(sent).encode()]

    assert world.call(world.worker(), app) is None
    platform.die = ""
    (answer,) = world.recover(world.worker(), app)
    assert answer.body == (b'"found"' if happened else b'{"receipt": 1, "of": ["p", 1]}')
    assert platform.calls == ["p"]
    assert asked == ["p"]


def test_who_cannot_be_asked_now_is_asked_later(world: World) -> None:
    """A check that fails decides nothing: 503, and the request stays one that is to be recovered."""
    platform = Remote(die="after")
    there: list[str] = []

    def check(what: str) -> str:
        if not there:
            raise ConnectionRefusedError("nobody is there")
        return "found"

    @durable.request(key="order_id")
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        durable.step("sendPresent", platform.do, "p", check=check)
        start_response("200 OK", [])
        return [b"done"]

    assert world.call(world.worker(), app) is None
    worker = world.worker()
    (answer,) = world.recover(worker, app)
    assert (answer.status, answer.json["durable"]) == (503, True)
    there.append("now")
    assert [answer.status for answer in world.recover(worker, app)] == [200]


def test_a_failure_is_a_result(world: World) -> None:
    """The application takes the same way when it is run again, though the callee would not fail any more."""
    platform, orders, ways = Remote(fail="no"), Remote(die="before"), []

    @durable.request(key="order_id")
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        try:
            durable.step("sendPresent", platform.do, "p")
        except durable.StepFailed as failed:
            ways.append((failed.step, failed.kind, failed.text))
        durable.step("note", orders.do, "n", in_doubt="retry")
        start_response("200 OK", [])
        return [b"without"]

    assert world.call(world.worker(), app) is None
    platform.fail, orders.die = "", ""
    assert [answer.body for answer in world.recover(world.worker(), app)] == [b"without"]
    assert ways == [("sendPresent", "OSError", "no")] * 2
    assert platform.calls == []


def test_a_request_that_is_half_done_at_its_end_is_parked(world: World) -> None:
    """A failure that the application lets pass, after something was done: never a 500 that nobody hears of again."""
    platform, orders = Remote(), Remote(fail="the database is away")
    app, worker = gift(platform, orders), world.worker()
    answer = world.call(worker, app)
    assert answer is not None
    assert answer.status == 500
    (record,) = worker.listing(State.PARKED)
    assert "the database is away" in record.why
    orders.fail = ""
    worker.order("retry", record.id)
    worker.tidy()
    assert [answer.status for answer in world.recover(worker, app)] == [201]
    assert platform.calls == ["1"]


def test_a_request_that_has_done_nothing_is_forgotten(world: World) -> None:
    """An error before the first step: the same key may be used again."""
    platform, tries = Remote(), []

    @durable.request(key="order_id")
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        tries.append("try")
        if len(tries) == 1:
            raise ValueError("a bug")
        if len(tries) == 2:
            start_response("503 Service Unavailable", [])
            return [b"later"]
        durable.step("sendPresent", platform.do, "p")
        start_response("200 OK", [])
        return [b"done"]

    worker = world.worker()
    with pytest.raises(ValueError, match="a bug"):
        world.call(worker, app)
    assert worker.listing() == []
    answers = [world.call(worker, app), world.call(worker, app)]
    assert [answer and answer.body for answer in answers] == [b"later", b"done"]


def test_a_step_that_was_certainly_not_done_leaves_no_trace(world: World) -> None:
    """NotDone: nothing is in doubt, nothing has failed, and the request is tried again if something was done before."""
    platform, orders = Remote(), Remote()
    down = ["down"]

    def save(what: str) -> dict[str, object]:
        if down:
            raise durable.NotDone("no connection")
        return orders.do(what)

    @durable.request(key="order_id")
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        durable.step("sendPresent", platform.do, "p")
        durable.step("saveOrder", save, "o")
        start_response("200 OK", [])
        return [b"done"]

    worker = world.worker()
    answer = world.call(worker, app)
    assert answer is not None
    assert (answer.status, answer.json["durable"]) == (503, True)
    down.clear()
    assert [answer.status for answer in world.recover(worker, app)] == [200]
    assert (platform.calls, orders.calls) == (["p"], ["o"])


def test_code_that_has_changed_parks(world: World) -> None:
    """A step under another name, or steps that are left out: nothing is guessed."""
    platform, orders = Remote(), Remote(die="before")
    first = world.worker()
    assert world.call(first, gift(platform, orders)) is None

    @durable.request(key="order_id")
    def renamed(environ: Environ, start_response: Start) -> Iterable[bytes]:
        try:
            durable.step("sendGift", platform.do, "1")
        except Exception:  # noqa: S110 - an application that hides everything
            pass
        start_response("200 OK", [])
        return [b"all is well"]

    (answer,) = world.recover(world.worker(), renamed)
    assert answer.status == 500
    assert "step 1 is sendGift now, and was sendPresent" in answer.body.decode()
    assert platform.calls == ["1"]


def test_code_that_leaves_steps_out_parks(world: World) -> None:
    """As above."""
    platform, orders = Remote(), Remote(die="before")
    assert world.call(world.worker(), gift(platform, orders)) is None

    @durable.request(key="order_id")
    def shorter(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"all is well"]

    (answer,) = world.recover(world.worker(), shorter)
    assert answer.status == 500
    assert "0 of its 2 recorded steps" in answer.body.decode()


def test_a_request_that_never_ends_is_parked(world: World) -> None:
    """After five attempts somebody has to look at it."""
    platform, orders = Remote(), Remote(die="before")
    app = gift(platform, orders)
    assert world.call(world.worker(), app) is None
    for _ in range(4):
        assert world.call(world.worker(), app) is None
    answer = world.call(world.worker(), app)
    assert answer is not None
    assert answer.status == 500
    assert "it has been run 5 times" in answer.body.decode()
    assert platform.calls == ["1"]


def test_an_operator_says_what_has_happened(world: World) -> None:
    """`retry` with the result of the doubtful step: it is not run, and the rest is."""
    platform, orders = Remote(die="after"), Remote()
    app = gift(platform, orders)
    assert world.call(world.worker(), app) is None
    platform.die = ""
    worker = world.worker()
    world.recover(worker, app)
    (record,) = worker.listing(State.PARKED)
    worker.order("retry", record.id, b'{"receipt": 17}')
    worker.tidy()
    (answer,) = world.recover(worker, app)
    assert answer.json == {"receipt": 17}
    assert (platform.calls, orders.calls) == (["1"], ["1"])


def test_an_operator_has_the_doubtful_step_run_again(world: World) -> None:
    """`retry` without a result."""
    platform, orders = Remote(die="before"), Remote()
    app = gift(platform, orders)
    assert world.call(world.worker(), app) is None
    platform.die = ""
    worker = world.worker()
    world.recover(worker, app)
    (record,) = worker.listing(State.PARKED)
    worker.order("retry", record.id)
    worker.tidy()
    assert [answer.status for answer in world.recover(worker, app)] == [201]
    assert (platform.calls, orders.calls) == (["1"], ["1"])


def test_an_operator_abandons(world: World) -> None:
    """It is not run again, and whoever asks is told."""
    platform, orders = Remote(die="before"), Remote()
    app = gift(platform, orders)
    assert world.call(world.worker(), app) is None
    platform.die = ""
    worker = world.worker()
    world.recover(worker, app)
    (record,) = worker.listing(State.PARKED)
    worker.order("abandon", record.id)
    worker.tidy()
    assert world.recover(worker, app) == []
    answer = world.call(worker, app)
    assert answer is not None
    assert answer.status == 409
    assert "abandoned" in answer.body.decode()
    assert platform.calls == []


def test_what_is_asked_for_and_answered_has_bounds(world: World) -> None:
    """413 before anything has begun."""

    @durable.request(key="order_id", max_body=16)
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        raise AssertionError

    answer = world.call(world.worker(), app, order="x" * 20)
    assert answer is not None
    assert answer.status == 413


def test_a_result_that_cannot_be_written_parks(world: World) -> None:
    """The step has happened; what it returned is no JSON. An error of the program's, seen at its first run."""

    @durable.request(key="order_id")
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        durable.step("sendPresent", lambda: object())  # noqa: PLW0108
        raise AssertionError

    worker = world.worker()
    answer = world.call(worker, app)
    assert answer is not None
    assert answer.status == 500
    assert "its result cannot be written as JSON" in answer.body.decode()
    assert [record.state for record in worker.listing()] == [State.PARKED]


def test_steps_belong_into_a_durable_request_and_not_into_one_another() -> None:
    """Mistakes are told where they are made."""
    with pytest.raises(LookupError, match="inside a durable request"):
        durable.step("sendPresent", print)
    with pytest.raises(ValueError, match="in_doubt is hold or retry"):
        durable.step("sendPresent", print, in_doubt="maybe")


def test_without_a_journal_nothing_durable_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """503: a journal that nobody has asked for would be one that nobody looks at."""
    from lastcall.durable import place  # noqa: PLC0415
    from support.durable import post  # noqa: PLC0415

    monkeypatch.delenv(place.VARIABLE, raising=False)
    app = gift(Remote(), Remote())
    answer = post(app, {"order_id": "1"})
    assert answer.status == 503
    assert answer.json["begun"] is False
