"""JSON-RPC: what is plainly one message is read, and nothing else is."""

import json
from typing import Any

import pytest

from agentgate.protocols.json_rpc import RPCFault, RPCMessage, error_bytes, id_of, name_of, read_message, refuse_twins

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add"}}


@pytest.mark.parametrize(
    ("message", "read"),
    [
        (CALL, RPCMessage("request", 1, "tools/call", {"name": "add"})),
        ({"jsonrpc": "2.0", "id": "a", "method": "ping"}, RPCMessage("request", "a", "ping", {})),
        ({"jsonrpc": "2.0", "id": 0, "method": "ping"}, RPCMessage("request", 0, "ping", {})),
        ({"jsonrpc": "2.0", "id": "", "method": "ping"}, RPCMessage("request", "", "ping", {})),
        ({"jsonrpc": "2.0", "method": "tools/call"}, RPCMessage("notification", None, "tools/call", {})),
        ({"jsonrpc": "2.0", "id": 7, "result": {}}, RPCMessage("response", 7, "", {})),
        ({"jsonrpc": "2.0", "id": 7, "error": {"code": 1}}, RPCMessage("response", 7, "", {})),
        ({**CALL, "extra": 1}, RPCMessage("request", 1, "tools/call", {"name": "add"})),
    ],
)
def test_messages(message: Any, read: RPCMessage) -> None:
    assert read_message(message) == read


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ([CALL], -32600, "batches are not supported"),
        ([], -32600, "batches are not supported"),
        ("ping", -32600, "a message is an object"),
        (None, -32600, "a message is an object"),
        ({**CALL, "jsonrpc": "1.0"}, -32600, "jsonrpc is not 2.0"),
        ({**CALL, "jsonrpc": 2.0}, -32600, "jsonrpc is not 2.0"),
        ({"id": 1, "method": "ping"}, -32600, "jsonrpc is not 2.0"),
        ({**CALL, "id": None}, -32600, "an id is a string or an integer"),
        ({**CALL, "id": True}, -32600, "an id is a string or an integer"),
        ({**CALL, "id": 1.5}, -32600, "an id is a string or an integer"),
        ({**CALL, "id": [1]}, -32600, "an id is a string or an integer"),
        ({"jsonrpc": "2.0", "id": 1}, -32600, "neither a request nor a response"),
        ({"jsonrpc": "2.0", "result": {}}, -32600, "neither a request nor a response"),
        ({"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}}, -32600, "neither a request nor a response"),
        ({"jsonrpc": "2.0", "id": 1, "result": {}, "params": {}}, -32600, "neither a request nor a response"),
        ({**CALL, "result": {}}, -32600, "both a request and a response"),
        ({**CALL, "error": {}}, -32600, "both a request and a response"),
        ({**CALL, "method": 1}, -32600, "method is not a name"),
        ({**CALL, "method": ""}, -32600, "method is not a name"),
        ({**CALL, "method": " tools/call"}, -32600, "method is not a name"),
        ({**CALL, "method": "tools/call\n"}, -32600, "method is not a name"),
        ({**CALL, "method": "tools\0call"}, -32600, "method is not a name"),
        ({**CALL, "method": "x" * 1025}, -32600, "method is not a name"),
        ({**CALL, "params": []}, -32602, "params is not an object"),
        ({**CALL, "params": None}, -32602, "params is not an object"),
        ({**CALL, "params": "name"}, -32602, "params is not an object"),
        ({**CALL, "Method": "ping"}, -32600, "a member is spelt in two ways"),
        ({"jsonrpc": "2.0", "id": 1, "METHOD": "ping"}, -32600, "a member is spelt in two ways"),
        ({**CALL, "param\u017f": {"name": "drop"}}, -32600, "a member is spelt in two ways"),
        ({**CALL, "\uff49d": 2}, -32600, "a member is spelt in two ways"),
        ({**CALL, "more": 1, "More": 2}, -32600, "a member is spelt in two ways"),
    ],
)
def test_what_is_not_plainly_one_message_is_refused(message: Any, code: int, text: str) -> None:
    with pytest.raises(RPCFault) as caught:
        read_message(message)
    assert (caught.value.code, str(caught.value)) == (code, text)


@pytest.mark.parametrize(
    "name", [None, 1, "", " add", "add ", "a\0b", "a\u2028b", "a\x85b", "\ud800", ["add"], "x" * 1025]
)
def test_what_is_no_name(name: Any) -> None:
    with pytest.raises(RPCFault, match="name is not a name"):
        name_of({"name": name}, "name")
    with pytest.raises(RPCFault):
        name_of({}, "name")


@pytest.mark.parametrize("name", ["add", "get user", "é", "file:///a b", "数"])
def test_names(name: str) -> None:
    assert name_of({"name": name}, "name") == name


def test_members_that_nobody_could_mistake_are_left_alone() -> None:
    refuse_twins({"name": 1, "arguments": 2, "other": 3}, ["name", "arguments"])


@pytest.mark.parametrize(
    ("value", "id"), [({"id": 1}, 1), ({"id": "a"}, "a"), ({"id": True}, None), ({}, None), ([], None)]
)
def test_the_id_that_an_error_is_sent_to(value: Any, id: Any) -> None:
    assert id_of(value) == id


def test_errors() -> None:
    assert json.loads(error_bytes(1, -32602, "Unknown tool: é")) == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": -32602, "message": "Unknown tool: é"},
    }
    assert json.loads(error_bytes(None, -32600, "no", {"a": 1}))["error"]["data"] == {"a": 1}
