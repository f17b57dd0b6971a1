"""Whatever the targets do, each request has one answer, and no client gets what is another's."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgate import MCP, APIKeyAuth, CELRules, Gate, new_key
from agentgate.proxy.federation import app as app_module
from agentgate.proxy.federation import conversation, upstream
from agentgate.proxy.federation.app import Federation
from agentgate.testing import Recorder

from .targets import BROKEN, HEALTHY, LEGACY, MODERN, SLOW, TREACHEROUS, Client, Fake, federation, only

pytestmark = pytest.mark.anyio

ERAS = (MODERN, LEGACY, "2025-03-26")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a target that says nothing."""
    monkeypatch.setattr(upstream, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(conversation, "LIST_SECONDS", 1.0)


@asynccontextmanager
async def running(**fakes: Fake) -> AsyncIterator[Federation]:
    """A federation, of which nothing is left when the block ends."""
    before = tasks()
    app = federation(**fakes)
    try:
        yield app
    finally:
        await app.aclose()
    assert tasks() <= before
    assert [fake.sessions for fake in fakes.values() if fake.sessions] == []


def tasks() -> set[str]:
    """What runs, but for the one task that sse-starlette has in each event loop."""
    return {repr(task.get_coro()) for task in asyncio.all_tasks() if "sse_starlette" not in repr(task)}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens behind the answer."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def tools(answer: dict[str, Any]) -> list[str]:
    return [tool["name"] for tool in answer["result"]["tools"]]


def missing(answer: dict[str, Any]) -> list[str]:
    found: list[str] = answer["result"].get("_meta", {}).get("agentgate/unavailable", [])
    return found


async def fan_out(era: str, kinds: list[str]) -> None:
    fakes = {f"t{at}": Fake(kind) for at, kind in enumerate(kinds)}
    async with running(**fakes) as app:
        client = Client(app, era)
        opened = await client.open() if era != MODERN or kinds else {}
        reachable = [name for name, fake in fakes.items() if fake.kind not in BROKEN]
        if not reachable:
            assert opened["error"] == {"code": -32603, "message": "no target is available"}
            assert app._sessions == {}
            return
        assert missing(opened) == [name for name in fakes if name not in reachable]
        assert opened["result"]["capabilities"] == {"tools": {}}
        answer = await client.ask("tools/list", id="a")
        # "nonsense" has answered, with nothing; of "two answers", the first one counts.
        listed = [name for name in reachable if fakes[name].kind in (*HEALTHY, "two answers", "nonsense")]
        if not listed:
            assert answer["error"] == {"code": -32603, "message": "no target is available"}
        else:
            whole = len(fakes) > 1
            prefix = {name: f"{name}_" if whole else "" for name in listed}
            words = {"two answers": "first", **dict.fromkeys(HEALTHY, "echo")}
            assert tools(answer) == [
                prefix[name] + words[fakes[name].kind] for name in listed if fakes[name].kind in words
            ]
            assert missing(answer) == [name for name in fakes if name not in listed]
        for name, fake in fakes.items():
            shown = f"{name}_echo" if len(fakes) > 1 else "echo"
            answer = await client.ask("tools/call", {"name": shown, "arguments": {"n": None}}, id=7)
            if fake.kind in BROKEN:
                assert answer["error"] == {"code": -32603, "message": f"target {name} is not available"}
            else:
                assert json.loads(answer["result"]["content"][0]["text"]) == {"n": None}
        await client.close()


KINDS = [kind for kind in (*HEALTHY, *BROKEN, *TREACHEROUS) if kind not in SLOW]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", KINDS)
async def test_one_target_among_healthy_ones(kind: str, era: str) -> None:
    await fan_out(era, ["both", kind, "sessions"])


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", KINDS)
async def test_one_target_alone(kind: str, era: str) -> None:
    await fan_out(era, [kind])


@pytest.mark.parametrize("era", [MODERN, LEGACY])
@pytest.mark.parametrize("kind", SLOW)
async def test_nobody_waits_for_ever_for_the_others(kind: str, era: str, impatient: None) -> None:
    await fan_out(era, ["both", kind, "sessions"])


@given(st.sampled_from(ERAS), st.lists(st.sampled_from(KINDS), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
async def test_any_targets(era: str, kinds: list[str]) -> None:
    await fan_out(era, kinds)


async def test_what_goes_wrong_at_a_target_is_told_of_without_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with running(good=Fake(), bad=Fake("refused"), worse=Fake("an error")) as app:
        answer = await Client(app).ask("tools/list")
    assert "secret" not in json.dumps(answer)
    said = [record.getMessage() for record in caplog.records if record.name == "agentgate.mcp"]
    assert sorted(said) == ["target bad: ConnectError", "target worse: error -32603 to tools/list"]


async def test_a_target_that_is_down_is_not_tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Fake("refused")
    async with running(good=Fake(), bad=bad) as app:
        assert missing(await Client(app).ask("tools/list")) == ["bad"]
        bad.kind = "both"
        assert missing(await Client(app).ask("tools/list")) == ["bad"]
        monkeypatch.setattr(app._pools["bad"], "_down_until", 0.0)
        assert missing(await Client(app).ask("tools/list")) == []


@pytest.mark.parametrize("era", ERAS)
async def test_all_pages_are_found(era: str) -> None:
    fakes = {"a": Fake("both", (("1", "2"), ("3",), ("4",))), "b": Fake("sessions", (("5",),)), "c": Fake("refused")}
    async with running(**fakes) as app:
        client = Client(app, era)
        await client.open()
        found: list[str] = []
        params: dict[str, Any] = {}
        for _ in range(3):
            answer = await client.ask("tools/list", params)
            found += tools(answer)
            params = {"cursor": answer["result"].get("nextCursor")}
        assert found == ["a_1", "a_2", "b_5", "a_3", "a_4"]
        assert params == {"cursor": None}
        assert (await client.ask("tools/list", {"cursor": "x"}))["error"]["message"] == "Invalid cursor"
        await client.close()


@pytest.mark.parametrize("era", ERAS)
async def test_equal_ids_of_many_clients_never_cross(era: str) -> None:
    fakes = {"a": Fake("both"), "b": Fake("sessions"), "c": Fake("modern")}
    async with running(**fakes) as app:
        clients = [Client(app, era) for _ in range(20)]
        await asyncio.gather(*(client.open() for client in clients))

        async def use(client: Client, number: int) -> None:
            for target in "abc":
                params = {"name": f"{target}_echo", "arguments": {"me": number}}
                answer = await client.ask("tools/call", params, id=1)
                assert json.loads(answer["result"]["content"][0]["text"]) == {"me": number}

        await asyncio.gather(*(use(client, number) for number, client in enumerate(clients)))
        for client in clients:
            await client.close()


@pytest.mark.parametrize("again", [7, "7"])
async def test_an_id_is_not_used_twice_at_once(again: int | str) -> None:
    """The SDK keeps answers under the text of an id: the second request would take the first one's."""
    target = Fake("sessions")
    async with running(a=target) as app:
        client = Client(Gate(app, observe=[Recorder()], protocol=MCP()), LEGACY)
        await client.open()
        first = asyncio.create_task(client.send("tools/call", {"name": "wait"}, id=7))
        await target.waiting.wait()
        second = await client.send("tools/call", {"name": "echo"}, id=again)
        assert (second.status, b"under way" in second.body) == (400, True)
        assert only(await client.send("tools/call", {"name": "echo"}, id=8), 8)["result"]
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert only(await client.send("tools/call", {"name": "echo"}, id=again), again)["result"]


async def test_sessions_at_targets_belong_to_one_session_here() -> None:
    target = Fake("sessions")
    async with running(a=target) as app:
        one, two = Client(app, LEGACY), Client(app, LEGACY)
        await one.open()
        await two.open()
        assert one.session != two.session
        assert len(target.sessions) == 2
        used = [(await client.ask("tools/call", {"name": "echo"}))["result"]["session"] for client in (one, two, one)]
        assert used[0] == used[2] != used[1]
        assert {one.session, two.session}.isdisjoint(target.sessions)  # nobody learns of those
        await one.close()
        await until(lambda: target.sessions == {used[1]})
        assert (await one.send("tools/list")).status == 404
        await two.close()
        await until(lambda: not target.sessions)


async def test_no_cookie_is_kept() -> None:
    target = Fake("sessions")
    async with running(a=target) as app:
        client = Client(app, LEGACY)
        await client.open()
        await client.ask("tools/list")
        assert [headers.get("cookie") for _, headers, _ in target.asked] == [None] * len(target.asked)
        await client.close()


async def test_a_client_of_2026_07_28_has_a_session_for_its_request_alone() -> None:
    target = Fake("sessions")
    async with running(a=target) as app:
        for _ in range(2):
            assert "result" in await Client(app).ask("tools/call", {"name": "echo"})
            assert target.sessions == set()
        assert target.methods().count("initialize") == 2
        assert target.methods().count("server/discover") == 1  # it is known then


async def test_a_request_to_a_target_of_2026_07_28_is_one_request() -> None:
    target = Fake("modern")
    async with running(a=target) as app:
        for _ in range(3):
            await Client(app).ask("tools/call", {"name": "echo"})
        assert target.methods() == ["server/discover", "tools/call", "tools/call", "tools/call"]


async def test_a_lost_session_fails_one_call_and_is_opened_again() -> None:
    target = Fake("sessions")
    async with running(a=target) as app:
        client = Client(app, LEGACY)
        await client.open()
        target.sessions.clear()  # it was restarted
        assert (await client.ask("tools/call", {"name": "echo"}))["error"]["message"] == "target a is not available"
        assert "result" in await client.ask("tools/call", {"name": "echo"})
        await client.close()


async def test_there_are_so_many_sessions_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "MAX_SESSIONS", 2)
    async with running(a=Fake()) as app:
        clients = [Client(app, LEGACY) for _ in range(2)]
        for client in clients:
            await client.open()
        assert (await Client(app, LEGACY).send("initialize")).status == 503
        await clients[0].close()
        again = Client(app, LEGACY)
        await again.open()
        await again.close()
        await clients[1].close()


async def test_what_opens_no_session_holds_none() -> None:
    async with running(a=Fake("refused")) as app:
        for _ in range(3):
            answer = await Client(app, LEGACY).ask("initialize", {"protocolVersion": LEGACY})
            assert answer["error"]["message"] == "no target is available"
        assert (await Client(app, LEGACY).send("tools/list")).status == 400
        assert (await Client(app, LEGACY).send("x", http="GET")).status == 400
        assert app._sessions == {}


async def test_a_session_is_opened_once() -> None:
    async with running(a=Fake()) as app:
        client = Client(app, LEGACY)
        await client.open()
        assert (await client.ask("initialize", {"protocolVersion": LEGACY}))["error"][
            "message"
        ] == "the session is open"
        assert (await client.ask("ping"))["result"] == {}
        assert (await client.ask("tasks/list"))["error"]["code"] == -32601
        await client.close()


async def test_the_end_of_the_gateway_ends_all_sessions() -> None:
    target = Fake("sessions")
    async with running(a=target) as app:
        for _ in range(3):
            await Client(app, LEGACY).open()
        assert len(target.sessions) == 3
    # `running` has looked: none is left.


async def test_a_client_that_leaves_ends_its_call_and_its_session() -> None:
    for kind in ("modern", "sessions"):
        target = Fake(kind)
        async with running(a=target) as app:
            gone = asyncio.Event()
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "wait"}}
            call = asyncio.create_task(_until(gone, app, body))
            await target.waiting.wait()
            gone.set()
            assert await call == []
            assert target.cancelled == 1
            assert target.sessions == set()


