"""The FastCGI codec, byte by byte: what comes in, what is understood, what goes out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastcall.protocol.exchange import Codec, ProtocolError, Request, ResponseError
from lastcall.protocol.fastcgi import FRAME, Connection, Limits
from support import fcgi
from support.fcgi import Record

GET = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/hello", "QUERY_STRING": "a=1", "SERVER_PROTOCOL": "HTTP/1.1"}
POST = {**GET, "REQUEST_METHOD": "POST", "CONTENT_LENGTH": "5"}
JUNK = b"\xffGET / HTTP/1.1\r\n\r\n"
CUT_HEAD = fcgi.begin(keep=True) + fcgi.record(fcgi.PARAMS, fcgi.pairs(GET))

fuzz = settings(derandomize=True, database=None, deadline=None, max_examples=150)


@dataclass
class Seen:
    """What a server sees of a connection, and what its front gets."""

    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    out: bytes = b""
    error: int | None = None
    read: bytes = b""
    """Of the body of a request that is not complete."""

    @property
    def records(self) -> list[tuple[int, int, bytes]]:
        """Sorted: what is owed may overtake an answer, depending on how the bytes arrived."""
        return sorted((each.kind, each.id, each.content) for each in fcgi.parse(self.out))


def served(chunks: list[bytes], codec: Connection | None = None) -> Seen:
    """Serve a connection as a worker does: each request is answered with nothing, once its body is there."""
    codec = codec or Connection(Limits())
    seen = Seen()
    current: Request | None = None
    body = b""
    try:
        for chunk in chunks:
            codec.receive(chunk)
            seen.out += codec.outgoing()
            while current is not None or (current := codec.request()):
                part = codec.read()
                if part is None:
                    break
                body += part
                if not part:
                    seen.requests.append((current.params, body))
                    seen.out += codec.end()
                    current, body = None, b""
    except ProtocolError as error:
        assert not codec.keep, "the connection is not to be used again"
        seen.error = error.status
    seen.read = body
    return seen


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def answer(number: int = 1) -> list[tuple[int, int, bytes]]:
    """The records of `served`'s empty answer."""
    return [ended(number), (fcgi.STDOUT, number, b"")]


def ended(number: int, status: int = 0) -> tuple[int, int, bytes]:
    return (fcgi.END_REQUEST, number, bytes((0, 0, 0, 0, status, 0, 0, 0)))


def taken(variables: dict[str, str] = GET, body: bytes = b"", *, keep: bool = True) -> tuple[Connection, Request]:
    """A codec whose request has been handed out and is to be answered."""
    codec = Connection(Limits())
    codec.receive(fcgi.message(variables, body, keep=keep))
    request = codec.request()
    assert request is not None
    return codec, request


def refused(data: bytes, limits: Limits | None = None) -> ProtocolError:
    """The error that some bytes are met with at the latest when the front closes."""
    codec = Connection(limits or Limits())
    codec.receive(data)
    codec.receive(b"")
    with pytest.raises(ProtocolError) as caught:
        _ = codec.request() and codec.read()
    assert codec.keep is False
    assert codec.idle is False
    return caught.value


# --- Requests, as bytes ------------------------------------------------------

MANY = {f"HTTP_X_{n}": "v" * n for n in range(0, 300, 7)} | GET
GET_VALUES = fcgi.pairs({"FCGI_MPXS_CONNS": "", "FCGI_SOMETHING": "", "FCGI_MAX_CONNS": ""})
RESULT = fcgi.pairs({"FCGI_MPXS_CONNS": "0", "FCGI_MAX_CONNS": "1"})

