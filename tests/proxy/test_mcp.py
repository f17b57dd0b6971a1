"""MCPBackend: what reaches an MCP server, and what comes back from it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentgate import (
    APIKeyAuth,
    CELRules,
    ConfigurationError,
    MCPBackend,
    PoolTransport,
    Route,
    Secret,
    Timeouts,
    create_gateway,
    new_key,
)
from agentgate.proxy.gateway import Gateway
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
TOOLS = {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "add"}, {"name": "drop"}]}}


class Upstream:
    """Answers every request the same, and remembers it."""

    def __init__(self, answer: Any = TOOLS, **headers: str) -> None:
        self.answer = answer
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        if isinstance(self.answer, httpx.Response):
            return self.answer
        return httpx.Response(200, json=self.answer, headers=self.headers)


def gateway(upstream: Any, path: str = "/mcp", url: str = "http://tools:9000/mcp", **options: Any) -> Gateway:
    backend = MCPBackend(url, transport=httpx.MockTransport(upstream), **options)
    return create_gateway(
        Route(path, backend, name="tools"),
        authenticate=[APIKeyAuth({"alice": KEY})],
        authorize=[CELRules(allow=['mcp.tool.name == "add"'])],
        observe=[RECORDER],
    )


RECORDER = Recorder()


async def post(app: Gateway, body: Any = LIST, target: str = "/mcp", **headers: str) -> Any:
    sent = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await drive(app, http_scope("POST", target, headers=sent), body=json.dumps(body).encode())


async def test_a_list_comes_back_filtered() -> None:
    upstream = Upstream()
    exchange = await post(gateway(upstream))
    assert exchange.status == 200
    assert json.loads(exchange.body)["result"] == {"tools": [{"name": "add"}]}
    assert (RECORDER.last.route, RECORDER.last.protocol, RECORDER.last.endpoint) == ("tools", "mcp", "tools:9000")
    assert upstream.requests[0].content == json.dumps(LIST).encode()


async def test_a_denied_call_never_leaves() -> None:
    upstream = Upstream()
    exchange = await post(gateway(upstream), {**LIST, "method": "tools/call", "params": {"name": "drop"}})
    assert json.loads(exchange.body)["error"] == {"code": -32602, "message": "Unknown tool: drop"}
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("path", "target", "url", "asked"),
    [
        ("/mcp", "/mcp", "http://tools:9000/mcp", "/mcp"),
        ("/tools", "/tools", "http://tools:9000/mcp", "/mcp"),
        ("/", "/a/b", "http://tools:9000/mcp", "/mcp"),
        ("/mcp", "/mcp/", "http://tools:9000/mcp/", "/mcp/"),
        ("/mcp", "/mcp?a=b%20c", "http://tools:9000", "/?a=b%20c"),
    ],
)
async def test_it_goes_to_the_one_url(path: str, target: str, url: str, asked: str) -> None:
    upstream = Upstream()
    await post(gateway(upstream, path, url), target=target)
    request = upstream.requests[0]
    assert request.extensions["target"] == asked.encode()
    assert request.headers["host"] == "tools:9000"


async def test_headers() -> None:
    """What MCP needs goes on; what is between the caller, the browser and the gateway does not."""
    upstream = Upstream()
    passed = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
        "mcp-param-region": "eu",
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "last-event-id": "7",
        "user-agent": "agent/1",
    }
    exchange = await post(gateway(upstream), origin="http://localhost:3000", cookie="a=b", **passed)
    assert exchange.status == 200
    sent = dict(upstream.requests[0].headers)
    assert {name: sent[name] for name in passed} == passed
    assert sent["accept-encoding"] == "identity"
    assert "authorization" not in sent
    assert "origin" not in sent


@pytest.mark.parametrize("forward", [True, False])
async def test_a_credential_that_nobody_claimed_goes_on_only_when_asked(forward: bool) -> None:
    upstream = Upstream()
    backend = MCPBackend(
        "http://tools:9000/mcp", transport=httpx.MockTransport(upstream), forward_authorization=forward
    )
    app = create_gateway(Route("/mcp", backend), observe=[RECORDER])
    assert (await post(app)).status == 200
    assert ("authorization" in upstream.requests[0].headers) == forward


async def test_session_ids_are_changed_both_ways() -> None:
    upstream = Upstream(mcp_session_id="upstream-id")
    app = gateway(upstream, session_key=Secret("k" * 32))
    opened = await post(app, {**LIST, "method": "initialize", "params": {}})
    session = opened.headers["mcp-session-id"]
    assert "upstream-id" not in session
    await post(app, mcp_session_id=session)
    assert upstream.requests[-1].headers["mcp-session-id"] == "upstream-id"
    assert (await post(app, mcp_session_id="upstream-id")).status == 404
    replica = gateway(upstream, session_key=Secret("k" * 32))
    assert (await post(replica, mcp_session_id=session)).status == 200


@pytest.mark.parametrize("status", [202, 400, 404, 405, 406])
async def test_statuses_that_mean_something_to_clients_stay(status: int) -> None:
    exchange = await post(gateway(Upstream(httpx.Response(status))))
    assert (exchange.status, exchange.body) == (status, b"")


async def test_an_encoded_answer_is_502() -> None:
    answer = httpx.Response(
        200, headers={"content-type": "application/json", "content-encoding": "gzip"}, stream=httpx.ByteStream(b"x")
    )
    exchange = await post(gateway(Upstream(answer)))
    assert (exchange.status, exchange.text) == (502, "upstream call failed")


class Events(httpx.AsyncByteStream):
    def __init__(self) -> None:
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"data: {}\n\n"
        yield b'data: {"tools": [\n\n'
        raise AssertionError("read on after what was cut off")

    async def aclose(self) -> None:
        self.closed = True


async def test_a_stream_that_is_cut_off_is_closed_upstream_too() -> None:
    stream = Events()
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)
    exchange = await post(gateway(Upstream(answer)))
    assert (exchange.status, exchange.body, exchange.complete) == (200, b"data: {}\n\n", False)
    assert stream.closed


async def test_reading_takes_as_long_as_it_takes() -> None:
    upstream = Upstream()
    await post(gateway(upstream))
    assert upstream.requests[0].extensions["timeout"] == {"connect": 10, "read": None, "write": 60, "pool": 10}
    upstream = Upstream()
    await post(gateway(upstream, timeouts=Timeouts(first_byte=5, idle=5, events=5)))
    assert upstream.requests[0].extensions["timeout"]["read"] == 5


async def test_its_own_pool_holds_a_stream_of_every_client() -> None:
    backend = MCPBackend("http://tools:9000/mcp")
    assert isinstance(backend.transport, PoolTransport)
    assert repr(backend) == "MCPBackend('http://tools:9000/mcp')"
    await backend.aclose()


@pytest.mark.parametrize(
    "url", ["tools:9000", "ftp://tools/mcp", "http://u:p@tools/mcp", "http://tools/mcp?a=b", "http://", 7]
)
def test_what_is_no_upstream(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="an upstream"):
        MCPBackend(url)
    with pytest.raises(ConfigurationError, match="is no origin"):
        MCPBackend("http://tools:9000/mcp", origins=["*"])
    with pytest.raises(ConfigurationError, match="session_key"):
        MCPBackend("http://tools:9000/mcp", session_key=Secret("short"))


async def test_a_server_that_does_not_answer() -> None:
    """It is the gateway's failure, and still an answer to the request."""

    async def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    app = gateway(down)
    exchange = await post(app, {**LIST, "id": 7})
    assert (exchange.status, exchange.headers["content-type"]) == (503, "application/json")
    assert json.loads(exchange.body) == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {"code": -32603, "message": "upstream call failed"},
    }
    exchange = await drive(app, http_scope("GET", "/mcp", headers={"authorization": f"Bearer {KEY}"}))
    assert (exchange.status, json.loads(exchange.body)["id"]) == (503, None)
