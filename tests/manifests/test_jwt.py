"""jwtAuthentication in documents: which tokens get in, which of two policies holds, where to log in."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentgate import APIKeyAuth, Gateway, HTTPBackend, JWTAuth, RemoteJWKS, Request
from agentgate.errors import ConfigurationError
from agentgate.testing import TokenIssuer, drive, http_scope

from .manifest_files import KEY, POLICY, ROUTE, SECRET, load

pytestmark = pytest.mark.anyio

ISSUER, OTHER = TokenIssuer("https://one.example"), TokenIssuer("https://two.example", kid="two")
TOKEN = ISSUER.token({"sub": "bob", "aud": "api"})

J = "spec.traffic.jwtAuthentication"
P = "document 2 (AgentgatewayPolicy infra/tokens): "
MISSING = "401 authentication failure: no bearer token found"


def provider(of: TokenIssuer = ISSUER, /, **more: Any) -> dict[str, Any]:
    return {"issuer": of.issuer, "audiences": ["api"], "jwks": {"inline": json.dumps(of.jwks)}, **more}


def policy(
    jwt: dict[str, Any] | None = None, *, target: str = "Gateway gw", namespace: str = "infra", **more: Any
) -> str:
    """A document; YAML takes JSON as it is."""
    kind, name = target.split()
    document = {
        "apiVersion": "agentgateway.dev/v1alpha1",
        "kind": "AgentgatewayPolicy",
        "metadata": {"name": "tokens", "namespace": namespace},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": kind, "name": name}],
            "traffic": {"jwtAuthentication": jwt or {"providers": [provider()]}, **more},
        },
    }
    return json.dumps(document) + "\n"


def remote(**fields: Any) -> dict[str, Any]:
    return {"providers": [provider(jwks={"remote": fields})]}


def ask(gateway: Gateway, *headers: tuple[str, str], target: str = "/", token: str | None = None) -> str:
    """Who the gateway takes a request for, outermost first, or what it says in refusing it."""
    given = [*headers, *([("authorization", f"Bearer {token}")] if token else [])]
    decisions = gateway.explain(Request.http("GET", target, headers=given))
    if decisions[-1].effect == "deny":
        return f"{decisions[-1].status} {decisions[-1].message}"
    return " ".join([one.principal.id for one in decisions if one.principal]) or "anonymous"


def faults(folder: Path, *documents: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, *documents, **options)
    return [fault.removeprefix(f"{folder}/all.yaml: ") for fault in caught.value.faults]


# One policy.


@pytest.mark.parametrize(
    ("mode", "nothing", "bad", "strange"),
    [
        ("Strict", MISSING, "401", "401"),
        ("Optional", "anonymous", "401", "401"),
        ("Permissive", "anonymous", "anonymous", "anonymous"),
    ],
)
def test_modes(tmp_path: Path, mode: str, nothing: str, bad: str, strange: str) -> None:
    gateway = load(tmp_path, ROUTE, policy({"mode": mode, "providers": [provider()]}))
    assert ask(gateway, token=TOKEN) == "bob"
    assert ask(gateway) == nothing
    assert ask(gateway, token=ISSUER.token({"sub": "bob", "aud": "another"})).startswith(bad)
    assert ask(gateway, token=OTHER.token({"sub": "bob", "aud": "api"})).startswith(strange)


def test_several_providers_each_have_keys_and_audiences_of_their_own(tmp_path: Path) -> None:
    two = provider(OTHER, audiences=["a", "b"])
    gateway = load(tmp_path, ROUTE, policy({"providers": [provider(), two]}))
    assert ask(gateway, token=TOKEN) == "bob"
    assert ask(gateway, token=OTHER.token({"sub": "eve", "aud": "b"})) == "eve"
    assert ask(gateway, token=OTHER.token({"sub": "eve", "aud": "api"})).startswith("401 ")
    forged = ISSUER.token({"iss": OTHER.issuer, "sub": "eve", "aud": "b"})  # signed with the other one's key
    assert ask(gateway, token=forged).startswith("401 ")


@pytest.mark.parametrize(
    ("location", "headers", "target"),
    [
        ({"header": {"name": "X-Token"}}, [("x-token", TOKEN)], "/"),
        ({"queryParameter": {"name": "access_token"}}, [], f"/?access_token={TOKEN}"),
        ({"cookie": {"name": "session"}}, [("cookie", f"session={TOKEN}")], "/"),
    ],
)
def test_locations(tmp_path: Path, location: Any, headers: list[tuple[str, str]], target: str) -> None:
    gateway = load(tmp_path, ROUTE, policy({"providers": [provider()], "location": location}))
    assert ask(gateway, *headers, target=target) == "bob"
    assert ask(gateway, token=TOKEN) == MISSING


def store_of(gateway: Gateway) -> RemoteJWKS:
    (authenticator,) = gateway.routes[0].authenticate or ()
    assert isinstance(authenticator, JWTAuth)
    assert isinstance(authenticator.jwks, RemoteJWKS)
    return authenticator.jwks


BACKEND_REF = {"name": "keycloak", "port": 8080}


@pytest.mark.parametrize(
    ("fields", "url", "seconds"),
    [
        ({"url": "https://one.example/keys?v=1"}, "https://one.example/keys?v=1", 300),
        ({"url": "http://127.0.0.1:8080/keys", "cacheDuration": "1h30m"}, "http://127.0.0.1:8080/keys", 5400),
        ({"backendRef": BACKEND_REF, "jwksPath": "/realms/a/certs"}, "https://kc:8443/realms/a/certs", 300),
        ({"backendRef": {**BACKEND_REF, "namespace": "infra"}, "jwksPath": "certs"}, "https://kc:8443/certs", 300),
        ({"backendRef": BACKEND_REF, "jwksPath": "/certs", "cacheDuration": "300000ms"}, "https://kc:8443/certs", 300),
    ],
)
def test_keys_from_elsewhere(tmp_path: Path, fields: Any, url: str, seconds: float) -> None:
    """Nothing is fetched: a gateway starts while its provider is away."""
    backends = {"infra/keycloak:8080": "https://kc:8443/"} if "backendRef" in fields else {}
    store = store_of(load(tmp_path, ROUTE, policy(remote(**fields)), backends=backends))
    assert str(store.url) == url
    assert store.max_age == seconds


# Two policies.


def keys_in(header: str, target: str = "Gateway gw", namespace: str = "infra", mode: str = "Strict") -> str:
    kind, name = target.split()
    return (
        POLICY.replace("name: auth, namespace: infra", f"name: auth, namespace: {namespace}")
        .replace("kind: Gateway, name: gw", f"kind: {kind}, name: {name}")
        .replace(
            "secretRef: {name: keys}",
            f"secretRef: {{name: keys}}\n      mode: {mode}\n      location: {{header: {{name: {header}}}}}",
        )
    )


BOTH = [
    pytest.param([policy(), keys_in("x-key")], id="of the Gateway"),
    pytest.param(
        [policy(target="HTTPRoute web", namespace="apps"), keys_in("x-key")], id="of the route, and of the Gateway"
    ),
    pytest.param(
        [policy(apiKeyAuthentication={"secretRef": {"name": "keys"}, "location": {"header": {"name": "x-key"}}})],
        id="in one policy",
    ),
]


@pytest.mark.parametrize("policies", BOTH)
async def test_a_token_and_a_key_are_both_wanted(tmp_path: Path, policies: list[str]) -> None:
    gateway = load(tmp_path, ROUTE, SECRET, *policies)
    assert ask(gateway, ("x-key", KEY), token=TOKEN) == "bob alice"
    assert ask(gateway, token=TOKEN) == "401 api key authentication failure: no API Key found"
    assert ask(gateway, ("x-key", KEY)) == MISSING
    assert ask(gateway) == MISSING
    for headers, status in (
        ({"x-key": KEY, "authorization": f"Bearer {TOKEN}"}, 503),  # through, to a Service that is not there
        ({"authorization": f"Bearer {TOKEN}"}, 401),
        ({"x-key": KEY}, 401),
    ):
        assert (await drive(gateway, http_scope(headers=headers))).status == status
    await gateway.aclose()


def test_each_has_its_own_mode(tmp_path: Path) -> None:
    gateway = load(tmp_path, ROUTE, SECRET, policy(), keys_in("x-key", mode="Optional"))
    assert ask(gateway, token=TOKEN) == "bob"
    assert ask(gateway, ("x-key", KEY), token=TOKEN) == "bob alice"
    assert ask(gateway, ("x-key", "bad"), token=TOKEN).startswith("401 api key")
    assert ask(gateway, ("x-key", KEY)) == MISSING


def test_a_field_of_the_route_replaces_that_field_of_the_gateway_alone(tmp_path: Path) -> None:
    own = policy({"providers": [provider(OTHER)]}, target="HTTPRoute web", namespace="apps")
    gateway = load(tmp_path, ROUTE, SECRET, policy(), own, keys_in("x-key"))
    assert ask(gateway, ("x-key", KEY), token=OTHER.token({"sub": "eve", "aud": "api"})) == "eve alice"
    assert ask(gateway, ("x-key", KEY), token=TOKEN).startswith("401 authentication failure")
    assert ask(gateway, token=OTHER.token({"sub": "eve", "aud": "api"})).startswith("401 api key")


def test_a_route_without_a_policy_is_public(tmp_path: Path) -> None:
    other = ROUTE.replace("name: web", "name: other").replace(
        "rules:\n    -", "rules:\n    - matches: [{path: {value: /o}}]\n     "
    )
    gateway = load(tmp_path, ROUTE, other, policy(target="HTTPRoute other", namespace="apps"))
    assert (ask(gateway), ask(gateway, target="/o"), ask(gateway, target="/o", token=TOKEN)) == (
        "anonymous",
        MISSING,
        "bob",
    )


def test_a_credential_that_both_want_is_a_fault(tmp_path: Path) -> None:
    found = faults(tmp_path, ROUTE, SECRET, policy(), POLICY)
    assert found == [
        "document 4 (AgentgatewayPolicy infra/auth): spec.traffic.apiKeyAuthentication.location: for apps/web"
        " jwtAuthentication and apiKeyAuthentication both read their credential there: give one of them another"
    ]
    optional = POLICY + "      mode: Optional\n"
    assert ask(load(tmp_path, ROUTE, SECRET, policy(), optional), token=TOKEN) == "bob"


def test_two_on_one_target_are_a_fault(tmp_path: Path) -> None:
    second = policy().replace('"tokens"', '"more"')
    assert faults(tmp_path, ROUTE, policy(), second) == [
        "document 3 (AgentgatewayPolicy infra/more): spec.targetRefs[0]: Gateway infra/gw has a jwtAuthentication"
        f" already, by {tmp_path}/all.yaml: document 2 (AgentgatewayPolicy infra/tokens)"
    ]


# Where to log in.

WELL_KNOWN = "/.well-known/oauth-protected-resource"
WEB = ROUTE.replace(
    "    - backendRefs", "    - matches: [{path: {value: /mcp}}, {path: {value: /tools/}}]\n      backendRefs"
)


async def document(gateway: Gateway, path: str) -> Any:
    exchange = await drive(gateway, http_scope(target=WELL_KNOWN + path))
    await gateway.aclose()
    return json.loads(exchange.body) if exchange.status == 200 else exchange.status


async def test_the_command_says_where_the_gateway_is(tmp_path: Path) -> None:
    gateway = load(tmp_path, WEB, policy(), public_url="https://gw.example.com")
    assert await document(gateway, "/mcp") == {
        "resource": "https://gw.example.com/mcp",
        "authorization_servers": [ISSUER.issuer],
        "bearer_methods_supported": ["header"],
    }
    assert (await document(gateway, "/tools"))["resource"] == "https://gw.example.com/tools"
    assert await document(gateway, "") == 404
    assert await document(load(tmp_path, WEB, policy()), "/mcp") == 404


def mcp(**metadata: Any) -> str:
    return policy({"providers": [provider()], "mcp": {"resourceMetadata": metadata}})


async def test_or_the_policy_says_it_with_more(tmp_path: Path) -> None:
    text = mcp(
        resource="http://localhost:8080/mcp",
        scopesSupported=["email", "offline_access"],
        resourceDocumentation="http://localhost/docs",
        resource_name="Tools",
        x={"a": [1]},
    )
    assert await document(load(tmp_path, WEB, text), "/mcp") == {
        "resource": "http://localhost:8080/mcp",
        "authorization_servers": [ISSUER.issuer],
        "scopes_supported": ["email"],
        "resource_documentation": "http://localhost/docs",
        "resource_name": "Tools",
        "x": {"a": [1]},
        "bearer_methods_supported": ["header"],
    }
    assert (await document(load(tmp_path, WEB, text), "/tools"))["resource"] == "http://localhost:8080/tools"


@pytest.mark.parametrize(
    ("metadata", "url", "expected"),
    [
        ({}, None, "mcp: clients have to be told where this gateway is: say it with --public-url"),
        (
            {"resource": "https://gw.example.com/other"},
            None,
            "mcp.resourceMetadata.resource: no route that this policy holds for is there; clients reach this gateway at"
            " https://gw.example.com",
        ),
        (
            {"resource": "https://elsewhere/mcp"},
            "https://gw.example.com",
            "mcp.resourceMetadata.resource: no route that this policy holds for is there; clients reach this gateway at"
            " https://gw.example.com",
        ),
        ({"resource": 7}, "https://gw", "mcp.resourceMetadata.resource: text is expected"),
        ({"resource": "gw"}, None, "mcp.resourceMetadata.resource: resource is what clients dial"),
        (
            {"bearerMethodsSupported": ["body"]},
            "https://gw",
            "mcp.resourceMetadata: bearer_methods_supported is not set there: it follows from public_url",
        ),
        (
            {"scopesSupported": ["a b"]},
            "https://gw",
            "mcp.resourceMetadata: resource_metadata: scopes_supported are scopes as of RFC 6749",
        ),
    ],
)
def test_what_policies_cannot_say(tmp_path: Path, metadata: Any, url: str | None, expected: str) -> None:
    found = faults(tmp_path, WEB, mcp(**metadata), public_url=url)
    assert len(found) == 1
    assert found[0].startswith(f"{P}{J}.{expected}")


def test_an_issuer_where_nobody_can_log_in(tmp_path: Path) -> None:
    text = policy({"providers": [{**provider(), "issuer": "name"}], "mcp": {}})
    assert faults(tmp_path, WEB, text, public_url="https://gw") == [
        f"{P}{J}.mcp: the issuer is no URL: nobody could log in there"
    ]


def test_policies_that_say_different_things(tmp_path: Path) -> None:
    other = (
        WEB.replace("name: web, ", "name: more, ")
        .replace("value: /mcp", "value: /b")
        .replace("value: /tools/", "value: /c")
    )
    second = policy(
        {"providers": [provider()], "mcp": {"resourceMetadata": {"resource": "https://two/b"}}},
        target="HTTPRoute more",
        namespace="apps",
    )
    found = faults(tmp_path, WEB, mcp(resource="https://one/mcp"), other, second)
    place = (
        "document 4 (AgentgatewayPolicy apps/tokens): spec.traffic.jwtAuthentication.mcp.resourceMetadata.resource: "
    )
    assert found[0] == (
        f"{place}of another origin than those before: say where clients reach this gateway with --public-url"
    )


def test_a_public_url_that_is_none(tmp_path: Path) -> None:
    assert faults(tmp_path, ROUTE, policy(), public_url="gw")[0].startswith("public_url is what clients dial")


# Faults.


@pytest.mark.parametrize(
    ("jwt", "expected"),
    [
        ({"mode": "Strict"}, ["providers: required"]),
        ({"providers": []}, ["providers: List should have at least 1 item after validation, not 0"]),
        ({"providers": [provider()] * 65}, None),
        ({"providers": [provider()], "mode": "strict"}, ["mode: Input should be 'Strict', 'Optional' or 'Permissive'"]),
        ({"providers": [provider(issuer="")]}, ["providers[0].issuer: String should have at least 1 character"]),
        (
            {"providers": [provider(issuer="a" * 257)]},
            ["providers[0].issuer: String should have at most 256 characters"],
        ),
        (
            {"providers": [{k: v for k, v in provider().items() if k != "audiences"}]},
            ["providers[0].audiences: required"],
        ),
        ({"providers": [provider(audiences=[])]}, None),
        ({"providers": [provider(), provider()]}, ["providers[1].issuer: the issuer of providers[0]"]),
        ({"providers": [provider(jwks={})]}, ["providers[0].jwks: exactly one of inline, remote must be set"]),
        (
            {"providers": [provider(jwks={"inline": json.dumps(ISSUER.jwks), "remote": {"url": "https://a"}})]},
            [
                "providers[0].jwks: exactly one of inline, remote must be set",
            ],
        ),
        (
            {"providers": [provider(jwks={"inline": "{"})]},
            ["providers[0].jwks.inline: String should have at least 2 characters"],
        ),
        (
            {"providers": [provider(jwks={"inline": "{}"})]},
            [
                "providers[0].jwks.inline: a JWK Set is an object with a list named keys",
            ],
        ),
        (
            {"providers": [provider(jwks={"inline": "-----BEGIN PUBLIC KEY-----"})]},
            ["providers[0].jwks.inline: a JWK Set is JSON"],
        ),
        (
            {"providers": [provider(jwks={"inline": json.dumps(TokenIssuer(algorithm="HS256").jwks)})]},
            [
                "providers[0].jwks.inline: a symmetric key in a JWK Set that is not secret",
            ],
        ),
        (remote(), ["providers[0].jwks.remote: exactly one of backendRef, url must be set"]),
        (
            remote(url="https://a", backendRef=BACKEND_REF, jwksPath="/k"),
            [
                "providers[0].jwks.remote: exactly one of backendRef, url must be set",
                "providers[0].jwks.remote.jwksPath: jwksPath may not be set when url is set",
            ],
        ),
        (
            remote(url="https://a", jwksPath="/k"),
            ["providers[0].jwks.remote.jwksPath: jwksPath may not be set when url is set"],
        ),
        (
            remote(backendRef=BACKEND_REF),
            ["providers[0].jwks.remote.jwksPath: jwksPath is required when backendRef is set"],
        ),
        (
            remote(backendRef={**BACKEND_REF, "kind": "AgentgatewayBackend"}, jwksPath="/k"),
            [
                "providers[0].jwks.remote.backendRef.kind: AgentgatewayBackend is not supported by this version",
            ],
        ),
        (
            remote(backendRef={**BACKEND_REF, "namespace": "other"}, jwksPath="/k"),
            [
                "providers[0].jwks.remote.backendRef.namespace: not supported by this version: a backend in another"
                " namespace, which needs a ReferenceGrant",
            ],
        ),
        (
            remote(url="http://login/keys"),
            [
                "providers[0].jwks.remote: keys are fetched with https: over http, anybody on the way could give us"
                " others",
            ],
        ),
        *(
            (
                remote(url="https://a", cacheDuration=wrong),
                [
                    "providers[0].jwks.remote.cacheDuration: cacheDuration must be at least 5m.",
                ],
            )
            for wrong in ("4m59s", "299s", "0s", "299999ms")
        ),
        *(
            (
                remote(url="https://a", cacheDuration=wrong),
                [
                    "providers[0].jwks.remote.cacheDuration: a duration such as 5m or 1h30m",
                ],
            )
            for wrong in ("5", "5 m", "-5m", "5m ", "1d", "", 300, "0x5m", "\u0665m")
        ),
        (
            {"providers": [provider(), provider(OTHER)], "mcp": {}},
            ["mcp: jwtAuthentication.mcp requires exactly one provider"],
        ),
        (
            {"providers": [provider()], "mode": "Optional", "mcp": {}},
            ["mcp: jwtAuthentication.mcp requires mode Strict"],
        ),
        (
            {
                "providers": [provider(), provider(OTHER)],
                "mode": "Permissive",
                "mcp": {"provider": "Keycloak", "clientId": "a"},
            },
            [
                "mcp.provider: not supported by this version",
                "mcp.clientId: not supported by this version",
                "mcp: jwtAuthentication.mcp requires exactly one provider",
                "mcp: jwtAuthentication.mcp requires mode Strict",
            ],
        ),
        (
            {"providers": [provider()], "location": {"expression": "a"}},
            [
                "location.expression: not supported by this version",
            ],
        ),
        ({"providers": [provider()], "location": {"header": {"name": "a b"}}}, ["location: 'a b' is no header name"]),
        (
            {"providers": [provider(jwks={"inline": "[]"}), provider(OTHER, jwks={"inline": "[1]"})]},
            [
                "providers[0].jwks.inline: a JWK Set is an object with a list named keys",
                "providers[1].jwks.inline: a JWK Set is an object with a list named keys",
            ],
        ),
    ],
)
def test_faults(tmp_path: Path, jwt: dict[str, Any], expected: list[str] | None) -> None:
    backends = {"infra/keycloak:8080": "https://keycloak"} if "keycloak" in json.dumps(jwt) else {}
    found = faults(tmp_path, ROUTE, policy(jwt), backends=backends, public_url="https://gw")
    if expected is None:
        assert found
    else:
        assert found == [f"{P}{J}.{text}" for text in expected]


def test_a_service_that_would_be_asked_over_http(tmp_path: Path) -> None:
    assert faults(
        tmp_path, ROUTE, policy(remote(backendRef=BACKEND_REF, jwksPath="/k")), resolve=lambda name: True
    ) == [
        f"{P}{J}.providers[0].jwks.remote: keys are fetched with https: over http, anybody on the way could give us"
        " others; say where the Service lives: --backend NAMESPACE/NAME:PORT=https://HOST:PORT"
    ]


def test_a_service_of_keys_that_is_not_known_here(tmp_path: Path) -> None:
    text = policy(remote(backendRef=BACKEND_REF, jwksPath="/k"))
    found = faults(tmp_path, ROUTE, text, resolve=lambda name: name == "web.apps")
    assert found == [
        f"{P}{J}.providers[0].jwks.remote.backendRef: Service infra/keycloak:8080 does not resolve here; say where it"
        " lives: --backend infra/keycloak:8080=https://HOST:PORT"
    ]


def test_private_keys_are_not_shown(tmp_path: Path) -> None:
    jwk = {**ISSUER.jwks["keys"][0], "d": "hunter2hunter2"}
    (found,) = faults(tmp_path, ROUTE, policy({"providers": [provider(jwks={"inline": json.dumps({"keys": [jwk]})})]}))
    assert "a private key in a JWK Set" in found
    assert "hunter2" not in found


def test_the_gates_are_nested_in_the_reference_s_order(tmp_path: Path) -> None:
    gateway = load(tmp_path, ROUTE, SECRET, policy(), keys_in("x-key"))
    (route,) = gateway.routes
    assert [type(one) for one in route.authenticate or ()] == [JWTAuth]
    inner: Any = route.backend.app
    assert [type(one) for one in inner.authenticate] == [APIKeyAuth]
    assert repr(route.backend) == repr(HTTPBackend("http://web.apps:80", preserve_host=True))


def rules(*texts: str) -> str:
    return (
        POLICY.replace("name: auth", "name: rules").replace(
            "apiKeyAuthentication:\n      secretRef: {name: keys}\n", ""
        )
        + f"authorization: {json.dumps({'policy': {'matchExpressions': texts}})}\n"
    )


async def test_rules_know_the_token_and_the_key(tmp_path: Path) -> None:
    """They are asked behind both, with everybody who was recognised."""
    gateway = load(tmp_path, ROUTE, SECRET, policy(), keys_in("x-key"), rules('jwt.sub == "bob" && has(apiKey.key)'))
    assert ask(gateway, ("x-key", KEY), token=TOKEN) == "bob alice"
    assert ask(gateway, ("x-key", KEY), token=ISSUER.token({"sub": "eve", "aud": "api"})) == "403 authorization failed"
    assert ask(gateway, token=TOKEN).startswith("401 api key")
    scope = http_scope(headers={"x-key": KEY, "authorization": f"Bearer {ISSUER.token({'sub': 'eve', 'aud': 'api'})}"})
    assert (await drive(gateway, scope)).status == 403
    *asked, stands = gateway.explain(Request.http(jwt={"sub": "eve"}, api_key={}), every=True)
    assert (stands.status, [one.effect for one in asked]) == (403, ["deny"])
    await gateway.aclose()


def test_rules_about_tokens_alone(tmp_path: Path) -> None:
    gateway = load(tmp_path, ROUTE, policy(), rules('jwt.sub == "bob"'))
    assert ask(gateway, token=TOKEN) == "bob"
    assert ask(gateway, token=ISSUER.token({"sub": "eve", "aud": "api"})) == "403 authorization failed"
    assert ask(gateway) == MISSING
