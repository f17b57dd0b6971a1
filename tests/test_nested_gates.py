"""Gates inside of Gates: one Record, and each Gate judges the request that the app behind it will see."""

from collections.abc import Callable
from typing import Any

import pytest

from agentgate import (
    APIKeyAuth,
    Authenticator,
    Authorizer,
    Decision,
    Edge,
    Gate,
    Header,
    Key,
    Observer,
    Principal,
    Query,
    Request,
    StaticKeys,
    allow,
    authorizer,
    deny,
    new_key,
    record_of,
)
from agentgate.record import Record
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
KEYS = StaticKeys({"alice": KEY})
WITH_KEY = {"authorization": f"Bearer {KEY}"}


class App:
    """Counts its calls, keeps the last scope, and answers `ok`."""

    calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


class Rule(Authorizer):
    """Answers what it was made with."""

    def __init__(self, answer: Decision) -> None:
        self.answer = answer

    def check(self, request: Request) -> Decision:
        return self.answer


YES, NO = Rule(allow()), Rule(deny("no"))


async def test_nested_gates_join_one_record() -> None:
    """Gates inside of a Gate add to its Record; each observer is told once, when the response is over."""
    outer, inner, app = Recorder(), Recorder(), App()
    key = new_key()
    gate = Gate(
        Gate(
            Gate(app, authorize=[Rule(allow(rule="innermost"))]),
            authenticate=[APIKeyAuth({"tool": key}, location=Header("x-tool-key"))],
            observe=[inner],
        ),
        authenticate=[APIKeyAuth(KEYS)],
        observe=[outer],
    )
    exchange = await drive(gate, http_scope(headers={**WITH_KEY, "x-tool-key": key}))
    assert exchange.status == 200
    assert outer.records == inner.records
    assert len(outer.records) == 1
    record = outer.last
    assert [(d.effect, d.policy, d.rule) for d in record.trail] == [
        ("allow", "APIKeyAuth", None),
        ("allow", "APIKeyAuth", None),
        ("allow", "Rule", "innermost"),
    ]
    assert [p.id for p in record.view.principals] == ["alice", "tool"]
    assert record_of(app.scope) is record
    assert app.scope["headers"] == [(b"host", b"localhost")]
    assert record.request.headers.getlist("authorization") == [WITH_KEY["authorization"]]


async def test_an_inner_refusal_is_the_outer_record_too() -> None:
    """A request that an inner Gate refuses is over for all."""
    outer, app = Recorder(), App()
    exchange = await drive(Gate(Gate(app, authorize=[NO]), authorize=[YES], observe=[outer]), http_scope())
    assert (exchange.status, app.calls) == (403, 0)
    assert outer.last.refusal is not None
    assert [d.effect for d in outer.last.trail] == ["allow", "deny"]


def rewriting(app: Any, **changes: Any) -> Any:
    """A middleware between two Gates that changes the scope."""

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, **changes}, receive, send)

    return middleware


@pytest.mark.parametrize(
    ("changes", "shows"),
    [
        ({"path": "/admin", "raw_path": b"/admin"}, lambda r: r.path == "/admin"),
        ({"path": "/admin", "raw_path": None}, lambda r: r.path == "/admin"),
        ({"query_string": b"role=admin"}, lambda r: r.query == {"role": ("admin",)}),
        ({"method": "DELETE"}, lambda r: r.method == "DELETE"),
        ({"headers": [(b"host", b"b.example")]}, lambda r: r.host == "b.example"),
        ({"root_path": "/gw", "path": "/gw/a", "raw_path": b"/gw/a"}, lambda r: r.root_path == "/gw"),
        ({"client": ("10.9.8.7", 1)}, lambda r: r.peer == ("10.9.8.7", 1)),
        ({"scheme": "https"}, lambda r: r.scheme == "https"),
        ({"http_version": "2"}, lambda r: r.http_version == "2"),
    ],
)
@pytest.mark.parametrize("authenticate", [[APIKeyAuth(KEYS)], []], ids=["authenticated", "observed"])
async def test_an_inner_gate_judges_what_the_app_will_see(
    changes: dict[str, Any], shows: Callable[[Request], bool], authenticate: list[Authenticator]
) -> None:
    """Whatever a middleware between two Gates changes, the inner one judges the changed request."""
    app, recorder = App(), Recorder()
    inner = Gate(app, authorize=[authorizer(lambda request: deny("no") if shows(request) else allow())])
    outer = Gate(rewriting(inner, **changes), authenticate=authenticate, observe=[recorder])
    exchange = await drive(outer, http_scope("GET", "/a", headers=WITH_KEY))
    assert (exchange.status, app.calls) == (403, 0)
    assert recorder.last.request.path == "/a"  # as the client sent it
    assert (recorder.last.principal == Principal("alice", "apiKey")) is bool(authenticate)


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/a/../admin", "raw_path": b"/a/../admin"},
        {"path": "/admin"},  # with the raw_path of before
        {"raw_path": b"/admin"},
        {"headers": [(b"host", b"a"), (b"host", b"b")]},
        {"method": "get"},
    ],
)
async def test_an_inner_gate_has_an_edge_too(changes: dict[str, Any]) -> None:
    """A middleware that makes a request ambiguous has made it one to refuse."""
    app = App()
    exchange = await drive(
        Gate(rewriting(Gate(app, authorize=[YES]), **changes), authorize=[YES]), http_scope("GET", "/a")
    )
    assert exchange.status in (400, 405)
    assert app.calls == 0


