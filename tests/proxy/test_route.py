"""Route and RouteTable: which route takes which request, by the precedence of the Gateway API."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate import ConfigurationError, Exact, Prefix, Regex, Request, Route, authorizer, deny
from agentgate.posture import Mode
from agentgate.protocols.protocol import Protocol
from agentgate.proxy.route import RouteTable
from agentgate.request import Scope
from agentgate.respond import ASGIApp, Receive, Send


class Nowhere:
    """A backend that nothing is sent to here."""

    protocol: Protocol | None = None
    name = "nowhere"
    mounts: bool = False

    def __init__(self) -> None:
        self.app: ASGIApp = self.called

    async def called(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("a route was only to be chosen")

    async def aclose(self) -> None:
        pass

    def __repr__(self) -> str:
        return "Nowhere()"


NOWHERE = Nowhere()


def route(path: str | Exact | Prefix | Regex = "/", **options: Any) -> Route:
    return Route(path, NOWHERE, **options)


def chosen(routes: Sequence[Route], method: str = "GET", target: str = "/", **options: Any) -> str | None:
    request = Request.http(method, target, **options)
    found = RouteTable(routes).match(request.path, request)
    return None if found is None else found.name


# Where what is behind it is mounted.


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/", ""),
        ("/foo", "/foo"),
        ("/foo/", "/foo"),
        (Exact("/foo"), "/foo"),
        (Exact("/foo/.well-known/agent-card.json"), "/foo"),
        (Exact("/.well-known/agent-card.json"), ""),
        (Regex("/foo"), None),
    ],
)
def test_mount(path: Any, mount: str | None) -> None:
    """A well-known document of what is mounted is at the same mount."""
    found = route(path)
    assert found.mount == mount
    url = found.mounted_below("https://gateway.example.com")
    assert url == (None if mount is None else f"https://gateway.example.com{mount}")


@pytest.mark.parametrize(
    ("hosts", "reached"),
    [
        (["gateway.example.com"], True),
        (["*.example.com"], True),
        (["other.example.com", "gateway.example.com"], True),
        (["other.example.com"], False),
        (["*.gateway.example.com"], False),
    ],
)
def test_a_route_for_other_hosts_has_another_url(hosts: list[str], reached: bool) -> None:
    url = route("/foo", hosts=hosts).mounted_below("https://gateway.example.com")
    assert url == ("https://gateway.example.com/foo" if reached else None)


# Paths.

PATHS = [
    ("/foo", "/foo", True),
    ("/foo", "/foo/", True),
    ("/foo", "/foo/x", True),
    ("/foo", "/foobar", False),
    ("/foo", "/fo", False),
    ("/foo", "/FOO", False),
    ("/foo", "/x/foo", False),
    ("/foo/", "/foo", True),
    ("/foo/", "/foo/x", True),
    ("/foo/", "/foobar", False),
    ("/", "/", True),
    ("/", "/anything/at/all", True),
    ("/a b", "/a%20b/c", True),
    (Prefix("/foo"), "/foo/x", True),
    (Exact("/foo"), "/foo", True),
    (Exact("/foo"), "/foo/", False),
    (Exact("/foo"), "/foo/x", False),
    (Exact("/foo/"), "/foo", False),
    (Exact("/"), "/", True),
    (Exact("/foo"), "/%66oo", True),
    (Regex("/v[12]/.*"), "/v1/x", True),
    (Regex("/v[12]/.*"), "/v3/x", False),
    (Regex("/foo"), "/foo/x", False),
    (Regex("foo"), "/foo", False),
    (Regex("/foo|/foobar"), "/foobar", True),
    (Regex("/foo|/foobar"), "/foo", True),
    (Regex("/foo|/foobar"), "/foob", False),
    (Regex("(?i)/foo"), "/FOO", True),
    (Regex(".*/x"), "/a/b/x", True),
]


@pytest.mark.parametrize(("path", "target", "taken"), PATHS, ids=str)
@pytest.mark.parametrize("query", ["", "?x=/foo"])
def test_a_path_is_compared_by_segments_exactly_or_as_a_whole(
    path: str | Exact | Prefix | Regex, target: str, taken: bool, query: str
) -> None:
    """Prefixes end at a slash, regular expressions match all of the path, and the query is no part of it."""
    assert (chosen([route(path)], target=target + query) is not None) is taken


# Hosts.

HOSTS = [
    (["example.com"], "example.com", True),
    (["example.com"], "EXAMPLE.com", True),
    (["Example.COM"], "example.com", True),
    (["example.com"], "example.com:8080", True),
    (["example.com"], "example.com.", True),
    (["example.com."], "example.com", True),
    (["example.com"], "www.example.com", False),
    (["example.com"], "example.com.evil.net", False),
    (["example.com"], "evil-example.com", False),
    (["*.example.com"], "www.example.com", True),
    (["*.example.com"], "a.b.c.example.com", True),
    (["*.example.com"], "WWW.EXAMPLE.COM.:80", True),
    (["*.example.com"], "example.com", False),
    (["*.example.com"], "evil-example.com", False),
    (["*.example.com"], "www.example.com.evil.net", False),
    (["*.example.com", "example.org"], "example.org", True),
    ([], "anything.at.all", True),
    (["[::1]"], "[::1]:8000", True),
    (["127.0.0.1"], "127.0.0.1:8000", True),
    (["localhost"], "", False),
]


@pytest.mark.parametrize(("hosts", "host", "taken"), HOSTS, ids=str)
def test_a_host_is_a_name_or_a_wildcard_for_whole_labels(hosts: list[str], host: str, taken: bool) -> None:
    """Case, port and one trailing dot make no difference; `*.` stands for one label and for several."""
    assert (chosen([route(hosts=hosts)], host=host) is not None) is taken


# The rest of a match.

CONDITIONS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "the method": ({"methods": ["GET", "HEAD"]}, {"method": "HEAD"}, True),
    "another method": ({"methods": ["GET"]}, {"method": "POST"}, False),
    "no method for GET": ({"methods": ["GET"]}, {"method": "HEAD"}, False),
    "a header": ({"headers": {"x-team": "blue"}}, {"headers": {"x-team": "blue"}}, True),
    "a header, written in another case": ({"headers": {"X-Team": "blue"}}, {"headers": {"x-team": "blue"}}, True),
    "a header's value in another case": ({"headers": {"x-team": "blue"}}, {"headers": {"x-team": "Blue"}}, False),
    "a header that is absent": ({"headers": {"x-team": "blue"}}, {}, False),
    "one of two headers": ({"headers": {"a": "1", "b": "2"}}, {"headers": {"a": "1"}}, False),
    "both headers": ({"headers": {"a": "1", "b": "2"}}, {"headers": {"a": "1", "b": "2"}}, True),
    "a repeated header is all of its values": (
        {"headers": {"x-team": "blue"}},
        {"headers": [("x-team", "blue"), ("x-team", "red")]},
        False,
    ),
    "a repeated header, all of it": (
        {"headers": {"x-team": "blue, red"}},
        {"headers": [("x-team", "blue"), ("x-team", "red")]},
        True,
    ),
    "a pattern for a header": ({"headers": {"x-team": re.compile("b.*")}}, {"headers": {"x-team": "blue"}}, True),
    "a pattern matches the whole value": (
        {"headers": {"x-team": re.compile("blu")}},
        {"headers": {"x-team": "blue"}},
        False,
    ),
    "a pattern does not match what is absent": ({"headers": {"x-team": re.compile(".*")}}, {}, False),
    "a parameter": ({"query": {"v": "2"}}, {"target": "/?u=1&v=2"}, True),
    "a parameter, percent-encoded": ({"query": {"v": "a b"}}, {"target": "/?v=a%20b"}, True),
    "a parameter of another value": ({"query": {"v": "2"}}, {"target": "/?v=1"}, False),
    "a parameter's name in another case": ({"query": {"v": "2"}}, {"target": "/?V=2"}, False),
    "a parameter that is absent": ({"query": {"v": "2"}}, {}, False),
    "an empty parameter": ({"query": {"v": ""}}, {"target": "/?v"}, True),
    "a pattern for a parameter": ({"query": {"v": re.compile("[0-9]+")}}, {"target": "/?v=12"}, True),
    "a repeated parameter, the last one right": ({"query": {"v": "2"}}, {"target": "/?v=1&v=2"}, False),
    "a repeated parameter, the first one right": ({"query": {"v": "2"}}, {"target": "/?v=2&v=1"}, False),
    "a repeated parameter, both right": ({"query": {"v": "2"}}, {"target": "/?v=2&v=2"}, True),
}


@pytest.mark.parametrize(("wanted", "given_", "taken"), CONDITIONS.values(), ids=CONDITIONS)
def test_method_headers_and_query_narrow_a_route(wanted: dict[str, Any], given_: dict[str, Any], taken: bool) -> None:
    """All that a route asks for must be there, and of what is repeated no value is looked past."""
    assert (chosen([route(**wanted)], **given_) is not None) is taken


# Precedence. Each row: what wins over what, for GET http://a.example.com/foo/bar?v=1 with the header x: 1.

WINS: dict[str, tuple[Route, Route]] = {
    "an exact host over a wildcard": (route(hosts=["a.example.com"]), route("/foo/bar", hosts=["*.example.com"])),
    "a wildcard over any host": (route(hosts=["*.example.com"]), route(Exact("/foo/bar"))),
    "a long wildcard over a short one": (route(hosts=["*.example.com"]), route("/foo/bar", hosts=["*.com"])),
    "an exact path over a prefix": (route(Exact("/foo/bar")), route("/foo/bar", methods=["GET"])),
    "a prefix over a regular expression": (route("/"), route(Regex("/foo/bar"))),
    "an exact path over a regular expression": (route(Exact("/foo/bar")), route(Regex("/foo/bar|/and/something"))),
    "a long prefix over a short one": (route("/foo/bar"), route("/foo", methods=["GET"], headers={"x": "1"})),
    "a long regular expression over a short one": (route(Regex("/foo/bar")), route(Regex("/.*"))),
    "a method over headers": (route(methods=["GET"]), route(headers={"x": "1"}, query={"v": "1"})),
    "two headers over one": (route(headers={"x": "1", "host": "a.example.com"}), route(headers={"x": "1"})),
    "a header over parameters": (route(headers={"x": "1"}), route(query={"v": "1"})),
    "a parameter over nothing": (route(query={"v": "1"}), route()),
}


@pytest.mark.parametrize(("winner", "loser"), WINS.values(), ids=WINS)
def test_the_more_specific_route_wins(winner: Route, loser: Route) -> None:
    """Whatever the order in which they were given."""
    request = Request.http("GET", "/foo/bar?v=1", host="a.example.com", headers={"x": "1"})
    for routes in ([winner, loser], [loser, winner]):
        assert RouteTable(routes).match(request.path, request) is winner
    assert RouteTable([loser]).match(request.path, request) is loser


def test_routes_of_equal_rank_keep_their_order() -> None:
    """The first of them wins."""
    routes = [route("/", name=name) for name in "abc"]
    assert chosen(routes) == "a"
    assert chosen(routes[::-1]) == "c"


def test_a_less_specific_host_is_asked_only_when_a_more_specific_one_has_no_match() -> None:
    """From the exact name over ever shorter wildcards to any host."""
    routes = [
        route("/exact", hosts=["a.b.example.com"], name="exact"),
        route("/long", hosts=["*.b.example.com"], name="long"),
        route("/short", hosts=["*.example.com"], name="short"),
        route("/", name="any"),
    ]
    for name in ("exact", "long", "short", "any"):
        assert chosen(routes, target=f"/{name}", host="a.b.example.com") == name
    assert chosen(routes, target="/exact", host="c.b.example.com") == "any"


class Scanned(Route):
    """Tells which routes were tried."""

    tried: list[str] = []  # noqa: RUF012  one for all

    def matches(self, path: str, request: Request) -> bool:
        self.tried.append(self.name)
        return super().matches(path, request)


SOME_SEGMENTS = st.sampled_from(["", "a", "b", "ab", "a.b", "%2Fa", ".well-known"])
TARGETS = st.lists(SOME_SEGMENTS, max_size=4).map(lambda segments: "/" + "/".join(segments))
SOME_PATHS = TARGETS.map(Prefix) | TARGETS.map(Exact) | st.sampled_from(["/a.*", "/.*b", "/(a|b)/?", ".*"]).map(Regex)
SOME_ROUTES = st.builds(
    route,
    SOME_PATHS,
    hosts=st.lists(st.sampled_from(["x.io", "*.io", "a.x.io"]), max_size=2, unique=True),
    methods=st.sampled_from([(), ("GET",), ("POST",)]),
    headers=st.sampled_from([{}, {"x": "1"}, {"x": "1", "y": "1"}]),
)


@given(
    st.lists(SOME_ROUTES, max_size=12), TARGETS, st.sampled_from(["x.io", "a.x.io", "b.x.io", "other"]), st.booleans()
)
def test_looking_up_finds_what_trying_all_would(routes: list[Route], path: str, host: str, header: bool) -> None:
    """The first route of the first level that matches, by trying every one of them in order of precedence."""

    def expected() -> Route | None:
        levels: list[list[Route]] = [[one for one in routes if host in one.hosts]]
        for end in [".x.io", ".io"]:
            if host.endswith(end):
                levels.append([one for one in routes if f"*{end}" in one.hosts])
        levels.append([one for one in routes if not one.hosts])
        for level in levels:
            for one in sorted(level, key=precedence):
                if one.matches(path, request):
                    return one
        return None

    request = Request.http("GET", quote(path), host=host, headers={"x": "1"} if header else {})
    assert RouteTable(routes).match(path, request) is expected()


def precedence(one: Route) -> tuple[int, int, bool, int]:
    kind = [Exact, Prefix, Regex].index(type(one.path))
    return kind, -len(one.path.path), not one.methods, -len(one.headers)


@pytest.mark.parametrize("target", ["/t/42/x", "/t/42", "/nowhere", "/" * 5000, "/t/42" + "/x" * 2000])
def test_of_many_routes_few_are_tried(target: str) -> None:
    """However many others there are, and however many segments a client sends."""
    table = RouteTable([Scanned(f"/t/{n}", NOWHERE) for n in range(1000)] + [Scanned(Exact("/t/42"), NOWHERE)])
    Scanned.tried.clear()
    table.match(target, Request.http("GET", "/"))
    assert len(Scanned.tried) <= 1 + target.startswith("/t/42")


def test_no_route_is_nowhere() -> None:
    """There is no default."""
    assert chosen([]) is None
    assert chosen([route("/foo", hosts=["example.com"])], target="/foo", host="example.org") is None


# How a route is built.

FAULTS: dict[str, tuple[str | Exact | Prefix, dict[str, Any], list[str]]] = {
    "a host with a port": ("/", {"hosts": ["a:80"]}, ["route /: 'a:80' is no host name"]),
    "any host, spelt out": ("/", {"hosts": ["*"]}, ["route /: '*' is no host name"]),
    "a wildcard in the middle": ("/", {"hosts": ["a.*.b"]}, ["route /: 'a.*.b' is no host name"]),
    "a wildcard for part of a label": ("/", {"hosts": ["*a.b"]}, ["route /: '*a.b' is no host name"]),
    "an empty host": ("/", {"hosts": [""]}, ["route /: '' is no host name"]),
    "a URL": ("/", {"hosts": ["http://a"]}, ["route /: 'http://a' is no host name"]),
    "a path without slash": ("foo", {}, ["route foo: a path begins with a slash"]),
    "an exact path without slash": (Exact("foo"), {"name": "x"}, ["route x: a path begins with a slash"]),
    "an empty path": (Prefix(""), {"name": "x"}, ["route x: a path begins with a slash"]),
    "a method that no request has": ("/", {"methods": ["get"]}, ["route /: 'get' is no method"]),
    "all at once": (
        "foo",
        {"hosts": ["a b", "c"], "methods": ["GET", ""]},
        [
            "route foo: 'a b' is no host name",
            "route foo: '' is no method",
            "route foo: a path begins with a slash",
        ],
    ),
}


@pytest.mark.parametrize(("path", "options", "faults"), FAULTS.values(), ids=FAULTS)
def test_a_route_that_could_never_match_is_not_built(
    path: str | Exact | Prefix, options: dict[str, Any], faults: list[str]
) -> None:
    """One error lists every fault, each with the route's name."""
    with pytest.raises(ConfigurationError) as caught:
        route(path, **options)
    assert list(caught.value.faults) == faults


