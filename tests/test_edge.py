"""The edge: what can be read in two ways is refused, and every other request passes as it is."""

from dataclasses import replace
from typing import Any

import pytest

from agentgate import APIKeyAuth, Edge, Gate, Header, Query, Request, new_key
from agentgate.edge import METHODS, SINGLETONS, origin_form
from agentgate.testing import Recorder, drive, http_scope, websocket_scope


def refused(scope: dict[str, Any], edge: Edge = Edge()) -> tuple[int, str] | None:  # noqa: B008
    """Status and text of the refusal; None when there is none."""
    decision = edge.check(Request(scope))
    if decision is None:
        return None
    assert (decision.effect, decision.policy) == ("deny", "edge")
    return decision.status, decision.message.removeprefix("invalid request: ")


def raw(*headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return http_scope(headers=[(b"host", b"a.example"), *headers], **more)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a",
        "/a/",
        "/a/b/c.d/e",
        "/a.b/..c/c..",
        "/...",
        "/.well-known/agent-card.json",
        "/%61dmin",
        "/a%20b",
        "/caf%C3%A9",
        "/a%3Fb",
        "/~user/-_.!$&'()*+,=:@",
        "/100%25",
        "/100%25/x",
        "/a%25zz",
        "/v1/models/gpt-4o:stream",
        "/%E2%82%AC",
        "/a?",
        "/a?b=c&d=%20+e?f/g",
        "/a?../../x",
        "/a?x=%00",
        "/a?x=%FF",
        "/a?x=//;..",
    ],
)
def test_a_target_with_one_reading_passes(target: str) -> None:
    """Ordinary targets pass, with whatever bytes RFC 3986 allows."""
    assert refused(http_scope("GET", target)) is None


DOTS = "the path has a dot segment"
SLASH = "the path has an encoded slash"
EMPTY = "the path has an empty segment"
PERCENT = "the path has a bad percent-encoding"
TWICE = "the path is percent-encoded twice"
CONTROL = "the path has an encoded control character"
CHARACTER = "the path has a character that RFC 3986 does not allow there"
NO_SLASH = "the target does not start with a slash"
SEMICOLON = "the path has a semicolon"
UTF8 = "the path is not UTF-8"
BAD_QUERY = "the query has a character that RFC 3986 does not allow there"


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        # dot segments, however they are spelled
        ("/.", DOTS),
        ("/..", DOTS),
        ("/./admin", DOTS),
        ("/public/../admin", DOTS),
        ("/public/..", DOTS),
        ("/public/%2e%2e/admin", DOTS),
        ("/public/%2E./admin", DOTS),
        ("/public/.%2e/admin", DOTS),
        ("/public/%2e/admin", DOTS),
        ("/..;/admin", SEMICOLON),
        ("/public/..%2fadmin", SLASH),
        ("/public/..%5cadmin", SLASH),
        ("/public/..\\admin", CHARACTER),
        ("/\\..\\admin", CHARACTER),
        # slashes
        ("//admin", EMPTY),
        ("//", EMPTY),
        ("/a//b", EMPTY),
        ("/admin//", EMPTY),
        ("/admin%2fusers", SLASH),
        ("/admin%2Fusers", SLASH),
        ("/admin%5Cusers", SLASH),
        ("/%2f%2fevil.example", SLASH),
        # parameters
        ("/admin;x=1", SEMICOLON),
        ("/admin;/users", SEMICOLON),
        ("/;", SEMICOLON),
        # encodings
        ("/a%00", CONTROL),
        ("/a%0d%0aX-Evil:%201", CONTROL),
        ("/a%1f", CONTROL),
        ("/a%7f", CONTROL),
        ("/a%C2%85b", CONTROL),  # NEL
        ("/a%C2%9Bb", CONTROL),  # CSI
        ("/a%E2%80%A8b", CONTROL),  # line separator
        ("/a%E2%80%A9b", CONTROL),  # paragraph separator
        ("/a%", PERCENT),
        ("/a%4", PERCENT),
        ("/a%zz", PERCENT),
        ("/a%u0041", PERCENT),
        ("/%252e%252e/admin", TWICE),
        ("/a%252fb", TWICE),
        ("/a%2541", TWICE),
        ("/%c0%ae%c0%ae/admin", UTF8),
        ("/a%ffdmin", UTF8),
        ("/%ed%a0%80", UTF8),
        # characters
        ("/x#/../admin", CHARACTER),
        ("/a b", CHARACTER),
        ("/a\tb", CHARACTER),
        ("/a\x00b", CHARACTER),
        ("/a\nb", CHARACTER),
        ('/a"b', CHARACTER),
        ("/<script>", CHARACTER),
        ("/{a}", CHARACTER),
        ("/a|b", CHARACTER),
        ("/a^b", CHARACTER),
        ("/a[b]", CHARACTER),
        ("/caf\xe9", CHARACTER),
        # not origin-form
        ("admin", NO_SLASH),
        ("", NO_SLASH),
        ("*", NO_SLASH),
        ("a.example:443", NO_SLASH),
        ("http://evil.example/admin", NO_SLASH),
        # queries
        ("/a?x=%", "the query has a bad percent-encoding"),
        ("/a?x=%4", "the query has a bad percent-encoding"),
        ("/a?x=#", BAD_QUERY),
        ("/a?x= y", BAD_QUERY),
        ("/a?x=\r\n", BAD_QUERY),
        ("/a?x=<", BAD_QUERY),
        ('/a?x="', BAD_QUERY),
        ("/a?x=\\", BAD_QUERY),
        ("/a?x=[1]", BAD_QUERY),
        ("/a?x=\xe9", BAD_QUERY),
    ],
)
def test_a_target_with_two_readings_is_refused(target: str, fault: str) -> None:
    """Whatever two parsers are known to disagree about is a 400, with the reason."""
    assert refused(http_scope("GET", target)) == (400, fault)


