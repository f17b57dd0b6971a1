"""MCP end to end: official clients and servers of both eras, with the gateway between them."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentgate import new_key

from .mcp_versions import SDK
from .servers import PATIENCE, Message, Peer, Running, Upstream, connected, free_port, listening, running, until

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parent
ALICE, BOB, ADMIN = new_key(), new_key(), new_key()

GATEWAY = """
from agentgate import AccessLog, APIKeyAuth, CELRules, Key, MCPBackend, Route, create_gateway, hash_key

log = open("access.log", "a", buffering=1)
RULES = CELRules(allow={{
    "tools": 'mcp.tool.name in ["add", "count"]',
    "public": 'mcp.resource.name.startsWith("file:///public/")',
    "prompts": 'mcp.prompt.name == "hello"',
    "admins": 'apiKey.group == "admins"',
}})
app = create_gateway(
    {routes}
    authenticate=[APIKeyAuth([
        Key("alice", hash_key("{alice}")),
        Key("bob", hash_key("{bob}")),
        Key("admin", hash_key("{admin}"), metadata={{"group": "admins"}}),
    ])],
    authorize=[RULES],
    observe=[AccessLog(lambda line: log.write(line + "\\n"), format="json")],
)
"""


@contextmanager
def serving(sdk: SDK, folder: Path) -> Iterator[int]:
    """The port of an MCP server made with this SDK."""
    port = free_port()
    with (folder / "output").open("w") as output:
        server = subprocess.Popen(
            [sdk.python, str(FOLDER / "mcp_server.py"), sdk.name, str(port)], stdout=output, stderr=output, cwd=folder
        )
        try:
            deadline = time.monotonic() + 3 * PATIENCE
            while not listening(port):
                assert server.poll() is None, (folder / "output").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield port
        finally:
            server.terminate()
            server.wait(PATIENCE)


@pytest.fixture(scope="module")
def scripted() -> Iterator[Upstream]:
    """A server that does what the test says."""
    upstream = Upstream()
    with upstream.listener:
        yield upstream


@pytest.fixture(scope="module")
def gateway(
    mcp_2: SDK, scripted: Upstream, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A gateway in front of a server made with mcp 2.x and, at /scripted, of one that does what the test says."""
    with serving(mcp_2, tmp_path_factory.mktemp("server-2")) as port:
        routes = {"/mcp": f"http://127.0.0.1:{port}/mcp", "/scripted": f"http://127.0.0.1:{scripted.port}/mcp"}
        with between(routes, tmp_path_factory.mktemp("gateway")) as server:
            yield server


@contextmanager
def between(routes: dict[str, str], folder: Path) -> Iterator[Running]:
    lines = "\n    ".join(f'Route("{path}", MCPBackend("{url}"), name="{path[1:]}"),' for path, url in routes.items())
    source = GATEWAY.format(routes=lines, alice=ALICE, bob=BOB, admin=ADMIN)
    with running("uvicorn-httptools", source, folder) as server:
        yield server
        assert "Traceback" not in server.output


def visit(sdk: SDK, gateway: Running, key: str, mode: str) -> "subprocess.CompletedProcess[str]":
    command = [sdk.python, str(FOLDER / "mcp_client.py"), sdk.name, f"http://127.0.0.1:{gateway.port}/mcp", key, mode]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE)


def use(sdk: SDK, gateway: Running, key: str = ALICE, mode: str = "auto") -> dict[str, Any]:
    """What a client made with this SDK says of its visit."""
    done = visit(sdk, gateway, key, mode)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


