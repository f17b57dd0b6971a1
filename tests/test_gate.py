"""Gate: nothing reaches the app without an explicit yes, and everything is recorded once."""

import asyncio
import functools
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from agentgate import (
    APIKeyAuth,
    Authenticator,
    Authorizer,
    ConfigurationError,
    Decision,
    Gate,
    Observer,
    Principal,
    Query,
    Request,
    StaticKeys,
    UnknownScopeError,
    abstain,
    allow,
    authorizer,
    deny,
    new_key,
    record_of,
    shadow,
)
from agentgate.testing import Exchange, Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
KEYS = StaticKeys({"alice": KEY})
WITH_KEY = {"authorization": f"Bearer {KEY}"}


class App:
    """Counts its calls, keeps the last scope, and answers `ok`; a websocket is accepted and greeted."""

    calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.scope = scope
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})


class Says(Authenticator):
    """Answers what it was made with; an exception is raised."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def check(self, request: Request) -> Decision:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


class Rule(Authorizer):
    """Answers what it was made with; an exception is raised. `prepared` is raised while it is prepared."""

    prepares = True

    def __init__(self, answer: Any, prepared: BaseException | None = None) -> None:
        self.answer, self.prepared = answer, prepared

    async def prepare(self, request: Request) -> None:
        if self.prepared is not None:
            raise self.prepared

    def check(self, request: Request) -> Decision:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


class Prepared(Says):
    """An authenticator whose preparation fails."""

    async def prepare(self, request: Request) -> None:
        raise ConnectionError("hunter2")


class Async(Authorizer):
    """A policy that answers with a coroutine."""

    async def check(self, request: Request) -> Decision:  # type: ignore[override]
        return allow()


class Nameless(Rule):
    """A policy that cannot even say its name."""

    @property
    def name(self) -> str:
        raise RuntimeError("hunter2")


ALICE = allow(Principal("alice"))
BAD = deny("bad credential", status=401, code="invalid_credential")
YES, NO = Rule(allow()), Rule(deny("no"))


# -- what passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authenticate", "mode", "status", "body", "effects"),
    [
        ([ALICE], "strict", 200, "ok", ["allow"]),
        ([ALICE], "optional", 200, "ok", ["allow"]),
        ([ALICE], "permissive", 200, "ok", ["allow"]),
        ([abstain("who?")], "strict", 401, "who?", ["deny"]),
        ([abstain("who?")], "optional", 200, "ok", []),
        ([abstain("who?")], "permissive", 200, "ok", []),
        ([BAD], "strict", 401, "bad credential", ["deny"]),
        ([BAD], "optional", 401, "bad credential", ["deny"]),
        ([BAD], "permissive", 200, "ok", ["deny, not enforced"]),
        ([abstain("what?", code="strange")], "strict", 401, "what?", ["deny"]),
        ([abstain("what?", code="strange")], "optional", 401, "what?", ["deny"]),
        ([abstain("what?", code="strange")], "permissive", 200, "ok", ["deny, not enforced"]),
        ([deny("banned")], "permissive", 403, "banned", ["deny"]),
        ([abstain("first"), abstain("second")], "strict", 401, "first", ["deny"]),
        ([abstain("first"), abstain("second", code="strange")], "strict", 401, "second", ["deny"]),
        ([abstain("1", code="x"), abstain("2", code="y")], "optional", 401, "1", ["deny"]),
        ([abstain("1", code="x"), ALICE], "strict", 200, "ok", ["allow"]),
        ([abstain("who?"), ALICE], "strict", 200, "ok", ["allow"]),
        ([abstain("who?"), BAD, ALICE], "strict", 401, "bad credential", ["deny"]),
        ([ALICE, BAD], "strict", 200, "ok", ["allow"]),
        ([allow()], "strict", 500, "internal error", ["deny"]),
        ([allow()], "permissive", 500, "internal error", ["deny"]),
        ([None], "permissive", 500, "internal error", ["deny"]),
        ([True], "permissive", 500, "internal error", ["deny"]),
        (["allow"], "optional", 500, "internal error", ["deny"]),
        ([KeyError("hunter2")], "permissive", 500, "internal error", ["deny"]),
        ([TimeoutError()], "optional", 500, "internal error", ["deny"]),
        ([KeyError("hunter2"), ALICE], "strict", 500, "internal error", ["deny"]),
    ],
)
async def test_modes(authenticate: list[Any], mode: Any, status: int, body: str, effects: list[str]) -> None:
    """Strict wants a credential, optional does without one, permissive does with a bad one; failure is never a yes."""
    app, recorder = App(), Recorder()
    gate = Gate(app, authenticate=[Says(answer) for answer in authenticate], mode=mode, observe=[recorder])
    exchange = await drive(gate, http_scope())
    assert (exchange.status, exchange.text, app.calls) == (status, body, int(status == 200))
    record = recorder.last
    assert [d.effect + ("" if d.enforced else ", not enforced") for d in record.trail] == effects
    assert (record.principal is not None) == (effects == ["allow"])
    assert (record.refusal is None) == (status == 200)
    assert record.status == status


@pytest.mark.parametrize(
    ("authorize", "status", "body", "trail"),
    [
        ([YES], 200, "ok", ["allow"]),
        ([YES, YES], 200, "ok", ["allow", "allow"]),
        ([NO], 403, "no", ["deny"]),
        ([YES, NO, YES], 403, "no", ["allow", "deny"]),
        ([Rule(abstain())], 500, "internal error", ["deny"]),
        ([Rule(None)], 500, "internal error", ["deny"]),
        ([Rule(True)], 500, "internal error", ["deny"]),
        ([Rule(Decision)], 500, "internal error", ["deny"]),
        ([Rule(Decision("deny"))], 500, "internal error", ["deny"]),  # with its status of 200
        ([Rule(Decision("maybe"))], 500, "internal error", ["deny"]),  # type: ignore[arg-type]
        ([Rule(shadow(YES).check(Request.http()))], 500, "internal error", ["deny"]),
        ([Rule(KeyError("hunter2"))], 500, "internal error", ["deny"]),
        ([Rule(StopIteration())], 500, "internal error", ["deny"]),
        ([Rule(RecursionError())], 500, "internal error", ["deny"]),
        ([Rule(MemoryError())], 500, "internal error", ["deny"]),
        ([Rule(allow(), ConnectionError("hunter2"))], 500, "internal error", ["deny"]),
        ([Rule(allow(), TimeoutError())], 500, "internal error", ["deny"]),
        ([Rule(allow(), StopIteration())], 500, "internal error", ["deny"]),
        ([Nameless(KeyError("hunter2"))], 500, "internal error", ["deny"]),
        ([Nameless(allow())], 500, "internal error", ["deny"]),
        ([shadow(NO)], 200, "ok", ["deny, not enforced"]),
        ([shadow(NO), YES], 200, "ok", ["deny, not enforced", "allow"]),
        ([shadow(YES), NO], 403, "no", ["allow, not enforced", "deny"]),
        ([shadow(Rule(KeyError("hunter2"))), YES], 200, "ok", ["deny, not enforced", "allow"]),
        ([shadow(Rule(allow(), TimeoutError())), YES], 200, "ok", ["deny, not enforced", "allow"]),
        ([Rule(deny("gone", status=410, code="gone"))], 410, "gone", ["deny"]),
    ],
)
async def test_authorizers(authorize: list[Authorizer], status: int, body: str, trail: list[str]) -> None:
    """Every authorizer must say allow; what raises, abstains or returns anything else denies; shadows watch."""
    app, recorder = App(), Recorder()
    exchange = await drive(Gate(app, authorize=authorize, observe=[recorder]), http_scope())
    assert (exchange.status, exchange.text, app.calls) == (status, body, int(status == 200))
    assert [d.effect + ("" if d.enforced else ", not enforced") for d in recorder.last.trail] == trail
    assert "hunter2" not in repr(recorder.last.trail) + exchange.text


@pytest.mark.parametrize("policy", [Prepared(ALICE), Prepared(BAD), Prepared(abstain())])
@pytest.mark.parametrize("mode", ["strict", "optional", "permissive"])
async def test_an_authenticator_that_cannot_prepare_has_denied(policy: Authenticator, mode: Any) -> None:
    """A key store that is away is no reason to let anybody in, in any mode."""
    app = App()
    exchange = await drive(Gate(app, authenticate=[policy], mode=mode), http_scope())
    assert (exchange.status, exchange.text, app.calls) == (500, "internal error", 0)


async def test_the_trail_tells_everything_in_order() -> None:
    """The Record holds each decision with its policy, rule and effect, in the order in which they were made."""
    recorder = Recorder()
    gate = Gate(
        App(),
        observe=[recorder],
        authorize=[shadow(Rule(deny("no", rule="watched"))), Rule(allow(rule="r1")), Rule(deny("no", rule="r2"))],
        authenticate=[APIKeyAuth(KEYS)],
    )
    await drive(gate, http_scope(headers=WITH_KEY))
    assert [(d.effect, d.policy, d.rule, d.enforced) for d in recorder.last.trail] == [
        ("allow", "APIKeyAuth", None, True),
        ("deny", "Rule", "watched", False),
        ("allow", "Rule", "r1", True),
        ("deny", "Rule", "r2", True),
    ]
    assert recorder.last.refusal is recorder.last.trail[-1]


async def test_a_failure_of_the_gate_is_in_the_trail() -> None:
    """When the Gate itself fails over a policy, the refusal is a decision like any other."""
    recorder = Recorder()
    gate = Gate(App(), authorize=[Nameless(allow(), TimeoutError())], observe=[recorder])
    assert (await drive(gate, http_scope())).status == 500
    assert recorder.last.trail == [recorder.last.refusal]


async def test_authorizers_see_who_is_asking() -> None:
    """An authorizer is asked after the authenticators, and sees what they found."""

    @authorizer
    def only_alice(request: Request) -> Decision:
        return allow() if request.principal == Principal("alice", "apiKey") else deny("not you")

    app = App()
    gate = Gate(app, authorize=[only_alice], authenticate=[APIKeyAuth({"alice": KEY, "bob": new_key()})])
    assert (await drive(gate, http_scope(headers=WITH_KEY))).status == 200
    assert (await drive(gate, http_scope())).status == 401


# -- how it is built -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"authenticate": [YES]}, "authenticate takes Authenticators, not "),
        ({"authorize": [APIKeyAuth(KEYS)]}, "authorize takes Authorizers, not APIKeyAuth"),
        ({"authorize": [Recorder()]}, "authorize takes Authorizers, not Recorder"),
        ({"authorize": [lambda request: allow()]}, "make an Authorizer of a function with @authorizer"),
        ({"authorize": [Rule]}, "make an Authorizer of a function with @authorizer"),
        ({"observe": [YES]}, "observe takes Observers, not "),
        ({"observe": [print]}, "observe takes Observers, not <built-in function print>$"),
        ({"authorize": [YES, None]}, "authorize takes Authorizers, not None"),
        ({"authorize": YES}, "authorize takes a list of Authorizers"),
        ({"authenticate": "key"}, "authenticate takes Authenticators, not 'k'"),
        ({"authorize": [Async()]}, "authorize: .* has an async check; what waits belongs in prepare"),
    ],
)
def test_a_policy_in_the_wrong_slot_is_a_type_error(slots: dict[str, Any], message: str) -> None:
    """What is in the wrong place is named when the app is built, not when it is called."""
    with pytest.raises(TypeError, match=message):
        Gate(App(), **slots)


@pytest.mark.parametrize(
    "policies",
    [(rule for rule in [YES, NO]), map(Rule, [allow(), deny("no")]), {"yes": YES, "no": NO}.values()],
    ids=["generator", "map", "values"],
)
async def test_policies_come_from_any_iterable(policies: Any) -> None:
    """A slot that is filled from what can be read only once loses no policy."""
    app = App()
    exchange = await drive(Gate(app, authorize=policies, observe=[Recorder()]), http_scope())
    assert (exchange.status, app.calls) == (403, 0)


@pytest.mark.parametrize("slots", [{}, {"authenticate": [], "authorize": (), "observe": []}, {"mode": "permissive"}])
def test_a_gate_that_does_nothing_is_a_fault(slots: dict[str, Any]) -> None:
    """Openness has to be written down: a Gate with no policy and no observer cannot be built."""
    with pytest.raises(ConfigurationError, match="would let everything pass unseen"):
        Gate(App(), **slots)


@pytest.mark.parametrize("mode", ["", "off", "STRICT", None, True])
def test_a_mode_that_is_none_is_a_fault(mode: Any) -> None:
    """A mode is one of three."""
    with pytest.raises(ConfigurationError, match="mode is one of strict, optional, permissive"):
        Gate(App(), authorize=[YES], mode=mode)


def test_a_gate_says_what_it_is() -> None:
    """The repr of a Gate is its posture."""
    gate = Gate(authenticate=[APIKeyAuth(KEYS)], observe=[Recorder()], mode="optional")
    assert repr(gate) == (
        "Gate(authenticate=[APIKeyAuth(StaticKeys(1 keys), location=Header(name='authorization', prefix='Bearer '))],"
        " observe=[Recorder(0 records)], mode='optional')"
    )


async def test_a_gate_without_an_app_only_explains() -> None:
    """Without an app there is nothing to call, whatever the scope."""
    for scope in (http_scope(), websocket_scope(), {"type": "lifespan"}):
        with pytest.raises(ConfigurationError, match="can only explain"):
            await drive(Gate(authorize=[YES]), scope)


# -- explain ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request.http(), [("deny", "APIKeyAuth")]),
        (Request.http(headers=WITH_KEY), [("allow", "APIKeyAuth"), ("allow", "YES")]),
        (Request.http("DELETE", headers=WITH_KEY), [("allow", "APIKeyAuth"), ("deny", "YES")]),
        (Request.http(api_key={"name": "bob"}), [("allow", "YES")]),
        (Request.tool("drop", jwt={"sub": "bob"}), [("allow", "YES")]),
        (Request.http("DELETE", api_key={}), [("deny", "YES")]),
        (Request.http("GET", "/../x", headers=WITH_KEY), [("deny", "edge")]),
        (Request.websocket(api_key={}), [("allow", "YES")]),
    ],
)
def test_explain(request_: Request, expected: list[tuple[str, str]]) -> None:
    """Explain gives the decisions that a request would meet, with no app, no server and no event loop."""

    class Named(Rule):
        name = "YES"

        def check(self, request: Request) -> Decision:
            return deny("no") if request.method == "DELETE" else allow()

    gate = Gate(authenticate=[APIKeyAuth(KEYS)], authorize=[Named(None, ConnectionError())])
    before = request_.principals
    assert [(d.effect, d.policy) for d in gate.explain(request_)] == expected
    assert request_.principals == before


@pytest.mark.parametrize(
    ("mode", "headers", "expected"),
    [
        ("optional", {}, ["allow"]),
        ("permissive", {}, ["allow"]),
        ("permissive", {"authorization": "Bearer bad"}, ["deny, not enforced", "allow"]),
        ("optional", {"authorization": "Bearer bad"}, ["deny"]),
        ("strict", {}, ["deny"]),
    ],
)
def test_explain_ends_with_what_stands(mode: Any, headers: dict[str, str], expected: list[str]) -> None:
    """The last decision of an explanation is the one that stands, even where nobody had to say yes."""
    trail = Gate(authenticate=[APIKeyAuth(KEYS)], mode=mode).explain(Request.http(headers=headers))
    assert [d.effect + ("" if d.enforced else ", not enforced") for d in trail] == expected


@pytest.mark.parametrize(
    ("mode", "headers", "method", "asked", "stands"),
    [
        ("strict", {}, "PUT", ["deny APIKeyAuth", "deny first", "allow second", "deny third"], "APIKeyAuth"),
        ("strict", WITH_KEY, "PUT", ["allow APIKeyAuth", "deny first", "allow second", "deny third"], "first"),
        ("strict", WITH_KEY, "GET", ["allow APIKeyAuth", "allow first", "allow second", "allow third"], "third"),
        ("optional", {}, "POST", ["allow first", "allow second", "deny third"], "third"),
        ("optional", {"authorization": "Bearer bad"}, "GET", [
            "deny APIKeyAuth", "allow first", "allow second", "allow third",
        ], "APIKeyAuth"),
        ("permissive", {"authorization": "Bearer bad"}, "GET", [
            "deny APIKeyAuth", "allow first", "allow second", "allow third",
        ], "third"),
        ("strict", {"host": "a b"}, "GET", ["deny edge"], "edge"),
    ],
)  # fmt: skip
def test_explain_asks_every_policy(
    mode: Any, headers: dict[str, str], method: str, asked: list[str], stands: str
) -> None:
    """Everything that is against a request is told, and what stands is the same as without asking on."""

    class Only(Rule):
        def __init__(self, name: str, *methods: str) -> None:
            super().__init__(None)
            self.called, self.methods = name, methods

        @property
        def name(self) -> str:
            return self.called

        def check(self, request: Request) -> Decision:
            return allow() if request.method in self.methods else deny("no")

    authorize = [Only("first", "GET", "POST"), Only("second", "GET", "POST", "PUT"), Only("third", "GET")]
    gate = Gate(authenticate=[APIKeyAuth(KEYS)], authorize=authorize, mode=mode)
    request = Request.http(method, headers=headers)
    *answers, last = gate.explain(request, every=True)
    assert [f"{d.effect} {d.policy}" for d in answers] == asked
    assert last.policy == stands
    assert last == gate.explain(request)[-1]


def test_explain_of_nothing_to_ask_says_so_once() -> None:
    assert [d.policy for d in Gate(authenticate=[APIKeyAuth(KEYS)], mode="optional").explain(Request.http())] == [
        "gate"
    ]
    only = Gate(authenticate=[APIKeyAuth(KEYS)], mode="optional").explain(Request.http(), every=True)
    assert [d.policy for d in only] == ["gate"]


# -- scopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["HTTP", "", "http2", "mcp", "websockets", None])
async def test_an_unknown_scope_is_refused(kind: Any) -> None:
    """A scope type that no rule covers never reaches the app."""
    app = App()
    with pytest.raises(UnknownScopeError, match="is refused"):
        await drive(Gate(app, observe=[Recorder()]), {"type": kind})
    assert app.calls == 0


async def test_a_scope_without_a_type_is_refused() -> None:
    """A scope that does not even say what it is never reaches the app."""
    app = App()
    with pytest.raises(KeyError):
        await Gate(app, observe=[Recorder()])({}, None, None)  # type: ignore[arg-type]
    assert app.calls == 0


async def test_lifespan_is_passed_through() -> None:
    """Start-up and shutdown are the app's, and nobody's request."""
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            event = (await receive())["type"]
            events.append(event)
            await send({"type": f"{event}.complete"})

    recorder = Recorder()
    exchange = await drive(Gate(app, authorize=[NO], observe=[recorder]), {"type": "lifespan"})
    assert events == ["lifespan.startup", "lifespan.shutdown"]
    assert exchange.complete
    assert recorder.records == []


@pytest.mark.parametrize(
    ("answer", "denial", "types", "status", "code"),
    [
        (allow(), True, ["websocket.accept", "websocket.send", "websocket.close"], 101, 1000),
        (deny("no"), True, ["websocket.http.response.start", "websocket.http.response.body"], 403, None),
        (deny("no"), False, ["websocket.close"], 403, 1008),
        (None, True, ["websocket.http.response.start", "websocket.http.response.body"], 500, None),
        (KeyError("hunter2"), False, ["websocket.close"], 403, 1008),
    ],
)
async def test_websockets(answer: Any, denial: bool, types: list[str], status: int, code: int | None) -> None:
    """A websocket is judged like any request, and refused before it is accepted."""
    app, recorder = App(), Recorder()
    exchange = await drive(
        Gate(app, authorize=[Rule(answer)], observe=[recorder]), websocket_scope("/live", denial=denial)
    )
    assert [m["type"] for m in exchange.messages] == types
    assert (recorder.last.status, exchange.close_code, app.calls) == (status, code, int(status == 101))
    assert recorder.last.bytes_sent == (5 if status == 101 else 0)


@pytest.mark.parametrize(
    ("messages", "status", "sent"),
    [
        ([{"type": "websocket.accept"}, {"type": "websocket.send", "bytes": b"123"}], 101, 3),
        ([{"type": "websocket.accept"}, {"type": "websocket.send"}, {"type": "websocket.close"}], 101, 0),
        ([{"type": "websocket.close"}], 403, 0),
        ([{"type": "websocket.http.response.start", "status": 410, "headers": []}], 410, 0),
        ([], None, 0),
    ],
)
async def test_what_a_websocket_app_answers_is_recorded(messages: list[Any], status: int | None, sent: int) -> None:
    """An accept is 101, a close before it is the 403 that servers make of it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    recorder = Recorder()
    await drive(Gate(app, observe=[recorder]), websocket_scope())
    assert (recorder.last.status, recorder.last.bytes_sent) == (status, sent)


