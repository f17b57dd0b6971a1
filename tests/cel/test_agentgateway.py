"""A rule from agentgateway's documentation decides the same, or is refused with the reason."""

import re
from pathlib import Path
from typing import Any

import pytest

from agentgate import CELRules, ConfigurationError, Request, cel
from agentgate.cel.library import FUNCTIONS, REFUSED
from agentgate.cel.macros import NAMES
from agentgate.headers_view import FUNCTIONS as OF_HEADERS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "cel.md"


def functions(word: str) -> set[str]:
    """The functions that the page says are here (`yes`) or are not (`no`)."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("\n| function | here | |\n|---|---|---|\n")
    rows = [line.split(" | ") for line in rest.split("\n\n")[0].splitlines()]
    cells = [row[0] for row in rows if row[1] == word]
    return {name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)}


def test_the_page_s_functions_are_here_or_refused() -> None:
    of_requests = {name for signature in OF_HEADERS for name in re.findall(r">\.(\w+)\(", signature)}
    not_functions = {"request.uri", "request.pathAndQuery", "customFunctions"}
    assert functions("yes") - not_functions <= {*FUNCTIONS, *NAMES} | of_requests
    assert functions("no") - not_functions == {name.removeprefix("<>.") for name in REFUSED}


ASKED = Request.http(
    "POST",
    "/api/test?foo=bar&foo=baz",
    host="example.com",
    client=("10.1.2.3", 5),
    headers=[
        ("user-agent", "curl"),
        ("authorization", "Bearer x"),
        ("cookie", "session=abc; theme=dark"),
        ("x-forwarded-for", "a,b"),
        ("x-forwarded-for", "c"),
    ],
    jwt={"sub": "alice", "groups": ["dev"], "nested": {"key": "value"}},
    api_key={"group": "sales"},
    body=b'{"field_a": 1, "field_b": 2}',
)


# Of the proxy's own documentation of its functions and views.
@pytest.mark.parametrize(
    "source",
    [
        'json(request.body).field_a == 1',
        'toJson({"hello": "world"}) == "{\\"hello\\":\\"world\\"}"',
        "json(request.body).with(b, b.field_a + b.field_b) == 3",
        '{"a":1,"b":2}.mapValues(v, v + 1) == {"a":2,"b":3}',
        '{"a":1,"b":2}.filterKeys(k, k == "a") == {"a":1}',
        '{"x_a":1,"b":2}.filterKeys(k, !k.startsWith("x_")) == {"b":2}',
        '{"a":2,"k":"v"}.merge({"a":3}) == {"a":3,"k":"v"}',
        'base64.encode("hello") == "aGVsbG8="',
        'base64Encode("hello") == "aGVsbG8=" && "hello".base64Encode() == base64.encode(b"hello")',
        'string(base64.decode("aGVsbG8K")) == "hello\\n" && string(base64Decode("aGVsbG8")) == "hello"',
        'url.encode("hello world/?x=1") == "hello%20world%2F%3Fx%3D1"',
        'url.decode("hello%20world") == "hello world" && url.decode("a+b") == "a+b"',
        'form.decode("a=1&a=2") == {"a":["1","2"]} && form.decode(b"a=1+2") == {"a": "1 2"}',
        'form.encode({"scope":"openid profile"}) == "scope=openid+profile"',
        'form.encode({"b": ["1", "2"], "a": "x", "n": null}) == "a=x&b=1&b=2"',
        'sha1.encode("hello") == "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"',
        'md5.encode(b"hello") == "5d41402abc4b2a76b9719d911017c592"',
        'default(request.headers["missing-header"], "fallback") == "fallback"',
        'coalesce(request.headers["x-id"], json(request.body).id, "fallback") == "fallback"',
        'coalesce(null, jwt.nothing) == null',
        '"/id/1234/data".regexReplace("/id/[0-9]*/", "/id/{id}/") == "/id/{id}/data"',
        '"a1b2".regexReplace("[0-9]", "x") == "axb2"',
        'isIP("10.0.0.1") && !isIP("10.0.0") && ip("::1").family() == 6 && ip("127.0.0.1").isLoopback()',
        'cidr("10.0.0.0/8").containsIP("10.1.2.3") && cidr("10.0.0.0/8").containsIP(ip("10.1.2.3"))',
        'cidr("10.0.0.0/8").containsCIDR(cidr("10.1.0.0/16")) && cidr("10.1.2.3/8").masked().prefixLength() == 8',
        'cidr("10.0.0.0/8").containsIP(source.address)',
        'math.greatest(1, 2) == 2 && math.bitShiftLeft(1, 3) == 8 && math.trunc(1.5) == 1.0 && max(1, 2) == 2',
        '"a-b".stripPrefix("a-") == "b" && " a ".trim() == "a" && ["a", "b"].join(",") == "a,b"',
        'request.headers.join()["x-forwarded-for"] == "a,b,c"',
        'request.headers.raw()["x-forwarded-for"] == ["a,b", "c"]',
        'request.headers["x-forwarded-for"] == ["a,b", "c"]',
        'request.headers.split()["x-forwarded-for"] == ["a", "b", "c"]',
        'request.headers.redacted().authorization == "<redacted>"',
        'request.headers.redacted().split()["authorization"] == ["<redacted>"]',
        'request.headers.cookie("session") == "abc"',
        'request.pathAndQuery.query("foo") == ["bar", "baz"] && request.uri.query("foo")[0] == "bar"',
        'request.uri == "http://example.com/api/test?foo=bar&foo=baz" && request.path == "/api/test"',
        'jwt.nested.key == "value" && jwt.rawToken == "<redacted>" && apiKey.key == "<redacted>"',
        'apiKey.group == "sales" && jwt.sub == "alice" && "dev" in jwt.groups',
        'default(jwt.email, "anon") == "anon" && !has(jwt.email)',
        'request.startTime > timestamp("2020-01-01T00:00:00Z") && request.version == "HTTP/1.1"',
    ],
)  # fmt: skip
def test_the_proxy_s_examples_hold(source: str) -> None:
    decision = CELRules(allow=[source]).check(ASKED)
    assert (decision.effect, decision.detail) == ("allow", "")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_says_why(name: str) -> None:
    source = f"dyn(jwt){name.removeprefix('<>')}() == 1" if name.startswith("<>") else f"{name}() == 1"
    with pytest.raises(ConfigurationError, match=re.escape(f"{name.removeprefix('<>.')}() {REFUSED[name]}")):
        CELRules(allow=[source])


def test_a_caller_s_own_function_may_have_such_a_name() -> None:
    found: Any = cel.compile("uuid()", functions={"uuid() -> string": lambda: "x"}).evaluate({})
    assert found == "x"
