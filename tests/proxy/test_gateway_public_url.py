"""A gateway with a public URL: each of its protected routes says where to log in, and none says it for another."""

import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from agentgate import (
    APIKeyAuth,
    Authenticator,
    ConfigurationError,
    Decision,
    Exact,
    Gateway,
    HTTPBackend,
    Principal,
    Regex,
    Request,
    Route,
    abstain,
    allow,
    create_gateway,
    new_key,
)
from agentgate.auth.location import BEARER
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

PUBLIC = "https://gw.example.com"
WELL_KNOWN = "/.well-known/oauth-protected-resource"
KEYS = APIKeyAuth({"alice": new_key()})


class Tokens(Authenticator):
    """Believes `good`; its authorization server is the one named."""

    location = BEARER

    def __init__(self, server: str) -> None:
        self.resource_metadata = {"authorization_servers": [f"https://{server}"]}

    def check(self, request: Request) -> Decision:
        good = request.headers.get("authorization") == "Bearer good"
        return allow(Principal("bob")) if good else abstain()


LOGIN, OTHER = Tokens("login"), Tokens("other")


def to(name: str = "upstream") -> HTTPBackend:
    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=f"{name} {request.extensions['target'].decode()}")

    return HTTPBackend(f"http://{name}:8000", transport=httpx.MockTransport(answer))


def gateway(*routes: Route, **options: Any) -> Gateway:
    return create_gateway(*routes, **{"authenticate": [LOGIN], "public_url": PUBLIC, **options})


async def ask(app: Any, target: str, host: str = "gw.example.com", **scope: Any) -> Any:
    """The document at this path; or the text of the response, where it is none."""
    exchange = await drive(app, http_scope(target=target, host=host, **scope))
    return json.loads(exchange.body) if exchange.headers.get("content-type") == "application/json" else exchange.text


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/mcp", "/mcp"),
        ("/mcp/", "/mcp"),
        ("/a/b", "/a/b"),
        ("/", ""),
        (Exact("/mcp"), "/mcp"),
        (Exact("/mcp/"), "/mcp/"),
        ("/café au lait", "/caf%C3%A9%20au%20lait"),
    ],
    ids=str,
)
async def test_the_document_of_a_route_is_at_the_route_s_path(path: Any, resource: str) -> None:
    app = gateway(Route(path, to()))
    document = await ask(app, WELL_KNOWN + resource)
    assert document == {
        "resource": PUBLIC + resource,
        "authorization_servers": ["https://login"],
        "bearer_methods_supported": ["header"],
    }
    refused = await drive(app, http_scope(target=resource or "/"))
    assert refused.headers["www-authenticate"] == f'Bearer resource_metadata="{PUBLIC}{WELL_KNOWN}{resource}"'
    explained = app.explain(Request.http("GET", WELL_KNOWN + resource))
    assert [one.code for one in explained] == ["resource_metadata"]


async def test_each_route_says_it_for_itself() -> None:
    app = gateway(
        Route("/one", to()),
        Route("/two", to(), authenticate=[OTHER]),
        Route("/keys", to(), authenticate=[KEYS]),
        Route("/public", to(), authenticate=[]),
        Route(Regex("/re.*"), to()),
    )
    assert (await ask(app, f"{WELL_KNOWN}/one"))["authorization_servers"] == ["https://login"]
    assert (await ask(app, f"{WELL_KNOWN}/two"))["authorization_servers"] == ["https://other"]
    for path in ("/keys", "/public", "/re", "/one/below", "/one/", "", "/", "/none"):
        assert await ask(app, WELL_KNOWN + path) == "route not found", path
    for path in ("/keys", "/re"):
        exchange = await drive(app, http_scope(target=path))
        assert exchange.status == 401
        assert "resource_metadata" not in exchange.headers.get("www-authenticate", "")


async def test_the_log_has_it_under_the_route_s_name() -> None:
    recorder = Recorder()
    await ask(gateway(Route("/mcp", to(), name="tools"), observe=[recorder]), f"{WELL_KNOWN}/mcp")
    assert (recorder.last.route, recorder.last.status, recorder.last.error) == ("tools", 200, None)


async def test_other_spellings_go_where_they_would_have_gone() -> None:
    """A route for everything that is public, and an upstream with documents of its own."""
    app = gateway(Route("/mcp", to()), Route("/", to("site"), authenticate=[]))
    assert "resource" in await ask(app, f"{WELL_KNOWN}/mcp")
    for path in ("/%6dcp", "/mcp/", "/mcp/x", "/other", ""):
        assert await ask(app, WELL_KNOWN + path) == f"site {WELL_KNOWN}{path}"
    assert (await drive(app, http_scope(target="/mcp"))).status == 401