@pytest.mark.parametrize(
    ("outer", "inner", "status"),
    [(Edge(allow_empty_segments=True), None, 400), (None, Edge(allow_empty_segments=True), 400)],
)
async def test_each_edge_is_asked(outer: Edge | None, inner: Edge | None, status: int) -> None:
    """Where edges differ, the strictest decides."""
    app = App()
    gate = Gate(Gate(app, authorize=[YES], edge=inner), authorize=[YES], edge=outer)
    assert (await drive(gate, http_scope("GET", "//a"))).status == status
    assert app.calls == 0


@pytest.mark.parametrize("edge", [None, Edge()])
async def test_an_inner_gate_reads_its_own_header_once(edge: Edge | None) -> None:
    """Two of the header that an inner Gate's authenticator reads are refused, as they are by that Gate alone."""
    inner = Gate(App(), authenticate=[APIKeyAuth(KEYS, location=Header("x-agent-key", "Key "))], edge=edge)
    scope = http_scope(headers=[("x-agent-key", f"Key {KEY}"), ("x-agent-key", "other")])
    assert (await drive(inner, scope)).status == 400
    assert (await drive(Gate(inner, observe=[Recorder()], edge=edge), scope)).status == 400


async def test_gates_that_are_called_in_turn_judge_their_own_scopes() -> None:
    """A fallback from one inner Gate to another gives the second no benefit of what the first one judged."""
    lax, app = Edge(allow_empty_segments=True), App()
    no_admin = authorizer(lambda request: deny("no") if request.path == "/admin" else allow())
    first, second = Gate(app, authorize=[YES]), Gate(app, authorize=[no_admin], edge=lax)

    async def nowhere(message: Any) -> None:
        return None

    async def fallback(scope: Any, receive: Any, send: Any) -> None:
        await first({**scope, "path": "//a", "raw_path": b"//a"}, receive, nowhere)
        await second({**scope, "path": "/admin", "raw_path": b"/admin"}, receive, send)

    exchange = await drive(Gate(fallback, observe=[Recorder()], edge=lax), http_scope("GET", "/a"))
    assert (exchange.status, app.calls) == (403, 0)


# -- explain ---------------------------------------------------------------------------------------------------------

IN_QUERY = APIKeyAuth(StaticKeys({"bob": KEY}), location=Query("key"))


@pytest.mark.parametrize(
    ("outer", "inner", "request_", "expected"),
    [
        pytest.param(
            [APIKeyAuth(KEYS)],
            [IN_QUERY],
            Request.http(target=f"/?key={KEY}", headers=WITH_KEY),
            ["allow alice", "allow bob"],
            id="both let it pass",
        ),
        pytest.param(
            [IN_QUERY], [APIKeyAuth(KEYS)], Request.http(headers=WITH_KEY), ["deny"], id="the outer one first"
        ),
        pytest.param(
            [APIKeyAuth(KEYS)],
            [IN_QUERY],
            Request.http(headers=WITH_KEY),
            ["allow alice", "deny"],
            id="then the inner one",
        ),
        pytest.param(
            [APIKeyAuth(KEYS)],
            [APIKeyAuth(KEYS)],
            Request.http(headers=WITH_KEY),
            ["allow alice", "deny"],
            id="a credential that the outer one accepted is gone",
        ),
        pytest.param(
            [IN_QUERY],
            [IN_QUERY],
            Request.http(target=f"/?a&key={KEY}"),
            ["allow bob", "deny"],
            id="from the query, too",
        ),
        pytest.param(
            [APIKeyAuth(KEYS)],
            [APIKeyAuth(KEYS)],
            Request.http(api_key={"name": "alice"}),
            ["allow"],
            id="neither is asked about a caller who is known",
        ),
    ],
)
def test_explain_asks_the_gates_inside(outer: Any, inner: Any, request_: Request, expected: list[str]) -> None:
    nested = Gate(Gate(authenticate=inner), authenticate=outer)
    trail = nested.explain(request_)
    assert [" ".join([d.effect, *([d.principal.id] if d.principal else [])]) for d in trail] == expected
    assert nested.explain(request_) == trail  # nothing is kept


