"""LLMBackend: whose credential goes where, which headers go on, and who is asked when one cannot answer."""

import asyncio
import itertools
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from agentgate import (
    BEARER,
    SDK_LOCATIONS,
    AccessLog,
    AnyLocation,
    APIKeyAuth,
    CELRules,
    ConfigurationError,
    Gate,
    LLMBackend,
    Principal,
    Provider,
    Query,
    Route,
    Secret,
    create_gateway,
    new_key,
)
from agentgate.protocols.llm.apis import ProviderName
from agentgate.testing import Exchange, Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
OWN = "sk-own-0123456789"
CHAT = "/v1/chat/completions"
BODY = b'{"model": "m", "x": 1.50}'
ANY = CELRules(allow=["true"])

Answer = httpx.Response | Exception | Callable[[httpx.Request], Awaitable[httpx.Response]]


class Upstream(httpx.AsyncBaseTransport):
    """Answers for each host as it is told, and keeps what was sent."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(await request.aread())
        answer = self.answers.get(request.url.host) or httpx.Response(200, json={"model": "m-1"})
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else await answer(request)

    async def aclose(self) -> None:
        self.closed = True

    @property
    def headers(self) -> dict[str, str]:
        raw = self.requests[-1].headers.raw
        assert len({name for name, _ in raw}) == len(raw)
        return {name.decode(): value.decode() for name, value in raw}

    @property
    def target(self) -> str:
        target: bytes = self.requests[-1].extensions["target"]
        return target.decode()

    @property
    def hosts(self) -> list[str]:
        return [request.url.host for request in self.requests]


async def ask(
    backend: LLMBackend,
    target: str = CHAT,
    body: bytes = BODY,
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    location: Any = SDK_LOCATIONS,
    mode: Any = "strict",
) -> tuple[Exchange, Recorder]:
    recorder = Recorder()
    gateway = create_gateway(
        Route("/", backend),
        authenticate=[APIKeyAuth({"alice": KEY}, location=location)],
        authorize=[ANY],
        observe=[recorder],
        mode=mode,
    )
    sent = {"content-type": "application/json", "content-length": str(len(body)), "x-api-key": KEY}
    scope = http_scope(method, target, headers={**sent, **(headers or {})})
    return await drive(gateway, scope, body=body), recorder


# -- where to ----------------------------------------------------------------------------------------------------------

GENERATE = "/v1beta/models/m:generateContent"
TARGETS: list[tuple[ProviderName, str, str, str]] = [
    # provider, base URL, the client's target, the provider's
    ("openai", "http://up/v1", "/v1/chat/completions", "/v1/chat/completions"),
    ("openai", "http://up/v1/", "/any/where/chat/completions?x=1", "/v1/chat/completions?x=1"),
    ("openai", "http://up/api/paas/v4", "/v1/embeddings", "/api/paas/v4/embeddings"),
    ("openai", "http://up/v1", "/v1/files/f%20x", "/v1/files/f%20x"),
    ("openai", "http://up/v1", "/elsewhere", "/v1/elsewhere"),
    ("anthropic", "http://up", "/claude/v1/messages?beta=true", "/v1/messages?beta=true"),
    ("anthropic", "http://up/base", "/v1/messages/batches", "/base/v1/messages/batches"),
    (
        "azure",
        "http://up",
        "/openai/deployments/m/chat/completions?api-version=1",
        "/openai/deployments/m/chat/completions?api-version=1",
    ),
    ("gemini", "http://up", f"/g{GENERATE}?alt=sse", f"{GENERATE}?alt=sse"),
    ("gemini", "http://up", f"{GENERATE}?key=K&alt=json&%6bey=K", f"{GENERATE}?alt=json"),
    ("gemini", "http://up", f"{GENERATE}?access_token=K", GENERATE),
    ("vertex", "http://up", "/v1/publishers/google/models/m:countTokens", "/v1/publishers/google/models/m:countTokens"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "url", "target", "sent"), TARGETS)
async def test_the_target(provider: ProviderName, url: str, target: str, sent: str) -> None:
    """The API's own path follows the base URL; credentials in the query go nowhere."""
    upstream = Upstream()
    body = BODY if "deployments" not in target and ":" not in target else b"{}"
    exchange, _ = await ask(LLMBackend(url, provider=provider, transport=upstream), target, body)
    assert (exchange.status, upstream.target, upstream.headers["host"]) == (200, sent, "up")


