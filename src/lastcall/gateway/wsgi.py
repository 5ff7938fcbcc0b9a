"""PEP 3333: a request becomes an environ, the application is called, what it gives back becomes a response.

Decides what an application may do and what is said when it does otherwise. Knows no socket: bytes leave through a
`Sink`, framing is the codec's.
"""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, Protocol

from lastcall.protocol.exchange import Codec, Request, ResponseError

Environ = dict[str, object]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
Application = Callable[[Environ, Callable[..., Callable[[bytes], object]]], Iterable[bytes]]

KEYS_MAX: Final = 1024
"""Request field names whose environ key is remembered."""
TRACEBACK_FRAMES: Final = 30
"""Innermost frames of an application's traceback that go to the log."""


class ClientGone(Exception):
    """The client no longer takes the answer (reset, closed, or silent for longer than `send_timeout`)."""


class InputError(OSError):
    """What `wsgi.input` raises when the body cannot be read to its end, and that is the client's fault.

    An OSError, because that is what frameworks expect of a file; one that lets it pass need not answer: `status` is
    the answer, `detail` says in words what was wrong.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Sink(Protocol):
    """Where a response goes. The methods that send raise ClientGone, and return without waiting for the client."""

    def write(self, data: bytes) -> None:
        """Send, or keep to send later, all of it and in order."""

    def span(self, file: object) -> int | None:
        """Bytes from a file-like object's position to its end, if they are those of a plain file; else None."""

    def sendfile(self, head: bytes, file: object, count: int) -> None:
        """Send `head`, then `count` bytes of the file from its position."""


class FileWrapper:
    """`wsgi.file_wrapper`: an iterable over a file-like object that the server may send with sendfile(2)."""

    def __init__(self, filelike: io.BufferedIOBase, blksize: int = 65536) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        while block := self.filelike.read(self.blksize):
            yield block


# --- environ -------------------------------------------------------------------


class _Keys(dict[bytes, str]):
    """Field name -> environ key; "" for fields that are left out.

    A name with an underscore would be taken for its twin with a hyphen; `Proxy` would become HTTP_PROXY, which HTTP
    clients in the application obey (CVE-2016-5385).
    """

    def __missing__(self, name: bytes) -> str:
        text = name.decode("latin-1")
        key = "" if "_" in text or text == "proxy" else "HTTP_" + text.upper().replace("-", "_")
        if len(self) < KEYS_MAX:
            self[name] = key
        return key


