"""JWTAuth: who is asking, by a token; every mode, every option, and the exact words."""

from types import MappingProxyType
from typing import Any, Final

import pytest

from agentgate import (
    ANY_AUDIENCE,
    APIKeyAuth,
    Authenticator,
    CELRules,
    ConfigurationError,
    Cookie,
    Gate,
    Header,
    JWTAuth,
    JWTMiddleware,
    Query,
    RemoteJWKS,
    Request,
    StaticJWKS,
)
from agentgate.auth.jwt import CACHE_SECONDS, LEEWAY_SECONDS
from agentgate.auth.location import BEARER, Location
from agentgate.testing import Recorder, TokenIssuer, drive, http_scope

pytestmark = pytest.mark.anyio

NOW: Final = 1_800_000_000.0
ISSUER: Final = TokenIssuer()
STRANGER: Final = TokenIssuer()  # says that it is the same issuer, with the same kid
OTHER: Final = TokenIssuer("https://other.example")
KEY: Final = "agk_Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OQ"

FAILURE: Final = "authentication failure: "
INVALID: Final = FAILURE + "the token is invalid or malformed: "
MALFORMED: Final = FAILURE + "the token header is malformed: Error(InvalidToken)"
MISSING: Final = FAILURE + "no bearer token found"


def token(issuer: TokenIssuer = ISSUER, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token that is good at NOW, but for what is said; None leaves a claim out."""
    times = {"iat": int(NOW), "exp": int(NOW) + 300}
    return issuer.token({"aud": "api", "sub": "alice", **times, **claims}, **(headers or {}))


def auth(**options: Any) -> JWTAuth:
    return JWTAuth(**{"issuer": ISSUER.issuer, "audience": "api", "jwks": ISSUER.jwks, **options})


def asked(text: str, now: float = NOW) -> Request:
    return Request.http(headers={"authorization": f"Bearer {text}"}, now=now)


def check(text: str, policy: JWTAuth | None = None, now: float = NOW) -> Any:
    return (policy or auth()).check(asked(text, now))


class App:
    """Counts its calls, and keeps the last scope."""

    calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


# -- words and modes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (token(headers={"kid": None, "alg": "ES256"}, iss=ISSUER.issuer), None),
        (token(headers={"kid": "abc"}), FAILURE + 'token uses the unknown key "abc"'),
        (token(headers={"kid": "a b\nc"}), FAILURE + "token uses the unknown key"),
        (token(headers={"kid": "k" * 65}), FAILURE + "token uses the unknown key"),
        (token(headers={"crit": ["exp"]}), MALFORMED),
        (token(headers={"typ": "dpop+jwt"}), MALFORMED),
        ("!!!", INVALID + "Error(InvalidToken)"),
        ("e30.e30.AA", MALFORMED),
        (token(STRANGER), INVALID + "Error(InvalidSignature)"),
        (token(exp=int(NOW) - 60), INVALID + "Error(ExpiredSignature)"),
        (token(nbf=int(NOW) + 61), INVALID + "Error(ImmatureSignature)"),
        (token(iat=int(NOW) + 61), INVALID + "Error(ImmatureSignature)"),
        (token(exp="soon"), INVALID + 'Error(InvalidClaimFormat("exp"))'),
        (token(exp=None), INVALID + 'Error(MissingRequiredClaim("exp"))'),
        (token(aud=None), INVALID + 'Error(MissingRequiredClaim("aud"))'),
        (token(iss=None), INVALID + 'Error(MissingRequiredClaim("iss"))'),
        (token(aud="other"), INVALID + "Error(InvalidAudience)"),
        (token(iss="other"), INVALID + "Error(InvalidIssuer)"),
        (token(sub=""), INVALID + "Error(InvalidSubject)"),
    ],
)
async def test_agentgateways_words(text: str, message: str | None) -> None:
    """Status, text, code and challenge of every kind of bad token; and the reason that the log has."""
    recorder = Recorder()
    gate = Gate(App(), authenticate=[auth()], observe=[recorder])
    decision = gate.explain(asked(text))[-1]
    if message is None:
        assert decision.effect == "allow"
        return
    assert (decision.effect, decision.status, decision.code, decision.message) == (
        "deny",
        401,
        "invalid_token",
        message,
    )
    exchange = await drive(gate, asked(text))
    assert (exchange.status, exchange.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert recorder.last.reason == "JwtAuth"


def test_a_kid_has_256_characters() -> None:
    """Where a key without a name is asked about every token, too."""
    nameless = TokenIssuer(kid=None)
    policy = auth(jwks=nameless.jwks)
    assert check(token(nameless, headers={"kid": "k" * 256}), policy).effect == "allow"
    assert check(token(nameless, headers={"kid": "k" * 257}), policy).message == MALFORMED


def test_a_token_without_kid_where_two_keys_could_be_meant() -> None:
    """agentgateway's words, again; it takes no token without kid at all."""
    keys = {"keys": [*ISSUER.jwks["keys"], {**STRANGER.jwks["keys"][0], "kid": "second"}]}
    decision = check(token(headers={"kid": None}), auth(jwks=keys))
    assert decision.message == FAILURE + "the token header does not specify a `kid`"


PLACES: Final[dict[str, Location]] = {
    "bearer": BEARER,
    "header": Header("x-token"),
    "query": Query("access_token"),
    "cookie": Cookie("session"),
}


def ask_with(place: str, credential: str | None) -> dict[str, Any]:
    headers, target = {"accept": "*/*", "cookie": "theme=dark"}, "/?page=1"
    if credential is not None:
        match place:
            case "bearer":
                headers["authorization"] = f"Bearer {credential}"
            case "header":
                headers["x-token"] = credential
            case "query":
                target += f"&access_token={credential}"
            case "cookie":
                headers["cookie"] += f"; session={credential}"
    return http_scope("GET", target, headers=headers)


@pytest.mark.parametrize(
    ("mode", "credential", "status"),
    [
        ("strict", "none", 401),
        ("strict", "good", 200),
        ("strict", "bad", 401),
        ("strict", "foreign", 401),
        ("strict", "junk", 401),
        ("optional", "none", 200),
        ("optional", "good", 200),
        ("optional", "bad", 401),
        ("optional", "foreign", 401),
        ("optional", "junk", 401),
        ("permissive", "none", 200),
        ("permissive", "good", 200),
        ("permissive", "bad", 200),
        ("permissive", "foreign", 200),
        ("permissive", "junk", 200),
    ],
)
@pytest.mark.parametrize("place", PLACES)
async def test_modes(mode: Any, credential: str, status: int, place: str) -> None:
    """Every mode meets every credential in every place; an accepted token is removed, another stays where it is."""
    claims = {"aud": "api", "sub": "alice"}
    text = {
        "none": None,
        "good": ISSUER.token(claims),
        "bad": STRANGER.token(claims),
        "foreign": OTHER.token(claims),
        "junk": "agk_junk",
    }[credential]
    app, recorder = App(), Recorder()
    gate = Gate(app, authenticate=[auth(location=PLACES[place])], mode=mode, observe=[recorder])
    scope = ask_with(place, text)
    exchange = await drive(gate, scope)
    assert (exchange.status, app.calls) == (status, 1 if status == 200 else 0)
    view = recorder.last.view
    if credential == "good":
        assert view.principal is not None
        assert (view.principal.id, view.principal.source) == ("alice", "jwt")
        assert view.jwt is not None
        assert view.jwt["aud"] == "api"
        expected = ask_with(place, None)
    else:
        assert (view.principal, view.jwt) == (None, None)
        expected = scope
    if status == 200:
        assert (app.scope["headers"], app.scope["query_string"]) == (expected["headers"], expected["query_string"])
    elif credential == "none":
        assert (exchange.text, exchange.headers["www-authenticate"]) == (MISSING, "Bearer")
    else:
        assert exchange.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_several_tokens_are_refused() -> None:
    """Two good ones, too, where no edge stood before."""
    scope = http_scope(headers=[("authorization", f"Bearer {token()}")] * 2)
    decision = auth().check(Request(scope, now=NOW))
    assert (decision.effect, decision.detail) == ("deny", "several tokens")


# -- with others -----------------------------------------------------------------------------------------------------


def both(*, keys_first: bool) -> list[Authenticator]:
    found: list[Authenticator] = [APIKeyAuth({"bob": KEY}), auth(), auth(issuer=OTHER.issuer, jwks=OTHER.jwks)]
    return found if keys_first else found[::-1]


@pytest.mark.parametrize("keys_first", [True, False])
@pytest.mark.parametrize(
    ("credential", "who"),
    [
        (KEY, "bob"),
        (ISSUER.token({"aud": "api", "sub": "alice"}), "alice"),
        (OTHER.token({"aud": "api", "sub": "carol"}), "carol"),
        (ISSUER.token({"aud": "api", "sub": "alice", "pad": "x" * 5000}), "alice"),  # longer than a key may be
        (STRANGER.token({"aud": "api", "sub": "alice"}), None),
        (TokenIssuer("https://third.example").token({"aud": "api"}), None),
        (ISSUER.token({"aud": "other", "sub": "alice"}), None),
        (KEY[:-1], None),
        ("a.b", None),
        ("a.b.c", None),
        ("a.b.c.d", None),
        ("x" * 9000, None),
        (f"{KEY}.{KEY}.{KEY}", None),
    ],
)
async def test_keys_and_tokens_of_two_issuers_side_by_side(credential: str, who: str | None, keys_first: bool) -> None:
    """Three base64url parts are a token, and its issuer says whose; anything else is a key. No second try."""
    app, recorder = App(), Recorder()
    modes: tuple[Any, ...] = ("strict", "optional")
    for mode in modes:
        gate = Gate(app, authenticate=both(keys_first=keys_first), mode=mode, observe=[recorder])
        exchange = await drive(gate, http_scope(headers={"authorization": f"Bearer {credential}"}))
        principal = recorder.last.principal
        assert (exchange.status, principal and principal.id) == ((200, who) if who else (401, None))


async def test_a_bad_token_is_not_offered_to_the_next() -> None:
    """Two policies for one issuer: the first that knows it answers, though the second would take the token."""
    gate = Gate(App(), authenticate=[auth(audience="other"), auth()])
    scope = http_scope(headers={"authorization": f"Bearer {ISSUER.token({'aud': 'api'})}"})
    assert (await drive(gate, scope)).text == INVALID + "Error(InvalidAudience)"


async def test_nobody_is_anonymous_with_a_token_of_nobody() -> None:
    """A token of an issuer that no policy knows is a bad credential, not a missing one."""
    gate = Gate(App(), authenticate=both(keys_first=True)[1:], mode="optional")
    stranger = TokenIssuer("https://third.example").token({"aud": "api"})
    exchange = await drive(gate, http_scope(headers={"authorization": f"Bearer {stranger}"}))
    assert (exchange.status, exchange.text) == (401, INVALID + "Error(InvalidIssuer)")


def test_in_a_place_of_its_own_anything_else_is_a_bad_token() -> None:
    """Only bearer values are shared with keys."""
    policy = auth(location=Header("x-token"))
    decision = policy.check(Request.http(headers={"x-token": KEY}))
    assert (decision.effect, decision.message) == ("deny", MALFORMED)


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        ({"scope": "tools:read tools:call"}, True),
        ({"scope": "tools:call other tools:read"}, True),
        ({"scp": ["tools:read", "tools:call"]}, True),
        ({"scp": "tools:read tools:call"}, True),
        ({"scope": "tools:read", "scp": ["tools:call"]}, True),
        ({"scope": "tools:read"}, False),
        ({"scope": "tools:read tools:calls"}, False),
        ({"scope": "tools:readtools:call"}, False),
        ({"scope": "tools:read\ttools:call"}, False),
        ({"scope": "TOOLS:READ TOOLS:CALL"}, False),
        ({"scope": ["tools:read", "tools:call"]}, False),
        ({"scope": {"tools:read": 1, "tools:call": 1}}, False),
        ({"scp": ["tools:read tools:call"]}, False),
        ({"scp": ["tools:read", 1, None]}, False),
        ({"scope": ""}, False),
        ({"scope": None, "scp": 5}, False),
        ({}, False),
    ],
)
async def test_scopes(claims: dict[str, Any], accepted: bool) -> None:
    """Every one of them is needed; without, 403, and a challenge with all of them (RFC 6750 §3.1)."""
    policy = auth(scopes=["tools:read", "tools:call"])
    for _ in range(2):
        decision = check(token(**claims), policy)
        assert decision.effect == ("allow" if accepted else "deny")
    if not accepted:
        assert (decision.status, decision.code, decision.reason) == (403, "insufficient_scope", "Authorization")
        assert decision.headers == (
            (b"www-authenticate", b'Bearer error="insufficient_scope", scope="tools:read tools:call"'),
        )
        gate = Gate(App(), authenticate=[policy], mode="permissive")
        text = ISSUER.token({"aud": "api", **claims})
        exchange = await drive(gate, http_scope(headers={"authorization": f"Bearer {text}"}))
        assert (exchange.status, exchange.text) == (403, "authorization failed")