async def test_a_query_credential_of_any_name_goes_nowhere() -> None:
    upstream = Upstream()
    backend = LLMBackend("http://up", transport=upstream)
    exchange, recorder = await ask(
        backend, f"{CHAT}?mine={KEY}&x=1", headers={"x-api-key": ""}, location=AnyLocation(Query("mine"), BEARER)
    )
    assert (exchange.status, upstream.target) == (200, "/chat/completions?x=1")
    assert recorder.last.redacted_parameters == {"mine"}
    for target in (f"{CHAT}?token=theirs&x=1", f"{CHAT}?%6dine=theirs&x=1"):
        await ask(backend, target, headers={"x-api-key": ""}, location=Query("mine"), mode="permissive")
    assert upstream.target == "/chat/completions?x=1"


# -- headers and credentials -------------------------------------------------------------------------------------------

CREDENTIALS: list[tuple[ProviderName, str, str]] = [
    ("openai", "authorization", f"Bearer {OWN}"),
    ("vertex", "authorization", f"Bearer {OWN}"),
    ("azure", "api-key", OWN),
    ("anthropic", "x-api-key", OWN),
    ("gemini", "x-goog-api-key", OWN),
]
PATHS = {
    "openai": CHAT,
    "vertex": "/v1/publishers/google/models/m:generateContent",
    "azure": "/openai/deployments/m/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/m:generateContent",
}
THEIRS = {"authorization": "Bearer theirs", "x-api-key": "theirs", "api-key": "theirs", "x-goog-api-key": "theirs",
          "cookie": "session=theirs", "proxy-authorization": "theirs", "x-amz-security-token": "theirs",
          "openai-organization": "theirs", "x-goog-user-project": "theirs", "x-forwarded-for": "theirs"}  # fmt: skip


@pytest.mark.parametrize(("provider", "name", "value"), CREDENTIALS)
@pytest.mark.parametrize("target", ["known", "/v1/unknown"])
async def test_only_its_own_credential_reaches_a_provider(
    provider: ProviderName, name: str, value: str, target: str
) -> None:
    """Whatever the client sent: the key it was let in by, and others that nobody asked for."""
    upstream = Upstream()
    backend = LLMBackend("http://up", provider=provider, credential=Secret(OWN), transport=upstream)
    path = PATHS[provider] if target == "known" else target
    body = BODY if provider in ("openai", "anthropic") else b'{"model": "m"}'
    exchange, _ = await ask(backend, path, body, headers=THEIRS, mode="permissive")
    assert exchange.status == 200
    assert upstream.headers[name] == value
    assert "theirs" not in str(upstream.headers)
    assert KEY not in str(upstream.headers)


async def test_without_a_credential_none_is_sent() -> None:
    upstream = Upstream()
    await ask(LLMBackend("http://up", transport=upstream))
    assert upstream.headers.keys() == {"host", "content-type", "content-length", "accept-encoding"}


async def test_harmless_headers_go_on_and_others_when_they_are_named() -> None:
    harmless = {"accept": "*/*", "user-agent": "x", "openai-beta": "x", "anthropic-version": "x", "anthropic-beta": "x",
                "x-stainless-lang": "python", "traceparent": "00-1"}  # fmt: skip
    other = {"http-referer": "https://example.com", "x-title": "t", "idempotency-key": "1", "x-agent-group": "eng"}
    upstream = Upstream()
    await ask(LLMBackend("http://up", transport=upstream), headers={**harmless, **other})
    assert harmless.items() <= upstream.headers.items()
    assert not other.keys() & upstream.headers.keys()
    await ask(LLMBackend("http://up", transport=upstream, pass_headers=["HTTP-Referer"]), headers={**harmless, **other})
    assert other.keys() & upstream.headers.keys() == {"http-referer"}


async def test_a_credential_for_each_caller() -> None:
    async def key_of(principal: Principal | None) -> Secret:
        return Secret(f"sk-{principal.id if principal else 'nobody'}")

    upstream = Upstream()
    backend = LLMBackend("http://up", credential=key_of, transport=upstream)
    await ask(backend)
    assert upstream.headers["authorization"] == "Bearer sk-alice"
    await ask(backend, headers={"x-api-key": ""}, mode="optional")
    assert upstream.headers["authorization"] == "Bearer sk-nobody"


