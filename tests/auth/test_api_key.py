"""APIKeyAuth: who is asking, by a key; every mode, every place, and the exact words."""

from datetime import UTC, datetime
from typing import Any

import pytest

from agentgate import (
    BEARER,
    APIKeyAuth,
    Authenticator,
    Cookie,
    Decision,
    Gate,
    Header,
    Key,
    Principal,
    Query,
    Request,
    StaticKeys,
    abstain,
    allow,
)
from agentgate.auth.location import Location
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

GOOD = "agk_Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OQ"
EXPIRED = "agk_ZXhwaXJlZGV4cGlyZWQwMTIzNDU2Nzg5"
EARLY = "agk_dG9vZWFybHl0b29lYXJseTAxMjM0NTY3"
UNKNOWN = "agk_dW5rbm93bnVua25vd24wMTIzNDU2Nzg5"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"

KEYS = StaticKeys(
    [
        Key("alice", GOOD, {"team": "ops"}),
        Key("old", EXPIRED, not_after=datetime(2020, 1, 1, tzinfo=UTC)),
        Key("new", EARLY, not_before=datetime(2999, 1, 1, tzinfo=UTC)),
    ]
)
NOT_FOUND = "api key authentication failure: no API Key found"
INVALID = "api key authentication failure: invalid credentials"

PLACES: dict[str, Location] = {
    "bearer": BEARER,
    "header": Header("x-api-key"),
    "query": Query("api_key"),
    "cookie": Cookie("session"),
}


def ask_with(place: str, credential: str | None) -> dict[str, Any]:
    """A request that carries the credential in that place, beside another header, cookie and parameter."""
    headers, target = {"accept": "*/*", "cookie": "theme=dark"}, "/?page=1"
    if credential is not None:
        match place:
            case "bearer":
                headers["authorization"] = f"Bearer {credential}"
            case "header":
                headers["x-api-key"] = credential
            case "query":
                target += f"&api_key={credential}"
            case "cookie":
                headers["cookie"] += f"; session={credential}"
    return http_scope("GET", target, headers=headers)


class App:
    """Counts its calls, and keeps the last scope."""

    calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


CREDENTIALS = {
    "no key": None,
    "a good key": GOOD,
    "an unknown key": UNKNOWN,
    "an expired key": EXPIRED,
    "an early key": EARLY,
}


@pytest.mark.parametrize(
    ("mode", "credential", "status", "body"),
    [
        ("strict", "no key", 401, NOT_FOUND),
        ("strict", "a good key", 200, "ok"),
        ("strict", "an unknown key", 401, INVALID),
        ("strict", "an expired key", 401, INVALID),
        ("strict", "an early key", 401, INVALID),
        ("optional", "no key", 200, "ok"),
        ("optional", "a good key", 200, "ok"),
        ("optional", "an unknown key", 401, INVALID),
        ("optional", "an expired key", 401, INVALID),
        ("optional", "an early key", 401, INVALID),
        ("permissive", "no key", 200, "ok"),
        ("permissive", "a good key", 200, "ok"),
        ("permissive", "an unknown key", 200, "ok"),
        ("permissive", "an expired key", 200, "ok"),
        ("permissive", "an early key", 200, "ok"),
    ],
)
@pytest.mark.parametrize("place", PLACES)
async def test_modes(mode: Any, credential: str, status: int, body: str, place: str) -> None:
    """Every mode meets every credential in every place, with agentgateway's words and a challenge."""
    app, recorder = App(), Recorder()
    gate = Gate(app, authenticate=[APIKeyAuth(KEYS, location=PLACES[place])], mode=mode, observe=[recorder])
    exchange = await drive(gate, ask_with(place, CREDENTIALS[credential]))
    assert (exchange.status, exchange.text, app.calls) == (status, body, 1 if status == 200 else 0)
    principal = recorder.last.principal
    if credential == "a good key":
        assert principal == Principal("alice", "apiKey", {"team": "ops"})
        assert recorder.last.view.api_key == {"team": "ops"}
    else:
        assert principal is None
    if status == 401:
        assert exchange.headers == {
            "www-authenticate": "Bearer",
            "content-type": "text/plain",
            "content-length": str(len(body)),
        }
        assert (recorder.last.error, recorder.last.reason) == (body, "APIKeyAuth")


