"""Several targets behind one endpoint: rules are asked about the target and its own name, clients hear of neither."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate import MCP, CELRules, ConfigurationError, Gate, Reason
from agentgate.call import Call
from agentgate.protocols.json_rpc import RPCFault
from agentgate.protocols.mcp.methods import Kind
from agentgate.protocols.mcp.targets import Targets
from agentgate.protocols.mcp.uris import is_uri
from agentgate.testing import Recorder

from .mcp_messages import Server, error_of, message, modern, send

TARGETS = Targets(["docs", "docs2", "web.example"])

LOCATED: dict[str, tuple[Kind, str, str, str]] = {
    # what: kind, what clients see, target, what that calls it
    "a tool": ("tool", "docs_search", "docs", "search"),
    "a tool with an underscore, of which the first counts": ("tool", "docs_get_page", "docs", "get_page"),
    "a tool that begins with one": ("tool", "docs__x", "docs", "_x"),
    "a target that begins like another": ("tool", "docs2_search", "docs2", "search"),
    "a target with a dot": ("prompt", "web.example_hi", "web.example", "hi"),
    "a resource": ("resource", "docs+file:///a", "docs", "file:///a"),
    "a resource whose scheme has a plus": ("resource", "docs+git+https://x/y", "docs", "git+https://x/y"),
    "a template": ("resource", "docs+file:///{path}", "docs", "file:///{path}"),
    "a resource of MCP Apps": ("resource", "ui://docs+clock/face", "docs", "ui://clock/face"),
    "a task": ("task", "docs+t_1", "docs", "t_1"),
}


@pytest.mark.parametrize("what", LOCATED)
def test_a_name_that_clients_see_is_one_targets_own(what: str) -> None:
    kind, shown, target, name = LOCATED[what]
    assert TARGETS.locate(kind, shown) == (target, name)
    assert TARGETS.shown(kind, target, name) == shown
    own: dict[str, Any] = {kind: name}
    seen: dict[str, Any] = {kind: shown}
    call = Call("mcp", "m", target=target, arguments={"a": 1}, provisional=True, attributes={"b": 2}, **own)
    assert TARGETS.judged(replace(call, target=None, **seen)) == call
    assert TARGETS.seen(call) == replace(call, **seen)


UNLOCATED: dict[str, tuple[Kind, str]] = {
    "no target": ("tool", "search"),
    "a target that is not there": ("tool", "nope_search"),
    "a target in another case": ("tool", "Docs_search"),
    "a part of a target": ("tool", "doc_search"),
    "no name": ("tool", "docs_"),
    "nothing before the underscore": ("tool", "_search"),
    "the prefix of another kind": ("tool", "docs+search"),
    "a resource without a target": ("resource", "file:///a"),
    "a resource of a target that is not there": ("resource", "nope+file:///a"),
    "a resource with the prefix of a tool": ("resource", "docs_file:///a"),
    "a resource without a URI": ("resource", "docs+"),
    "a URI that is no URI": ("resource", "docs+x"),
    "a URI that a library would spell otherwise": ("resource", "docs+file:///x/../secret"),
    "a scheme in another case": ("resource", "docs+FILE:///a"),
    "a resource of MCP Apps without a target": ("resource", "ui://clock"),
    "a resource of MCP Apps without a name": ("resource", "ui://docs+"),
    "a resource of MCP Apps in front of which the target stands": ("resource", "docs+ui"),
}


@pytest.mark.parametrize("what", UNLOCATED)
def test_what_no_target_has_is_unknown(what: str) -> None:
    kind, shown = UNLOCATED[what]
    with pytest.raises(RPCFault) as fault:
        TARGETS.locate(kind, shown)
    assert (fault.value.code, str(fault.value)) == (-32602, f"Unknown {kind}: {shown}")


@given(st.sampled_from(["tool", "prompt", "task"]), st.sampled_from(TARGETS.names), st.text(min_size=1))
def test_every_name_comes_back(kind: Kind, target: str, name: str) -> None:
    assert TARGETS.locate(kind, TARGETS.shown(kind, target, name)) == (target, name)


@given(st.sampled_from(TARGETS.names), st.from_regex(r"[a-z+]{1,9}:[a-z/+:]{1,20}", fullmatch=True).filter(is_uri))
def test_every_uri_comes_back(target: str, uri: str) -> None:
    assert TARGETS.locate("resource", TARGETS.shown("resource", target, uri)) == (target, uri)


def test_one_target_keeps_its_names_and_rules_know_it() -> None:
    one = Targets(["docs"])
    assert one.judged(Call("mcp", "tools/call", tool="a_b")) == Call("mcp", "tools/call", tool="a_b", target="docs")
    assert one.judged(Call("mcp", "tools/list", provisional=True)).target == "docs"
    assert one.seen(Call("mcp", "tools/call", tool="a_b", target="docs")).tool == "a_b"
    assert one.shown("tool", "docs", "a_b") == "a_b"


def test_without_targets_nothing_changes() -> None:
    call = Call("mcp", "tools/call", tool="docs_search")
    none = Targets()
    assert none.judged(call) is call
    assert none.seen(call) is call


def test_what_names_nothing_is_no_targets_own() -> None:
    call = Call("mcp", "tools/list", provisional=True)
    assert TARGETS.judged(call) is call
    assert TARGETS.seen(call) is call
    assert TARGETS.seen(Call("mcp", "x", target="docs")) == Call("mcp", "x", target="docs")


FAULTS: dict[str, tuple[list[Any], int]] = {
    "an underscore, which ends it": (["a_b"], 1),
    "a plus, which ends it": (["a+b"], 1),
    "upper case": (["Docs"], 1),
    "a digit first, which no scheme begins with": (["1a"], 1),
    "a dash last": (["a-"], 1),
    "nothing": ([""], 1),
    "a line end": (["a\n"], 1),
    "no text": ([7], 1),
    "too long": (["a" * 64], 1),
    "twice": (["a", "a"], 1),
    "too many": ([f"a{number}" for number in range(129)], 1),
    "all of them at once": (["A", "", "b", "b"], 3),
}


@pytest.mark.parametrize("what", FAULTS)
def test_names_that_no_target_can_have(what: str) -> None:
    names, faults = FAULTS[what]
    with pytest.raises(ConfigurationError) as error:
        MCP(targets=names)
    assert len(error.value.faults) == faults


# Behind a Gate.

RULES = CELRules(
    allow={
        "docs": 'mcp.tool.target == "docs" && mcp.tool.name.startsWith("get_")',
        "guide": 'mcp.resource.target == "docs" && mcp.resource.name == "docs://guide"',
    }
)


def federated(server: Any, **options: Any) -> Gate:
    return Gate(server, protocol=MCP(targets=["docs", "tickets"]), **options)


CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    # what: method, params, what the client is told it does not have
    "another tool of the target": ("tools/call", {"name": "docs_drop"}, "tool: docs_drop"),
    "the tool of another target": ("tools/call", {"name": "tickets_get_page"}, "tool: tickets_get_page"),
    "a tool of no target": ("tools/call", {"name": "nope_get_page"}, "tool: nope_get_page"),
    "the name without its target": ("tools/call", {"name": "get_page"}, "tool: get_page"),
    "a resource of another target": (
        "resources/read",
        {"uri": "tickets+docs://guide"},
        "resource: tickets+docs://guide",
    ),
    "a prompt": ("prompts/get", {"name": "docs_get_page"}, "prompt: docs_get_page"),
    "a completion for another": (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "docs_x"}, "argument": {"name": "a", "value": "b"}},
        "prompt: docs_x",
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize("what", CALLS)
async def test_what_may_not_be_and_what_is_not_look_the_same(what: str) -> None:
    method, params, unknown = CALLS[what]
    server = Server()
    gate = federated(server, authorize=[RULES])
    old = await send(gate, message(method, params))
    new = await send(gate, *modern(method, params))
    assert (old.status, new.status) == (200, 400)
    assert error_of(old) == error_of(new) == (-32602, f"Unknown {unknown}")
    assert server.asked == []


@pytest.mark.anyio
async def test_what_may_be_goes_on_by_the_name_that_the_client_used() -> None:
    server, recorder = Server(), Recorder()
    gate = federated(server, authorize=[RULES], observe=[recorder])
    for method, params in (
        ("tools/call", {"name": "docs_get_page"}),
        ("resources/read", {"uri": "docs+docs://guide"}),
    ):
        assert (await send(gate, message(method, params))).status == 200
        assert json.loads(server.asked[-1][1])["params"] == params
    tool, resource = (record.details for record in recorder.records)
    assert (tool["mcp.target"], tool["gen_ai.tool.name"]) == ("docs", "get_page")
    assert (resource["mcp.target"], resource["mcp.resource.uri"]) == ("docs", "docs://guide")


@pytest.mark.anyio
async def test_a_denial_is_told_of_in_the_log() -> None:
    recorder = Recorder()
    await send(federated(Server(), authorize=[RULES], observe=[recorder]), message("tools/call", {"name": "docs_drop"}))
    assert recorder.records[0].reason is Reason.MCP
    assert recorder.records[0].details["gen_ai.tool.name"] == "drop"


@pytest.mark.anyio
async def test_lists_show_what_may_be_called() -> None:
    names = ["docs_get_page", "docs_drop", "tickets_get_page", "nope_get_page", "get_page"]
    listed = {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": name} for name in names]}}
    exchange = await send(federated(Server(listed), authorize=[RULES]), message("tools/list"))
    assert [tool["name"] for tool in json.loads(exchange.body)["result"]["tools"]] == ["docs_get_page"]


@pytest.mark.anyio
async def test_news_of_a_resource_that_may_not_be_read_is_kept_back() -> None:
    def news(uri: str) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}

    sent = [news("docs+docs://guide"), news("docs+docs://other"), news("tickets+docs://guide"), news("docs://guide")]
    body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in sent)
    gate = federated(Server(body, "text/event-stream"), authorize=[RULES])
    exchange = await send(gate, message("tools/call", {"name": "docs_get_page"}))
    assert exchange.body.count(b"docs://guide") == 1
    assert b'"uri": "docs+docs://guide"' in exchange.body
