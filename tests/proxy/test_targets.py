"""Rewrite and Redirect: which target comes of which, in whole segments and byte for byte."""

from typing import Any

import pytest

from agentgate import ConfigurationError, Prefix, Redirect, Request, Rewrite
from agentgate.decision import Reason
from agentgate.request import mounted

# The table in the Gateway API's documentation of ReplacePrefixMatch, and what it leaves open.
PREFIXES = [
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
    ("/foo", "/foo", "/xyz", "/xyz"),
    ("/foo/", "/foo", "/xyz", "/xyz/"),
    ("/foo/bar", "/foo", "", "/bar"),
    ("/foo/", "/foo", "", "/"),
    ("/foo", "/foo", "", "/"),
    ("/foo/", "/foo", "/", "/"),
    ("/foo", "/foo", "/", "/"),
    ("/", "/", "/xyz", "/xyz"),
    ("/bar/", "/", "/xyz", "/xyz/bar/"),
    ("/%66oo/b%20r/%7E", "/foo", "/x%20z", "/x%20z/b%20r/%7E"),
]


@pytest.mark.parametrize(("path", "prefix", "new", "expected"), PREFIXES)
def test_a_prefix_is_replaced_by_segments(path: str, prefix: str, new: str, expected: str) -> None:
    rewritten = Rewrite(prefix=new).rewritten(Request.http(target=path), Prefix(prefix))
    assert rewritten == (expected.encode(), None)


def test_a_prefix_that_an_encoded_slash_is_part_of_is_not_cut_off() -> None:
    view = Request.http(target="/a%2Fb/c")
    assert Rewrite(prefix="/x").rewritten(view, Prefix("/a/b")) is None
    assert Redirect(prefix="/x").answer(view, b"", Prefix("/a/b")).status == 400


def test_the_host_alone() -> None:
    assert Rewrite(host="one.example").rewritten(Request.http(), Prefix("/")) == (None, b"one.example")


def test_the_whole_path_below_the_mount() -> None:
    view = mounted(Request.http(target="/gw/a/b"), "/gw")
    assert Rewrite(path="/new").rewritten(view, None) == (b"/new", None)
    assert Rewrite(prefix="/new").rewritten(view, Prefix("/a")) == (b"/new/b", None)


# What the redirect says, the request's scheme and target and host, and where it leads.
REDIRECTS: list[tuple[dict[str, Any], str, str, str, str]] = [
    ({"host": "example.org"}, "http", "/a?b=c", "h", "http://example.org/a?b=c"),
    ({"host": "example.org"}, "http", "/", "h:8080", "http://example.org:8080/"),
    ({"host": "example.org"}, "https", "/", "h:8443", "https://example.org:8443/"),
    ({"host": "example.org", "port": 80}, "http", "/", "h:8080", "http://example.org/"),
    ({"host": "example.org", "port": 8080}, "http", "/", "h", "http://example.org:8080/"),
    ({"host": "example.org", "scheme": "https"}, "http", "/", "h:8080", "https://example.org/"),
    ({"host": "example.org", "scheme": "https", "port": 443}, "http", "/", "h", "https://example.org/"),
    ({"host": "example.org", "scheme": "https", "port": 8443}, "http", "/", "h", "https://example.org:8443/"),
    ({"host": "example.org"}, "https", "/", "h", "https://example.org/"),
    ({"host": "example.org", "port": 443}, "https", "/", "h", "https://example.org/"),
    ({"host": "example.org", "port": 8443}, "https", "/", "h", "https://example.org:8443/"),
    ({"host": "example.org", "scheme": "http"}, "https", "/", "h", "http://example.org/"),
    ({"host": "example.org", "scheme": "http", "port": 80}, "https", "/", "h", "http://example.org/"),
    ({"host": "example.org", "scheme": "http", "port": 8080}, "https", "/", "h", "http://example.org:8080/"),
    ({"scheme": "https"}, "http", "/old/x", "H.example", "https://h.example/old/x"),
    ({"port": 8083}, "http", "/old", "h:1", "http://h:8083/old"),
    ({"port": 8083}, "http", "/old", "[::1]:1", "http://[::1]:8083/old"),
    ({"path": "/new"}, "http", "/old/x?q", "[::1]", "http://[::1]/new?q"),
    ({"prefix": "/new"}, "http", "/old/x?q", "h", "http://h/new/x?q"),
    ({"scheme": "https"}, "wss", "/old", "h", "https://h/old"),
]


