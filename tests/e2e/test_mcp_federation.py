"""Several MCP servers as one: made with the SDK 2.x and with fastmcp, and called by clients of 1.x and 2.x."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentgate import APIKeyAuth, MCPBackend, MCPTarget, Route, Secret, create_gateway, new_key
from agentgate.cli.tool_server import tool_server

from .fake_providers import serving
from .mcp_versions import SDK
from .servers import Running, free_port, running

ALICE, BOB = new_key(), new_key()
CREDENTIAL = "a-credential-of-the-gateway"
SECONDS = 60  # for a client to end

DOCS = "from tests.e2e.federated.docs import app\n"
TICKETS = "from tests.e2e.federated.tickets import app\n"
GATEWAY = """
from agentgate import AccessLog, APIKeyAuth, CELRules, MCPBackend, MCPTarget, Route, Secret, create_gateway

log = open("access.log", "a", buffering=1)
app = create_gateway(
    Route(
        "/mcp",
        MCPBackend({{
            "docs": MCPTarget("http://127.0.0.1:{docs}/mcp", credential=Secret("{credential}")),
            "tickets": "http://127.0.0.1:{tickets}/mcp",
            "gone": "http://127.0.0.1:{gone}/mcp",
        }}),
    ),
    authenticate=[APIKeyAuth({{"alice": "{alice}", "bob": "{bob}"}})],
    authorize=[CELRules(
        deny={{
            "nobody drops": 'has(mcp.tool) && mcp.tool.target == "docs" && mcp.tool.name == "drop_table"',
            "tickets are no resources": 'has(mcp.resource) && mcp.resource.target == "tickets"',
        }},
        allow=["true"],
    )],
    observe=[AccessLog(lambda line: log.write(line + "\\n"), format="json")],
)
"""


@pytest.fixture(scope="module")
def gateway(mcp_2: SDK, fastmcp: SDK, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with (
        running("uvicorn-h11", DOCS, tmp_path_factory.mktemp("docs")) as docs,
        running("uvicorn-h11", TICKETS, tmp_path_factory.mktemp("tickets")) as tickets,
    ):
        source = GATEWAY.format(
            docs=docs.port, tickets=tickets.port, gone=free_port(), alice=ALICE, bob=BOB, credential=CREDENTIAL
        )
        with running("uvicorn-httptools", source, tmp_path_factory.mktemp("gateway")) as server:
            yield server
            assert "Traceback" not in server.output
            for secret in (ALICE, BOB, CREDENTIAL):
                assert secret not in server.output + json.dumps(server.log)


def start(sdk: SDK, gateway: Running, key: str, mode: str) -> "subprocess.Popen[str]":
    command = [sdk.python, str(Path(__file__).parent / "federated" / "client.py")]
    return subprocess.Popen(
        [*command, f"http://127.0.0.1:{gateway.port}/mcp", key, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def what_it_said(client: "subprocess.Popen[str]") -> dict[str, Any]:
    output, errors = client.communicate(timeout=SECONDS)
    assert client.returncode == 0, errors
    said: dict[str, Any] = json.loads(output)
    return said


CLIENTS = {"mcp 1": "legacy", "mcp 2 of 2025-11-25": "legacy", "mcp 2 of 2026-07-28": "auto"}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> tuple[SDK, str]:
    sdk: SDK = request.getfixturevalue("mcp_1" if request.param == "mcp 1" else "mcp_2")
    return sdk, CLIENTS[request.param]


def test_two_servers_are_one(client: tuple[SDK, str], gateway: Running) -> None:
    sdk, mode = client
    said = what_it_said(start(sdk, gateway, ALICE, mode))
    modern = mode == "auto"
    sent = dict(line.split(": ", 1) for line in said.pop("sent").splitlines())
    assert sent["authorization"] == f"Bearer {CREDENTIAL}"
    assert "cookie" not in sent
    # A server with sessions can ask a client that has one; 2026-07-28 has no way to ask on its behalf.
    asked_by_tickets = "the client cannot be asked for this" if modern else f"Hello, {ALICE}!"
    assert asked_by_tickets in said.pop("asked by tickets")
    told = {"notifications/resources/updated docs+docs://guide", "notifications/tools/list_changed"}
    assert told <= set(said.pop("told"))
    assert said.pop("events", None) == (["ResourceUpdated docs+docs://guide", "ToolsListChanged "] if modern else None)
    assert said == {
        "version": "2026-07-28" if modern else "2025-11-25",
        "instructions": "[docs]\nAsk for documents.\n\n[tickets]\nAsk for tickets.",
        "tools": [
            "docs_search",
            "docs_slowly",
            "docs_headers",
            "docs_greet",
            "docs_change",
            "tickets_search",
            "tickets_remember",
            "tickets_greet",
        ],
        "missing": ["gone"],
        "prompts": ["docs_summarise"],
        "resources": ["docs+docs://guide"],
        "templates": ["docs+docs://pages/{number}"],
        "docs": "docs found x, None",
        "tickets": "tickets found y",
        "forbidden": "Unknown tool: docs_drop_table",
        "unknown": "Unknown tool: nope_search",
        "gone": "target gone is not available",
        "remember": "None",
        "remembered": "None" if modern else ALICE,  # a session there lasts as long as one here
        "slowly": "done",
        "steps": [[1.0, 3.0], [2.0, 3.0], [3.0, 3.0]],
        "asked by docs": f"Hello, {ALICE}!" + (" (asked)" if modern else ""),
        "asked": ["Your name?"] * (1 if modern else 2),
        "prompt": "Summarise what the documents say about x",
        "resource": "the guide",
        "page": "page 7",
        "hidden": "Unknown resource: tickets+tickets://open",
        "completion": "tables trees",
    }


def test_clients_at_the_same_time_hear_what_is_theirs(mcp_2: SDK, gateway: Running) -> None:
    clients = [
        (key, start(mcp_2, gateway, key, mode)) for key in (ALICE, BOB, ALICE, BOB) for mode in ("legacy", "auto")
    ]
    for key, process in clients:
        said = what_it_said(process)
        assert said["asked by docs"].startswith(f"Hello, {key}!")
        assert said["remember"] == "None"
        assert said["remembered"] in (key, "None")


def test_the_log_has_targets_and_their_own_names(gateway: Running, mcp_2: SDK) -> None:
    what_it_said(start(mcp_2, gateway, BOB, "auto"))
    found = {
        (line.get("mcp.target"), line.get("gen_ai.tool.name"), line.get("error"))
        for line in gateway.log
        if line.get("mcp.method.name") == "tools/call"
    }
    assert ("docs", "search", None) in found
    assert ("tickets", "search", None) in found
    assert ("docs", "drop_table", "mcp: Unknown tool: docs_drop_table") in found


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_each_target_gets_its_own_credential_and_no_other(mcp_2: SDK, mode: str) -> None:
    """Whatever is asked of it: the handshake, a list, a call."""
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    sent: dict[str, list[dict[str, str]]] = {"a": [], "b": [], "c": []}

    def remembering(name: str) -> Any:
        server = tool_server()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                sent[name].append({key.decode(): value.decode() for key, value in scope["headers"]})
            await server(scope, receive, send)

        return app

    with contextlib.ExitStack() as stack:
        a, b, c = (stack.enter_context(serving(remembering(name))) for name in sent)
        backend = MCPBackend(
            {
                "a": MCPTarget(f"{a}/mcp", credential=Secret("credential-of-a")),
                "b": MCPTarget(f"{b}/mcp", headers={"x-api-key": Secret("credential-of-b")}),
                "c": f"{c}/mcp",
            }
        )
        gateway = create_gateway(Route("/mcp", backend), authenticate=[APIKeyAuth({"alice": ALICE})])
        url = f"{stack.enter_context(serving(gateway))}/mcp"
        headers = {"authorization": f"Bearer {ALICE}", "cookie": "session=a-cookie", "x-api-key": "of-the-client"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=20) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            assert len((await client.list_tools()).tools) == 9
            for name in sent:
                result = await client.call_tool(f"{name}_get_user", {})
                assert getattr(result.content[0], "text", None) == "get_user was called"
    credentials = ("authorization", "x-api-key", "cookie", "proxy-authorization")
    seen = {
        name: {tuple((key, of[key]) for key in credentials if key in of) for of in requests}
        for name, requests in sent.items()
    }
    assert seen == {
        "a": {(("authorization", "Bearer credential-of-a"),)},
        "b": {(("x-api-key", "credential-of-b"),)},
        "c": {()},
    }
    secrets = {"a": "credential-of-a", "b": "credential-of-b", "client": ALICE, "its cookie": "a-cookie"}
    for name, requests in sent.items():
        assert len(requests) >= 3  # a handshake, a list and a call
        assert [whose for whose, secret in secrets.items() if secret in json.dumps(requests)] == [name] * (name != "c")
