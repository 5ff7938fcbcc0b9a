"""`durable.request` for WSGI applications: an environ becomes a request to be kept, and a response is collected first."""

from __future__ import annotations

import functools
import io
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Protocol

from lastcall.durable import place
from lastcall.durable.engine import NoKey, check_key, problem
from lastcall.durable.journal import JournalError
from lastcall.durable.keys import Key, find_key
from lastcall.durable.record import Asked, Response
from lastcall.durable.run import Halt, Run

Environ = dict[str, object]
Start = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, Start], Iterable[bytes]]


class Seat(Protocol):
    """Who serves the request, where it is lastcall: `environ["lastcall.durable"]`."""

    @property
    def origin(self) -> tuple[str, str]:
        """SCRIPT_NAME and PATH_INFO as they came, whatever a middleware has made of them."""

    def promise(self) -> None:
        """Whoever finds this request unanswered may run it again."""


def wrap(app: Application, key: Key, scope: str | None, max_body: int) -> Application:
    """The application, made durable."""

    @functools.wraps(app)
    def durably(environ: Environ, start_response: Start) -> Iterable[bytes]:
        asked = _asked(environ, max_body)
        if isinstance(asked, Response):
            return _answer(asked, start_response)
        try:
            found = check_key(find_key(key, asked))
        except NoKey as error:
            return _answer(problem(HTTPStatus.BAD_REQUEST, str(error)), start_response)
        seat = environ.get("lastcall.durable")
        if seat is not None:
            seat.promise()  # type: ignore[attr-defined]  # a Seat, from our own server
        try:
            engine = place.engine()
        except JournalError as error:
            return _answer(place.refused(error), start_response)
        run = engine.enter(asked, asked.path if scope is None else scope, found, at_step=place.at_step)
        if isinstance(run, Response):
            return _answer(run, start_response)
        return _run(app, environ, start_response, run, asked.body)

    place.wanted = True
    return durably


def _run(app: Application, environ: Environ, start_response: Start, run: Run, body: bytes) -> Iterable[bytes]:
    engine = place.engine()
    environ["wsgi.input"] = io.BytesIO(body)
    if body or environ.get("CONTENT_LENGTH"):
        environ["CONTENT_LENGTH"] = str(len(body))
    environ["lastcall.journal_id"] = run.record.id
    if run.record.attempt > 1:
        environ["lastcall.attempt"] = run.record.attempt
    try:
        with run.entered():
            response = collect(app, environ)
    except Halt:
        response = None
    except Exception as error:
        said = engine.leave(run, None, error)
        if said is None:
            raise  # nothing was done, and the server says what it says of any application that raises
        place.trouble(error)
        return _answer(said, start_response)
    except BaseException:  # SystemExit and the like: as if the worker had died here
        engine.drop(run)
        raise
    said = engine.leave(run, response)
    assert said is not None
    return _answer(said, start_response)


def collect(app: Application, environ: Environ) -> Response:
    """Call an application and take in all of its response (PEP 3333)."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    chunks: list[bytes] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], None]:
        if begun and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info (PEP 3333)")
        begun[:] = [(status, list(headers))]
        return chunks.append

    iterable = app(environ, start)
    try:
        chunks.extend(iterable)
    finally:
        close = getattr(iterable, "close", None)
        if close is not None:
            close()
    if not begun:
        raise AssertionError("the application did not call start_response")
    status, headers = begun[0]
    return Response(status, headers, b"".join(chunks))


def _answer(response: Response, start_response: Start) -> Iterable[bytes]:
    start_response(response.status, list(response.headers))
    return [response.body]


# --- What is asked -------------------------------------------------------------------


def _asked(environ: Environ, max_body: int) -> Asked | Response:
    """All of a request, or why it is not taken."""
    body = _body(environ, max_body)
    if body is None:
        detail = f"A durable request may have a body of {max_body} bytes."
        return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, begun=False)
    if isinstance(body, str):
        return problem(HTTPStatus.BAD_REQUEST, body, begun=False)
    cgi = {name: value for name, value in environ.items() if type(value) is str and "." not in name}
    seat = environ.get("lastcall.durable")
    if seat is not None:
        cgi["SCRIPT_NAME"], cgi["PATH_INFO"] = seat.origin  # type: ignore[attr-defined]  # a Seat
    if environ.get("wsgi.url_scheme") == "https":
        cgi["HTTPS"] = "on"
    return Asked(cgi.get("REQUEST_METHOD", ""), _target(cgi), cgi, body, str(environ.get("lastcall.request_id", "")))


def _body(environ: Environ, max_body: int) -> bytes | str | None:
    """The body; None: too long; or in words what was wrong with it."""
    announced = str(environ.get("CONTENT_LENGTH") or "")
    stream = environ.get("wsgi.input")
    if stream is None:
        return b""
    if announced:
        if not announced.isdecimal():
            return "Content-Length is no number."
        if int(announced) > max_body:
            return None
        body: bytes = stream.read(int(announced))  # type: ignore[attr-defined]  # PEP 3333
        return body if len(body) == int(announced) else "The body ended early."
    if not environ.get("wsgi.input_terminated"):
        return b""
    body = stream.read(max_body + 1)  # type: ignore[attr-defined]
    return body if len(body) <= max_body else None


def _target(cgi: dict[str, str]) -> str:
    """The request target as it was sent, as far as the server tells."""
    known = cgi.get("RAW_URI") or cgi.get("REQUEST_URI")
    if known:
        return known
    path = urllib.parse.quote((cgi.get("SCRIPT_NAME", "") + cgi.get("PATH_INFO", "")).encode("latin-1", "replace"))
    query = cgi.get("QUERY_STRING", "")
    return f"{path}?{query}" if query else path


__all__: Sequence[str] = ("collect", "wrap")