async def _raises(principal: Principal | None) -> Secret:
    raise RuntimeError("s3cret")


def _gives(value: Any) -> Any:
    async def give(principal: Principal | None) -> Any:
        return value

    return give


@pytest.mark.parametrize(
    "credential",
    [_raises, _gives(None), _gives("s3cret"), _gives(Secret("s3cret\r\nx: y")), _gives(Secret("s3crét")), lambda p: 1],
)
async def test_without_the_credential_it_should_have_nothing_is_sent(credential: Any) -> None:
    upstream = Upstream()
    providers = [Provider("http://up", credential=credential), Provider("http://spare", weight=0)]
    exchange, recorder = await ask(LLMBackend(providers, transport=upstream))
    assert (exchange.status, upstream.requests) == (502, [])
    assert json.loads(exchange.body)["error"]["message"] == "upstream call failed"
    assert recorder.last.refusal is not None
    assert recorder.last.refusal.detail.startswith("no credential for the provider: ")
    assert "s3c" not in recorder.last.refusal.detail + exchange.text


async def test_what_a_provider_says_of_the_credential_is_not_passed_on() -> None:
    said = httpx.Response(401, json={"error": {"message": "Incorrect API key provided: sk-own-****6789"}})
    upstream = Upstream(up=said)
    exchange, recorder = await ask(LLMBackend("http://up", credential=Secret(OWN), transport=upstream))
    assert exchange.status == 502
    assert "sk-own" not in exchange.text
    assert recorder.last.refusal is not None
    assert recorder.last.refusal.detail == "the provider refuses the credential that it was sent"
    exchange, _ = await ask(LLMBackend("http://up", transport=upstream))  # none of ours: the client's own affair
    assert exchange.status == 401


# -- the body ----------------------------------------------------------------------------------------------------------


async def test_the_body_goes_on_byte_for_byte_but_for_an_alias() -> None:
    upstream = Upstream()
    backend = LLMBackend("http://up", aliases={"fast": "m-small-2030"}, transport=upstream)
    exchange, recorder = await ask(backend)
    assert (upstream.bodies[-1], upstream.headers["content-length"]) == (BODY, str(len(BODY)))
    body = b' {"x": 1.50,\r\n "model" :"fast", "y": "fast"}'
    exchange, recorder = await ask(backend, body=body)
    sent = body.replace(b':"fast"', b':"m-small-2030"')
    assert (exchange.status, upstream.bodies[-1], upstream.headers["content-length"]) == (200, sent, str(len(sent)))
    assert recorder.last.details["gen_ai.request.model"] == "fast"
    await ask(backend, body=b'{"model": "m-small-2030"}')
    assert upstream.bodies[-1] == b'{"model": "m-small-2030"}'


async def test_an_alias_in_a_path() -> None:
    upstream = Upstream()
    aliases = {"fast": "m-small/2030"}
    backend = LLMBackend("http://up", provider="azure", aliases=aliases, transport=upstream)
    await ask(backend, PATHS["azure"].replace("/m/", "/fast/"), b'{"model": "fast"}')
    assert upstream.target == "/openai/deployments/m-small%2F2030/chat/completions"
    assert upstream.bodies[-1] == b'{"model": "m-small/2030"}'
    backend = LLMBackend("http://up", aliases={"fast": "m"}, transport=upstream)
    await ask(backend, "/v1/models/fast", b"", method="GET")
    assert upstream.target == "/models/m"


async def test_usage_is_asked_for_in_the_body_that_is_sent() -> None:
    upstream = Upstream()
    body = b'{"model": "fast", "stream": true}'
    backend = LLMBackend("http://up", include_usage=True, aliases={"fast": "m"}, transport=upstream)
    await ask(backend, body=body)
    assert upstream.bodies[-1] == b'{"model": "m", "stream": true,"stream_options":{"include_usage": true}}'
    assert upstream.headers["content-length"] == str(len(upstream.bodies[-1]))
    await ask(LLMBackend("http://up", transport=upstream), body=body)
    assert upstream.bodies[-1] == body