async def _until(gone: asyncio.Event, app: Any, body: dict[str, Any]) -> list[Any]:
    """What is sent to a client of 2026-07-28 that leaves then."""
    from agentgate.testing import http_scope

    from .targets import META

    body["params"]["_meta"] = META
    waiting = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if waiting:
            return waiting.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(http_scope("POST", "/mcp", headers=[("mcp-protocol-version", MODERN)]), receive, send)
    return sent


@pytest.mark.parametrize(
    ("http", "body", "status", "code"),
    [
        ("GET", b"", 405, -32600),
        ("POST", b"{", 400, -32700),
        ("POST", b"[]", 400, -32600),
        ("POST", b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', 400, -32602),
        ("POST", b'{"jsonrpc":"2.0","id":1,"method":"nope","params":{"_meta":%s}}', 404, -32601),
    ],
)
async def test_what_is_no_request_of_2026_07_28(http: str, body: bytes, status: int, code: int) -> None:
    from agentgate.testing import drive, http_scope

    from .targets import META

    async with running(a=Fake()) as app:
        body = body.replace(b"%s", json.dumps(META).encode())
        exchange = await drive(app, http_scope(http, "/mcp", headers=[("mcp-protocol-version", MODERN)]), body=body)
    assert (exchange.status, json.loads(exchange.body)["error"]["code"]) == (status, code)


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_cannot_be_asked_is_not(era: str) -> None:
    async with running(a=Fake("sessions")) as app:
        client = Client(app, era)
        await client.open(sampling={})  # and that is all
        answer = await client.ask("tools/call", {"name": "ask"})
        told = json.loads(answer["result"]["content"][0]["text"])
        assert told["error"] == {"code": -32601, "message": "the client cannot be asked for this"}
        await client.close()


# Behind a Gate.

KEYS = {"alice": new_key(), "bob": new_key()}


class Keyed:
    """The federation behind a Gate, as one caller sees it."""

    def __init__(self, gate: Any, key: str) -> None:
        self.gate = gate
        self.key = key.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [*scope["headers"], (b"authorization", b"Bearer " + self.key)]
        await self.gate({**scope, "headers": headers}, receive, send)


async def test_a_session_is_one_callers_own() -> None:
    target = Fake("sessions")
    async with running(a=target, b=Fake()) as app:
        gate = Gate(app, protocol=MCP(targets=["a", "b"]), authenticate=[APIKeyAuth(KEYS)])
        alice, bob = (Client(Keyed(gate, key), LEGACY) for key in KEYS.values())
        await alice.open()
        bob.session = alice.session
        for method in ("POST", "GET", "DELETE"):
            assert (await bob.send("tools/list", http=method)).status == 404
        assert len(target.sessions) == 1
        assert tools(await alice.ask("tools/list")) == ["a_echo", "b_echo"]
        assert not any(headers.get("authorization") for _, headers, _ in target.asked)
        await alice.close()


@pytest.mark.parametrize("era", ERAS)
async def test_rules_are_kept_for_each_target(era: str) -> None:
    fakes = {"a": Fake("both", (("get", "drop"),)), "b": Fake("sessions", (("get", "drop"),))}
    rules = CELRules(allow=['mcp.tool.target == "a" && mcp.tool.name == "get"'])
    async with running(**fakes) as app:
        client = Client(Gate(app, protocol=MCP(targets=["a", "b"]), authorize=[rules]), era)
        await client.open()
        assert tools(await client.ask("tools/list")) == ["a_get"]
        assert "result" in await client.ask("tools/call", {"name": "a_get"})
        for name in ("a_drop", "b_get", "get", "c_get"):
            answer = await client.ask("tools/call", {"name": name})
            assert answer["error"] == {"code": -32602, "message": f"Unknown tool: {name}"}
        called = [
            params["name"] for fake in fakes.values() for method, _, params in fake.asked if method == "tools/call"
        ]
        assert called == ["get"]
        await client.close()
