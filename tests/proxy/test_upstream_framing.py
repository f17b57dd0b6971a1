"""Framing: what a server may say and be believed."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgate.proxy.framing import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_INTERIM,
    MAX_SILENCE,
    FramingError,
    ResponseReader,
)
from agentgate.proxy.upstream import PoolTransport

from .upstream_server import OK, Peer, answering, fetch, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": fast}), id="uvloop" if fast else "asyncio") for fast in (False, True)
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = LINE + b"transfer-encoding: chunked\r\n\r\n"


def response(*fields: bytes, body: bytes = b"", line: bytes = LINE) -> bytes:
    return line + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


# Everything here ends in a RemoteProtocolError, from the call or from the stream, and the connection is closed.
MALFORMED = {
    "not HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "blank line first": b"\r\n" + OK,
    "RTSP": b"RTSP/1.1 200 OK\r\n\r\n",
    "HTTP/0.9": response(line=b"HTTP/0.9 200 OK\r\n"),
    "HTTP/1.2": response(line=b"HTTP/1.2 200 OK\r\n"),
    "HTTP/2.0": response(line=b"HTTP/2.0 200 OK\r\n"),
    "status of two digits": response(line=b"HTTP/1.1 20 OK\r\n"),
    "status of four digits": response(line=b"HTTP/1.1 2000 OK\r\n"),
    "status 000": response(line=b"HTTP/1.1 000 OK\r\n"),
    "control character in the reason": response(b"content-length: 0", line=b"HTTP/1.1 200 O\x01K\r\n"),
    "bare LF everywhere": OK.replace(b"\r\n", b"\n"),
    "bare LF after a field": LINE + b"a: b\ncontent-length: 2\r\n\r\nok",
    "bare CR in a value": response(b"a: b\rc", b"content-length: 2", body=b"ok"),
    "two lengths that differ": response(b"content-length: 2", b"content-length: 3", body=b"ok"),
    "two lengths that agree": response(b"content-length: 2", b"content-length: 2", body=b"ok"),
    "a list of lengths": response(b"content-length: 2, 2", body=b"ok"),
    "a signed length": response(b"content-length: +2", body=b"ok"),
    "a negative length": response(b"content-length: -2", body=b"ok"),
    "a hexadecimal length": response(b"content-length: 0x2", body=b"ok"),
    "an empty length": response(b"content-length:", body=b"ok"),
    "a length that overflows": response(b"content-length: 99999999999999999999", body=b"ok"),
    "length, then coding": response(b"content-length: 2", b"transfer-encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    "coding, then length": response(b"transfer-encoding: chunked", b"content-length: 2", body=b"2\r\nok\r\n0\r\n\r\n"),
    "coding identity": response(b"transfer-encoding: identity", body=b"ok"),
    "coding gzip, chunked": response(b"transfer-encoding: gzip, chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    "coding xchunked": response(b"transfer-encoding: xchunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    "two codings": response(b"transfer-encoding: chunked", b"transfer-encoding: chunked", body=b"0\r\n\r\n"),
    "coding in HTTP/1.0": response(b"transfer-encoding: chunked", body=b"0\r\n\r\n", line=b"HTTP/1.0 200 OK\r\n"),
    "obs-fold": response(b"a: b\r\n c", b"content-length: 2", body=b"ok"),
    "blank before the first field": response(b" a: b", b"content-length: 2", body=b"ok"),
    "NUL in a value": response(b"a: b\0c", b"content-length: 2", body=b"ok"),
    "control character in a value": response(b"a: b\x01c", b"content-length: 2", body=b"ok"),
    "DEL in a value": response(b"a: b\x7fc", b"content-length: 2", body=b"ok"),
    "blank in a name": response(b"a b: c", b"content-length: 2", body=b"ok"),
    "blank before the colon": response(b"a : c", b"content-length: 2", body=b"ok"),
    "a name beyond ASCII": response(b"\xe9: c", b"content-length: 2", body=b"ok"),
    "no name": response(b": c", b"content-length: 2", body=b"ok"),
    "no colon": response(b"abc", b"content-length: 2", body=b"ok"),
    "1,000 header fields": response(*[b"x-%d: y" % n for n in range(1000)], b"content-length: 2", body=b"ok"),
    "one field too many": response(*[b"x: y"] * MAX_FIELDS, b"content-length: 2", body=b"ok"),
    "a head too large": response(b"x: " + b"y" * MAX_HEAD_BYTES, b"content-length: 2", body=b"ok"),
    "a head that never ends": LINE + b"x: " + b"y" * MAX_HEAD_BYTES,
    "a status line that never ends": b"HTTP/1.1 200 " + b"y" * MAX_HEAD_BYTES,
    "chunk size 0x2": CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n",
    "chunk size -2": CHUNKED + b"-2\r\nok\r\n0\r\n\r\n",
    "chunk size of blanks": CHUNKED + b" 2 \r\nok\r\n0\r\n\r\n",
    "chunk size missing": CHUNKED + b"\r\nok\r\n0\r\n\r\n",
    "chunk size that overflows": CHUNKED + b"fffffffffffffffff\r\nok\r\n0\r\n\r\n",
    "chunk size, bare LF": CHUNKED + b"2\nok\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"2\r\nokay\r\n0\r\n\r\n",
    "chunk without terminator": CHUNKED + b"2\r\nok0\r\n\r\n",
    "chunk terminated by bare LF": CHUNKED + b"2\r\nok\n0\r\n\r\n",
    "end of chunks, bare LF": CHUNKED + b"2\r\nok\r\n0\r\n\n",
    "bare LF in a chunk extension": CHUNKED + b"2;a\nok\r\n0\r\n\r\n",
    "control character in a chunk extension": CHUNKED + b"2;a\x01\r\nok\r\n0\r\n\r\n",
    "a chunk extension that never ends": CHUNKED + b"2;" + b"a" * MAX_SILENCE * 2,
    "a malformed trailer": CHUNKED + b"2\r\nok\r\n0\r\na b: c\r\n\r\n",
    "a length in the trailer": CHUNKED + b"2\r\nok\r\n0\r\ncontent-length: 2\r\n\r\n",
    "trailers that never end": CHUNKED + b"2\r\nok\r\n0\r\n" + b"a: b\r\n" * (MAX_FIELDS + 1),
    "101": response(b"upgrade: x", b"connection: upgrade", line=b"HTTP/1.1 101 Switching Protocols\r\n"),
    "1xx without end": response(line=b"HTTP/1.1 103 Early Hints\r\n") * (MAX_INTERIM + 1) + OK,
    "1xx with a length": response(b"content-length: 0", line=b"HTTP/1.1 103 Early Hints\r\n") + OK,
    "1xx with a coding": response(b"transfer-encoding: chunked", line=b"HTTP/1.1 100 Continue\r\n") + OK,
    "1xx, then garbage": response(line=b"HTTP/1.1 100 Continue\r\n") + b"garbage\r\n\r\n",
    "end of file at once": b"",
    "end of file in the status line": b"HTTP/1.",
    "end of file in the head": LINE + b"content-le",
    "end of file after 1xx": response(line=b"HTTP/1.1 100 Continue\r\n"),
    "end of file in a body of known length": response(b"content-length: 3", body=b"ok"),
    "end of file before a body of known length": response(b"content-length: 3"),
    "end of file in a chunk": CHUNKED + b"3\r\nok",
    "end of file in a chunk size": CHUNKED + b"2\r\nok\r\n2",
    "end of file before the last chunk": CHUNKED + b"2\r\nok\r\n",
    "end of file in the trailer": CHUNKED + b"2\r\nok\r\n0\r\na: b\r\n",
}

# Response, status, body, and whether the connection may be used again.
WELL_FORMED: dict[str, tuple[bytes, int, bytes, bool]] = {
    "length": (OK, 200, b"ok", True),
    "length 0": (response(b"content-length: 0"), 200, b"", True),
    "length with blanks around": (response(b"content-length: \t 2 \t ", body=b"ok"), 200, b"ok", True),
    "no reason": (response(b"content-length: 0", line=b"HTTP/1.1 404\r\n"), 404, b"", True),
    "chunked": (CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, b"ok", True),
    "chunked, capitals": (CHUNKED.upper() + b"A\r\n0123456789\r\n0\r\n\r\n", 200, b"0123456789", True),
    "chunked, leading zeros, extensions": (CHUNKED + b'0002;a=b;c="d"\r\nok\r\n000;x\r\n\r\n', 200, b"ok", True),
    "chunked, empty": (CHUNKED + b"0\r\n\r\n", 200, b"", True),
    "chunked, trailer": (CHUNKED + b"2\r\nok\r\n0\r\nconnection: close\r\n\r\n", 200, b"ok", False),
    "until the end of the connection": (response(body=b"ok"), 200, b"ok", False),
    "until the end of the connection, empty": (response(), 200, b"", False),
    "connection: close": (response(b"connection: close", b"content-length: 2", body=b"ok"), 200, b"ok", False),
    "connection: x, Close": (response(b"Connection: x, Close", b"content-length: 2", body=b"ok"), 200, b"ok", False),
    "connection: closed": (response(b"connection: closed", b"content-length: 2", body=b"ok"), 200, b"ok", True),
    "HTTP/1.0": (response(b"content-length: 2", body=b"ok", line=b"HTTP/1.0 200 OK\r\n"), 200, b"ok", False),
    "HTTP/1.0, keep-alive": (
        response(b"connection: Keep-Alive", b"content-length: 2", body=b"ok", line=b"HTTP/1.0 200 OK\r\n"),
        200,
        b"ok",
        True,
    ),
    "upgrade offered": (
        response(b"connection: upgrade", b"upgrade: h2c", b"content-length: 2", body=b"ok"),
        200,
        b"ok",
        True,
    ),
    "204 with a length": (response(b"content-length: 2", line=b"HTTP/1.1 204 No Content\r\n"), 204, b"", True),
    "204": (response(line=b"HTTP/1.1 204 No Content\r\n"), 204, b"", True),
    "304 with a length": (response(b"content-length: 2", line=b"HTTP/1.1 304 Not Modified\r\n"), 304, b"", True),
    "304, chunked": (response(b"transfer-encoding: chunked", line=b"HTTP/1.1 304 Not Modified\r\n"), 304, b"", True),
    "204 with a body": (response(b"content-length: 2", body=b"ok", line=b"HTTP/1.1 204 X\r\n"), 204, b"", False),
    "100, 102, 103, 104": (
        b"".join(response(b"link: </x>", line=b"HTTP/1.1 %d X\r\n" % n) for n in (100, 102, 103, 104)) + OK,
        200,
        b"ok",
        True,
    ),
    "status 999": (response(b"content-length: 0", line=b"HTTP/1.1 999 X\r\n"), 999, b"", True),
    "two responses": (OK + OK, 200, b"ok", False),
    "a response and the start of another": (OK + b"H", 200, b"ok", False),
    "a response and garbage": (OK + b"garbage", 200, b"ok", False),
    "data after close": (response(b"connection: close", b"content-length: 2", body=b"okX"), 200, b"ok", False),
    "most header fields": (
        response(*[b"x: y"] * (MAX_FIELDS - 1), b"content-length: 2", body=b"ok"),
        200,
        b"ok",
        True,
    ),
    "a large head and a larger body": (
        response(b"x: " + b"y" * 60_000, b"content-length: 300000", body=b"z" * 300_000),
        200,
        b"z" * 300_000,
        True,
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_response_is_an_error_and_the_end_of_the_connection(name: str) -> None:
    """No table row ends cleanly, and none leaves a connection behind."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(MALFORMED[name])
        peer.end()

    async with serving(script) as server, PoolTransport() as transport:
        request = server.request()
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await fetch(transport, request)
        assert caught.value.request is request
        assert repr(transport) == "PoolTransport(0 open, 0 idle, 0 waiting)"