async def test_a_route_that_the_operator_has_there_comes_first() -> None:
    app = gateway(Route("/mcp", to()), Route(Exact(f"{WELL_KNOWN}/mcp"), to("own"), authenticate=[]))
    assert await ask(app, f"{WELL_KNOWN}/mcp") == f"own {WELL_KNOWN}/mcp"


@pytest.mark.parametrize(
    "host", ["gw.example.com", "GW.example.com:443", "gw.example.com.", "evil.example.com", "10.0.0.1"]
)
async def test_for_a_route_of_any_host_the_host_says_nothing(host: str) -> None:
    app = gateway(Route("/mcp", to()))
    assert (await ask(app, f"{WELL_KNOWN}/mcp", host))["resource"] == f"{PUBLIC}/mcp"


async def test_routes_of_other_hosts_say_nothing_and_hear_nothing() -> None:
    app = gateway(
        Route("/here", to(), hosts=["gw.example.com"]),
        Route("/both", to(), hosts=["elsewhere.example.com", "gw.example.com"]),
        Route("/wild", to(), hosts=["*.example.com"]),
        Route("/there", to(), hosts=["elsewhere.example.com"]),
        Route("/tame", to(), hosts=["*.gw.example.com"]),
    )
    for path in ("/here", "/both", "/wild"):
        assert (await ask(app, WELL_KNOWN + path))["resource"] == PUBLIC + path
    for path in ("/there", "/tame"):
        for host in ("gw.example.com", "elsewhere.example.com", "a.gw.example.com"):
            assert await ask(app, WELL_KNOWN + path, host) == "route not found"
    for path in ("/here", "/both"):
        assert await ask(app, WELL_KNOWN + path, "elsewhere.example.com") == "route not found"
    refused = await drive(app, http_scope(target="/there", host="elsewhere.example.com"))
    assert refused.status == 401
    assert "resource_metadata" not in str(refused.headers)


async def test_a_host_with_a_route_for_everything_keeps_its_own_documents() -> None:
    app = gateway(Route("/mcp", to()), Route("/", to("site"), hosts=["www.example.com"], authenticate=[]))
    assert await ask(app, f"{WELL_KNOWN}/mcp", "www.example.com") == f"site {WELL_KNOWN}/mcp"
    assert (await ask(app, f"{WELL_KNOWN}/mcp"))["resource"] == f"{PUBLIC}/mcp"


async def test_of_two_routes_the_one_that_would_be_reached_answers() -> None:
    app = gateway(
        Route("/mcp", to(), authenticate=[OTHER]),
        Route("/mcp", to(), hosts=["gw.example.com"]),
        Route("/mcp", to(), hosts=["*.example.com"], authenticate=[OTHER]),
    )
    assert (await ask(app, f"{WELL_KNOWN}/mcp"))["authorization_servers"] == ["https://login"]


async def test_a_path_in_the_public_url() -> None:
    """A front sends `/agents/` here without that prefix, or the gateway is mounted there."""
    app = gateway(Route("/mcp", to()), public_url=f"{PUBLIC}/agents/")
    document = {"resource": f"{PUBLIC}/agents/mcp"}
    assert (await ask(app, f"{WELL_KNOWN}/agents/mcp")).items() >= document.items()
    scope = {"root_path": "/agents"}
    assert (await ask(app, f"/agents{WELL_KNOWN}/agents/mcp", **scope)).items() >= document.items()
    mounted = Starlette(routes=[Mount(WELL_KNOWN, app), Mount("/agents", app)])
    assert (await ask(mounted, f"{WELL_KNOWN}/agents/mcp")).items() >= document.items()
    refused = await drive(mounted, http_scope(target="/agents/mcp"))
    assert refused.headers["www-authenticate"] == f'Bearer resource_metadata="{PUBLIC}{WELL_KNOWN}/agents/mcp"'


async def test_without_a_public_url_nothing_is_guessed() -> None:
    app = gateway(Route("/mcp", to()), public_url=None)
    assert await ask(app, f"{WELL_KNOWN}/mcp") == "route not found"
    assert "resource_metadata" not in str((await drive(app, http_scope(target="/mcp"))).headers)


def test_a_public_url_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="public_url"):
        gateway(Route("/mcp", to(), authenticate=[KEYS]), public_url="gw.example.com")
