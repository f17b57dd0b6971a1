"""What several servers say, as one server's words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate.protocols.json_rpc import RPCFault
from agentgate.protocols.mcp.targets import Targets
from agentgate.proxy.federation.merge import (
    MAX_CURSOR,
    in_era,
    merged_capabilities,
    merged_instructions,
    merged_list,
    read_cursor,
    shown_result,
    written_cursor,
)

TWO = Targets(["docs", "tickets"])
ONE = Targets(["docs"])


def test_a_list_has_the_items_of_all_in_the_order_of_the_targets() -> None:
    pages: dict[str, dict[str, Any]] = {
        "tickets": {"tools": [{"name": "search"}]},
        "docs": {"tools": [{"name": "search", "inputSchema": {"x-own": None}}, {"name": "get_page"}], "other": 1},
    }
    assert merged_list("tools/list", pages, [], TWO) == {
        "tools": [
            {"name": "docs_search", "inputSchema": {"x-own": None}},
            {"name": "docs_get_page"},
            {"name": "tickets_search"},
        ]
    }


@pytest.mark.parametrize(
    ("method", "member", "item", "shown"),
    [
        ("prompts/list", "prompts", {"name": "hi"}, {"name": "docs_hi"}),
        ("resources/list", "resources", {"uri": "a:b", "name": "b"}, {"uri": "docs+a:b", "name": "b"}),
        ("resources/templates/list", "resourceTemplates", {"uriTemplate": "a:{b}"}, {"uriTemplate": "docs+a:{b}"}),
        (
            "tools/list",
            "tools",
            {"name": "t", "_meta": {"ui": {"resourceUri": "ui://x", "y": 1}, "z": 2}},
            {"name": "docs_t", "_meta": {"ui": {"resourceUri": "ui://docs+x", "y": 1}, "z": 2}},
        ),
    ],
)
def test_items_have_the_names_that_clients_see(method: str, member: str, item: Any, shown: Any) -> None:
    assert merged_list(method, {"docs": {member: [item]}}, [], TWO) == {member: [shown]}


@pytest.mark.parametrize("found", [None, 7, "abc", {"name": "x"}, [7, None, {}, {"name": 7}, {"title": "x"}]])
def test_what_is_no_item_is_left_out(found: Any) -> None:
    assert merged_list("tools/list", {"docs": {"tools": found}}, [], TWO) == {"tools": []}


def test_a_list_says_who_is_missing() -> None:
    assert merged_list("tools/list", {}, ["tickets", "docs"], TWO) == {
        "tools": [],
        "_meta": {"agentgate/unavailable": ["docs", "tickets"]},
    }


def test_a_page_leads_to_the_next_pages_of_those_that_have_one() -> None:
    pages: dict[str, Any] = {"docs": {"tools": [], "nextCursor": "d2"}, "tickets": {"tools": []}}
    cursor = merged_list("tools/list", pages, [], TWO)["nextCursor"]
    assert read_cursor({"cursor": cursor}, TWO) == {"docs": "d2"}
    assert read_cursor({}, TWO) == {"docs": None, "tickets": None}


def test_a_cursor_that_is_too_long_ends_the_list_of_its_target_and_says_so() -> None:
    pages: dict[str, Any] = {"docs": {"tools": [{"name": "x"}], "nextCursor": "c" * (MAX_CURSOR + 1)}}
    assert merged_list("tools/list", pages, [], TWO) == {
        "tools": [{"name": "docs_x"}],
        "_meta": {"agentgate/unavailable": ["docs"]},
    }


@given(st.dictionaries(st.sampled_from(TWO.names), st.text(max_size=99), min_size=1))
def test_every_cursor_comes_back(cursors: dict[str, str]) -> None:
    assert read_cursor({"cursor": written_cursor(cursors)}, TWO) == cursors


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "é", 7, [], {}, "a" * 65537, written_cursor({}), written_cursor({"nope": "x"}),
     written_cursor({"docs": "c" * (MAX_CURSOR + 1)}), "bnVsbA", "W10", "eyJkb2NzIjo3fQ", "eyJkb2NzIjoi"],
)  # fmt: skip
def test_a_cursor_that_was_not_given_out(cursor: Any) -> None:
    with pytest.raises(RPCFault, match="Invalid cursor"):
        read_cursor({"cursor": cursor}, TWO)


@given(st.text())
def test_any_cursor_is_read_or_refused(cursor: str) -> None:
    try:
        assert set(read_cursor({"cursor": cursor}, TWO)) <= set(TWO.names)
    except RPCFault:
        pass


def test_one_server_can_do_what_any_can() -> None:
    assert merged_capabilities(
        [
            {"tools": {"listChanged": False}, "logging": {}, "experimental": {"x": {}}, "tasks": {}},
            {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "completions": "yes"},
        ]
    ) == {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "logging": {}}


def test_instructions_stand_under_the_name_of_their_target() -> None:
    assert merged_instructions({"docs": "Read.", "tickets": None, "web": "Look."}) == "[docs]\nRead.\n\n[web]\nLook."
    assert merged_instructions({"docs": ""}) is None


RESULTS: dict[str, tuple[str, Any, Any]] = {
    "links of a tool": (
        "tools/call",
        {"content": [{"type": "text", "text": "a:b"}, {"type": "resource_link", "uri": "a:b"}], "isError": False},
        {"content": [{"type": "text", "text": "a:b"}, {"type": "resource_link", "uri": "docs+a:b"}], "isError": False},
    ),
    "a resource in a tool's result": (
        "tools/call",
        {"content": [{"type": "resource", "resource": {"uri": "a:b", "text": "x"}}]},
        {"content": [{"type": "resource", "resource": {"uri": "docs+a:b", "text": "x"}}]},
    ),
    "a resource in a prompt": (
        "prompts/get",
        {"messages": [{"role": "user", "content": {"type": "resource", "resource": {"uri": "a:b"}}}]},
        {"messages": [{"role": "user", "content": {"type": "resource", "resource": {"uri": "docs+a:b"}}}]},
    ),
    "a resource": ("resources/read", {"contents": [{"uri": "a:b"}]}, {"contents": [{"uri": "docs+a:b"}]}),
    "a completion": ("completion/complete", {"completion": {"values": ["x"]}}, {"completion": {"values": ["x"]}}),
    "nonsense": (
        "tools/call",
        {"content": [7, None, {"type": "resource"}, {"type": "resource_link", "uri": 7}]},
        {"content": [7, None, {"type": "resource"}, {"type": "resource_link", "uri": 7}]},
    ),
    "nonsense for messages": ("prompts/get", {"messages": [7, {}]}, {"messages": [7, {}]}),
    "no content": ("tools/call", {"content": None}, {"content": None}),
}


@pytest.mark.parametrize("what", RESULTS)
def test_results_speak_of_what_clients_can_read(what: str) -> None:
    method, result, shown = RESULTS[what]
    assert shown_result(method, result, "docs", TWO) == shown
    assert shown_result(method, result, "docs", ONE) is result


def test_a_result_is_put_into_the_words_of_its_era() -> None:
    assert in_era("tools/list", {"tools": []}, modern=True) == {
        "tools": [], "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
    }  # fmt: skip
    asked = {"resultType": "input_required", "inputRequests": {}}
    assert in_era("tools/call", asked, modern=True) == asked
    modern = {"tools": [], "resultType": "complete", "ttlMs": 5, "cacheScope": "public", "nextCursor": "x"}
    assert in_era("tools/list", modern, modern=False) == {"tools": [], "nextCursor": "x"}
    assert in_era("tools/list", modern, modern=True) == modern
