"""What comes back: lists show what may be called, in whatever form and wherever they come; the rest is untouched."""

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate import MCP, Authorizer, CELRules, Decision, Gate, Reason, Request, allow, shadow
from agentgate.call import Call
from agentgate.protocols.mcp.listing import Listing
from agentgate.protocols.mcp.targets import Targets
from agentgate.protocols.sse import Splitter
from agentgate.testing import Recorder, drive, http_scope

from .mcp_messages import Server, events, gated, message, modern, send

pytestmark = pytest.mark.anyio

RULES = CELRules(
    allow=[
        'mcp.tool.name.startsWith("get_")',
        'mcp.prompt.name == "hi"',
        'mcp.resource.name.startsWith("file:///pub/")',
        'mcp.task.name == "mine"',
        'mcp.tool.name == "read" && mcp.tool.arguments.path == "/pub"',
    ]
)


def tool(name: Any) -> dict[str, Any]:
    return {"name": name, "description": f"does {name}", "inputSchema": {"type": "object"}}


def result(id: Any = 1, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": members}


TOOLS = result(tools=[tool("drop"), tool("get_a"), tool("get_b"), tool("set")], nextCursor="abc", _meta={"x": 1.5})
SEEN = result(tools=[tool("get_a"), tool("get_b")], nextCursor="abc", _meta={"x": 1.5})

LISTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tools": (TOOLS, SEEN),
    "prompts": (result(prompts=[{"name": "bye"}, {"name": "hi"}]), result(prompts=[{"name": "hi"}])),
    "resources": (
        result(resources=[{"uri": "file:///s", "name": "s"}, {"uri": "file:///pub/a", "name": "a"}]),
        result(resources=[{"uri": "file:///pub/a", "name": "a"}]),
    ),
    "templates": (
        result(resourceTemplates=[{"uriTemplate": "file:///{p}"}, {"uriTemplate": "file:///pub/{p}"}]),
        result(resourceTemplates=[{"uriTemplate": "file:///pub/{p}"}]),
    ),
    "tasks": (result(tasks=[{"taskId": "theirs"}, {"taskId": "mine"}]), result(tasks=[{"taskId": "mine"}])),
    "a page of nothing": (result(tools=[tool("drop")], nextCursor="x"), result(tools=[], nextCursor="x")),
    "arguments decide": (result(tools=[tool("read"), tool("write")]), result(tools=[tool("read")])),
    "for all to cache": (
        result(tools=[tool("get_a")], ttlMs=1, cacheScope="public"),
        result(tools=[tool("get_a")], ttlMs=1, cacheScope="private"),
    ),
    "a resource for all to cache": (
        result(contents=[], ttlMs=1, cacheScope="public"),
        result(contents=[], ttlMs=1, cacheScope="private"),
    ),
    "items that name nothing": (
        result(
            tools=[tool(None), tool(""), tool(" get_a"), tool("get_\0"), {"title": "get_a"}, "get_a", tool("get_a")]
        ),
        result(tools=[tool("get_a")]),
    ),
    "URIs that could not be asked for": (
        result(resources=[{"uri": "file:///pub/../s"}, {"uri": "FILE:///pub/a"}, {"uri": 1}, {}]),
        result(resources=[]),
    ),
    "several lists": (
        result(tools=[tool("drop")], prompts=[{"name": "hi"}, {"name": "bye"}]),
        result(tools=[], prompts=[{"name": "hi"}]),
    ),
}
UNTOUCHED: dict[str, dict[str, Any]] = {
    "a list that is all the caller's": result(tools=[tool("get_a")], cacheScope="private"),
    "a tool's result": result(
        content=[{"type": "text", "text": '"tools"'}], structuredContent={"tools": [tool("drop")]}
    ),
    "capabilities": result(capabilities={"tools": {"listChanged": True}, "prompts": {}}),
    "an error": {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "Unknown tool: drop"}},
    "a list that is none": result(tools={"drop": 1}),
    "a strange result": {"jsonrpc": "2.0", "id": 1, "result": ["tools"], "method": 7},
    "numbers that few can read": result(tools=[], size=2**70),
    "half a character": result(tools=[], text="\ud83d"),
    "progress": message("notifications/progress", {"progress": 1}, id=...),
    "news of lists": message("notifications/tools/list_changed", id=...),
    "news of a resource that may be read": message("notifications/resources/updated", {"uri": "file:///pub/a"}, id=...),
    "news of a task that may be read": message("notifications/tasks/status", {"taskId": "mine"}, id=...),
    "a request of the server": message("sampling/createMessage", {"messages": []}),
    "a request within a result": result(
        resultType="input_required", inputRequests={"a": {"method": "elicitation/create", "params": {}}}
    ),
    "no message": {"tools": [tool("drop")]},
}


