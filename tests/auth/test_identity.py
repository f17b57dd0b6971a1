"""Identity headers: the app hears who is asking from the gate, and never from the client."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from agentgate import (
    APIKeyAuth,
    APIKeyMiddleware,
    Authenticator,
    CELRules,
    ConfigurationError,
    Decision,
    Edge,
    Gate,
    Header,
    HTTPBackend,
    Key,
    Principal,
    Request,
    Route,
    StaticKeys,
    abstain,
    allow,
    create_gateway,
    new_key,
)
from agentgate.posture import Mode
from agentgate.testing import Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
KEYS = StaticKeys([Key("alice", KEY, {"group": "eng", "level": 3, "on call": True, "teams": ["a"]})])
WITH_KEY = [("authorization", f"Bearer {KEY}")]


class Claims(Authenticator):
    """Knows everybody who sends `x-token`, by the claims it was made with."""

    location = Header("x-token")

    def __init__(self, identity_headers: Mapping[str, str], **claims: Any) -> None:
        self.identity_headers = identity_headers
        self.claims = claims

    def check(self, request: Request) -> Decision:
        return allow(Principal("alice", "jwt", self.claims)) if "x-token" in request.headers else abstain()


class App:
    """Keeps the headers that it is called with."""

    headers: list[tuple[str, str]] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    def told(self) -> list[tuple[str, str]]:
        """What it heard, but for the host."""
        assert self.headers is not None, "it was not called"
        return [pair for pair in self.headers if pair[0] != "host"]


AUTH = APIKeyAuth(KEYS, identity_headers={"X-Agent-Group": "group", "x-agent-level": "level"})


async def test_the_app_is_told_what_is_known_of_the_caller() -> None:
    app = App()
    exchange = await drive(Gate(app, authenticate=[AUTH]), http_scope(headers=[*WITH_KEY, ("x-other", "1")]))
    assert exchange.status == 200
    assert app.told() == [("x-other", "1"), ("x-agent-group", "eng"), ("x-agent-level", "3")]


SPOOFS = {
    "as it is": [("x-agent-group", "admin")],
    "twice": [("x-agent-group", "admin"), ("x-agent-group", "root")],
    "with underscores": [("x_agent_group", "admin")],
    "with a mixture": [("x-agent_group", "admin")],
    "with other characters that some servers turn into underscores": [("x.agent.group", "a"), ("x~agent!group", "b")],
    "empty": [("x-agent-group", "")],
    "that of another caller's": [("x-agent-level", "9")],
}
LAX = Edge(allow_underscores=True)


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("spoof", SPOOFS.values(), ids=SPOOFS)
@pytest.mark.parametrize(
    ("mode", "credentials", "told"),
    [
        pytest.param(
            "strict", WITH_KEY, [("x-agent-group", "eng"), ("x-agent-level", "3")], id="with the caller's own instead"
        ),
        pytest.param("optional", [], [], id="of an anonymous caller, with nothing instead"),
        pytest.param("permissive", [("authorization", "Bearer x")], [], id="of a bad credential, with nothing instead"),
    ],
)
async def test_what_a_client_sends_under_such_a_name_is_removed(
    mode: Mode, credentials: list[tuple[str, str]], told: list[tuple[str, str]], spoof: Any, kind: str
) -> None:
    app = App()
    scope_of = http_scope if kind == "http" else websocket_scope
    scope = scope_of(headers=[("x-a", "1"), *spoof, *credentials, ("x-b", "2")])
    await drive(Gate(app, authenticate=[AUTH], mode=mode, edge=LAX), scope)
    assert [pair for pair in app.told() if pair[0] != "authorization"] == [("x-a", "1"), ("x-b", "2"), *told]


async def test_the_edge_refuses_underscores_before_that() -> None:
    exchange = await drive(Gate(App(), authenticate=[AUTH]), http_scope(headers=[*WITH_KEY, ("x_agent_group", "a")]))
    assert (exchange.status, exchange.text) == (400, "invalid request: a header name has an underscore")


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ("x-agent-group", None),
        ("close, X-Agent-Group", "close"),
        ("X_Agent_Group ,\tx-agent-level,keep-alive", "keep-alive"),
        ("keep-alive, te", "keep-alive, te"),
    ],
)
async def test_a_client_cannot_have_the_next_hop_remove_it(sent: str, left: str | None) -> None:
    """`Connection: x-agent-group` would tell a proxy behind the gate that the header is not for the upstream."""
    app = App()
    await drive(Gate(app, authenticate=[AUTH]), http_scope(headers=[*WITH_KEY, ("connection", sent)]))
    expected = [] if left is None else [("connection", left)]
    assert app.told() == [*expected, ("x-agent-group", "eng"), ("x-agent-level", "3")]


async def test_a_header_that_a_server_adds_while_the_body_comes_in_is_not_passed_on() -> None:
    """uvicorn with httptools appends request trailers to the list of headers that it has handed out."""
    app = App()
    scope = http_scope(headers=WITH_KEY)

    class Slow(CELRules):
        async def prepare(self, request: Request) -> None:
            scope["headers"].append((b"x-agent-group", b"admin"))

    await drive(Gate(app, authenticate=[AUTH], authorize=[Slow(allow=["true"])]), scope)
    assert app.told() == [("x-agent-group", "eng"), ("x-agent-level", "3")]


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        pytest.param('request.headers["x-agent-group"] == "admin"', False, id="a rule cannot be told so either"),
        pytest.param('!("x-agent-group" in request.headers)', True, id="to a rule the header is not there"),
        pytest.param('apiKey.group == "eng"', True, id="a rule reads the principal"),
    ],
)
async def test_rules_judge_the_request_without_what_the_client_claims(rule: str, allowed: bool) -> None:
    gate = Gate(App(), authenticate=[AUTH], authorize=[CELRules(allow=[rule])])
    headers = [*WITH_KEY, ("x-agent-group", "admin")]
    assert (await drive(gate, http_scope(headers=headers))).status == (200 if allowed else 403)
    assert gate.explain(Request.http(headers=headers))[-1].effect == ("allow" if allowed else "deny")


async def test_the_log_s_record_keeps_the_request_as_it_came() -> None:
    recorder = Recorder()
    await drive(
        Gate(App(), authenticate=[AUTH], observe=[recorder]),
        http_scope(headers=[*WITH_KEY, ("x-agent-group", "admin")]),
    )
    assert recorder.last.request.headers["x-agent-group"] == "admin"
    assert "x-agent-group" not in recorder.last.view.headers


# Values.


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("alice", "alice"),
        ("Alice Smith", "Alice Smith"),
        ('a,b;c="d"~!', 'a,b;c="d"~!'),
        (7, "7"),
        (-(2**63), str(-(2**63))),
        (True, "true"),
        (False, "false"),
        (0, "0"),
    ],
)
async def test_values_that_a_header_can_carry(value: Any, told: str) -> None:
    app = App()
    gate = Gate(app, authenticate=[Claims({"x-agent-sub": "sub"}, sub=value)])
    await drive(gate, http_scope(headers={"x-token": "t"}))
    assert app.told() == [("x-agent-sub", told)]


async def test_an_attribute_that_is_not_there_makes_no_header() -> None:
    app = App()
    gate = Gate(app, authenticate=[Claims({"x-agent-sub": "sub", "x-agent-org": "org"}, org="acme")])
    await drive(gate, http_scope(headers={"x-token": "t", "x-agent-sub": "root"}))
    assert app.told() == [("x-agent-org", "acme")]


@pytest.mark.parametrize(
    "value",
    [
        "hunter2\r\nx-admin: 1",
        "hunter2\n",
        "hunter2\x00",
        "hunter2\x7f",
        "hünter2",
        "hunter2\u2028",
        "hunter2\ud800",
        " hunter2",
        "hunter2 ",
        "\thunter2",
        "hunter2\tx",
        "",
        " ",
        None,
        1.5,
        float("nan"),
        2**64,
        pytest.param(10**5000, id="a number of 5000 digits"),
        ["hunter2"],
        {"hunter2": 1},
        b"hunter2",
    ],
    ids=repr,
)
@pytest.mark.parametrize("mode", ["strict", "optional", "permissive"])
async def test_any_other_value_is_refused_and_not_shown(value: Any, mode: Mode) -> None:
    app, recorder = App(), Recorder()
    gate = Gate(app, authenticate=[Claims({"x-agent-sub": "sub"}, sub=value)], observe=[recorder], mode=mode)
    exchange = await drive(gate, http_scope(headers={"x-token": "t"}))
    assert (exchange.status, exchange.text) == (403, "authorization failed")
    assert app.headers is None
    refusal = recorder.last.refusal
    assert refusal is not None
    assert refusal.code == "identity_not_sendable"
    assert refusal.detail == "identity header: 'sub' is no text, whole number or truth value that a header can carry"
    assert gate.explain(Request.http(headers={"x-token": "t"}))[-1] == refusal
    assert "hunter2" not in repr(recorder.last.trail)


class Broken(Mapping[str, Any]):
    """Attributes that cannot be read."""

    def __getitem__(self, name: str) -> Any:
        raise RuntimeError("hunter2")

    def __iter__(self) -> Any:
        raise RuntimeError("hunter2")

    def __len__(self) -> int:
        return 1


async def test_attributes_that_cannot_be_read_are_a_denial() -> None:
    policy = Claims({"x-agent-sub": "sub"})
    policy.claims = Broken()  # type: ignore[assignment]
    app = App()
    exchange = await drive(Gate(app, authenticate=[policy]), http_scope(headers={"x-token": "t"}))
    assert (exchange.status, exchange.text, app.headers) == (500, "internal error", None)


async def test_each_authenticator_sets_its_own_and_all_are_removed() -> None:
    """Who came in with a key says nothing in the header that is the token's."""
    token = Claims({"x-agent-sub": "sub", "x-agent-group": "grp"}, sub="bob", grp="ops")
    spoof = [("x-agent-sub", "root"), ("x-agent-group", "root"), ("x-agent-level", "root")]
    by_key, by_token = App(), App()
    await drive(Gate(by_key, authenticate=[AUTH, token]), http_scope(headers=[*spoof, *WITH_KEY]))
    await drive(Gate(by_token, authenticate=[AUTH, token]), http_scope(headers=[*spoof, ("x-token", "t")]))
    assert by_key.told() == [("x-agent-group", "eng"), ("x-agent-level", "3")]
    assert by_token.told() == [("x-agent-sub", "bob"), ("x-agent-group", "ops")]


