"""What Kubernetes documents say of tools, models and agents, under `agentgate serve`, with the peers that they are for:
official clients, and servers made with official SDKs. The log says who called what and why not, and `agentgate explain`
says the same of the same documents."""

import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

pytest.importorskip("mcp", reason="the extra `e2e` is not installed")
pytest.importorskip("fastmcp", reason="the extra `e2e` is not installed")
pytest.importorskip("openai", reason="the extra `e2e` is not installed")
pytest.importorskip("a2a", reason="the extra `e2e` is not installed")

import httpx2
import openai
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.errors import AgentCardResolutionError
from a2a.helpers import new_text_message
from a2a.types import Role, SendMessageRequest
from a2a.utils.errors import UnsupportedOperationError
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from agentgate import new_key
from agentgate.cli import main
from agentgate.cli.echo_agent import echo_agent
from agentgate.cli.fake_llm import fake_llm
from agentgate.cli.httpbin import httpbin
from agentgate.testing import TokenIssuer

from ..cli import processes
from .fake_providers import serving
from .servers import free_port, running

pytestmark = pytest.mark.anyio

ISSUER = TokenIssuer("https://login.example", algorithm="EdDSA")
KEYS = {"alice": new_key(), "bob": new_key()}
METADATA: dict[str, dict[str, Any]] = {"alice": {"group": "eng"}, "bob": {"group": "ops", "allowedModels": ["*-mini"]}}
CLAIMS = {"carol": {"sub": "carol", "role": "reader"}, "dave": {"sub": "dave", "role": "writer"}}
CREDENTIALS = KEYS | {
    name: ISSUER.token({**claims, "aud": "tools", "exp": int(time.time()) + 86400}) for name, claims in CLAIMS.items()
}
BACKEND = "AgentgatewayBackend"
ENGINEERS = 'mcp.tool.target == "tickets" && apiKey.group == "eng"'
MODEL_KEY = "sk-of-the-gateway-0123456789"


def document(kind: str, name: str, spec: str, *, group: str = "agentgateway.dev/v1alpha1") -> str:
    return f"apiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: apps}}\nspec: {spec}\n"


def route(name: str, backend: str | None = None) -> str:
    ref = f"{{group: agentgateway.dev, kind: AgentgatewayBackend, name: {backend or name}}}"
    path = {"model": "/v1", "web": "/anything"}.get(name, f"/{name}")
    rule = f"{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{ref}]}}"
    spec = f"{{parentRefs: [{{name: gw, namespace: infra}}], rules: [{rule}]}}"
    return document("HTTPRoute", name, spec, group="gateway.networking.k8s.io/v1")


def policy(name: str, kind: str, targets: list[str], **said: Any) -> str:
    group = "agentgateway.dev" if kind == "AgentgatewayBackend" else "gateway.networking.k8s.io"
    refs = [{"group": group, "kind": kind, "name": target} for target in targets]
    return document("AgentgatewayPolicy", name, json.dumps({"targetRefs": refs, **said}))


def rules(*texts: str, action: str = "Allow") -> dict[str, Any]:
    return {"authorization": {"action": action, "policy": {"matchExpressions": texts}}}


def secret(name: str, entries: dict[str, str]) -> str:
    head = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: apps}}\n"
    return f"{head}stringData: {json.dumps(entries)}\n"


PROVIDER = {"issuer": ISSUER.issuer, "audiences": ["tools"], "jwks": {"inline": json.dumps(ISSUER.jwks)}}