def pretty(value: Any) -> bytes:
    """Spelt as no encoder here would, so that what is not touched can be told."""
    return json.dumps(value, indent=1).encode()


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_in_json(name: str) -> None:
    whole, seen = LISTS[name]
    gate = gated(
        Server(whole, headers=[("content-length", str(len(json.dumps(whole)))), ("x-a", "b")]), authorize=[RULES]
    )
    exchange = await send(gate, message("tools/list"))
    assert exchange.status == 200
    assert json.loads(exchange.body) == seen
    assert list(json.loads(exchange.body)["result"]) == list(seen["result"])
    assert exchange.headers["content-length"] == str(len(exchange.body))
    assert exchange.headers["x-a"] == "b"


async def test_what_only_looks_like_a_message_is_byte_for_byte() -> None:
    stream = b': "tools"\n\nid: "method"\n\ndata: ["tools", 7]\n\n'
    gate = gated(Server(stream, "text/event-stream"), authorize=[RULES])
    assert (await send(gate, method="GET")).body == stream


@pytest.mark.parametrize("name", UNTOUCHED)
async def test_what_nothing_has_to_be_taken_from_is_byte_for_byte(name: str) -> None:
    body = pretty(UNTOUCHED[name])
    gate = gated(Server(body, headers=[("Content-Length", str(len(body)))]), authorize=[RULES])
    exchange = await send(gate, message("tools/list"))
    assert (exchange.body, exchange.headers["content-length"]) == (body, str(len(body)))
    stream = b": hi\n\nid: 1\ndata: " + pretty(UNTOUCHED[name]).replace(b"\n", b"\ndata: ") + b"\nretry: 9\n\n"
    gate = gated(Server(stream, "text/event-stream"), authorize=[RULES])
    assert (await send(gate, message("tools/list"))).body == stream


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_a_list_in_a_stream(name: str, end: str) -> None:
    """On any stream: the answer to a list, to a call, and one that is resumed."""
    whole, seen = LISTS[name]
    lines = json.dumps(whole, indent=1).splitlines()
    stream = f"id: 7{end}event: message{end}retry: 5{end}: c{end}"
    stream += "".join(f"data: {line}{end}" for line in lines) + end + f": later{end}{end}"
    server = Server(stream.encode(), "text/event-stream; charset=utf-8", headers=[("content-length", str(len(stream)))])
    gate = gated(server, authorize=[RULES])
    call = message("tools/call", {"name": "get_a"})
    for exchange in (await send(gate, message("tools/list")), await send(gate, call), await send(gate, method="GET")):
        splitter = Splitter()
        event, *others = splitter.feed(exchange.body + b"x")
        assert json.loads(event.data or b"") == seen
        kept = f"id: 7{end}event: message{end}retry: 5{end}: c{end}".encode()
        assert event.raw.startswith(kept)
        assert b"".join(other.raw for other in others).startswith(f": later{end}".encode())
        assert "content-length" not in exchange.headers
        assert exchange.complete