def test_a_bad_regular_expression_is_not_built() -> None:
    """The error quotes it."""
    with pytest.raises(ConfigurationError, match=r"'/\(' is no regular expression: "):
        Regex("/(")


@pytest.mark.parametrize("options", [{"hosts": "example.com"}, {"methods": "GET"}])
def test_text_is_no_list(options: dict[str, str]) -> None:
    """A name where names belong would be taken letter by letter."""
    with pytest.raises(TypeError, match="hosts and methods are lists"):
        route(**options)


@pytest.mark.parametrize("options", [{"authenticate": ["key"]}, {"authorize": [lambda request: None]}])
def test_a_policy_in_the_wrong_slot_is_a_type_error(options: dict[str, Any]) -> None:
    """When the route is built, not when a request comes."""
    with pytest.raises(TypeError, match=f"{next(iter(options))} takes "):
        route(**options)


def test_a_route_knows_its_parts() -> None:
    """Its name is its path unless it is given one, and its `repr` shows where it leads."""

    @authorizer
    def closed(request: Request) -> Any:
        return deny()

    mode: Mode = "optional"
    made = route(Regex("/x.*"), hosts=["A.example."], authenticate=[], authorize=[closed], mode=mode)
    assert made.name == "/x.*"
    assert (made.authenticate, made.authorize, made.mode) == ((), (closed,), "optional")
    assert repr(made) == "Route(Regex(path='/x.*'), Nowhere(), hosts=['a.example'], name='/x.*')"
    assert route(name="x").name == "x"
    assert route().authenticate is None