def documents(docs: int, tickets: int, model: int, agent: int, web: int) -> list[str]:
    """Every kind of backend, and every kind of policy that is about them. The servers are at these ports."""

    def server(port: int, path: str = "") -> str:
        return f"{{host: 127.0.0.1, port: {port}{path and ', path: ' + path}}}"

    def target(name: str, port: int) -> str:
        return f"{{name: {name}, static: {server(port, '/mcp')}}}"

    def backend(name: str, spec: str) -> str:
        return document("AgentgatewayBackend", name, f"{{{spec}}}")

    def tools(name: str, action: str, kind: str, targets: list[str], *texts: str) -> str:
        return policy(name, kind, targets, backend={"mcp": rules(*texts, action=action)})

    of_model = f"ai: {{provider: {{openai: {{}}, host: 127.0.0.1, port: {model}}}}}"
    both = ", ".join([target("docs", docs), target("tickets", tickets)])
    entries = {name: json.dumps({"key": key, "metadata": METADATA[name]}) for name, key in KEYS.items()}
    keyed = ["docs", "both", "model", "agent", "web"]
    return [
        *(route(name) for name in keyed),
        route("tokens", "docs"),
        backend("docs", f"mcp: {{targets: [{target('docs', docs)}]}}"),
        backend("both", f"mcp: {{targets: [{both}]}}"),
        backend("model", f"{of_model}, policies: {{auth: {{secretRef: {{name: model}}}}}}"),
        backend("agent", f"a2a: {server(agent)}"),
        backend("web", f"static: {server(web)}"),
        secret("model", {"Authorization": f"Bearer {MODEL_KEY}"}),
        secret("keys", entries),
        policy("keys", "HTTPRoute", keyed, traffic={"apiKeyAuthentication": {"secretRef": {"name": "keys"}}}),
        policy("tokens", "HTTPRoute", ["tokens"], traffic={"jwtAuthentication": {"providers": [PROVIDER]}}),
        policy("engineers", "HTTPRoute", ["agent"], traffic=rules('apiKey.group == "eng"')),
        policy("gets", "HTTPRoute", ["web"], traffic=rules('request.method != "GET"', action="Deny")),
        tools("search", "Allow", BACKEND, ["docs"], 'mcp.tool.name in ["search", "headers"]'),
        tools("readers", "Require", "HTTPRoute", ["tokens"], 'jwt.role == "reader"'),
        tools("targets", "Allow", BACKEND, ["both"], 'mcp.tool.name == "search"', ENGINEERS),
        tools("nobody-drops", "Deny", BACKEND, ["both", "docs"], 'has(mcp.tool) && mcp.tool.name == "drop_table"'),
    ]


@dataclass
class World:
    """The gateway, its documents, and what its log has said so far."""

    port: int
    file: str
    process: processes.Process
    lines: list[dict[str, Any]] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)  # the headers that the model was sent

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self, **wanted: str | int) -> dict[str, Any]:
        """The next line that says this; dots in names are written as two underscores."""
        named = {name.replace("__", "."): value for name, value in wanted.items()}
        while True:
            line: dict[str, Any] = json.loads(self.process.log_line())
            self.lines.append(line)
            if all(line.get(name) == value for name, value in named.items()):
                return line


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, port, seen = tmp_path_factory.mktemp("documents"), free_port(), []
    model, agent_port = fake_llm(), free_port()

    async def remembering(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await model(scope, receive, send)

    with contextlib.ExitStack() as stack:

        def started(name: str) -> int:
            source = f"from tests.e2e.federated.{name} import app\n"
            return stack.enter_context(running("uvicorn-h11", source, tmp_path_factory.mktemp(name))).port

        def served(app: Any, at: int = 0) -> int:
            return int(stack.enter_context(serving(app, at)).rpartition(":")[2])

        found = documents(
            docs=started("docs"),
            tickets=started("tickets"),
            model=served(remembering),
            agent=served(echo_agent(f"http://127.0.0.1:{agent_port}"), agent_port),
            web=served(httpbin()),
        )
        file = folder / "all.yaml"
        file.write_text("---\n".join(found))
        options = ("--port", str(port), "--public-url", f"http://127.0.0.1:{port}", "--log-format", "json")
        process, _, said = stack.enter_context(processes.serving([str(file)], *options))
        assert said == []
        world = World(port, str(file), process, seen=seen)
        yield world
        code, rest, errors = process.end()
        assert (code, errors) == (0, "")
        everything = json.dumps(world.lines) + "".join(rest)
        assert not [name for name, key in {**CREDENTIALS, "model": MODEL_KEY}.items() if key in everything]


@contextlib.asynccontextmanager
async def mcp(world: World, path: str, who: str, mode: str = "auto") -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {CREDENTIALS.get(who, 'agk_nobody')}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as http,
        Client(streamable_http_client(f"{world.url}{path}", http_client=http), mode=mode) as client,
    ):
        yield client


async def called(client: Client, tool: str) -> str:
    """The text that came back, or the error that did."""
    try:
        result = await client.call_tool(tool, {"query": "x"} if tool.endswith("search") else {})
    except MCPError as exc:
        return str(exc)
    return str(getattr(result.content[0], "text", ""))