@pytest.mark.parametrize("place", PLACES)
async def test_an_accepted_credential_is_removed(place: str) -> None:
    """The app sees no trace of the key, and everything else as it was sent."""
    app = App()
    gate = Gate(app, authenticate=[APIKeyAuth(KEYS, location=PLACES[place])])
    assert (await drive(gate, ask_with(place, GOOD))).status == 200
    seen = {name: app.scope[name] for name in ("headers", "query_string", "raw_path", "path")}
    assert GOOD not in repr(seen)
    expected = ask_with(place, None)
    assert seen == {name: expected[name] for name in seen}


@pytest.mark.parametrize("place", PLACES)
async def test_a_credential_that_was_not_accepted_goes_on(place: str) -> None:
    """In permissive mode, a bad credential is somebody else's business: it stays where it is."""
    app = App()
    gate = Gate(app, authenticate=[APIKeyAuth(KEYS, location=PLACES[place])], mode="permissive")
    scope = ask_with(place, UNKNOWN)
    assert (await drive(gate, scope)).status == 200
    assert (app.scope["headers"], app.scope["query_string"]) == (scope["headers"], scope["query_string"])


@pytest.mark.parametrize(("place", "other"), [(place, other) for place in PLACES for other in PLACES if place != other])
async def test_a_key_in_another_place_is_no_key(place: str, other: str) -> None:
    """A key is read where it was said, and nowhere else."""
    gate = Gate(App(), authenticate=[APIKeyAuth(KEYS, location=PLACES[place])])
    exchange = await drive(gate, ask_with(other, GOOD))
    assert (exchange.status, exchange.text) == (401, NOT_FOUND)


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        (b"", NOT_FOUND),
        (b"Bearer", NOT_FOUND),
        (b"Bearer ", NOT_FOUND),
        (GOOD.encode(), NOT_FOUND),
        (b"Basic " + GOOD.encode(), NOT_FOUND),
        (b"Token " + GOOD.encode(), NOT_FOUND),
        (b"Bearer\t" + GOOD.encode(), NOT_FOUND),
        (b" Bearer " + GOOD.encode(), NOT_FOUND),
        (b"Bearer  " + GOOD.encode(), INVALID),
        (b"Bearer " + GOOD.encode() + b" ", INVALID),
        (b"Bearer " + GOOD.encode() + b"\t", INVALID),
        (b"Bearer \xa0" + GOOD.encode(), INVALID),
        (b"Bearer " + GOOD.encode() + b"\x85", INVALID),
        (b"Bearer " + GOOD.encode() + b"=", INVALID),
        (b"Bearer " + GOOD.encode()[:-1], INVALID),
        (b"Bearer " + GOOD.upper().encode(), INVALID),
        (b"Bearer " + GOOD.encode() + b", Bearer " + GOOD.encode(), INVALID),
        (b'Bearer "' + GOOD.encode() + b'"', INVALID),
        (b"Bearer sha256:" + b"0" * 64, INVALID),
        (b"Bearer schl\xfcssel", INVALID),
        (b"Bearer ' OR 1=1 --", INVALID),
        (b"Bearer " + b"k" * 4096, INVALID),
        (b"Bearer " + b"k" * 4097, INVALID),
    ],
)
async def test_almost_a_key_is_no_key(authorization: bytes, message: str) -> None:
    """A key matches exactly, byte for byte, after one blank; nothing is trimmed, folded or tried twice."""
    app = App()
    gate = Gate(app, authenticate=[APIKeyAuth(KEYS)])
    exchange = await drive(gate, http_scope(headers=[(b"host", b"a"), (b"authorization", authorization)]))
    assert (exchange.status, exchange.text, app.calls) == (401, message, 0)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    """RFC 9110: an authentication scheme has no case."""
    gate = Gate(App(), authenticate=[APIKeyAuth(KEYS)])
    assert (await drive(gate, http_scope(headers={"authorization": f"{scheme} {GOOD}"}))).status == 200


