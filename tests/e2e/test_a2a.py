"""The A2A SDK's client and an agent made with its server, both bindings in both versions, with a gateway between them.

The agent logs every request. A client that went round the gateway would have sent it the key, which stops there.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("a2a", reason="a2a-sdk is not installed: it comes with the extra e2e")

from a2a.client import A2ACardResolver, AuthInterceptor, Client, ClientCallContext, ClientConfig, ClientFactory
from a2a.client.auth import CredentialService
from a2a.client.errors import A2AClientError, AgentCardResolutionError
from a2a.helpers import get_artifact_text, new_text_message
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import (
    MethodNotFoundError,
    PushNotificationNotSupportedError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from agentgate import new_key

from .servers import Running, running, until

pytestmark = pytest.mark.anyio

ALICE, BOB = new_key(), new_key()

AGENT = """
import sys
from tests.e2e.a2a_agent import agent

log = open("access.log", "a", buffering=1)
port = sys.argv[sys.argv.index("--port") + 1]
app = agent(f"http://127.0.0.1:{port}", lambda line: log.write(line + "\\n"))
"""

GATEWAY = """
import sys
from agentgate import A2ABackend, AccessLog, APIKeyAuth, CELRules, Exact, Key, Route, create_gateway

log = open("access.log", "a", buffering=1)
port = sys.argv[sys.argv.index("--port") + 1]
planner = A2ABackend("http://127.0.0.1:{port}", interfaces=["/a2a/jsonrpc", "/a2a/rest"])
rules = CELRules(
    allow={{
        "engineers": 'apiKey.group == "eng"',
        "everybody sends": 'a2a.method in ["GetAgentCard", "SendMessage", "GetTask"]',
    }},
    deny={{"not theirs": 'has(a2a.taskId) && apiKey.group != "eng" && a2a.taskId != "nobody"'}},
)
app = create_gateway(
    Route("/planner", planner, name="planner", authorize=[rules]),
    Route(Exact("/planner/.well-known/agent-card.json"), planner, name="card", authenticate=[]),
    authenticate=[APIKeyAuth([Key("alice", "{alice}", {{"group": "eng"}}), Key("bob", "{bob}", {{"group": "ops"}})])],
    observe=[AccessLog(lambda line: log.write(line + "\\n"), format="json")],
    public_url=f"http://127.0.0.1:{{port}}",
)
"""


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running("uvicorn-h11", AGENT, tmp_path_factory.mktemp("agent")) as server:
        yield server
        assert requests(server, "a2a")
        assert not [line for line in requests(server) if "authorization" in line["headers"]]


@pytest.fixture(scope="module")
def gateway(upstream: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    source = GATEWAY.format(port=upstream.port, alice=ALICE, bob=BOB)
    with running("uvicorn-httptools", source, tmp_path_factory.mktemp("gateway")) as server:
        yield server
        assert "Traceback" not in server.output


def requests(server: Running, path: str = "", method: str | None = None) -> list[dict[str, Any]]:
    text = Path(server.folder / "access.log").read_text()
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if path in line["path"] and method in (None, line["method"])]


def about(gateway: Running, context: str) -> list[dict[str, Any]]:
    return [line for line in gateway.log if line.get("a2a.context.id") == context]


SPOKEN = [("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3"), ("HTTP+JSON", "0.3")]
every_way = pytest.mark.parametrize(("binding", "version"), SPOKEN, ids=[" ".join(spoken) for spoken in SPOKEN])


@asynccontextmanager
async def calling(
    gateway: Running, binding: str, version: str, key: str = ALICE, *, streaming: bool = False
) -> AsyncIterator[Client]:
    """A client that found the agent's card through the gateway, and speaks one of its interfaces."""
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(headers=headers, timeout=20) as http:
        card = await card_of(http, gateway)
        spoken = [
            i for i in card.supported_interfaces if (i.protocol_binding, i.protocol_version) == (binding, version)
        ]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(spoken)
        config = ClientConfig(streaming=streaming, httpx_client=http, supported_protocol_bindings=[binding])
        yield ClientFactory(config).create(card)