async def test_what_is_not_known_streams_through() -> None:
    upstream = Upstream()
    providers = [Provider("http://up/v1"), Provider("http://spare/v1", weight=1000)]
    upstream.answers["up"] = httpx.Response(503)
    headers = {"content-type": "multipart/form-data; boundary=x", "content-length": "3000000"}
    exchange, _ = await ask(LLMBackend(providers, transport=upstream), "/v1/files", b"x" * 3_000_000, headers=headers)
    assert exchange.status == 503  # only the first one is ever asked: files are somewhere
    assert (upstream.hosts, len(upstream.bodies[0])) == (["up"], 3_000_000)


# -- several providers -------------------------------------------------------------------------------------------------


async def chosen(backend: LLMBackend, upstream: Upstream, body: bytes = BODY) -> list[str]:
    """Whom a request went to, in order."""
    upstream.requests.clear()
    await ask(backend, body=body)
    return upstream.hosts


async def test_weights() -> None:
    upstream = Upstream()
    backend = LLMBackend(
        [Provider("http://a", weight=3), Provider("http://b"), Provider("http://c", weight=0)], transport=upstream
    )
    state = random.getstate()
    random.seed(7)
    try:
        for _ in range(400):
            await ask(backend)
    finally:
        random.setstate(state)
    assert 260 < upstream.hosts.count("a") < 340
    assert upstream.hosts.count("c") == 0
    assert len(upstream.hosts) == 400


FAILURES: dict[str, Answer] = {
    "a refused connection": httpx.ConnectError("x"),
    "a slow connection": httpx.ConnectTimeout("x"),
    "no connection free": httpx.PoolTimeout("x"),
    "no answer in time": httpx.ReadTimeout("x"),
    "a lost connection": httpx.ReadError("x"),
    "half an answer": httpx.RemoteProtocolError("x"),
    "too many requests": httpx.Response(429),
    "a fault": httpx.Response(500),
    "an overload": httpx.Response(529),
    "a credential that is refused": httpx.Response(401),
}


def two(upstream: Upstream, **options: Any) -> LLMBackend:
    providers = [
        Provider("http://a", credential=Secret("sk-a"), aliases={"m": "m-a"}),
        Provider("http://b", credential=Secret("sk-b"), weight=0, aliases={"m": "m-b"}),
    ]
    return LLMBackend(providers, transport=upstream, **options)


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_another_is_asked(failure: Answer) -> None:
    """Once, with its own credential and its own name of the model; and for a while it is asked first."""
    upstream = Upstream(a=failure)
    backend = two(upstream)
    exchange, recorder = await ask(backend)
    assert (exchange.status, upstream.hosts) == (200, ["a", "b"])
    assert recorder.last.details["retry.attempt"] == 1
    assert recorder.last.endpoint == "b:80"
    assert [attempt.endpoint for attempt in recorder.last.attempts] == ["a:80", "b:80"]
    assert upstream.bodies == [BODY.replace(b'"m"', b'"m-a"'), BODY.replace(b'"m"', b'"m-b"')]
    assert upstream.headers["authorization"] == "Bearer sk-b"
    assert await chosen(backend, upstream) == ["b"]


NO_FAILURES: dict[str, Answer] = {
    "a mistake": httpx.Response(400),
    "no such model": httpx.Response(404),
    "an answer": httpx.Response(200),
    "a request that cannot be sent": httpx.LocalProtocolError("x"),
    "an error of ours": RuntimeError("x"),
}


@pytest.mark.parametrize("answer", NO_FAILURES.values(), ids=NO_FAILURES)
async def test_no_other_is_asked(answer: Answer) -> None:
    upstream = Upstream(a=answer)
    await ask(two(upstream))
    assert upstream.hosts == ["a"]


async def test_which_statuses_count_can_be_said() -> None:
    upstream = Upstream(a=httpx.Response(404))
    assert await chosen(two(upstream, failover_on=[404]), upstream) == ["a", "b"]
    upstream = Upstream(a=httpx.Response(503))
    assert await chosen(two(upstream, failover_on=()), upstream) == ["a"]


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (httpx.Response(503), httpx.Response(429), 429),
        (httpx.Response(503), httpx.ConnectError("x"), 503),
        (httpx.ConnectError("x"), httpx.ReadTimeout("x"), 504),
        (httpx.ConnectError("x"), httpx.Response(401), 502),
    ],
)
async def test_when_all_fail_the_last_one_s_answer_stands(first: Answer, second: Answer, status: int) -> None:
    upstream = Upstream(a=first, b=second)
    exchange, recorder = await ask(two(upstream))
    assert (exchange.status, upstream.hosts) == (status, ["a", "b"])
    assert recorder.last.endpoint == "b:80"