CASES: dict[str, tuple[bytes, list[tuple[dict[str, str], bytes]], list[tuple[int, int, bytes]]]] = {
    "a GET": (fcgi.message(GET, keep=True), [(GET, b"")], answer()),
    "a POST": (fcgi.message(POST, b"12345", keep=True), [(POST, b"12345")], answer()),
    "a body without CONTENT_LENGTH": (fcgi.message(GET, b"12345", keep=True), [(GET, b"12345")], answer()),
    "an empty CONTENT_LENGTH": (
        fcgi.message({**GET, "CONTENT_LENGTH": ""}, keep=True),
        [({**GET, "CONTENT_LENGTH": ""}, b"")],
        answer(),
    ),
    "a body longer than CONTENT_LENGTH": (fcgi.message(POST, b"1234567", keep=True), [(POST, b"12345")], answer()),
    "a request id of two bytes": (fcgi.message(GET, keep=True, id=0xFFFE), [(GET, b"")], answer(0xFFFE)),
    "padding": (
        fcgi.record(fcgi.BEGIN_REQUEST, bytes((0, 1, 1, 0, 0, 0, 0, 0)), padding=255)
        + fcgi.record(fcgi.PARAMS, fcgi.pairs(POST), padding=7)
        + fcgi.record(fcgi.PARAMS, padding=3)
        + fcgi.record(fcgi.STDIN, b"12345", padding=1)
        + fcgi.record(fcgi.STDIN, padding=255),
        [(POST, b"12345")],
        answer(),
    ),
    "pairs split over records": (
        fcgi.begin(keep=True) + fcgi.stream(fcgi.PARAMS, fcgi.pairs(GET), size=3) + fcgi.stdin(b""),
        [(GET, b"")],
        answer(),
    ),
    "lengths of four bytes": (
        fcgi.begin(keep=True) + fcgi.stream(fcgi.PARAMS, fcgi.pairs(GET, long=True)) + fcgi.stdin(b""),
        [(GET, b"")],
        answer(),
    ),
    "long values": (fcgi.message(MANY, keep=True), [(MANY, b"")], answer()),
    "two requests, one after the other": (
        fcgi.message(POST, b"first", keep=True) + fcgi.message(GET, keep=True, id=2),
        [(POST, b"first"), (GET, b"")],
        sorted(answer() + answer(2)),
    ),
    "two requests with one id": (
        fcgi.message(POST, b"first", keep=True) + fcgi.message(GET, keep=True),
        [(POST, b"first"), (GET, b"")],
        sorted(answer() + answer()),
    ),
    "FCGI_GET_VALUES before a request": (
        fcgi.record(fcgi.GET_VALUES, GET_VALUES, id=0) + fcgi.message(GET, keep=True),
        [(GET, b"")],
        sorted([*answer(), (fcgi.GET_VALUES_RESULT, 0, RESULT)]),
    ),
    "FCGI_GET_VALUES inside a request": (
        CUT_HEAD + fcgi.record(fcgi.GET_VALUES, GET_VALUES, id=0) + fcgi.record(fcgi.PARAMS) + fcgi.stdin(b""),
        [(GET, b"")],
        sorted([*answer(), (fcgi.GET_VALUES_RESULT, 0, RESULT)]),
    ),
    "FCGI_GET_VALUES between two requests": (
        fcgi.message(GET, keep=True)
        + fcgi.record(fcgi.GET_VALUES, GET_VALUES, id=0, padding=5)
        + fcgi.message(POST, b"12345", keep=True),
        [(GET, b""), (POST, b"12345")],
        sorted([*answer(), *answer(), (fcgi.GET_VALUES_RESULT, 0, RESULT)]),
    ),
    "a second request inside the first": (
        CUT_HEAD
        + fcgi.begin(keep=True, id=2)
        + fcgi.params(POST, id=2)
        + fcgi.record(fcgi.PARAMS)
        + fcgi.stdin(b"other", id=2)
        + fcgi.stdin(b""),
        [(GET, b"")],
        sorted([*answer(), ended(2, 1)]),
    ),
    "records of an inactive id": (
        fcgi.stdin(b"late", id=7)
        + fcgi.record(fcgi.ABORT_REQUEST, id=7)
        + CUT_HEAD
        + fcgi.params(POST, id=7)
        + fcgi.record(99, b"?", id=7)
        + fcgi.record(fcgi.PARAMS)
        + fcgi.stdin(b""),
        [(GET, b"")],
        answer(),
    ),
    "a refused role before a request": (
        fcgi.begin(role=3, keep=True, id=4) + fcgi.params(GET, id=4) + fcgi.message(GET, keep=True),
        [(GET, b"")],
        sorted([*answer(), ended(4, 3)]),
    ),
    "an abort before PARAMS is closed": (
        CUT_HEAD + fcgi.record(fcgi.ABORT_REQUEST) + fcgi.message(POST, b"12345", keep=True),
        [(POST, b"12345")],
        sorted([*answer(), ended(1)]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_valid_bytes_are_understood(name: str) -> None:
    """Fed whole, a connection's bytes give its requests, and its front what it is owed."""
    data, requests, records = CASES[name]
    seen = served([data])
    assert (seen.requests, seen.records, seen.error) == (requests, records, None)


@pytest.mark.parametrize("name", CASES)
def test_bytes_may_come_one_by_one(name: str) -> None:
    """How the bytes are divided makes no difference."""
    data, requests, records = CASES[name]
    seen = served(bytewise(data))
    assert (seen.requests, seen.records, seen.error) == (requests, records, None)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("split", [False, True])
def test_junk_behind_a_request_spoils_only_what_comes_next(name: str, split: bool) -> None:
    """Every request before the junk is answered; the junk is a 400."""
    data, requests, records = CASES[name]
    seen = served(bytewise(data + JUNK) if split else [data + JUNK])
    assert (seen.requests, seen.records, seen.error) == (requests, records, 400)


@pytest.mark.parametrize("name", CASES)
def test_a_connection_can_be_handed_over_wherever_its_bytes_stop(name: str) -> None:
    """Between two requests, inside a head, inside a body: another codec goes on from `unserved`."""
    data, requests, records = CASES[name]
    for at in range(len(data) + 1):
        first = Connection(Limits())
        before = served([data[:at]], first)
        carried = first.unserved(before.read)
        if carried is None:
            assert first.aborted or before.error
            continue
        after = served([carried, data[at:]] if carried else [data[at:]])
        assert before.requests + after.requests == requests
        assert replace(before, out=before.out + after.out).records == records
        assert after.error is None


def test_what_was_not_handed_out_can_be_handed_over() -> None:
    """A pipelined request that has been received whole, body and all, is still there to be given away."""
    for body in (b"", b"second"):
        codec, _ = taken(GET)
        rest = fcgi.message({**POST, "CONTENT_LENGTH": str(len(body))}, body, keep=True, id=9)
        codec.receive(rest + CUT_HEAD)
        codec.end()
        carried = codec.unserved()
        assert carried is not None
        assert fcgi.parse(carried) == fcgi.parse(rest + CUT_HEAD)


def test_nothing_can_be_handed_over_after_an_abort_or_an_error() -> None:
    """What was said of this request cannot be said again: the connection stays where it is."""
    codec = Connection(Limits())
    codec.receive(fcgi.begin(keep=True) + fcgi.params(GET))
    assert codec.request() is not None
    codec.receive(fcgi.record(fcgi.ABORT_REQUEST))
    assert codec.unserved() is None
    codec.end(complete=False)
    assert codec.unserved() == b""
    codec.receive(JUNK)
    assert codec.unserved() is None


def test_a_connection_on_which_something_is_owed_stays() -> None:
    """The question has been understood, and will not be seen by any other codec."""
    codec, _ = taken()
    codec.receive(fcgi.record(fcgi.GET_VALUES, GET_VALUES, id=0))
    codec.end()
    assert codec.unserved() is None
    assert codec.outgoing()
    assert codec.unserved() == b""


def test_what_is_behind_a_request_is_counted_if_it_is_not_answered_with_it() -> None:
    """The start of the next request is; one whose role nobody plays, or with a question or an abort in it, is not."""
    whole = fcgi.message(POST, b"12345", keep=True, id=2)
    for at in range(len(whole) + 1):
        codec, _ = taken()
        codec.receive(whole[:at])
        assert codec.behind == at
    question = fcgi.record(fcgi.GET_VALUES, GET_VALUES, id=0)
    for answered in (
        whole + question,
        fcgi.begin(role=2, id=2),
        fcgi.begin(id=2) + fcgi.record(fcgi.ABORT_REQUEST, id=2),
    ):
        codec, _ = taken()
        codec.receive(answered)
        assert codec.behind is None


# --- The request -------------------------------------------------------------


def test_a_request_has_the_fields_of_its_variables() -> None:
    """Nothing is invented: method, target, path, query, version and length are the front's."""
    variables = {
        **POST,
        "SCRIPT_NAME": "/app",
        "PATH_INFO": "/caf\xc3\xa9 au lait",
        "REQUEST_URI": "/app/caf%C3%A9%20au%20lait?a=1",
    }
    _, request = taken(variables, b"12345")
    assert request == Request(
        method="POST",
        target="/app/caf%C3%A9%20au%20lait?a=1",
        path="/app/caf\xc3\xa9 au lait",
        query="a=1",
        version="HTTP/1.1",
        headers=[],
        length=5,
        keep=True,
        params=variables,
    )


def test_a_target_is_rebuilt_where_request_uri_is_missing() -> None:
    """Encoded again, so that it fits in a line of a log."""
    _, request = taken({**GET, "PATH_INFO": "/a b%\n\xe9"})
    assert request.target == "/hello/a%20b%25%0A%E9?a=1"
    _, bare = taken({"REQUEST_METHOD": "GET"})
    assert (bare.target, bare.path, bare.query, bare.version, bare.length) == ("", "", "", "HTTP/1.0", None)


@pytest.mark.parametrize("keep", [True, False])
def test_keep_is_fcgi_keep_conn(keep: bool) -> None:
    """The flag of BEGIN_REQUEST (5.1), and nothing else, decides whether the connection lives on."""
    codec, request = taken(keep=keep)
    assert request.keep is keep
    codec.end()
    assert codec.keep is keep
    assert codec.idle


def test_a_request_is_handed_out_once() -> None:
    """Then None, until it is ended."""
    codec, _ = taken()
    codec.receive(fcgi.message(POST, b"12345", keep=True))
    assert codec.request() is None
    codec.end()
    assert codec.request() is not None


def test_a_body_is_read_as_it_comes() -> None:
    """None is: receive more. b"" is the end, for ever."""
    codec = Connection(Limits())
    codec.receive(fcgi.begin(keep=True) + fcgi.params(GET))
    assert codec.request() is not None
    assert codec.read() is None
    codec.receive(fcgi.record(fcgi.STDIN, b"one") + fcgi.record(fcgi.STDIN, b"two") + b"\1")
    assert [codec.read(), codec.read()] == [b"onetwo", None]
    codec.receive(fcgi.record(fcgi.STDIN)[1:])
    assert [codec.read(), codec.read()] == [b"", b""]


def test_a_body_ends_with_its_content_length() -> None:
    """php-fpm does not wait for the end of STDIN either; what still comes of it belongs to nobody."""
    codec = Connection(Limits())
    codec.receive(fcgi.begin(keep=True) + fcgi.params(POST) + fcgi.record(fcgi.STDIN, b"12345"))
    assert codec.request() is not None
    assert [codec.read(), codec.read()] == [b"12345", b""]
    codec.receive(fcgi.record(fcgi.STDIN, b"more"))
    assert codec.read() == b""
    codec.end()
    assert codec.idle
    seen = served([fcgi.record(fcgi.STDIN) + fcgi.message(GET, keep=True)], codec)
    assert (seen.requests, seen.error) == ([(GET, b"")], None)


def test_a_connection_is_not_closed_on_a_front_that_still_sends() -> None:
    """Without FCGI_KEEP_CONN a codec is not idle before STDIN is closed: a reset would take the answer with it."""
    codec = Connection(Limits())
    codec.receive(fcgi.begin() + fcgi.params(POST) + fcgi.record(fcgi.STDIN, b"12345"))
    assert codec.request() is not None
    codec.end()
    assert (codec.keep, codec.idle) == (False, False)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (JUNK, 400),
        (fcgi.record(fcgi.BEGIN_REQUEST, b"\0\1\0\0\0\0\0\0", version=2), 400),
        (fcgi.record(fcgi.BEGIN_REQUEST, b"\0\1\0"), 400),
        (fcgi.record(fcgi.BEGIN_REQUEST, b"\0\1\0\0\0\0\0\0\0"), 400),
        (fcgi.begin() + fcgi.begin(), 400),
        (fcgi.begin() + fcgi.stdin(b""), 400),
        (fcgi.begin() + fcgi.params(GET) + fcgi.params(GET), 400),
        (fcgi.begin() + fcgi.params({}), 400),
        (fcgi.message({**GET, "REQUEST_METHOD": ""}), 400),
        (fcgi.message({**GET, "REQUEST_METHOD": "GET /"}), 400),
        (fcgi.message({**GET, "CONTENT_LENGTH": "five"}), 400),
        (fcgi.message({**GET, "CONTENT_LENGTH": "-1"}), 400),
        (fcgi.message({**GET, "CONTENT_LENGTH": "\xb2"}), 400),
        (fcgi.message({**GET, "CONTENT_LENGTH": "9" * 5000}), 400),
        (fcgi.begin() + fcgi.stream(fcgi.PARAMS, b"\1"), 400),
        (fcgi.begin() + fcgi.stream(fcgi.PARAMS, b"\x80\0"), 400),
        (fcgi.begin() + fcgi.stream(fcgi.PARAMS, b"\1\xff\xff\xff"), 400),
        (fcgi.begin() + fcgi.stream(fcgi.PARAMS, fcgi.pairs(GET)[:-1]), 400),
        (fcgi.begin() + fcgi.stream(fcgi.PARAMS, b"\1\xff\xff\xff\xffN"), 400),
        (fcgi.record(fcgi.GET_VALUES, b"\1", id=0), 400),
    ],
)
def test_what_is_not_a_request_is_refused(data: bytes, status: int) -> None:
    """Garbage, broken pairs, records out of place and missing variables: one error, whole or byte by byte."""
    assert refused(data).status == status
    assert served(bytewise(data)).error == status


@pytest.mark.parametrize("kind", [0, 3, 6, 7, 8, 9, 10, 11, 12, 255])
def test_a_record_that_a_responder_never_gets_is_refused(kind: int) -> None:
    """With the id of the request it breaks the protocol, while PARAMS is open and while STDIN is."""
    assert refused(CUT_HEAD + fcgi.record(kind, b"12345678")).status == 400
    assert refused(fcgi.begin() + fcgi.params(POST) + fcgi.record(kind, b"12345678")).status == 400


def test_variables_are_limited_in_bytes_and_in_number() -> None:
    """431, and not a byte more is kept."""
    size = len(fcgi.pairs(GET))
    exact = Limits(params_bytes=size, params_count=len(GET))
    assert served([fcgi.message(GET, keep=True)], Connection(exact)).error is None
    assert refused(fcgi.message(GET), replace(exact, params_bytes=size - 1)).status == 431
    assert refused(fcgi.message(GET), replace(exact, params_count=len(GET) - 1)).status == 431
    assert served([fcgi.message({**GET, "A": "x" * 66000}, keep=True)]).error == 431


def test_of_a_variable_that_comes_twice_the_last_counts() -> None:
    """As in php-fpm."""
    codec = Connection(Limits())
    block = fcgi.pairs(GET) + fcgi.pairs({"QUERY_STRING": "b=2"})
    codec.receive(fcgi.begin() + fcgi.stream(fcgi.PARAMS, block))
    request = codec.request()
    assert request is not None
    assert request.query == "b=2"


# --- The end of the connection -----------------------------------------------


def test_a_front_may_close_between_requests() -> None:
    """Nothing is owed, and nothing more can come."""
    codec = Connection(Limits())
    codec.receive(b"")
    assert (codec.request(), codec.keep, codec.idle) == (None, False, True)


@pytest.mark.parametrize("data", [b"\1", CUT_HEAD[:8], CUT_HEAD[:16], CUT_HEAD])
def test_a_front_that_closes_inside_a_head_is_an_error(data: bytes) -> None:
    """Wherever in it."""
    assert refused(data).status == 400


def test_a_front_that_closes_inside_a_body_is_an_error() -> None:
    """The bytes that came are given first; the body does not pass for a whole one."""
    for variables in (GET, POST):
        codec = Connection(Limits())
        codec.receive(fcgi.begin(keep=True) + fcgi.params(variables) + fcgi.record(fcgi.STDIN, b"123"))
        assert codec.request() is not None
        codec.receive(b"")
        assert codec.read() == b"123"
        with pytest.raises(ProtocolError, match="400"):
            codec.read()
        assert codec.keep is False


def test_a_body_shorter_than_its_content_length_is_an_error() -> None:
    """A Responder should compare the two, and abort the update (6.2)."""
    codec, _ = taken(POST, b"123")
    assert codec.read() == b"123"
    with pytest.raises(ProtocolError, match="400"):
        codec.read()
    assert codec.keep is False


def test_a_front_that_half_closes_after_its_request_gets_its_answer() -> None:
    """And those that it has pipelined, too; then the connection is over."""
    codec = Connection(Limits())
    codec.receive(fcgi.message(GET, keep=True) + fcgi.message(POST, b"12345", keep=True, id=2))
    codec.receive(b"")
    assert codec.request() is not None
    assert codec.read() == b""
    codec.end()
    assert codec.keep is True
    assert codec.request() is not None
    assert codec.read() == b"12345"
    codec.end()
    assert (codec.keep, codec.idle, codec.request()) == (False, True, None)


# --- What is answered without an application ---------------------------------


def test_the_values_that_a_front_may_ask_for() -> None:
    """In the order asked for; what we do not know is left out (4.1)."""
    codec = Connection(Limits(), max_conns=32, max_reqs=8)
    names = ("FCGI_MPXS_CONNS", "FCGI_MAX_REQS", "NO_SUCH", "FCGI_MAX_CONNS")
    codec.receive(fcgi.record(fcgi.GET_VALUES, fcgi.pairs(dict.fromkeys(names, "")), id=0))
    result = fcgi.pairs({"FCGI_MPXS_CONNS": "0", "FCGI_MAX_REQS": "8", "FCGI_MAX_CONNS": "32"})
    assert codec.idle is False
    assert fcgi.parse(codec.outgoing()) == [Record(fcgi.GET_VALUES_RESULT, 0, result)]
    assert (codec.outgoing(), codec.idle) == (b"", True)


@pytest.mark.parametrize("kind", sorted(set(range(256)) - {fcgi.GET_VALUES}))
def test_every_other_management_record_is_unknown(kind: int) -> None:
    """The answer names its type (4.2), and the connection lives on."""
    codec = Connection(Limits())
    codec.receive(fcgi.record(kind, b"whatever", id=0))
    assert fcgi.parse(codec.outgoing()) == [Record(fcgi.UNKNOWN_TYPE, 0, bytes((kind, 0, 0, 0, 0, 0, 0, 0)))]
    assert served([fcgi.message(GET, keep=True)], codec).requests == [(GET, b"")]


@pytest.mark.parametrize("role", [0, 2, 3, 4, 256, 65535])
def test_every_role_but_responder_is_refused(role: int) -> None:
    """With FCGI_UNKNOWN_ROLE (5.5). A front that wanted it so finds the connection closed."""
    for keep in (True, False):
        codec = Connection(Limits())
        codec.receive(fcgi.begin(role=role, keep=keep, id=3) + fcgi.params(GET, id=3))
        assert fcgi.parse(codec.outgoing()) == [Record(*ended(3, 3))]
        assert (codec.request(), codec.keep, codec.idle) == (None, keep, keep)
        codec.receive(fcgi.message(GET, keep=True))
        assert (codec.request() is not None) is keep


def test_the_answer_to_a_pipelined_question_is_not_forgotten() -> None:
    """What `end` finds behind the request is answered with it: nobody would ask for it before more arrives."""
    codec, _ = taken()
    question = fcgi.record(fcgi.GET_VALUES, GET_VALUES, id=0)
    codec.receive(fcgi.begin(role=2, keep=True, id=2) + question)
    assert codec.outgoing() == b""
    kinds = [each.kind for each in fcgi.parse(codec.end())]
    assert kinds == [fcgi.STDOUT, fcgi.END_REQUEST, fcgi.END_REQUEST, fcgi.GET_VALUES_RESULT]
    assert codec.outgoing() == b""


# --- Abort -------------------------------------------------------------------

ABORT = fcgi.record(fcgi.ABORT_REQUEST)


@pytest.mark.parametrize(
    "data", [fcgi.begin(keep=True), CUT_HEAD, fcgi.message(POST, b"123", keep=True), fcgi.message(GET, keep=True)]
)
def test_an_abort_before_the_request_was_handed_out_is_answered_at_once(data: bytes) -> None:
    """The application never hears of it, and the connection lives on."""
    codec = Connection(Limits())
    codec.receive(data + ABORT)
    assert fcgi.parse(codec.outgoing()) == [Record(*ended(1))]
    assert (codec.request(), codec.aborted, codec.keep, codec.idle) == (None, True, True, True)
    codec.receive(fcgi.message(GET, keep=True))
    assert codec.aborted is False
    assert codec.request() is not None


def test_an_abort_without_keep_conn_closes() -> None:
    """As the end of any other request does."""
    codec = Connection(Limits())
    codec.receive(fcgi.begin() + ABORT)
    assert fcgi.parse(codec.outgoing()) == [Record(*ended(1))]
    assert (codec.request(), codec.keep, codec.idle) == (None, False, True)


def test_an_abort_while_the_application_runs_is_told() -> None:
    """Its end is owed by whoever runs it, with an answer or without, and costs nobody the connection."""
    for began in (False, True):
        codec, _ = taken()
        codec.receive(ABORT)
        assert (codec.aborted, codec.outgoing()) == (True, b"")
        if began:
            codec.head("200 OK", [], 10)
            codec.data(b"half")
        assert fcgi.parse(codec.end(complete=False)) == [Record(fcgi.STDOUT, 1), Record(*ended(1))]
        assert (codec.keep, codec.idle) == (True, True)


def test_an_abort_inside_the_body_ends_the_body() -> None:
    """Whoever reads on is told that no more will come."""
    codec = Connection(Limits())
    codec.receive(fcgi.begin(keep=True) + fcgi.params(POST) + fcgi.record(fcgi.STDIN, b"123"))
    assert codec.request() is not None
    codec.receive(ABORT)
    assert (codec.aborted, codec.read()) == (True, b"123")
    with pytest.raises(ProtocolError, match="aborted"):
        codec.read()
    assert codec.keep is False


def test_an_abort_of_a_request_that_is_over_is_ignored() -> None:
    """Its id is inactive (3.3)."""
    codec, _ = taken()
    codec.end()
    codec.receive(ABORT)
    assert (codec.aborted, codec.outgoing(), codec.idle) == (False, b"", True)


# --- Responses ---------------------------------------------------------------


def test_a_response_is_cgi_in_records() -> None:
    """Status, headers, an empty line, the body; then the end of the stream, and of the request (6.2)."""
    codec, _ = taken(keep=False)
    out = (
        codec.head("200 OK", [("Content-Type", "text/plain"), ("X-A", "\xe9")], 5) + codec.data(b"hello") + codec.end()
    )
    assert out == (
        b"\1\6\0\1\0\x47\0\0Status: 200 OK\r\nContent-Type: text/plain\r\nX-A: \xe9\r\nContent-Length: 5\r\n\r\n"
        b"\1\6\0\1\0\5\0\0hello"
        b"\1\6\0\1\0\0\0\0"
        b"\1\3\0\1\0\x08\0\0\0\0\0\0\0\0\0\0"
    )
    assert codec.interim() == b""


@pytest.mark.parametrize(
    ("method", "status", "headers", "length", "head"),
    [
        ("GET", "200 OK", [], None, ""),
        ("GET", "200 OK", [], 0, "Content-Length: 0\r\n"),
        ("GET", "200 OK", [("content-length", "7")], 9, "Content-Length: 7\r\n"),
        ("GET", "200 OK", [("Content-Length", "7"), ("CONTENT-LENGTH", "7")], None, "Content-Length: 7\r\n"),
        ("GET", "200", [], None, ""),
        ("GET", "404 ", [("A", "")], None, "A: \r\n"),
        ("HEAD", "200 OK", [], 5, "Content-Length: 5\r\n"),
        ("HEAD", "200 OK", [], 0, ""),
        ("HEAD", "200 OK", [("Content-Length", "0")], None, "Content-Length: 0\r\n"),
        ("GET", "204 No Content", [("Content-Length", "0")], 0, ""),
        ("GET", "304 Not Modified", [], 0, ""),
        ("GET", "304 Not Modified", [("Content-Length", "7")], 0, "Content-Length: 7\r\n"),
        ("GET", "200 OK", [("Set-Cookie", "a"), ("Set-Cookie", "b")], None, "Set-Cookie: a\r\nSet-Cookie: b\r\n"),
        ("GET", "200 OK", [("Connection", "close"), ("Keep-Alive", "1"), ("TE", "x"), ("A", "b")], None, "A: b\r\n"),
        ("GET", "200 OK", [("Transfer-Encoding", "chunked"), ("Upgrade", "h2c"), ("Trailer", "X")], None, ""),
        ("GET", "200 OK", [("Status", "500 No")], None, ""),
    ],
)
def test_what_a_head_says(
    method: str, status: str, headers: list[tuple[str, str]], length: int | None, head: str
) -> None:
    """Content-Length where it is known and true; nothing that is the front's business."""
    codec, _ = taken({**GET, "REQUEST_METHOD": method})
    out = fcgi.parse(codec.head(status, headers, length))
    assert out == [Record(fcgi.STDOUT, 1, f"Status: {status}\r\n{head}\r\n".encode())]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("OK", []),
        ("99 No", []),
        ("100 Continue", []),
        ("200OK", []),
        ("200 OK\r\nX: y", []),
        ("200 \u20ac", []),
        ("200 OK", [("", "x")]),
        ("200 OK", [("A B", "x")]),
        ("200 OK", [("A:", "x")]),
        ("200 OK", [("A\n", "x")]),
        ("200 OK", [("\xe9", "x")]),
        ("200 OK", [("A", "x\r\nB: y")]),
        ("200 OK", [("A", "x\n")]),
        ("200 OK", [("A", "\rx")]),
        ("200 OK", [("A", "x\0")]),
        ("200 OK", [("A", "\u20ac")]),
        ("200 OK", [("Content-Length", "five")]),
        ("200 OK", [("Content-Length", "-5")]),
        ("200 OK", [("Content-Length", "5\n")]),
        ("200 OK", [("Content-Length", "5"), ("Content-Length", "6")]),
    ],
)
def test_what_a_head_may_not_say(status: str, headers: list[tuple[str, str]]) -> None:
    """Nothing of it goes out."""
    codec, _ = taken()
    with pytest.raises(ResponseError):
        codec.head(status, headers, None)


