"""Sessions belong to who opened them: to everybody else, their ids are ids of nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate import (
    MCP,
    APIKeyAuth,
    Authenticator,
    CELRules,
    ConfigurationError,
    Decision,
    Gate,
    Key,
    Principal,
    Request,
    Secret,
    abstain,
    allow,
    hash_key,
    new_key,
)
from agentgate.protocols.mcp.sessions import Sessions, fingerprint
from agentgate.testing import Exchange, Recorder

from .mcp_messages import Server, error_of, events, message, modern, send

pytestmark = pytest.mark.anyio

ALICE, ALICE_TOO, BOB = new_key(), new_key(), new_key()
KEYS = [Key("alice", hash_key(ALICE)), Key("alice", hash_key(ALICE_TOO)), Key("bob", hash_key(BOB))]
UPSTREAM_ID = "0a1b2c3d-upstream"
SHARED = Secret("k" * 40)


def server() -> Server:
    return Server(
        events({"jsonrpc": "2.0", "id": 1, "result": {}}),
        "text/event-stream",
        headers=[("mcp-session-id", UPSTREAM_ID)],
    )


def gate(app: Any, protocol: MCP | None = None, **options: Any) -> Gate:
    return Gate(
        app, authenticate=[APIKeyAuth(KEYS)], mode="optional", protocol=protocol or MCP(),
        **{"authorize": [CELRules(allow=["true"])], **options},
    )  # fmt: skip


def as_(key: str | None, session: str | None = None, **more: str) -> dict[str, str]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    if session is not None:
        headers["mcp-session-id"] = session
    return {**headers, **more}


async def opened(app: Gate, key: str | None) -> str:
    exchange = await send(app, message("initialize", {}), as_(key))
    assert exchange.status == 200
    return exchange.headers["mcp-session-id"]


@pytest.mark.parametrize("rules", [[CELRules(allow=["true"])], []], ids=["rules", "no rules"])
async def test_the_client_has_another_id_than_the_server(rules: Any) -> None:
    upstream = server()
    app = gate(upstream, authorize=rules)
    session = await opened(app, ALICE)
    assert UPSTREAM_ID not in session
    assert session.isascii()
    assert len(session) > 32
    assert (await send(app, message("tools/list"), as_(ALICE, session))).status == 200
    assert upstream.asked[-1][0]["mcp-session-id"] == [UPSTREAM_ID]
    # An answer that repeats it, as servers do, has the same id again.
    assert (await send(app, message("tools/list"), as_(ALICE, session))).headers["mcp-session-id"] == session


async def ways_in(app: Gate, key: str | None, session: str) -> list[Exchange]:
    """Every way to use a session."""
    listing, headers = modern("tools/list")
    return [
        await send(app, message("tools/call", {"name": "add"}), as_(key, session)),
        await send(app, listing, {**headers, **as_(key, session)}),
        await send(app, message("notifications/initialized", id=...), as_(key, session)),
        await send(app, {"jsonrpc": "2.0", "id": 1, "result": {}}, as_(key, session)),
        await send(app, message("initialize", {}), as_(key, session)),
        await send(app, method="GET", headers=as_(key, session)),
        await send(app, method="GET", headers=as_(key, session, **{"last-event-id": "7"})),
        await send(app, method="DELETE", headers=as_(key, session)),
    ]


OWNERS = {"alice": ALICE, "bob": BOB, "nobody": None}


@pytest.mark.parametrize(("owner", "other"), [(a, b) for a in OWNERS for b in OWNERS if a != b])
async def test_to_anybody_else_the_session_does_not_exist(owner: str, other: str) -> None:
    upstream = server()
    app = gate(upstream)
    session = await opened(app, OWNERS[owner])
    asked = len(upstream.asked)
    for exchange in await ways_in(app, OWNERS[other], session):
        assert exchange.status == 404
        assert error_of(exchange) == (-32600, "session not found")
        assert "mcp-session-id" not in exchange.headers
    assert len(upstream.asked) == asked
    for exchange in await ways_in(app, OWNERS[owner], session):
        assert exchange.status == 200 or error_of(exchange)[0] == -32600


async def test_a_new_key_of_the_same_caller_keeps_the_session() -> None:
    app = gate(server())
    session = await opened(app, ALICE)
    assert (await send(app, method="GET", headers=as_(ALICE_TOO, session))).status == 200


@pytest.mark.parametrize(
    "made_up",
    [
        UPSTREAM_ID,
        "x",
        "A" * 64,
        "../../etc",
        "é",
        "",
        "=" * 8,
        "A" * 4096,
    ],
)
async def test_an_id_that_the_client_brings_along_is_of_nothing(made_up: str) -> None:
    """Neither the server's own nor any other: a session cannot be fixed on somebody."""
    upstream = server()
    app = gate(upstream)
    for body in (message("initialize", {}), message("tools/list")):
        exchange = await send(app, body, as_(ALICE, made_up))
        assert (exchange.status, upstream.asked) == (404, [])
        assert json.loads(exchange.body)["id"] == 1