@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        ({"email": "a@example.com"}, True),
        ({"email": ""}, True),
        ({"email": False}, True),
        ({"email": []}, True),
        ({}, False),
    ],
)
def test_required_claims(claims: dict[str, Any], accepted: bool) -> None:
    """Being there is all that is asked; null is not there."""
    policy = auth(required_claims=["email"])
    decision = check(token(**claims), policy)
    assert decision.effect == ("allow" if accepted else "deny")
    if not accepted:
        assert decision.message == INVALID + 'Error(MissingRequiredClaim("email"))'


@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        ({"exp": int(NOW) + 300}, True),
        ({"iat": int(NOW) - 20, "exp": int(NOW) + 280}, True),
        ({"exp": int(NOW) + 301}, False),
        ({"iat": int(NOW) + 50, "exp": int(NOW) + 351}, False),
        ({"iat": None}, False),
    ],
)
def test_max_lifetime(claims: dict[str, Any], accepted: bool) -> None:
    """From iat to exp; a token that does not say when it was issued may be of any age."""
    assert check(token(**claims), auth(max_lifetime=300)).effect == ("allow" if accepted else "deny")


@pytest.mark.parametrize(
    ("typ", "at_jwt", "accepted"),
    [
        ("JWT", False, True),
        ("", False, True),  # PyJWT leaves an empty one out
        ("at+jwt", False, True),
        ("JWT", True, False),
        ("", True, False),
        ("at+jwt", True, True),
        ("AT+JWT", True, True),
        ("application/at+jwt", True, True),
        ("application/jwt", True, False),
    ],
)
def test_access_tokens_alone(typ: str, at_jwt: bool, accepted: bool) -> None:
    """RFC 9068 §4: an ID token is no access token."""
    assert check(token(headers={"typ": typ}), auth(require_at_jwt=at_jwt)).effect == ("allow" if accepted else "deny")