# -- streams, errors and cancellation --------------------------------------------------------------------------------


async def test_a_stream_passes_as_it_comes() -> None:
    """Each part of a stream is sent the moment the app sends it, and the Record ends with the last one."""
    events: list[str] = []

    class Watch(Recorder):
        def end(self, token: Any, record: Any) -> None:
            super().end(token, record)
            events.append("recorded")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"a", b"b", b"c"):
            events.append(f"app {part.decode()}")
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
        events.append("app done")

    watch = Watch()

    def on_send(message: Any) -> None:
        events.append("sent " + message.get("body", b"").decode())

    exchange = await drive(Gate(app, observe=[watch]), http_scope(), on_send=on_send)
    assert events == ["sent ", "app a", "sent a", "app b", "sent b", "app c", "sent c", "sent ", "recorded", "app done"]
    assert (exchange.chunks, watch.last.bytes_sent, exchange.complete) == ([b"a", b"b", b"c", b""], 3, True)


async def test_the_request_body_is_not_touched() -> None:
    """Parts of the request's body reach the app one by one, and so does the client's going away."""
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not got or got[-1]["type"] == "http.request":
            got.append(await receive())

    await drive(Gate(app, observe=[Recorder()]), http_scope("POST"), body=[b"a", b"b"], abort=True)
    assert got == [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b", "more_body": True},
        {"type": "http.disconnect"},
    ]


