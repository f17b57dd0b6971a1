"""Protected-resource metadata and challenges: a client is told where to log in, by the operator's word alone."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from agentgate import (
    APIKeyAuth,
    Authenticator,
    CELRules,
    ConfigurationError,
    Cookie,
    Decision,
    Gate,
    Header,
    JWTAuth,
    JWTMiddleware,
    Principal,
    Query,
    Reason,
    Request,
    abstain,
    allow,
    deny,
    new_key,
)
from agentgate.auth.location import BEARER, Location
from agentgate.observe.access_log import AccessLog
from agentgate.testing import Exchange, Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

ISSUER = "https://login.example.com/tenant"
URL = "https://gateway.example.com/mcp"
DOCUMENT = "/.well-known/oauth-protected-resource/mcp"
CHALLENGE = 'Bearer resource_metadata="https://gateway.example.com/.well-known/oauth-protected-resource/mcp"'
KEY = new_key()
KEYS = APIKeyAuth({"alice": KEY})


class Tokens(Authenticator):
    """Believes `good`, and says what the others say of anything else."""

    def __init__(self, answer: Decision | None = None, location: Location = BEARER, **metadata: Any) -> None:
        self.answer = answer
        self.location = location
        self.resource_metadata: Mapping[str, Any] = {"authorization_servers": [ISSUER], **metadata}

    def check(self, request: Request) -> Decision:
        credential = request.headers.get("authorization")
        if credential is None:
            return abstain("authentication failure: no bearer token found", headers=bearer("Bearer"))
        if self.answer is not None:
            return self.answer
        return allow(Principal("bob", "jwt", {"sub": "bob"})) if credential == "Bearer good" else abstain()


def bearer(*values: str) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((b"www-authenticate", value.encode()) for value in values)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the app"})


def gate(*authenticate: Authenticator, **options: Any) -> Gate:
    return Gate(app, authenticate=authenticate or (Tokens(),), **{"public_url": URL, **options})


def challenges(exchange: Exchange) -> list[str]:
    headers = exchange.messages[0]["headers"]
    return [value.decode() for name, value in headers if name == b"www-authenticate"]


# The document.


async def test_the_document_is_there_for_everybody() -> None:
    exchange = await drive(gate(), http_scope(target=DOCUMENT))
    assert exchange.status == 200
    assert json.loads(exchange.body) == {
        "resource": URL,
        "authorization_servers": [ISSUER],
        "bearer_methods_supported": ["header"],
    }
    assert exchange.headers == {
        "content-type": "application/json",
        "access-control-allow-origin": "*",
        "content-length": str(len(exchange.body)),
    }


@pytest.mark.parametrize(
    ("method", "status", "more"),
    [
        ("HEAD", 200, {"content-type": "application/json"}),
        ("OPTIONS", 204, {"access-control-allow-methods": "GET, HEAD, OPTIONS", "access-control-allow-headers": "*"}),
        ("POST", 405, {"allow": "GET, HEAD, OPTIONS"}),
        ("DELETE", 405, {"allow": "GET, HEAD, OPTIONS"}),
    ],
)
async def test_other_methods(method: str, status: int, more: dict[str, str]) -> None:
    exchange = await drive(gate(), http_scope(method, DOCUMENT))
    assert exchange.status == status
    assert exchange.headers.items() >= {"access-control-allow-origin": "*", **more}.items()
    assert exchange.body == (b"method not allowed" if status == 405 else b"")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example.com"},
        {"x-forwarded-host": "evil.example.com", "x-forwarded-proto": "http"},
        {"forwarded": "host=evil.example.com;proto=http"},
        {"authorization": "Bearer bad"},
        {"cookie": "a=b"},
    ],
    ids=str,
)
async def test_the_document_says_the_same_whatever_the_request_says(headers: dict[str, str]) -> None:
    scope = http_scope(target=DOCUMENT, headers=headers, scheme="http", server=("10.0.0.1", 1))
    body = (await drive(gate(), scope)).text
    assert json.loads(body)["resource"] == URL
    assert "evil" not in body
    refused = await drive(gate(), http_scope(headers={k: v for k, v in headers.items() if k != "authorization"}))
    assert challenges(refused) == [CHALLENGE]


@pytest.mark.parametrize(
    "target",
    [
        DOCUMENT + "/",
        DOCUMENT + "/x",
        DOCUMENT[:-1],
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/",
        "/.well-known/oauth-protected-resource/%6dcp",
        "/%2ewell-known/oauth-protected-resource/mcp",
        "/.well-known/oauth%2Dprotected-resource/mcp",
        "/.well-known/OAuth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server/mcp",
        "/x" + DOCUMENT,
        "/mcp" + DOCUMENT,
    ],
)
async def test_nothing_else_is_let_through_with_it(target: str) -> None:
    exchange = await drive(gate(), http_scope(target=target))
    assert exchange.status == 401
    exchange = await drive(gate(), http_scope(target=target, headers={"authorization": "Bearer good"}))
    assert exchange.body == b"the app"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("//.well-known/oauth-protected-resource/mcp", 400),
        ("/.well-known/./oauth-protected-resource/mcp", 400),
        ("/.well-known/oauth-protected-resource%2fmcp", 400),
        ("/.well-known/oauth-protected-resource;x/mcp", 400),
    ],
)
async def test_the_edge_comes_first(target: str, status: int) -> None:
    assert (await drive(gate(), http_scope(target=target))).status == status


async def test_a_query_changes_nothing() -> None:
    assert (await drive(gate(), http_scope(target=DOCUMENT + "?a=b"))).status == 200


@pytest.mark.parametrize("root_path", ["/outer", "/.well-known/oauth-protected-resource"])
async def test_an_app_that_is_mounted_answers_for_its_path_below_the_mount_or_for_all_of_it(root_path: str) -> None:
    """`uvicorn --root-path` puts the prefix before every path, the well-known ones too."""
    target = DOCUMENT if DOCUMENT.startswith(root_path) else root_path + DOCUMENT
    assert (await drive(gate(), http_scope(target=target, root_path=root_path))).status == 200


async def test_a_websocket_does_not_get_in_by_that_path() -> None:
    exchange = await drive(gate(), websocket_scope(DOCUMENT))
    assert exchange.status == 401
    assert challenges(exchange) == [CHALLENGE]
    assert (await drive(gate(), websocket_scope(DOCUMENT, denial=False))).close_code == 1008


async def test_observers_are_told_of_it() -> None:
    lines: list[str] = []
    recorder = Recorder()
    await drive(gate(observe=[recorder, AccessLog(lines.append)]), http_scope(target=DOCUMENT + "?token=hunter2"))
    assert recorder.last.status == 200
    assert recorder.last.reason is Reason.DIRECT_RESPONSE
    assert recorder.last.error is None
    assert "http.status=200 protocol=http reason=DirectResponse duration=" in lines[0]
    assert "hunter2" not in lines[0]
    assert "error=" not in lines[0]


async def test_a_gate_further_out_lets_nobody_read_it() -> None:
    """It wants its own credential for everything: nothing is taken from it."""
    outer = Gate(gate(), authenticate=[APIKeyAuth({"alice": KEY}, location=Header("x-key"))])
    assert (await drive(outer, http_scope(target=DOCUMENT))).status == 401
    assert (await drive(outer, http_scope(target=DOCUMENT, headers={"x-key": KEY}))).status == 200


def test_explain_knows_it() -> None:
    decisions = gate().explain(Request.http("GET", DOCUMENT))
    assert [(one.status, one.code) for one in decisions] == [(200, "resource_metadata")]
    assert gate().explain(Request.http("GET", DOCUMENT + "/"))[-1].status == 401


@pytest.mark.parametrize(
    ("options", "authenticate"),
    [
        pytest.param({"public_url": None}, [Tokens()], id="no public URL"),
        pytest.param({}, [KEYS], id="nobody who knows a server"),
        pytest.param({}, [Tokens(authorization_servers=[])], id="no server"),
    ],
)
async def test_without_a_server_or_a_public_url_there_is_no_document(
    options: dict[str, Any], authenticate: list[Authenticator]
) -> None:
    exchange = await drive(gate(*authenticate, **options), http_scope(target=DOCUMENT))
    assert exchange.status == 401
    assert challenges(exchange) == ["Bearer"]


@pytest.mark.parametrize(
    ("url", "resource", "path"),
    [
        ("https://gw.example.com", "https://gw.example.com", ""),
        ("https://gw.example.com/", "https://gw.example.com", ""),
        ("https://GW.example.com:8443/Mcp/", "https://gw.example.com:8443/Mcp/", "/Mcp/"),
        ("http://127.0.0.1:8000/a/b", "http://127.0.0.1:8000/a/b", "/a/b"),
        ("http://[::1]:8000/a", "http://[::1]:8000/a", "/a"),
        ("https://gw.example.com/caf%C3%A9", "https://gw.example.com/caf%C3%A9", "/caf%C3%A9"),
    ],
)
async def test_public_urls(url: str, resource: str, path: str) -> None:
    opened = gate(public_url=url)
    exchange = await drive(opened, http_scope(target="/.well-known/oauth-protected-resource" + path))
    assert json.loads(exchange.body)["resource"] == resource
    origin = resource[: len(resource) - len(path)]
    assert challenges(await drive(opened, http_scope())) == [
        f'Bearer resource_metadata="{origin}/.well-known/oauth-protected-resource{path}"'
    ]


@pytest.mark.parametrize(
    "url",
    [
        "", "gateway.example.com", "//gateway.example.com", "ftp://gateway.example.com", "https://", "https:///mcp",
        "https://user@gateway.example.com", "https://gateway.example.com?a", "https://gateway.example.com/#a",
        "https://gateway.example.com/a b", "https://gateway.example.com/\"", "https://gateway.example.com/a\r\nb",
        "https://gateway.example.com/../a", "https://gateway.example.com//a", "https://gateway.example.com/%2e",
        "https://gateway.example.com\n", "https://gateway.example.com/%zz", "https://gäteway.example.com", b"x", 7,
    ],
)  # fmt: skip
def test_no_public_urls(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="public_url is what clients dial"):
        gate(public_url=url)


def test_its_repr_is_its_url() -> None:
    assert repr(gate().resource) == f"ProtectedResource({URL!r})"


# What stands in it.


def metadata(*authenticate: Authenticator) -> Any:
    return json.loads(gate(*authenticate).explain(Request.http("GET", DOCUMENT))[0].message)


def test_scopes_and_what_the_operator_adds() -> None:
    found = metadata(
        Tokens(
            scopes_supported=["tools:read", "offline_access"], resource_name="Tools", resource_documentation="https://d"
        )
    )
    assert found == {
        "resource": URL,
        "authorization_servers": [ISSUER],
        "scopes_supported": ["tools:read"],
        "resource_name": "Tools",
        "resource_documentation": "https://d",
        "bearer_methods_supported": ["header"],
    }


def test_several_authenticators_say_it_together() -> None:
    found = metadata(
        KEYS,
        Tokens(scopes_supported=["a", "b"], resource_name="First"),
        Tokens(authorization_servers=[ISSUER, "https://other"], scopes_supported=["b", "c"], resource_name="Second"),
    )
    assert found["authorization_servers"] == [ISSUER, "https://other"]
    assert found["scopes_supported"] == ["a", "b", "c"]
    assert found["resource_name"] == "First"


@pytest.mark.parametrize(
    ("location", "methods"),
    [
        (BEARER, ["header"]),
        (Query("access_token"), ["query"]),
        (Query("token"), None),
        (Header("x-token"), None),
        (Cookie("token"), None),
    ],
)
def test_how_a_token_is_sent(location: Location, methods: list[str] | None) -> None:
    assert metadata(Tokens(location=location)).get("bearer_methods_supported") == methods


def test_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        gate(
            Tokens(resource="https://evil", bearer_methods_supported=["body"], scopes_supported=["a b", 'a"', 1]),
            Tokens(authorization_servers="https://a", resource_name=object()),
        )
    assert caught.value.faults == (
        "Tokens: resource_metadata: resource is not set there: it follows from public_url",
        "Tokens: resource_metadata: bearer_methods_supported is not set there: it follows from public_url",
        "resource_metadata: authorization_servers are URLs",
        *["resource_metadata: scopes_supported are scopes as of RFC 6749"] * 3,
        "resource_metadata: what is in it is JSON",
    )


# Challenges.

INVALID = deny("no", status=401, code="invalid_credential", headers=bearer('Bearer error="invalid_token"'))
SHORT = deny("no", code="insufficient_scope", headers=bearer('Bearer error="insufficient_scope", scope="x y"'))


@pytest.mark.parametrize(
    ("answer", "status", "expected"),
    [
        pytest.param(None, 401, [f'{CHALLENGE}, scope="a b"'], id="nothing was sent: no error"),
        pytest.param(
            INVALID,
            401,
            [CHALLENGE.replace("Bearer ", 'Bearer error="invalid_token", ') + ', scope="a b"'],
            id="a bad token",
        ),
        pytest.param(
            SHORT,
            403,
            [CHALLENGE.replace("Bearer ", 'Bearer error="insufficient_scope", scope="x y", ')],
            id="a token of less scope keeps the scopes that are asked for",
        ),
        pytest.param(deny("no", status=401), 401, [f'{CHALLENGE}, scope="a b"'], id="a 401 without a challenge"),
        pytest.param(
            deny("no", status=401, headers=bearer('Basic realm="a"', "bearer", "Bearer x=y")),
            401,
            ['Basic realm="a"', f'{CHALLENGE}, scope="a b"'],
            id="of several Bearer challenges one is left, and other schemes stay",
        ),
        pytest.param(deny("no"), 403, [], id="a plain 403"),
        pytest.param(deny("no", headers=bearer("Bearer")), 403, ["Bearer"], id="a 403 that more scope does not help"),
        pytest.param(deny("no", status=429, headers=bearer("Bearer")), 429, ["Bearer"], id="another status"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_challenges(kind: str, answer: Decision | None, status: int, expected: list[str]) -> None:
    headers = {} if answer is None else {"authorization": "Bearer x"}
    scope = http_scope(headers=headers) if kind == "http" else websocket_scope(headers=headers)
    exchange = await drive(gate(Tokens(answer, scopes_supported=["a", "b"])), scope)
    assert (exchange.status, challenges(exchange)) == (status, expected)


@pytest.mark.parametrize("sent", [None, "Bearer bad", "Bearer a.b.c", "Basic x"])
@pytest.mark.parametrize("order", [(KEYS, Tokens()), (Tokens(), KEYS)], ids=["keys first", "tokens first"])
async def test_keys_and_tokens_together_make_one_challenge(order: Any, sent: str | None) -> None:
    exchange = await drive(gate(*order), http_scope(headers={} if sent is None else {"authorization": sent}))
    assert exchange.status == 401
    assert challenges(exchange) == [CHALLENGE]


@pytest.mark.parametrize("rules", [{"allow": ['jwt.sub == "alice"']}, {"deny": ["true"], "allow": ["true"]}], ids=str)
async def test_a_rule_s_denial_asks_for_no_login(rules: dict[str, Any]) -> None:
    """Clients start a login over on `insufficient_scope`, and would do so for ever."""
    exchange = await drive(
        gate(authorize=[CELRules(**rules)]),
        http_scope(headers={"authorization": "Bearer good"}),
    )
    assert (exchange.status, challenges(exchange)) == (403, [])


async def test_an_authenticator_that_fails_asks_for_no_login() -> None:
    class Fails(Tokens):
        def check(self, request: Request) -> Decision:
            raise RuntimeError("hunter2")

    exchange = await drive(gate(Fails()), http_scope())
    assert (exchange.status, challenges(exchange)) == (500, [])


# Of JWTAuth.

JWKS = {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}


def tokens(issuer: str = ISSUER, **options: Any) -> JWTAuth:
    return JWTAuth(issuer=issuer, audience="a", jwks=JWKS, **options)


@pytest.mark.parametrize(
    ("auth", "found"),
    [
        pytest.param(tokens(), {"authorization_servers": [ISSUER]}, id="the issuer is the server"),
        pytest.param(
            tokens(scopes=["b", "a"], resource_metadata={"scopes_supported": ["c", "a"], "resource_name": "Tools"}),
            {"authorization_servers": [ISSUER], "scopes_supported": ["b", "a", "c"], "resource_name": "Tools"},
            id="scopes that it requires come first",
        ),
        pytest.param(
            tokens("name", resource_metadata={"authorization_servers": ["https://login"]}),
            {"authorization_servers": ["https://login"]},
            id="the operator names the server of an issuer without a URL",
        ),
    ],
)
def test_what_there_is_to_tell_of_tokens(auth: JWTAuth, found: dict[str, Any]) -> None:
    assert metadata(auth) == {"resource": URL, **found, "bearer_methods_supported": ["header"]}


async def test_an_issuer_without_a_url_is_no_server() -> None:
    opened = gate(tokens("name", scopes=["a"]))
    assert (await drive(opened, http_scope(target=DOCUMENT))).status == 401
    assert challenges(await drive(opened, http_scope())) == ["Bearer"]


@pytest.mark.parametrize("added", [[], "x", None], ids=repr)
def test_metadata_that_is_no_mapping(added: Any) -> None:
    with pytest.raises(ConfigurationError, match="JWTAuth: resource_metadata maps names of RFC 9728"):
        tokens(resource_metadata=added)


def test_a_scope_added_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="resource_metadata: scopes_supported are scopes"):
        gate(tokens(resource_metadata={"scopes_supported": "a b"}))


async def test_the_middleware_takes_it_all() -> None:
    wrapped = JWTMiddleware(
        app,
        issuer=ISSUER,
        audience="a",
        jwks=JWKS,
        identity_headers={"x-sub": "sub"},
        resource_metadata={"resource_name": "Tools"},
        public_url=URL,
    )
    assert json.loads((await drive(wrapped, http_scope(target=DOCUMENT))).body)["resource_name"] == "Tools"
    assert wrapped.authenticate[0].identity_headers == {"x-sub": "sub"}
