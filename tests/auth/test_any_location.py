"""AnyLocation: one gateway for clients that do not agree on where a key goes, and no second key beside the first."""

from typing import Any

import pytest

from agentgate import (
    BEARER,
    SDK_LOCATIONS,
    AnyLocation,
    APIKeyAuth,
    APIKeyMiddleware,
    ConfigurationError,
    Cookie,
    Gate,
    Header,
    JWTAuth,
    Query,
    new_key,
)
from agentgate.testing import Recorder, TokenIssuer, drive, http_scope

pytestmark = pytest.mark.anyio

GOOD, OTHER, UNKNOWN = new_key(), new_key(), new_key()
KEYS = {"alice": GOOD, "bob": OTHER}
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"
EVERYWHERE = AnyLocation(*SDK_LOCATIONS.places, Query("key"), Cookie("key"))

BEARER_GOOD = ("authorization", f"Bearer {GOOD}")
X_GOOD = ("x-api-key", GOOD)


class App:
    scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


CASES: dict[str, tuple[list[tuple[str, str]], str, int]] = {
    "no key": ([], "/", 401),
    "as OpenAI's SDK sends it": ([BEARER_GOOD], "/", 200),
    "as Anthropic's did": ([X_GOOD], "/", 200),
    "as Azure's does": ([("api-key", GOOD)], "/", 200),
    "as Google's does": ([("x-goog-api-key", GOOD)], "/", 200),
    "as Google's documentation has it": ([], f"/?key={GOOD}", 200),
    "in a cookie": ([("cookie", f"a=1; key={GOOD}")], "/", 200),
    "the same in two places": ([BEARER_GOOD, X_GOOD], "/", 200),
    "the same in all of them": (
        [BEARER_GOOD, X_GOOD, ("api-key", GOOD), ("x-goog-api-key", GOOD), ("cookie", f"key={GOOD}")],
        f"/?key={GOOD}",
        200,
    ),
    "a good one and an unknown one": ([BEARER_GOOD, ("x-api-key", UNKNOWN)], "/", 401),
    "an unknown one and a good one": ([("authorization", f"Bearer {UNKNOWN}"), X_GOOD], "/", 401),
    "two people's": ([BEARER_GOOD, ("api-key", OTHER)], "/", 401),
    "a good one and a bad one in the query": ([BEARER_GOOD], f"/?key={UNKNOWN}", 401),
    "a good one twice in the query": ([], f"/?key={GOOD}&%6bey={GOOD}", 200),
    "two in the query": ([], f"/?key={GOOD}&key={OTHER}", 401),
    "a good one and a token": ([("authorization", f"Bearer {TOKEN}"), X_GOOD], "/", 401),
    "a token alone": ([("authorization", f"Bearer {TOKEN}")], "/", 401),
    "an empty one beside a good one": ([("x-api-key", ""), BEARER_GOOD], "/", 200),
    "another scheme beside a good one": ([("authorization", "Basic YTpi"), X_GOOD], "/", 200),
    "another spelling of the same": ([("authorization", f"Bearer  {GOOD}"), X_GOOD], "/", 401),
    "a header twice": ([X_GOOD, X_GOOD], "/", 400),
    "a header nobody reads": ([("x-key", GOOD)], "/", 401),
}


@pytest.mark.parametrize(("headers", "target", "status"), CASES.values(), ids=CASES)
async def test_one_key_or_none(headers: list[tuple[str, str]], target: str, status: int) -> None:
    """What is accepted leaves nothing of a credential in any of the places; what differs is refused."""
    app, recorder = App(), Recorder()
    gate = Gate(app, authenticate=[APIKeyAuth(KEYS, location=EVERYWHERE)], observe=[recorder])
    exchange = await drive(gate, http_scope("GET", target, headers=headers))
    assert exchange.status == status
    if status == 200:
        assert recorder.last.principal is not None
        assert recorder.last.principal.id == "alice"
        names = {name for name, _ in app.scope["headers"]}
        assert not names & {b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"}
        assert GOOD.encode() not in app.scope["query_string"] + b"".join(v for _, v in app.scope["headers"])
        assert recorder.last.redacted_parameters == {"key"}
    else:
        assert app.scope is None


async def test_a_token_is_left_to_who_reads_tokens() -> None:
    issuer = TokenIssuer()
    jwt = JWTAuth(issuer=issuer.issuer, audience="api", jwks=issuer.jwks, location=SDK_LOCATIONS)
    gate = Gate(App(), authenticate=[APIKeyAuth(KEYS, location=SDK_LOCATIONS), jwt])
    exchange = await drive(gate, http_scope(headers=[("authorization", f"Bearer {TOKEN}")]))
    assert exchange.status == 401
    assert "api key" not in exchange.text
    good = [("authorization", f"Bearer {issuer.token({'aud': 'api'})}")]
    assert (await drive(gate, http_scope(headers=good))).status == 200
    assert (await drive(gate, http_scope(headers=[*good, X_GOOD]))).status == 401
    gate = Gate(App(), authenticate=[jwt, APIKeyAuth(KEYS, location=SDK_LOCATIONS)])
    assert (await drive(gate, http_scope(headers=[X_GOOD]))).status == 200


async def test_in_a_middleware() -> None:
    app = App()
    assert (
        await drive(APIKeyMiddleware(app, KEYS, location=SDK_LOCATIONS), http_scope(headers=[X_GOOD]))
    ).status == 200


def test_it_is_a_value() -> None:
    assert AnyLocation(BEARER, Header("X-API-Key")) == AnyLocation(BEARER, Header("x-api-key"))
    assert len({AnyLocation(BEARER), AnyLocation(BEARER), AnyLocation(Header("x"))}) == 2
    wrong: Any = (AnyLocation(BEARER),)
    for places in ((), wrong, ("x-api-key",)):
        with pytest.raises(ConfigurationError, match="at least one"):
            AnyLocation(*places)


def test_an_identity_header_is_no_place_for_a_key() -> None:
    auth = APIKeyAuth(KEYS, location=AnyLocation(BEARER, Header("x-mine")), identity_headers={"x-mine": "group"})
    with pytest.raises(ConfigurationError, match="a credential is read there"):
        Gate(App(), authenticate=[auth])
