"""Headers: what concerns one connection stays on it, framing is never copied, and nothing splits a head."""

import pytest

from agentgate.proxy.framing import FramingError, ResponseReader
from agentgate.proxy.headers import BadResponse, checked_response_headers, request_headers, response_headers

Pairs = list[tuple[bytes, bytes]]

HOP_BY_HOP = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
]
REQUEST_ONLY = [
    b"content-length",
    b"expect",
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
    b"x-original-url",
    b"x-rewrite-url",
]
BEFORE, AFTER = (b"accept", b"*/*"), (b"x-last", b"1")


@pytest.mark.parametrize("name", HOP_BY_HOP + REQUEST_ONLY, ids=bytes.decode)
def test_not_sent_to_the_upstream(name: bytes) -> None:
    """Hop-by-hop headers, framing, and what makes some servers take another method or path than was judged."""
    headers = [BEFORE, (name, b"x"), AFTER, (name, b"y")]
    assert request_headers(headers, b"upstream") == [(b"host", b"upstream"), BEFORE, AFTER]


@pytest.mark.parametrize("name", HOP_BY_HOP, ids=bytes.decode)
def test_not_sent_to_the_client(name: bytes) -> None:
    """Hop-by-hop headers, however they are spelt."""
    assert response_headers([BEFORE, (name, b"x"), (name.title(), b"y"), AFTER]) == [BEFORE, AFTER]


CONNECTION: dict[str, tuple[Pairs, Pairs]] = {
    "a name": ([(b"connection", b"x-mine"), (b"x-mine", b"1"), AFTER], [AFTER]),
    "a name in another case": ([(b"connection", b"X-Mine"), (b"x-mine", b"1"), AFTER], [AFTER]),
    "one of several names": ([(b"connection", b"close,\tx-mine ,"), (b"x-mine", b"1"), AFTER], [AFTER]),
    "in a second header": (
        [(b"connection", b"close"), (b"x-mine", b"1"), (b"connection", b"x-mine"), AFTER],
        [AFTER],
    ),
    "nothing": ([(b"connection", b""), AFTER], [AFTER]),
    "no more than the name": ([(b"connection", b"x-mine"), (b"x-mine-too", b"1")], [(b"x-mine-too", b"1")]),
}


@pytest.mark.parametrize(("headers", "kept"), CONNECTION.values(), ids=CONNECTION)
def test_what_connection_names_ends_with_the_connection(headers: Pairs, kept: Pairs) -> None:
    """In both directions."""
    assert request_headers(headers, b"upstream") == [(b"host", b"upstream"), *kept]
    assert response_headers(headers) == kept


HOSTS: dict[str, tuple[Pairs, bytes | None, bytes]] = {
    "the upstream's": ([(b"host", b"gateway")], b"upstream:8000", b"upstream:8000"),
    "the client's, where it is preserved": ([AFTER, (b"host", b"gateway:80")], None, b"gateway:80"),
    "empty, where the client sent none": ([AFTER], None, b""),
    "the upstream's, though Connection names it": (
        [(b"host", b"gateway"), (b"connection", b"host")],
        b"upstream",
        b"upstream",
    ),
}


@pytest.mark.parametrize(("headers", "host", "sent"), HOSTS.values(), ids=HOSTS)
def test_there_is_one_host_and_it_comes_first(headers: Pairs, host: bytes | None, sent: bytes) -> None:
    """Once, whatever the client says about it."""
    found = request_headers(headers, host)
    assert found[0] == (b"host", sent)
    assert [name for name, _ in found].count(b"host") == 1


def test_everything_else_is_sent_as_it_came() -> None:
    """Order, repetitions and bytes outside ASCII included."""
    headers = [(b"a", b"1"), (b"cookie", b"x=1"), (b"a", b"2"), (b"b", b"\xc3\xbc \t|"), (b"a", b"")]
    assert request_headers(iter(headers), b"u") == [(b"host", b"u"), *headers]
    assert response_headers([(name.upper(), value) for name, value in headers]) == headers


def test_a_response_keeps_its_length() -> None:
    """The length of the body is as true for the client."""
    assert response_headers([(b"Content-Length", b"0")]) == [(b"content-length", b"0")]


BAD: dict[str, tuple[Pairs, str]] = {
    "an empty name": ([(b"", b"x")], "a header name is not a token"),
    "a blank in a name": ([(b"x mine", b"x")], "a header name is not a token"),
    "a colon in a name": ([(b"x:", b"x")], "a header name is not a token"),
    "a line break in a name": ([(b"x\r\ny", b"x")], "a header name is not a token"),
    "a name outside ASCII": ([(b"\xfc", b"x")], "a header name is not a token"),
    "a line break in a value": ([(b"x", b"1\r\nset-cookie: a=b")], "a header value has a control character"),
    "a bare CR in a value": ([(b"x", b"1\r2")], "a header value has a control character"),
    "a bare LF in a value": ([(b"x", b"1\n2")], "a header value has a control character"),
    "a NUL in a value": ([(b"x", b"\0")], "a header value has a control character"),
    "a DEL in a value": ([(b"x", b"\x7f")], "a header value has a control character"),
    "two lengths": ([(b"content-length", b"1"), (b"content-length", b"2")], "content-length is not one number"),
    "two lengths that agree": (
        [(b"content-length", b"1"), (b"Content-Length", b"1")],
        "content-length is not one number",
    ),
    "a list of lengths": ([(b"content-length", b"1, 1")], "content-length is not one number"),
    "a negative length": ([(b"content-length", b"-1")], "content-length is not one number"),
    "a length with a plus sign": ([(b"content-length", b"+1")], "content-length is not one number"),
    "an empty length": ([(b"content-length", b"")], "content-length is not one number"),
    "a length and a coding": (
        [(b"transfer-encoding", b"chunked"), (b"content-length", b"1")],
        "content-length and transfer-encoding",
    ),
    "a length and a coding that Connection names": (
        [(b"transfer-encoding", b"chunked"), (b"content-length", b"1"), (b"connection", b"transfer-encoding")],
        "content-length and transfer-encoding",
    ),
}


@pytest.mark.parametrize(("headers", "fault"), BAD.values(), ids=BAD)
def test_a_response_with_two_readings_is_not_passed_on(headers: Pairs, fault: str) -> None:
    """Nor one whose headers are none."""
    with pytest.raises(BadResponse) as caught:
        response_headers([AFTER, *headers])
    assert str(caught.value) == fault


def test_an_underscore_in_a_responses_header_name_is_the_clients_to_judge() -> None:
    """It is a token, and nobody behind the client takes it for anything else."""
    assert response_headers([(b"X_Mine", b"1")]) == [(b"x_mine", b"1")]


@pytest.mark.parametrize("where", [b"%bx: v", b"x%by: v", b"x%b: v", b"x: %bv", b"x: v%bw", b"x: v%b", b"x:%bv"])
def test_a_head_that_was_read_needs_no_second_look(where: bytes) -> None:
    """What the reader of responses believes is never refused as a header for the client, whatever byte it has where."""
    read = 0
    for byte in range(256):
        reader = ResponseReader()
        reader.begin(head_only=False)
        line = where.replace(b"%b", bytes([byte]))
        try:
            reader.feed(
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, x-gone\r\n" + line + b"\r\n\r\n"
            )
        except FramingError:
            continue
        if reader.head is not None:
            read += 1
            assert checked_response_headers(reader.head.headers) == response_headers(reader.head.headers)
    assert read > 50