async def test_one_alone_is_asked_once() -> None:
    upstream = Upstream(a=httpx.Response(503))
    exchange, _ = await ask(LLMBackend("http://a", transport=upstream))
    assert (exchange.status, upstream.hosts) == (503, ["a"])
    upstream = Upstream(a=httpx.ConnectError("x"))
    exchange, _ = await ask(LLMBackend("http://a", transport=upstream))
    assert (exchange.status, upstream.hosts) == (503, ["a"])


class Broken(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        raise httpx.ReadError("x")


async def test_an_answer_that_has_begun_is_nobody_else_s() -> None:
    upstream = Upstream(a=httpx.Response(200, stream=Broken()))
    exchange, recorder = await ask(two(upstream))
    assert (exchange.status, exchange.body, exchange.complete) == (200, b"data: 1\n\n", False)
    assert (upstream.hosts, recorder.last.reason) == (["a"], "UpstreamFailure")


async def test_a_client_that_leaves_is_no_reason_to_ask_another() -> None:
    asked = asyncio.Event()

    async def silent(request: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def receive() -> Any:
        if not asked.is_set() and not read:
            read.append(True)
            return {"type": "http.request", "body": BODY, "more_body": False}
        await asked.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    read: list[bool] = []
    upstream, recorder = Upstream(a=silent), Recorder()
    backend = two(upstream)
    gate = Gate(backend.app, authorize=[ANY], observe=[recorder], protocol=backend.protocol)
    await gate(http_scope("POST", CHAT, headers={"content-type": "application/json"}), receive, send)
    assert (recorder.last.error, upstream.hosts) == ("client disconnected", ["a"])


async def test_who_serves_which_model() -> None:
    upstream = Upstream()
    backend = LLMBackend(
        [Provider("http://a", models=["gpt-*"]), Provider("http://b", models=["claude-*", "gpt-4o"])],
        transport=upstream,
    )
    assert await chosen(backend, upstream, b'{"model": "gpt-3"}') == ["a"]
    assert await chosen(backend, upstream, b'{"model": "claude-3"}') == ["b"]
    upstream.answers["a"] = httpx.Response(503)
    assert await chosen(backend, upstream, b'{"model": "gpt-4o"}') in (["a", "b"], ["b"])
    upstream.requests.clear()
    exchange, recorder = await ask(backend, body=b'{"model": "o3"}')
    assert (exchange.status, upstream.hosts) == (404, [])
    assert json.loads(exchange.body)["error"] == {
        "message": "Model not found",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_found",
    }
    assert recorder.last.reason == "NotFound"


async def test_a_list_may_come_from_any_of_them() -> None:
    listed = httpx.Response(200, json={"data": [{"id": "m"}]})
    upstream = Upstream(a=httpx.Response(503), b=listed)
    exchange, _ = await ask(two(upstream), "/v1/models", b"", method="GET")
    assert (exchange.status, json.loads(exchange.body)) == (200, {"data": [{"id": "m"}]})


async def test_all_of_them_rest() -> None:
    upstream = Upstream(a=httpx.Response(503), b=httpx.Response(503))
    backend = two(upstream)
    for _ in range(3):
        assert await chosen(backend, upstream) == ["a", "b"]


# -- the rest ----------------------------------------------------------------------------------------------------------


async def test_a_websocket_is_refused_in_the_provider_s_words() -> None:
    upstream = Upstream()
    backend = LLMBackend("http://up", transport=upstream)
    gate = Gate(backend.app, authorize=[ANY], protocol=backend.protocol)
    exchange = await drive(gate, websocket_scope("/v1/realtime?model=gpt-realtime"))
    assert (exchange.status, json.loads(exchange.body)["error"]["code"]) == (403, "websocket_not_forwarded")
    assert not upstream.requests


async def test_what_no_protocol_has_read_is_not_sent() -> None:
    """Its app behind a Gate that has not read the body: there is no model that was judged."""
    upstream = Upstream()
    gate = Gate(LLMBackend("http://up", transport=upstream).app, authorize=[ANY])
    exchange = await drive(gate, http_scope("POST", CHAT, headers={"content-type": "application/json"}), body=BODY)
    assert (exchange.status, upstream.requests) == (502, [])


async def test_it_closes_its_connections() -> None:
    upstream = Upstream()
    await LLMBackend("http://up", transport=upstream).aclose()
    assert upstream.closed
    await LLMBackend("http://up").aclose()


FAULTS: dict[str, tuple[Callable[[], object], list[str]]] = {
    "no URL": (
        lambda: Provider("up"),
        ["an upstream is an http or https URL with a host, such as http://httpbin:8000"],
    ),
    "all of a provider's": (
        lambda: Provider("http://up", credential="sk", weight=-1, models=["a*b"], aliases={"a": ""}),  # type: ignore[arg-type]
        [
            "up: a credential is a Secret or a coroutine function",
            "up: a weight is a number, 0 or more",
            "up: aliases are a mapping from names of models to names of models",
            "up: models: a name must contain at most one wildcard, at the beginning or end",
        ],
    ),
    "a weight that is none": (lambda: Provider("http://up", weight=True), ["up: a weight is a number, 0 or more"]),
    "a secret that cannot be sent": (
        lambda: Provider("http://up", credential=Secret("a\nb")),
        ["up: the credential is not visible ASCII"],
    ),
    "no provider": (lambda: LLMBackend([]), ["an LLMBackend has a URL, or a list of Providers"]),
    "something else": (lambda: LLMBackend(["http://up"]), ["an LLMBackend has a URL, or a list of Providers"]),  # type: ignore[list-item]
    "two places for a credential": (
        lambda: LLMBackend([Provider("http://up")], credential=Secret("x")),
        ["with several Providers, each has its own credential and aliases"],
    ),
    "two places for aliases": (
        lambda: LLMBackend([Provider("http://up")], aliases={"a": "b"}),
        ["with several Providers, each has its own credential and aliases"],
    ),
    "a provider nobody knows": (
        lambda: LLMBackend("http://up", provider="x"),  # type: ignore[arg-type]
        ["provider is one of openai, azure, anthropic, gemini, vertex, not 'x'"],
    ),
    "headers that are ours": (
        lambda: LLMBackend("http://up", pass_headers=["Host", "X-Api-Key", "x-title"], failover_on=[200]),
        [
            "pass_headers: host is not the client's to say",
            "pass_headers: x-api-key is not the client's to say",
            "failover_on: 200 is no error",
        ],
    ),
    "one header": (lambda: LLMBackend("http://up", pass_headers="x"), ["pass_headers is a list of names"]),
}


@pytest.mark.parametrize(("make", "faults"), FAULTS.values(), ids=FAULTS)
def test_faults(make: Callable[[], object], faults: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert [*caught.value.faults] == faults


@pytest.mark.parametrize("provider", ["openai", "gemini"])
@pytest.mark.parametrize("answer", [*FAILURES.values(), httpx.Response(200)], ids=[*FAILURES, "an answer"])
async def test_no_key_is_logged(provider: Any, answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    """The client's, wherever it puts it, and the provider's."""
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []
    recorder = Recorder()
    gateway = create_gateway(
        Route("/", LLMBackend("http://up", provider=provider, credential=Secret(OWN), transport=Upstream(up=answer))),
        authenticate=[APIKeyAuth({"alice": KEY}, location=AnyLocation(*SDK_LOCATIONS.places, Query("key")))],
        authorize=[ANY],
        observe=[AccessLog(lines.append), recorder],
    )
    for target, headers in ((f"{PATHS[provider]}?key={KEY}", {}), (PATHS[provider], {"x-goog-api-key": KEY})):
        scope = http_scope("POST", target, headers={"content-type": "application/json", **headers})
        exchange = await drive(gateway, scope, body=BODY if provider == "openai" else b"{}")
        seen = f"{lines} {caplog.text} {exchange} {recorder.last.trail} {recorder.last!r} {recorder.last.details}"
        assert KEY not in seen
        assert OWN not in seen
    assert "key=<redacted>" in lines[0]


def test_nothing_secret_is_printed() -> None:
    backend = LLMBackend("http://up", credential=Secret(OWN))
    assert repr(backend) == "LLMBackend([Provider('http://up', weight=1)], provider='openai')"
    assert all(OWN not in repr(vars(one)) for one in (backend, *backend.providers))
    assert len({*itertools.chain(backend.providers)}) == 1
