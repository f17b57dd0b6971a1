"""RateLimit in a Gate: what is counted and what is not, what clients are told, and how it is written."""

import json
from typing import Any

import pytest

from agentgate import (
    A2A,
    LLM,
    APIKeyAuth,
    Authorizer,
    Call,
    CELRules,
    ConfigurationError,
    Decision,
    Edge,
    Gate,
    HTTPBackend,
    Names,
    RateLimit,
    Reason,
    Request,
    Route,
    StaticKeys,
    all_of,
    allow,
    any_of,
    authorizer,
    create_gateway,
    deny,
    new_key,
    shadow,
)
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

ALICE, BOB = new_key(), new_key()
KEYS = APIKeyAuth(StaticKeys({"alice": ALICE, "bob": BOB}))
JSON = {"content-type": "application/json"}


class App:
    """Answers `ok`, with a limit of its own, and counts its calls."""

    calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        headers = [(b"content-length", b"2"), (b"X-RateLimit-Limit", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


def scope(key: str | None = ALICE, target: str = "/", **more: Any) -> dict[str, Any]:
    headers = more.pop("headers", {}) | ({} if key is None else {"authorization": f"Bearer {key}"})
    return http_scope(more.pop("method", "GET"), target, headers=headers, **more)


async def statuses(gate: Any, *scopes: dict[str, Any], body: bytes = b"") -> list[int | None]:
    return [(await drive(gate, one, body=body)).status for one in scopes]


def a_day(requests: int = 1, **options: Any) -> RateLimit:
    return RateLimit(requests=requests, per="day", **options)


# -- what clients are told -------------------------------------------------------------------------------------------


async def test_the_budget_is_told_with_every_answer_and_when_it_is_spent() -> None:
    app, recorder = App(), Recorder()
    limit = RateLimit(requests=2, per="minute")
    gate = Gate(app, authenticate=[KEYS], authorize=[limit], observe=[recorder])
    for remaining in ("1", "0"):
        exchange = await drive(gate, scope())
        assert exchange.status == 200
        told = {name: value for name, value in exchange.headers.items() if name.startswith("x-ratelimit")}
        # The app's own, which is about something else, does not stand beside ours.
        assert told == {
            "x-ratelimit-limit": "2",
            "x-ratelimit-remaining": remaining,
            "x-ratelimit-reset": "60",
        }
    exchange = await drive(gate, scope())
    assert (exchange.status, exchange.text, app.calls) == (429, "rate limit exceeded", 2)
    assert exchange.headers == {
        "x-ratelimit-limit": "2",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "60",
        "retry-after": "60",
        "content-type": "text/plain",
        "content-length": "19",
    }
    refusal = recorder.last.refusal
    assert refusal is not None
    assert (refusal.reason, refusal.code, refusal.rule) == (
        Reason.RATE_LIMIT,
        "rate_limit_exceeded",
        "2 requests per minute",
    )
    assert await statuses(gate, scope(BOB)) == [200]


@pytest.mark.parametrize(("first", "second"), [(2, 9), (9, 2)])
@pytest.mark.parametrize("nested", [False, True])
async def test_of_several_limits_the_tightest_is_told(first: int, second: int, nested: bool) -> None:
    one, other = a_day(first), RateLimit(requests=second, per="hour")
    gate = Gate(Gate(App(), authorize=[other]), authorize=[one]) if nested else Gate(App(), authorize=[one, other])
    exchange = await drive(gate, scope())
    assert (exchange.headers["x-ratelimit-limit"], exchange.headers["x-ratelimit-remaining"]) == ("2", "1")
    assert [name for name, _ in exchange.messages[0]["headers"]].count(b"x-ratelimit-limit") == 1


async def test_all_of_passes_the_headers_on() -> None:
    yes = authorizer(lambda request: allow())
    exchange = await drive(Gate(App(), authorize=[all_of(a_day(5), yes)]), scope())
    assert exchange.headers["x-ratelimit-remaining"] == "4"


async def test_a_policy_of_ones_own_may_set_headers_on_the_answer() -> None:
    noted = authorizer(lambda request: allow(headers=((b"x-plan", b"free"),)))
    exchange = await drive(Gate(App(), authorize=[noted, a_day(5)]), scope())
    assert (exchange.headers["x-plan"], exchange.headers["x-ratelimit-remaining"]) == ("free", "4")
    exchange = await drive(Gate(App(), authorize=[noted, authorizer(lambda request: deny())]), scope())
    assert "x-plan" not in exchange.headers


async def test_a_refusal_further_in_has_its_own_headers_alone() -> None:
    gate = Gate(Gate(App(), authorize=[a_day(1)]), authorize=[a_day(5)])
    await drive(gate, scope())
    exchange = await drive(gate, scope())
    assert (exchange.status, exchange.headers["x-ratelimit-limit"]) == (429, "1")
    assert len(exchange.messages[0]["headers"]) == len(exchange.headers)


# -- what is counted -------------------------------------------------------------------------------------------------


async def test_a_request_that_somebody_else_refuses_is_not_counted() -> None:
    limit = a_day(1)
    rules = CELRules(allow=['request.path == "/open"'])
    gate = Gate(App(), authenticate=[KEYS], authorize=[rules, limit])
    refused = [scope(), scope(), scope(new_key()), scope(None), scope(target="/a/../b")]
    assert await statuses(gate, *refused) == [403, 403, 401, 401, 400]
    assert await statuses(gate, scope(target="/open"), scope(target="/open")) == [200, 429]


async def test_nobody_spends_the_budget_of_another() -> None:
    gate = Gate(App(), authenticate=[KEYS], authorize=[a_day(1)], mode="permissive")
    peers = [scope(None, client=(f"10.0.0.{n}", 1)) for n in (1, 1, 2)]
    assert await statuses(gate, *peers) == [200, 429, 200]
    assert await statuses(gate, scope(ALICE), scope(BOB), scope(ALICE)) == [200, 200, 429]
    assert await statuses(gate, scope(new_key(), client=("10.0.0.1", 9))) == [429]  # a bad key is nobody's


async def test_forwarded_for_chooses_no_bucket_unless_a_trusted_proxy_says_it() -> None:
    gate = Gate(App(), authorize=[a_day(1)])
    claims = [scope(None, headers={"x-forwarded-for": f"192.0.2.{n}", "x-real-ip": f"192.0.2.{n}"}) for n in range(3)]
    assert await statuses(gate, *claims) == [200, 429, 429]
    trusting = Gate(App(), authorize=[a_day(1)], edge=Edge(trusted_proxies=["127.0.0.1"]))
    assert await statuses(trusting, *claims) == [200, 200, 200]
    assert await statuses(trusting, scope(None, headers={"x-forwarded-for": "203.0.113.9, 192.0.2.1"})) == [429]


async def test_what_merely_asks_spends_nothing() -> None:
    app, limit = App(), a_day(1)
    gate = Gate(app, authenticate=[KEYS], authorize=[limit])
    for _ in range(3):
        assert gate.explain(Request.http(api_key={"name": "alice"}))[-1].effect == "allow"
        assert gate.explain(Request.http(api_key={"name": "alice"}), every=True)[-1].effect == "allow"
        assert limit.check(Request.http()).effect == "allow"
    assert await statuses(gate, scope(), scope()) == [200, 429]
    assert gate.explain(Request.http(api_key={"name": "alice"}))[-1].effect == "allow"


def test_what_could_not_be_counted_is_explained() -> None:
    gate = Gate(App(), authorize=[a_day(key="tool")])
    assert gate.explain(Request.http())[-1].detail == "no protocol is read here that would tell which tool is called"
    assert gate.explain(Request.prompt("p"))[-1].effect == "allow"


async def test_one_request_is_counted_once_wherever_the_limit_stands() -> None:
    limit = a_day(2)
    gate = Gate(App(), authorize=[limit, limit, any_of(limit, limit), all_of(limit)])
    assert await statuses(gate, scope(), scope(), scope()) == [200, 200, 429]
    limit = a_day(2)
    gate = Gate(Gate(App(), authorize=[limit]), authorize=[limit])
    assert await statuses(gate, scope(), scope(), scope()) == [200, 200, 429]

    async def rewriting(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "path": "/b", "raw_path": b"/b"}, receive, send)

    limit = a_day(2)
    inner, outer = Gate(App(), authorize=[limit]), Gate(rewriting, authorize=[limit])
    assert await statuses(outer, scope(), scope(), scope()) == [200, 200, 429]


async def test_a_shadow_counts_apart_and_tells_nobody() -> None:
    recorder = Recorder()
    gate = Gate(App(), authorize=[shadow(a_day(1)), a_day(3)], observe=[recorder])
    assert await statuses(gate, scope(), scope()) == [200, 200]
    assert [(d.effect, d.enforced) for d in recorder.last.trail] == [("deny", False), ("allow", True)]
    assert recorder.last.added_headers[0] == (b"x-ratelimit-limit", b"3")
    assert await statuses(gate, scope(), scope()) == [200, 429]


async def test_any_of_lets_pass_whom_another_rule_lets_pass_and_counts_them_all_the_same() -> None:
    limit = a_day(1)
    gate = Gate(App(), authenticate=[KEYS], authorize=[any_of(limit, CELRules(allow=['apiKey.plan == "gold"']))])
    assert await statuses(gate, scope(), scope()) == [200, 429]


async def test_a_policy_that_forgets_to_prepare_its_limit_lets_nobody_pass() -> None:
    class Wrapper(Authorizer):
        inner = a_day(100)

        def check(self, request: Request) -> Decision:
            return self.inner.check(request)

    recorder = Recorder()
    assert await statuses(Gate(App(), authorize=[Wrapper()], observe=[recorder]), scope()) == [500]
    assert recorder.last.refusal is not None
    assert recorder.last.refusal.detail == "RateLimit: check was called without prepare"


async def test_a_limit_can_be_asked_by_itself() -> None:
    limit, request = a_day(1), Request.http()
    await limit.prepare(request)
    await limit.prepare(request)
    assert limit.check(request).effect == "allow"
    again = Request.http()
    await limit.prepare(again)
    assert limit.check(again).status == 429


async def test_a_websocket_is_counted_too() -> None:
    gate = Gate(App(), authorize=[a_day(1)])
    await drive(gate, scope())
    exchange = await drive(gate, {**scope(), "type": "websocket", "extensions": {"websocket.http.response": {}}})
    assert (exchange.status, exchange.text) == (429, "rate limit exceeded")


async def test_routes_have_budgets_of_their_own() -> None:
    backend = HTTPBackend("http://127.0.0.1:9")  # nobody is there
    gateway = create_gateway(Route("/a", backend, name="a"), Route("/b", backend), authorize=[a_day(key="route")])
    found = await statuses(gateway, scope(target="/a"), scope(target="/b"), scope(target="/a"), scope(target="/b"))
    assert (found[2:], 429 in found[:2]) == ([429, 429], False)
    assert gateway.explain(Request.http("GET", "/a"))[-1].effect == "allow"
    await gateway.aclose()


async def test_a_key_that_fails_denies() -> None:
    recorder = Recorder()
    gate = Gate(App(), authorize=[a_day(9, key="jwt.sub")], observe=[recorder])
    assert await statuses(gate, scope()) == [403]
    assert recorder.last.refusal is not None
    assert recorder.last.refusal.detail == "the key failed at 1:1: no_such_key"
    assert recorder.last.refusal.reason is Reason.RATE_LIMIT


async def test_a_key_of_the_body() -> None:
    gate = Gate(App(), authorize=[a_day(key="json(request.body).tenant")])
    for body, expected in ((b'{"tenant": "a"}', [200, 429]), (b'{"tenant": "b"}', [200, 429]), (b"{}", [403, 403])):
        posted = scope(method="POST", headers=JSON)
        assert await statuses(gate, posted, posted, body=body) == expected


# -- protocols -------------------------------------------------------------------------------------------------------


def rpc(method: str, params: Any = None, id: Any = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}).encode()