async def test_another_spelling_of_an_id_is_another_id() -> None:
    app = gate(server())
    session = await opened(app, ALICE)
    last = session[-1]
    for spelt in (
        session + "=",
        session + "A",
        session[:-1],
        session.swapcase(),
        *(session[:-1] + c for c in "ABCD" if c != last),
    ):
        assert (await send(app, method="GET", headers=as_(ALICE, spelt))).status == 404


async def test_two_ids_are_refused() -> None:
    app = gate(server())
    session = await opened(app, ALICE)
    pairs = [*as_(ALICE, session).items(), ("mcp-session-id", session)]
    assert (await send(app, message("tools/list"), pairs)).status == 400


async def test_replicas_share_sessions_with_the_key() -> None:
    first, second, stranger = server(), server(), server()
    session = await opened(gate(first, MCP(session_key=SHARED)), ALICE)
    assert (await send(gate(second, MCP(session_key=SHARED)), method="GET", headers=as_(ALICE, session))).status == 200
    assert second.asked[-1][0]["mcp-session-id"] == [UPSTREAM_ID]
    for protocol in (MCP(), MCP(session_key=Secret("j" * 40))):
        assert (await send(gate(stranger, protocol), method="GET", headers=as_(ALICE, session))).status == 404
    assert stranger.asked == []


@pytest.mark.parametrize("key", [Secret("short"), "k" * 40])
def test_a_key_is_a_secret_and_a_long_one(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="session_key is a Secret of at least 32 random characters"):
        MCP(session_key=key)


class Person(Authenticator):
    """Whoever the header says, with the issuer that it says."""

    def check(self, request: Request) -> Decision:
        who = request.headers.get("x-who")
        if who is None:
            return abstain()
        source, issuer, id = who.split()
        return allow(Principal(id, source, {"iss": issuer, "exp": request.now}))


@pytest.mark.parametrize("other", ["jwt https://b alice", "custom https://a alice", "jwt https://a bob"])
async def test_the_same_id_of_another_issuer_is_another_caller(other: str) -> None:
    app = Gate(server(), authenticate=[Person()], protocol=MCP())
    opener = {"x-who": "jwt https://a alice"}
    session = (await send(app, message("initialize", {}), opener)).headers["mcp-session-id"]
    assert (await send(app, method="GET", headers={**opener, "mcp-session-id": session})).status == 200
    assert (await send(app, method="GET", headers={"x-who": other, "mcp-session-id": session})).status == 404


async def test_everybody_who_was_authenticated_counts() -> None:
    """With a Gate around, the caller is who both of them say."""
    inner = Gate(server(), authenticate=[Person()], protocol=MCP())
    app = Gate(inner, authenticate=[APIKeyAuth(KEYS)])
    who = {"x-who": "jwt https://a alice"}
    session = (await send(app, message("initialize", {}), as_(ALICE, **who))).headers["mcp-session-id"]
    assert (await send(app, method="GET", headers=as_(ALICE, session, **who))).status == 200
    assert (await send(app, method="GET", headers=as_(BOB, session, **who))).status == 404


