"""CORS: which pages are admitted, what only it may answer, and that nothing passes the policies by its way."""

from typing import Any

import httpx
import pytest

from agentgate import (
    CORS,
    APIKeyAuth,
    ConfigurationError,
    Gate,
    Gateway,
    HTTPBackend,
    Reason,
    Request,
    Route,
    create_gateway,
    new_key,
)
from agentgate.request import Scope
from agentgate.respond import Receive, Send
from agentgate.testing import Exchange, Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

PAGE = "https://app.example.com"
KEY = new_key()
AUTH = APIKeyAuth({"alice": KEY})
Headers = dict[str, str]


def preflight(origin: str = PAGE, method: str = "PUT", **more: str) -> Headers:
    return {"origin": origin, "access-control-request-method": method, **more}


class Upstream(httpx.AsyncBaseTransport):
    """Admits everybody, as some upstreams do."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.method)
        headers = {"Access-Control-Allow-Origin": "*", "access-control-allow-credentials": "true", "x-own": "1"}
        return httpx.Response(200, headers=headers)


def gateway(cors: CORS, upstream: Upstream | None = None, **options: Any) -> Gateway:
    backend = HTTPBackend("http://up", transport=upstream or Upstream())
    return create_gateway(Route("/", backend, filters=[cors], **options), observe=[Recorder()])


async def ask(cors: CORS, method: str, headers: Headers, **options: Any) -> Exchange:
    return await drive(gateway(cors, **options), http_scope(method, "/", headers=headers))


def said(exchange: Exchange) -> Headers:
    """What the answer says about CORS."""
    names = ("access-control-", "vary")
    pairs = [(name.decode(), value.decode()) for name, value in exchange.messages[0]["headers"]]
    found = {name: value for name, value in pairs if name.startswith(names)}
    assert len(found) == len([name for name, _ in pairs if name.startswith(names)])  # each of them once
    return found


ORIGINS = [
    (["https://app.example.com"], "https://app.example.com", True),
    (["https://app.example.com"], "https://app.example.com:443", False),
    (["https://app.example.com"], "http://app.example.com", False),
    (["https://app.example.com"], "https://APP.example.com", False),
    (["https://app.example.com"], "https://app.example.com.evil.org", False),
    (["https://app.example.com"], "https://evil-app.example.com", False),
    (["https://app.example.com"], "null", False),
    (["https://app.example.com"], "", False),
    (["https://app.example.com:8443"], "https://app.example.com:8443", True),
    (["https://app.example.com:8443"], "https://app.example.com", False),
    (["https://*.example.com"], "https://app.example.com", True),
    (["https://*.example.com"], "https://a.b.example.com", True),
    (["https://*.example.com"], "https://example.com", False),
    (["https://*.example.com"], "https://.example.com", False),
    (["https://*.example.com"], "https://evil.org/.example.com", False),
    (["https://*.example.com"], "https://evil.org#.example.com", False),
    (["https://*.example.com"], "https://evil.org:1.example.com", False),
    (["https://*.example.com"], "https://user@evil.example.com", False),
    (["https://*.example.com"], "https://appXexample.com", False),
    (["https://*.example.com"], "https://app.example.com:8443", False),
    (["https://*.example.com"], "http://app.example.com", False),
    (["https://*.example.com:8443", PAGE], "https://b.example.com:8443", True),
    (["https://*.example.com:8443", PAGE], PAGE, True),
    (["https://[::1]:3000"], "https://[::1]:3000", True),
    (["vscode-file://vscode-app"], "vscode-file://vscode-app", True),
    ([], PAGE, False),
]


@pytest.mark.parametrize(("origins", "origin", "admitted"), ORIGINS)
async def test_origins(origins: list[str], origin: str, admitted: bool) -> None:
    for credentials in (False, True):
        cors = CORS(origins, methods=["PUT"], credentials=credentials)
        granted = {"access-control-allow-credentials": "true"} if credentials else {}
        wanted = {"access-control-allow-origin": origin, **granted} if admitted else {}
        asking = {"access-control-allow-methods": "PUT", "access-control-max-age": "5"} if admitted else {}
        assert said(await ask(cors, "PUT", {"origin": origin})) == {**wanted, "vary": "Origin"}
        assert said(await ask(cors, "OPTIONS", preflight(origin))) == {**wanted, **asking, "vary": "Origin"}


async def test_any_origin() -> None:
    assert said(await ask(CORS(["*"]), "GET", {"origin": "null"})) == {"access-control-allow-origin": "*"}
    assert said(await ask(CORS(["*"]), "GET", {})) == {"access-control-allow-origin": "*"}


async def test_any_origin_with_credentials_is_echoed_but_for_the_one_that_any_page_can_have() -> None:
    cors = CORS(["*"], credentials=True)
    assert said(await ask(cors, "GET", {"origin": PAGE})) == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-credentials": "true",
        "vary": "Origin",
    }
    assert said(await ask(cors, "GET", {"origin": "null"})) == {"vary": "Origin"}


ASKED: list[tuple[dict[str, Any], Headers, Headers]] = [
    ({}, preflight(), {}),
    ({"methods": ["PUT", "DELETE"]}, preflight(method="POST"), {"methods": "PUT, DELETE"}),
    ({"methods": ["*"]}, preflight(method="PATCH"), {"methods": "PATCH"}),
    ({"methods": ["*"]}, preflight(method="P<script>"), {}),
    ({"headers": ["x-a", "x-b"]}, preflight(**{"access-control-request-headers": "x-c"}), {"headers": "x-a, x-b"}),
    ({"headers": ["*"]}, preflight(**{"access-control-request-headers": "x-c,x-d"}), {"headers": "x-c,x-d"}),
    ({"headers": ["*"]}, preflight(**{"access-control-request-headers": "x c: <d>"}), {}),
    ({"headers": ["*"]}, preflight(), {}),
]


@pytest.mark.parametrize(("options", "headers", "allowed"), ASKED)
async def test_what_a_preflight_allows(options: dict[str, Any], headers: Headers, allowed: Headers) -> None:
    answer = said(await ask(CORS([PAGE], max_age=60, **options), "OPTIONS", headers))
    assert answer == {
        "access-control-allow-origin": PAGE,
        **{f"access-control-allow-{name}": value for name, value in allowed.items()},
        "access-control-max-age": "60",
        "vary": "Origin",
    }


async def test_what_is_exposed() -> None:
    exposed = {"access-control-expose-headers": "x-a, x-b", "access-control-allow-origin": PAGE, "vary": "Origin"}
    assert said(await ask(CORS([PAGE], expose=["x-a", "x-b"]), "GET", {"origin": PAGE})) == exposed


# What is answered without the policies, and what is not.

NO_PREFLIGHTS: dict[str, tuple[str, Headers]] = {
    "no origin": ("OPTIONS", {"access-control-request-method": "GET"}),
    "no method asked for": ("OPTIONS", {"origin": PAGE}),
    "another method": ("GET", preflight()),
    "HEAD": ("HEAD", preflight()),
    "POST": ("POST", preflight()),
}


@pytest.mark.parametrize("request_", NO_PREFLIGHTS)
async def test_only_a_preflight_passes_the_policies_by(request_: str) -> None:
    method, headers = NO_PREFLIGHTS[request_]
    upstream = Upstream()
    exchange = await ask(CORS([PAGE]), method, headers, upstream=upstream, authenticate=[AUTH])
    assert (exchange.status, upstream.asked) == (401, [])


@pytest.mark.parametrize("origin", [PAGE, "https://evil.org", "null"])
@pytest.mark.parametrize("key", ["", KEY, "wrong"], ids=["no key", "a key", "a wrong key"])
async def test_no_preflight_is_ever_forwarded(origin: str, key: str) -> None:
    upstream = Upstream()
    headers = preflight(origin) | ({"authorization": f"Bearer {key}"} if key else {})
    exchange = await ask(CORS([PAGE]), "OPTIONS", headers, upstream=upstream, authenticate=[AUTH])
    assert (exchange.status, exchange.body, upstream.asked) == (200, b"", [])
    assert "x-own" not in exchange.headers


async def test_a_preflight_with_two_origins_is_refused() -> None:
    scope = http_scope("OPTIONS", "/", headers=[*preflight().items(), ("origin", "https://evil.org")])
    exchange = await drive(gateway(CORS([PAGE])), scope)
    assert exchange.status == 400
    assert said(exchange) == {}


async def test_a_page_can_read_why_it_was_refused() -> None:
    exchange = await ask(CORS([PAGE]), "PUT", {"origin": PAGE}, authenticate=[AUTH])
    assert exchange.status == 401
    assert said(exchange) == {"access-control-allow-origin": PAGE, "vary": "Origin"}
    exchange = await ask(CORS([PAGE]), "PUT", {"origin": "https://evil.org"}, authenticate=[AUTH])
    assert exchange.status == 401
    assert said(exchange) == {"vary": "Origin"}


async def test_an_upstream_admits_nobody() -> None:
    exchange = await ask(CORS([PAGE]), "GET", {"origin": "https://evil.org"})
    assert said(exchange) == {"vary": "Origin"}
    assert exchange.headers["x-own"] == "1"


async def test_a_preflight_is_in_the_log() -> None:
    recorder = Recorder()
    app = create_gateway(Route("/", HTTPBackend("http://up"), name="web", filters=[CORS([PAGE])]), observe=[recorder])
    await drive(app, http_scope("OPTIONS", "/", headers=preflight()))
    assert (recorder.last.status, recorder.last.reason) == (200, Reason.DIRECT_RESPONSE)
    assert (recorder.last.error, recorder.last.route) == (None, "web")


def test_explain_tells_of_a_preflight() -> None:
    app = gateway(CORS([PAGE]), authenticate=[AUTH])
    assert [one.code for one in app.explain(Request.http("OPTIONS", headers=preflight()))] == ["preflight"]
    assert [one.code for one in app.explain(Request.http("OPTIONS", headers=preflight()), every=True)] == [
        "preflight",
        "preflight",
    ]
    assert app.explain(Request.http("OPTIONS", headers={"origin": PAGE}))[-1].status == 401


# A route for some methods is asked about those.


@pytest.mark.parametrize(("asked", "status"), [("PUT", 200), ("DELETE", 404)])
async def test_a_route_for_one_method_answers_preflights_about_it(asked: str, status: int) -> None:
    upstream = Upstream()
    exchange = await ask(CORS([PAGE]), "OPTIONS", preflight(method=asked), upstream=upstream, methods=["PUT"])
    assert (exchange.status, upstream.asked) == (status, [])


async def test_other_options_are_not_for_a_route_for_one_method() -> None:
    assert (await ask(CORS([PAGE]), "OPTIONS", {"origin": PAGE}, methods=["PUT"])).status == 404


async def test_a_websocket_is_none_of_its_business() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    gate = Gate(CORS([PAGE]).before(app), observe=[Recorder()])
    exchange = await drive(gate, websocket_scope("/", headers=preflight("https://evil.org")))
    assert [message["type"] for message in exchange.messages] == ["websocket.accept", "websocket.close"]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"origins": ["app.example.com"]}, "'app.example.com' is no origin"),
        ({"origins": ["https://app.example.com/"]}, "'https://app.example.com/' is no origin"),
        ({"origins": ["https://*"]}, "'https://*' is no origin"),
        ({"origins": ["https://a.*.com"]}, "'https://a.*.com' is no origin"),
        ({"origins": ["https://*example.com"]}, "'https://*example.com' is no origin"),
        ({"origins": ["https://Example.com"]}, "'https://Example.com' is no origin"),
        ({"origins": [None]}, "None is no origin"),
        ({"origins": ["*", PAGE]}, "origins: * stands alone"),
        ({"methods": ["get"]}, "'get' is no method"),
        ({"methods": ["*", "GET"]}, "methods: * stands alone"),
        ({"headers": ["a b"]}, "'a b' is no header name"),
        ({"expose": ["*", "a"]}, "expose: * stands alone"),
        ({"max_age": 0}, "max_age is a number of seconds, 1 or more"),
        ({"max_age": True}, "max_age is a number of seconds, 1 or more"),
    ],
)
def test_faults(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        CORS(**({"origins": [PAGE]} | options))
    assert any(text.startswith(f"CORS: {fault}") for text in caught.value.faults)


def test_names_in_one_text_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="are lists"):
        CORS(PAGE)


def test_what_it_looks_like() -> None:
    assert repr(CORS([PAGE], credentials=True)) == f"CORS(['{PAGE}'], credentials=True)"