ENDLESS = {
    "a head too large": "the response head is too large",
    "a head that never ends": "the response head is too large",
    "a status line that never ends": "the response head is too large",
    "1,000 header fields": "the response has too many header fields",
    "trailers that never end": "the response has too many header fields",
    "a chunk extension that never ends": "the response body holds too much that is not body",
    "1xx without end": "the server sent too many interim responses",
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_server_that_never_comes_to_the_point_is_cut_off(name: str) -> None:
    """The caps themselves, not the end of the connection, end these."""
    async with serving(answering(MALFORMED[name])) as server, PoolTransport() as transport:
        with pytest.raises(httpx.RemoteProtocolError, match=ENDLESS[name]):
            await fetch(transport, server.request())


@pytest.mark.parametrize("name", WELL_FORMED)
async def test_a_well_formed_response_is_read_to_its_end(name: str) -> None:
    data, status, body, reusable = WELL_FORMED[name]

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(data)
        if not reusable:
            peer.end()
        await peer.gone()

    async with serving(script) as server, PoolTransport() as transport:
        assert await fetch(transport, server.request()) == (status, body)
        kept = int(reusable)
        assert repr(transport) == f"PoolTransport({kept} open, {kept} idle, 0 waiting)"


HEADS = {
    "length": (response(b"content-length: 5"), True),
    "chunked": (response(b"transfer-encoding: chunked"), True),
    "neither": (response(), True),
    "length 0": (response(b"content-length: 0"), True),
    "close": (response(b"content-length: 5", b"connection: close"), False),
    "length and a body": (response(b"content-length: 5", body=b"hello"), False),
    "chunked and a body": (response(b"transfer-encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"), False),
    "chunked and the start of a body": (response(b"transfer-encoding: chunked", body=b"5"), False),
    "neither and a body": (response(body=b"hello"), False),
    "after 100": (response(line=b"HTTP/1.1 100 Continue\r\n") + response(b"content-length: 5"), True),
}


@pytest.mark.parametrize("name", HEADS)
async def test_the_response_to_head_has_no_body(name: str) -> None:
    """Whatever the header fields say; and the connection serves the next request, which is no HEAD."""
    data, reusable = HEADS[name]
    async with serving(answering(data, OK)) as server, PoolTransport(max_connections=1) as transport:
        assert await fetch(transport, server.request("HEAD")) == (200, b"")
        assert transport.stats.idle == int(reusable)
        if reusable:
            assert await fetch(transport, server.request()) == (200, b"ok")
            assert server.accepted == 1


async def test_header_fields_arrive_as_they_were_sent() -> None:
    """Order, repetition and bytes beyond ASCII are kept, names are in lower case; trailers are not mixed in."""
    fields = (b"X-B: 1", b"x-a:2", b"X-b:  3 ", b"Set-Cookie: a=b", b"Set-Cookie: c=d", b"X-E: \xe9", b"X-Empty:")
    data = response(*fields, b"Transfer-Encoding: chunked", body=b"0\r\nx-t: 1\r\n\r\n")
    async with serving(answering(data)) as server, PoolTransport() as transport:
        answer = await transport.handle_async_request(server.request())
        assert answer.headers.raw == [
            (b"x-b", b"1"),
            (b"x-a", b"2"),
            (b"x-b", b"3"),
            (b"set-cookie", b"a=b"),
            (b"set-cookie", b"c=d"),
            (b"x-e", b"\xe9"),
            (b"x-empty", b""),
            (b"transfer-encoding", b"chunked"),
        ]
        assert answer.extensions["http_version"] == b"HTTP/1.1"
        assert answer.extensions["reason_phrase"] == b"OK"
        assert answer.extensions["peer"] == server.origin.removeprefix("http://")


# The same bytes give the same result however the network cuts them. Read without a network, to try many ways.


def read(parts: Sequence[bytes], *, head_only: bool = False) -> tuple[object, ...]:
    """What a reader makes of these parts and the end of the connection."""
    reader = ResponseReader()
    reader.begin(head_only=head_only)
    body: list[bytes] = []
    fault = ""
    try:
        for part in parts:
            if reader.complete:
                return reader.head, b"".join(body), "", False
            reader.feed(part)
            body += reader.body
            reader.body = []
        if not reader.complete:
            reader.eof()
    except FramingError:
        fault = "malformed"
        body += reader.body
    return reader.head, b"".join(body), fault, reader.keep_alive and not reader.surplus


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(set(places)), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a != b]


