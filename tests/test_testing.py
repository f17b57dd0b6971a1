"""The test tools themselves: what they show is what an app sent."""

from typing import Any

import jwt
import pytest

from agentgate import Gate, authorizer, deny
from agentgate.testing import Recorder, Request, TokenIssuer, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Sends every message it receives back, as text."""
    await send({"type": "http.response.start", "status": 201, "headers": [(b"A", b"1"), (b"a", b"2"), (b"b", b"3")]})
    while True:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b"gone"), "more_body": more})
        if not more:
            return


@pytest.mark.parametrize(
    ("body", "abort", "chunks"),
    [
        (b"", False, [b""]),
        (b"abc", False, [b"abc"]),
        ([b"a", b"b"], False, [b"a", b"b"]),
        ([], False, [b""]),
        ([b"a", b"b"], True, [b"a", b"b", b"gone"]),
    ],
)
async def test_a_body_is_sent_as_it_is_given(body: Any, abort: bool, chunks: list[bytes]) -> None:
    """A body is one message for each chunk; an aborted one has no end."""
    exchange = await drive(echo, http_scope("POST"), body=body, abort=abort)
    assert (exchange.status, exchange.chunks, exchange.complete) == (201, chunks, True)
    assert exchange.headers == {"a": "1, 2", "b": "3"}
    assert exchange.text == b"".join(chunks).decode()


async def test_after_its_body_a_client_waits_for_the_end() -> None:
    """As with a server, `http.disconnect` comes when the response is over, and not before."""
    got: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})
        got.append((await receive())["type"])

    await drive(app, http_scope())
    assert got == ["http.disconnect"]


@pytest.mark.parametrize(("after", "sent"), [(0, 0), (1, 1), (2, 2), (None, 4)])
async def test_a_client_can_go_away(after: int | None, sent: int) -> None:
    """After so many messages the client is gone: the rest is lost, and the app is told."""
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"a", b"b"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
        told.append((await receive())["type"])

    exchange = await drive(app, http_scope(), disconnect_after=after)
    assert (len(exchange.messages), exchange.started, exchange.complete) == (sent, sent > 0, after is None)
    assert told == ["http.disconnect"]


async def test_errors_are_raised_or_kept() -> None:
    """What an app raises is raised, or kept beside what it had sent."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await drive(app, http_scope())
    exchange = await drive(app, http_scope(), catch=True)
    assert isinstance(exchange.error, ValueError)
    assert (exchange.status, exchange.complete, exchange.close_code) == (200, False, None)


async def test_a_websocket_conversation() -> None:
    """A websocket client connects, says what it has to say, and waits for the close."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        for _ in range(2):
            message = await receive()
            await send({"type": "websocket.send", "text": str(message.get("text", message.get("bytes")))})
        await send({"type": "websocket.close", "code": 4000})
        assert (await receive())["type"] == "websocket.disconnect"

    exchange = await drive(app, websocket_scope("/live"), incoming=["a", b"b"])
    assert [m.get("text") for m in exchange.messages if m["type"] == "websocket.send"] == ["a", "b'b'"]
    assert (exchange.close_code, exchange.status, exchange.complete) == (4000, None, True)


async def test_a_request_can_be_driven() -> None:
    """A Request made for `explain` can be sent through an app as well, and means the same there."""
    request = Request.http("POST", "/a%20b?x=1", headers={"x": "y"}, host="a.example", client=("10.0.0.7", 1))
    seen: list[Request] = []

    @authorizer
    def rule(request: Request) -> Any:
        seen.append(request)
        return deny("no")

    recorder = Recorder()
    gate = Gate(echo, authorize=[rule], observe=[recorder])
    exchange = await drive(gate, request)
    assert exchange.text == gate.explain(request)[0].message == "no"
    for name in ("method", "path", "target", "raw_headers", "peer", "host", "type"):
        assert getattr(seen[0], name) == getattr(request, name)
    assert recorder.last.status == 403
    assert repr(recorder) == "Recorder(1 records)"
    with pytest.raises(IndexError):
        _ = Recorder().last


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (http_scope(), {"method": "GET", "path": "/", "raw_path": b"/", "headers": [(b"host", b"localhost")]}),
        (
            http_scope("PUT", "/a%20b?c=d"),
            {"method": "PUT", "path": "/a b", "raw_path": b"/a%20b", "query_string": b"c=d"},
        ),
        (http_scope(headers={"X-Y": "z"}), {"headers": [(b"host", b"localhost"), (b"x-y", b"z")]}),
        (http_scope(headers=[("Host", "a"), ("host", "b")]), {"headers": [(b"host", b"a"), (b"host", b"b")]}),
        (http_scope(headers=[(b"X", b"\xff")], host=None), {"headers": [(b"X", b"\xff")]}),
        (http_scope(host=None), {"headers": []}),
        (http_scope(root_path="/gw", client=None), {"root_path": "/gw", "client": None}),
        (
            websocket_scope("/live"),
            {"type": "websocket", "scheme": "ws", "extensions": {"websocket.http.response": {}}},
        ),
        (websocket_scope(scheme="wss"), {"scheme": "wss"}),
    ],
)
def test_scopes_are_as_servers_make_them(scope: dict[str, Any], expected: dict[str, Any]) -> None:
    """A scope has what ASGI says, and what the test says."""
    assert {name: scope[name] for name in expected} == expected
    assert ("method" in scope) == (scope["type"] == "http")


def test_a_server_without_the_denial_extension() -> None:
    """`denial=False` is a server that can only close."""
    assert "extensions" not in websocket_scope(denial=False)


async def test_lifespan() -> None:
    """A lifespan is a start-up and a shutdown."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})

    exchange = await drive(app, {"type": "lifespan"})
    assert [m["type"] for m in exchange.messages] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES512", "EdDSA", "HS384"])
def test_a_token_issuer_issues_what_it_says(algorithm: str) -> None:
    """Its key set verifies its tokens, which say what they were given and what they must; None leaves out."""
    issuer = TokenIssuer("https://a.example", algorithm=algorithm, kid="k")
    (jwk,) = issuer.jwks["keys"]
    assert (jwk["alg"], jwk["kid"]) == (algorithm, "k")
    assert "d" not in jwk
    token = issuer.token({"aud": "api", "iat": None}, typ="at+jwt")
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": "k", "typ": "at+jwt"}
    claims = jwt.decode(token, jwt.PyJWK(jwk), audience="api")
    assert {*claims} == {"iss", "exp", "aud"}
    assert claims["iss"] == "https://a.example"
    nameless = TokenIssuer(kid=None)
    assert "kid" not in nameless.jwks["keys"][0]
    assert "kid" not in jwt.get_unverified_header(nameless.token())
    assert repr(issuer) == f"TokenIssuer('https://a.example', algorithm='{algorithm}', kid='k')"
