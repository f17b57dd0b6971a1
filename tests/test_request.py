"""Request: what a policy may ask, and that it answers as the app behind would."""

from typing import Any

import pytest

from agentgate import Principal, Request
from agentgate.headers import Headers
from agentgate.request import authenticated, below_mount, with_headers
from agentgate.testing import http_scope


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", b""),
        ("/a/b", "/a/b", b""),
        ("/a%20b", "/a b", b""),
        ("/caf%C3%A9", "/café", b""),
        ("/a%2520", "/a%20", b""),
        ("/a%2fb", "/a/b", b""),
        ("/a%ff", "/a\ufffd", b""),
        ("/a+b", "/a+b", b""),
        ("/a?x=/public", "/a", b"x=/public"),
        ("/a?b?c", "/a", b"b?c"),
        ("/a%3Fx=1", "/a?x=1", b""),
    ],
)
def test_a_path_is_decoded_once_and_has_no_query(target: str, path: str, query: bytes) -> None:
    """`path` is what an ASGI app routes on; the query is never part of it."""
    request = Request.http("GET", target)
    assert (request.path, request.path, request.query_string) == (path, path, query)
    assert request.target == target.encode()


@pytest.mark.parametrize(
    ("raw_path", "path", "expected"),
    [
        (None, "/a b", b"/a%20b"),
        (None, "/caf\u00e9", b"/caf%C3%A9"),
        (None, "/a?b", b"/a%3Fb"),
        (None, "/a%b", b"/a%b"),
        (None, "/\ud800", b"/%3F"),
        (None, "", b""),
        (b"/a?x=1", "/a", b"/a"),
        (b"/a%2Fb", "/a/b", b"/a%2Fb"),
    ],
)
def test_raw_path_is_made_up_where_the_server_gives_none(raw_path: bytes | None, path: str, expected: bytes) -> None:
    """ASGI makes `raw_path` optional, and some test clients leave the query in it."""
    assert Request(http_scope(path=path, raw_path=raw_path)).raw_path == expected


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com", "example.com"),
        ("example.com.", "example.com"),
        ("example.com:8080", "example.com"),
        ("example.com.:8080", "example.com"),
        ("10.0.0.7:80", "10.0.0.7"),
        ("[::1]", "[::1]"),
        ("[::1]:8080", "[::1]"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
    ],
)
def test_a_host_is_a_name(authority: str, host: str) -> None:
    """`host` is lower case, without port and trailing dot; `authority` is what was sent."""
    request = Request.http(host=authority)
    assert (request.host, request.host, request.authority) == (host, host, authority)


def test_without_a_host_header_there_is_no_host() -> None:
    """A request without Host has an empty host, which matches no name."""
    request = Request(http_scope(host=None))
    assert (request.authority, request.host) == ("", "")


def test_a_repeated_header_is_all_its_values() -> None:
    """A rule sees every value of a repeated header, joined, so that none can hide behind another."""
    request = Request.http(headers=[("X-Role", "guest"), ("x-role", "admin"), ("accept", "*/*")])
    headers = request.headers
    assert request.headers is headers
    assert headers["X-ROLE"] == "guest, admin"
    assert headers.getlist("x-role") == ["guest", "admin"]
    assert list(headers) == ["host", "x-role", "accept"]
    assert len(headers) == 3


@pytest.mark.parametrize("name", ["x-missing", "", "naïve", "\u20ac"])
def test_an_absent_header_is_absent(name: str) -> None:
    """Asking for a header that is not there is a KeyError, `get` gives None, and no name breaks the question."""
    headers = Request.http().headers
    assert name not in headers
    assert headers.get(name) is None
    assert headers.getlist(name) == []
    with pytest.raises(KeyError):
        headers[name]


def test_headers_show_names_only() -> None:
    """The repr of headers never shows a value: it may be a credential."""
    headers = Request.http(headers={"Authorization": "Bearer hunter2"}).headers
    assert repr(headers) == "Headers(host, authorization)"
    assert isinstance(headers, Headers)


def test_every_byte_of_a_header_can_be_judged() -> None:
    """Header bytes beyond ASCII are not lost: they read as latin-1."""
    request = Request({**http_scope(), "headers": [(b"x", b"\xe9\xff")]})
    assert request.headers["x"] == "\xe9\xff"


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", {}),
        ("a=1", {"a": ("1",)}),
        ("a=1&a=2", {"a": ("1", "2")}),
        ("a", {"a": ("",)}),
        ("a=", {"a": ("",)}),
        ("a=x+y&b=%26", {"a": ("x y",), "b": ("&",)}),
        ("a=1;b=2", {"a": ("1;b=2",)}),
        ("a=%C3%A9", {"a": ("\u00e9",)}),
        ("a=b=c", {"a": ("b=c",)}),
    ],
)
def test_query_parameters(query: str, parameters: dict[str, tuple[str, ...]]) -> None:
    """Every value of every parameter, decoded, in order; `;` separates nothing."""
    request = Request.http("GET", f"/?{query}")
    assert request.query == parameters
    assert request.query is request.query


def test_a_scope_is_read_with_its_defaults() -> None:
    """A hand-made scope with nothing in it is a GET of nothing from nowhere, not an error."""
    request = Request({})
    assert (request.type, request.method, request.scheme, request.http_version) == ("http", "GET", "http", "1.1")
    assert (request.path, request.target, request.root_path, request.peer) == ("", b"", "", None)
    assert request.raw_headers == ()
    assert request.call is None