async def test_a_hash_is_not_a_key() -> None:
    """Who has read the configuration has no key: a digest does not open what it stands for."""
    written = f"sha256:{'ab' * 32}"
    gate = Gate(App(), authenticate=[APIKeyAuth({"alice": written})])
    assert (await drive(gate, http_scope(headers={"authorization": f"Bearer {written}"}))).status == 401


@pytest.mark.parametrize("mode", ["strict", "optional"])
@pytest.mark.parametrize("place", ["query", "cookie"])
async def test_two_credentials_are_refused(place: str, mode: Any) -> None:
    """Two keys in one request are refused, even two good ones: a reader may take the other."""
    app = App()
    scope = ask_with(place, GOOD)
    if place == "query":
        scope["query_string"] += f"&%61pi_key={GOOD}".encode()
    else:
        scope["headers"].append((b"cookie", f"session={GOOD}".encode()))
    gate = Gate(app, authenticate=[APIKeyAuth(KEYS, location=PLACES[place])], mode=mode)
    exchange = await drive(gate, scope)
    assert (exchange.status, exchange.text, app.calls) == (401, INVALID, 0)


@pytest.mark.parametrize(
    ("credential", "detail"),
    [
        (UNKNOWN, "unknown key"),
        (EXPIRED, "the key of old has expired"),
        (EARLY, "the key of new is not good yet"),
        ("two words", "not in the form of a key"),
        ("k" * 5000, "not in the form of a key"),
    ],
)
async def test_the_operator_is_told_what_the_client_is_not(credential: str, detail: str) -> None:
    """Every bad key gets the same answer; the log says what was wrong, and never the key."""
    policy = APIKeyAuth(KEYS)
    decision = policy.check(Request.http(headers={"authorization": f"Bearer {credential}"}))
    assert (decision.message, decision.status, decision.detail) == (INVALID, 401, detail)
    assert decision.code == "invalid_credential"
    assert credential not in repr(decision)


async def test_several_credentials_are_told_to_the_operator() -> None:
    """Several bearer tokens are refused where no edge stood before."""
    request = Request(http_scope(headers=[("authorization", f"Bearer {GOOD}")] * 2))
    decision = APIKeyAuth(KEYS).check(request)
    assert (decision.effect, decision.detail) == ("deny", "several credentials")


async def test_now_is_the_requests() -> None:
    """Whether a key has expired is asked of the request's own clock."""
    policy = APIKeyAuth(KEYS)
    headers = {"authorization": f"Bearer {EXPIRED}"}
    assert policy.check(Request.http(headers=headers, now=0.0)).effect == "allow"
    assert policy.check(Request.http(headers=headers, now=1_900_000_000.0)).effect == "deny"


# -- with others -----------------------------------------------------------------------------------------------------


class Tokens(Authenticator):
    """Recognises one token, and nothing else."""

    location = BEARER

    def __init__(self, token: str) -> None:
        self.token = token.encode()

    def check(self, request: Request) -> Decision:
        found = self.location.find(request)
        if not found:
            return abstain("no token")
        return allow(Principal("alice", "jwt")) if found == [self.token] else abstain("not a token", code="other")


@pytest.mark.parametrize(
    ("authenticators", "mode", "status", "body"),
    [
        ([APIKeyAuth(KEYS)], "strict", 401, INVALID),
        ([APIKeyAuth(KEYS)], "optional", 401, INVALID),
        ([APIKeyAuth(KEYS)], "permissive", 200, "ok"),
        ([APIKeyAuth(KEYS), Tokens(JWT)], "strict", 200, "ok"),
        ([Tokens(JWT), APIKeyAuth(KEYS)], "strict", 200, "ok"),
        ([APIKeyAuth(KEYS), Tokens("other")], "strict", 401, INVALID),
        ([APIKeyAuth(KEYS), Tokens("other")], "optional", 401, INVALID),
        ([APIKeyAuth([JWT], location=Header("x-api-key"))], "strict", 401, NOT_FOUND),
        ([APIKeyAuth([JWT])], "strict", 200, "ok"),
    ],
)
async def test_a_token_is_left_to_others_and_is_never_anonymous(
    authenticators: list[Authenticator], mode: Any, status: int, body: str
) -> None:
    """A bearer token in the shape of a JWT is offered to every authenticator; if nobody takes it, it was bad."""
    gate = Gate(App(), authenticate=authenticators, mode=mode)
    exchange = await drive(gate, http_scope(headers={"authorization": f"Bearer {JWT}"}))
    assert (exchange.status, exchange.text) == (status, body)


