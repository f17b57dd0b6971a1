"""Failover: who is asked when one cannot answer, what is sent again and what never, and how the sick are spared."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from agentgate import (
    A2ABackend,
    ConfigurationError,
    Endpoint,
    Gate,
    Health,
    HTTPBackend,
    LLMBackend,
    MCPBackend,
    Observer,
    Provider,
    Retry,
    Rewrite,
    Route,
    Secret,
    Timeouts,
    create_gateway,
)
from agentgate.attempt import Attempt
from agentgate.proxy.endpoint import in_turn
from agentgate.proxy.retry import BURST, Budget, retry_after
from agentgate.record import Record
from agentgate.respond import ASGIApp
from agentgate.testing import Exchange, Recorder, drive, http_scope

from .upstream_server import OK, Peer, Script, answering, serving

pytestmark = pytest.mark.anyio

Answer = int | httpx.Response | Exception
AT_ONCE = Retry(backoff=0, longest=0, budget=1)


class Upstream(httpx.AsyncBaseTransport):
    """Answers each request with the next of the answers of its host, the last one again and again."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self.reads = True

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        given = self.answers.get(request.url.host, [200])
        answer = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(answer, Exception) and not self.reads:
            raise answer
        self.bodies.append(await request.aread())
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer) if isinstance(answer, int) else answer

    @property
    def asked(self) -> list[str]:
        return [request.url.host for request in self.requests]


def behind(url: Any, upstream: httpx.AsyncBaseTransport, **options: Any) -> tuple[ASGIApp, Recorder]:
    recorder = Recorder()
    return Gate(HTTPBackend(url, transport=upstream, **options).app, observe=[recorder]), recorder


class Falling:
    """Chance that decides for the first in the list, then the second, and so on."""

    def __init__(self) -> None:
        self.value = 1.0

    def random(self) -> float:
        self.value -= 1e-6
        return self.value


CHANCE = "agentgate.proxy.endpoint.random"


@pytest.fixture(autouse=True)
def in_the_given_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHANCE, Falling())


# What is sent again.

CONNECT, SLOW_CONNECT = httpx.ConnectError("hunter2"), httpx.ConnectTimeout("hunter2")
LOST, LATE = httpx.ReadError("hunter2"), httpx.ReadTimeout("hunter2")
FULL = httpx.PoolTimeout("hunter2")