async def test_nested_gates_each_set_their_own() -> None:
    app = App()
    inner = Gate(app, authenticate=[Claims({"x-agent-sub": "sub"}, sub="bob")])
    outer = Gate(inner, authenticate=[AUTH])
    await drive(outer, http_scope(headers=[*WITH_KEY, ("x-token", "t"), ("x-agent-sub", "root")]))
    assert app.told() == [("x-agent-group", "eng"), ("x-agent-level", "3"), ("x-agent-sub", "bob")]


async def test_the_middleware_takes_them_too() -> None:
    app = App()
    await drive(APIKeyMiddleware(app, KEYS, identity_headers={"x-agent-group": "group"}), http_scope(headers=WITH_KEY))
    assert app.told() == [("x-agent-group", "eng")]


# In a gateway.


class Upstream(httpx.AsyncBaseTransport):
    """Keeps the headers of the request that was forwarded."""

    headers: list[tuple[bytes, bytes]]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.headers = request.headers.raw
        return httpx.Response(200)


@pytest.mark.parametrize(
    ("target", "headers", "told"),
    [
        pytest.param("/keyed", WITH_KEY, [b"eng", b"3"], id="a route with the key"),
        pytest.param("/keyed", [*WITH_KEY, ("connection", "x-agent-group, close")], [b"eng", b"3"], id="Connection"),
        pytest.param("/keyed", [*WITH_KEY, ("x-agent-group", "admin")], [b"eng", b"3"], id="a claim of the client's"),
        pytest.param("/public", [("x-agent-group", "admin")], [], id="such a claim on a public route"),
        pytest.param("/public", [("x.agent-level", "9")], [], id="such a claim in another spelling"),
    ],
)
async def test_an_upstream_hears_it_from_the_gateway_alone(target: str, headers: Any, told: list[bytes]) -> None:
    upstream = Upstream()
    backend = HTTPBackend("http://upstream:8000", transport=upstream)
    gateway = create_gateway(Route("/keyed", backend), Route("/public", backend, authenticate=[]), authenticate=[AUTH])
    assert (await drive(gateway, http_scope(target=target, headers=headers))).status == 200
    assert [value for name, value in upstream.headers if b"agent" in name] == told


