"""RemoteJWKS: keys fetched when they are needed, renewed behind the requests, and kept through an outage; never more
than the provider can bear, and never what it should not have published."""

import asyncio
import gc
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgate import ConfigurationError, Gate, JWTAuth, RemoteJWKS, Request
from agentgate.auth import remote_jwks
from agentgate.auth.remote_jwks import (
    ABSENT_SECONDS,
    COOL_DOWN_SECONDS,
    DEFAULT_MAX_AGE,
    EARLY,
    LEAST_MAX_AGE,
    MAX_ABSENT,
    MOST_MAX_AGE,
    STALE_SECONDS,
)
from agentgate.testing import TokenIssuer, drive, http_scope

pytestmark = pytest.mark.anyio

URL: Final = "https://issuer.example/jwks.json"
ISSUER: Final = TokenIssuer(kid="first")
SECOND: Final = TokenIssuer(kid="second")
NO_KEYS: Final = "authentication failure: the keys of the issuer are not available"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Provider:
    """Publishes keys, counts who asks, and can be held back or broken."""

    def __init__(self, *issuers: TokenIssuer) -> None:
        self.issuers = issuers
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.broken: Callable[[], Any] | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.clock = Clock()
        self.requests: list[httpx.Request] = []

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        self.requests.append(request)
        await self.open.wait()
        if self.broken is not None:
            answer = self.broken()
            assert isinstance(answer, httpx.Response)
            return answer
        return httpx.Response(200, headers=self.headers, json=self.document(request))

    def document(self, request: httpx.Request) -> Any:
        return {"keys": [issuer.jwks["keys"][0] for issuer in self.issuers]}

    def store(self) -> RemoteJWKS:
        return RemoteJWKS(URL, transport=self.transport, clock=self.clock)

    def policy(self, **options: Any) -> JWTAuth:
        return JWTAuth(issuer=ISSUER.issuer, audience="api", jwks=self.store(), **options)


def down() -> httpx.Response:
    raise httpx.ConnectError("refused")


def request(token: str | None) -> Request:
    return Request.http(headers={} if token is None else {"authorization": f"Bearer {token}"})


def token(issuer: TokenIssuer = ISSUER, **headers: Any) -> str:
    return issuer.token({"aud": "api", "sub": "alice"}, **headers)


async def ask(policy: JWTAuth, text: str | None = None) -> Any:
    """What a Gate does with a policy."""
    asked = request(token() if text is None else text)
    await policy.prepare(asked)
    return policy.check(asked)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


# -- when keys are fetched -------------------------------------------------------------------------------------------


async def test_nothing_is_fetched_before_a_token_needs_it() -> None:
    """Building fetches nothing, and neither does a request without a token of this issuer."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    foreign = TokenIssuer("https://other.example").token({"aud": "api"})
    for text in (None, "agk_key", "a.b.c", foreign, "x" * 9000):
        asked = request(text)
        await policy.prepare(asked)
        assert policy.check(asked).effect != "allow"
    assert (provider.asked, policy.jwks.keys) == ([], None)
    assert (await ask(policy)).effect == "allow"
    assert provider.asked == [URL]


async def test_it_asks_plainly() -> None:
    """One GET, for JSON that is not compressed, without cookies or credentials."""
    provider = Provider(ISSUER)
    await ask(provider.policy())
    (asked,) = provider.requests
    assert asked.method == "GET"
    assert (asked.headers["accept"], asked.headers["accept-encoding"]) == ("application/json", "identity")
    assert not {"cookie", "authorization"} & set(asked.headers)


async def test_a_thousand_requests_make_one_fetch() -> None:
    """While one fetch runs, everybody waits for it."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    provider.open.clear()
    waiting = [asyncio.create_task(ask(policy)) for _ in range(1000)]
    await settle()
    assert not any(task.done() for task in waiting)
    provider.open.set()
    assert {decision.effect for decision in await asyncio.gather(*waiting)} == {"allow"}
    assert len(provider.asked) == 1