async def test_what_the_app_raises_goes_up_and_is_recorded() -> None:
    """An app's error is the server's to answer; the Record has its kind and place, and no message."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise ValueError("hunter2")

    recorder = Recorder()
    exchange = await drive(Gate(app, observe=[recorder]), http_scope(), catch=True)
    record = recorder.last
    assert isinstance(exchange.error, ValueError)
    assert (exchange.complete, record.status, record.bytes_sent) == (False, 200, 3)
    assert record.error is not None
    assert record.error.startswith("request failed: ValueError at test_gate.py:")
    assert "hunter2" not in record.error


@pytest.mark.parametrize("where", ["authenticate", "authorize", "prepare"])
@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
async def test_cancellation_is_not_an_answer(where: str, kind: type[BaseException]) -> None:
    """A request that is cancelled while it is judged is over: nothing is forwarded, nothing is answered."""
    app, recorder = App(), Recorder()
    policies: dict[str, Any] = {
        "authenticate": {"authenticate": [Says(kind())]},
        "authorize": {"authorize": [Rule(kind())]},
        "prepare": {"authorize": [Rule(allow(), kind())]},
    }
    exchange = Exchange()
    with pytest.raises(kind):
        exchange = await drive(Gate(app, observe=[recorder], **policies[where]), http_scope())
    assert (app.calls, exchange.started, len(recorder.records)) == (0, False, 1)


class Loud(Observer):
    """Raises wherever it is told to."""

    def __init__(self, where: str) -> None:
        self.where = where

    def start(self, request: Request) -> None:
        if self.where == "start":
            raise RuntimeError("hunter2")

    def end(self, token: Any, record: Any) -> None:
        raise RuntimeError("hunter2")


@pytest.mark.parametrize("where", ["start", "end"])
@pytest.mark.parametrize(("rule", "status"), [(YES, 200), (NO, 403)])
async def test_a_failing_observer_decides_nothing(
    where: str, rule: Authorizer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer that raises changes no answer, and hides nothing from the others."""
    recorder = Recorder()
    with caplog.at_level(logging.DEBUG):
        exchange = await drive(
            Gate(App(), observe=[Loud(where), recorder, Loud(where)], authorize=[rule]), http_scope()
        )
    assert (exchange.status, recorder.last.status) == (status, status)
    assert "observer Loud failed: RuntimeError at test_gate.py" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_request_that_cannot_be_read_is_refused() -> None:
    """A scope that breaks the rules of ASGI is an error, never a request that passes."""
    app = App()
    broken: list[dict[str, Any]] = [
        {"headers": [("host", "a")]},
        {"headers": [(b"host", None)]},
        {"headers": [b"host"]},
        {"headers": 5},
        {"path": 5},
        {"raw_path": "/"},
        {"query_string": "a=1"},
        {"method": 5},
        {"http_version": None, "headers": []},
    ]
    for more in broken:
        exchange = await drive(Gate(app, observe=[Recorder()]), {**http_scope(), **more}, catch=True)
        assert exchange.status in (None, 400, 405, 500), more
        assert (exchange.status is None) == (exchange.error is not None), more
    assert app.calls == 0