@pytest.mark.parametrize(
    ("audience", "aud", "accepted"),
    [
        ("api", "api", True),
        (["api", "web"], "web", True),
        ({"api"}, ["x", "api"], True),
        (("web",), "api", False),
        ("api,web", "web", False),
        (ANY_AUDIENCE, "whatever", True),
        (ANY_AUDIENCE, None, True),
        (ANY_AUDIENCE, [], True),
    ],
)
def test_audiences(audience: Any, aud: Any, accepted: bool) -> None:
    """One of ours is one of the token's; or, by name, it does not matter."""
    assert check(token(aud=aud), auth(audience=audience)).effect == ("allow" if accepted else "deny")


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ({"audience": ""}, ["JWTAuth: audience names who tokens are for"]),
        ({"audience": []}, ["JWTAuth: audience names"]),
        ({"audience": [""]}, ["JWTAuth: audience names"]),
        ({"audience": None}, ["JWTAuth: audience names"]),
        ({"audience": ["api", None]}, ["JWTAuth: audience names"]),
        ({"audience": 5}, ["JWTAuth: audience names"]),
        ({"issuer": ""}, ["JWTAuth: issuer is"]),
        ({"issuer": None}, ["JWTAuth: issuer is"]),
        ({"issuer": ["https://issuer.example"]}, ["JWTAuth: issuer is"]),
        ({"scopes": "tools:read"}, ["JWTAuth: scopes is a collection"]),
        ({"scopes": ["a b"]}, ["JWTAuth: a scope is"]),
        ({"scopes": ['a"']}, ["JWTAuth: a scope is"]),
        ({"scopes": ["a\r\nb"]}, ["JWTAuth: a scope is"]),
        ({"scopes": [""]}, ["JWTAuth: scopes is a collection"]),
        ({"scopes": [5]}, ["JWTAuth: scopes is a collection"]),
        ({"required_claims": "email"}, ["JWTAuth: required_claims is a collection"]),
        ({"max_lifetime": 0}, ["JWTAuth: max_lifetime is"]),
        ({"max_lifetime": -1}, ["JWTAuth: max_lifetime is"]),
        ({"max_lifetime": "300"}, ["JWTAuth: max_lifetime is"]),
        ({"max_lifetime": float("nan")}, ["JWTAuth: max_lifetime is"]),
        ({"cache_size": -1}, ["JWTAuth: cache_size is"]),
        ({"cache_size": None}, ["JWTAuth: cache_size is"]),
        ({"jwks": "http://issuer.example/jwks"}, ["JWTAuth: jwks: keys are fetched with https"]),
        ({"jwks": {"keys": []}}, ["JWTAuth: jwks: no usable key"]),
        ({"jwks": 5}, ["JWTAuth: jwks: a URL, a JWK Set"]),
        ({"jwks": None, "issuer": "tenant"}, ["JWTAuth: jwks: the keys are at a URL"]),
        ({"jwks": None, "issuer": "https://a.example?b=c"}, ["JWTAuth: jwks: an issuer that keys are discovered"]),
        ({"jwks": None, "issuer": None}, ["JWTAuth: issuer is", "JWTAuth: jwks: the keys are at a URL"]),
        (
            {"issuer": "", "audience": "", "scopes": "x", "jwks": 5},
            ["JWTAuth: issuer", "JWTAuth: audience", "JWTAuth: scopes", "JWTAuth: jwks"],
        ),
    ],
)
def test_faults_of_configuration(options: dict[str, Any], faults: list[str]) -> None:
    """All of them at once, when the app is built."""
    with pytest.raises(ConfigurationError) as caught:
        auth(**options)
    assert len(caught.value.faults) == len(faults)
    for fault, expected in zip(caught.value.faults, faults, strict=True):
        assert fault.startswith(expected)


