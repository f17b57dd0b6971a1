"""RequestHeaders and ResponseHeaders: what is changed, what cannot be, and that values are not shown."""

from typing import Any

import pytest

from agentgate import ConfigurationError, RequestHeaders, ResponseHeaders, Secret
from agentgate.proxy.headers import RawHeaderList

Pairs = list[tuple[str, str]]


def raw(pairs: Pairs) -> RawHeaderList:
    return [(name.encode(), value.encode()) for name, value in pairs]


CHANGES: dict[str, tuple[dict[str, Any], Pairs, Pairs]] = {
    "set makes one of none": ({"set": {"X-A": "1"}}, [], [("x-a", "1")]),
    "set replaces all": ({"set": {"x-a": "1"}}, [("x-a", "0"), ("b", "b"), ("x-a", "9")], [("b", "b"), ("x-a", "1")]),
    "add puts one beside": ({"add": {"x-a": "1"}}, [("x-a", "0")], [("x-a", "0"), ("x-a", "1")]),
    "remove takes all away": ({"remove": ["X-A"]}, [("x-a", "0"), ("b", "b"), ("x-a", "9")], [("b", "b")]),
    "a Secret": ({"set": {"x-a": Secret("hunter2")}}, [("x-a", "0")], [("x-a", "hunter2")]),
    "no value": ({"set": {"x-a": ""}}, [], [("x-a", "")]),
}  # fmt: skip


@pytest.mark.parametrize("kind", [RequestHeaders, ResponseHeaders])
@pytest.mark.parametrize("change", CHANGES)
def test_changes(kind: type[RequestHeaders] | type[ResponseHeaders], change: str) -> None:
    options, before, after = CHANGES[change]
    assert kind(**options).apply(raw(before)) == raw(after)


@pytest.mark.parametrize("spelling", ["x_tenant", "x.tenant", "x-tenant"])
def test_a_client_cannot_send_a_header_that_is_set_in_another_spelling(spelling: str) -> None:
    assert RequestHeaders(set={"x-tenant": "a"}).apply(raw([(spelling, "b")])) == [(b"x-tenant", b"a")]


def test_a_client_cannot_have_a_header_that_is_set_taken_away_by_naming_it_in_connection() -> None:
    sent = raw([("connection", "close, X-Tenant, x-other"), ("x-other", "1"), ("x-kept", "2")])
    assert RequestHeaders(set={"x-tenant": "a"}).apply(sent) == raw([("x-kept", "2"), ("x-tenant", "a")])


def test_a_client_cannot_have_host_and_framing_taken_away_by_naming_them_in_connection() -> None:
    kept = [("host", "a.example"), ("content-length", "3"), ("content-encoding", "gzip")]
    sent = raw([*kept, ("connection", "Host, content-length, content-encoding")])
    assert RequestHeaders(remove=["x-a"]).apply(sent) == raw(kept)


NEITHER = ["connection", "Transfer-Encoding", "content-length", "te", "upgrade", "Keep-Alive", "trailer"]


@pytest.mark.parametrize("action", ["set", "add", "remove"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(RequestHeaders, name) for name in [*NEITHER, "host", "expect", "x-http-method-override", "x-original-url"]]
    + [(ResponseHeaders, name) for name in NEITHER],
)
def test_framing_and_what_is_for_one_connection_cannot_be_changed(kind: Any, name: str, action: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{kind.__name__}: {name}: this header is not a route's to change"):
        kind(**{action: [name] if action == "remove" else {name: "1"}})


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "it changes nothing"),
        ({"set": {"a b": "1"}}, "'a b' is no header name"),
        ({"remove": [""]}, "'' is no header name"),
        ({"remove": [1]}, "1 is no header name"),
        ({"set": {"a": "1", "A": "2"}}, "A: named twice"),
        ({"set": {"x-a": "1"}, "remove": ["x_a"]}, "x_a: named twice"),
        ({"add": {"Authorization": "1"}}, "Authorization: it may occur once only: set it"),
        ({"add": {"content-type": "1"}}, "content-type: it may occur once only: set it"),
        ({"set": {"a": "1\r\nb: 2"}}, "a: its value cannot stand in a header"),
        ({"set": {"a": " 1"}}, "a: its value cannot stand in a header"),
        ({"set": {"a": "\u0101"}}, "a: its value cannot stand in a header"),
        ({"set": {"a": 1}}, "a: its value cannot stand in a header"),
        ({"set": {"a": "1\0", "b c": "1"}}, "'b c' is no header name"),
    ],
)
def test_faults(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RequestHeaders(**options)
    assert f"RequestHeaders: {fault}" in caught.value.faults


def test_names_in_one_text_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="remove is a list of names"):
        RequestHeaders(remove="x-a")


def test_values_are_not_shown() -> None:
    assert repr(RequestHeaders(set={"X-B": "hunter2"}, remove=["x-a"])) == "RequestHeaders(x-a, x-b)"
    with pytest.raises(ConfigurationError) as caught:
        RequestHeaders(set={"a": Secret("hunter2\n")})
    assert "hunter2" not in str(caught.value)