@pytest.mark.parametrize("size", [1, FRAME - 1, FRAME, FRAME + 1, 65535, 65536, 2 * FRAME, 200000])
def test_a_long_body_is_cut_into_records(size: int) -> None:
    """None longer than 65,528 bytes, none empty: that would be the end."""
    codec, _ = taken()
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    records = fcgi.parse(codec.data(body))
    assert b"".join(each.content for each in records) == body
    assert all(0 < len(each.content) <= FRAME for each in records)
    assert len(records) == -(-size // FRAME)


def test_a_head_may_be_longer_than_a_record() -> None:
    """It is but the beginning of a stream."""
    codec, _ = taken()
    out = codec.head("200 OK", [("X", "x" * 70000)], None) + codec.end()
    assert fcgi.response(fcgi.parse(out)).headers == {"status": "200 OK", "x": "x" * 70000}


def test_a_body_longer_than_announced_is_the_applications_error() -> None:
    """The chunk that crosses the line does not go out."""
    codec, _ = taken()
    codec.head("200 OK", [("Content-Length", "5")], None)
    codec.data(b"hell")
    with pytest.raises(ResponseError):
        codec.data(b"o!")
    assert fcgi.parse(codec.data(b"o")) == [Record(fcgi.STDOUT, 1, b"o")]


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")]
)
def test_a_body_that_may_not_be_is_swallowed(method: str, status: str) -> None:
    """However long it is, and though it was announced."""
    codec, _ = taken({**GET, "REQUEST_METHOD": method})
    codec.head(status, [("Content-Length", "5")], None)
    assert codec.data(b"a long body") == b""
    assert fcgi.parse(codec.end()) == [Record(fcgi.STDOUT, 1), Record(*ended(1))]
    assert codec.keep is True


