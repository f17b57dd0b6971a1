"""What an MCP request asks for: every method that names something, in both eras, and every way to ask for it unseen."""

import json
from typing import Any

import pytest

from agentgate import MCP, CELRules, Decision, Gate, Request
from agentgate.call import Call
from agentgate.protocols.protocol import Reading
from agentgate.testing import Recorder

from .mcp_messages import LEGACY, META, MODERN, VERSION_KEY, Server, encoded, error_of, gated, message, modern, send

pytestmark = pytest.mark.anyio

PROTOCOL = MCP()
JSON = {"content-type": "application/json"}


def read(body: Any, headers: dict[str, str] | None = None, method: str = "POST") -> Reading | Decision:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return PROTOCOL.read(Request.http(method, "/mcp", headers={**JSON, **(headers or {})}, body=data))


def calls(body: Any, headers: dict[str, str] | None = None, method: str = "POST") -> list[Call]:
    reading = read(body, headers, method)
    assert isinstance(reading, Reading), reading
    return [*reading.calls]


TEMPLATE = "file:///{path}"
NAMED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # method: (eras, params, what the Call has)
    "tools/call": ("both", {"name": "add", "arguments": {"a": [1]}}, {"tool": "add", "arguments": {"a": [1]}}),
    "prompts/get": ("both", {"name": "hi", "arguments": {"x": "y"}}, {"prompt": "hi", "arguments": {"x": "y"}}),
    "resources/read": ("both", {"uri": "file:///a"}, {"resource": "file:///a"}),
    "resources/subscribe": ("legacy", {"uri": "file:///a"}, {"resource": "file:///a"}),
    "resources/unsubscribe": ("legacy", {"uri": "file:///a"}, {"resource": "file:///a"}),
    "tasks/get": ("both", {"taskId": "t1"}, {"task": "t1"}),
    "tasks/result": ("legacy", {"taskId": "t1"}, {"task": "t1"}),
    "tasks/cancel": ("both", {"taskId": "t1"}, {"task": "t1"}),
    "tasks/update": ("modern", {"taskId": "t1"}, {"task": "t1"}),
}


@pytest.mark.parametrize("method", NAMED)
def test_methods_that_name_something(method: str) -> None:
    eras, params, named = NAMED[method]
    if eras != "modern":
        assert calls(message(method, params)) == [Call("mcp", method, **named)]
        assert calls(message(method, params), {"mcp-protocol-version": LEGACY}) == [Call("mcp", method, **named)]
        assert calls(message(method, params, id=...)) == [Call("mcp", method, **named)]  # as a notification
    if eras != "legacy":
        assert calls(*modern(method, params)) == [Call("mcp", method, **named)]


@pytest.mark.parametrize("method", [name for name, row in NAMED.items() if row[0] != "both"])
def test_a_method_of_the_other_era_is_unknown(method: str) -> None:
    eras, params, _ = NAMED[method]
    found = calls(message(method, params)) if eras == "modern" else calls(*modern(method, params))
    assert found == [Call("mcp", method)]


@pytest.mark.parametrize(
    ("ref", "named"),
    [
        ({"type": "ref/prompt", "name": "hi"}, {"prompt": "hi"}),
        ({"type": "ref/resource", "uri": "file:///a"}, {"resource": "file:///a"}),
        ({"type": "ref/resource", "uri": TEMPLATE}, {"resource": TEMPLATE}),
    ],
)
def test_completion_is_about_what_it_refers_to(ref: Any, named: Any) -> None:
    params = {"ref": ref, "argument": {"name": "path", "value": "x"}}
    assert calls(message("completion/complete", params)) == [Call("mcp", "completion/complete", **named)]
    assert calls(*modern("completion/complete", params)) == [Call("mcp", "completion/complete", **named)]


def listen(**wanted: Any) -> tuple[dict[str, Any], dict[str, str]]:
    return modern("subscriptions/listen", {"notifications": wanted})