@pytest.mark.parametrize(
    ("edge", "passes", "still_refused"),
    [
        (
            Edge(allow_encoded_slash=True),
            ["/a%2fb", "/a%2Fb"],
            ["/a%5cb", "/a%5Cb", "/a%2f..", "/%2e%2e%2fa", "/a%2f%2fb"],
        ),
        (Edge(allow_empty_segments=True), ["//admin", "/a//b", "/a//"], ["//..", "//%2e", "/a%2f/b"]),
        (Edge(allow_path_parameters=True), ["/a;x=1", "/a;/b", "/;"], ["/..;/admin", "/.;x", "/%2e%2e;x/a", "/a;%2fb"]),
        (Edge(allow_double_encoding=True), ["/a%2520", "/%252e%252e/a"], ["/%2e%2e/a", "/a%"]),
        (Edge(lax_query=True), ["/a?x[]={1|2}^`"], ["/a?x=#", "/a?x=%", "/a?x=\\", "/a?x=\x00", "/a[b]"]),
        (Edge(allow_encoded_slash=True, allow_empty_segments=True), ["/a%2f%2fb"], ["/a%2f..%2fb"]),
    ],
)
def test_a_relaxation_allows_what_it_names_and_no_more(edge: Edge, passes: list[str], still_refused: list[str]) -> None:
    """Each option lets exactly its own case pass."""
    for target in passes:
        assert refused(http_scope("GET", target), edge) is None, target
    for target in still_refused:
        assert refused(http_scope("GET", target), edge) is not None, target


@pytest.mark.parametrize("method", sorted(METHODS))
def test_known_methods_pass(method: str) -> None:
    """The methods of RFC 9110 that address a resource, and PATCH, pass."""
    assert refused(http_scope(method, "/")) is None


@pytest.mark.parametrize("method", ["get", "Get", "GETX", "CONNECT", "TRACE", "PROPFIND", "G!T#", "A" * 2000, " GET"])
def test_other_methods_are_not_allowed(method: str) -> None:
    """Any other method is a 405 that says which there are, and is not repeated to the client."""
    decision = Edge().check(Request(http_scope(method, "/")))
    assert decision is not None
    assert (decision.status, decision.message) == (405, "method not allowed")
    assert dict(decision.headers)[b"allow"] == b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


def test_methods_can_be_named() -> None:
    """Which methods pass is an option."""
    edge = Edge(methods=METHODS | {"PROPFIND"})
    assert refused(http_scope("PROPFIND", "/"), edge) is None
    assert refused(http_scope("GET", "/"), Edge(methods=frozenset({"POST"}))) == (405, "method not allowed")