async def test_keys_are_renewed_behind_the_requests() -> None:
    """Shortly before they are too old, one request starts a fetch, and none waits for it."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    await ask(policy)
    provider.clock.now += DEFAULT_MAX_AGE * EARLY - 1
    await ask(policy)
    assert len(provider.asked) == 1
    provider.clock.now += 1
    provider.open.clear()
    for _ in range(3):
        assert (await ask(policy)).effect == "allow"
    await settle()
    assert len(provider.asked) == 2
    provider.open.set()
    await settle()
    provider.clock.now += DEFAULT_MAX_AGE * EARLY - 1
    await ask(policy)
    assert len(provider.asked) == 2


async def test_keys_past_their_age_are_asked_for_first() -> None:
    """After a quiet time, a request waits for the keys of today: one that was taken back is not used again."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    assert (await ask(policy)).effect == "allow"
    provider.issuers = (SECOND,)
    provider.clock.now += DEFAULT_MAX_AGE
    assert (await ask(policy)).effect == "deny"


async def test_a_fetch_that_brings_the_same_changes_nothing() -> None:
    """Keys that did not change stay the same object, and tokens verified with them stay verified."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    await ask(policy)
    keys = policy.jwks.keys
    provider.clock.now += DEFAULT_MAX_AGE
    await ask(policy)
    assert len(provider.asked) == 2
    assert policy.jwks.keys is keys


@pytest.mark.parametrize(
    ("cache_control", "age"),
    [
        (None, DEFAULT_MAX_AGE),
        ("", DEFAULT_MAX_AGE),
        ("public", DEFAULT_MAX_AGE),
        ("max-age=600", 600),
        ("public, max-age=600, must-revalidate", 600),
        ("MAX-AGE=600", 600),
        ("s-maxage=600", DEFAULT_MAX_AGE),
        ("max-age=0", LEAST_MAX_AGE),
        ("max-age=59", LEAST_MAX_AGE),
        ("max-age=86400", MOST_MAX_AGE),
        ("max-age=99999999999999999999", DEFAULT_MAX_AGE),
        ("max-age=-5", DEFAULT_MAX_AGE),
        ("max-age=x", DEFAULT_MAX_AGE),
        ("no-store", LEAST_MAX_AGE),
        ("no-cache, max-age=3600", LEAST_MAX_AGE),
    ],
)
async def test_the_age_that_the_provider_says(cache_control: str | None, age: float) -> None:
    """`Cache-Control: max-age` counts, within bounds."""
    provider = Provider(ISSUER)
    provider.headers = {} if cache_control is None else {"cache-control": cache_control}
    policy = provider.policy()
    await ask(policy)
    provider.clock.now += age * EARLY - 0.01
    await ask(policy)
    await settle()
    assert len(provider.asked) == 1
    provider.clock.now += 0.02
    await ask(policy)
    await settle()
    assert len(provider.asked) == 2


@pytest.mark.parametrize("age", [60.0, 86400.0])
async def test_the_age_that_the_operator_says(age: float) -> None:
    """It counts as it is, whatever the provider says."""
    provider = Provider(ISSUER)
    provider.headers = {"cache-control": "max-age=600"}
    store = RemoteJWKS(URL, max_age=age, transport=provider.transport, clock=provider.clock)
    policy = JWTAuth(issuer=ISSUER.issuer, audience="api", jwks=store)
    await ask(policy)
    provider.clock.now += age * EARLY - 0.01
    await ask(policy)
    await settle()
    assert len(provider.asked) == 1
    provider.clock.now += 0.02
    await ask(policy)
    await settle()
    assert len(provider.asked) == 2


@pytest.mark.parametrize("age", [0, -1, 59.9, float("nan")])
def test_an_age_that_would_ask_all_the_time(age: float) -> None:
    for make in (RemoteJWKS, RemoteJWKS.discover):
        with pytest.raises(ConfigurationError, match="max_age is at least 60 seconds"):
            make(URL, max_age=age)


# -- keys that are new -----------------------------------------------------------------------------------------------


async def test_a_new_key_is_fetched_when_a_token_names_it() -> None:
    """Keys are rotated without a refused request, once the pause after the last fetch is over."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    await ask(policy)
    provider.issuers = (ISSUER, SECOND)
    assert "unknown key" in (await ask(policy, token(SECOND))).message
    provider.clock.now += COOL_DOWN_SECONDS
    assert (await ask(policy, token(SECOND))).effect == "allow"
    assert (await ask(policy, token(ISSUER))).effect == "allow"
    assert len(provider.asked) == 2