async def card_of(http: httpx.AsyncClient, gateway: Running) -> AgentCard:
    return await A2ACardResolver(http, f"http://127.0.0.1:{gateway.port}/planner").get_agent_card()


def saying(text: str, **named: str) -> SendMessageRequest:
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER, **named))


async def said(client: Client, request: SendMessageRequest) -> list[StreamResponse]:
    return [event async for event in client.send_message(request)]


async def start(client: Client) -> tuple[str, Any]:
    """A task without end, and the stream that tells of it."""
    stream = client.send_message(saying("wait"))
    first = await anext(stream)
    return first.task.id, stream


@every_way
async def test_messages_are_sent(gateway: Running, binding: str, version: str) -> None:
    async with calling(gateway, binding, version) as client:
        (answer,) = await said(client, saying("hello"))
        assert get_artifact_text(answer.task.artifacts[0]) == "echo: hello"
        task = await client.get_task(GetTaskRequest(id=answer.task.id))
        assert (task.id, task.status.state) == (answer.task.id, TaskState.TASK_STATE_COMPLETED)
        if version == "1.0":
            listed = await client.list_tasks(ListTasksRequest(context_id=task.context_id))
            assert [one.id for one in listed.tasks] == [task.id]
    await until(lambda: len(about(gateway, task.context_id)) > 1)
    lines = about(gateway, task.context_id)
    assert [line["a2a.method"] for line in lines] == ["SendMessage", "GetTask"]
    for line in lines:
        assert (line["protocol"], line["a2a.response.outcome"]) == ("a2a", "success")
        assert line["a2a.result.kind"] == "task"
        assert line["a2a.task.state"].lower().endswith("completed")
        assert line["principal"] == "alice"


@every_way
async def test_streams_pass_event_by_event(gateway: Running, binding: str, version: str) -> None:
    async with calling(gateway, binding, version, streaming=True) as client:
        events = await said(client, saying("hello"))
        assert [event.WhichOneof("payload") for event in events] == [
            "task",
            "status_update",
            "artifact_update",
            "status_update",
        ]
        task = events[0].task
    await until(lambda: about(gateway, task.context_id))
    (line,) = about(gateway, task.context_id)
    assert (line["a2a.method"], line["a2a.response.outcome"]) == ("SendStreamingMessage", "success")
    assert line["a2a.result.kind"] == "status-update"
    assert line["a2a.task.state"].lower().endswith("completed")


@every_way
async def test_a_task_is_followed_and_canceled_while_its_stream_is_open(
    gateway: Running, binding: str, version: str
) -> None:
    """Each event arrives while the agent still works on the task: nothing waits for the end."""
    async with calling(gateway, binding, version, streaming=True) as client:
        task, stream = await start(client)
        following = client.subscribe(SubscribeToTaskRequest(id=task))
        assert (await anext(following)).WhichOneof("payload") == "task"
        canceled = await client.cancel_task(CancelTaskRequest(id=task))
        assert canceled.status.state == TaskState.TASK_STATE_CANCELED
        for events in (stream, following):
            last = [event async for event in events][-1]
            assert last.status_update.status.state == TaskState.TASK_STATE_CANCELED


@every_way
async def test_the_extended_card_leads_through_the_gateway(gateway: Running, binding: str, version: str) -> None:
    async with calling(gateway, binding, version) as client:
        card = await client.get_extended_agent_card(GetExtendedAgentCardRequest())
    assert card.name == "Echo, extended"
    assert card.supported_interfaces
    for interface in card.supported_interfaces:
        assert interface.url.startswith(f"http://127.0.0.1:{gateway.port}/planner/a2a/")
        assert interface.protocol_binding != "GRPC"
    assert not card.signatures