TWO_READINGS_OF_HOST = "the host header is not a host name with an optional port"


@pytest.mark.parametrize(
    "host",
    [
        "a.example",
        "A.Example",
        "a.example.",
        "a.example:443",
        "localhost",
        "my_service:80",
        "10.0.0.1",
        "[::1]",
        "[::1]:80",
        f"{'a.' * 127}:65535",
    ],
)
def test_hosts_that_are_names_pass(host: str) -> None:
    """Names, addresses and ports pass."""
    assert refused(http_scope(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a@b",
        "user:pw@a.example",
        "a.example/public?",
        "a.example, b.example",
        "a.example:80:80",
        "a.example:",
        "a.example:http",
        "a.example:123456",
        "http://a.example",
        "a example",
        "\xe9.example",
        "::1",
        "[::1",
        "[::1]x",
        "[v1.x]",
        "%61.example",
        "a.example\n",
        "-a.example",
        ".example",
        "*",
        "a." * 127 + "a",
        f"[{'1' * 46}]",
    ],
)
def test_hosts_that_are_no_names_are_refused(host: str) -> None:
    """Anything that a URL parser would read otherwise than a header parser is refused."""
    fault = refused(http_scope(host=host))
    assert fault is not None
    assert fault[0] == 400


@pytest.mark.parametrize(
    ("version", "fault"), [("1.1", (400, "no host header")), ("2", (400, "no host header")), ("1.0", None)]
)
def test_a_request_names_its_host(version: str, fault: tuple[int, str] | None) -> None:
    """Only HTTP/1.0 may leave the Host header out."""
    assert refused(http_scope(host=None, http_version=version)) == fault


@pytest.mark.parametrize("name", sorted(SINGLETONS - {b"host", b"transfer-encoding"}))
def test_a_header_that_means_one_thing_occurs_once(name: bytes) -> None:
    """Two of them are refused even when they are equal; one, and two others, pass."""
    one = (name, b"3")
    assert refused(raw(one, (b"accept", b"a"), (b"accept", b"b"))) is None
    assert refused(raw(one, (b"accept", b"a"), one)) == (400, f"several {name.decode()} headers")


def test_two_hosts_are_refused() -> None:
    """Two Host headers are refused, whatever they say."""
    assert refused(raw((b"host", b"a.example"))) == (400, "several host headers")
    assert refused(raw((b"host", b"evil.example"))) == (400, "several host headers")


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ([(b"x_user", b"a")], "a header name has an underscore"),
        ([(b"X-User", b"a")], "a header name is not a lower-case token"),
        ([(b"x user", b"a")], "a header name is not a lower-case token"),
        ([(b"x_user ", b"a")], "a header name is not a lower-case token"),
        ([(b"x\xe9", b"a")], "a header name is not a lower-case token"),
        ([(b"x:y", b"a")], "a header name is not a lower-case token"),
        ([(b"x\x00", b"a")], "a header name is not a lower-case token"),
        ([(b"", b"a")], "a header name is empty"),
        ([(b"x", b"a\x00")], "a header value has a control character"),
        ([(b"x", b"a\rb")], "a header value has a control character"),
        ([(b"x", b"a\nx-evil: 1")], "a header value has a control character"),
        ([(b"x", b"\x0b")], "a header value has a control character"),
        ([(b"x", b"\x7f")], "a header value has a control character"),
        ([(b"x", b"fine"), (b"x", b"\x01"), (b"x", b"fine")], "a header value has a control character"),
        ([(b"content-length", b"3"), (b"transfer-encoding", b"chunked")], "content-length and transfer-encoding"),
        ([(b"transfer-encoding", b"gzip, chunked")], "a transfer-encoding other than chunked"),
        ([(b"transfer-encoding", b"identity")], "a transfer-encoding other than chunked"),
        ([(b"transfer-encoding", b"")], "a transfer-encoding other than chunked"),
        ([(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")], "several transfer-encoding headers"),
        ([(b"content-length", b"3, 3")], "content-length is not a number"),
        ([(b"content-length", b"+3")], "content-length is not a number"),
        ([(b"content-length", b"-1")], "content-length is not a number"),
        ([(b"content-length", b"0x3")], "content-length is not a number"),
        ([(b"content-length", b"")], "content-length is not a number"),
        ([(b"content-length", b"3 ")], "content-length is not a number"),
        ([(b"content-length", b"9" * 19)], "content-length is not a number"),
        ([(b"content-length", "٣".encode())], "content-length is not a number"),
    ],
)
def test_headers_with_two_readings_are_refused(headers: list[tuple[bytes, bytes]], fault: str) -> None:
    """Names that are no tokens, values with controls, and framing that is said twice or otherwise, are a 400."""
    assert refused(raw(*headers)) == (400, fault)


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b""),
        (b"x", b"a\tb"),
        (b"x", bytes(range(0x80, 0x100))),
        (b"x-!#$%&'*+.^`|~", b"a"),
        (b"content-length", b"0"),
        (b"content-length", b"9" * 18),
        (b"transfer-encoding", b"chunked"),
        (b"transfer-encoding", b"Chunked"),
    ],
)
def test_headers_with_one_reading_pass(header: tuple[bytes, bytes]) -> None:
    """Tokens, tabs, and bytes beyond ASCII, pass."""
    assert refused(raw(header)) is None


