"""What a Gate does with a protocol: policies are asked about calls, refusals and answers are the protocol's."""

import json
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from agentgate import (
    APIKeyAuth,
    Authorizer,
    CELRules,
    Decision,
    Gate,
    HTTPBackend,
    Request,
    Route,
    allow,
    create_gateway,
    deny,
    new_key,
    shadow,
)
from agentgate.call import Call
from agentgate.protocols.protocol import AnswerRefused, May, Protocol, Reading, anything
from agentgate.record import Record
from agentgate.respond import Message, Send
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
POST = {"content-type": "application/json"}


class Toy(Protocol):
    """`{"tools": ["a", "b"]}` calls those; GET lists what there is, and so does what came back."""

    name: ClassVar[str] = "mcp"

    def reads_body(self, request: Request) -> bool:
        return request.method == "POST"

    def read(self, request: Request) -> Reading | Decision:
        if request.method != "POST":
            return Toys(Call("mcp", "tools/list", provisional=True))
        tools = request.json()["tools"]
        if not tools:
            return replace(deny("no tool", status=400, policy="toy"), body=b"toy: no tool")
        return Toys(*(Call("mcp", "tools/call", tool=tool) for tool in tools))

    def refuse(self, decision: Decision, request: Request) -> Decision:
        return replace(decision, body=f"toy {decision.status}".encode())


class Toys(Reading):
    def refuse(self, decision: Decision, call: Call | None) -> Decision:
        name = call.tool if call is not None else None
        return replace(decision, status=200, message=f"Unknown tool: {name}", body=b"unknown")

    def onward(
        self, headers: list[tuple[bytes, bytes]], body: bytes | None
    ) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        return [*headers, (b"x-toy", b"1")], None if body is None else body.replace(b"alias", b"add")

    def answering(self, send: Send, may: May, record: Record) -> Send:
        record.details["mcp.method.name"] = self.calls[0].method

        async def filtering(message: Message) -> None:
            if message.get("body", b"").startswith(b"["):
                tools = json.loads(message["body"])
                left = [tool for tool in tools if may(Call("mcp", "tools/list", tool=tool, provisional=True))]
                message = {**message, "body": json.dumps(left).encode()}
            await send(message)

        return filtering


class App:
    scope: Any = None
    body: bytes | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'["add", "drop", "alias"]'})


RULES = CELRules(allow=['mcp.tool.name in ["add", "alias"]'])


def post(**body: Any) -> dict[str, Any]:
    return {"request": http_scope("POST", headers=POST), "body": json.dumps(body).encode()}


async def test_every_call_has_to_be_allowed() -> None:
    app, recorder = App(), Recorder()
    gate = Gate(app, authorize=[RULES], observe=[recorder], protocol=Toy())
    assert (await drive(gate, **post(tools=["add"]))).status == 200
    assert app.body == b'{"tools": ["add"]}'
    record = recorder.last
    assert record.view.call == Call("mcp", "tools/call", tool="add")
    assert (record.protocol, record.details) == ("mcp", {"mcp.method.name": "tools/call"})
    app.body = None
    for tools in (["drop"], ["add", "drop"], ["drop", "add"]):
        exchange = await drive(gate, **post(tools=tools))
        assert (exchange.status, exchange.body, app.body) == (200, b"unknown", None)
        assert recorder.last.error == "Unknown tool: drop"
        assert [d.effect for d in recorder.last.trail][-1] == "deny"


async def test_of_several_calls_none_stands_for_all() -> None:
    """A Gate further in that has no protocol sees no call then, and its rules about calls deny."""
    inner = Gate(App(), authorize=[CELRules(deny=['mcp.tool.name == "drop"'])])
    gate = Gate(inner, authorize=[Always()], protocol=Toy())
    assert (await drive(gate, **post(tools=["add"]))).status == 200
    assert (await drive(gate, **post(tools=["add", "drop"]))).status == 403