async def test_no_route_is_chosen_by_what_a_client_claims() -> None:
    gateway = create_gateway(
        Route("/", HTTPBackend("http://upstream:8000", transport=Upstream()), headers={"x-agent-group": "admin"}),
        authenticate=[AUTH],
    )
    headers = [*WITH_KEY, ("x-agent-group", "admin")]
    assert (await drive(gateway, http_scope(headers=headers))).status == 404
    assert gateway.explain(Request.http(headers=headers))[-1].status == 404


# What is no identity header.


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *((name, "this header has a meaning of its own") for name in (
            "Host", "content-length", "Transfer-Encoding", "authorization", "connection", "te", "Cookie",
            "proxy-authorization", "proxy-anything", "sec-websocket-key", "x-api-key", "x-forwarded-for",
            "mcp-session-id", "content-anything", "if-match", "expect", "x-http-method-override",
        )),
        *((name, "no header name of letters, digits and hyphens") for name in (
            "", "x agent", "x_agent", "x-ägent", "x-agent\r\nx-b", "x:y", "x\ud800",
        )),
        ("x-token", "a credential is read there"),
        ("X-TOKEN", "a credential is read there"),
        ("x.token", "a credential is read there"),
    ],
)  # fmt: skip
def test_names_that_are_taken(name: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Gate(authenticate=[Claims({name: "sub"})])
    assert caught.value.faults == (f"Claims: identity header {name!r}: {fault}",)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Gate(
            authenticate=[
                Claims({"host": "a", "x-sub": "sub", "X.Sub": "name", "x-ok": ""}),
                Claims({"x-sub": 1}),  # type: ignore[dict-item]
                Claims(["x-sub"]),  # type: ignore[arg-type]
            ]
        )
    assert caught.value.faults == (
        "Claims: identity header 'host': this header has a meaning of its own",
        "Claims: identity header 'X.Sub': twice, as some servers read it",
        "Claims: identity header 'x-ok': names and attributes are text",
        "Claims: identity header 'x-sub': names and attributes are text",
        "Claims: identity headers: a mapping from header names to attributes",
    )


async def test_what_is_changed_after_the_gate_was_built_changes_nothing() -> None:
    names = {"x-agent-sub": "sub"}
    app = App()
    gate = Gate(app, authenticate=[Claims(names, sub="alice", org="acme")])
    names["host"] = "org"
    await drive(gate, http_scope(headers={"x-token": "t"}))
    assert app.told() == [("x-agent-sub", "alice")]