async def test_a_stampede_of_unknown_kids_makes_one_fetch_per_pause() -> None:
    """A thousand tokens with kids that nobody knows: one fetch, and the next after the pause."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    for n in range(4):
        before = len(provider.asked)
        stampede = [ask(policy, token(kid=f"kid-{n}-{k}")) for k in range(1000)]
        assert {decision.status for decision in await asyncio.gather(*stampede)} == {401}
        assert len(provider.asked) == before + 1
        provider.clock.now += COOL_DOWN_SECONDS - 0.01
        await ask(policy, token(kid="another"))
        assert len(provider.asked) == before + 1
        provider.clock.now += 0.01
        assert (await ask(policy)).effect == "allow"


async def test_a_kid_that_is_nowhere_is_not_asked_for_again_and_again() -> None:
    """One client with an old token does not make a fetch after each pause."""
    provider = Provider(ISSUER)
    provider.headers = {"cache-control": "max-age=3600"}
    policy = provider.policy()
    await ask(policy)
    provider.clock.now += COOL_DOWN_SECONDS
    await ask(policy, token(kid="old"))
    assert len(provider.asked) == 2
    provider.clock.now += ABSENT_SECONDS - 0.01
    await ask(policy, token(kid="old"))
    assert len(provider.asked) == 2
    provider.clock.now += 0.02
    await ask(policy, token(kid="old"))
    assert len(provider.asked) == 3


async def test_what_is_remembered_of_unknown_kids_is_bounded() -> None:
    provider = Provider(ISSUER)
    store = provider.store()
    await store.refresh("first")
    provider.clock.now += COOL_DOWN_SECONDS
    await asyncio.gather(*(store.refresh(f"kid-{n}") for n in range(1000)))
    assert len(store._absent) == MAX_ABSENT


async def test_requests_with_known_keys_do_not_wait_for_the_others() -> None:
    """While somebody's unknown kid is looked for, everybody else goes on."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    await ask(policy)
    provider.clock.now += COOL_DOWN_SECONDS
    provider.open.clear()
    looking = asyncio.create_task(ask(policy, token(kid="new")))
    await settle()
    assert not looking.done()
    assert (await ask(policy)).effect == "allow"
    provider.open.set()
    assert (await looking).effect == "deny"


@pytest.mark.parametrize("kid", [None, "whatever"])
async def test_a_token_without_kid_fetches_nothing_more(kid: str | None) -> None:
    """Other keys would be no help to it; and a set of one nameless key is asked about every kid."""
    nameless = TokenIssuer(kid=None)
    provider = Provider(nameless)
    policy = provider.policy()
    for _ in range(3):
        assert (await ask(policy, token(nameless, kid=kid))).effect == "allow"
        provider.clock.now += COOL_DOWN_SECONDS
    assert len(provider.asked) == 1


async def test_a_key_that_was_taken_back_is_no_longer_used() -> None:
    """Not for a token that was verified before, either."""
    provider = Provider(ISSUER, SECOND)
    policy = provider.policy()
    kept, text = token(SECOND), token()
    assert (await ask(policy, text)).effect == "allow"
    assert (await ask(policy, kept)).effect == "allow"
    provider.issuers = (SECOND,)
    provider.clock.now += DEFAULT_MAX_AGE * EARLY
    await ask(policy, kept)
    await settle()
    assert "unknown key" in (await ask(policy, text)).message
    assert (await ask(policy, kept)).effect == "allow"


async def test_a_key_that_was_replaced_under_its_name_is_no_longer_used() -> None:
    """The same kid, another key: what the old one signed does not count any more, verified or not."""
    other = TokenIssuer(kid="first")
    provider = Provider(ISSUER)
    policy = provider.policy()
    text = token()
    assert (await ask(policy, text)).effect == "allow"
    provider.issuers = (other,)
    provider.clock.now += DEFAULT_MAX_AGE
    assert "InvalidSignature" in (await ask(policy, text)).message
    assert (await ask(policy, token(other))).effect == "allow"


