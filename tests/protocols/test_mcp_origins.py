"""DNS rebinding: what a browser would say of a page that speaks to a server under the page's own name."""

from typing import Any

import pytest

from agentgate import MCP, CELRules, ConfigurationError, Gate
from agentgate.testing import Recorder

from .mcp_messages import Server, error_of, message, send

pytestmark = pytest.mark.anyio

LOCAL, REMOTE = ("127.0.0.1", 50000), ("10.0.0.7", 50000)
PUBLIC = "https://gw.example.com/mcp"
APP = "https://app.example.com"

ADMITTED: list[tuple[str, str | None, Any, dict[str, Any]]] = [
    # Host, Origin, peer, options
    ("localhost:8000", None, LOCAL, {}),
    ("127.0.0.1:8000", None, LOCAL, {}),
    ("[::1]:8000", None, ("::1", 1), {}),
    ("localhost", "http://localhost:3000", LOCAL, {}),
    ("127.0.0.1", "http://localhost:3000", LOCAL, {}),
    ("localhost", "http://[::1]", LOCAL, {}),
    ("localhost", "https://127.8.8.8:1", LOCAL, {}),
    ("gateway.internal", None, REMOTE, {}),
    ("gateway.internal", None, None, {}),  # a socket with no address
    ("gw.example.com", None, REMOTE, {"public_url": PUBLIC}),
    ("gw.example.com:443", None, LOCAL, {"public_url": PUBLIC}),
    ("GW.example.com.", None, LOCAL, {"public_url": PUBLIC}),
    ("gw.example.com", "https://gw.example.com", REMOTE, {"public_url": PUBLIC}),
    ("gw.example.com", "https://GW.example.com:443", REMOTE, {"public_url": PUBLIC}),
    ("localhost", None, LOCAL, {"public_url": PUBLIC}),
    ("gw.example.com", APP, REMOTE, {"public_url": PUBLIC, "origins": [APP]}),
    ("gateway.internal", APP, REMOTE, {"origins": [APP]}),
    ("localhost", APP, LOCAL, {"origins": [APP]}),
    ("gw.example.com", "http://gw.example.com:8080", REMOTE, {"public_url": "http://gw.example.com:8080"}),
]
REFUSED: list[tuple[str, str | None, Any, dict[str, Any]]] = [
    ("evil.example", None, LOCAL, {}),
    ("evil.example", None, ("::1", 1), {}),
    ("evil.example", None, ("::ffff:127.0.0.1", 1), {}),
    ("localhost.evil.example", None, LOCAL, {}),
    ("127.0.0.1.evil.example", None, LOCAL, {}),
    ("evil.example", "http://evil.example", LOCAL, {}),
    ("evil.example", "http://evil.example", REMOTE, {}),
    ("localhost", "http://evil.example", LOCAL, {}),
    ("localhost", "https://localhost.evil.example", LOCAL, {}),
    ("localhost", "null", LOCAL, {}),
    ("localhost", "", LOCAL, {}),
    ("localhost", "localhost", LOCAL, {}),
    ("localhost", "file://", LOCAL, {}),
    ("localhost", "http://localhost/", LOCAL, {}),
    ("localhost", "http://localhost http://evil.example", LOCAL, {}),
    ("localhost", "http://user@localhost", LOCAL, {}),
    ("localhost", "ftp://localhost", LOCAL, {}),
    ("gateway.internal", "http://localhost:3000", REMOTE, {}),
    ("gateway.internal", "http://gateway.internal", REMOTE, {}),
    ("gw.example.com", "http://gw.example.com", REMOTE, {"public_url": PUBLIC}),
    ("gw.example.com", "https://gw.example.com:8443", REMOTE, {"public_url": PUBLIC}),
    ("gw.example.com", "https://evil.example", REMOTE, {"public_url": PUBLIC}),
    ("gw.example.com", "https://evil.example", REMOTE, {"public_url": PUBLIC, "origins": [APP]}),
    ("gw.example.com", "http://localhost:3000", REMOTE, {"public_url": PUBLIC}),
    ("evil.example", None, REMOTE, {"public_url": PUBLIC}),
    ("evil.example", APP, REMOTE, {"public_url": PUBLIC, "origins": [APP]}),
]


def gate(server: Server, public_url: str | None = None, **options: Any) -> Gate:
    return Gate(server, protocol=MCP(**options), observe=[Recorder()], public_url=public_url)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize(("host", "origin", "peer", "options"), ADMITTED)
async def test_who_may_come(method: str, host: str, origin: str | None, peer: Any, options: Any) -> None:
    server = Server()
    headers = {} if origin is None else {"origin": origin}
    body = message("ping") if method == "POST" else b""
    exchange = await send(gate(server, **options), body, headers, method=method, host=host, client=peer)
    assert (exchange.status, len(server.asked)) == (200, 1)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize(("host", "origin", "peer", "options"), REFUSED)
async def test_who_may_not(method: str, host: str, origin: str | None, peer: Any, options: Any) -> None:
    server = Server()
    headers = {} if origin is None else {"origin": origin}
    body = message("ping") if method == "POST" else b""
    exchange = await send(gate(server, **options), body, headers, method=method, host=host, client=peer)
    assert (exchange.status, server.asked) == (403, [])
    assert error_of(exchange)[1] == "the Origin or Host is not this server's (protection against DNS rebinding)"


async def test_two_origins_are_refused() -> None:
    server = Server()
    headers = [("origin", "http://localhost"), ("origin", "http://evil.example")]
    assert (await send(gate(server), message("ping"), headers)).status == 400
    assert server.asked == []


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example.com", "https://app.example.com/", "https://*.example.com", 7]
)
def test_what_is_no_origin_is_told_when_it_is_built(origin: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no origin such as"):
        MCP(origins=[origin])
    with pytest.raises(TypeError, match="origins is a list"):
        MCP(origins="https://app.example.com")


async def test_a_gate_within_another_judges_by_the_same_request() -> None:
    server = Server()
    inner = gate(server, public_url=PUBLIC)
    outer = Gate(inner, authorize=[CELRules(allow=["true"])])
    assert (await send(outer, message("ping"), host="evil.example", client=REMOTE)).status == 403
    assert (await send(outer, message("ping"), host="gw.example.com", client=REMOTE)).status == 200