def test_where_keys_come_from() -> None:
    """A URL, a set, a store; or the issuer."""
    static, remote = StaticJWKS(ISSUER.jwks), RemoteJWKS("https://issuer.example/jwks")
    assert auth(jwks=static).jwks is static
    assert auth(jwks=remote).jwks is remote
    assert repr(auth(jwks="https://keys.example/jwks").jwks) == "RemoteJWKS('https://keys.example/jwks')"
    assert repr(auth(jwks=MappingProxyType(ISSUER.jwks)).jwks) == "StaticJWKS(1 keys)"
    assert repr(auth(jwks=None).jwks) == f"RemoteJWKS.discover('{ISSUER.issuer}')"


async def test_the_middleware() -> None:
    """A Gate with one policy and all of its options."""
    app = App()
    gate = JWTMiddleware(
        app,
        issuer=ISSUER.issuer,
        audience=["api"],
        jwks=ISSUER.jwks,
        scopes=["a"],
        required_claims=["email"],
        max_lifetime=3600,
        require_at_jwt=True,
        location=Header("x-token"),
        cache_size=1,
        mode="optional",
    )
    claims = {"aud": "api", "scope": "a", "email": "x"}
    good = http_scope(headers={"x-token": ISSUER.token(claims, typ="at+jwt")})
    assert (await drive(gate, good)).status == 200
    assert (await drive(gate, http_scope())).status == 200
    for bad in (
        ISSUER.token(claims),
        ISSUER.token({**claims, "scope": "b"}, typ="at+jwt"),
        ISSUER.token({**claims, "email": None}, typ="at+jwt"),
        ISSUER.token({**claims, "iat": 1}, typ="at+jwt"),
        ISSUER.token({**claims, "aud": "x"}, typ="at+jwt"),
    ):
        assert (await drive(gate, http_scope(headers={"x-token": bad}))).status in (401, 403)
    assert app.calls == 2