# -- what reaches the app ---------------------------------------------------------------------------------------------


async def test_a_scope_that_brings_its_own_record_is_not_believed() -> None:
    """Only a Record that a Gate opened is joined: anything else under its name is ignored."""
    app = App()
    exchange = await drive(Gate(app, authorize=[NO]), http_scope(agentgate={"trail": ["allow"]}))
    assert (exchange.status, app.calls) == (403, 0)


async def test_a_credential_leaves_the_raw_path_too() -> None:
    """Where a server leaves the query in `raw_path`, the accepted credential is taken out of that as well."""
    app = App()
    gate = Gate(app, authenticate=[APIKeyAuth(KEYS, location=Query("api_key"))])
    scope = http_scope("GET", f"/a?api_key={KEY}", raw_path=f"/a?api_key={KEY}".encode())
    assert (await drive(gate, scope)).status == 200
    assert KEY not in repr([app.scope[name] for name in ("raw_path", "query_string", "headers")])


async def test_a_scope_without_a_raw_path_gets_none() -> None:
    """What ASGI leaves optional is not made up when a credential is taken out."""
    app, scope = App(), http_scope(headers=WITH_KEY)
    del scope["raw_path"]
    assert (await drive(Gate(app, authenticate=[APIKeyAuth(KEYS)]), scope)).status == 200
    assert "raw_path" not in app.scope