def test_each_subscription_is_a_call() -> None:
    method = "subscriptions/listen"
    assert calls(*listen(resourceSubscriptions=["file:///a", "file:///b"], taskIds=["t"])) == [
        Call("mcp", method, resource="file:///a"),
        Call("mcp", method, resource="file:///b"),
        Call("mcp", method, task="t"),
    ]
    assert calls(*listen(toolsListChanged=True)) == [Call("mcp", method, provisional=True)]
    assert calls(*listen(resourceSubscriptions=[])) == [Call("mcp", method, provisional=True)]
    assert calls(*listen(resourceSubscriptions=None)) == [Call("mcp", method, provisional=True)]
    assert calls(*modern(method)) == [Call("mcp", method, provisional=True)]


@pytest.mark.parametrize("method", ["tools/list", "prompts/list", "resources/list", "resources/templates/list"])
def test_lists_name_nothing_yet(method: str) -> None:
    assert calls(message(method)) == [Call("mcp", method, provisional=True)]
    assert calls(*modern(method, {"cursor": "x"})) == [Call("mcp", method, provisional=True)]


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "tasks/list"])
def test_methods_of_sessions(method: str) -> None:
    assert calls(message(method, {})) == [Call("mcp", method, provisional=True)]
    assert calls(*modern(method)) == [Call("mcp", method)]


@pytest.mark.parametrize("method", ["server/discover", "subscriptions/listen"])
def test_methods_without_sessions(method: str) -> None:
    assert calls(*modern(method))[0].provisional
    assert calls(message(method)) == [Call("mcp", method)]


@pytest.mark.parametrize("name", ["initialized", "cancelled", "progress", "roots/list_changed", "of/their/own"])
def test_notifications_name_nothing(name: str) -> None:
    method = f"notifications/{name}"
    assert calls(message(method, id=...)) == [Call("mcp", method, provisional=True)]
    assert calls(message(method)) == [Call("mcp", method)]  # with an id it is no notification


@pytest.mark.parametrize("method", ["TOOLS/CALL", "tools/call/", "tools/call\u200b", "x", "rpc.discover"])
def test_unknown_methods_are_not_provisional(method: str) -> None:
    reading = read(message(method, {"name": "add"}))
    if isinstance(reading, Reading):
        assert reading.calls == (Call("mcp", method),)
    else:
        assert not method.isprintable()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_requests_without_a_message(method: str) -> None:
    assert calls(b"", method=method) == [Call("mcp", method, provisional=True)]
    assert calls(b"", {"content-length": "0"}, method=method) == [Call("mcp", method, provisional=True)]


# What is refused.

ADD = {"name": "add", "arguments": {}}


def without(params: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in names}


