"""Whatever breaks, wherever it breaks: a request that must be refused never reaches the app.

Each request below is run again and again. Every time, one more step of the package's own code (a call, a return, a
line) is made to raise, until there is no step left; and all that once for each kind of error.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest

import agentgate
from agentgate import (
    MCP,
    APIKeyAuth,
    Authorizer,
    CELRules,
    Decision,
    Gate,
    JWTAuth,
    RateLimit,
    RemoteJWKS,
    Request,
    all_of,
    allow,
    any_of,
    deny,
    new_key,
    record_of,
    shadow,
)
from agentgate.testing import Recorder, TokenIssuer, http_scope, websocket_scope

# An error raised while Python closes a generator has nobody to go to: it is told as a warning, and decides nothing.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PACKAGE = str(Path(agentgate.__file__).parent)
KINDS = (Exception, TimeoutError, MemoryError, RecursionError, asyncio.CancelledError)
ENOUGH = 500  # steps that were made to raise, in each of the sweeps: fewer would mean that the sweep has gone blind
KEY, OTHER = new_key(), new_key()
ISSUER, STRANGER = TokenIssuer(), TokenIssuer()


BODY = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "drop", "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}},
    }
).encode()  # of the requests whose body is read


class Rule(Authorizer):
    """Everybody but mallory; waits for a store that is away at /away."""

    async def prepare(self, request: Request) -> None:
        if request.path == "/away":
            raise ConnectionError

    def check(self, request: Request) -> Decision:
        principal = request.principal
        return allow() if principal is not None and principal.id == "alice" else deny("no")


@dataclass
class App:
    """Notes whether it was called, and what the trail said then."""

    calls: int = 0
    unfounded: int = 0
    statuses: list[int] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        record = record_of(scope)
        yes = {d.policy for d in record.trail if d.effect == "allow" and d.enforced} if record else set()
        self.unfounded += not ("Rule" in yes and yes & {"APIKeyAuth", "JWTAuth"})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def receive(self) -> Any:
        return {"type": "http.request", "body": BODY}

    async def send(self, message: Any) -> None:
        if "status" in message:
            self.statuses.append(message["status"])


def request(target: str = "/", key: str | None = KEY) -> dict[str, Any]:
    return http_scope("GET", target, headers={} if key is None else {"authorization": f"Bearer {key}"})


def keys() -> APIKeyAuth:
    return APIKeyAuth({"alice": KEY, "mallory": OTHER})


def plain(app: App) -> Gate:
    return Gate(app, authenticate=[keys()], authorize=[Rule()], observe=[Recorder()])


def optional(app: App) -> Gate:
    return Gate(app, authenticate=[keys()], authorize=[any_of(Rule(), Rule())], mode="optional")


def nested(app: App) -> Gate:
    inner = Gate(app, authorize=[shadow(Rule()), all_of(Rule())], observe=[Recorder()])

    async def rewriting(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "query_string": b"a=1"}, receive, send)

    return Gate(rewriting, authenticate=[keys()])


def token(issuer: TokenIssuer = ISSUER, **claims: Any) -> Callable[[], dict[str, Any]]:
    """A request with a token; made anew each time, for the sweep takes longer than a token lives."""
    return lambda: request(key=issuer.token({"sub": "alice", "aud": "api", **claims}))


def tokens(app: App, **options: Any) -> Gate:
    policy = JWTAuth(**{"issuer": ISSUER.issuer, "audience": "api", "jwks": ISSUER.jwks, "cache_size": 0, **options})
    return Gate(app, authenticate=[policy], authorize=[Rule()], mode="optional")


def published(app: App) -> Gate:
    """Keys that have been fetched, and are not due: so that no request has to wait."""
    store = RemoteJWKS(
        "https://issuer.example/jwks",
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json=ISSUER.jwks)),
        clock=lambda: 0.0,
    )
    asyncio.run(store.refresh(None))
    return tokens(app, jwks=store, cache_size=10)


def unpublished(app: App) -> Gate:
    """Keys that nobody could fetch, and that it is too early to ask for again."""
    store = RemoteJWKS(
        "https://issuer.example/jwks",
        transport=httpx.MockTransport(lambda _: httpx.Response(500)),
        clock=lambda: 0.0,
    )
    asyncio.run(store.refresh(None))
    return tokens(app, jwks=store)


def two_kinds(app: App) -> Gate:
    policy = JWTAuth(issuer=ISSUER.issuer, audience="api", jwks=ISSUER.jwks)
    return Gate(app, authenticate=[keys(), policy], authorize=[Rule()], mode="optional")


MCP_RULES = CELRules(allow={"add": 'mcp.tool.name == "add"'})
MCP_HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}


def mcp(app: App) -> Gate:
    return Gate(app, authenticate=[keys()], authorize=[Rule(), MCP_RULES], protocol=MCP())


def call(tool: str, **headers: str) -> dict[str, Any]:
    """A call of 2026-07-28, without its body, which `App.receive` hands out."""
    name = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": tool}
    return http_scope("POST", "/mcp", headers={**MCP_HEADERS, **name, **headers})


def limited(app: App) -> Gate:
    """One whose budget is spent for years."""
    limit = RateLimit(requests=1, per="day")
    limit._counting.charge(("principal", "apiKey", "", "alice"), 10**6)
    return Gate(app, authenticate=[keys()], authorize=[Rule(), limit], observe=[Recorder()])


REFUSED: dict[str, tuple[Callable[[App], Gate], Callable[[], dict[str, Any]]]] = {
    "no key": (plain, lambda: request(key=None)),
    "a wrong key": (plain, lambda: request(key=new_key())),
    "two keys": (plain, lambda: http_scope(headers=[("authorization", f"Bearer {KEY}")] * 2)),
    "denied by the authorizer": (plain, lambda: request(key=OTHER)),
    "a budget that is spent": (limited, request),
    "refused by the edge": (plain, lambda: request("/public/%2e%2e/admin")),
    "an unknown method": (plain, lambda: {**request(), "method": "CONNECT"}),
    "a prepare that fails": (plain, lambda: request("/away")),
    "a websocket with no key": (plain, lambda: websocket_scope("/live")),
    "a wrong key in optional mode": (optional, lambda: request(key=new_key())),
    "nobody of any in optional mode": (optional, lambda: request(key=None)),
    "a tool that no rule allows": (mcp, lambda: call("drop")),
    "a tool under the name of another": (mcp, lambda: {**call("drop"), "headers": call("add")["headers"]}),
    "a session of somebody else": (mcp, lambda: call("drop", **{"mcp-session-id": "c2Vzc2lvbg"})),
    "a page that has its name point here": (mcp, lambda: call("drop", origin="http://evil.example")),
    "a stream that is resumed in no session": (
        mcp,
        lambda: http_scope("GET", "/mcp", headers={**MCP_HEADERS, "last-event-id": "7"}),
    ),
    "denied by an inner gate": (nested, lambda: request(key=OTHER)),
    "a token that somebody else signed": (tokens, token(STRANGER)),
    "a token that has expired": (published, token(exp=1_700_000_000)),
    "a token for somebody else": (published, token(aud="other")),
    "a token of another issuer": (published, token(iss="https://other.example")),
    "a token that somebody else signed, beside keys": (two_kinds, token(STRANGER)),
    "a token of somebody who may not": (published, token(sub="mallory")),
    "a token without the scope": (lambda app: tokens(app, scopes=["a"]), token()),
    "a token, and no keys": (unpublished, token()),
}


def run(call: Coroutine[Any, Any, None]) -> BaseException | None:
    """Run a call that never has to wait, without an event loop; what it raised."""
    try:
        call.send(None)
    except StopIteration:
        return None
    except BaseException as exc:
        return exc
    call.close()
    raise AssertionError("nothing here waits")


def at_event(k: int, kind: type[BaseException], steps: list[int]) -> Callable[[FrameType, str, Any], None]:
    """A profile function that raises at the k-th call or return within the package."""

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            steps[0] += 1
            if steps[0] == k:
                raise kind

    return profile


def at_line(k: int, kind: type[BaseException], steps: list[int]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that raises at the k-th line within the package."""

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            steps[0] += 1
            if steps[0] == k:
                raise kind
        return line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(PACKAGE) else None

    return trace