def explained(world: World, capsys: pytest.CaptureFixture[str], path: str, who: str, *options: str) -> tuple[int, str]:
    """What `agentgate explain` says of the same caller: its exit code, and all that it prints."""
    known = ["--jwt", json.dumps(CLAIMS[who])] if who in CLAIMS else []
    known += ["--api-key", json.dumps({"name": who, **METADATA[who]})] if who in KEYS else []
    code = main(["explain", world.file, "--public-url", world.url, "--path", path, *options, *known])
    return code, capsys.readouterr().out


NONE = "none of 1 allow rules matched"
DROPS = "apps/nobody-drops/mcp[0]"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("who", "path", "tool", "says", "logged"),
    [
        ("alice", "/docs", "search", "docs found x", {}),
        ("alice", "/docs", "slowly", None, {"detail": NONE}),
        ("alice", "/docs", "drop_table", None, {"rule": DROPS}),
        ("carol", "/tokens", "search", "docs found x", {}),
        ("carol", "/tokens", "drop_table", None, {"rule": DROPS}),
        ("bob", "/both", "docs_search", "docs found x", {}),
        ("bob", "/both", "tickets_search", "tickets found x", {}),
        ("bob", "/both", "docs_drop_table", None, {"rule": DROPS}),
        ("bob", "/both", "tickets_remember", None, {"detail": "none of 2 allow rules matched"}),
    ],
)
async def test_a_tool(
    world: World,
    capsys: pytest.CaptureFixture[str],
    who: str,
    path: str,
    tool: str,
    says: str | None,
    logged: dict[str, str],
    mode: str,
) -> None:
    async with mcp(world, path, who, mode) as client:
        answer = await called(client, tool)
    line = world.log(mcp__method__name="tools/call")
    told = {"route": f"apps{path}", "principal": who, "protocol": "mcp"}
    target, _, own = tool.partition("_") if path == "/both" else ("", "", tool)
    told |= {"gen_ai.tool.name": own, "http.path": path, **({"mcp.target": target} if target else {}), **logged}
    if says is None:
        says = f"Unknown tool: {tool}"
        told |= {"error": f"mcp: {says}", "reason": "MCP"}
        assert "endpoint" not in line
    else:
        assert "error" not in line
        assert "reason" not in line
    assert says in answer
    assert {name: line.get(name) for name in told} == told
    code, printed = explained(world, capsys, path, who, "--tool", tool)
    assert code == (1 if "error" in told else 0)
    assert told.get("rule", "") in printed
    if "error" in told:
        assert "denied: " in printed.splitlines()[-1]
        assert told.get("detail", "") in printed