class Always(Authorizer):
    def check(self, request: Request) -> Decision:
        return allow()


async def test_request_and_answer_pass_the_protocol() -> None:
    app = App()
    gate = Gate(app, authorize=[RULES, shadow(CELRules(allow=["false"]))], protocol=Toy())
    body = b'{"tools": ["alias"]}'
    headers = {**POST, "content-length": str(len(body))}
    exchange = await drive(gate, http_scope("POST", headers=headers), body=body)
    assert exchange.body == b'["add", "alias"]'
    assert app.body == b'{"tools": ["add"]}'
    assert dict(app.scope["headers"])[b"content-length"] == str(len(app.body)).encode()
    assert dict(app.scope["headers"])[b"x-toy"] == b"1"
    exchange = await drive(gate, http_scope("GET"))
    assert (exchange.status, exchange.body, app.body) == (200, b'["add", "alias"]', b"")


async def test_refusals_before_the_call_are_said_by_the_protocol_too() -> None:
    gate = Gate(App(), authenticate=[APIKeyAuth({"alice": KEY})], authorize=[RULES], protocol=Toy())
    good = {**POST, "authorization": f"Bearer {KEY}"}
    for scope, body, answer in (
        (http_scope("POST", headers=POST), b"{}", b"toy 401"),
        (http_scope("POST", "//", headers=good), b"{}", b"toy 400"),
        (http_scope("POST", headers={**good, "content-type": "text/plain"}), b"{}", b"toy 415"),
        (http_scope("POST", headers=good), b'{"tools": []}', b"toy: no tool"),
    ):
        assert (await drive(gate, scope, body=body)).body == answer