async def test_a_provider_that_publishes_no_key_any_more_is_believed(caplog: pytest.LogCaptureFixture) -> None:
    """An empty set is an answer: nobody is let in on the keys from before."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    await ask(policy)
    provider.issuers = ()
    provider.clock.now += DEFAULT_MAX_AGE
    assert (await ask(policy)).status == 401
    assert "0 usable keys" in caplog.text


# -- providers that fail ---------------------------------------------------------------------------------------------

HUGE: Final = b'{"keys": [' + b" " * (1024 * 1024) + b"]}"


def answering(status: int = 200, content: bytes = b"", **headers: str) -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(status, content=content, headers={k.replace("_", "-"): v for k, v in headers.items()})


def raising(error: Exception) -> Callable[[], httpx.Response]:
    def raise_it() -> httpx.Response:
        raise error

    return raise_it


def endless() -> httpx.Response:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    return httpx.Response(200, content=chunks())


PUBLIC: Final = json.dumps(ISSUER.jwks).encode()
PRIVATE: Final = json.dumps({"keys": [{**ISSUER.jwks["keys"][0], "d": "canary"}]}).encode()
SYMMETRIC: Final = json.dumps(TokenIssuer(algorithm="HS256", kid="first").jwks).encode()

BROKEN: Final[dict[str, Callable[[], httpx.Response]]] = {
    "refused": down,
    "reset": raising(httpx.ReadError("canary")),
    "no name": raising(OSError("canary")),
    "an error": raising(ValueError("canary")),
    "500": answering(500, PUBLIC),
    "404": answering(404, PUBLIC),
    "204": answering(204),
    "401": answering(401, PUBLIC),
    "a redirect": answering(302, PUBLIC, location="https://evil.example/jwks.json"),
    "a permanent redirect": answering(308, PUBLIC, location=URL),
    "HTML": answering(200, b"<html>canary</html>", content_type="text/html"),
    "nothing": answering(200, b""),
    "half of it": answering(200, PUBLIC[:-10]),
    "a list": answering(200, b"[]"),
    "another object": answering(200, b'{"issuer": "canary"}'),
    "a member twice": answering(200, PUBLIC[:-1] + b"," + PUBLIC[1:]),
    "UTF-16": answering(200, PUBLIC.decode().encode("utf-16")),
    "too much": answering(200, HUGE),
    "no end": endless,
    "compressed": answering(200, PUBLIC, content_encoding="x-canary"),
    "a private key": answering(200, PRIVATE),
    "a symmetric key": answering(200, SYMMETRIC),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_cold_start_without_the_provider(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A token that nobody can verify is a 503, at once while the pause lasts; and it mends by itself."""
    caplog.set_level(logging.DEBUG)
    provider = Provider(ISSUER)
    provider.broken = BROKEN[name]
    policy = provider.policy()
    for _ in range(3):
        decision = await ask(policy)
        assert (decision.status, decision.code, decision.message) == (503, "keys_unavailable", NO_KEYS)
    assert len(provider.asked) == 1
    assert "keys not fetched" in caplog.text
    assert "canary" not in caplog.text
    assert "evil" not in str(provider.asked)
    provider.broken = None
    provider.clock.now += 2.0
    assert (await ask(policy)).effect == "allow"
    assert len(provider.asked) == 2


