"""Filters, weights and time limits of HTTPRoutes: what is made of them, behind which policies, and their faults."""

import asyncio
from pathlib import Path

import httpx
import pytest

from agentgate import Filtered, Mirror, Request, Weighted
from agentgate.manifests.load import load_gateway
from agentgate.testing import Recorder, drive, http_scope

from .manifest_files import ROUTE, SECRET, load, write
from .test_backends import MCP, STACKS, backend
from .test_faults import ONE, B, R, edited, faults, rule

pytestmark = pytest.mark.anyio

F = R + "spec.rules[0].filters"


class Upstream(httpx.AsyncBaseTransport):
    asked: list[httpx.Request]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        Upstream.asked.append(request)
        return httpx.Response(200, content=b"ok")


@pytest.fixture(autouse=True)
def upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    Upstream.asked = []
    monkeypatch.setattr("agentgate.proxy.backend.PoolTransport", Upstream)


def with_filters(*filters: str, more: str = "", refs: str = ONE) -> tuple[str, str]:
    return rule(f"{{{refs + ', ' if refs else ''}filters: [{', '.join(filters)}]{more}}}")


def request_header(text: str) -> str:
    return f"{{type: RequestHeaderModifier, requestHeaderModifier: {{{text}}}}}"


def redirect(text: str) -> str:
    return f"{{type: RequestRedirect, requestRedirect: {{{text}}}}}"


def rewrite(text: str) -> str:
    return f"{{type: URLRewrite, urlRewrite: {{{text}}}}}"


def mirror(text: str) -> str:
    return f"{{type: RequestMirror, requestMirror: {{{text}}}}}"


def cors(text: str) -> str:
    return f"{{type: CORS, cors: {{{text}}}}}"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (with_filters("{type: ExtensionRef, extensionRef: {}}"), [
            F + "[0].type: ExtensionRef is not supported", F + "[0].extensionRef: not supported",
        ]),
        (with_filters("{type: Magic}"), [F + "[0].type: Input should be"]),
        (with_filters("{type: CORS}"), [F + "[0].cors: it is set with type CORS, and only then"]),
        (with_filters("{type: CORS, cors: {}, urlRewrite: {hostname: a}}"), [
            F + "[0].urlRewrite: it is set with type URLRewrite, and only then",
        ]),
        (with_filters(request_header("set: [{name: a b, value: c}]")), [
            F + "[0].requestHeaderModifier.set[0].name: String should match pattern",
        ]),
        (with_filters(request_header("add: [{name: a, value: b}, {name: a, value: c}]")), [
            F + "[0].requestHeaderModifier.add[1].name: named twice",
        ]),
        (with_filters(request_header("set: [{name: A, value: b}], remove: [a]")), [
            F + "[0]: RequestHeaders: a: named twice",
        ]),
        (with_filters(request_header("set: [{name: Host, value: b}]")), [
            F + "[0]: RequestHeaders: Host: this header is not a route's to change",
        ]),
        (with_filters(request_header("")), [F + "[0]: RequestHeaders: it changes nothing"]),
        (with_filters(request_header("remove: [a]"), request_header("remove: [b]")), [
            F + ": several RequestHeaders filters",
        ]),
        (with_filters(rewrite("path: {type: ReplaceFullPath, replacePrefixMatch: /a}")), [
            F + "[0].urlRewrite.path.replaceFullPath: it is set with type ReplaceFullPath, and only then",
            F + "[0].urlRewrite.path.replacePrefixMatch: it is set with type ReplacePrefixMatch, and only then",
        ]),
        (with_filters(rewrite("hostname: 'a:80', path: {type: ReplaceFullPath, replaceFullPath: a}")), [
            F + "[0]: Rewrite: 'a:80' is no host name", F + "[0]: Rewrite: 'a' is no path",
        ]),
        (with_filters(
            rewrite("path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}"),
            more=", matches: [{path: {type: Exact, value: /a}}, {path: {type: RegularExpression, value: '('}}]",
        ), [
            R + "spec.rules[0].matches[1].path.value: no regular expression",
            F + ": Rewrite: prefix is for a route whose path is a prefix",
        ]),
        (with_filters(redirect("scheme: ftp, port: 0, statusCode: 300"), refs=""), [
            F + "[0].requestRedirect.scheme: Input should be", F + "[0].requestRedirect.port: Input should be",
            F + "[0].requestRedirect.statusCode: Input should be",
        ]),
        (with_filters(redirect("scheme: https")), [
            R + "spec.rules[0].backendRefs: RequestRedirect filter must not be used together with backendRefs",
        ]),
        (with_filters(redirect("scheme: https"), rewrite("hostname: a"), refs=""), [
            F + ": a Rewrite beside a Redirect would have no effect",
        ]),
        (with_filters(mirror("backendRef: {name: copy}")), [
            F + "[0].requestMirror.backendRef.port: required",
        ]),
        (with_filters(mirror("backendRef: {name: copy, port: 80}, percent: 5, fraction: {numerator: 3}")), [
            F + "[0].requestMirror: Only one of percent or fraction may be specified",
        ]),
        (with_filters(mirror("backendRef: {name: copy, port: 80}, fraction: {numerator: 3, denominator: 2}")), [
            F + "[0]: Mirror: fraction is a number from 0 to 1",
        ]),
        (with_filters(cors("allowOrigins: [a], allowMethods: [get], maxAge: 0")), [
            F + "[0].cors.maxAge: Input should be greater than or equal to 1", F + "[0]: CORS: 'a' is no origin",
            F + "[0]: CORS: 'get' is no method",
        ]),
        (rule(f"{{backendRefs: [{{name: web, port: 80, filters: [{cors('allowOrigins: [https://a]')}]}}]}}"), [
            B + ".filters: CORS is not supported by this version there",
        ]),
        (rule(f"{{{ONE}, timeouts: {{request: 1, backendRequest: 5d}}}}"), [
            R + "spec.rules[0].timeouts.request: a duration such as 500ms",
            R + "spec.rules[0].timeouts.backendRequest: a duration such as 500ms",
        ]),
        (rule(f"{{{ONE}, timeouts: {{request: 1s, backendRequest: 1001ms}}}}"), [
            R + "spec.rules[0].timeouts.backendRequest: backendRequest timeout cannot be longer than request timeout",
        ]),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, edit: tuple[str, str], expected: list[str]) -> None:
    found = faults(tmp_path, edited(ROUTE, edit))
    assert len(found) == len(expected)
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start)