# -- who it is -------------------------------------------------------------------------------------------------------


def test_the_principal() -> None:
    """Its id is the subject, its attributes are the claims, and the token is in neither."""
    text = token(roles=["dev"], nested={"a": [{"b": 1}]})
    principal = check(text).principal
    assert (principal.id, principal.source) == ("alice", "jwt")
    assert principal.attributes == {
        "iss": ISSUER.issuer, "aud": "api", "sub": "alice", "iat": int(NOW), "exp": int(NOW) + 300,
        "roles": ("dev",), "nested": {"a": ({"b": 1},)},
    }  # fmt: skip
    assert text not in repr(dict(principal.attributes))


@pytest.mark.parametrize("claims", [{"sub": None}, {"sub": None, "client_id": "alice"}, {"sub": None, "azp": "alice"}])
def test_a_token_without_subject_is_nobody_elses(claims: dict[str, Any]) -> None:
    """It gets a name that no subject has by chance: the client's id could be somebody's subject (RFC 9068 §5)."""
    first, second = check(token(**claims)).principal, check(token(jti="2", **claims)).principal
    assert first.id.startswith("token-")
    assert len(first.id) == 14
    assert first.id != second.id


def test_nobody_can_change_the_claims_of_the_next_request() -> None:
    """Requests that bring the same token see the same claims, so they are frozen all the way down."""
    principal = check(token(roles=["dev"], nested={"a": [{"b": 1}]})).principal
    with pytest.raises(TypeError):
        principal.attributes["sub"] = "root"
    with pytest.raises(TypeError):
        principal.attributes["nested"]["a"] = 1
    with pytest.raises(TypeError):
        principal.attributes["nested"]["a"][0]["b"] = 2
    with pytest.raises(AttributeError):
        principal.attributes["roles"].append("admin")