def test_chunks_did_not_exist_in_http_1_0() -> None:
    """`Transfer-Encoding` in HTTP/1.0 is refused."""
    assert refused(raw((b"transfer-encoding", b"chunked"), http_version="1.0")) == (
        400,
        "a transfer-encoding other than chunked",
    )


@pytest.mark.parametrize(
    ("name", "passes"), [(b"x_user", True), (b"_", True), (b"x_user:", False), (b"X_USER", False), (b"x__\x00", False)]
)
def test_underscores_can_be_allowed(name: bytes, passes: bool) -> None:
    """`allow_underscores` allows underscores, and no other byte."""
    assert (refused(raw((name, b"a")), Edge(allow_underscores=True)) is None) is passes


@pytest.mark.parametrize(
    ("edge", "scope", "status"),
    [
        (Edge(max_target_bytes=10), http_scope("GET", "/123456789"), None),
        (Edge(max_target_bytes=10), http_scope("GET", "/1234567890"), 414),
        (Edge(max_target_bytes=10), http_scope("GET", "/1234?56789"), None),
        (Edge(max_target_bytes=10), http_scope("GET", "/1234?567890"), 414),
        (Edge(max_headers=2), raw((b"a", b"1")), None),
        (Edge(max_headers=2), raw((b"a", b"1"), (b"b", b"1")), 431),
        (Edge(max_headers=2), raw((b"a", b"1"), (b"a", b"1")), 431),
        (Edge(max_header_bytes=20), raw((b"abc", b"1234")), None),  # 4 + 9 of the host, 3 + 4
        (Edge(max_header_bytes=20), raw((b"abc", b"12345")), 431),
        (Edge(max_header_bytes=40), raw(*[(b"a", b"1234567")] * 4), 431),
        (Edge(), raw(*[(b"a", b"1")] * 100), 431),
        (Edge(), raw(*[(b"a", b"1")] * 99), None),
        (Edge(), raw((b"a", b"1" * 70_000)), 431),
        (Edge(), http_scope("GET", "/" + "a" * 9000), 414),
    ],
)
def test_limits(edge: Edge, scope: dict[str, Any], status: int | None) -> None:
    """Targets and headers have limits, which can be set, and which hold exactly."""
    refusal = refused(scope, edge)
    assert (refusal and refusal[0]) == status