class Tools:
    """An MCP server with two tools; whatever is asked, it lists them."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = rpc("x")
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "a"}, {"name": "b"}]}}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


MCP_HEADERS = {**JSON, "accept": "application/json, text/event-stream"}


def mcp_call(tool: str) -> tuple[dict[str, Any], bytes]:
    return http_scope("POST", "/mcp", headers=MCP_HEADERS), rpc("tools/call", {"name": tool}, 7)


async def test_each_tool_has_a_budget_and_lists_show_all_of_them() -> None:
    limit = a_day(1, key=["principal", "tool"])
    gate = Gate(Tools(), authorize=[limit], protocol="mcp")
    listing = http_scope("POST", "/mcp", headers=MCP_HEADERS)
    for _ in range(3):
        exchange = await drive(gate, listing, body=rpc("tools/list"))
        assert [tool["name"] for tool in json.loads(exchange.body)["result"]["tools"]] == ["a", "b"]
        assert "x-ratelimit-limit" not in exchange.headers  # it was not counted
    for tool in ("a", "b"):
        one, body = mcp_call(tool)
        exchange = await drive(gate, one, body=body)
        assert (exchange.status, exchange.headers["x-ratelimit-remaining"]) == (200, "0")
        exchange = await drive(gate, one, body=body)
        assert exchange.status == 200  # clients up to 2025-11-25 would take a 429 for the end of their connection
        assert int(exchange.headers["retry-after"]) <= 86401
        assert json.loads(exchange.body) == {
            "jsonrpc": "2.0",
            "id": 7,
            "error": {"code": -32600, "message": "rate limit exceeded"},
        }


async def test_a_list_is_one_request_however_many_items_it_has() -> None:
    gate = Gate(Tools(), authorize=[a_day(2)], protocol="mcp")
    listing = http_scope("POST", "/mcp", headers=MCP_HEADERS)
    found = [json.loads((await drive(gate, listing, body=rpc("tools/list"))).body) for _ in range(3)]
    assert [len(one["result"]["tools"]) if "result" in one else one["error"]["message"] for one in found] == [
        2,
        2,
        "rate limit exceeded",
    ]


async def test_an_agent_s_call_is_refused_as_its_clients_know_it() -> None:
    gate = Gate(App(), authorize=[a_day(1)], protocol=A2A())
    one = http_scope("POST", "/", headers=JSON)
    await drive(gate, one, body=rpc("GetTask", {"id": "t"}))
    exchange = await drive(gate, one, body=rpc("GetTask", {"id": "t"}, 5))
    assert (exchange.status, json.loads(exchange.body)["error"]["message"]) == (429, "rate limit exceeded")
    assert json.loads(exchange.body)["id"] == 5
    exchange = await drive(gate, http_scope("GET", "/tasks/t"))
    assert json.loads(exchange.body)["error"]["status"] == "RESOURCE_EXHAUSTED"


def chat(model: str = "m", **more: Any) -> tuple[dict[str, Any], bytes]:
    return http_scope("POST", "/v1/chat/completions", headers=JSON), json.dumps({"model": model, **more}).encode()


async def test_a_model_s_budget_and_how_its_sdk_is_told() -> None:
    gate = Gate(App(), authorize=[a_day(1, key="model")], protocol=LLM())
    for model in ("m", "n"):
        one, body = chat(model)
        assert await statuses(gate, one, body=body) == [200]
    one, body = chat("m")
    exchange = await drive(gate, one, body=body)
    assert (exchange.status, exchange.headers["content-type"]) == (429, "application/json")
    assert json.loads(exchange.body)["error"]["code"] == "rate_limit_exceeded"
    assert "x-should-retry" not in exchange.headers  # it may, later
    claude = http_scope("POST", "/v1/messages", headers=JSON)
    exchange = await drive(gate, claude, body=body)
    assert json.loads(exchange.body)["error"]["type"] == "rate_limit_error"


async def test_what_is_not_known_to_ask_a_model_is_counted_together() -> None:
    gate = Gate(App(), authorize=[a_day(1, key="model")], protocol=LLM())
    strange = [http_scope("POST", f"/v1/new/{n}", headers=JSON) for n in range(2)]
    assert await statuses(gate, *strange) == [200, 429]


# -- configuration ---------------------------------------------------------------------------------------------------

ONE_OF = "a limit is of requests or of tokens: give one of them"
WHOLE = "requests is a whole number between 1 and 1000000000000"
PER = "per is one of second, minute, hour, day, or a whole number of seconds"
NO_TIMES: list[Any] = ["fortnight", "", 0, -1, 0.5, True, None, [], float("inf"), 10**9]


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ({"per": "day"}, [ONE_OF]),
        ({"requests": 1, "tokens": 1, "per": "day"}, [ONE_OF]),
        *(({"requests": bad, "per": "day"}, [WHOLE]) for bad in (0, -1, 1.0, 1e9, float("nan"), True, "9", 10**13)),
        ({"tokens": 0, "per": "day"}, ["tokens is a whole number between 1 and 1000000000000"]),
        *(({"requests": 1, "per": bad}, [PER]) for bad in NO_TIMES),
        ({"requests": 1, "per": 1, "name": ""}, ["name is some printable text"]),
        ({"requests": 1, "per": 1, "name": 7}, ["name is some printable text"]),
        ({"requests": 1, "per": 1, "name": "a\nb"}, ["name is some printable text"]),
        ({"requests": 1, "per": 1, "store": "redis://cache"}, ["store is a RedisStore"]),
        ({"requests": 1, "per": 1, "on_store_error": "ignore"}, ["on_store_error is one of deny, allow"]),
        ({"requests": 0, "per": 0, "name": "", "key": 7}, [WHOLE, PER, "name is some printable text", None]),
    ],
)
def test_configuration_that_is_wrong(options: Any, faults: list[str | None]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RateLimit(**options)
    assert len(caught.value.faults) == len(faults)
    for found, expected in zip(caught.value.faults, faults, strict=True):
        assert expected is None or found == expected


def test_how_it_looks() -> None:
    assert repr(a_day(5)) == "RateLimit('5 requests per day')"
    assert repr(RateLimit(tokens=5, per=90)) == "RateLimit('5 tokens per 90 seconds')"
    assert repr(RateLimit(tokens=5, per="second", name="burst")) == "RateLimit('burst')"
    assert a_day(5).names() == Names(policies=frozenset({"RateLimit"}), rules=frozenset({"5 requests per day"}))
    assert (a_day(5).limit, a_day(5).seconds, a_day(5).name) == (5, 86400, "RateLimit")


def test_a_provisional_call_of_its_own_is_counted_by_the_principal() -> None:
    limit = a_day(1)
    assert limit.check(Request.http(call=Call("mcp", "initialize", provisional=True))).effect == "allow"