@pytest.mark.parametrize(
    ("rule", "effect"),
    [
        ('"dev" in jwt.roles && jwt.nested.a[0].b == 1 && jwt.iss == "https://issuer.example"', "allow"),
        ('"admin" in jwt.roles', "deny"),
        ("jwt.roles[0] == jwt.sub", "deny"),
    ],
)
def test_rules_read_the_claims(rule: str, effect: str) -> None:
    """`jwt` in an expression is the claims, lists and objects in them and all."""
    gate = Gate(authenticate=[auth()], authorize=[CELRules(allow=[rule])])
    text = token(roles=["dev"], nested={"a": [{"b": 1}]})
    assert gate.explain(asked(text))[-1].effect == effect


def test_reprs_say_what_and_no_more() -> None:
    assert repr(auth()) == (
        "JWTAuth(issuer='https://issuer.example', jwks=StaticJWKS(1 keys), "
        "location=Header(name='authorization', prefix='Bearer '))"
    )
    assert repr(ANY_AUDIENCE) == "ANY_AUDIENCE"


# -- the cache -------------------------------------------------------------------------------------------------------


def test_a_verified_token_is_remembered() -> None:
    """The very same answer, as long as it is not too old."""
    policy, text = auth(), token(exp=int(NOW) + 3600)
    first = check(text, policy)
    assert check(text, policy, NOW + CACHE_SECONDS - 1) is first
    assert check(text, policy, NOW + CACHE_SECONDS) is not first
    assert check(text, policy, NOW + CACHE_SECONDS).effect == "allow"


def test_without_the_cache_every_token_is_verified_each_time() -> None:
    policy, text = auth(cache_size=0), token()
    first, second = check(text, policy), check(text, policy)
    assert first is not second
    assert (first.effect, first.principal) == (second.effect, second.principal) == ("allow", first.principal)
    assert not policy._verified


@pytest.mark.parametrize("cache_size", [0, 10])
def test_the_clock_is_the_requests_remembered_or_not(cache_size: int) -> None:
    """What was good before is not good after exp, and what is good now is not good before nbf."""
    policy = auth(cache_size=cache_size)
    text = token(iat=int(NOW), nbf=int(NOW), exp=int(NOW) + 10)
    good = range(-LEEWAY_SECONDS, 10 + LEEWAY_SECONDS)
    for second in (0, 5, -60, 69, -61, 70, 0, 71, 69, 70, 69, -500, 5000, 5):
        assert check(text, policy, NOW + second).effect == ("allow" if second in good else "deny"), second


def test_only_so_many_are_remembered() -> None:
    """The one that was used last is the last to be forgotten."""
    policy = auth(cache_size=3)
    tokens = [token(jti=str(n)) for n in range(4)]
    first = check(tokens[0], policy)
    for text in tokens[1:3]:
        check(text, policy)
    assert check(tokens[0], policy) is first
    check(tokens[3], policy)
    assert check(tokens[0], policy) is first
    assert len(policy._verified) == 3


def test_bad_tokens_are_not_remembered() -> None:
    """Nobody without a good token can fill the cache, or push others out of it."""
    policy = auth(cache_size=2)
    first = check(token(), policy)
    for n in range(10):
        for bad in (token(STRANGER, jti=str(n)), token(OTHER), token(exp=1, jti=str(n)), "a.b.c", token() + "x"):
            assert check(bad, policy).effect != "allow"
    assert check(token(), policy).effect == "allow"
    assert len(policy._verified) <= 2
    assert first.effect == "allow"


def test_headers_that_differ_each_time_are_not_piled_up() -> None:
    """Some issuers put a nonce into each header."""
    policy = auth()
    for n in range(200):
        assert check(token(headers={"nonce": str(n)}), policy).effect == "allow"
    assert len(policy._headers) <= 64


def test_one_policys_answer_is_not_anothers() -> None:
    """Each has a cache of its own: what one audience, or scope, lets in does not pass with another."""
    text = token()
    assert check(text, auth()).effect == "allow"
    for stricter in (auth(audience="other"), auth(scopes=["a"]), auth(max_lifetime=1), auth(require_at_jwt=True)):
        assert check(text, stricter).effect == "deny"