async def test_trailers_do_not_become_headers() -> None:
    """What a server appends to its list of headers later is seen by no policy and no app."""
    app = App()
    scope = http_scope(headers=WITH_KEY)

    class Late(Authorizer):
        async def prepare(self, request: Request) -> None:
            scope["headers"].append((b"x-role", b"admin"))

        def check(self, request: Request) -> Decision:
            return deny("admin") if "x-role" in request.headers else allow()

    await drive(Gate(app, authenticate=[APIKeyAuth(KEYS)], authorize=[Late()]), scope)
    assert app.scope["headers"] == [(b"host", b"localhost")]
    assert app.scope["headers"] is not scope["headers"]


# -- inside of frameworks --------------------------------------------------------------------------------------------


async def whoami(request: StarletteRequest) -> PlainTextResponse:
    record = record_of(request.scope)
    assert record is not None
    return PlainTextResponse(f"{record.principal and record.principal.id} {request.url.path}")


def starlette_app(*middleware: Any) -> Any:
    inner = Starlette(routes=[Route("/deep", whoami)], middleware=[Middleware(Gate, authorize=[no_secrets])])
    return Starlette(routes=[Route("/whoami", whoami), Mount("/sub", inner)], middleware=middleware)


@authorizer
def no_secrets(request: Request) -> Decision:
    """Judged inside of a mount: the path is the whole one."""
    return allow() if request.path.startswith("/sub/") and "secret" not in request.query_string.decode() else deny("no")


