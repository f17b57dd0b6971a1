"""No other spelling of a call that is denied gets through: whatever a careless server would make of it."""

import asyncio
import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentgate import CELRules

from .mcp_messages import META, MODERN, Server, gated, send

networks = pytest.importorskip("pydantic.networks")
URL = networks.AnyUrl

RULES = CELRules(allow=['mcp.tool.name == "add"', 'mcp.resource.name.startsWith("file:///pub/")'])

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("tools/call", {"name": "drop", "arguments": {}}),
    ("resources/read", {"uri": "file:///secret"}),
    ("resources/subscribe", {"uri": "file:///secret"}),
    ("completion/complete", {"ref": {"type": "ref/resource", "uri": "file:///secret"}}),
    ("tools/call", {"name": "add", "arguments": {}}),  # allowed, until something is done to it
    ("resources/read", {"uri": "file:///pub/a"}),
]


# What is done to a message, as an object or as text.


def fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def widened(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


SPELLINGS: list[Callable[[str], str]] = [
    str.upper,
    str.title,
    str.swapcase,
    widened,
    lambda text: text.replace("s", "\u017f").replace("k", "\u212a"),
    lambda text: f" {text}",
    lambda text: f"{text} ",
    lambda text: f"{text}\0",
    lambda text: f"{text}\u200b",
    lambda text: text.replace("e", "\u0435"),
    lambda text: text.replace("file:///", "file://localhost/"),
    lambda text: text.replace("file:///", "file:/"),
    lambda text: text.replace("/secret", "/pub/../secret"),
    lambda text: text.replace("/secret", "/pub/%2e%2e/secret"),
    lambda text: text.replace("/secret", "/pub/..%2Fsecret"),
    lambda text: text.replace("/secret", "/pub\\..\\secret"),
    lambda text: text.replace("secret", "%73ecret"),
    lambda text: text.replace("secret", "se\tcret"),
    lambda text: text.replace("pub/a", "pub/../secret"),
    lambda text: text.replace("pub/a", "pub/%2E%2E/secret"),
    lambda text: text,
]
VALUES = st.sampled_from(["drop", "file:///secret", "tools/call", None, 7, True, ["drop"], {"name": "drop"}]).map(
    json.dumps
)
PLACES = [(), ("params",), ("params", "arguments"), ("params", "_meta"), ("params", "ref")]
MEMBERS = ["method", "params", "name", "uri", "id", "jsonrpc", "result", "error", "ref", "_meta", "arguments", "type"]


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, str]]]:
    method, params = draw(st.sampled_from(CALLS))
    params = json.loads(json.dumps(params))
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers: dict[str, str] = {}
    if draw(st.booleans()):
        params["_meta"] = dict(META)
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
        headers["mcp-name"] = str(params.get("name", params.get("uri", "")))
    for _ in range(draw(st.integers(0, 3))):
        place: Any = body
        for step in draw(st.sampled_from(PLACES)):
            place = place.get(step) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            continue
        member, spell = draw(st.sampled_from(MEMBERS)), draw(st.sampled_from(SPELLINGS))
        match draw(st.sampled_from(["respell value", "respell member", "add", "replace", "remove"])):
            case "respell value" if isinstance(place.get(member), str):
                place[member] = spell(place[member])
            case "respell member" if member in place:
                place[spell(member)] = place[member] if draw(st.booleans()) else place.pop(member)
            case "add":
                place[spell(member)] = json.loads(draw(VALUES))
            case "replace" if member in place:
                place[member] = json.loads(draw(VALUES))
            case "remove":
                place.pop(member, None)
    if draw(st.integers(0, 9)) == 0:
        body.pop("id", None)
    text = json.dumps(body, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 3)) == 0:  # a member twice
        member = draw(st.sampled_from(["method", "name", "uri", "params"]))
        value = draw(VALUES)
        text = text.replace(f'"{member}":', f'"{member}": {value}, "{member}":', 1)
    if draw(st.integers(0, 9)) == 0:
        text = f"[{text}]"
    if headers and draw(st.integers(0, 2)) == 0:
        headers[draw(st.sampled_from([*headers]))] = draw(
            st.sampled_from(["add", "file:///pub/a", "2025-11-25", "tools/list"])
        )
    return text.encode("utf-8", "surrogatepass"), [*headers.items()]


# What servers may make of a body.


def first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


def folded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {fold(name): value for name, value in pairs}


def folded_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {fold(name): value for name, value in reversed(pairs)}


def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(pairs)


def object_in(members: dict[str, Any], name: str) -> dict[str, Any]:
    value = members.get(name)
    return value if isinstance(value, dict) else {}


def asked_of(body: bytes, reader: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> list[tuple[str, str]]:
    """Method and name, as a server would have them that trims, folds and normalises wherever it can."""
    found = json.loads(body, object_pairs_hook=reader)
    asked = []
    for message in found if isinstance(found, list) else [found]:
        params = object_in(message, "params")
        ref = object_in(params, "ref")
        for source in (params, ref):
            for member in ("name", "uri"):
                name = source.get(member)
                if isinstance(name, str):
                    asked.append((fold(str(message.get("method"))).strip(), name))
    return asked


def is_allowed(method: str, name: str) -> bool:
    if "://" not in name and "file:" not in name:
        return method != "tools/call" or fold(name).strip("\0 \u200b") == "add" == name
    try:
        uri = str(URL(name))
    except ValueError:
        return True  # nothing that such a server has
    return uri.startswith("file:///pub/") and ".." not in uri


@given(requests())
@example((b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","Name":"drop"}}', []))
@example((b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///pub/../secret"}}', []))
def test_whatever_gets_through_is_allowed_however_it_is_read(request_: tuple[bytes, list[tuple[str, str]]]) -> None:
    body, headers = request_
    server = Server()
    exchange = asyncio.run(send(gated(server, authorize=[RULES]), body, headers))
    assert exchange.started
    for _, received in server.asked:
        assert received == body
        for reader in (plain, first_wins, folded, folded_first):
            for method, name in asked_of(received, reader):
                known = method in ("tools/call", "resources/read", "resources/subscribe", "completion/complete")
                assert not known or is_allowed(method, name), (method, name)