BAD_PARAMS: dict[str, Any] = {
    "no params at all": message("tools/call"),
    "a list": message("tools/call", ["add"]),
    "text": message("tools/call", "add"),
    "a number": message("tools/call", 1),
    "null": {**message("tools/call"), "params": None},
    "no name": message("tools/call", {"arguments": {}}),
    "a null name": message("tools/call", {"name": None}),
    "a number as name": message("tools/call", {"name": 1}),
    "a list as name": message("tools/call", {"name": ["add"]}),
    "an empty name": message("tools/call", {"name": ""}),
    "a blank in front": message("tools/call", {"name": " add"}),
    "a blank behind": message("tools/call", {"name": "add "}),
    "a NUL": message("tools/call", {"name": "add\0"}),
    "a line end": message("tools/call", {"name": "add\n"}),
    "a zero-width blank": message("tools/call", {"name": "add\u200b"}),
    "a very long name": message("tools/call", {"name": "a" * 1025}),
    "arguments in a list": message("tools/call", {"name": "add", "arguments": [1]}),
    "arguments as text": message("tools/call", {"name": "add", "arguments": "a=1"}),
    "a prompt without a name": message("prompts/get", {}),
    "a task without an id": message("tasks/get", {}),
    "a task whose id is a number": message("tasks/get", {"taskId": 7}),
    "no URI": message("resources/read", {}),
    "a URI that is an object": message("resources/read", {"uri": {"href": "file:///a"}}),
    "a template where a URI belongs": message("resources/read", {"uri": TEMPLATE}),
    "no reference": message("completion/complete", {}),
    "a reference that is text": message("completion/complete", {"ref": "ref/prompt"}),
    "a reference of no type": message("completion/complete", {"ref": {"name": "hi"}}),
    "a reference of another type": message("completion/complete", {"ref": {"type": "ref/tool", "name": "hi"}}),
    "a prompt reference without a name": message("completion/complete", {"ref": {"type": "ref/prompt", "uri": "a:b"}}),
    "a resource reference without a URI": message("completion/complete", {"ref": {"type": "ref/resource"}}),
    "_meta that is a list": message("tools/list", {"_meta": []}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PARAMS)
async def test_params_that_name_nothing_plainly(name: str) -> None:
    """The call fails, and the client of a session lives on."""
    server = Server()
    exchange = await send(gated(server, observe=[Recorder()]), BAD_PARAMS[name])
    assert (exchange.status, error_of(exchange)[0], server.asked) == (200, -32602, [])
    assert json.loads(exchange.body)["id"] == 1


@pytest.mark.parametrize(
    "wanted",
    [
        {"resourceSubscriptions": "file:///a"},
        {"resourceSubscriptions": ["file:///a", 1]},
        {"resourceSubscriptions": ["file:///a/../b"]},
        {"taskIds": {"t": 1}},
        {"taskIds": [""]},
        {"resourceSubscriptions": ["file:///a"] * 200, "taskIds": ["t"] * 57},
    ],
)
async def test_subscriptions_that_cannot_be_judged(wanted: Any) -> None:
    exchange = await send(gated(Server(), observe=[Recorder()]), *listen(**wanted))
    assert (exchange.status, error_of(exchange)[0]) == (400, -32602)
    exchange = await send(
        gated(Server(), observe=[Recorder()]), *modern("subscriptions/listen", {"notifications": ["tools"]})
    )
    assert (exchange.status, error_of(exchange)[0]) == (400, -32602)


MALFORMED: dict[str, tuple[Any, int]] = {
    "nothing": (b"", -32700),
    "no JSON": (b"{", -32700),
    "two documents": (b'{"jsonrpc":"2.0","id":1,"method":"ping"}{}', -32700),
    "a batch": ([message("tools/call", ADD)], -32600),
    "a batch in a batch": ([[message("tools/call", ADD)]], -32600),
    "an empty batch": ([], -32600),
    "text": ("tools/call", -32600),
    "no version": (without(message("tools/call", ADD), "jsonrpc"), -32600),
    "an id that is null": (message("tools/call", ADD, id=None), -32600),
    "an id that is an object": (message("tools/call", ADD, id={}), -32600),
    "an id that is true": (message("tools/call", ADD, id=True), -32600),
    "request and response at once": ({**message("tools/call", ADD), "result": {}}, -32600),
    "a method that is no text": (message("tools/call", ADD) | {"method": ["tools/call"]}, -32600),
    "a method with a blank": (message("tools/call ", ADD), -32600),
    "a member given twice": (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', -32700),
    "a member given twice, once escaped": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","n\\u0061me":"drop"}}', -32700,
    ),
    "another case": ({**message("ping"), "Method": "tools/call"}, -32600),
    "another case alone": ({"jsonrpc": "2.0", "id": 1, "METHOD": "tools/call", "params": ADD}, -32600),
    "a long s": ({**message("tools/call", ADD), "param\u017f": {"name": "drop"}}, -32600),
    "full-width": ({**message("tools/call", ADD), "\uff50arams": {"name": "drop"}}, -32600),
    "another case in the params": (message("tools/call", {**ADD, "Name": "drop"}), -32600),
    "another case in the params alone": (message("tools/call", {"NAME": "drop"}), -32600),
    "another case of _meta": (message("tools/list", {"_META": {}}), -32600),
    "another case in _meta": (message("tools/list", {"_meta": {VERSION_KEY.upper(): MODERN}}), -32600),
    "another case in a reference": (
        message("completion/complete", {"ref": {"type": "ref/prompt", "name": "hi", "NAME": "bye"}}), -32600,
    ),
    "another case in the arguments": (message("tools/call", {"name": "add", "arguments": {"a": 1, "A": 2}}), -32600),
    "another case deep in the arguments": (
        message("tools/call", {"name": "add", "arguments": {"a": [{"k": {"b": 1, "\uff42": 2}}]}}), -32600,
    ),
    "a response in no session": ({"jsonrpc": "2.0", "id": 1, "result": {}}, -32600),
    "an error in no session": ({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}}, -32600),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_has_not_one_reading(name: str) -> None:
    body, code = MALFORMED[name]
    server, recorder = Server(), Recorder()
    exchange = await send(gated(server, observe=[recorder]), body)
    assert (exchange.status, error_of(exchange)[0], server.asked) == (400, code, [])
    assert recorder.last.reason in ("MCP", "InvalidRequest")


async def test_another_case_in_a_filter_of_subscriptions() -> None:
    exchange = await send(gated(Server(), observe=[Recorder()]), *listen(resourcesubscriptions=["file:///a"]))
    assert (exchange.status, error_of(exchange)[0]) == (400, -32600)


BODIES: dict[str, tuple[dict[str, str], bytes, int]] = {
    "text": ({"content-type": "text/plain"}, b"{}", 415),
    "no type": ({"content-type": ""}, b"{}", 415),
    "a type that ends in json": ({"content-type": "application/foo+json"}, b"{}", 415),
    "UTF-16 said": ({"content-type": "application/json; charset=utf-16"}, b"{}", 415),
    "UTF-7 said": ({"content-type": "application/json; charset=utf-7"}, b"{}", 415),
    "UTF-16": ({}, json.dumps(message("ping")).encode("utf-16"), 400),
    "a byte order mark": ({}, b"\xef\xbb\xbf" + json.dumps(message("ping")).encode(), 400),
    "gzip": ({"content-encoding": "gzip"}, b"\x1f\x8b", 415),
    "NaN": ({}, b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}', 400),
    "deep": ({}, b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 99 + b"1" + b"}" * 100, 400),
    "large": ({}, b" " * (2 * 1024 * 1024 + 1), 413),
}


@pytest.mark.parametrize("name", BODIES)
async def test_bodies_that_are_not_read(name: str) -> None:
    headers, body, status = BODIES[name]
    server = Server()
    exchange = await send(gated(server, observe=[Recorder()]), body, headers)
    assert (exchange.status, server.asked) == (status, [])
    error_of(exchange)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "OPTIONS"])