RETRIES: dict[str, tuple[str, Retry | None, list[Answer], int, int]] = {
    "nothing, unless it is asked for": ("GET", None, [503, 200], 1, 503),
    "nothing, unless it is asked for, be it unsent": ("GET", None, [CONNECT, 200], 1, 503),
    "a GET that met a 503": ("GET", AT_ONCE, [503, 200], 2, 200),
    "a PUT that met a 502 and a 504": ("PUT", AT_ONCE, [502, 504, 200], 3, 200),
    "a GET that met too many": ("GET", AT_ONCE, [503, 503, 502, 200], 3, 502),
    "a GET whose connection broke": ("GET", AT_ONCE, [LOST, 200], 2, 200),
    "a GET that took too long": ("GET", AT_ONCE, [LATE, 200], 2, 200),
    "a GET that could not be sent": ("GET", AT_ONCE, [CONNECT, SLOW_CONNECT, 200], 3, 200),
    "not a GET for which no connection is free": ("GET", AT_ONCE, [FULL, 200], 1, 503),
    "not a GET that met an answer that is none of these": ("GET", AT_ONCE, [500, 200], 1, 500),
    "a POST that could not be sent": ("POST", AT_ONCE, [CONNECT, SLOW_CONNECT, 200], 3, 200),
    "not a POST that met a 503": ("POST", AT_ONCE, [503, 200], 1, 503),
    "not a POST whose connection broke": ("POST", AT_ONCE, [LOST, 200], 1, 502),
    "not a POST that took too long": ("POST", AT_ONCE, [LATE, 200], 1, 504),
    "not a POST of which the fate was unknown, once it was unsent": ("POST", AT_ONCE, [CONNECT, LOST, 200], 2, 502),
    "not a PATCH": ("PATCH", AT_ONCE, [503, 200], 1, 503),
    "not what has a bug": ("GET", AT_ONCE, [KeyError("hunter2"), 200], 1, 502),
    "a POST, where that is asked for": (
        "POST", Retry(methods=["POST"], statuses=[429], backoff=0, longest=0), [429, LOST, 200], 3, 200,
    ),
    "not a GET, where others are asked for": (
        "GET", Retry(methods=["POST"], backoff=0, longest=0), [503, 200], 1, 503,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("method", "retry", "answers", "requests", "status"), RETRIES.values(), ids=RETRIES)
async def test_sent_again_is(
    method: str, retry: Retry | None, answers: list[Answer], requests: int, status: int
) -> None:
    upstream = Upstream(up=[*answers])
    app, recorder = behind("http://up", upstream, retry=retry)
    exchange = await drive(app, http_scope(method), body=b"body" if method in ("POST", "PUT") else b"")
    assert (exchange.status, len(upstream.requests)) == (status, requests)
    assert len(set(upstream.bodies)) == 1
    counted = [request.headers.get("x-retry-attempt") for request in upstream.requests]
    assert counted == [None, "1", "2"][:requests]
    assert recorder.last.details.get("retry.attempt") == (requests - 1 or None)
    assert [attempt.number for attempt in recorder.last.attempts] == [*range(requests)]


async def test_a_body_that_is_still_coming_is_sent_once() -> None:
    """Whatever the method; but nothing was sent when there was no connection."""
    for error, reads, requests in ((LOST, True, 1), (CONNECT, True, 1), (CONNECT, False, 2)):
        upstream = Upstream(up=[error, 200])
        upstream.reads = reads
        app, _ = behind("http://up", upstream, retry=AT_ONCE)
        exchange = await drive(app, http_scope("PUT", headers={"content-length": "8"}), body=[b"half", b"half"])
        assert len(upstream.requests) == requests
        assert (exchange.status == 200) == (requests == 2)
        if requests == 2:
            assert upstream.bodies == [b"halfhalf"]


async def test_an_answer_that_has_begun_is_the_answer() -> None:
    """A stream that breaks off is cut off, not begun anew."""

    class Breaks(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b"first"
            raise httpx.ReadError("hunter2")

    upstream = Upstream(up=[httpx.Response(200, stream=Breaks()), 200])
    app, _ = behind("http://up", upstream, retry=AT_ONCE)
    exchange = await drive(app, http_scope())
    assert (exchange.body, exchange.complete, len(upstream.requests)) == (b"first", False, 1)


async def test_the_number_of_the_attempt_is_never_the_clients_to_say() -> None:
    for retry in (None, AT_ONCE):
        upstream = Upstream()
        app, _ = behind("http://up", upstream, retry=retry)
        await drive(app, http_scope(headers={"x-retry-attempt": "7"}))
        assert "x-retry-attempt" not in upstream.requests[0].headers


async def test_answers_that_are_not_the_answer_are_closed() -> None:
    """Before the next request is sent."""

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b"hunter2"

        async def aclose(self) -> None:
            closed.append(len(upstream.requests))

    closed: list[int] = []
    upstream = Upstream(up=[httpx.Response(503, stream=Body()), 200])
    app, _ = behind("http://up", upstream, retry=AT_ONCE)
    assert (await drive(app, http_scope())).body == b""
    assert closed == [1]


class Injector(Observer):
    """Puts a header of its own into each request."""

    def forwarding(self, token: Any, record: Record, attempt: Attempt) -> None:
        attempt.request.headers["traceparent"] = str(attempt.number)

    def end(self, token: Any, record: Record) -> None:
        pass


async def test_each_attempt_is_told_to_observers() -> None:
    upstream = Upstream(up=[503, 200])
    backend = HTTPBackend("http://up", transport=upstream, retry=AT_ONCE)
    recorder = Recorder()
    await drive(Gate(backend.app, observe=[Injector(), recorder]), http_scope())
    assert [request.headers["traceparent"] for request in upstream.requests] == ["0", "1"]
    assert [attempt.status for attempt in recorder.last.attempts] == [503, 200]


# How long it waits, and how much of it there may be.

DELAYS: dict[str, tuple[int, float | None, tuple[float, float] | None]] = {
    "first": (0, None, (0.05, 0.1)),
    "second, twice as long": (1, None, (0.1, 0.2)),
    "tenth, which has a bound": (9, None, (0.5, 1.0)),
    "as long as the upstream wants": (0, 0.7, (0.7, 0.7)),
    "no shorter because the upstream wants nothing": (0, 0.0, (0.05, 0.1)),
    "not at all, when it wants too long": (0, 1.5, None),
}


@pytest.mark.parametrize(("retries", "after", "bounds"), DELAYS.values(), ids=DELAYS)
def test_the_wait_before_the(retries: int, after: float | None, bounds: tuple[float, float] | None) -> None:
    retry = Retry(backoff=0.1, longest=1.0)
    waits = [retry.delay(retries, after) for _ in range(200)]
    if bounds is None:
        assert waits == [None] * 200
    else:
        assert all(wait is not None and bounds[0] <= wait <= bounds[1] for wait in waits)
        assert after or len(set(waits)) > 100  # not all at the same moment


async def test_no_retry_when_the_upstream_wants_to_be_left_alone_for_longer() -> None:
    """Its answer stands, and the client is told when to come back."""
    upstream = Upstream(up=[httpx.Response(503, headers={"retry-after": "30"}), 200])
    app, _ = behind("http://up", upstream, retry=Retry(longest=1))
    exchange = await drive(app, http_scope())
    assert (exchange.status, exchange.headers["retry-after"], len(upstream.requests)) == (503, "30", 1)


AFTER: dict[str, tuple[list[tuple[str, str]], float | None]] = {
    "nothing": ([], None),
    "seconds": ([("retry-after", "7")], 7),
    "nought": ([("retry-after", " 0 ")], 0),
    "for ever": ([("retry-after", "9" * 400)], 999_999_999),
    "a date that is past": ([("retry-after", formatdate(0, usegmt=True))], 0),
    "two of them": ([("retry-after", "1"), ("retry-after", "2")], None),
    "a negative number": ([("retry-after", "-1")], None),
    "a fraction": ([("retry-after", "1.5")], None),
    "other digits": ([("retry-after", "\u00b2")], None),
    "no date": ([("retry-after", "tomorrow")], None),
    "a date out of range": ([("retry-after", "Fri, 31 Dec 99999 23:59:59 GMT")], None),
}


@pytest.mark.parametrize(("headers", "seconds"), AFTER.values(), ids=AFTER)
def test_retry_after_says(headers: list[tuple[str, str]], seconds: float | None) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    assert retry_after(httpx.Response(503, headers=raw)) == seconds


def test_retry_after_as_a_date() -> None:
    import time

    seconds = retry_after(httpx.Response(503, headers={"retry-after": formatdate(time.time() + 60, usegmt=True)}))
    assert seconds is not None
    assert 58 <= seconds <= 60


async def test_a_server_that_is_down_is_not_buried_under_retries() -> None:
    """A burst, and then a share of the requests."""
    upstream = Upstream(up=[503])
    app, _ = behind("http://up", upstream, retry=Retry(attempts=3, backoff=0, longest=0, budget=0.1))
    for _ in range(100):
        await drive(app, http_scope())
    assert BURST <= len(upstream.requests) - 100 <= BURST + 100 * 0.1


def test_a_budget_is_not_saved_for_ever() -> None:
    budget = Budget(1)
    for _ in range(1000):
        budget.earn()
    assert [budget.spend() for _ in range(BURST + 1)] == [True] * BURST + [False]


async def test_the_total_ends_the_waiting() -> None:
    upstream = Upstream(up=[503])
    app, _ = behind("http://up", upstream, retry=Retry(backoff=60, longest=60), timeouts=Timeouts(total=0.05))
    assert (await drive(app, http_scope())).status == 504


async def test_a_client_that_leaves_ends_the_waiting() -> None:
    upstream = Upstream(up=[503])
    app, recorder = behind("http://up", upstream, retry=Retry(backoff=60, longest=60))
    left = asyncio.Event()
    first = True

    async def receive() -> dict[str, Any]:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request"}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError

    asyncio.get_running_loop().call_later(0.02, left.set)
    await app(http_scope(), receive, send)
    assert (recorder.last.error, len(upstream.requests)) == ("client disconnected", 1)


# Several endpoints.

TWO = ["http://a:1/api", "http://b:2/api"]

ELSEWHERE: dict[str, tuple[str, Answer, list[str], int]] = {
    "a GET that could not be sent": ("GET", CONNECT, ["a", "b"], 200),
    "a POST that could not be sent": ("POST", CONNECT, ["a", "b"], 200),
    "a POST that could not be sent in time": ("POST", SLOW_CONNECT, ["a", "b"], 200),
    "a POST for which there was no connection": ("POST", FULL, ["a", "b"], 200),
    "not a POST whose connection broke": ("POST", LOST, ["a"], 502),
    "not a GET whose connection broke, unless retries are asked for": ("GET", LOST, ["a"], 502),
    "not a POST that met a 503": ("POST", 503, ["a"], 503),
}


@pytest.mark.parametrize(("method", "answer", "asked", "status"), ELSEWHERE.values(), ids=ELSEWHERE)
async def test_another_endpoint_gets(method: str, answer: Answer, asked: list[str], status: int) -> None:
    upstream = Upstream(a=[answer])
    app, recorder = behind(TWO, upstream)
    assert (await drive(app, http_scope(method, "/x"), body=b"b")).status == status
    assert upstream.asked == asked
    assert recorder.last.endpoint == {"a": "a:1", "b": "b:2"}[asked[-1]]


async def test_a_retry_goes_to_another_endpoint_first() -> None:
    upstream = Upstream(a=[503], b=[503])
    app, recorder = behind(TWO, upstream, retry=Retry(attempts=3, backoff=0, longest=0))
    assert (await drive(app, http_scope())).status == 503
    assert upstream.asked == ["a", "b", "a", "b"]
    assert [attempt.endpoint for attempt in recorder.last.attempts] == ["a:1", "b:2", "a:1", "b:2"]


async def test_each_endpoint_is_sent_the_request_as_its_own() -> None:
    """Its own name as Host, unless the client's is preserved; the same path, byte for byte."""
    for preserve, hosts in ((False, ["a:1", "b:2"]), (True, ["www.example.com", "www.example.com"])):
        upstream = Upstream(a=[CONNECT])
        app, _ = behind(TWO, upstream, preserve_host=preserve)
        await drive(app, http_scope("GET", "/%61?q=%41", host="www.example.com", headers={"x-mine": "1"}))
        assert [request.headers.raw for request in upstream.requests] == [
            [(b"host", hosts[0].encode()), (b"x-mine", b"1")],
            [(b"host", hosts[1].encode()), (b"x-mine", b"1"), (b"x-retry-attempt", b"1")],
        ]
        assert [request.extensions["target"] for request in upstream.requests] == [b"/api/%61?q=%41"] * 2
        assert [request.url.netloc for request in upstream.requests] == [b"a:1", b"b:2"]


async def test_a_host_that_the_route_rewrites_is_every_endpoints() -> None:
    upstream = Upstream(a=[CONNECT])
    backend = HTTPBackend(TWO, transport=upstream)
    app = create_gateway(Route("/", backend, filters=[Rewrite(host="www.example.com")]), observe=[Recorder()])
    assert (await drive(app, http_scope("GET", "/x"))).status == 200
    assert [request.headers["host"] for request in upstream.requests] == ["www.example.com"] * 2
    assert upstream.asked == ["a", "b"]


async def test_all_are_down() -> None:
    """Each is asked once, and the last one's failure is the answer."""
    upstream = Upstream(a=[CONNECT], b=[LATE])
    app, _ = behind(TWO, upstream)
    assert (await drive(app, http_scope())).status == 504
    assert upstream.asked == ["a", "b"]


def test_shares_are_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHANCE, random.Random(7))
    one, two, spare = Endpoint("http://a", weight=3), Endpoint("http://b"), Endpoint("http://c", weight=0)

    async def first() -> Counter[str]:
        return Counter(in_turn([spare, one, two])[0].address for _ in range(4000))

    counted = asyncio.run(first())
    assert counted["c:80"] == 0
    assert 2800 < counted["a:80"] < 3200


# Health.


class Clock:
    """The loop's time, as a test sets it."""

    now = 1000.0


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    time = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.now, raising=False)
    return time