SEEN = {
    "tools": ["add", "count"],
    "prompts": ["hello"],
    "resources": ["file:///public/a"],
    "templates": ["file:///public/{name}"],
    "count": "counted",
    "progress": [0.0, 1.0, 2.0],
    "drop_table": "Unknown tool: drop_table",
    "no tool": "Unknown tool: drop_everything",
    "prompt": "hi",
    "hidden prompt": "Unknown prompt: hidden",
    "resource": "public",
    "any": "public b",
    "secret": "Unknown resource: file:///secret",
    "afterwards": "5",
}


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
def test_a_client_of_mcp_2(gateway: Running, mcp_2: SDK, mode: str) -> None:
    """What it may do it can, what it may not is not there, and it lives on after every refusal."""
    before = len(gateway.log)
    assert use(mcp_2, gateway, mode=mode) == SEEN
    lines = gateway.log[before:]
    sessions = {line["mcp.session.id"] for line in lines if "mcp.session.id" in line}
    assert len(sessions) == (1 if mode == "legacy" else 0)
    denied = [line for line in lines if line.get("reason") == "MCP"]
    assert [line["error"] for line in denied] == [
        "mcp: Unknown tool: drop_table",
        "mcp: Unknown tool: drop_everything",
        "mcp: Unknown prompt: hidden",
        "mcp: Unknown resource: file:///secret",
    ]
    assert {line["http.status"] for line in denied} == {200 if mode == "legacy" else 400}
    assert {line["principal"] for line in lines} == {"alice"}
    assert not [line for line in lines if "Traceback" in str(line)]


def test_a_client_of_mcp_1(gateway: Running, mcp_1: SDK) -> None:
    assert use(mcp_1, gateway) == SEEN


