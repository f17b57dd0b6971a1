"""MCP servers as transports: they speak one era or both, and fail in every way that servers do."""

import asyncio
import gzip
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from agentgate import MCPTarget
from agentgate.protocols.mcp.answers import MAX_ANSWER_BYTES
from agentgate.proxy.federation.app import Federation
from agentgate.testing import Exchange, drive, http_scope

MODERN, LEGACY = "2026-07-28", "2025-11-25"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}

HEALTHY = ("both", "modern", "sessions")
# What fails at once, whatever it is asked; and what shakes hands before it fails.
BROKEN = ("refused", "500", "html", "garbage", "list", "redirect", "cut", "accepted", "large", "silent")
TREACHEROUS = (
    *("an error", "nonsense", "no JSON", "too much", "compressed", "compressed stream"),
    *("two answers", "no answer", "another id", "late"),
)
SLOW = ("silent", "another id", "late")  # at which it takes patience to find out


class Stream(httpx2.AsyncByteStream):
    """An event stream of these messages; with `open`, it does not end."""

    def __init__(self, *messages: Any, open: bool = False) -> None:
        self.messages = messages
        self.open = open

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for message in self.messages:
            yield b"event: message\r\ndata: " + json.dumps(message).encode() + b"\r\n\r\n"
        if self.open:
            await asyncio.Event().wait()


class Body(httpx2.AsyncByteStream):
    """A body as it comes over the wire."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.body), 65536):
            yield self.body[at : at + 65536]


class Question(httpx2.AsyncByteStream):
    """An event stream that asks, and has the answer for its result."""

    def __init__(self, id: Any, question: Any, answers: "asyncio.Queue[Any]") -> None:
        self.id, self.question, self.answers = id, question, answers

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"event: message\ndata: " + json.dumps(self.question).encode() + b"\n\n"
        result = {"content": [{"type": "text", "text": json.dumps(await self.answers.get())}]}
        yield b"event: message\ndata: "
        yield json.dumps({"jsonrpc": "2.0", "id": self.id, "result": result}).encode() + b"\n\n"


class Fake(httpx2.AsyncBaseTransport):
    """One target. `kind`: of the above; `pages`: of its tools' names."""

    def __init__(self, kind: str = "both", pages: tuple[tuple[str, ...], ...] = (("echo",),)) -> None:
        self.kind = kind
        self.pages = pages
        self.sessions: set[str] = set()  # that are open
        self.asked: list[tuple[str, httpx2.Headers, dict[str, Any]]] = []
        self.cancelled = 0
        self.answers: asyncio.Queue[Any] = asyncio.Queue()  # of the client, to what this has asked
        self.waiting = asyncio.Event()
        self._ids = itertools.count(1)

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.asked]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        match self.kind:
            case "refused":
                raise httpx2.ConnectError("no: secret")
            case "500":
                return httpx2.Response(500, text="secret")
            case "html":
                return httpx2.Response(200, html="<p>secret</p>")
            case "garbage":
                return httpx2.Response(200, content=b"{", headers={"content-type": "application/json"})
            case "list":
                return httpx2.Response(200, json=[1])
            case "silent":
                await asyncio.Event().wait()
            case "redirect":
                return httpx2.Response(307, headers={"location": "http://secret/"})
            case "cut":
                return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())
            case "accepted":
                return httpx2.Response(202)
            case "large":
                return httpx2.Response(413, text="secret")
        return await self.answer(request)

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        session = request.headers.get("mcp-session-id")
        if request.method == "GET":
            return httpx2.Response(405)
        if request.method == "DELETE":
            self.sessions.discard(session or "")
            return httpx2.Response(200)
        message = json.loads(await request.aread())
        if "method" not in message:
            self.answers.put_nowait(message)
            return httpx2.Response(202)
        method, params, id = message["method"], message.get("params", {}), message.get("id")
        self.asked.append((method, request.headers, params))
        modern = request.headers.get("mcp-protocol-version") == MODERN
        if modern is (self.kind == "sessions") and (modern or method != "initialize"):
            modern = self.kind != "sessions"
        if modern and self.kind == "sessions":
            return httpx2.Response(400, text="unsupported protocol version")
        if not modern and self.kind == "modern":
            return error(id, -32022, "unsupported", 400)
        if id is None:
            return httpx2.Response(202)
        headers = {}
        if method == "initialize":
            session = f"{id}-{next(self._ids)}"
            self.sessions.add(session)
            headers = {"mcp-session-id": session, "set-cookie": "who=somebody"}
        elif not modern and session not in self.sessions:
            return error(id, -32600, "Session not found", 404)
        return await self.result(id, method, params, session, headers)

    async def result(
        self, id: Any, method: str, params: dict[str, Any], session: str | None, headers: dict[str, str]
    ) -> httpx2.Response:
        introduction = {"capabilities": {"tools": {}}, "instructions": "Ask."}
        found: dict[str, Any] = {}
        match method:
            case "initialize":
                found = {**introduction, "protocolVersion": LEGACY, "serverInfo": {"name": "fake", "version": "1"}}
            case "server/discover":
                found = {**introduction, "supportedVersions": [MODERN]}
            case "tools/list" if self.kind in TREACHEROUS:
                return await self.betray(id)
            case "tools/list":
                at = int(params.get("cursor", 0))
                found = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in self.pages[at]]}
                if at + 1 < len(self.pages):
                    found["nextCursor"] = str(at + 1)
            case "tools/call" if params["name"] == "wait":
                self.waiting.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            case "tools/call" if params["name"] == "ask":
                question = {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}}
                return httpx2.Response(
                    200, headers={"content-type": "text/event-stream"}, stream=Question(id, question, self.answers)
                )
            case "tools/call":
                await asyncio.sleep(0)
                found = {"content": [{"type": "text", "text": json.dumps(params.get("arguments"))}], "session": session}
            case _:
                return error(id, -32601, "Method not found")
        return httpx2.Response(200, json={"jsonrpc": "2.0", "id": id, "result": found}, headers=headers)

    async def betray(self, id: Any) -> httpx2.Response:
        def answer(name: str, to: Any = id) -> dict[str, Any]:
            return {"jsonrpc": "2.0", "id": to, "result": {"tools": [{"name": name}]}}

        stream = {"content-type": "text/event-stream"}
        match self.kind:
            case "nonsense":
                return httpx2.Response(200, json={"jsonrpc": "2.0", "id": id, "result": {"tools": 7}})
            case "no JSON":
                return httpx2.Response(200, content=b"{secret", headers={"content-type": "application/json"})
            case "too much":
                body = json.dumps(answer("x" * MAX_ANSWER_BYTES)).encode()
                return httpx2.Response(200, headers={"content-type": "application/json"}, stream=Body(body))
            case "compressed":
                body = gzip.compress(json.dumps(answer("x" * MAX_ANSWER_BYTES)).encode())
                headers = {"content-type": "application/json", "content-encoding": "gzip"}
                return httpx2.Response(200, headers=headers, stream=Body(body))
            case "compressed stream":
                body = gzip.compress(b"data: " + json.dumps(answer("first")).encode() + b"\n\n")
                return httpx2.Response(200, headers={**stream, "content-encoding": "gzip"}, stream=Body(body))
            case "another id":
                return httpx2.Response(200, json=answer("stolen", 999))
            case "two answers":
                return httpx2.Response(200, headers=stream, stream=Stream(answer("first"), answer("second")))
            case "no answer":
                return httpx2.Response(200, headers=stream, stream=Stream({"jsonrpc": "2.0", "method": "x"}))
            case "late":
                return httpx2.Response(200, headers=stream, stream=Stream(open=True))
        return error(id, -32603, "secret")