async def test_an_endpoint_that_fails_in_a_row_rests_and_then_is_asked_again(clock: Clock) -> None:
    """Each time for twice as long, until it has answered well."""
    health = Health(failures=3, rest=3, longest=10)
    one = Endpoint("http://a")

    def fails(times: int) -> bool:
        for _ in range(times):
            one.failed(health)
        return one.rests()

    assert not fails(2)
    one.answered()
    assert not fails(2)
    assert fails(1)
    for rest in (3, 6, 10, 10):
        assert fails(5)  # by requests that were on their way: they change nothing
        clock.now += rest - 0.1
        assert one.rests()
        clock.now += 0.2
        assert not one.rests()
        assert fails(1)  # once is enough now
    clock.now += 11
    one.answered()
    assert not fails(2)
    assert fails(1)
    clock.now += 3.1
    assert not one.rests()


async def test_an_endpoint_rests_for_as_long_as_it_says(clock: Clock) -> None:
    """At once, and within bounds."""
    one, two = Endpoint("http://a"), Endpoint("http://b")
    one.failed(Health(), retry_after=20)
    two.failed(Health(), retry_after=86400)
    clock.now += 19
    assert one.rests()
    clock.now += 2
    assert not one.rests()
    assert two.rests()
    clock.now += 40
    assert not two.rests()