@pytest.mark.parametrize(
    ("who", "path", "tools"),
    [
        ("alice", "/docs", ["search", "headers"]),
        ("carol", "/tokens", ["search", "headers"]),
        ("bob", "/both", ["docs_search", "tickets_search"]),
        ("alice", "/both", ["docs_search", "tickets_search", "tickets_remember", "tickets_greet"]),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_lists_have_what_may_be_called(world: World, who: str, path: str, tools: list[str], mode: str) -> None:
    async with mcp(world, path, who, mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == tools


async def test_what_the_server_is_sent(world: World) -> None:
    async with mcp(world, "/docs", "alice") as client:
        sent = await called(client, "headers")
    assert "authorization" not in sent.lower()
    assert KEYS["alice"] not in sent


async def test_who_may_not_even_begin(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A rule that is required of everything holds for the first request, too."""
    with pytest.raises(Exception):  # noqa: B017  (a group of what the SDK makes of it)
        async with mcp(world, "/tokens", "dave"):
            pass
    line = world.log(principal="dave")
    told = {"protocol": "mcp", "reason": "Authorization", "rule": "apps/readers/mcp[0]", "jwt.sub": "dave"}
    assert {name: line.get(name) for name in told} == told
    code, printed = explained(world, capsys, "/tokens", "dave", "--tool", "search")
    assert (code, "apps/readers/mcp[0]" in printed) == (1, True)


STRANGERS = [
    ("/docs", "mcp", "APIKeyAuth", "api key authentication failure: invalid credentials"),
    ("/both", "mcp", "APIKeyAuth", "api key authentication failure: invalid credentials"),
    ("/tokens", "mcp", "JwtAuth", None),
    ("/v1/chat/completions", "llm", "APIKeyAuth", "api key authentication failure: invalid credentials"),
    ("/agent", "a2a", "APIKeyAuth", "api key authentication failure: invalid credentials"),
    ("/anything", "http", "APIKeyAuth", "api key authentication failure: invalid credentials"),
]


@pytest.mark.parametrize(("path", "protocol", "reason", "error"), STRANGERS)
async def test_a_stranger(
    world: World, capsys: pytest.CaptureFixture[str], path: str, protocol: str, reason: str, error: str | None
) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{world.url}{path}", json={}, headers={"authorization": "Bearer nobody"})
    line = world.log(http__path=path)
    assert (answer.status_code, line["http.status"], line["protocol"], line["reason"]) == (401, 401, protocol, reason)
    assert "principal" not in line
    assert "endpoint" not in line
    assert error in (None, line["error"])
    code, printed = explained(world, capsys, path, "nobody", "--method", "POST")
    assert (code, "denied: 401" in printed) == (1, True)


@pytest.mark.parametrize(
    ("who", "model", "allowed"),
    [("alice", "gpt-4o", True), ("bob", "gpt-4o-mini", True), ("bob", "gpt-4o", False)],
)
async def test_a_model(world: World, capsys: pytest.CaptureFixture[str], who: str, model: str, allowed: bool) -> None:
    world.seen.clear()
    async with openai.AsyncOpenAI(api_key=KEYS[who], base_url=f"{world.url}/v1", max_retries=0) as client:
        asked = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
        if allowed:
            assert (await asked).choices[0].message.content == "You said: hello"
        else:
            with pytest.raises(openai.PermissionDeniedError):
                await asked
    line = world.log(gen_ai__request__model=model)
    told = {"route": "apps/model", "protocol": "llm", "principal": who, "gen_ai.operation.name": "chat"}
    if allowed:
        told |= {"gen_ai.response.model": f"{model}-2030-01-01"}
        assert [headers["authorization"] for headers in world.seen] == [f"Bearer {MODEL_KEY}"]
    else:
        told |= {"reason": "Authorization", "error": "Model is not allowed for this API key"}
        assert world.seen == []
    assert {name: line.get(name) for name in told} == told
    code, _ = explained(world, capsys, "/v1/chat/completions", who, "--model", model)
    assert code == (0 if allowed else 1)


def saying(text: str) -> SendMessageRequest:
    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))


async def test_an_agent(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEYS['alice']}"}, timeout=20) as http:
        card = await A2ACardResolver(http, f"{world.url}/agent").get_agent_card()
        assert [interface.url for interface in card.supported_interfaces] == [f"{world.url}/agent"]
        client = ClientFactory(ClientConfig(streaming=False, httpx_client=http)).create(card)
        (answer,) = [event async for event in client.send_message(saying("hello"))]
        assert answer.message.parts[0].text == "hello"
    line = world.log(a2a__method="SendMessage")
    told = {"route": "apps/agent", "protocol": "a2a", "principal": "alice", "a2a.response.outcome": "success"}
    assert {name: line.get(name) for name in told} == told

    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEYS['bob']}"}, timeout=20) as http:
        with pytest.raises(AgentCardResolutionError):
            await A2ACardResolver(http, f"{world.url}/agent").get_agent_card()
        client = ClientFactory(ClientConfig(streaming=False, httpx_client=http)).create(card)
        with pytest.raises(UnsupportedOperationError):
            [event async for event in client.send_message(saying("hello"))]
    line = world.log(a2a__method="SendMessage")
    told = {"route": "apps/agent", "protocol": "a2a", "principal": "bob", "reason": "Authorization", "detail": NONE}
    assert {name: line.get(name) for name in told} == told
    for who, code in (("alice", 0), ("bob", 1)):
        path = "/agent/.well-known/agent-card.json"
        assert explained(world, capsys, path, who)[0] == code


@pytest.mark.parametrize(
    ("method", "status", "told"),
    [
        ("GET", 200, {"principal": "bob", "protocol": "http"}),
        ("POST", 403, {"principal": "bob", "protocol": "http", "reason": "Authorization", "rule": "apps/gets[0]"}),
    ],
)
async def test_a_plain_server(
    world: World, capsys: pytest.CaptureFixture[str], method: str, status: int, told: dict[str, str]
) -> None:
    headers = {"authorization": f"Bearer {KEYS['bob']}"}
    async with httpx.AsyncClient() as client:
        answer = await client.request(method, f"{world.url}/anything", headers=headers)
    line = world.log(http__method=method, http__path="/anything", route="apps/web")
    assert answer.status_code == line["http.status"] == status
    assert {name: line.get(name) for name in told} == told
    code, printed = explained(world, capsys, "/anything", "bob", "--method", method)
    assert code == (status == 403)
    assert told.get("rule", "") in printed
