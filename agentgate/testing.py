"""Tools for testing an app behind a Gate: no server, no network, no waiting.

    recorder = Recorder()
    app = Gate(my_app, authenticate=[APIKeyAuth(KEYS)], observe=[recorder])

    async def test_strangers_are_refused():
        exchange = await drive(app, http_scope("GET", "/reports"))
        assert exchange.status == 401
        assert recorder.last.refusal.code == "missing_credential"

`drive` speaks raw ASGI, message by message, so it sees what HTTP test clients hide: what was sent when, a stream that
ends early, a client that goes away. It calls no server's code: what servers make of bytes is for tests with servers.
To test a policy alone, build a `Request` and call `policy.check(request)` or `Gate.explain(request)`.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from .headers import HeadersInit
from .policy import Observer
from .record import Record
from .request import Request, Scope
from .respond import ASGIApp, Message

if TYPE_CHECKING:
    from .gate import Gate
    from .proxy.gateway import Gateway
    from .replay.differences import Replay

__all__ = ["Exchange", "Recorder", "Request", "TokenIssuer", "drive", "http_scope", "replay", "websocket_scope"]


def http_scope(
    method: str = "GET",
    target: str = "/",
    *,
    headers: HeadersInit | Iterable[tuple[bytes, bytes]] = (),
    host: str | None = "localhost",
    **more: Any,
) -> dict[str, Any]:
    """The scope that a server makes of a request. `target` is path and query as they stand on the request line;
    headers given as bytes are taken as they are; `host=None` adds no Host header; `more` sets or replaces members of
    the scope (`client`, `root_path`, ...).
    """
    path, _, query = target.partition("?")
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    raw = [_header(name, value) for name, value in pairs]
    if host is not None and not any(name == b"host" for name, _ in raw):
        raw.insert(0, (b"host", host.encode("latin-1")))
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": raw,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }
    return {**scope, **more}


def websocket_scope(target: str = "/", *, denial: bool = True, **more: Any) -> dict[str, Any]:
    """The scope of a websocket handshake. `denial`: whether the server can answer it with an HTTP response (ASGI's
    denial extension), as uvicorn and hypercorn can. Other options as for `http_scope`."""
    scope = http_scope("GET", target, **{"type": "websocket", "scheme": "ws", "subprotocols": [], **more})
    del scope["method"]
    if denial:
        scope.setdefault("extensions", {"websocket.http.response": {}})
    return scope


@dataclass
class Exchange:
    """What an app sent in answer to one request: every message, in order."""

    messages: list[Message] = field(default_factory=list)
    error: Exception | None = None
    """What the app raised; only with `drive(..., catch=True)`."""

    @property
    def started(self) -> bool:
        """Whether a response was started, or a websocket handshake was answered."""
        return bool(self.messages)

    @property
    def status(self) -> int | None:
        """The response's status; None when none was sent."""
        return next((message["status"] for message in self.messages if "status" in message), None)

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers, names in lower case; a repeated one is all its values joined by `, `."""
        headers: dict[str, str] = {}
        for name, value in next((m.get("headers", ()) for m in self.messages if "status" in m), ()):
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        return headers

    @property
    def chunks(self) -> list[bytes]:
        """The response's body, one element for each message."""
        return [m.get("body", b"") for m in self.messages if m["type"].endswith("http.response.body")]

    @property
    def body(self) -> bytes:
        """The response's body, whole."""
        return b"".join(self.chunks)

    @property
    def text(self) -> str:
        """The response's body as UTF-8 text."""
        return self.body.decode()

    @property
    def complete(self) -> bool:
        """Whether the response came to its end, rather than being cut off."""
        return bool(self.messages) and _is_last(self.messages[-1])

    @property
    def close_code(self) -> int | None:
        """The code with which the app closed the websocket; None when it did not."""
        return next((m.get("code", 1000) for m in self.messages if m["type"] == "websocket.close"), None)


async def drive(
    app: ASGIApp,
    request: Scope | Request,
    *,
    body: bytes | Iterable[bytes] | None = None,
    incoming: Iterable[str | bytes] = (),
    abort: bool = False,
    disconnect_after: int | None = None,
    on_send: Callable[[Message], object] | None = None,
    catch: bool = False,
) -> Exchange:
    """Call `app` with one request, as a server would, and return everything that it sent.

    `body`: the request's, one message for each chunk (None: that of a `Request`); with `abort` the client goes away
    instead of ending it.
    `incoming`: what a websocket client sends once it is connected.
    `disconnect_after=n`: the client goes away after `n` messages of the response; later ones are lost, as on servers.
    `on_send` is told each message the moment it is sent, so a test can see it between the app's own steps.
    What the app raises is raised here; with `catch`, errors are kept in `Exchange.error`, beside what had been sent.
    """
    scope = _scope_of(request) if isinstance(request, Request) else request
    if body is None:
        body = (request.body or b"") if isinstance(request, Request) else b""
    exchange = Exchange()
    over = asyncio.Event()
    if disconnect_after == 0:
        over.set()
    waiting = _incoming(scope["type"], body, incoming, abort)

    async def receive() -> Message:
        if waiting and not (over.is_set() and not abort):
            return waiting.pop(0)
        if not abort:
            await over.wait()  # a server, too, has nothing to say until the response is over or the client gone
        return {"type": f"{scope['type']}.disconnect"}

    async def send(message: Message) -> None:
        if disconnect_after is not None and len(exchange.messages) >= disconnect_after:
            return
        exchange.messages.append(message)
        if on_send is not None:
            on_send(message)
        if _is_last(message) or len(exchange.messages) == disconnect_after:
            over.set()

    try:
        await app(scope, receive, send)
    except Exception as exc:
        if not catch:
            raise
        exchange.error = exc
    return exchange