@pytest.mark.parametrize("answer", [CONNECT, SLOW_CONNECT, LOST, LATE, 502, 503, 504], ids=str)
async def test_who_rests_is_asked_last(answer: Answer) -> None:
    upstream = Upstream(a=[answer])
    app, _ = behind(TWO, upstream, health=Health(failures=2))
    for _ in range(2):
        await drive(app, http_scope())
    upstream.requests.clear()
    for _ in range(20):
        assert (await drive(app, http_scope())).status == 200
    assert set(upstream.asked) == {"b"}


@pytest.mark.parametrize("answer", [200, 404, 429, 500, KeyError("bug")], ids=str)
async def test_what_speaks_against_no_endpoint(answer: Answer) -> None:
    upstream = Upstream(a=[answer])
    app, _ = behind(TWO, upstream, health=Health(failures=1))
    for _ in range(3):
        await drive(app, http_scope())
    assert upstream.asked == ["a"] * 3


async def test_when_all_rest_all_are_asked() -> None:
    """There is nobody better; and the one that answers is well again."""
    upstream = Upstream(a=[CONNECT, CONNECT, 200], b=[CONNECT])
    app, _ = behind(TWO, upstream, health=Health(failures=1))
    assert (await drive(app, http_scope())).status == 503
    assert upstream.asked == ["a", "b"]
    assert (await drive(app, http_scope())).status == 503
    assert (await drive(app, http_scope())).status == 200
    upstream.requests.clear()
    await drive(app, http_scope())
    assert upstream.asked == ["a"]