@pytest.mark.parametrize(
    ("length", "complete", "records"),
    [
        (10, True, [Record(*ended(1))]),
        (10, False, [Record(*ended(1))]),
        (None, False, []),
        (4, False, [Record(fcgi.STDOUT, 1), Record(*ended(1))]),
    ],
)
def test_an_answer_that_was_cut_does_not_pass_for_a_whole_one(
    length: int | None, complete: bool, records: list[Record]
) -> None:
    """With an announced length the front counts; without one, only a connection closed early tells it."""
    codec, _ = taken()
    codec.head("200 OK", [], length)
    codec.data(b"half")
    assert fcgi.parse(codec.end(complete=complete)) == records
    assert codec.keep is False


def test_nothing_is_begun_on_a_connection_that_is_to_be_closed() -> None:
    """Whatever has been pipelined: the front was told so, or asked for it."""
    codec, _ = taken(keep=False)
    codec.receive(fcgi.message(GET, keep=True))
    codec.end()
    codec.receive(fcgi.message(GET, keep=True))
    assert (codec.request(), codec.keep) == (None, False)


def test_stderr_is_a_stream_of_its_own() -> None:
    """Interleaved with the answer, closed before its end; an empty text does not close it early (6.1)."""
    codec, _ = taken()
    out = codec.stderr(b"") + codec.head("200 OK", [], None) + codec.stderr(b"oh") + codec.data(b"x") + codec.end()
    records = fcgi.parse(out)
    assert [(each.kind, each.content) for each in records[1:]] == [
        (fcgi.STDERR, b"oh"),
        (fcgi.STDOUT, b"x"),
        (fcgi.STDERR, b""),
        (fcgi.STDOUT, b""),
        (fcgi.END_REQUEST, bytes(8)),
    ]
    assert fcgi.response(records).stderr == b"oh"