def fastapi_app() -> Any:
    app = FastAPI()
    app.add_middleware(Gate, authenticate=[APIKeyAuth(KEYS)])

    @app.get("/whoami")
    async def who() -> str:
        return "alice"

    return app


@pytest.mark.parametrize(
    ("app", "target", "headers", "status", "text"),
    [
        ("starlette", "/whoami", WITH_KEY, 200, "alice /whoami"),
        ("starlette", "/whoami", {}, 401, "api key authentication failure: no API Key found"),
        ("starlette", "/missing", WITH_KEY, 404, "Not Found"),
        ("starlette", "/missing", {}, 401, "api key authentication failure: no API Key found"),
        ("starlette", "/sub/deep", WITH_KEY, 200, "alice /sub/deep"),
        ("starlette", "/sub/deep", {}, 401, "api key authentication failure: no API Key found"),
        ("starlette", "/sub/deep?secret", WITH_KEY, 403, "no"),
        ("fastapi", "/whoami", WITH_KEY, 200, '"alice"'),
        ("fastapi", "/whoami", {}, 401, "api key authentication failure: no API Key found"),
        ("fastapi", "/docs", {}, 401, "api key authentication failure: no API Key found"),
    ],
)
async def test_in_a_framework(app: str, target: str, headers: dict[str, str], status: int, text: str) -> None:
    """A Gate is a middleware like any other, of Starlette and of FastAPI, and in a mount."""
    built = starlette_app(Middleware(Gate, authenticate=[APIKeyAuth(KEYS)])) if app == "starlette" else fastapi_app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(built), base_url="http://gw.example") as http:
        response = await http.get(target, headers=headers)
    assert (response.status_code, response.text) == (status, text)


async def test_requests_do_not_mix() -> None:
    """A hundred callers at once: each is who its own key says."""
    keys = {f"caller{n}": new_key() for n in range(100)}
    barrier = asyncio.Event()
    waiting = 0

    class Waits(Authorizer):
        async def prepare(self, request: Request) -> None:
            nonlocal waiting
            waiting += 1
            if waiting == len(keys):
                barrier.set()
            await barrier.wait()

        def check(self, request: Request) -> Decision:
            return allow()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        record = record_of(scope)
        assert record is not None
        assert record.principal is not None
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": record.principal.id.encode()})

    gate = Gate(app, authenticate=[APIKeyAuth(keys)], authorize=[Waits()])
    call = functools.partial(drive, gate)
    answers = await asyncio.gather(
        *(call(http_scope(headers={"authorization": f"Bearer {key}"})) for key in keys.values())
    )
    assert [answer.text for answer in answers] == list(keys)