@pytest.mark.parametrize("name", BROKEN)
async def test_an_outage_of_an_hour_loses_no_request(name: str) -> None:
    """Keys that cannot be renewed are used for an hour more, with one try per pause; then no longer."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    await ask(policy)
    started, end = provider.clock.now, provider.clock.now + DEFAULT_MAX_AGE + STALE_SECONDS
    provider.broken = BROKEN["refused"] if name == "no end" else BROKEN[name]  # a MiB each time takes long
    while provider.clock.now + 7 < end:
        provider.clock.now += 7
        assert (await ask(policy)).effect == "allow"
        await settle()
    tries = len(provider.asked) - 1
    assert tries <= (end - started) / COOL_DOWN_SECONDS
    assert tries >= (end - started) / (COOL_DOWN_SECONDS + 7) - DEFAULT_MAX_AGE / COOL_DOWN_SECONDS
    provider.clock.now = end
    assert (await ask(policy)).status == 503
    provider.broken = None
    provider.clock.now += COOL_DOWN_SECONDS
    assert (await ask(policy)).effect == "allow"


async def test_pauses_grow_while_there_are_no_keys() -> None:
    """2, 4, 8, 16 and then 30 seconds; the provider is not run down, and not kept waiting for long."""
    provider = Provider(ISSUER)
    provider.broken = down
    policy = provider.policy()
    for tried, pause in enumerate([2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0], 1):
        await ask(policy)
        assert len(provider.asked) == tried
        provider.clock.now += pause - 0.01
        await ask(policy)
        assert len(provider.asked) == tried
        provider.clock.now += 0.01


async def test_after_an_outage_that_nobody_saw_one_request_waits() -> None:
    """Once keys are past their age, the first request finds out that the provider is away; the others go on."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    await ask(policy)
    provider.clock.now += DEFAULT_MAX_AGE + 1
    provider.broken = down
    assert (await ask(policy)).effect == "allow"
    provider.clock.now += COOL_DOWN_SECONDS
    provider.open.clear()
    second = asyncio.create_task(ask(policy))
    await settle()
    assert second.done()  # though a fetch hangs
    assert second.result().effect == "allow"
    provider.open.set()
    await settle()


async def test_an_outage_that_is_over_is_forgotten() -> None:
    """After it, keys past their age are asked for first again, and pauses begin anew."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    provider.broken = down
    await ask(policy)
    provider.broken = None
    provider.clock.now += 2
    assert (await ask(policy)).effect == "allow"
    provider.issuers = (SECOND,)
    provider.clock.now += DEFAULT_MAX_AGE
    assert (await ask(policy)).effect == "deny"


async def test_a_provider_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer than for the time that a fetch may take."""
    monkeypatch.setattr(remote_jwks, "FETCH_SECONDS", 0.01)
    provider = Provider(ISSUER)
    provider.open.clear()
    policy = provider.policy()
    assert (await ask(policy)).status == 503
    assert (await ask(policy)).status == 503
    assert len(provider.asked) == 1


async def test_a_provider_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time counts for the whole document, not for each of its bytes."""
    monkeypatch.setattr(remote_jwks, "FETCH_SECONDS", 0.05)

    async def drips() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.001)

    provider = Provider(ISSUER)
    provider.broken = lambda: httpx.Response(200, content=drips())
    assert (await ask(provider.policy())).status == 503


async def test_a_fault_in_one_key_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Keys that are left out are told when the set has changed, and not with every fetch."""
    provider = Provider(ISSUER, TokenIssuer(kid="first"))
    policy = provider.policy()
    assert (await ask(policy)).status == 401
    provider.clock.now += DEFAULT_MAX_AGE
    await ask(policy)
    assert len(provider.asked) == 2
    assert caplog.text.count("another key has the same kid") == 2  # one line for each of the two


async def test_over_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """With httpx's own transport, and no proxy that the environment names."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(PUBLIC), PUBLIC))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        policy = JWTAuth(issuer=ISSUER.issuer, audience="api", jwks=f"http://127.0.0.1:{port}/jwks")
        assert (await ask(policy)).effect == "allow"
    assert len(asked) == 1
    assert asked[0].startswith(b"GET /jwks HTTP/1.1\r\n")


# -- tasks and loops -------------------------------------------------------------------------------------------------


async def test_a_request_that_is_cancelled_leaves_the_fetch_to_the_others() -> None:
    """Who started the fetch does not matter: it goes on, and there is still one."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    provider.open.clear()
    first = asyncio.create_task(ask(policy))
    await settle()
    second = asyncio.create_task(ask(policy))
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert not second.done()
    provider.open.set()
    assert (await second).effect == "allow"
    assert len(provider.asked) == 1


async def test_a_fetch_goes_on_when_all_who_wait_are_gone() -> None:
    provider = Provider(ISSUER)
    policy = provider.policy()
    provider.open.clear()
    only = asyncio.create_task(ask(policy))
    await settle()
    only.cancel()
    await settle()
    gc.collect()  # nobody but the store holds the task now
    provider.open.set()
    await settle()
    assert policy.jwks.keys is not None
    assert len(provider.asked) == 1


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def outer() -> Any:
        return await main()

    return asyncio.run(outer())