async def test_an_event_goes_on_as_soon_as_it_is_there() -> None:
    """Nothing is held but what is not complete: neither events nor signs of life."""
    pieces = [b": ping\n", b"\n", b'data: {"method":"notifications/progress"}\n\n', b"data: {", b"}\n\nid: 3\n", b"\n"]
    gate = gated(Server(pieces, "text/event-stream"), authorize=[RULES])
    exchange = await send(gate, message("tools/call", {"name": "get_a"}))
    assert [chunk for chunk in exchange.chunks if chunk] == [
        b": ping\n",
        b'\ndata: {"method":"notifications/progress"}\n\n',
        b"data: {}\n\n",
        b"id: 3\n\n",
    ]


async def test_what_a_stream_ends_in_the_middle_of_is_no_event() -> None:
    stream = events(SEEN) + b"data: " + json.dumps(TOOLS).encode()
    exchange = await send(gated(Server(stream, "text/event-stream"), authorize=[RULES]), method="GET")
    assert (exchange.body, exchange.complete) == (events(SEEN), True)


BATCH = [TOOLS, UNTOUCHED["progress"], message("notifications/resources/updated", {"uri": "file:///s"}, id=...)]


async def test_a_batch_of_answers() -> None:
    """2025-03-26 lets a server send several at once."""
    exchange = await send(gated(Server(BATCH), authorize=[RULES]), message("tools/list"))
    assert json.loads(exchange.body) == [SEEN, UNTOUCHED["progress"]]
    whole = pretty([SEEN, UNTOUCHED["progress"]])
    assert (await send(gated(Server(whole), authorize=[RULES]), message("tools/list"))).body == whole
    stream = events([BATCH[2]], SEEN)
    exchange = await send(gated(Server(stream, "text/event-stream"), authorize=[RULES]), message("tools/list"))
    assert exchange.body == events(SEEN)


async def test_slashes_may_be_escaped() -> None:
    """As PHP does it."""
    unheard = message("notifications/resources/updated", {"uri": "file:///s"}, id=...)
    stream = f"data: {json.dumps(unheard)}\n\n".replace("/", "\\/").encode() + b"data: {}\n\n"
    exchange = await send(gated(Server(stream, "text/event-stream"), authorize=[RULES]), method="GET")
    assert exchange.body == b"data: {}\n\n"


