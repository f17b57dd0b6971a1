"""Identity headers under the servers that people run: whatever a client puts on the wire, the upstream hears from the
gateway alone who is asking."""

from collections.abc import Iterator

import pytest

from agentgate import new_key

from .servers import SERVERS, Message, Peer, Running, Upstream, connected, running

pytestmark = pytest.mark.anyio

KEY = new_key()
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

APP = """
from agentgate import APIKeyAuth, Edge, HTTPBackend, Key, Route, StaticKeys, create_gateway

keys = StaticKeys([Key("alice", "{key}", {{"group": "eng"}})])
app = create_gateway(
    Route("/public", HTTPBackend("http://127.0.0.1:{port}"), authenticate=[]),
    Route("/", HTTPBackend("http://127.0.0.1:{port}")),
    authenticate=[APIKeyAuth(keys, identity_headers={{"x-agent-group": "group"}})],
    edge=Edge(allow_underscores=True),
)
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with upstream.listener:
        yield upstream


@pytest.fixture(scope="module", params=SERVERS)
def gateway(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    source = APP.format(port=upstream.port, key=KEY)
    with running(request.param, source, tmp_path_factory.mktemp(request.param)) as server:
        yield server
        assert "Traceback" not in server.output


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        pytest.param(["X-Agent-Group: root"], b"", id="as it is"),
        pytest.param(["x-agent-group: root", "X-AGENT-GROUP: admin"], b"", id="twice"),
        pytest.param(["x_agent_group: root", "x-agent_group: admin"], b"", id="with underscores"),
        pytest.param(["x.agent.group: root"], b"", id="with dots"),
        pytest.param(["Connection: x-agent-group, close"], b"", id="named as this hop's own"),
        pytest.param(
            ["Transfer-Encoding: chunked", "Trailer: x-agent-group"],
            b"1\r\na\r\n0\r\nx-agent-group: root\r\n\r\n",
            id="in a trailer",
        ),
    ],
)
@pytest.mark.parametrize(("target", "told"), [("/", ["eng"]), ("/public", [])], ids=["with a key", "on a public route"])
async def test_who_is_asking_is_said_by_the_gateway(
    gateway: Running, upstream: Upstream, target: str, told: list[str], lines: list[str], body: bytes
) -> None:
    seen: list[Message] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.message())
        peer.send(OK)

    head = [f"{'POST' if body else 'GET'} {target} HTTP/1.1", "host: gateway", *lines]
    if told:
        head.append(f"authorization: Bearer {KEY}")
    async with upstream.doing(script), connected(gateway.port) as client:
        client.send("\r\n".join([*head, "", ""]).encode() + body)
        response = await client.message()
    assert response.status == 200
    found = [value for name, values in seen[0].headers.items() if "agent" in name for value in values]
    assert found == told
    assert seen[0].body == body[3:4]