async def test_a_spare_is_asked_when_the_others_rest() -> None:
    upstream = Upstream(a=[503])
    endpoints = [Endpoint("http://spare", weight=0), Endpoint("http://a")]
    app, _ = behind(endpoints, upstream, health=Health(failures=1))
    assert (await drive(app, http_scope())).status == 503
    assert (await drive(app, http_scope())).status == 200
    assert upstream.asked == ["a", "spare"]


# The other kinds of backends.


async def test_the_cards_of_every_endpoint_are_rewritten() -> None:
    card = {"name": "x", "supportedInterfaces": [{"url": "http://b:2/api", "protocolBinding": "JSONRPC"}]}
    upstream = Upstream(a=[httpx.Response(200, json=card)])
    backend = A2ABackend(TWO, transport=upstream)
    app = create_gateway(Route("/agent", backend), observe=[Recorder()], public_url="https://gateway.example")
    exchange = await drive(app, http_scope("GET", "/agent/.well-known/agent-card.json"))
    assert "https://gateway.example/agent" in exchange.text
    assert "b:2" not in exchange.text


LIST = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
MCP_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


async def post(app: ASGIApp, session: str | None = None) -> Exchange:
    headers = MCP_HEADERS | ({} if session is None else {"mcp-session-id": session})
    return await drive(app, http_scope("POST", "/mcp", headers=headers), body=LIST)