async def test_other_methods_are_405(method: str) -> None:
    server = Server()
    exchange = await send(gated(server, observe=[Recorder()]), message("tools/call", ADD), method=method)
    assert (exchange.status, exchange.headers["allow"], server.asked) == (405, "GET, POST, DELETE", [])


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("header", ["content-length", "transfer-encoding"])
async def test_a_message_where_nobody_looks(method: str, header: str) -> None:
    body = json.dumps(message("tools/call", ADD)).encode()
    headers = {header: "chunked" if header == "transfer-encoding" else str(len(body)), **JSON}
    server = Server()
    exchange = await send(gated(server, observe=[Recorder()]), body, headers, method=method)
    assert (exchange.status, server.asked) == (400, [])


@pytest.mark.parametrize("query", ["session_id=1", "sessionId=1", "a=b&SESSIONID=1", "%73ession_id=1"])
async def test_the_transport_of_2024_is_refused(query: str) -> None:
    """Its sessions are in the query, where nobody binds them to a caller."""
    exchange = await send(gated(Server(), observe=[Recorder()]), message("ping"), target=f"/messages?{query}")
    assert (exchange.status, error_of(exchange)) == (400, (-32600, "the transport of 2024-11-05 is not supported"))
    assert (await send(gated(Server(), observe=[Recorder()]), message("ping"), target="/mcp?x=1")).status == 200


def test_no_websocket() -> None:
    decision = PROTOCOL.read(Request.websocket("/mcp"))
    assert isinstance(decision, Decision)
    assert (decision.effect, decision.status) == ("deny", 403)
    assert not PROTOCOL.reads_body(Request.websocket("/mcp"))


def test_it_shows_nothing_of_itself() -> None:
    assert repr(PROTOCOL) == "MCP()"


# Headers that repeat the body.


def changed(headers: dict[str, str], **more: str | None) -> dict[str, str]:
    merged = {**headers, **{name.replace("_", "-"): value for name, value in more.items()}}
    return {name: value for name, value in merged.items() if value is not None}


BODY, HEADERS = modern("tools/call", {"name": "add"})
OTHER_META = {**BODY, "params": {"name": "add", "_meta": {**META, VERSION_KEY: "2025-11-25"}}}
NO_META = message("tools/call", {"name": "add"})
NO_VERSION = message("tools/call", {"name": "add", "_meta": {}})

