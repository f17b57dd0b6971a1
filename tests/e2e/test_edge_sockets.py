"""The edge on real sockets: what uvicorn makes of bytes that were never meant well, and that none of it gets through.

Every request carries a good key, so that nothing but the edge stands between it and the app.
"""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from agentgate import APIKeyAuth, Gate, new_key

KEY = new_key()
OTHER = new_key()
PATIENCE = 10.0  # seconds that no passing test comes near


@dataclass
class App:
    """Reads the whole body, then notes the scope as it is at the end."""

    scopes: list[dict[str, Any]] = field(default_factory=list)
    called: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.called.set()
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        self.scopes.append({**scope, "headers": list(scope["headers"]), "body": body})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@dataclass
class Running:
    """A server on a free port of the loopback, with the app behind its Gate."""

    name: str
    port: int
    app: App

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def send(self, request: bytes) -> tuple[int | None, bytes]:
        """Status and body of the answer; no status when the connection was closed without one."""
        with self.connect() as connection:
            connection.sendall(request)
            return answer(connection)


def answer(connection: socket.socket) -> tuple[int | None, bytes]:
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else None), body


@pytest.fixture(scope="module", params=["h11", "httptools"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    app = App()
    gate = Gate(app, authenticate=[APIKeyAuth({"alice": KEY, "bob": OTHER})])
    config = uvicorn.Config(gate, http=request.param, ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while not server.started and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        try:
            yield Running(request.param, listening.getsockname()[1], app)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.fixture
def server(running: Running) -> Running:
    running.app.scopes.clear()
    running.app.called.clear()
    return running


def request(
    line: bytes = b"GET / HTTP/1.1",
    *headers: bytes,
    host: bytes | None = b"Host: gw.example",
    key: bool = True,
    body: bytes = b"",
) -> bytes:
    lines = [line, *([host] if host is not None else [])]
    lines += [b"Authorization: Bearer " + KEY.encode()] if key else []
    return b"\r\n".join([*lines, *headers, b"Connection: close", b"", b""]) + body


def get(target: bytes) -> bytes:
    return request(b"GET " + target + b" HTTP/1.1")


CHUNKED = b"Transfer-Encoding: chunked"
BODY = b"3\r\nabc\r\n0\r\n\r\n"

PASSING: dict[str, tuple[bytes, str, bytes]] = {
    "a plain GET": (get(b"/a/b?c=d"), "/a/b", b""),
    "an encoded path": (get(b"/caf%C3%A9%20x"), "/caf\u00e9 x", b""),
    "a POST with a length": (request(b"POST / HTTP/1.1", b"Content-Length: 3", body=b"abc"), "/", b"abc"),
    "a POST in chunks": (request(b"POST / HTTP/1.1", CHUNKED, body=BODY), "/", b"abc"),
    "absolute-form of the same host": (get(b"http://gw.example/a"), "/a", b""),
    "a name in upper case": (request(host=b"HOST: GW.example:8080"), "/", b""),
    "HTTP/1.0": (request(b"GET / HTTP/1.0"), "/", b""),
    "HTTP/1.0 without Host": (request(b"GET / HTTP/1.0", host=None), "/", b""),
    "bytes beyond ASCII in a value": (request(b"GET / HTTP/1.1", b"X-Name: caf\xe9"), "/", b""),
    "99 headers": (request(b"GET / HTTP/1.1", *[b"X-%d: y" % n for n in range(96)]), "/", b""),
    "a long header": (request(b"GET / HTTP/1.1", b"X-Long: " + b"y" * 20_000), "/", b""),
}


@pytest.mark.parametrize("name", PASSING)
def test_ordinary_requests_pass(name: str, server: Running) -> None:
    """The edge is no wall: a request with one reading reaches the app, once and whole."""
    raw, path, body = PASSING[name]
    assert server.send(raw) == (200, b"ok")
    (scope,) = server.app.scopes
    assert (scope["path"], scope["body"]) == (path, body)
    assert KEY not in repr(scope["headers"])


def test_two_requests_on_one_connection_are_two(server: Running) -> None:
    """Who was let in once is asked again: a key counts for its own request only."""
    first = request().replace(b"Connection: close\r\n", b"")
    with server.connect() as connection:
        connection.sendall(first + request(key=False))
        received = b""
        while part := connection.recv(65536):
            received += part
    assert [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] == [200, 401]
    assert len(server.app.scopes) == 1


ATTACKS: dict[str, bytes] = {
    # paths
    "dot segments": get(b"/public/../admin"),
    "a single dot": get(b"/./admin"),
    "encoded dot segments": get(b"/public/%2e%2e/admin"),
    "half-encoded dot segments": get(b"/public/.%2E/admin"),
    "dot segments with a parameter": get(b"/public/..;/admin"),
    "an empty segment": get(b"//admin"),
    "a path that looks like a host": get(b"//evil.example/admin"),
    "an encoded slash": get(b"/public%2f..%2fadmin"),
    "an encoded backslash": get(b"/public%5c..%5cadmin"),
    "a backslash": get(b"/public\\..\\admin"),
    "an encoded NUL": get(b"/admin%00.png"),
    "an encoded line break": get(b"/a%0d%0aX-Evil:%20b"),
    "a bad encoding": get(b"/%zz"),
    "an encoding cut short": get(b"/a%2"),
    "double encoding": get(b"/%252e%252e/admin"),
    "overlong UTF-8": get(b"/%c0%ae%c0%ae/admin"),
    "not UTF-8": get(b"/a%ffdmin"),
    "a parameter": get(b"/admin;x=1"),
    "raw bytes beyond ASCII": get(b"/caf\xe9"),
    "no slash": get(b"admin"),
    "an asterisk": get(b"*"),
    "a blank in the target": get(b"/a b"),
    "a very long target": get(b"/" + b"a" * 9000),
    "a bad encoding in the query": get(b"/?x=%zz"),
    # hosts
    "two hosts": request(b"GET / HTTP/1.1", b"Host: evil.example"),
    "the same host twice": request(b"GET / HTTP/1.1", b"Host: gw.example"),
    "no host": request(host=None),
    "an empty host": request(host=b"Host:"),
    "a host with a user": request(host=b"Host: gw.example@evil.example"),
    "a host with a path": request(host=b"Host: gw.example/public?"),
    "a host with a blank": request(host=b"Host: gw.example evil.example"),
    "a host with two ports": request(host=b"Host: gw.example:80:80"),
    "a list of hosts": request(host=b"Host: gw.example, evil.example"),
    # headers
    "two keys": request(b"GET / HTTP/1.1", b"Authorization: Bearer " + OTHER.encode()),
    "a key and nothing": request(b"GET / HTTP/1.1", b"Authorization:"),
    "an underscore": request(b"GET / HTTP/1.1", b"X_User: admin"),
    "a NUL in a value": request(b"GET / HTTP/1.1", b"X-User: a\x00b"),
    "a bare CR in a value": request(b"GET / HTTP/1.1", b"X-User: a\rX-Evil: b"),
    "a vertical tab": request(b"GET / HTTP/1.1", b"X-User: a\x0bb"),
    "a DEL": request(b"GET / HTTP/1.1", b"X-User: a\x7fb"),
    "a blank before the colon": request(b"GET / HTTP/1.1", b"X-User : a"),
    "an empty name": request(b"GET / HTTP/1.1", b": a"),
    "300 headers": request(b"GET / HTTP/1.1", *[b"X-%d: y" % n for n in range(300)]),
    "a 70 KB header": request(b"GET / HTTP/1.1", b"X-Long: " + b"y" * 70_000),
    # framing
    "a length and chunks": request(b"POST / HTTP/1.1", b"Content-Length: 3", CHUNKED, body=BODY),
    "two lengths": request(b"POST / HTTP/1.1", b"Content-Length: 3", b"Content-Length: 4", body=b"abc"),
    "a length that is none": request(b"POST / HTTP/1.1", b"Content-Length: 0x3", body=b"abc"),
    "a signed length": request(b"POST / HTTP/1.1", b"Content-Length: +3", body=b"abc"),
    "another coding": request(b"POST / HTTP/1.1", b"Transfer-Encoding: gzip, chunked", body=BODY),
    "chunks twice": request(b"POST / HTTP/1.1", CHUNKED, CHUNKED, body=BODY),
    "a disguised coding": request(b"POST / HTTP/1.1", b"Transfer-Encoding: xchunked", body=BODY),
    "chunks in HTTP/1.0": request(b"POST / HTTP/1.0", CHUNKED, body=BODY),
    # methods
    "a method in lower case": request(b"get / HTTP/1.1"),
    "an unknown method": request(b"GETX / HTTP/1.1"),
    "a method of symbols": request(b"G!T# / HTTP/1.1"),
    "a method without end": request(b"A" * 300 + b" / HTTP/1.1"),
    "TRACE": request(b"TRACE / HTTP/1.1"),
    "CONNECT": request(b"CONNECT evil.example:443 HTTP/1.1"),
    "CONNECT to a path": request(b"CONNECT / HTTP/1.1"),
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "a second request in disguise": request(b"GET / HTTP/1.1 GET /admin HTTP/1.1"),
}

# What one of the two parsers has brought to one reading itself before any app could see it.
ATTACKS_ON: dict[str, dict[str, bytes]] = {
    "h11": {
        "absolute-form of another host": get(b"http://evil.example/admin"),
        "absolute-form with another scheme": get(b"https://gw.example/admin"),
        "a fragment": get(b"/public#/../admin"),
    },
    "httptools": {
        "a folded header": request(b"GET / HTTP/1.1", b"X-User: a", b" admin"),
        "a bare LF in a value": request(b"GET / HTTP/1.1", b"X-User: a\nX-Evil: b"),
        "lines that end in LF": b"GET / HTTP/1.1\nHost: gw.example\nAuthorization: Bearer " + KEY.encode() + b"\n\n",
        "a repeated length": request(b"POST / HTTP/1.1", b"Content-Length: 3, 3", body=b"abc"),
        "a key in the trailers": request(
            b"POST / HTTP/1.1", CHUNKED, body=b"0\r\nAuthorization: Bearer " + OTHER.encode() + b"\r\n\r\n"
        ),
    },
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_request_with_two_readings_is_refused(name: str, server: Running) -> None:
    """However the bytes come, the answer is a 4xx or a closed connection, and the app is never called."""
    status, _ = server.send(ATTACKS[name])
    assert not server.app.called.is_set()
    assert status is None or 400 <= status <= 499


def test_what_one_server_alone_shows_is_refused_there(server: Running) -> None:
    """What only one of the two parsers lets us see is refused behind that one."""
    for name, raw in ATTACKS_ON[server.name].items():
        status, _ = server.send(raw)
        assert not server.app.called.is_set(), name
        assert status is None or 400 <= status <= 499, name


@pytest.mark.parametrize(
    "trailer", [b"X-User: admin", b"Authorization: Bearer " + OTHER.encode(), b"Host: evil.example"]
)
def test_trailers_do_not_become_headers(trailer: bytes, server: Running) -> None:
    """Trailers that come once the request has been judged are seen by nobody, although httptools adds them to the
    scope's own list of headers."""
    with server.connect() as connection:
        connection.sendall(request(b"POST / HTTP/1.1", CHUNKED, body=b"3\r\nabc\r\n"))
        assert server.app.called.wait(PATIENCE)
        connection.sendall(b"0\r\n" + trailer + b"\r\n\r\n")
        assert answer(connection) == (200, b"ok")
    (scope,) = server.app.scopes
    assert scope["body"] == b"abc"
    names = [name for name, _ in scope["headers"]]
    assert sorted(names) == [b"connection", b"host", b"transfer-encoding"]
    assert trailer.partition(b": ")[2] not in [value for _, value in scope["headers"]]


def test_options_of_the_server_is_answered_by_the_gate(server: Running) -> None:
    """`OPTIONS *` asks about the server, and about no resource: it is answered, and goes no further."""
    assert server.send(request(b"OPTIONS * HTTP/1.1")) == (204, b"")
    assert server.app.scopes == []
