"""Whose budget a request spends, and what cannot choose it."""

from typing import Any

import pytest

from agentgate import Call, Principal, Request, cel
from agentgate.limits.key import Key, NoKey, NotCounted
from agentgate.request import authenticated, forwarded_for, routed


def bucket(key: Any, request: Request) -> Any:
    made = Key(key)
    assert made.faults == []
    try:
        return made.of(request)
    except NotCounted:
        return None
    except NoKey as fault:
        return str(fault)


ALICE = {"name": "alice"}
TOKEN = {"sub": "alice", "iss": "https://a"}


def routed_to(route: str) -> Request:
    request = Request.http()
    routed(request, None, route)
    return request


def anonymous(address: str) -> Request:
    return Request.http(client=(address, 1))


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        pytest.param("principal", Request.http(api_key=ALICE), Request.http(api_key={"name": "bob"}), id="ids"),
        pytest.param("principal", Request.http(api_key=ALICE), Request.http(jwt={"sub": "alice"}), id="kinds"),
        pytest.param("principal", Request.http(jwt=TOKEN), Request.http(jwt={**TOKEN, "iss": "b"}), id="issuers"),
        pytest.param("principal", Request.http(api_key={"name": "10.0.0.1"}), anonymous("10.0.0.1"), id="peers"),
        pytest.param("principal", Request.http(api_key={"name": "x" * 500}), Request.http(api_key={"name": "x" * 501})),
        pytest.param("principal", anonymous("10.0.0.1"), anonymous("10.0.0.2"), id="addresses"),
        pytest.param("peer", anonymous("2001:db8::1"), anonymous("2001:db8:0:1::1"), id="networks"),
        pytest.param("tool", Request.tool("a"), Request.tool("b"), id="tools"),
        pytest.param("tool", Request.tool("a", server="x"), Request.tool("a", server="y"), id="targets"),
        pytest.param("model", Request.model("a"), Request.model("b"), id="models"),
        pytest.param("route", routed_to("a"), routed_to("b"), id="routes"),
        pytest.param(["principal", "tool"], Request.tool("a", api_key=ALICE), Request.tool("b", api_key=ALICE)),
        pytest.param(
            ["jwt.a", "jwt.b"],
            Request.http(jwt={"a": 'x"], ["value", "y', "b": "z"}),
            Request.http(jwt={"a": "x", "b": 'y"], ["value", "z'}),
            id="parts that look like two",
        ),
        pytest.param('jwt.sub + ":" + mcp.tool.name', Request.tool("a", jwt=TOKEN), Request.tool("b", jwt=TOKEN)),
        pytest.param("jwt.sub", Request.http(jwt={"sub": ""}), Request.http(jwt={"sub": " "})),
        pytest.param("jwt.sub", Request.http(jwt={"sub": "x" * 400}), Request.http(jwt={"sub": "x" * 399 + "y"})),
    ],
)
def test_buckets_that_are_told_apart(key: Any, one: Request, other: Request) -> None:
    first, second = bucket(key, one), bucket(key, other)
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert first != second
    assert sum(map(len, first)) < 600


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        pytest.param("principal", Request.http("GET", "/a", api_key=ALICE), Request.tool("b", api_key=ALICE)),
        pytest.param(
            "principal", Request.http(api_key=ALICE, client=("10.0.0.1", 1)), Request.http(api_key=ALICE, client=None)
        ),
        pytest.param("peer", anonymous("2001:db8::1"), anonymous("2001:db8::ffff:2"), id="one network"),
        pytest.param(
            "peer", anonymous("::ffff:10.0.0.1"), anonymous("10.0.0.1"), id="one address, written in two ways"
        ),
        pytest.param("peer", anonymous("10.0.0.1"), Request.http(client=("10.0.0.1", 4711), api_key=ALICE), id="port"),
        pytest.param("peer", Request.http(client=None), Request.http(client=None), id="no peer"),
        pytest.param("peer", anonymous("/run/a:b.sock"), anonymous("/run/a:b.sock"), id="no address"),
        pytest.param([], Request.http(api_key=ALICE), Request.tool("a"), id="all"),
        pytest.param(
            "principal",
            Request.http(client=("10.0.0.1", 1), headers={"x-forwarded-for": "192.0.2.1"}),
            Request.http(client=("10.0.0.1", 1), headers={"x-forwarded-for": "192.0.2.2", "forwarded": "for=x"}),
            id="whatever the client says of itself",
        ),
        pytest.param("model", Request.model("gpt-5"), Request.model("GPT-5"), id="one model, in another case"),
        pytest.param("model", Request.http(call=Call("llm", "unknown")), Request.http(call=Call("llm", "x"))),
    ],
)
def test_buckets_that_are_one(key: Any, one: Request, other: Request) -> None:
    assert isinstance(bucket(key, one), tuple)
    assert bucket(key, one) == bucket(key, other)