# Against a reference that is slow and plain.

SEGMENTS = st.lists(st.sampled_from(["a", "ab", "b"]), max_size=3)
PATH_TEXTS = SEGMENTS.map(lambda segments: "/" + "/".join(segments))
LABELS = st.lists(st.sampled_from(["a", "b", "aa"]), min_size=1, max_size=3).map(".".join)
MATCHES = st.one_of(PATH_TEXTS.map(Exact), PATH_TEXTS.map(Prefix), PATH_TEXTS.map(lambda path: Regex(path + "(/.*)?")))
VALUES = st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"), max_size=2)
ROUTES = st.lists(
    st.builds(
        route,
        MATCHES,
        hosts=st.lists(st.one_of(LABELS, LABELS.map("*.{}".format)), max_size=2),
        methods=st.lists(st.sampled_from(["GET", "POST"]), max_size=1),
        headers=VALUES,
        query=VALUES,
    ),
    max_size=8,
)


def fits(host: str, wanted: str) -> bool:
    return host.endswith(wanted[1:]) and host != wanted[1:] if wanted.startswith("*") else host == wanted


def reference(routes: Sequence[Route], request: Request, headers: Mapping[str, str], query: Mapping[str, str]) -> Any:
    """The best of all routes that match at all: by the host that matched, then by what the route asks for."""
    found = []
    for number, candidate in enumerate(routes):
        path, kind = candidate.path.path, type(candidate.path)
        segments = [segment for segment in path.split("/") if segment]
        asked = request.path.split("/")[1:]
        if not (
            (request.path == path)
            if kind is Exact
            else (asked[: len(segments)] == segments)
            if kind is Prefix
            else re.fullmatch(path, request.path)
        ):
            continue
        if candidate.methods and request.method not in candidate.methods:
            continue
        if not candidate.headers.items() <= headers.items() or not candidate.query.items() <= query.items():
            continue
        for wanted in candidate.hosts or ("",):
            if wanted and not fits(request.host, wanted):
                continue
            host_rank = (0, 0) if not wanted else (1, len(wanted)) if wanted.startswith("*") else (2, 0)
            rank = (
                host_rank,
                (Regex, Prefix, Exact).index(kind),
                len(path),
                bool(candidate.methods),
                len(candidate.headers),
                len(candidate.query),
                -number,
            )
            found.append((rank, candidate))
    return max(found, key=lambda pair: pair[0])[1] if found else None


@given(ROUTES, PATH_TEXTS, LABELS, st.sampled_from(["GET", "POST"]), VALUES, VALUES)
def test_the_table_answers_as_a_plain_search_would(
    routes: list[Route], path: str, host: str, method: str, headers: dict[str, str], query: dict[str, str]
) -> None:
    """For any routes and any request."""
    target = path + "?" + "&".join(f"{name}={value}" for name, value in query.items())
    request = Request.http(method, target, host=host, headers=headers)
    assert RouteTable(routes).match(request.path, request) is reference(routes, request, headers, query)
