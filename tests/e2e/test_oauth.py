"""JWT authentication end to end: official MCP clients find the login by themselves, keys change, the provider is away.

Real servers on loopback: an OAuth server, an MCP server made with the SDK, and the gateway between. Clients of mcp 1.x
and 2.x cannot share an environment, so the former gets one of its own.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .mcp_versions import SDK
from .oauth_server import OAuthServer
from .servers import PATIENCE, Running, free_port, running

pytest.importorskip("mcp", reason="mcp is not installed: it comes with the extra e2e")

LOGIN = Path(__file__).parent / "mcp_login.py"

TOOLS = """
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("tools")

@server.tool()
def add(a: int, b: int) -> str:
    return str(a + b)

@server.tool()
def whoami(ctx: Context) -> str:
    headers = ctx.headers or {}
    return f"{headers.get('x-agent-sub')}, authorization: {headers.get('authorization')}"

app = server.streamable_http_app()
"""

# The gateway's clock for keys is moved by the test: it is what stands in a file, and the time that passes.
GATEWAY = """
import time
from pathlib import Path
from agentgate import AccessLog, APIKeyAuth, HTTPBackend, JWTAuth, RemoteJWKS, Route, create_gateway

log = open("access.log", "a", buffering=1)

def clock():
    return time.monotonic() + float(Path("clock").read_text())

app = create_gateway(
    Route("/mcp", HTTPBackend("http://127.0.0.1:{tools}"), name="tools"),
    authenticate=[
        APIKeyAuth({{"machine": "{key}"}}),
        JWTAuth(
            issuer="{issuer}",
            audience="{url}/mcp",
            jwks=RemoteJWKS("{issuer}/keys", clock=clock),
            scopes=["tools:use"],
            identity_headers={{"x-agent-sub": "sub"}},
            resource_metadata={{"resource_name": "Tools"}},
        ),
    ],
    observe=[AccessLog(lambda line: log.write(line + "\\n"), format="json")],
    public_url="{url}",
)
"""
KEY = "agk_a-key-for-a-machine-0123456789-abcdefghijklm"


@pytest.fixture(scope="module")
def oauth() -> OAuthServer:
    return OAuthServer()


@pytest.fixture(scope="module")
def gateway(oauth: OAuthServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    tools, port = free_port(), free_port()
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "clock").write_text("0")
    source = GATEWAY.format(tools=tools, url=f"http://127.0.0.1:{port}", issuer=oauth.issuer, key=KEY)
    with (
        running("uvicorn-httptools", TOOLS, tmp_path_factory.mktemp("tools"), tools),
        running("uvicorn-httptools", source, folder, port) as server,
    ):
        yield server
        assert "Traceback" not in server.output


def wait(gateway: Running, seconds: float) -> None:
    """Let the gateway's keys become this much older."""
    clock = gateway.folder / "clock"
    later = str(float(clock.read_text()) + seconds)
    (gateway.folder / "later").write_text(later)
    (gateway.folder / "later").replace(clock)


def log_in(python: str, gateway: Running) -> dict[str, object]:
    command = [python, str(LOGIN), f"http://127.0.0.1:{gateway.port}/mcp"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE)
    assert done.returncode == 0, done.stderr
    said: dict[str, object] = json.loads(done.stdout)
    return said


@pytest.fixture(params=["1", "2"], ids=["mcp 1", "mcp 2"])
def client(request: pytest.FixtureRequest) -> str:
    """A Python that has this version of the SDK."""
    sdk: SDK = request.getfixturevalue(f"mcp_{request.param}")
    return sdk.python