def test_a_refusal_is_a_whole_answer() -> None:
    """With the status, and in words what was wrong."""
    codec = Connection(Limits())
    codec.receive(fcgi.begin(keep=True) + fcgi.params({}))
    with pytest.raises(ProtocolError) as caught:
        codec.request()
    answered = fcgi.response(fcgi.parse(codec.refuse(caught.value.status, caught.value.detail)))
    assert answered.headers == {
        "status": "400 Bad Request",
        "content-type": "text/plain; charset=utf-8",
        "content-length": str(len(answered.body)),
    }
    assert answered.body == b"400 Bad Request\n\nREQUEST_METHOD is missing or not a token\n"
    assert codec.keep is False


def test_a_refusal_without_a_request_is_nothing() -> None:
    """There is no id to answer to."""
    codec = Connection(Limits())
    codec.receive(JUNK)
    assert codec.refuse(400, "garbage") == b""
    assert codec.keep is False


def test_a_body_is_never_sent_raw() -> None:
    """Each part of it needs its record."""
    codec: Codec = Connection()
    assert codec.raw_body is False
    with pytest.raises(AssertionError):
        codec.sent_raw(1)


# --- No matter what ----------------------------------------------------------

RECORDS = st.builds(
    lambda kind, content, number, padding: fcgi.record(kind, content, id=number, padding=padding),
    st.integers(0, 12),
    st.one_of(
        st.binary(max_size=40),
        st.just(b""),
        st.just(bytes((0, 1, 1, 0, 0, 0, 0, 0))),
        st.sampled_from([fcgi.pairs(GET), fcgi.pairs(POST), GET_VALUES]),
    ),
    st.integers(0, 2),
    st.integers(0, 9),
)
WORDS = st.dictionaries(
    st.text(st.characters(max_codepoint=255), max_size=150), st.text(st.characters(max_codepoint=255), max_size=300),
    max_size=12,
)  # fmt: skip