def error(id: Any, code: int, text: str, status: int = 200) -> httpx2.Response:
    return httpx2.Response(status, json={"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})


def federation(**fakes: Fake) -> Federation:
    return Federation({name: MCPTarget(f"http://{name}:9000/mcp") for name in fakes}, fakes)


class Client:
    """A client of one era. It sends one request after the other, or several at once."""

    def __init__(self, app: Any, era: str = MODERN) -> None:
        self.app = app
        self.era = era
        self.session: str | None = None

    async def open(self, **capabilities: Any) -> dict[str, Any]:
        """Open a session, where the era has them. Returns what the server has said of itself."""
        if self.era == MODERN:
            return await self.ask("server/discover")
        params = {
            "protocolVersion": self.era,
            "capabilities": capabilities,
            "clientInfo": {"name": "t", "version": "1"},
        }
        exchange = await self.send("initialize", params)
        answer = only(exchange, 1)
        if "result" in answer:
            self.session = exchange.headers["mcp-session-id"]
            assert (await self.send("notifications/initialized", id=...)).status == 202
        return answer

    async def ask(self, method: str, params: Any = None, id: Any = 1) -> dict[str, Any]:
        """The one response to a request."""
        return only(await self.send(method, params, id=id), id)

    async def send(self, method: str, params: Any = None, *, id: Any = 1, http: str = "POST") -> Exchange:
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        if id is not ...:
            message["id"] = id
        if self.era == MODERN:
            message["params"] = {**message["params"], "_meta": META}
            headers |= {"mcp-protocol-version": MODERN, "mcp-method": method}
            if "name" in message["params"]:
                headers["mcp-name"] = message["params"]["name"]
        elif self.session is not None:
            headers |= {"mcp-protocol-version": self.era, "mcp-session-id": self.session}
        body = json.dumps(message).encode() if http == "POST" else b""
        return await drive(self.app, http_scope(http, "/mcp", headers=[*headers.items()]), body=body)

    async def close(self) -> None:
        if self.session is not None:
            assert (await self.send("", http="DELETE")).status == 200


def only(exchange: Exchange, id: Any) -> dict[str, Any]:
    """The one response in an exchange, which is to this id."""
    assert exchange.complete
    if exchange.headers["content-type"].startswith("text/event-stream"):
        lines = [line[6:] for line in exchange.body.splitlines() if line.startswith(b"data: {")]
        messages = [json.loads(line) for line in lines]
    else:
        messages = [json.loads(exchange.body)]
    responses = [message for message in messages if "id" in message and "method" not in message]
    assert [message["id"] for message in responses] == [id]
    found: dict[str, Any] = responses[0]
    assert ("result" in found) != ("error" in found)
    return found