def answer_with_session(host: str) -> httpx.Response:
    body = {"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}
    return httpx.Response(200, json=body, headers={"mcp-session-id": f"session-of-{host}"})


class Sessions(Upstream):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await super().handle_async_request(request)
        return answer_with_session(request.url.host)


KEY = Secret("k" * 40)


def mcp(upstream: httpx.AsyncBaseTransport, urls: Any, **options: Any) -> ASGIApp:
    backend = MCPBackend(urls, session_key=KEY, transport=upstream, **options)
    return create_gateway(Route("/mcp", backend), observe=[Recorder()])


async def test_an_mcp_session_stays_where_it_was_opened() -> None:
    """On every replica of the gateway, in whatever order it has the endpoints; the server sees its own id."""
    upstream = Sessions(a=[CONNECT, 200])
    first = mcp(upstream, ["http://a/mcp", "http://b/mcp"])
    session = (await post(first)).headers["mcp-session-id"]
    assert upstream.asked == ["a", "b"]
    other = mcp(upstream, ["http://c/mcp", "http://b/mcp", "http://a/mcp"])
    for app in (first, other, first):
        exchange = await post(app, session)
        assert (exchange.status, exchange.headers["mcp-session-id"]) == (200, session)
        assert upstream.asked[-1] == "b"
        assert upstream.requests[-1].headers["mcp-session-id"] == "session-of-b"


async def test_an_mcp_session_whose_endpoint_is_gone_is_not_found() -> None:
    """Clients then open another; no other endpoint is asked about it, not even when its own is down."""
    upstream = Sessions(a=[200, CONNECT])
    session = (await post(mcp(upstream, ["http://a/mcp", "http://b/mcp"]))).headers["mcp-session-id"]
    exchange = await post(mcp(upstream, ["http://b/mcp", "http://c/mcp"]), session)
    assert exchange.status == 404
    assert upstream.asked == ["a"]
    assert (await post(mcp(upstream, ["http://a/mcp", "http://b/mcp"]), session)).status == 503
    assert upstream.asked == ["a", "a"]


async def test_an_mcp_session_id_that_is_made_up_reaches_nobody() -> None:
    upstream = Sessions()
    assert (await post(mcp(upstream, ["http://a/mcp", "http://b/mcp"]), "session-of-a")).status == 404
    assert upstream.asked == []


async def test_an_answer_with_two_mcp_sessions_has_none() -> None:
    headers = [("mcp-session-id", "one"), ("mcp-session-id", "two"), ("content-type", "application/json")]
    upstream = Upstream(a=[httpx.Response(200, headers=headers, content=b"{}")])
    assert (await post(mcp(upstream, ["http://a/mcp", "http://b/mcp"]))).status == 502


async def test_one_mcp_server_has_its_session_ids_as_they_are() -> None:
    """So that nobody's sessions end when a gateway gets a retry."""
    upstream = Sessions(a=[CONNECT, 200])
    app = mcp(upstream, "http://a/mcp", retry=AT_ONCE)
    session = (await post(app)).headers["mcp-session-id"]
    await post(app, session)
    assert upstream.requests[-1].headers["mcp-session-id"] == "session-of-a"
    assert upstream.asked == ["a", "a", "a"]


async def test_a_question_to_a_model_is_asked_again_when_that_is_asked_for() -> None:
    """After every provider has been asked."""
    upstream = Upstream(a=[429, httpx.Response(200, json={"model": "m"})], b=[LATE])
    retry = Retry(methods=["POST"], statuses=[429], backoff=0, longest=0)
    backend = LLMBackend([Provider("http://a/v1"), Provider("http://b/v1")], transport=upstream, retry=retry)
    scope = http_scope("POST", "/v1/chat/completions", headers={"content-type": "application/json"})
    gate = Gate(backend.app, observe=[Recorder()], protocol=backend.protocol)
    assert (await drive(gate, scope, body=b'{"model": "m"}')).status == 200
    assert upstream.asked == ["a", "b", "a"]


# With real connections.


async def test_a_server_that_is_down_and_one_that_is_not() -> None:
    async with serving(answering(OK)) as gone:
        pass
    async with serving(answering(OK)) as alive:
        recorder = Recorder()
        backend = HTTPBackend([gone.origin, Endpoint(alive.origin, weight=1)])
        app = Gate(backend.app, observe=[recorder])
        for _ in range(5):
            assert (await drive(app, http_scope("POST"), body=[b"in", b"pieces"])).text == "ok"
        await backend.aclose()
    assert all(record.endpoint == alive.origin.removeprefix("http://") for record in recorder.records)


def stuttering(*scripts: Callable[[Peer], Awaitable[None]]) -> Script:
    """One script for each connection, in turn."""
    waiting = [*scripts]

    async def script(peer: Peer) -> None:
        await waiting.pop(0)(peer)

    return script


async def hangs_up(peer: Peer) -> None:
    await peer.head()
    peer.reset()


async def test_a_connection_that_breaks_before_the_answer() -> None:
    for method, status in (("GET", 200), ("POST", 502)):
        async with serving(stuttering(hangs_up, answering(OK))) as server:
            backend = HTTPBackend(server.origin, retry=AT_ONCE)
            exchange = await drive(Gate(backend.app, observe=[Recorder()]), http_scope(method))
            await backend.aclose()
        assert exchange.status == status


# Faults.

FAULTS: dict[str, tuple[Callable[[], object], list[str]]] = {
    "no endpoint": (lambda: HTTPBackend([]), ["a backend has a URL, or a list of endpoints"]),
    "one twice": (
        lambda: HTTPBackend(["http://a", Endpoint("http://A:80/")]),
        ["an endpoint is listed twice: give it a weight"],
    ),
    "several paths": (
        lambda: HTTPBackend(["http://a/x", "http://b/y"]),
        ["the endpoints of a backend have one path: each can stand in for another"],
    ),
    "no URLs": (
        lambda: HTTPBackend(["b", "ftp://c"]),
        ["an upstream is an http or https URL with a host, such as http://httpbin:8000"] * 2,
    ),
    "no weight": (lambda: Endpoint("http://a", weight=-1), ["a: a weight is a number, 0 or more"]),
    "all of a health": (
        lambda: Health(failures=0, rest=9, longest=3, statuses=[200]),
        [
            "health: failures is a number, 1 or more",
            "health: rest and longest are seconds, and longest is not less",
            "health: statuses are errors, 400 to 599",
        ],
    ),
    "all of a retry": (
        lambda: Retry(attempts=0, statuses=[True], methods="GET", backoff=2, longest=1, budget=1.5),
        [
            "retry: attempts is a number, 1 to 10",
            "retry: statuses are errors, 400 to 599",
            "retry: methods is a list of names in capitals",
            "retry: backoff and longest are seconds, and longest is not less",
            "retry: budget is a share of the requests, 0 to 1",
        ],
    ),
}


@pytest.mark.parametrize(("make", "faults"), FAULTS.values(), ids=FAULTS)
def test_faults(make: Callable[[], object], faults: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert [*caught.value.faults] == faults


def test_what_they_look_like() -> None:
    assert repr(HTTPBackend("http://a:1")) == "HTTPBackend('http://a:1')"
    assert repr(HTTPBackend(["http://a:1", Endpoint("http://b", weight=0)])) == (
        "HTTPBackend([Endpoint('http://a:1', weight=1), Endpoint('http://b', weight=0)])"
    )
    assert repr(A2ABackend(["http://a:1"])) == "A2ABackend('http://a:1')"