def chopped(data: bytes, sizes: list[int]) -> list[bytes]:
    """The bytes in parts of these sizes, over and over."""
    parts = []
    while data:
        for size in sizes:
            parts.append(data[:size])
            data = data[size:]
    return [part for part in parts if part]


SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=8)


@fuzz
@given(st.one_of(st.binary(max_size=400), st.lists(RECORDS, max_size=12).map(b"".join)), SIZES)
def test_whatever_comes_is_understood_or_refused(data: bytes, sizes: list[int]) -> None:
    """Nothing but ProtocolError, on any bytes, in any parts, also when the front closes after them."""
    codec = Connection(Limits(params_bytes=500, params_count=20))
    seen = served([*chopped(data, sizes), b""], codec)
    fcgi.parse(seen.out)
    assert seen.error in {None, 400, 431}


@fuzz
@given(WORDS, st.binary(max_size=3000), SIZES, st.data())
def test_a_request_survives_the_way(words: dict[str, str], body: bytes, sizes: list[int], more: st.DataObject) -> None:
    """Variables and body come out as they went in, however they are cut and padded."""
    variables = {**words, "REQUEST_METHOD": "PUT", "CONTENT_LENGTH": str(len(body))}
    number, size = more.draw(st.integers(1, 65535)), more.draw(st.integers(1, 500))
    data = fcgi.begin(keep=True, id=number)
    for kind, content in ((fcgi.PARAMS, fcgi.pairs(variables)), (fcgi.STDIN, body)):
        for at in range(0, len(content), size):
            data += fcgi.record(kind, content[at : at + size], id=number, padding=(at + size) % 256)
        data += fcgi.record(kind, id=number)
    seen = served(chopped(data, sizes))
    assert (seen.requests, seen.records, seen.error) == ([(variables, body)], answer(number), None)


@fuzz
@given(st.lists(st.binary(min_size=1, max_size=5000), max_size=6), st.integers(1, 65535))
def test_a_body_survives_the_way_back(chunks: list[bytes], number: int) -> None:
    """What the application wrote is what the front reads."""
    codec = Connection(Limits())
    codec.receive(fcgi.message(GET, keep=True, id=number))
    assert codec.request() is not None
    out = codec.head("200 OK", [], None) + b"".join(map(codec.data, chunks)) + codec.end()
    records = fcgi.parse(out)
    assert {each.id for each in records} == {number}
    assert fcgi.response(records) == fcgi.Response(b"Status: 200 OK\r\n\r\n" + b"".join(chunks), b"", 0, 0)