@pytest.mark.parametrize(
    ("path", "raw_path", "fault"),
    [
        ("/public", b"/public", None),
        ("/a b", b"/a%20b", None),
        ("/a", b"/%61", None),
        ("/public", None, None),
        ("/caf\u00e9", None, None),
        ("/a?b", None, None),
        ("/a/../b", None, DOTS),
        ("//a", None, EMPTY),
        ("/a;b", None, SEMICOLON),
        ("/a\x00", None, CONTROL),
        ("/100%", None, PERCENT),
        ("/a%20b", None, "path and raw_path differ"),
        ("/admin", b"/public", "path and raw_path differ"),
        ("/admin", b"/Admin", "path and raw_path differ"),
        ("/admin/", b"/admin", "path and raw_path differ"),
        ("/a%2fb", b"/a%2fb", SLASH),
        ("/public", b"/public?x=1", None),
        ("", b"", NO_SLASH),
        ("", None, NO_SLASH),
    ],
)
def test_path_and_raw_path_say_the_same(path: str, raw_path: bytes | None, fault: str | None) -> None:
    """The app routes on `path`, policies judge `raw_path`: a scope where they differ is refused."""
    refusal = refused(http_scope(path=path, raw_path=raw_path))
    assert (refusal and refusal[1]) == fault


@pytest.mark.parametrize(
    ("root_path", "path", "raw_path", "passes"),
    [
        ("", "/gw/a", b"/gw/a", True),
        ("/gw", "/gw/a", b"/gw/a", True),  # as servers and Starlette's Mount have it
        ("/gw", "/a", b"/gw/a", True),  # as older ASGI apps have it
        ("/gw", "/b", b"/gw/a", False),
        ("/gw", "/a", b"/a", True),
        ("/gw", "/a", b"/gwa", False),
        ("/gw", "/gw/a", b"/a", False),
    ],
)
def test_mounted_apps_are_judged_by_the_whole_path(root_path: str, path: str, raw_path: bytes, passes: bool) -> None:
    """In a mount, policies see the path as the client sent it, whichever of the two ways the scope is written."""
    scope = http_scope(root_path=root_path, path=path, raw_path=raw_path)
    assert (refused(scope) is None) is passes
    assert Request(scope).path == raw_path.decode()


@pytest.mark.parametrize("target", ["/live", "/live?x=1"])
def test_websockets_pass_the_same_edge(target: str) -> None:
    """A websocket handshake is judged like a GET."""
    assert refused(websocket_scope(target)) is None


@pytest.mark.parametrize("target", ["/a/../b", "//a", "/a%00"])
def test_websockets_are_refused_by_the_same_edge(target: str) -> None:
    """What is refused for http is refused for a websocket."""
    assert refused(websocket_scope(target)) is not None


# -- absolute-form ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path", "raw_path"),
    [
        ("http://a.example/admin", "/admin", b"/admin"),
        ("http://A.example/admin", "/admin", b"/admin"),
        ("http://a.example", "/", b"/"),
        ("http://a.example/", "/", b"/"),
        ("http://a.example/a%20b", "/a b", b"/a%20b"),
        ("http://a.example//b", "//b", b"//b"),
    ],
)
@pytest.mark.parametrize("has_raw_path", [True, False])
def test_absolute_form_of_the_same_host_is_origin_form(
    target: str, path: str, raw_path: bytes, has_raw_path: bool
) -> None:
    """`GET http://host/path` of the very host is `GET /path`."""
    scope = http_scope(path=target, raw_path=target.encode() if has_raw_path else None, host="a.example")
    assert {**origin_form(scope), "path": path, "raw_path": raw_path} == origin_form(scope) != scope


@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("http://evil.example/admin", {}),
        ("http://a.example:80/admin", {}),
        ("http://a.example@evil.example/admin", {}),
        ("http://user@a.example/admin", {}),
        ("https://a.example/admin", {}),
        ("HTTP://a.example/admin", {}),
        ("ftp://a.example/admin", {}),
        ("http:/a.example/admin", {}),
        ("http:admin", {}),
        ("http://a.example#/admin", {}),
        ("http://a.example/admin", {"scheme": "https"}),
        ("http://a.example/admin", {"host": None}),
        ("http://a.example/admin", {"headers": [(b"host", b"a.example"), (b"host", b"a.example")]}),
        ("http://a.example/admin", {"headers": [(b"host", b"b.example")]}),
        ("", {}),
    ],
)
def test_any_other_absolute_form_is_refused(target: str, more: dict[str, Any]) -> None:
    """A target that names another host or scheme than the request was sent to stays as it is, and is refused."""
    scope = http_scope(path=target, raw_path=target.encode(), **{"host": "a.example", **more})
    assert origin_form(scope) is scope
    assert refused(scope) is not None