DROPPED: dict[str, tuple[CELRules, dict[str, Any]]] = {
    "news of a resource": (RULES, message("notifications/resources/updated", {"uri": "file:///s"}, id=...)),
    "news of no resource": (RULES, message("notifications/resources/updated", {"uri": "file:///pub/../s"}, id=...)),
    "news of nothing": (RULES, message("notifications/resources/updated", id=...)),
    "news of a task": (RULES, message("notifications/tasks", {"taskId": "theirs"}, id=...)),
    "a request of the server": (
        CELRules(deny=['mcp.methodName == "sampling/createMessage"']), message("sampling/createMessage", {}),
    ),
    "a request that no rule allows": (
        CELRules(allow=['mcp.methodName in ["GET", "tools/call"]']), message("roots/list", id="x"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
async def test_what_the_caller_may_not_hear_of_is_left_out(name: str) -> None:
    """Its place in the stream stays: a client that comes back says where it was."""
    rules, unheard = DROPPED[name]
    data = json.dumps(unheard).encode()
    stream = b"id: 8\nevent: message\ndata: " + data + b"\n\n" + b"data: " + data + b"\n\n" + events(SEEN, end="\n")
    exchange = await send(gated(Server(stream, "text/event-stream"), authorize=[rules]), method="GET")
    assert exchange.body == b"id: 8\n\n" + events(SEEN, end="\n")
    recorder = Recorder()
    gate = gated(Server(unheard), authorize=[rules], observe=[recorder])
    exchange = await send(gate, message("tools/call", {"name": "get_a"}))
    assert (exchange.status, exchange.text) == (502, "upstream call failed")


@pytest.mark.parametrize(
    "wanted", [{"a": {"method": "sampling/createMessage"}}, {"a": {}, "b": 7}, {"a": {"method": 1}}]
)
async def test_a_request_within_a_result_that_is_forbidden(wanted: Any) -> None:
    whole = result(resultType="input_required", inputRequests=wanted, requestState="s")
    gate = gated(Server(whole), authorize=[CELRules(deny=['mcp.methodName == "sampling/createMessage"'])])
    exchange = await send(gate, *modern("tools/call", {"name": "x"}))
    assert json.loads(exchange.body) == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": -32603, "message": "the server asked for something that is not allowed"},
    }


# Answers that cannot be read.

UNREADABLE: dict[str, tuple[bytes, str | None, int, list[tuple[str, str]]]] = {
    "gzip": (b"\x1f\x8b", "application/json", 200, [("content-encoding", "gzip")]),
    "a list of codings": (b"{}", "application/json", 200, [("content-encoding", "identity, gzip")]),
    "a stream in gzip": (b"\x1f\x8b", "text/event-stream", 200, [("Content-Encoding", "gzip")]),
    "anything in gzip": (b"", "text/plain", 202, [("content-encoding", "gzip")]),
    "text": (json.dumps(TOOLS).encode(), "text/plain", 200, []),
    "no type": (json.dumps(TOOLS).encode(), None, 200, []),
    "two types": (json.dumps(TOOLS).encode(), "text/html", 200, [("content-type", "application/json")]),
    "no JSON": (b'{"result": {"tools": [', "application/json", 200, []),
    "an error that is no JSON": (b'{"error": ', "application/json", 400, []),
    "a member given twice": (b'{"result": {"tools": [], "tools": [{"name": "drop"}]}}', "application/json", 200, []),
    "UTF-16": (json.dumps(TOOLS).encode("utf-16-le"), "application/json", 200, []),
    "UTF-16, and said so": (b"{}", "application/json; charset=UTF-16", 200, []),
    "a stream in UTF-7": (b"", 'text/event-stream; a=b; charset = "utf-7"', 200, []),
    "no UTF-8": (json.dumps(TOOLS).encode("utf-16") + b'"tools"', "application/json", 200, []),
    "very deep": (b'{"tools": ' + b"[" * 100_000, "application/json", 200, []),
    "very large": (b'{"x": "' + b"a" * (8 * 1024 * 1024) + b'"}', "application/json", 200, []),
    "two session ids": (b"{}", "application/json", 200, [("mcp-session-id", "a"), ("mcp-session-id", "b")]),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_an_answer_that_cannot_be_read_is_not_passed_on(name: str) -> None:
    body, content_type, status, headers = UNREADABLE[name]
    recorder = Recorder()
    server = Server(body, content_type, status=status, headers=headers)
    exchange = await send(gated(server, authorize=[RULES], observe=[recorder]), message("tools/list"))
    assert (exchange.status, exchange.text, exchange.complete) == (502, "upstream call failed", True)
    assert recorder.last.reason == Reason.UPSTREAM_FAILURE
    assert "the answer cannot be filtered" in fields_of(recorder)["detail"]


def fields_of(recorder: Recorder) -> dict[str, Any]:
    from agentgate.observe.fields import fields

    return dict(fields(recorder.last))


@pytest.mark.parametrize(
    "bad",
    [b'data: {"result": {"tools": [\n\n', b'data: \xff\xfe {"tools"\n\n', b"data: " + b"a" * (8 * 1024 * 1024 + 1)],
    ids=["no JSON", "no UTF-8", "very large"],
)
async def test_a_stream_that_cannot_be_read_is_cut_off(bad: bytes) -> None:
    recorder = Recorder()
    stream = [events(SEEN), bad, events(TOOLS)]
    gate = gated(Server(stream, "text/event-stream"), authorize=[RULES], observe=[recorder])
    exchange = await send(gate, method="GET")
    assert (exchange.status, exchange.body, exchange.complete) == (200, events(SEEN), False)
    assert (recorder.last.reason, recorder.last.status) == (Reason.UPSTREAM_FAILURE, 200)
    if len(bad) < 100:
        gate = gated(Server(b"".join(stream), "text/event-stream"), authorize=[RULES])
        exchange = await send(gate, method="GET")
        assert (exchange.body, exchange.complete) == (events(SEEN), False)
    assert str(recorder.last.error).startswith("upstream call failed: the answer cannot be filtered: ")


async def test_an_app_that_goes_on_after_that_sends_nothing() -> None:
    """It may take the failure of its `send` for a passing one, and try again."""

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
        tries: list[dict[str, Any]] = [start, {"type": "http.response.body", "body": b'{"tools": ['}, start]
        for one in tries:
            try:
                await send(one)
            except Exception:
                errors.append(one["type"])
        await send({"type": "http.response.body", "body": json.dumps(TOOLS).encode()})

    errors: list[str] = []
    exchange = await send(gated(stubborn, authorize=[RULES]), message("tools/list"))
    assert (exchange.status, exchange.text, errors) == (
        502,
        "upstream call failed",
        ["http.response.body", "http.response.start"],
    )


async def test_a_way_to_send_that_is_not_known_is_not_taken() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.pathsend", "path": "/etc/tools.json"})

    exchange = await send(gated(app, authorize=[RULES]), message("tools/list"))
    assert exchange.status == 502


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", None, 202),
        (b"", "application/json", 200),
        (b"", "text/plain", 200),
        (b"not found", "text/plain", 404),
        (b"not found", None, 404),
        (b"<html>", "text/html; charset=utf-8", 503),
        (b"moved", "text/plain", 307),
        (b"\x1f\x8b", "text/plain", 500),
    ],
)
async def test_answers_with_nothing_to_read(body: bytes, content_type: str | None, status: int) -> None:
    headers = [("content-encoding", "gzip")] if body.startswith(b"\x1f") else []
    for chunks in ([body], [body, b""], [b"", body]):
        server = Server(chunks, content_type, status=status, headers=headers)
        exchange = await send(gated(server, authorize=[RULES]), message("notifications/initialized", id=...))
        assert (exchange.status, exchange.body, exchange.complete) == (status, body, True)


async def test_an_answer_that_breaks_off_is_not_passed_on_in_part() -> None:
    exchange = await send(gated(Server(TOOLS, ends=False), authorize=[RULES]), message("tools/list"))
    assert not exchange.started
    exchange = await send(
        gated(Server(events(TOOLS), "text/event-stream", ends=False), authorize=[RULES]), method="GET"
    )
    assert (exchange.body != b"", exchange.complete) == (True, False)


# Where there is nothing to keep.


class Always(Authorizer):
    def check(self, request: Request) -> Decision:
        return allow()


@pytest.mark.parametrize("authorize", [[], [shadow(RULES)]], ids=["no rules", "rules on trial"])
async def test_without_rules_nothing_is_read(authorize: list[Authorizer]) -> None:
    """Not even what could not be."""
    for name, (body, content_type, status, headers) in UNREADABLE.items():
        if name != "two session ids":
            server = Server(body, content_type, status=status, headers=headers)
            exchange = await send(gated(server, authorize=authorize, observe=[Recorder()]), message("tools/list"))
            assert (exchange.status, exchange.body) == (status, body)
    pieces = [b"data: {", b"}", b"\n", b"\n"]
    exchange = await send(gated(Server(pieces, "text/event-stream"), authorize=authorize, observe=[Recorder()]))
    exchange = await send(
        gated(Server(pieces, "text/event-stream"), authorize=authorize, observe=[Recorder()]), message("ping")
    )
    assert exchange.chunks == [*pieces, b""]


@pytest.mark.parametrize("parameters", ["", ";charset=utf-8", '; charset="UTF-8"', "; a=b ; charset=utf-8 ; c=d"])
async def test_json_in_utf_8(parameters: str) -> None:
    exchange = await send(
        gated(Server(TOOLS, f"application/json{parameters}"), authorize=[RULES]), message("tools/list")
    )
    assert json.loads(exchange.body) == SEEN


async def test_the_server_is_asked_for_an_answer_that_can_be_read() -> None:
    server = Server()
    for headers in ({}, {"accept-encoding": "gzip, br"}):
        await send(gated(server, authorize=[RULES]), message("tools/list"), headers)
        assert server.asked[-1][0]["accept-encoding"] == ["identity"]


async def test_gates_within_gates_filter_each_by_its_own_rules() -> None:
    inner = Gate(Server(TOOLS), protocol=MCP(), authorize=[CELRules(allow=['mcp.tool.name in ["get_a", "drop"]'])])
    exchange = await send(gated(inner, authorize=[RULES]), message("tools/list"))
    assert json.loads(exchange.body)["result"]["tools"] == [tool("get_a")]
    inner = Gate(Server(b"{", "text/plain"), protocol=MCP(), authorize=[Always()])
    exchange = await send(gated(inner, authorize=[RULES]), message("tools/list"))
    assert (exchange.status, exchange.text) == (502, "upstream call failed")
    inner = Gate(Server(b'{"tools"'), protocol=MCP(), observe=[Recorder()])
    exchange = await send(gated(inner, authorize=[RULES]), message("tools/list"))
    assert (exchange.status, exchange.text) == (502, "upstream call failed")


async def test_an_item_is_judged_as_the_call_that_it_invites_to() -> None:
    asked: list[Call] = []

    def may(call: Call) -> bool:
        asked.append(call)
        return True

    call = Call("mcp", "GET", target="docs", attributes={"sessionId": "s"}, provisional=True)
    listing = Listing(may, call, Targets())
    for whole, _ in LISTS.values():
        listing.filtered(whole)
    common: dict[str, Any] = {"target": "docs", "attributes": {"sessionId": "s"}, "provisional": True}
    assert asked[0] == Call("mcp", "tools/call", tool="drop", **common)
    assert Call("mcp", "prompts/get", prompt="hi", **common) in asked
    assert Call("mcp", "resources/read", resource="file:///s", **common) in asked
    assert Call("mcp", "resources/read", resource="file:///pub/{p}", **common) in asked
    assert Call("mcp", "tasks/get", task="mine", **common) in asked


async def test_a_rule_about_the_call_is_the_rule_for_the_list() -> None:
    rules = CELRules(allow=['mcp.methodName == "GET"', 'mcp.methodName == "tools/call" && mcp.tool.name == "get_a"'])
    gate = gated(Server(events(TOOLS), "text/event-stream"), authorize=[rules])
    assert json.loads(Splitter().feed((await send(gate, method="GET")).body)[0].data or b"")["result"]["tools"] == [
        tool("get_a")
    ]


# However the bytes come.


@given(
    st.lists(
        st.sampled_from(
            [
                *(events(whole, end=end) for whole, _ in LISTS.values() for end in ("\n", "\r\n", "\r")),
                *(events(whole) for whole in UNTOUCHED.values()),
                *(b"id: 1\n" + events(whole, end="\n") for _, whole in DROPPED.values()),
                b": ping\n\n",
                b"id: 9\ndata:\n\n",
            ]
        ),
        max_size=5,
    ),
    st.lists(st.integers(1, 900), max_size=12),
)
def test_where_chunks_end_changes_nothing(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts) + b": end\n\n"
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in itertools.pairwise(places)]

    async def passed(pieces: list[bytes]) -> bytes:
        gate = gated(Server(pieces, "text/event-stream"), authorize=[RULES])
        return (await drive(gate, http_scope("GET", "/mcp"))).body

    whole = asyncio.run(passed([stream]))
    assert asyncio.run(passed(chunks)) == whole
    for event in Splitter().feed(whole):
        message = json.loads(event.data or b"{}")
        tools = message.get("result", {}).get("tools", []) if isinstance(message.get("result"), dict) else []
        assert not isinstance(tools, list) or all(
            one["name"].startswith("get_") or one["name"] == "read" for one in tools
        )