@every_way
async def test_what_is_denied_is_an_error_that_clients_know(gateway: Running, binding: str, version: str) -> None:
    """A task of somebody else's is not there; what nobody else may do is not supported."""
    async with calling(gateway, binding, version) as alice, calling(gateway, binding, version, BOB) as bob:
        (answer,) = await said(alice, saying("mine"))
        (answered,) = await said(bob, saying("hello"))
        assert answered.task.id
        errors = []
        for task in (answer.task.id, "nobody"):
            with pytest.raises(error(binding, version, TaskNotFoundError)) as caught:
                await bob.get_task(GetTaskRequest(id=task))
            errors.append(str(caught.value).replace(task, ""))
        assert errors[0] == errors[1]
        with pytest.raises(error(binding, version, TaskNotFoundError)):
            await said(bob, saying("more", task_id=answer.task.id))
    async with calling(gateway, binding, version, BOB, streaming=True) as bob:
        with pytest.raises(error(binding, version, UnsupportedOperationError)):
            await said(bob, saying("hello"))


def error(binding: str, version: str, kind: type[Exception]) -> type[Exception] | tuple[type[Exception], ...]:
    """The client for REST in 0.3 reads no errors of A2A, its own server's neither: it goes by the HTTP status."""
    return (A2AClientError, MethodNotFoundError) if (binding, version) == ("HTTP+JSON", "0.3") else kind


@every_way
async def test_nobody_is_called_back(gateway: Running, upstream: Running, binding: str, version: str) -> None:
    before = len(requests(upstream))
    config = TaskPushNotificationConfig(task_id="t", url="http://169.254.169.254/")
    async with calling(gateway, binding, version) as client:
        asked = len(requests(upstream))
        with pytest.raises(error(binding, version, PushNotificationNotSupportedError)):
            await client.create_task_push_notification_config(config)
        request = saying("hello")
        request.configuration.task_push_notification_config.CopyFrom(config)
        with pytest.raises(error(binding, version, PushNotificationNotSupportedError)):
            await said(client, request)
    assert len(requests(upstream)) == asked > before


@every_way
async def test_a_stranger_is_told_so_by_http(gateway: Running, binding: str, version: str) -> None:
    """The card is public, as one route says; calls are not."""
    async with calling(gateway, binding, version, "none") as client:
        with pytest.raises(A2AClientError, match="401"):
            await said(client, saying("hello"))


class Keyring(CredentialService):
    """Knows the gateway's scheme by the name that the card has for it."""

    async def get_credentials(self, security_scheme_name: str, context: ClientCallContext | None) -> str | None:
        return ALICE if security_scheme_name == "agentgate" else None


async def test_a_client_learns_from_the_card_what_the_gateway_wants(gateway: Running) -> None:
    async with httpx.AsyncClient(timeout=20) as http:
        card = await card_of(http, gateway)
        config = ClientConfig(streaming=False, httpx_client=http)
        client = ClientFactory(config).create(card, [AuthInterceptor(Keyring())])
        (answer,) = await said(client, saying("hello"))
        assert get_artifact_text(answer.task.artifacts[0]) == "echo: hello"


async def test_the_card_is_not_for_strangers_unless_a_route_says_so(gateway: Running) -> None:
    async with httpx.AsyncClient() as http:
        base = f"http://127.0.0.1:{gateway.port}/planner"
        with pytest.raises(AgentCardResolutionError) as caught:
            await A2ACardResolver(http, base, "/.well-known/agent.json").get_agent_card()
        assert caught.value.status_code == 401
        response = await http.get(f"{base}/a2a/rest/extendedAgentCard")
        assert (response.status_code, response.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
        assert response.headers["www-authenticate"] == "Bearer"


@every_way
async def test_a_client_that_leaves_is_gone_for_the_agent(
    gateway: Running, upstream: Running, binding: str, version: str
) -> None:
    path = "/a2a/jsonrpc" if binding == "JSONRPC" else "message:stream"
    before = len(requests(upstream, path, "gone"))
    async with calling(gateway, binding, version, streaming=True) as client:
        task, stream = await start(client)
        await stream.aclose()
        await until(lambda: len(requests(upstream, path, "gone")) > before)
        await client.cancel_task(CancelTaskRequest(id=task))