def test_a_client_of_fastmcp(gateway: Running, fastmcp: SDK) -> None:
    assert use(fastmcp, gateway) == SEEN


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("sdk", ["mcp_1", "fastmcp"])
def test_servers_made_with_other_sdks(
    sdk: str, mode: str, mcp_2: SDK, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    with (
        serving(request.getfixturevalue(sdk), tmp_path / "server") as port,
        between({"/mcp": f"http://127.0.0.1:{port}/mcp"}, tmp_path) as gateway,
    ):
        assert use(mcp_2, gateway, mode=mode) == SEEN


def test_an_admin_sees_it_all(gateway: Running, mcp_2: SDK) -> None:
    said = use(mcp_2, gateway, key=ADMIN)
    assert said["tools"] == ["add", "count", "drop_table"]
    assert said["drop_table"] == "dropped users"
    assert said["secret"] == "secret"


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
def test_a_client_that_nobody_knows(gateway: Running, mcp_2: SDK, mode: str) -> None:
    assert visit(mcp_2, gateway, new_key(), mode).returncode != 0
    assert gateway.log[-1]["http.status"] == 401


# On the wire.

ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


class Session:
    """A client of 2025-11-25, by hand."""

    def __init__(self, gateway: Running, key: str) -> None:
        self.url = f"http://127.0.0.1:{gateway.port}/mcp"
        self.http = httpx.Client(
            headers={**ACCEPT, "authorization": f"Bearer {key}"}, timeout=PATIENCE, trust_env=False
        )
        self.headers: dict[str, str] = {}

    def open(self) -> "Session":
        session = self.post(INITIALIZE).headers["mcp-session-id"]
        self.headers = {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
        assert self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 202
        return self

    def post(self, message: Any, **headers: str) -> httpx.Response:
        return self.http.post(self.url, json=message, headers={**self.headers, **headers})


def messages(body: str) -> list[Any]:
    data = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in data if line]


def test_a_list_that_is_sent_again_is_filtered_again(gateway: Running) -> None:
    """A stream is resumed after its first event, and the whole list comes back on it."""
    session = Session(gateway, ALICE).open()
    answer = session.post({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
    first = next(line.removeprefix("id: ") for line in answer.text.splitlines() if line.startswith("id: "))
    headers = {**session.headers, "last-event-id": first, "accept": "text/event-stream"}
    with session.http.stream("GET", session.url, headers=headers) as resumed:
        assert resumed.status_code == 200
        body = ""
        while not messages(body):
            body += next(resumed.iter_text())
            assert body.count(": ping") < 3, "nothing is sent again"
    assert [tool["name"] for tool in messages(body)[0]["result"]["tools"]] == ["add", "count"]
    assert messages(body)[0]["id"] == 2
    stranger = Session(gateway, BOB)
    with stranger.http.stream("GET", stranger.url, headers=headers) as nothing:
        assert nothing.status_code == 404
    session.http.close()
    stranger.http.close()


def test_a_session_is_its_owners(gateway: Running) -> None:
    alice, bob = Session(gateway, ALICE).open(), Session(gateway, BOB).open()
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    for session in (alice, bob):
        assert messages(session.post(call).text)[-1]["result"]["content"][0]["text"] == "3"
    assert bob.post(call, **alice.headers).status_code == 404
    assert bob.http.get(bob.url, headers={**alice.headers, "accept": "text/event-stream"}).status_code == 404
    assert bob.http.delete(bob.url, headers=alice.headers).status_code == 404
    assert alice.post(call).status_code == 200
    assert alice.http.delete(alice.url, headers=alice.headers).status_code == 200
    assert alice.post(call).status_code == 404  # this time the server says so
    alice.http.close()
    bob.http.close()


SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def asking(body: Any) -> bytes:
    data = json.dumps(body).encode()
    lines = [
        "POST /scripted HTTP/1.1",
        "host: localhost",
        f"authorization: Bearer {ALICE}",
        f"content-length: {len(data)}",
    ]
    lines += [f"{name}: {value}" for name, value in ACCEPT.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


PROGRESS = b'data: {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": %d}}\r\n\r\n'
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "count"}}


async def test_each_event_goes_on_at_once(gateway: Running, scripted: Upstream) -> None:
    """The server waits for the client to have each event before it sends the next."""
    steps: list[int] = []

    async def server(peer: Peer) -> None:
        await peer.message()
        peer.send(SSE_HEAD)
        for step in range(3):
            peer.send(chunked(PROGRESS % step))
            await until(lambda step=step: step in steps)  # type: ignore[misc]
        peer.send(b"0\r\n\r\n")

    async with scripted.doing(server), connected(gateway.port) as client:
        client.send(asking(CALL))
        assert (await client.head()).status == 200
        for step in range(3):
            assert await client.chunk() == PROGRESS % step
            steps.append(step)
        assert await client.chunk() == b""


async def test_a_client_that_leaves_takes_the_servers_stream_along(gateway: Running, scripted: Upstream) -> None:
    left: list[bytes] = []

    async def server(peer: Peer) -> None:
        await peer.message()
        peer.send(SSE_HEAD + chunked(PROGRESS % 1))
        left.append(await peer.rest())

    async with scripted.doing(server):
        async with connected(gateway.port) as client:
            client.send(asking(CALL))
            await client.head()
            assert await client.chunk() == PROGRESS % 1
            client.abort()
        await until(lambda: left)
    assert left == [b""]
    await until(lambda: gateway.log[-1].get("error") == "client disconnected")


async def test_a_stream_that_cannot_be_read_breaks_off(gateway: Running, scripted: Upstream) -> None:
    """The client can tell that there is something missing, and the server is told to stop."""
    closed: list[bytes] = []

    async def server(peer: Peer) -> None:
        await peer.message()
        peer.send(SSE_HEAD + chunked(PROGRESS % 1) + chunked(b'data: {"result": {"tools": [\n\n'))
        closed.append(await peer.rest())

    async with scripted.doing(server), connected(gateway.port) as client:
        client.send(asking(CALL))
        await client.head()
        assert await client.chunk() == PROGRESS % 1
        assert await client.rest() == b""
        await until(lambda: closed)


async def test_a_call_that_is_refused_never_leaves(gateway: Running, scripted: Upstream) -> None:
    async def server(peer: Peer) -> None:
        raise AssertionError("called")

    async with scripted.doing(server), connected(gateway.port) as client:
        client.send(asking({**CALL, "params": {"name": "drop_table"}}))
        response: Message = await client.message()
    assert (response.status, scripted.accepted) == (200, 0)
    assert json.loads(response.body)["error"] == {"code": -32602, "message": "Unknown tool: drop_table"}