def sweep(build: Callable[[App], Gate], scope: Callable[[], dict[str, Any]], check: Callable[[App, str], None]) -> int:
    """Let every step of a request raise, once for each kind of error; how many steps that were."""
    app = App()
    gate = build(app)
    injected = 0
    ways: tuple[tuple[Any, Callable[[Any], None], Any], ...] = (
        (at_event, sys.setprofile, sys.getprofile()),
        (at_line, sys.settrace, sys.gettrace()),
    )
    for make, install, restore in ways:
        for kind in KINDS:
            k = 0
            while True:
                k += 1
                steps = [0]
                app.calls, app.unfounded, app.statuses = 0, 0, []
                call = gate(scope(), app.receive, app.send)
                raising = make(k, kind, steps)
                try:
                    install(raising)
                    run(call)
                finally:
                    install(restore)
                check(app, f"{kind.__name__} at step {k} of {make.__name__}")
                if steps[0] < k:
                    break  # it went through untouched
                injected += 1
    return injected


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """An observer that fails is logged: here, some thousand times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_to_refuse_is_never_forwarded(name: str) -> None:
    """No error at any step of the package lets a request through that must be refused, or answers it with success."""

    def check(app: App, where: str) -> None:
        assert app.calls == 0, f"forwarded after {where}"
        assert all(status >= 400 for status in app.statuses), f"answered {app.statuses} after {where}"

    assert sweep(*REFUSED[name], check) >= ENOUGH


@pytest.mark.parametrize(
    ("build", "scope"),
    [(plain, request), (optional, request), (nested, request), (tokens, token()), (published, token())],
    ids=["plain", "optional", "nested", "tokens", "published"],
)
def test_a_request_to_allow_is_forwarded_only_with_every_yes(
    build: Callable[[App], Gate], scope: Callable[[], dict[str, Any]]
) -> None:
    """Whatever breaks, the app is called only when authenticator and authorizer have both said allow."""
    calls = 0

    def check(app: App, where: str) -> None:
        nonlocal calls
        calls += app.calls
        assert app.calls <= 1
        assert app.unfounded == 0, f"forwarded without a yes after {where}"

    assert sweep(build, scope, check) >= ENOUGH
    assert calls >= 2 * len(KINDS)  # the sweep does end with requests that pass