@pytest.mark.parametrize("peer", [("10.0.0.7", 4711), ("::1", 4711), None])
def test_the_peer_is_the_sockets(peer: tuple[str, int] | None) -> None:
    """The peer is who opened the connection, whatever `X-Forwarded-For` says."""
    assert Request.http(client=peer, headers={"x-forwarded-for": "8.8.8.8"}).peer == peer


def test_headers_added_later_are_not_seen() -> None:
    """What was judged does not change: servers may append trailers to the list of headers they handed out."""
    scope = http_scope()
    request = Request(scope)
    scope["headers"].append((b"x-role", b"admin"))
    assert "x-role" not in request.headers


@pytest.mark.parametrize(
    ("request_", "protocol", "method", "named", "path"),
    [
        (Request.tool("add", {"a": 1}, server="math"), "mcp", "tools/call", {"tool": "add", "target": "math"}, "/mcp"),
        (Request.prompt("greet"), "mcp", "prompts/get", {"prompt": "greet"}, "/mcp"),
        (Request.resource("file:///x", server="fs"), "mcp", "resources/read", {"resource": "file:///x"}, "/mcp"),
        (Request.model("gpt-4o"), "llm", "chat", {"model": "gpt-4o"}, "/v1/chat/completions"),
        (Request.message(task="t1"), "a2a", "SendMessage", {"task": "t1"}, "/"),
        (Request.message(target="/planner"), "a2a", "SendMessage", {"task": None}, "/planner"),
        (Request.tool("add", target="/tools"), "mcp", "tools/call", {"arguments": {}}, "/tools"),
    ],
)
def test_agent_level_builders(request_: Request, protocol: str, method: str, named: dict[str, Any], path: str) -> None:
    """Each builder makes a POST that carries the call its name says."""
    call = request_.call
    assert call is not None
    assert (call.protocol, call.method, request_.method, request_.path) == (protocol, method, "POST", path)
    assert {name: getattr(call, name) for name in named} == named
    assert repr(request_) == f"<Request {protocol} {method}>"


def test_a_websocket_builder() -> None:
    """A websocket handshake is a GET."""
    request = Request.websocket("/live?x=1", headers={"origin": "https://a.example"})
    assert (request.type, request.method, request.path) == ("websocket", "GET", "/live")
    assert repr(request) == "<Request GET /live>"


def test_a_builder_may_say_who_is_asking() -> None:
    """`api_key` and `jwt` make a caller that has been authenticated already, by both of them."""
    request = Request.http(api_key={"name": "ci", "team": "ops"}, jwt={"sub": "alice"})
    assert request.api_key == {"name": "ci", "team": "ops"}
    assert request.jwt == {"sub": "alice"}
    assert [p.id for p in request.principals] == ["ci", "alice"]
    assert request.principal is request.principals[-1]
    assert [p.id for p in Request.http(api_key={}, jwt={}).principals] == ["test", "test"]


def test_an_anonymous_caller_has_nothing() -> None:
    """Nobody authenticated: no principal, no metadata, no claims."""
    request = Request.http()
    assert (request.principal, request.principals, request.api_key, request.jwt) == (None, (), None, None)


def test_the_innermost_answer_of_a_kind_counts() -> None:
    """Where nested Gates authenticated the same kind twice, the inner one is what rules see."""
    request = Request.http()
    authenticated(request, Principal("outer", "apiKey", {"n": 1}))
    authenticated(request, Principal("inner", "apiKey", {"n": 2}))
    assert request.api_key == {"n": 2}
    assert request.principal is not None
    assert request.principal.id == "inner"


def test_a_principal_shows_no_attributes() -> None:
    """Claims and metadata stay out of a principal's repr."""
    assert "hunter2" not in repr(Principal("alice", attributes={"x": "hunter2"}))
    assert Principal("alice").attributes == {}


def test_arguments_stay_out_of_the_repr() -> None:
    """Arguments of a call stay out of its repr."""
    assert "hunter2" not in repr(Request.tool("login", {"password": "hunter2"}).call)


@pytest.mark.parametrize(
    ("root_path", "target", "below"),
    [
        ("", "/a/b", ("/a/b", b"/a/b")),
        ("/a", "/a/b", ("/b", b"/b")),
        ("/a/", "/%61/%62", ("/b", b"/%62")),
        ("/a", "/a", ("/", b"/")),
        ("/x", "/a/b", ("/a/b", b"/a/b")),
    ],
)
def test_the_path_below_a_mount(root_path: str, target: str, below: tuple[str, bytes]) -> None:
    request = Request({"path": target, "raw_path": target.encode(), "root_path": root_path})
    assert below_mount(request) == below


def test_other_headers_leave_nothing_of_the_old_ones() -> None:
    request = Request.http(headers={"x": "1"}, host="a.example")
    assert (request.host, request.headers["x"], request.by_name[b"x"]) == ("a.example", "1", b"1")
    changed = with_headers(request, ((b"host", b"b.example"), (b"x", b"2")))
    assert (changed.host, changed.headers["x"], changed.by_name[b"x"]) == ("b.example", "2", b"2")
    assert (request.host, request.headers["x"]) == ("a.example", "1")


def test_now_can_be_said() -> None:
    """The one clock of a policy is `request.now`, and a test may set it."""
    assert Request.http(now=1.5).now == 1.5
    assert Request.http().now > 1_500_000_000


def test_an_own_host_header_is_kept() -> None:
    """A builder adds no second Host."""
    assert Request.http(headers={"Host": "a.example"}).headers.getlist("host") == ["a.example"]