def test_every_event_loop_can_use_the_same_store() -> None:
    """Keys fetched in one loop serve in the next, and a fetch that died with its loop is begun again."""
    provider = Provider(ISSUER)
    policy = provider.policy()

    async def left_hanging() -> None:
        provider.open = asyncio.Event()
        task = asyncio.create_task(ask(policy))
        await settle()
        assert provider.asked == [URL]
        assert not task.done()

    async def used() -> Any:
        provider.open = asyncio.Event()
        provider.open.set()
        return (await ask(policy)).effect

    run(left_hanging)
    assert run(used) == "allow"
    assert run(used) == "allow"
    assert len(provider.asked) == 2
    provider.clock.now += DEFAULT_MAX_AGE
    assert run(used) == "allow"
    assert len(provider.asked) == 3


def test_a_loop_that_stands_still_does_not_hold_up_another() -> None:
    """Its fetch is nobody else's: another loop makes one of its own."""
    provider = Provider(ISSUER)
    policy = provider.policy()

    async def left_hanging() -> asyncio.Task[Any]:
        provider.open = asyncio.Event()
        task = asyncio.create_task(ask(policy))
        await settle()
        assert provider.asked == [URL]
        return task

    async def used() -> Any:
        provider.open = asyncio.Event()
        provider.open.set()
        return (await ask(policy)).effect

    async def ended(task: asyncio.Task[Any]) -> None:
        for pending in asyncio.all_tasks() - {asyncio.current_task()}:
            pending.cancel()
        await asyncio.gather(task, return_exceptions=True)

    first = asyncio.new_event_loop()
    try:
        task = first.run_until_complete(left_hanging())
        assert run(used) == "allow"
        first.run_until_complete(ended(task))
    finally:
        first.close()


async def test_no_task_is_left() -> None:
    """Renewals end, and leave nothing behind."""
    provider = Provider(ISSUER)
    policy = provider.policy()
    before = asyncio.all_tasks()
    for _ in range(20):
        await ask(policy)
        provider.clock.now += DEFAULT_MAX_AGE
    await settle()
    assert asyncio.all_tasks() == before