CONTRADICTIONS: dict[str, tuple[Any, dict[str, str], int]] = {
    "another name": (BODY, changed(HEADERS, mcp_name="drop"), -32020),
    "another case of the name": (BODY, changed(HEADERS, mcp_name="ADD"), -32020),
    "no name": (BODY, changed(HEADERS, mcp_name=None), -32020),
    "another method": (BODY, changed(HEADERS, mcp_method="tools/list"), -32020),
    "no method": (BODY, changed(HEADERS, mcp_method=None), -32020),
    "no version": (BODY, changed(HEADERS, mcp_protocol_version=None), -32020),
    "another version": (BODY, changed(HEADERS, mcp_protocol_version=LEGACY), -32020),
    "another version in the body": (OTHER_META, HEADERS, -32020),
    "no _meta": (NO_META, HEADERS, -32602),
    "no version in _meta": (NO_VERSION, HEADERS, -32602),
    "a version nobody knows": (BODY, changed(HEADERS, mcp_protocol_version="2027-01-01"), -32022),
    "a version that is none": (BODY, changed(HEADERS, mcp_protocol_version="latest"), -32022),
    "a name where there is none": (modern("tools/list")[0], {**modern("tools/list")[1], "mcp-name": "add"}, -32020),
    "bad base64": (BODY, changed(HEADERS, mcp_name="=?base64?YWRk=?="), -32020),
    "base64 that is not canonical": (BODY, changed(HEADERS, mcp_name="=?base64?YWR=?="), -32020),
    "base64 of no UTF-8": (BODY, changed(HEADERS, mcp_name="=?base64?/w==?="), -32020),
    "base64 of another name": (BODY, changed(HEADERS, mcp_name=f"=?base64?{'ZHJvcA=='}?="), -32020),
    "bytes that are not ASCII": (modern("tools/call", {"name": "é"})[0], changed(HEADERS, mcp_name="é"), -32020),
    "up to 2025-11-25, another name": (NO_META, {"mcp-name": "drop"}, -32020),
    "up to 2025-11-25, another method": (NO_META, {"mcp-method": "tools/list"}, -32020),
    "up to 2025-11-25, a name where there is none": (message("tools/list"), {"mcp-name": "add"}, -32020),
    "up to 2025-11-25, _meta of later": (BODY, {}, -32020),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
async def test_headers_that_contradict_the_body(name: str) -> None:
    body, headers, code = CONTRADICTIONS[name]
    server = Server()
    exchange = await send(gated(server, observe=[Recorder()]), body, headers)
    assert (exchange.status, error_of(exchange)[0], server.asked) == (
        200 if code == -32602 and "mcp-protocol-version" not in headers else 400,
        code,
        [],
    )


AGREEING: dict[str, tuple[Any, dict[str, str]]] = {
    "all of them": (BODY, HEADERS),
    "a name in base64": modern("tools/call", {"name": "größe"}),
    "blanks around the values": (BODY, {name: f" {value}\t " for name, value in HEADERS.items()}),
    "a plain name in base64": (BODY, changed(HEADERS, mcp_name="=?base64?YWRk?=")),
    "a URI": modern("resources/read", {"uri": "file:///a"}),
    "a task": modern("tasks/get", {"taskId": "t"}),
    "no name to repeat": modern("tools/list"),
    "up to 2025-11-25, all the same": (NO_META, {"mcp-name": "add", "mcp-method": "tools/call"}),
    "up to 2025-11-25, the version": (message("tools/list"), {"mcp-protocol-version": "2025-06-18"}),
    "up to 2025-11-25, the version in _meta": (OTHER_META, {"mcp-protocol-version": "2025-11-25"}),
    "a notification without _meta": (
        message("notifications/cancelled", {}, id=...),
        {"mcp-protocol-version": MODERN, "mcp-method": "notifications/cancelled"},
    ),
    "a parameter that the server declared": (BODY, {**HEADERS, "mcp-param-region": "eu"}),
}


@pytest.mark.parametrize("name", AGREEING)
async def test_headers_that_agree_with_the_body(name: str) -> None:
    body, headers = AGREEING[name]
    server = Server()
    assert (await send(gated(server, observe=[Recorder()]), body, headers)).status == 200
    sent, received = server.asked[0]
    assert json.loads(received) == body
    assert {key: value for key, (value,) in sent.items() if key.startswith("mcp-")} == headers


@pytest.mark.parametrize("header", ["mcp-name", "mcp-method", "mcp-protocol-version", "mcp-session-id", "mcp-param-x"])
async def test_a_header_given_twice(header: str) -> None:
    headers = [*HEADERS.items(), (header, "add"), (header, "add")]
    server = Server()
    assert (await send(gated(server, observe=[Recorder()]), BODY, headers)).status == 400
    assert server.asked == []


def test_an_unknown_version_is_told_which_are_known() -> None:
    decision = read(BODY, changed(HEADERS, mcp_protocol_version="2027-01-01"))
    assert isinstance(decision, Decision)
    assert json.loads(decision.body or b"")["error"]["data"] == {
        "supported": ["2026-07-28"],  # as in `server/discover`
        "requested": "2027-01-01",
    }


@pytest.mark.parametrize("name", ["add", "größe", "=?base64?YWRk?=", "a b", "数", "=?base64?x?=y"])
def test_names_in_headers_are_read_as_the_sdk_reads_them(name: str) -> None:
    inbound = pytest.importorskip("mcp.shared.inbound", reason="mcp is not installed: it comes with the extra e2e")
    from agentgate.protocols.mcp.eras import decoded

    for value in (inbound.encode_header_value(name), encoded(name), name):
        assert value.isascii() is False or decoded(value.encode()) == inbound.decode_header_value(value)


# What rules are asked.

READ_ONLY = CELRules(allow={"reading": 'mcp.tool.name.startsWith("get_")'})


@pytest.mark.parametrize("method", ["rpc.discover", "tools/Call", "x"])
async def test_an_unknown_method_is_denied_by_any_rule_about_names(method: str) -> None:
    server = Server()
    gate = gated(server, authorize=[READ_ONLY])
    exchange = await send(gate, message(method, {"name": "get_user"}))
    assert (exchange.status, error_of(exchange)) == (200, (-32601, "Method not found"))
    exchange = await send(gate, *modern(method, {"name": "get_user"}))
    assert (exchange.status, error_of(exchange)) == (404, (-32601, "Method not found"))
    assert server.asked == []
    open_gate = gated(server, authorize=[CELRules(allow=['request.method == "POST"'])])
    assert (await send(open_gate, message(method))).status == 200


async def test_rules_about_callers_hold_before_anything_is_named() -> None:
    rules = CELRules(allow=['"dev" in jwt.roles && mcp.tool.name == "x"'])
    gate = Gate(authorize=[rules], protocol=PROTOCOL)
    for body in (message("initialize", {}), message("tools/list"), message("notifications/initialized", id=...)):
        data = json.dumps(body).encode()
        for roles, effect in ((["dev"], "allow"), (["ops"], "deny")):
            request = Request.http("POST", "/mcp", headers=JSON, body=data, jwt={"roles": roles})
            assert gate.explain(request)[-1].effect == effect


async def test_the_arguments_are_there_for_rules() -> None:
    rules = CELRules(allow=['mcp.tool.name == "read" && mcp.tool.arguments.path.startsWith("/public/")'])
    server = Server()
    gate = gated(server, authorize=[rules])
    for path, asked in (("/public/a", 1), ("/secret", 1)):
        await send(gate, message("tools/call", {"name": "read", "arguments": {"path": path}}))
        assert len(server.asked) == asked
    exchange = await send(gate, message("tools/call", {"name": "read", "arguments": None}))
    assert error_of(exchange) == (-32602, "Unknown tool: read")


async def test_every_subscription_has_to_be_allowed() -> None:
    server = Server()
    gate = gated(server, authorize=[CELRules(allow=['mcp.resource.name.startsWith("file:///public/")'])])
    assert (await send(gate, *listen(resourceSubscriptions=["file:///public/a", "file:///public/b"]))).status == 200
    for uris in (["file:///public/a", "file:///secret"], ["file:///secret", "file:///public/a"]):
        exchange = await send(gate, *listen(resourceSubscriptions=uris))
        assert (exchange.status, error_of(exchange)) == (400, (-32602, "Unknown resource: file:///secret"))
    assert len(server.asked) == 1