@pytest.mark.parametrize("member", ["reads_body", "read", "refuse"])
async def test_a_protocol_that_fails_denies(member: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("s3cret")

    app, recorder = App(), Recorder()
    monkeypatch.setattr(Toy, member, broken)
    gate = Gate(app, authorize=[CELRules(allow=["false"])], observe=[recorder], protocol=Toy())
    headers = {"content-type": "text/plain"} if member == "refuse" else POST
    exchange = await drive(gate, http_scope("POST", headers=headers), body=b'{"tools": ["add"]}')
    assert (exchange.status, exchange.body, app.body) == (500, b"internal error", None)
    assert "s3cret" not in repr(recorder.last.trail)


@pytest.mark.parametrize("member", ["onward", "answering"])
async def test_a_reading_that_fails_denies(member: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError

    app = App()
    monkeypatch.setattr(Toys, member, broken)
    exchange = await drive(Gate(app, protocol=Toy(), authorize=[Always()]), **post(tools=["add"]))
    assert (exchange.status, app.body) == (500, None)


async def test_a_backend_says_what_it_speaks() -> None:
    backend = HTTPBackend("http://upstream")
    backend.protocol = Toy()
    app = App()
    backend.app = app
    recorder = Recorder()
    gateway = create_gateway(Route("/mcp", backend, name="tools"), authorize=[RULES], observe=[recorder])
    for tool, status, body in (("add", 200, b'["add", "alias"]'), ("drop", 200, b"unknown")):
        exchange = await drive(
            gateway, http_scope("POST", "/mcp", headers=POST), body=json.dumps({"tools": [tool]}).encode()
        )
        assert (exchange.status, exchange.body) == (status, body)
        assert (recorder.last.route, recorder.last.protocol) == ("tools", "mcp")
    trail = gateway.explain(Request.http("POST", "/mcp", headers=POST, body=b'{"tools": ["drop"]}'))
    assert [(d.effect, d.policy) for d in trail] == [("deny", "CELRules")]


class Picky(Reading):
    """Lets an answer through as far as it is to begin."""

    def __init__(self, begins: bool) -> None:
        super().__init__(Call("mcp", "tools/call", tool="add"))
        self.details = {"mcp.method.name": "tools/call"}
        self.begins = begins

    def answering(self, send: Send, may: May, record: Record) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body" or not self.begins:
                raise AnswerRefused(deny("upstream call failed", status=502, detail="too picky"))
            await send(message)

        return sending


@pytest.mark.parametrize("begins", [False, True])
async def test_an_answer_that_is_refused_is_another_one_or_none(begins: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "read", lambda protocol, request: Picky(begins))
    recorder = Recorder()
    exchange = await drive(Gate(App(), protocol=Toy(), authorize=[RULES], observe=[recorder]), **post(tools=["add"]))
    assert recorder.last.details == {"mcp.method.name": "tools/call"}
    if begins:
        assert (exchange.status, exchange.body, exchange.complete) == (200, b"", False)
        assert recorder.last.error == "upstream call failed: too picky"
    else:
        assert (exchange.status, exchange.text, exchange.complete) == (502, "upstream call failed", True)
        assert recorder.last.refusal is not None


def test_a_protocol_alone_lets_everything_pass_seen_or_unseen() -> None:
    """It is no policy: a Gate with nothing else is refused as one with nothing at all."""
    with pytest.raises(ValueError, match="no policy and no observer"):
        Gate(App(), protocol=Toy())
    backend = HTTPBackend("http://upstream")
    backend.protocol = Toy()
    with pytest.raises(ValueError, match="no policy and no observer"):
        create_gateway(Route("/", backend))


def test_explain_takes_a_request_as_the_call_that_it_was_built_as() -> None:
    gate = Gate(authorize=[RULES], protocol=Toy())
    assert gate.explain(Request.tool("add"))[-1].effect == "allow"
    assert gate.explain(Request.tool("drop"))[-1].effect == "deny"
    assert [d.effect for d in gate.explain(Request.tool("drop"), every=True)] == ["deny", "deny"]
    asked = [Request.http("POST", headers=POST, body=b'{"tools": ["drop", "add"]}'), Request.http("POST", body=b"{}")]
    assert [[d.effect for d in gate.explain(request, every=True)] for request in asked] == [
        ["deny", "allow", "deny"],
        ["deny", "deny"],
    ]


async def test_a_gate_without_rules_asks_nothing_of_the_answer() -> None:
    given: list[May] = []

    class Curious(Toys):
        def answering(self, send: Send, may: May, record: Record) -> Send:
            given.append(may)
            return send

    class Asking(Toy):
        def read(self, request: Request) -> Reading | Decision:
            return Curious(Call("mcp", "tools/list", provisional=True))

    for authorize in ([], [shadow(RULES)], [RULES]):
        gate = Gate(App(), authorize=authorize, observe=[Recorder()], protocol=Asking(), public_url="https://a.example")
        await drive(gate, http_scope("GET"))
    assert [may is anything for may in given] == [True, True, False]
    drop = Call("mcp", "tools/call", tool="drop")
    assert [may(drop) for may in given] == [True, True, False]


async def test_what_the_log_should_know_is_noted_of_refusals_too() -> None:
    class Telling(Toys):
        def __init__(self, *calls: Call) -> None:
            super().__init__(*calls)
            self.details = {"mcp.method.name": "x"}

        def answering(self, send: Send, may: May, record: Record) -> Send:
            return send

    class Asking(Toy):
        def read(self, request: Request) -> Reading | Decision:
            return Telling(Call("mcp", "tools/call", tool=request.path[1:]))

    recorder = Recorder()
    gate = Gate(App(), authorize=[RULES], observe=[recorder], protocol=Asking())
    for path in ("/add", "/drop"):
        await drive(gate, http_scope("GET", path))
        assert recorder.last.details == {"mcp.method.name": "x"}


async def test_a_request_that_asks_for_nothing_is_denied() -> None:
    class Nothing(Toy):
        def read(self, request: Request) -> Reading | Decision:
            return Reading()

    app = App()
    exchange = await drive(Gate(app, authorize=[Always()], protocol=Nothing()), **post(tools=["add"]))
    assert (exchange.status, app.body) == (500, None)


async def test_only_an_enforced_yes_lists_an_item() -> None:
    class Sometimes(Authorizer):
        def check(self, request: Request) -> Decision:
            call = request.call
            assert call is not None
            return replace(allow(), enforced=call.tool != "drop") if call.tool != "alias" else allow(policy="x")

    exchange = await drive(Gate(App(), authorize=[Sometimes()], protocol=Toy()), http_scope("GET"))
    assert exchange.body == b'["add", "alias"]'


async def test_a_plain_protocol_changes_nothing() -> None:
    class Plain(Protocol):
        name: ClassVar[str] = "llm"

        def reads_body(self, request: Request) -> bool:
            return False

        def read(self, request: Request) -> Reading | Decision:
            return Reading(Call("llm", "chat", model=request.path))

    app = App()
    gate = Gate(app, authorize=[CELRules(allow=["llm.requestModel == '/a'"])], protocol=Plain())
    assert (await drive(gate, http_scope("POST", "/a"), body=[b"x", b"y"])).status == 200
    assert app.body == b"x"
    exchange = await drive(gate, http_scope("POST", "/b"))
    assert (exchange.status, exchange.text) == (403, "authorization failed")
    exchange = await drive(gate, http_scope("POST", "//"))
    assert exchange.status == 400


async def test_what_is_no_refusal_is_not_said_as_one() -> None:
    tokens = APIKeyAuth({"alice": KEY})
    tokens.resource_metadata = {"authorization_servers": ["https://login.example"]}
    gate = Gate(App(), authenticate=[tokens], protocol=Toy(), public_url="https://example.com/mcp")
    exchange = await drive(gate, http_scope("GET", "/.well-known/oauth-protected-resource/mcp"))
    assert json.loads(exchange.body)["resource"] == "https://example.com/mcp"
    exchange = await drive(gate, http_scope("OPTIONS", "*"))
    assert (exchange.status, exchange.body) == (204, b"")
    exchange = await drive(gate, http_scope("POST", "/mcp", headers=POST))
    assert (exchange.status, exchange.body) == (401, b"toy 401")
    assert "resource_metadata=" in exchange.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"tools": ["drop", "add", "drop"]}', ["deny APIKeyAuth", "deny None", "allow allow[0]", "deny None"]),
        (b'{"tools": []}', ["deny APIKeyAuth", "deny toy"]),
        (b"{", ["deny APIKeyAuth", "deny body"]),
    ],
)
def test_explain_asks_about_every_call_and_the_first_denial_stands(body: bytes, asked: list[str]) -> None:
    """Whatever the protocol will make of that denial."""
    gate = Gate(authenticate=[APIKeyAuth({"alice": KEY})], authorize=[RULES], protocol=Toy())
    for api_key, skipped in ((None, 0), ({}, 1)):
        request = Request.http("POST", headers=POST, body=body, api_key=api_key)
        *answers, stands = gate.explain(request, every=True)
        told = [f"{d.effect} {d.rule if d.policy == 'CELRules' else d.policy}" for d in answers]
        assert told == asked[skipped:]
        assert stands is answers[0]
        assert stands == gate.explain(request)[-1]


async def test_a_call_read_before_the_body_was_changed_is_forgotten() -> None:
    """An app between Gates may make several calls of one: then the Gates further in must not judge by the first."""
    app = App()
    inner = Gate(
        Gate(app, authorize=[CELRules(deny=['mcp.tool.name == "drop"'])]), authorize=[Always()], protocol=Toy()
    )

    async def changing(scope: Any, receive: Any, send: Any) -> None:
        await receive()

        async def changed() -> Any:
            return {"type": "http.request", "body": b'{"tools": ["add", "drop"]}'}

        headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
        await inner({**scope, "headers": headers}, changed, send)

    outer = Gate(changing, authorize=[Always()], protocol=Toy())
    assert (await drive(outer, **post(tools=["add"]))).status == 403
    assert app.body is None