async def test_behind_a_gate() -> None:
    """The Gate prepares the policy, and a failing provider reaches the client as 503 in every mode."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    modes: tuple[Any, ...] = ("strict", "optional", "permissive")
    for mode in modes:
        provider = Provider(ISSUER)
        gate = Gate(app, authenticate=[provider.policy()], mode=mode)
        provider.broken = down
        scope = http_scope(headers={"authorization": f"Bearer {token()}"})
        exchange = await drive(gate, scope)
        assert (exchange.status, exchange.text) == (503, NO_KEYS)
        assert "www-authenticate" not in exchange.headers
        provider.broken = None
        provider.clock.now += 2
        assert (await drive(gate, scope)).status == 200


async def test_what_it_holds_is_what_explain_says() -> None:
    """Without waiting, a store that has never fetched has no keys, and one that has uses them."""
    provider = Provider(ISSUER)
    gate = Gate(authenticate=[provider.policy()])
    assert [d.status for d in gate.explain(request(token()))] == [503]
    policy = gate.authenticate[0]
    await policy.prepare(request(token()))
    assert [d.effect for d in gate.explain(request(token()))] == ["allow"]


async def test_a_subclass_is_prepared() -> None:
    """A policy derived from this one that waits for something is waited for, whatever its keys."""

    class Revocable(JWTAuth):
        async def prepare(self, request: Request) -> None:
            await super().prepare(request)
            raise ConnectionError

    policy = Revocable(issuer=ISSUER.issuer, audience="api", jwks=ISSUER.jwks)
    assert policy.prepares
    assert not JWTAuth(issuer=ISSUER.issuer, audience="api", jwks=ISSUER.jwks).prepares
    gate = Gate(_unreachable, authenticate=[policy])
    exchange = await drive(gate, http_scope(headers={"authorization": f"Bearer {token()}"}))
    assert exchange.status == 500


async def _unreachable(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError


# -- whatever happens ------------------------------------------------------------------------------------------------

ISSUERS: Final = [TokenIssuer(kid=kid) for kid in ("a", "b", "a")]  # two of them share a name
STEPS: Final = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 2)),
    st.tuples(st.just("publish"), st.sets(st.integers(0, 2), max_size=2)),
    st.tuples(st.just("break"), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([1, 20, COOL_DOWN_SECONDS, 100, DEFAULT_MAX_AGE, 2000, STALE_SECONDS])),
    st.tuples(st.just("strangers"), st.integers(1, 20)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_whatever_happens(steps: list[tuple[str, Any]]) -> None:
    """Keys come and go, the provider breaks and mends, strangers ask: a token is accepted only while its key counts,
    and the provider is never asked more often than it should be."""
    logging.getLogger("agentgate.jwks").disabled = True
    try:
        asyncio.run(_history(steps))
    finally:
        logging.getLogger("agentgate.jwks").disabled = False


async def _history(steps: list[tuple[str, Any]]) -> None:
    provider = Provider()
    policy = provider.policy()
    texts = [token(issuer) for issuer in ISSUERS]
    brought = dict.fromkeys(range(3), -math.inf)  # when a fetch last brought each key
    published: set[int] = set()
    last_asked = -math.inf
    failing = False  # no fetch was good since the last one that was not
    for step, argument in steps:
        now, before, had_keys = provider.clock.now, len(provider.asked), policy.jwks.keys is not None
        was_failing = failing  # then a renewal goes on behind the request
        answers: list[Any] = []
        if step == "wait":
            provider.clock.now += argument
        elif step == "break":
            provider.broken = down if argument else None
        elif step == "publish":
            published = argument
            provider.issuers = tuple(ISSUERS[n] for n in sorted(published))
        elif step == "strangers":
            answers = await asyncio.gather(*(ask(policy, token(kid=f"{now}-{k}")) for k in range(argument)))
            assert not [answer for answer in answers if answer.effect == "allow"]
        else:
            answers = [await ask(policy, texts[argument])]
        await settle()
        if len(provider.asked) > before:
            assert len(provider.asked) == before + 1  # however many there were
            assert now >= last_asked + (COOL_DOWN_SECONDS if had_keys else 2)
            last_asked, failing = now, provider.broken is not None
            if not failing:
                brought.update(dict.fromkeys(published, now))
        if step == "ask" and answers[0].effect == "allow":
            grace = STALE_SECONDS if failing or was_failing else 0
            assert now < brought[argument] + DEFAULT_MAX_AGE + grace
        if step == "ask" and not had_keys and brought[argument] == now and published == {argument}:
            assert answers[0].effect == "allow"


# -- discovery -------------------------------------------------------------------------------------------------------


class OpenIDProvider(Provider):
    """Says where its keys are."""

    def __init__(self, *issuers: TokenIssuer, issuer: str = ISSUER.issuer) -> None:
        super().__init__(*issuers)
        self.issuer = issuer
        self.configuration: Any = {"issuer": issuer, "jwks_uri": "https://keys.example/jwks"}

    def document(self, request: httpx.Request) -> Any:
        return self.configuration if "openid" in request.url.path else super().document(request)

    def store(self) -> RemoteJWKS:
        return RemoteJWKS.discover(self.issuer, transport=self.transport, clock=self.clock)


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://issuer.example", "https://issuer.example/.well-known/openid-configuration"),
        ("https://issuer.example/", "https://issuer.example/.well-known/openid-configuration"),
        ("https://a.example/realms/x", "https://a.example/realms/x/.well-known/openid-configuration"),
        ("https://a.example:8443/realms/x/", "https://a.example:8443/realms/x/.well-known/openid-configuration"),
    ],
)
async def test_discovery_asks_below_the_issuer(issuer: str, url: str) -> None:
    """OpenID Connect Discovery §4: the issuer, without its last slash, and the well-known path."""
    provider = OpenIDProvider(ISSUER, issuer=issuer)
    store = provider.store()
    await store.refresh(None)
    assert provider.asked == [url, "https://keys.example/jwks"]
    assert store.keys is not None


async def test_discovery_is_what_happens_without_jwks() -> None:
    """An issuer alone is enough; nothing is fetched yet."""
    policy = JWTAuth(issuer="https://issuer.example", audience="api")
    assert repr(policy.jwks) == "RemoteJWKS.discover('https://issuer.example')"


async def test_keys_that_have_moved_are_found() -> None:
    """Where they are is asked each time."""
    provider = OpenIDProvider(ISSUER)
    policy = provider.policy()
    await ask(policy)
    provider.configuration["jwks_uri"] = "https://keys.example/new"
    provider.clock.now += DEFAULT_MAX_AGE
    assert (await ask(policy)).effect == "allow"
    assert provider.asked[-1] == "https://keys.example/new"


@pytest.mark.parametrize(
    "configuration",
    [
        {},
        [],
        {"issuer": "https://evil.example", "jwks_uri": "https://keys.example/jwks"},
        {"issuer": "https://issuer.example/", "jwks_uri": "https://keys.example/jwks"},
        {"issuer": ["https://issuer.example"], "jwks_uri": "https://keys.example/jwks"},
        {"jwks_uri": "https://keys.example/jwks"},
        {"issuer": "https://issuer.example"},
        {"issuer": "https://issuer.example", "jwks_uri": None},
        {"issuer": "https://issuer.example", "jwks_uri": ["https://keys.example/jwks"]},
        {"issuer": "https://issuer.example", "jwks_uri": "/jwks"},
        {"issuer": "https://issuer.example", "jwks_uri": "http://keys.example/jwks"},
        {"issuer": "https://issuer.example", "jwks_uri": "http://localhost/jwks"},
        {"issuer": "https://issuer.example", "jwks_uri": "http://127.0.0.1:8080/jwks"},
        {"issuer": "https://issuer.example", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "https://issuer.example", "jwks_uri": "https://user:pass@keys.example/jwks"},
    ],
)
async def test_configurations_that_are_refused(configuration: Any) -> None:
    """One of another issuer, or that leads to where keys are not fetched from: no keys, and no second request."""
    provider = OpenIDProvider(ISSUER)
    provider.configuration = configuration
    assert (await ask(provider.policy())).status == 503
    assert len(provider.asked) == 1


async def test_an_issuer_on_this_machine_may_have_its_keys_there() -> None:
    """Development: a provider on loopback, without TLS."""
    provider = OpenIDProvider(ISSUER, issuer="http://localhost:9000")
    provider.configuration["jwks_uri"] = "http://127.0.0.1:9000/jwks"
    store = provider.store()
    await store.refresh(None)
    assert store.keys is not None


# -- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.example/jwks.json",
        "https://issuer.example:8443/jwks?tenant=a",
        "http://localhost/jwks",
        "http://127.0.0.1:8080/jwks",
        "http://127.9.9.9/jwks",
        "http://[::1]:8080/jwks",
    ],
)
def test_urls_that_keys_are_fetched_from(url: str) -> None:
    RemoteJWKS(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "jwks.json",
        "/jwks.json",
        "issuer.example/jwks.json",
        "//issuer.example/jwks.json",
        "http://issuer.example/jwks.json",
        "http://10.0.0.1/jwks.json",
        "http://localhost.evil.example/jwks",
        "http://127.0.0.1.evil.example/jwks",
        "http://0.0.0.0/jwks",
        "ftp://issuer.example/jwks.json",
        "file:///etc/passwd",
        "https://",
        "https:///jwks.json",
        "https://user@issuer.example/jwks.json",
        "https://user:pass@issuer.example/jwks.json",
        "https://issuer.example/jwks.json#a",
        "https://issuer.example:99999999/jwks",
        "https://issuer example/jwks",
        "https://[::1/jwks",
        "https://issuer.example/\x00",
        None,
        5,
        b"https://issuer.example/jwks.json",
    ],
)
def test_urls_that_they_are_not(url: Any) -> None:
    """Plain HTTP to another machine, other schemes, credentials in a URL: refused when the app is built."""
    with pytest.raises(ConfigurationError):
        RemoteJWKS(url)


def test_its_repr_has_no_query() -> None:
    """What stands in a query may be a secret."""
    assert repr(RemoteJWKS("https://issuer.example/jwks?code=canary")) == "RemoteJWKS('https://issuer.example/jwks')"