def replay(log: "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]", posture: "Gate | Gateway") -> "Replay":
    """Which calls of an access log a posture would decide differently: `assert not replay("access.log", GATE).changed`.

    `log`, written with `AccessLog(format="json", replay=True)`, is a file, gzipped or not, or an iterable of lines, in
    which a PathLike is a file. Nothing is sent, and nothing waits. Raises `ConfigurationError` for a file that cannot
    be read, and where there was no call to ask about: that nothing has changed would then say nothing.
    """
    from .replay.differences import replayed  # costly: only for tests that need it

    return replayed(log, posture)


class Recorder(Observer):
    """An Observer that keeps every finished Record, for a test to look at."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        """The Records, in the order in which their responses were over."""

    @property
    def last(self) -> Record:
        """The Record finished last. An `IndexError` when there is none."""
        return self.records[-1]

    def end(self, token: Any, record: Record) -> None:
        self.records.append(record)

    def __repr__(self) -> str:
        return f"Recorder({len(self.records)} records)"


class TokenIssuer:
    """Issues JSON Web Tokens with a key of its own, made for the test.

    `JWTAuth(issuer=issuer.issuer, audience="api", jwks=issuer.jwks)` accepts `issuer.token({"aud": "api"})`.
    `algorithm`: RS256, ES256, EdDSA, HS256 and their like; RSA keys take a moment to make.
    """

    def __init__(
        self, issuer: str = "https://issuer.example", *, algorithm: str = "ES256", kid: str | None = "test"
    ) -> None:
        self.issuer = issuer
        self.algorithm = algorithm
        self.kid = kid
        self._key = _new_key(algorithm)

    @property
    def jwks(self) -> dict[str, Any]:
        """The JWK Set that verifies its tokens: the public key, or, for HS256 and its like, the secret itself."""
        from jwt.algorithms import get_default_algorithms

        key = self._key if isinstance(self._key, bytes) else self._key.public_key()
        jwk = {**get_default_algorithms()[self.algorithm].to_jwk(key, as_dict=True), "alg": self.algorithm}
        jwk.pop("key_ops", None)
        return {"keys": [jwk if self.kid is None else {**jwk, "kid": self.kid}]}

    def token(self, claims: Mapping[str, Any] | None = None, **headers: Any) -> str:
        """A signed token. It says `iss`, `iat` (now) and `exp` (in an hour) unless `claims` say otherwise; `kid`
        is in its header unless `headers` say otherwise. What is given as None is left out."""
        import jwt

        now = int(time.time())
        said = {"iss": self.issuer, "iat": now, "exp": now + 3600, **(claims or {})}
        header = {"kid": self.kid, **headers}
        return jwt.encode(
            {name: value for name, value in said.items() if value is not None},
            self._key,
            self.algorithm,
            {name: value for name, value in header.items() if value is not None},
        )

    def __repr__(self) -> str:
        return f"TokenIssuer({self.issuer!r}, algorithm={self.algorithm!r}, kid={self.kid!r})"


def _new_key(algorithm: str) -> Any:
    """A private key, or a secret, for one algorithm."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # costly: only for tests that need it

    curves: dict[str, Callable[[], ec.EllipticCurve]] = {
        "ES256": ec.SECP256R1,
        "ES384": ec.SECP384R1,
        "ES512": ec.SECP521R1,
    }
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm]())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return secrets.token_bytes(64) if algorithm.startswith("HS") else rsa.generate_private_key(65537, 2048)


def _header(name: str | bytes, value: str | bytes) -> tuple[bytes, bytes]:
    return (
        name.lower().encode("latin-1") if isinstance(name, str) else name,
        value.encode("latin-1") if isinstance(value, str) else value,
    )


def _incoming(kind: str, body: bytes | Iterable[bytes], incoming: Iterable[str | bytes], abort: bool) -> list[Message]:
    if kind == "lifespan":
        return [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    if kind == "websocket":
        frames = [{"text" if isinstance(data, str) else "bytes": data} for data in incoming]
        return [{"type": "websocket.connect"}, *({"type": "websocket.receive", **frame} for frame in frames)]
    chunks = [body] if isinstance(body, bytes) else [*body] or [b""]
    last = None if abort else len(chunks) - 1
    return [{"type": "http.request", "body": chunk, "more_body": n != last} for n, chunk in enumerate(chunks)]


def _is_last(message: Message) -> bool:
    kind: str = message["type"]
    if kind.endswith("http.response.body"):
        return not message.get("more_body", False)
    return kind == "websocket.close" or kind == "lifespan.shutdown.complete"


def _scope_of(request: Request) -> dict[str, Any]:
    return {
        "type": request.type,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": request.http_version,
        "method": request.method,
        "scheme": request.scheme,
        "path": request.scope_path,
        "raw_path": request.raw_path,
        "query_string": request.query_string,
        "root_path": request.root_path,
        "headers": [*request.raw_headers],
        "client": request.peer,
    }