_KEYS = _Keys({b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"})


def environ(request: Request, base: Environ, body: object) -> Environ:
    """The environ of one request. `base` holds what is the same for all requests of a connection."""
    env = base.copy()
    if request.params:
        _from_cgi(request, env)
    else:
        env["REQUEST_METHOD"] = request.method
        env["PATH_INFO"] = request.path
        env["QUERY_STRING"] = request.query
        env["REQUEST_URI"] = env["RAW_URI"] = request.target
        env["SERVER_PROTOCOL"] = request.version
        keys = _KEYS
        for name, value in request.headers:
            key = keys[name]
            if key in env:
                glue = "; " if key == "HTTP_COOKIE" else ","
                env[key] = f"{env[key]}{glue}{value.decode('latin-1')}"
            elif key:
                env[key] = value.decode("latin-1")
    env["wsgi.input"] = body
    return env


def _from_cgi(request: Request, env: Environ) -> None:
    params = request.params
    env.update(params)
    for name in ("HTTP_PROXY", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"):
        env.pop(name, None)
    if not params.get("PATH_INFO"):
        # Fronts that were set up for PHP put the whole path into SCRIPT_NAME (docs/FASTCGI.md).
        env["PATH_INFO"] = params.get("SCRIPT_NAME", "") or request.path
        env["SCRIPT_NAME"] = ""
    env.setdefault("SCRIPT_NAME", "")
    env.setdefault("QUERY_STRING", request.query)
    env["REQUEST_METHOD"] = request.method
    env["SERVER_PROTOCOL"] = request.version
    env["RAW_URI"] = request.target
    if not params.get("CONTENT_LENGTH"):
        env.pop("CONTENT_LENGTH", None)
    if params.get("HTTPS", "off").lower() not in ("", "off"):
        env["wsgi.url_scheme"] = "https"


# --- The application ---------------------------------------------------------------


class Outcome:
    """How a request ended, for the logs. The defaults stand in the class: to make one is to make nothing."""

    status: int = 500
    sent: int = 0
    """Body bytes handed to the sink."""
    headers: Sequence[tuple[str, str]] = ()
    error: str = ""
    """What the application did wrong, with its traceback; "" if nothing."""
    gone: bool = False
    """The client did not wait for the answer."""
    refused: str = ""
    """What was wrong with the request's body, where the answer says so."""


class Response:
    """One call of the application: `start_response`, `write`, and the order in which things may happen."""

    __slots__ = ("_codec", "_head_sent", "_headers", "_sink", "_status", "outcome")

    def __init__(self, codec: Codec, sink: Sink) -> None:
        self._codec = codec
        self._sink = sink
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._head_sent = False
        self.outcome = Outcome()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._head_sent and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no reference cycle through the traceback
        elif self._status:
            raise AssertionError("start_response was called twice without exc_info (PEP 3333)")
        if type(status) is not str:
            raise TypeError(f"the status must be str, not {type(status).__name__}")
        if type(headers) is not list:
            raise TypeError(f"the headers must be a list, not {type(headers).__name__}")
        for name, value in headers:
            if type(name) is not str or type(value) is not str:
                raise TypeError(f"a header must be two str, not ({type(name).__name__}, {type(value).__name__})")
        self._status = status
        self._headers = headers
        return self.write

    def write(self, data: bytes) -> None:
        """The imperative way to send (PEP 3333, "The write() Callable")."""
        _check_chunk(data)
        self._send(data, None)

    def _send(self, chunk: bytes, length: int | None, *, last: bool = False) -> None:
        codec = self._codec
        out = b""
        if not self._head_sent:
            out = self._head(length)
        if chunk:
            framed = codec.data(chunk)
            if framed:
                out += framed
                self.outcome.sent += len(chunk)
        if last:
            out += codec.end()
        self._head_sent = True
        if out:
            self._sink.write(out)

    def _head(self, length: int | None) -> bytes:
        if not self._status:
            raise AssertionError("the application did not call start_response")
        head = self._codec.head(self._status, self._headers, length)
        self.outcome.status = int(self._status[:3])
        self.outcome.headers = self._headers
        return head

    def send_all(self, iterable: Iterable[bytes]) -> None:
        """Send the body, and end the response."""
        if type(iterable) is list or type(iterable) is tuple:
            if len(iterable) == 1:
                chunk = iterable[0]
                if type(chunk) is not bytes:
                    _check_chunk(chunk)
                self._send(chunk, len(chunk), last=True)
                return
        elif isinstance(iterable, FileWrapper):
            if self._send_file(iterable):
                return
            iterable = self._announced_part(iterable)
        for chunk in iterable:
            if type(chunk) is not bytes:
                _check_chunk(chunk)
            if chunk:
                self._send(chunk, None)
        # Nothing but empty strings: the length is known after all.
        self._send(b"", 0, last=True)

    def _send_file(self, wrapper: FileWrapper) -> bool:
        span = None if self._head_sent else self._sink.span(wrapper.filelike)
        if span is None:
            return False
        announced = _announced(self._headers)
        count = span if announced is None else min(span, announced)
        head = self._head(span)
        self._head_sent = True
        if not self._codec.raw_body:
            self._sink.write(head)
            return False
        self._codec.sent_raw(count)
        self.outcome.sent += count
        self._sink.sendfile(head, wrapper.filelike, count)
        self._sink.write(self._codec.end())
        return True

    def _announced_part(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """As much of a file as Content-Length announces (PEP 3333), however long the file is."""
        left = _announced(self._headers)
        for block in blocks:
            if left is None:
                yield block
                continue
            yield block[:left]
            left -= len(block)
            if left <= 0:
                return

    def refuse(self, error: InputError) -> None:
        """The client did not send the body that it announced, and the application has left the answer to us."""
        self.outcome.refused = error.detail
        if self._head_sent:
            self._break_off()
            return
        self._head_sent = True
        self.outcome.status = error.status
        self._sink.write(self._codec.refuse(error.status, error.detail))

    def _break_off(self) -> None:
        tail = self._codec.end(complete=False)
        if tail:
            self._sink.write(tail)

    def fail(self, why: str) -> None:
        """The application broke off: answer 500 where nothing was sent yet, else end the response as incomplete."""
        self.outcome.error = why
        codec = self._codec
        if self._head_sent:
            self._break_off()
            return
        self._head_sent = True
        self.outcome.status = 500
        self.outcome.headers = [("Content-Type", "text/plain; charset=utf-8")]
        text = b"500 Internal Server Error\n"
        self.outcome.sent = len(text)
        head = codec.head("500 Internal Server Error", self.outcome.headers, len(text))
        self._sink.write(head + codec.data(text) + codec.end())

    def explain_shortness(self) -> None:
        """Say that the application sent less than it announced; the codec has seen to the connection."""
        outcome = self.outcome
        outcome.error = f"the application announced {_announced(outcome.headers)} bytes and sent {outcome.sent}"


def _announced(headers: Sequence[tuple[str, str]]) -> int | None:
    for name, value in headers:
        if name.lower() == "content-length" and value.isdecimal():
            return int(value)
    return None


def run(app: Application, env: Environ, codec: Codec, sink: Sink) -> Outcome:
    """Call the application and send its answer. Never raises for what the application does.

    BaseExceptions that are no Exceptions (SystemExit, KeyboardInterrupt) count as the application's errors, too: an
    application does not decide when its worker ends.
    """
    response = Response(codec, sink)
    iterable: Iterable[bytes] = ()
    try:
        try:
            iterable = app(env, response.start_response)
            response.send_all(iterable)
        except ClientGone:
            response.outcome.gone = True
        except BaseException as error:
            _fail(response, error)
        else:
            if codec.short:
                response.explain_shortness()
    finally:
        _close(iterable, response)
    return response.outcome


def _fail(response: Response, error: BaseException) -> None:
    try:
        if isinstance(error, InputError):
            response.refuse(error)
        else:
            response.fail(explain(error))
    except ClientGone:
        response.outcome.gone = True


def _close(iterable: Iterable[bytes], response: Response) -> None:
    close = getattr(iterable, "close", None)
    if close is None:
        return
    try:
        close()
    except BaseException as error:
        response.outcome.error = response.outcome.error or explain(error)


def _check_chunk(chunk: object) -> None:
    if not isinstance(chunk, bytes):
        raise TypeError(f"the body must be bytes, not {type(chunk).__name__}")


def explain(error: BaseException) -> str:
    """An error's traceback without our own frames: what the application's author can use."""
    if isinstance(error, ResponseError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename != __file__][-TRACEBACK_FRAMES:]
    lines = traceback.format_list(ours) if ours else []
    summary = "".join(traceback.format_exception_only(error)).strip()
    if not lines:
        return summary
    return summary.splitlines()[-1] + "\nTraceback (most recent call last):\n" + "".join(lines) + summary