def test_origin_form_is_left_alone() -> None:
    """An ordinary target is not touched."""
    scope = http_scope("GET", "/http://a.example/")
    assert origin_form(scope) is scope


# -- in a Gate -------------------------------------------------------------------------------------------------------


class App:
    """Counts its calls, and keeps the last scope."""

    calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize(
    ("scope", "status", "body", "reason"),
    [
        (http_scope("OPTIONS", "*"), 204, "", "DirectResponse"),
        (http_scope("GET", "*"), 400, f"invalid request: {NO_SLASH}", "InvalidRequest"),
        (http_scope("GET", "/a/../b"), 400, f"invalid request: {DOTS}", "InvalidRequest"),
        (http_scope("CONNECT", "a.example:443"), 405, "method not allowed", "Internal"),
        (http_scope("GET", "/" + "a" * 9000), 414, "uri too long", "InvalidRequest"),
        (raw((b"a", b"1" * 70_000)), 431, "request header fields too large", "InvalidRequest"),
        (http_scope("GET", "http://evil.example/"), 400, f"invalid request: {NO_SLASH}", "InvalidRequest"),
    ],
)
@pytest.mark.anyio
async def test_what_the_edge_refuses_is_answered_and_recorded(
    scope: dict[str, Any], status: int, body: str, reason: str
) -> None:
    """A refusal by the edge reaches no policy and no app, and is in the Record like any other."""
    app, recorder = App(), Recorder()
    exchange = await drive(Gate(app, observe=[recorder]), scope)
    assert (exchange.status, exchange.text, app.calls) == (status, body, 0)
    assert (recorder.last.status, recorder.last.reason) == (status, reason)
    assert [d.policy for d in recorder.last.trail] == ["edge"]


@pytest.mark.anyio
async def test_absolute_form_reaches_the_app_as_origin_form() -> None:
    """The app sees the path that was judged, never the absolute form."""
    app = App()
    scope = http_scope(path="http://a.example/x", raw_path=b"http://a.example/x", host="a.example")
    exchange = await drive(Gate(app, observe=[Recorder()]), scope)
    assert exchange.status == 200
    assert (app.scope["path"], app.scope["raw_path"]) == ("/x", b"/x")


@pytest.mark.anyio
async def test_what_passes_goes_on_byte_for_byte() -> None:
    """The edge normalises nothing: path, query and headers arrive as they came."""
    app = App()
    headers = [(b"host", b"A.Example."), (b"x", b"\xff "), (b"accept", b"a"), (b"accept", b"b")]
    scope = http_scope("GET", "/%61%2520?%41=+%20") | {"headers": headers}
    edge = Edge(allow_double_encoding=True)
    exchange = await drive(Gate(app, observe=[Recorder()], edge=edge), scope)
    assert exchange.status == 200
    assert {name: app.scope[name] for name in scope} == scope


@pytest.mark.parametrize("location", [Header("x-agent-key"), Header("X-Agent-Key", "Key ")])
@pytest.mark.anyio
async def test_a_header_that_holds_the_credential_occurs_once(location: Header) -> None:
    """A Gate refuses two of the headers its authenticator reads, and leaves others to be repeated."""
    key = new_key()
    value = f"{location.prefix}{key}".encode()
    gate = Gate(App(), authenticate=[APIKeyAuth([key], location=location)])
    assert (await drive(gate, raw((b"x-agent-key", value)))).status == 200
    assert (await drive(gate, raw((b"x-agent-key", value), (b"x-agent-key", b"other")))).status == 400


def test_a_query_parameter_is_no_singleton_header() -> None:
    """Reading a credential from the query restricts no header."""
    gate = Gate(App(), authenticate=[APIKeyAuth([new_key()], location=Query("x"))])
    scope = raw((b"x", b"1"), (b"x", b"2"))
    assert [d.status for d in gate.explain(Request(scope))] == [401]


def test_every_option_refuses_unless_it_is_given() -> None:
    """Edges with the same options are equal, and every relaxation is off by default."""
    assert Edge() == Edge()
    assert replace(Edge(), lax_query=True) != Edge()
    assert not any(value is True for value in (getattr(Edge(), name) for name in Edge.__slots__))
