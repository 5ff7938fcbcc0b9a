"""A durable request from its arrival to its answer: claimed, found or begun, run, and what came of it written down.

Knows requests and responses (`record.py`), no protocol. `wsgi.py` turns environs into the one and the other into bodies.
What is answered without the application is `application/problem+json` (RFC 9457), with the status codes of the IETF draft
on the Idempotency-Key header: 400 without a key, 409 while it runs, 422 for another request under the same key.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from lastcall.durable import judge
from lastcall.durable.journal import Full, Journal, JournalError
from lastcall.durable.judge import Ending, Meeting
from lastcall.durable.record import KEY_MAX, RESPONSE_MAX, Asked, Record, Response, State, full_key
from lastcall.durable.run import Broken, NotDone, Run

RETRY_AFTER = 1
"""Seconds after which it makes sense to ask again."""


class NoKey(Exception):
    """The request has no key, or none that can be used; the text is for the client."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How requests are run, apart from what they are."""

    wait: float = 5.0
    """Seconds for which a request waits for another one with the same key, before it is told to come back."""
    tell: Callable[[str], None] = lambda _: None
    """What an operator must see."""
    now: Callable[[], float] = time.time


def problem(status: HTTPStatus, detail: str, **more: object) -> Response:
    """An answer of ours."""
    document = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail, **more}
    body = msgspec.json.encode(document) + b"\n"
    headers = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.CONFLICT):
        headers.append(("Retry-After", str(RETRY_AFTER)))
    return Response(f"{int(status)} {status.phrase}", headers, body)


def check_key(key: object) -> str:
    """A key that can be used. Raises NoKey."""
    if not isinstance(key, str) or not key:
        raise NoKey("this request needs an idempotency key")
    if len(key) > KEY_MAX or not key.isprintable():
        raise NoKey(f"an idempotency key has 1 to {KEY_MAX} printable characters")
    return key


class Engine:
    """Runs durable requests against one journal."""

    def __init__(self, journal: Journal, manner: Manner | None = None) -> None:
        self.journal = journal
        self._manner = manner or Manner()
        self._owner = f"{socket.gethostname()} pid {os.getpid()}"

    def enter(
        self, asked: Asked, scope: str, key: str, *, at_step: Callable[[str], None] = lambda _: None
    ) -> Run | Response:
        """A run, whose end is `leave`; or what is to be answered instead of running."""
        whole = full_key(scope, key)
        try:
            if not self.journal.claim(whole, self._manner.wait):
                return problem(HTTPStatus.CONFLICT, "A request with this idempotency key is running.")
        except JournalError as error:
            return self._unavailable(error)
        run: Run | Response | None = None
        try:
            run = self._meet(asked, whole, at_step)
        except JournalError as error:
            run = self._unavailable(error)
        finally:
            if not isinstance(run, Run):
                self.journal.release(whole)
        return run

    def _meet(self, asked: Asked, key: str, at_step: Callable[[str], None]) -> Run | Response:
        found = self.journal.find(key)
        fingerprint, now = asked.fingerprint, self._manner.now()
        match judge.meet(found, fingerprint), found:
            case Meeting.BEGIN, _:
                record = Record(
                    key,
                    secrets.token_hex(8),
                    fingerprint,
                    asked.method,
                    asked.target,
                    now,
                    now,
                    self._owner,
                    asked=asked,
                )
                self.journal.begin(record)
            case Meeting.ADOPT, Record() as found:
                record = msgspec.structs.replace(found, attempt=found.attempt + 1, changed=now, owner=self._owner)
                self.journal.adopt(record)
            case Meeting.EXHAUSTED, Record() as found:
                return self._park(found, f"it has been run {judge.ATTEMPTS_MAX} times, and never to its end")
            case Meeting.MISMATCH, _:
                detail = "This idempotency key was used for another request."
                return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
            case Meeting.ANSWER, Record(response=Response() as response):
                return response
            case Meeting.PARKED, Record() as found:
                return _parked(found, found.why, HTTPStatus.CONFLICT)
            case Meeting.ABANDONED, Record() as found:
                detail = "This request was begun, and has been abandoned."
                return problem(HTTPStatus.CONFLICT, detail, journal=found.id)
            case meeting, _:
                raise AssertionError(meeting)
        return Run(self.journal, record, at_step=at_step, now=self._manner.now)

    def leave(self, run: Run, response: Response | None, error: BaseException | None = None) -> Response | None:
        """Write down what came of a run, before anybody hears of it; returns what is to be answered.

        `response` is None when the application has raised `error`, or was ended by `run.halted`. None is returned when
        nothing was written and the application's own end may take its course.
        """
        try:
            return self._leave(run, response, error)
        except JournalError as trouble:
            return self._broken(run, f"its end cannot be written down: {trouble}")
        finally:
            self.journal.release(run.record.key)

    def drop(self, run: Run) -> None:
        """Leave a run as its worker's death would: unfinished, for somebody to adopt."""
        self.journal.release(run.record.key)

    def _leave(self, run: Run, response: Response | None, error: BaseException | None) -> Response | None:
        if isinstance(run.halted, Broken):
            return self._broken(run, str(run.halted))
        if isinstance(error, NotDone) and run.recorded == run.passed > 0:
            return self._broken(run, f"its next step was not done: {error}")
        if run.halted is not None:
            return self._park(run.record, str(run.halted))
        status = 500 if response is None else int(response.status[:3])
        match judge.conclude(status=status, recorded=run.recorded, passed=run.passed):
            case Ending.FORGET:
                self.journal.forget(run.record)
                return response
            case Ending.PARK if run.recorded > run.passed:
                steps = f"{run.passed} of its {run.recorded} recorded steps"
                return self._park(run.record, f"the application has gone through {steps} only: has its code changed?")
            case Ending.PARK:
                raised = error and f"{type(error).__name__}: {error}"
                said = raised or f"the application has answered {status}"
                return self._park(run.record, f"after {run.recorded} of its steps: {said}")
            case Ending.DONE:
                assert response is not None
                if len(response.body) > RESPONSE_MAX:
                    detail = "The request was completed, but its response was too large to be kept."
                    response = problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail, journal=run.record.id)
                self.journal.end(run.record, State.DONE, response=response)
                return response

    def _park(self, record: Record, why: str) -> Response:
        self.journal.end(record, State.PARKED, why=why)
        self._manner.tell(f'durable request {record.id} "{record.method} {record.target}" is parked: {why}')
        return _parked(record, why, HTTPStatus.INTERNAL_SERVER_ERROR)

    def park(self, record: Record, why: str) -> None:
        """Park a request that is not run now; its key is claimed by the caller. Raises JournalError."""
        self._park(record, why)

    def _broken(self, run: Run, why: str) -> Response:
        record = run.record
        self._manner.tell(f'durable request {record.id} "{record.method} {record.target}" stays unfinished: {why}')
        detail = "This request was begun, and could not be finished now. It is in the journal, and will be completed."
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, durable=True, begun=True, journal=record.id)

    def _unavailable(self, error: JournalError) -> Response:
        self._manner.tell(f"a durable request was refused, for {error}")
        what = "is full" if isinstance(error, Full) else "cannot be written"
        detail = f"The journal {what}: this request was not begun."
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, begun=False)


def _parked(record: Record, why: str, status: HTTPStatus) -> Response:
    detail = f"This request was begun, and somebody has to decide how it goes on: {why}"
    return problem(status, detail, durable=True, begun=True, journal=record.id)