@pytest.mark.parametrize("credential", ["a.b", "a.b.c.d", "a..c", ".b.c", "a.b.", "a.b.c=", f"{GOOD}"[:-1]])
async def test_only_the_shape_of_a_jwt_is_a_jwt(credential: str) -> None:
    """Three parts of base64url are a JWT; anything else is a bad key at once, and nobody else is asked."""
    gate = Gate(App(), authenticate=[APIKeyAuth(KEYS), Tokens(credential)])
    assert (await drive(gate, http_scope(headers={"authorization": f"Bearer {credential}"}))).status == 401


async def test_a_jwt_in_another_place_is_a_bad_key() -> None:
    """Only bearer tokens are shared with others: in a header of its own, anything but a key is a bad key."""
    decision = APIKeyAuth(KEYS, location=Header("x-api-key")).check(Request.http(headers={"x-api-key": JWT}))
    assert (decision.effect, decision.detail) == ("deny", "unknown key")


async def test_the_first_who_recognises_a_credential_answers() -> None:
    """A bad key is a no, whatever the next authenticator would say."""
    gate = Gate(App(), authenticate=[APIKeyAuth(KEYS), APIKeyAuth([UNKNOWN])])
    scope = http_scope(headers={"authorization": f"Bearer {UNKNOWN}"})
    assert (await drive(gate, scope)).status == 401
    two_places = Gate(App(), authenticate=[APIKeyAuth(KEYS), APIKeyAuth([UNKNOWN], location=Header("x-api-key"))])
    assert (await drive(two_places, http_scope(headers={"x-api-key": UNKNOWN}))).status == 200


class Revocable(APIKeyAuth):
    """Asks somebody else, too, before a key counts."""

    async def prepare(self, request: Request) -> None:
        await super().prepare(request)
        raise ConnectionError("the revocation list is away")


async def test_a_subclass_is_prepared() -> None:
    """A subclass that waits for something is waited for, even where its keys never change."""
    app = App()
    exchange = await drive(Gate(app, authenticate=[Revocable(KEYS)]), ask_with("bearer", GOOD))
    assert (exchange.status, exchange.text, app.calls) == (500, "internal error", 0)


class BrokenKeys:
    """A key store that cannot answer."""

    def __init__(self, *, refreshes: bool) -> None:
        self.refreshes = refreshes

    def find(self, digest: bytes) -> Key | None:
        raise ConnectionError("hunter2")

    async def refresh(self) -> None:
        raise ConnectionError("hunter2")


@pytest.mark.parametrize("refreshes", [True, False])
@pytest.mark.parametrize("mode", ["strict", "optional", "permissive"])
async def test_a_key_store_that_fails_lets_nobody_in(mode: Any, refreshes: bool) -> None:
    """When keys cannot be looked up, a caller with a key is refused in every mode, and told nothing."""
    app = App()
    gate = Gate(app, authenticate=[APIKeyAuth(BrokenKeys(refreshes=refreshes))], mode=mode)
    exchange = await drive(gate, ask_with("bearer", GOOD))
    assert (exchange.status, exchange.text, app.calls) == (500, "internal error", 0)


async def test_it_says_what_it_is() -> None:
    """The repr tells how many keys, and where they are read."""
    assert (
        repr(APIKeyAuth(KEYS))
        == "APIKeyAuth(StaticKeys(3 keys), location=Header(name='authorization', prefix='Bearer '))"
    )