@pytest.mark.parametrize(("options", "scheme", "target", "host", "location"), REDIRECTS)
def test_redirects(options: dict[str, Any], scheme: str, target: str, host: str, location: str) -> None:
    view = Request.http(target=target, host=host)
    view.scheme = scheme
    answer = Redirect(**options).answer(view, view.query_string, Prefix("/old"))
    assert (answer.status, answer.reason) == (302, Reason.DIRECT_RESPONSE)
    assert dict(answer.headers) == {b"location": location.encode()}


@pytest.mark.parametrize(
    ("target", "options", "location"),
    [
        ("/gw/old/x", {"prefix": "/new"}, b"http://h/gw/new/x"),
        ("/gw/old", {"path": "/new"}, b"http://h/gw/new"),
        ("/gw", {"path": "/new"}, b"http://h/gw/new"),
        ("/gw", {"status": 301}, b"http://h/gw"),
        ("/gw/", {"status": 301}, b"http://h/gw/"),
    ],
)
def test_where_the_gateway_is_mounted_it_redirects_below_its_mount(
    target: str, options: dict[str, Any], location: bytes
) -> None:
    view = mounted(Request.http(target=target, host="h"), "/gw")
    assert dict(Redirect(**options).answer(view, b"", Prefix("/old")).headers)[b"location"] == location


def test_without_a_host_there_is_nowhere_to_go() -> None:
    """A path alone could be taken for another host, `//evil.example`."""
    view = Request.http(target="/x", headers={"host": ""})
    assert Redirect(status=301).answer(view, b"", None).status == 400
    assert dict(Redirect(host="a.example").answer(view, b"", None).headers)[b"location"] == b"http://a.example/x"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_statuses(status: int) -> None:
    assert Redirect(status=status).answer(Request.http(), b"", None).status == status


PATHS = ["new", "/a b", "/a?b", "/a#b", "/../a", "/a/..", "//a", "/a//b", "/a%2fb", "/%zz", "/ä", 1]


@pytest.mark.parametrize("kind", [Rewrite, Redirect])
@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"host": "A.example"}, "'A.example' is no host name"),
        ({"host": "a:80"}, "'a:80' is no host name"),
        ({"host": "a/b"}, "'a/b' is no host name"),
        ({"host": ""}, "'' is no host name"),
        ({"path": "/a", "prefix": "/b"}, "path or prefix, not both"),
        ({"path": ""}, "'' is no path"),
        *[({"path": path}, f"{path!r} is no path") for path in PATHS],
        *[({"prefix": path}, f"{path!r} is no path") for path in PATHS],
    ],
)
def test_faults(kind: Any, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind(**options)
    assert any(text.startswith(f"{kind.__name__}: {fault}") for text in caught.value.faults)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"scheme": "ftp"}, "scheme is http or https, not 'ftp'"),
        ({"port": 0}, "0 is no port"),
        ({"port": "80"}, "'80' is no port"),
        ({"status": 300}, "status is one of 301, 302, 303, 307, 308, not 300"),
    ],
)
def test_faults_of_a_redirect(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Redirect: {fault}"):
        Redirect(**options)


def test_a_rewrite_of_nothing() -> None:
    with pytest.raises(ConfigurationError, match="Rewrite: it changes nothing"):
        Rewrite()


def test_what_they_look_like() -> None:
    assert repr(Rewrite(host="a", prefix="/b")) == "Rewrite(host='a', prefix='/b')"
    assert repr(Redirect(scheme="https", port=8443)) == "Redirect(scheme='https', port=8443, status=302)"