async def test_explain_and_the_request_path_agree() -> None:
    """What a Gate inside sees, it sees in both."""
    seen: list[tuple[str, str, tuple[str, ...]]] = []

    @authorizer
    def looks(request: Request) -> Decision:
        headers = ",".join(f"{name}={value}" for name, value in request.headers.items() if name != "host")
        seen.append((headers, request.query_string.decode(), tuple(p.id for p in request.principals)))
        return allow()

    keys = StaticKeys([Key("bob", KEY, {"group": "eng"})])
    outer = APIKeyAuth(keys, location=Query("key"), identity_headers={"x-group": "group"})
    nested = Gate(Gate(App(), authorize=[looks]), authenticate=[outer])
    scope = http_scope(target=f"/?a=1&key={KEY}", headers={"x-group": "admin", "x": "1"})
    await drive(nested, scope)
    trail = nested.explain(Request(scope))
    assert [d.policy for d in trail] == ["APIKeyAuth", "looks"]
    assert seen == [("x=1,x-group=eng", "a=1", ("bob",))] * 2


def test_explain_ends_with_one_yes_where_nobody_had_to_say_it() -> None:
    nested = Gate(Gate(observe=[Recorder()]), observe=[Recorder()])
    assert [d.policy for d in nested.explain(Request.http())] == ["gate"]


@pytest.mark.parametrize(
    ("headers", "asked", "stands"),
    [
        pytest.param({}, ["deny APIKeyAuth", "deny no"], "APIKeyAuth", id="the outer Gate's denial stands"),
        pytest.param(WITH_KEY, ["allow APIKeyAuth", "deny no"], "no", id="the inner one's, after a yes of the outer"),
    ],
)
def test_explain_asks_every_policy_of_the_gates_inside(headers: Any, asked: list[str], stands: str) -> None:
    @authorizer
    def no(request: Request) -> Decision:
        return deny("no")

    nested = Gate(Gate(authorize=[no]), authenticate=[APIKeyAuth(KEYS)])
    *found, last = nested.explain(Request.http(headers=headers), every=True)
    assert [f"{decision.effect} {decision.policy}" for decision in found] == asked
    assert (last.effect, last.policy) == ("deny", stands)


class Journal(Observer):
    """Writes down who asked, as it was known when the request had been judged, and when the app was back."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def judged(self, token: Any, record: Record) -> None:
        self.told.append(f"judged, asked by {record.principal.id if record.principal else 'nobody'}")

    def returned(self, token: Any, record: Record) -> None:
        self.told.append("returned")

    def end(self, token: Any, record: Record) -> None:
        self.told.append("ended")


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        (WITH_KEY, ["judged, asked by alice", "ended", "returned"]),
        ({}, ["judged, asked by nobody", "ended"]),
    ],
    ids=["let through", "refused"],
)
async def test_observers_further_out_hear_of_a_judgement_when_the_innermost_gate_has_made_it(
    headers: dict[str, str], told: list[str]
) -> None:
    """Directly nested Gates judge together; what is refused was never with the app."""
    journal = Journal()
    gate = Gate(Gate(Gate(App(), authorize=[YES]), authenticate=[APIKeyAuth(KEYS)]), observe=[journal])
    await drive(gate, http_scope(headers=headers))
    assert journal.told == told


async def test_an_app_that_fails_has_returned() -> None:
    """The context is left whatever the app does."""

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("boom")

    journal = Journal()
    with pytest.raises(RuntimeError):
        await drive(Gate(fails, observe=[journal]), http_scope())
    assert journal.told == ["judged, asked by nobody", "returned", "ended"]


async def test_the_first_byte_is_timed() -> None:
    """It is the body's first, not the head, and it comes before the end."""
    recorder = Recorder()
    await drive(Gate(App(), observe=[recorder]), http_scope())
    assert recorder.last.first_byte is not None
    assert recorder.last.duration is not None
    assert 0 < recorder.last.first_byte <= recorder.last.duration
    assert not recorder.last.streamed
    await drive(Gate(App(), observe=[recorder], authorize=[NO]), http_scope(method="HEAD"))
    assert recorder.last.first_byte is None  # an answer to HEAD has no body