def test_a_client_that_knows_the_url_alone_logs_in_and_calls_a_tool(
    client: str, gateway: Running, oauth: OAuthServer
) -> None:
    before, granted, asked = len(gateway.log), len(oauth.granted), len(oauth.asked)
    with oauth.up():
        said = log_in(client, gateway)
    assert str(said.pop("version")).startswith("2." if client == sys.executable else "1.")
    assert said == {
        "tools": ["add", "whoami"],
        "add": "5",
        "whoami": "bob, authorization: None",
        "scope": "tools:use",
    }
    steps = [step for step in oauth.asked[asked:] if not step.endswith("/keys")]
    assert steps == [
        "GET /.well-known/oauth-authorization-server/tenant",
        "POST /tenant/register",
        "GET /tenant/authorize",
        "POST /tenant/token",
    ]
    # The scope was in the challenge, the resource in the document; the token was for that resource.
    url = f"http://127.0.0.1:{gateway.port}/mcp"
    assert oauth.granted[granted:] == [{"scope": "tools:use", "resource": url}]
    first, second, *others = gateway.log[before:]
    assert (first["http.path"], first["http.status"]) == ("/mcp", 401)
    assert second["http.path"] == "/.well-known/oauth-protected-resource/mcp"
    assert (second["http.status"], second["reason"], second["route"]) == (200, "DirectResponse", "tools")
    assert "error" not in second
    assert others
    assert {line.get("jwt.sub") for line in others} == {"bob"}


def ask(gateway: Running, credential: str | None) -> httpx.Response:
    """A request of the modern protocol, which needs no session."""
    headers = {"accept": "application/json, text/event-stream"}
    if credential is not None:
        headers["authorization"] = f"Bearer {credential}"
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    return httpx.post(f"http://127.0.0.1:{gateway.port}/mcp", json=body, headers=headers, timeout=PATIENCE)


def test_what_the_wire_says(gateway: Running, oauth: OAuthServer) -> None:
    url = f"http://127.0.0.1:{gateway.port}"
    metadata = f'resource_metadata="{url}/.well-known/oauth-protected-resource/mcp"'
    narrow, foreign = oauth.token(f"{url}/mcp", scope="other"), oauth.token("https://elsewhere", scope="tools:use")
    with oauth.up():
        nothing, bad, strange, little, machine = [
            ask(gateway, credential) for credential in (None, "x", foreign, narrow, KEY)
        ]
    assert (nothing.status_code, nothing.headers.get_list("www-authenticate")) == (
        401,
        [f'Bearer {metadata}, scope="tools:use"'],
    )
    assert (bad.status_code, bad.headers.get_list("www-authenticate")) == (
        401,
        [f'Bearer {metadata}, scope="tools:use"'],
    )
    assert (strange.status_code, strange.headers.get_list("www-authenticate")) == (
        401,
        [f'Bearer error="invalid_token", {metadata}, scope="tools:use"'],
    )
    assert (little.status_code, little.headers.get_list("www-authenticate")) == (
        403,
        [f'Bearer error="insufficient_scope", scope="tools:use", {metadata}'],
    )
    assert machine.status_code == 200  # a key is as good as ever beside tokens
    document = httpx.get(f"{url}/.well-known/oauth-protected-resource/mcp", headers={"origin": "https://browser"})
    assert document.headers["access-control-allow-origin"] == "*"
    assert document.json() == {
        "resource": f"{url}/mcp",
        "authorization_servers": [oauth.issuer],
        "resource_name": "Tools",
        "scopes_supported": ["tools:use"],
        "bearer_methods_supported": ["header"],
    }


def test_keys_change_and_the_provider_is_away(gateway: Running, oauth: OAuthServer) -> None:
    audience = f"http://127.0.0.1:{gateway.port}/mcp"
    old = oauth.token(audience, scope="tools:use")
    with oauth.up():
        wait(gateway, 3600)  # whatever was fetched before is due again
        assert ask(gateway, old).status_code == 200
        wait(gateway, 60)
        oauth.new_key()
        new = oauth.token(audience, scope="tools:use")
        assert ask(gateway, new).status_code == 200  # a key never seen is asked for
        assert ask(gateway, old).status_code == 200  # and the one before is still published
        oauth.forget_old_keys()
    fetches = len(oauth.asked)
    wait(gateway, 60)
    assert [ask(gateway, token).status_code for token in (old, new)] == [200, 200]  # away, and nobody notices
    oauth.new_key()
    newer = oauth.token(audience, scope="tools:use")
    assert ask(gateway, newer).status_code == 401  # with a key that could not be fetched
    assert len(oauth.asked) == fetches
    wait(gateway, 100_000)  # longer than any key is believed
    refused = ask(gateway, new)
    assert refused.status_code == 503
    assert "www-authenticate" not in refused.headers  # a new login would not help
    with oauth.up():
        wait(gateway, 60)
        assert [ask(gateway, token).status_code for token in (newer, new, old)] == [200, 200, 401]
