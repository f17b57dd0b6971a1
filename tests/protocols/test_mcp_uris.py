"""URIs of resources have one spelling: the one that a URL library leaves alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate.protocols.mcp.uris import is_template, is_uri


@pytest.mark.parametrize(
    "uri",
    [
        "file:///a",
        "file:///a%20b/%C3%BC.txt",
        "https://example.com/a?b=c#d",
        "https://example.com:8443/",
        "http://127.0.0.1/",
        "http://[::1]:8000/",
        "memo://Insights",
        "ui://widget/index.html",
        "postgres://user@db:5432/app/users",
        "memo:///a",
        "gitlab://projects/group%2Fname",
        "http://[2001:db8::1]/",
        "file:///it's?%27",
        "urn:isbn:0451450523",
        "postgres://db/Users?limit=1",
        "docs://a..b/.../c.",
        "data:text/plain,x",
        "x:y",
    ],
)
def test_one_spelling(uri: str) -> None:
    assert is_uri(uri)
    assert is_template(uri)


@pytest.mark.parametrize(
    "uri",
    [
        None,
        1,
        ["file:///a"],
        "",
        "a",
        "/a",
        "//host/a",
        "FILE:///a",
        "File:///a",
        " file:///a",
        "file:///a ",
        "file:///a b",
        "file:///a\tb",
        "file:///a\0",
        "file:///a%00",
        "file:///a%0A",
        "file:///a%7F",
        "file:///ü",
        "file:///%61",
        "file:///%7E",
        "file:///%2E%2E/a",
        "file:///%2e%2e/a",
        "file:///%c3%bc",
        "file:///%",
        "file:///%zz",
        "file:///a/../b",
        "file:///a/./b",
        "file:///a/..",
        "file:///..?x",
        "docs://a/../b",
        "file:///a\\b",
        "file:///a|b",
        "file:///{a}",
        "file:///public/..%2F..%2Fsecret",
        "file:///public%2F..%2Fsecret",
        "file:///public/..%5Csecret",
        "docs://a/..%2Fb",
        "file:///%252E%252E/secret",
        "file:////a",
        "file:///?'",
        "file://server/share/a",
        "file:a",
        "file:/a",
        "file://localhost/a",
        "file://host:80/a",
        "file://",
        "file://HOST/a",
        "http://example.com",
        "http://example.com?a",
        "http:///a",
        "http:example.com/",
        "http://EXAMPLE.com/",
        "http://example.com:80/",
        "https://example.com:443/",
        "https://example.com:/",
        "https://example.com:08443/",
        "https://user@example.com/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0127.0.0.1/",
        "ws://example.com:80/",
        "x://a@",
        "x://:80",
        "x://a:@b",
        "x://a@b@c",
        "x://a:",
        "x://a:080/",
        "x://[::0]/",
        "x://[::ffff:1.2.3.4]/",
        "x://[::ffff:102:304]/",
        "x://[1]/",
        "x://[::1",
        "http://a..%41/",
        "http://-/",
        "x:" + "a" * 1024,
    ],
)
def test_another_spelling(uri: object) -> None:
    assert not is_uri(uri)


@pytest.mark.parametrize("template", ["file:///{path}", "db://{table}/{id}{?limit,offset}", "x:{+a*}", "memo://{name}"])
def test_templates(template: str) -> None:
    assert is_template(template)
    assert not is_uri(template)


@pytest.mark.parametrize(
    "template",
    [None, 7, "FILE:///{a}", "file:///{a", "file:///{}", "file:///{a b}", "file:///../{a}", "x:" + "{a}" * 400],
)
def test_no_templates(template: object) -> None:
    assert not is_template(template)


SECRETS = ["file:///secret", "https://example.com/secret", "docs://secret", "https://example.com:8443/a%20b"]


@given(st.data())
def test_no_url_library_takes_one_for_another(data: st.DataObject) -> None:
    """What pydantic (the URL library of servers made with mcp 1.x) makes of a URI that passes is that very URI."""
    networks = pytest.importorskip("pydantic.networks")
    from pydantic import TypeAdapter, ValidationError

    pieces = [
        *("file", "FILE", "http", ":", "//", "/", "..", ".", "%2E", "%61", "secret", "SECRET", "localhost", "\\", "?"),
        *(
            "#",
            "@",
            ":80",
            "0x7f.1",
            "ü",
            " ",
            "\t",
            "example.com",
            "a",
            "[::1]",
            "%C3%BC",
            "%c3",
            "|",
            "C:",
            "'",
            "%27",
        ),
    ]
    uri = data.draw(st.sampled_from(SECRETS) | st.lists(st.sampled_from(pieces), max_size=9).map("".join))
    at = data.draw(st.integers(0, len(uri)))
    uri = uri[:at] + data.draw(st.sampled_from(["", *pieces])) + uri[at:]
    if is_uri(uri):
        try:
            known = str(TypeAdapter(networks.AnyUrl).validate_python(uri))
        except ValidationError:
            return
        assert known == uri