AGENT = "group: agentgateway.dev, kind: AgentgatewayBackend"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (rule(f"backendRefs: [{{{AGENT}, name: tools}}, {{name: web, port: 80}}]"), [
            B + ": it speaks mcp, and has to be the only backend of its rule",
        ]),
        (with_filters(rewrite("hostname: a"), refs=f"backendRefs: [{{{AGENT}, name: tools}}]"), [
            F + ": Rewrite: the path of mcp has been judged, and is not to be another",
        ]),
        (with_filters(mirror(f"backendRef: {{{AGENT}, name: tools}}")), [
            F + "[0]: Mirror: only a plain HTTP backend can be sent copies",
        ]),
    ],
)  # fmt: skip
def test_what_speaks_a_protocol_is_not_shared_rewritten_or_copied(
    tmp_path: Path, edit: tuple[str, str], expected: list[str]
) -> None:
    found = faults(tmp_path, edited(ROUTE, edit), backend(MCP))
    assert len(found) == len(expected)
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start)


def test_zero_is_no_limit(tmp_path: Path) -> None:
    (route,) = load(tmp_path, edited(ROUTE, rule(f"{{{ONE}, timeouts: {{request: 0s, backendRequest: 0ms}}}}"))).routes
    assert not isinstance(route.backend, Filtered)
    assert route.app is route.backend.app


def test_weights_are_shares(tmp_path: Path) -> None:
    refs = "backendRefs: [{name: a, port: 80, weight: 9}, {name: b, port: 80}, {name: c, port: 80, weight: 0}]"
    (route,) = load(tmp_path, edited(ROUTE, rule(refs))).routes
    assert isinstance(route.backend, Weighted)
    assert [(backend.name, weight) for backend, weight in route.backend.shares] == [
        ("a.apps", 9),
        ("b.apps", 1),
        ("c.apps", 0),
    ]


NONE = "{name: a, port: 80, weight: 0}"