EVERY = [*MALFORMED.values(), *(row[0] for row in WELL_FORMED.values())]
SMALL = [data for data in EVERY if len(data) < 2000]


@pytest.mark.parametrize("data", SMALL, ids=range(len(SMALL)))
def test_every_single_cut_gives_the_same_result(data: bytes) -> None:
    whole = read([data])
    for place in range(1, len(data)):
        assert read(cut(data, [place]))[:3] == whole[:3], place


@given(st.sampled_from(EVERY), st.data())
@settings(deadline=None, max_examples=150)
def test_any_cuts_give_the_same_result(data: bytes, draw: st.DataObject) -> None:
    places = draw.draw(st.lists(st.integers(1, max(1, len(data) - 1)), max_size=20))
    assert read(cut(data, places))[:3] == read([data])[:3]


@pytest.mark.parametrize("name", HEADS)
def test_byte_by_byte_a_head_response_is_the_same(name: str) -> None:
    data, _ = HEADS[name]
    assert read(cut(data, range(len(data))), head_only=True)[:3] == read([data], head_only=True)[:3]


async def test_chunks_in_any_pieces_over_a_socket() -> None:
    """One write per byte: head and body arrive in as many pieces as the network likes."""
    data = CHUNKED + b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nt: u\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.head()
        for n in range(len(data)):
            peer.send(data[n : n + 1])
            await asyncio.sleep(0)
        await peer.gone()

    async with serving(script) as server, PoolTransport() as transport:
        assert await fetch(transport, server.request()) == (200, b"hello world")