async def test_who_is_authenticated_further_in_does_not_count() -> None:
    """The Gate that speaks MCP could not know of them when it read the request."""
    app = Gate(Gate(server(), authenticate=[APIKeyAuth(KEYS)]), observe=[Recorder()], protocol=MCP())
    session = await opened(app, ALICE)
    assert (await send(app, method="GET", headers=as_(ALICE, session))).status == 200


async def test_a_stream_is_resumed_in_its_session_alone() -> None:
    upstream = server()
    exchange = await send(gate(upstream), method="GET", headers=as_(ALICE, **{"last-event-id": "7"}))
    assert (exchange.status, upstream.asked) == (400, [])


async def test_a_response_is_one_in_a_session() -> None:
    upstream, recorder = server(), Recorder()
    app = gate(upstream, observe=[recorder])
    session = await opened(app, ALICE)
    answer = {"jsonrpc": "2.0", "id": 7, "result": {"action": "accept"}}
    assert (await send(app, answer, as_(ALICE, session))).status == 200
    assert json.loads(upstream.asked[-1][1]) == answer
    assert "mcp.method.name" not in recorder.last.details
    assert recorder.last.view.call is not None
    assert (recorder.last.view.call.method, recorder.last.view.call.provisional) == ("response", True)
    asked = len(upstream.asked)
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "x"}
    assert (await send(app, answer, as_(ALICE, session, **headers))).status == 400
    denying = gate(upstream, authorize=[CELRules(deny=['mcp.methodName == "response"'])])
    session = await opened(denying, ALICE)
    assert (await send(denying, answer, as_(ALICE, session))).status == 202
    assert len(upstream.asked) == asked + 1


async def test_logs_and_rules_have_a_fingerprint() -> None:
    """It tells sessions apart, and opens none."""
    recorder = Recorder()
    app = gate(server(), observe=[recorder])
    session = await opened(app, ALICE)
    await send(app, message("tools/list"), as_(ALICE, session))
    known = recorder.last.details["mcp.session.id"]
    assert known == fingerprint(session.encode())
    assert str(known) not in session
    call = recorder.last.view.call
    assert call is not None
    assert call.attributes == {"sessionId": known}
    assert (await send(app, method="GET", headers=as_(ALICE, str(known)))).status == 404
    ruled = gate(
        server(), authorize=[CELRules(allow=[f'mcp.methodName == "initialize" || mcp.sessionId == "{known}"'])]
    )
    other = await opened(ruled, ALICE)
    exchange = await send(ruled, message("tools/list"), as_(ALICE, other))
    assert error_of(exchange) == (-32600, "authorization failed")


async def test_an_answer_with_two_ids_is_refused_without_rules_too() -> None:
    upstream = Server(headers=[("mcp-session-id", "a"), ("Mcp-Session-Id", "b")])
    exchange = await send(gate(upstream, authorize=[]), message("initialize", {}), as_(ALICE))
    assert (exchange.status, "mcp-session-id" in exchange.headers) == (502, False)


@given(st.binary(max_size=200), st.binary(max_size=40), st.binary(max_size=40))
def test_only_the_owner_opens_what_was_sealed(upstream: bytes, owner: bytes, other: bytes) -> None:
    sessions = Sessions()
    sealed = sessions.seal(upstream, owner)
    assert sealed == sessions.seal(upstream, owner)
    assert sessions.unseal(sealed, owner) == upstream
    assert other == owner or sessions.unseal(sealed, other) is None
    assert sessions.unseal(upstream, owner) is None
    assert len(upstream) < 4 or upstream not in sealed
    assert repr(sessions) == "Sessions()"