@pytest.mark.parametrize("refs", ["[]", f"[{NONE}]", f"[{NONE}, {NONE}]"])
async def test_a_rule_that_leads_nowhere_is_500(tmp_path: Path, refs: str) -> None:
    exchange = await drive(load(tmp_path, edited(ROUTE, rule(f"backendRefs: {refs}"))), http_scope())
    assert (exchange.status, exchange.text) == (500, "no valid backends")
    assert Upstream.asked == []


@pytest.mark.parametrize(("text", "share"), [("", 1), (", percent: 20", 0.2), (", fraction: {numerator: 1}", 0.01)])
def test_the_share_of_a_mirror(tmp_path: Path, text: str, share: float) -> None:
    edit = with_filters(mirror("backendRef: {name: copy, port: 80}" + text))
    (route,) = load(tmp_path, edited(ROUTE, edit)).routes
    assert isinstance(route.backend, Filtered)
    (found,) = route.backend.filters
    assert isinstance(found, Mirror)
    assert (found.backend.name, found.fraction) == ("copy.apps", share)


# Filters stand behind every authentication there is, and CORS before all of them.


@pytest.mark.parametrize(("wanted", "headers"), STACKS)
async def test_nobody_is_redirected_who_is_not_let_through(
    tmp_path: Path, wanted: list[str], headers: dict[str, str]
) -> None:
    edit = with_filters(redirect("hostname: internal.example"), cors("allowOrigins: [https://a]"), refs="")
    app = load(tmp_path, edited(ROUTE, edit), SECRET, *wanted)
    for missing in headers:
        known = {name: value for name, value in headers.items() if name != missing}
        exchange = await drive(app, http_scope(headers=known | {"origin": "https://a"}, host="h"))
        assert exchange.status == 401
        assert exchange.headers["access-control-allow-origin"] == "https://a"
        assert "location" not in exchange.headers
    exchange = await drive(app, http_scope(headers=headers, host="h"))
    assert (exchange.status, exchange.headers["location"]) == (302, "http://internal.example/")
    preflight = {"origin": "https://a", "access-control-request-method": "GET"}
    assert (await drive(app, http_scope("OPTIONS", "/", headers=preflight))).status == 200
    assert (await drive(app, http_scope("OPTIONS", "/", headers={"origin": "https://a"}))).status == 401


@pytest.mark.parametrize("refs", ["", "backendRefs: [{kind: Nonsense, name: web}]"])
@pytest.mark.parametrize(("wanted", "headers"), STACKS)
def test_explain_tells_what_is_answered_here_to_those_who_get_it(
    tmp_path: Path, wanted: list[str], headers: dict[str, str], refs: str
) -> None:
    edit = with_filters(*[] if refs else [redirect("hostname: a.example")], refs=refs)
    app = load(tmp_path, edited(ROUTE, edit), SECRET, *wanted)
    assert app.explain(Request.http())[-1].status == 401
    assert app.explain(Request.http(headers=headers))[-1].status == (500 if refs else 302)


@pytest.mark.parametrize(("wanted", "headers"), STACKS)
async def test_a_time_limit_holds_behind_every_authentication(
    tmp_path: Path, wanted: list[str], headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: Upstream, request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(Upstream, "handle_async_request", never)
    app = load(tmp_path, edited(ROUTE, rule(f"{{{ONE}, timeouts: {{request: 20ms}}}}")), SECRET, *wanted)
    assert (await drive(app, http_scope())).status == 401
    assert (await drive(app, http_scope(headers=headers))).status == 504


async def test_filters_of_documents_are_applied(tmp_path: Path) -> None:
    edit = with_filters(
        request_header("set: [{name: X-Env, value: prod}], remove: [x-debug]"),
        rewrite("hostname: one.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}"),
        more=", matches: [{path: {value: /old}}], timeouts: {request: 1m}",
    )
    recorder = Recorder()
    app = load_gateway([write(tmp_path, edited(ROUTE, edit))], observe=[recorder])
    await drive(app, http_scope("GET", "/old/x", headers={"x-debug": "1"}, host="h"))
    (request,) = Upstream.asked
    assert request.extensions["target"] == b"/new/x"
    assert dict(request.headers) == {"host": "one.example", "x-env": "prod"}
    assert recorder.last.request.path == "/old/x"