def test_whom_a_trusted_proxy_names_is_the_peer() -> None:
    request = anonymous("10.0.0.1")
    forwarded_for(request, ("192.0.2.1", None))
    assert bucket("principal", request) == ("peer", "192.0.2.1")


def test_of_nested_gates_the_innermost_says_who_asks() -> None:
    request = Request.http(api_key=ALICE)
    authenticated(request, Principal("agent", "jwt", {"iss": "https://a"}))
    assert bucket("principal", request) == ("principal", "jwt", "https://a", "agent")


@pytest.mark.parametrize(
    ("key", "request_"),
    [
        ("tool", Request.prompt("p")),
        ("tool", Request.model("m")),
        ("tool", Request.http(call=Call("mcp", "initialize", provisional=True))),
        ("model", Request.tool("t")),
        ("model", Request.http(call=Call("llm", "models", provisional=True))),
        (["principal", "tool"], Request.prompt("p", api_key=ALICE)),
        ('jwt.sub + ":" + mcp.tool.name', Request.http(jwt=TOKEN, call=Call("mcp", "initialize", provisional=True))),
    ],
)
def test_what_the_key_is_not_about_is_not_counted(key: Any, request_: Request) -> None:
    assert bucket(key, request_) is None


@pytest.mark.parametrize(
    ("key", "request_", "why"),
    [
        ("tool", Request.http(), "no protocol is read here that would tell which tool is called"),
        ("model", Request.http(), "no protocol is read here that would tell which model is asked"),
        ("route", Request.http(), "there is no gateway here that has found a route"),
        ("jwt.sub", Request.http(), "the key failed at 1:1: no_such_key"),
        ("jwt.tenant", Request.http(jwt=TOKEN), "the key failed at 1:5: no_such_key"),
        ("jwt.level", Request.http(jwt={**TOKEN, "level": 7}), "the key failed: its value is no text"),
        ("mcp.tool.name", Request.prompt("p"), "the key failed at 1:5: no_such_field"),
        ("mcp.tool.name", Request.http(), "the key failed at 1:1: no_such_key"),
        (
            "string(mcp.tool.arguments.x)",
            Request.http(call=Call("mcp", "tools/call", tool="add", arguments=cel.UNKNOWN)),
            "the key failed: it depends on what is not known",
        ),
        ('request.headers["x-tenant"]', Request.http(headers=[("x-tenant", "a"), ("x-tenant", "b")]), None),
    ],
)
def test_a_key_that_cannot_be_told(key: Any, request_: Request, why: str | None) -> None:
    found = bucket(key, request_)
    assert isinstance(found, str)
    if why is not None:
        assert found == why


def test_a_key_that_breaks_tells_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request: Request) -> str:
        raise RuntimeError("secret")

    monkeypatch.setattr(Request, "path", property(broken))
    found = bucket("request.path", Request.http())
    assert found.startswith("the key failed: RuntimeError at test_key.py:")
    assert "secret" not in found


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        (7, "key is one of principal, tool, model, route, peer, an expression, or a list of those"),
        (b"principal", "key is one of"),
        ([7], "key is one of"),
        (None, "key is one of"),
        ("jwt.", "key: "),
        ("principle", "key: "),
        ("size(jwt.sub)", "key: "),
        ("true", "key: "),
        (["principal", "response.code"], "key: "),
    ],
)
def test_a_key_that_is_none(key: Any, fault: str) -> None:
    faults = Key(key).faults
    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_a_key_of_the_body_has_it_read() -> None:
    assert Key("string(request.body)").reads_body
    assert not Key(["principal", "request.path"]).reads_body
