"""Ways that once led past a Gate, or past its log's discretion. Each is closed, and stays so."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from agentgate import (
    AccessLogMiddleware,
    APIKeyAuth,
    APIKeyMiddleware,
    Authorizer,
    ConfigurationError,
    Decision,
    Edge,
    Gate,
    Header,
    Query,
    Request,
    StaticKeys,
    allow,
    any_of,
    authorizer,
    deny,
    hash_key,
    new_key,
    shadow,
)
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
KEYS = StaticKeys({"alice": KEY})


class App:
    """Counts its calls and keeps the last scope."""

    def __init__(self) -> None:
        self.calls = 0
        self.scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.scope = scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


class Rule(Authorizer):
    """Gives the answer it was made with."""

    def __init__(self, answer: Decision) -> None:
        self.answer = answer

    def check(self, request: Request) -> Decision:
        return self.answer


YES, NO = Rule(allow()), Rule(deny("no"))


@pytest.mark.parametrize(
    "policies",
    [lambda: (rule for rule in [NO]), lambda: map(authorizer, [lambda request: deny("no")])],
    ids=["a generator", "a map"],
)
async def test_policies_from_an_iterator_are_all_kept(policies: Callable[[], Iterable[Authorizer]]) -> None:
    """None of them is lost on the way, whatever iterable they come from."""
    app = App()
    gate = Gate(app, authorize=policies(), observe=[Recorder()])  # type: ignore[arg-type]
    assert (await drive(gate, http_scope())).status == 403
    assert app.calls == 0


@pytest.mark.parametrize(
    ("changes", "shows"),
    [
        ({"client": ("10.9.8.7", 1)}, lambda request: request.peer == ("10.9.8.7", 1)),
        ({"scheme": "https"}, lambda request: request.scheme == "https"),
        ({"http_version": "2"}, lambda request: request.http_version == "2"),
    ],
    ids=["peer", "scheme", "version"],
)
async def test_an_inner_gate_sees_what_was_changed_on_the_way(
    changes: dict[str, Any], shows: Callable[[Request], bool]
) -> None:
    """What a middleware between two Gates rewrites is what the inner one judges."""
    inner = Gate(App(), authorize=[authorizer(lambda request: deny("no") if shows(request) else allow())])

    async def rewriting(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, **changes}, receive, send)

    assert (await drive(Gate(rewriting, observe=[Recorder()]), http_scope("GET", "/a"))).status == 403


@pytest.mark.parametrize("edge", [None, Edge()], ids=["the default edge", "an edge of its own"])
async def test_an_inner_gate_reads_its_own_header_once(edge: Edge | None) -> None:
    """A credential header of an inner Gate may not be repeated, though the outer Gate does not know of it."""
    location = Header("x-agent-key", "Key ")
    inner = Gate(App(), authenticate=[APIKeyAuth(KEYS, location=location)], edge=edge)
    scope = http_scope(headers=[("x-agent-key", f"Key {KEY}"), ("x-agent-key", "other")])
    assert (await drive(Gate(inner, observe=[Recorder()], edge=edge), scope)).status == 400


async def test_a_second_gate_does_not_judge_what_the_first_one_saw() -> None:
    """Two inner Gates called one after the other with different scopes each judge their own."""
    lax = Edge(allow_empty_segments=True)
    app = App()
    no_admin = authorizer(lambda request: deny("no") if request.path == "/admin" else allow())
    first, second = Gate(app, authorize=[YES]), Gate(app, authorize=[no_admin], edge=lax)

    async def nowhere(message: Any) -> None:
        return None

    async def fallback(scope: Any, receive: Any, send: Any) -> None:
        await first({**scope, "path": "//a", "raw_path": b"//a"}, receive, nowhere)
        await second({**scope, "path": "/admin", "raw_path": b"/admin"}, receive, send)

    exchange = await drive(Gate(fallback, observe=[Recorder()], edge=lax), http_scope("GET", "/a"))
    assert (exchange.status, app.calls) == (403, 0)


async def test_an_accepted_credential_leaves_the_raw_path_too() -> None:
    """Test clients that leave the query in `raw_path` do not hand the credential to the app."""
    app = App()
    gate = Gate(app, authenticate=[APIKeyAuth(KEYS, location=Query("api_key"))])
    await drive(gate, http_scope("GET", f"/a?api_key={KEY}", raw_path=b"/a?api_key=" + KEY.encode()))
    assert app.calls == 1
    assert KEY not in repr([app.scope[name] for name in ("raw_path", "query_string", "headers")])


async def test_a_credential_is_hidden_from_a_log_that_does_not_know_it() -> None:
    """What the edge of an outer Gate refuses is logged without the values of its query."""
    lines: list[str] = []
    inner = APIKeyMiddleware(App(), [KEY], location=Query("ticket"))
    await drive(AccessLogMiddleware(inner, lines.append), http_scope("GET", f"/a//b?ticket={KEY}&flag"))
    assert KEY not in lines[0]
    assert "ticket=<redacted>&flag" in lines[0]


@pytest.mark.parametrize("answer", [Decision("deny"), Decision("maybe")], ids=repr)  # type: ignore[arg-type]
async def test_a_refusal_never_looks_like_success(answer: Decision) -> None:
    """A hand-made Decision that denies with 200, or does neither, is a failure of its policy."""
    app = App()
    exchange = await drive(Gate(app, authorize=[Rule(answer)]), http_scope())
    assert (exchange.status, app.calls) == (500, 0)


@pytest.mark.parametrize(
    "wrapped", [lambda rule: rule, lambda rule: any_of(rule)], ids=["an authorizer", "one of several"]
)
async def test_an_allow_that_is_not_enforced_is_no_yes(wrapped: Callable[[Authorizer], Authorizer]) -> None:
    """Handing on what a shadow answered does not open the Gate."""
    app = App()
    rule = Rule(shadow(YES).check(Request.http()))
    assert (await drive(Gate(app, authorize=[wrapped(rule)]), http_scope())).status == 500
    assert app.calls == 0


async def test_a_failure_of_the_gate_itself_is_in_the_trail() -> None:
    """Even a policy that cannot say its name leaves a refusal that observers see."""

    class Nameless(Authorizer):
        @property
        def name(self) -> str:
            raise RuntimeError

        async def prepare(self, request: Request) -> None:
            raise TimeoutError

        def check(self, request: Request) -> Decision:
            return allow()

    recorder = Recorder()
    await drive(Gate(App(), authorize=[Nameless()], observe=[recorder]), http_scope())
    assert recorder.last.refusal in recorder.last.trail


def test_an_async_check_is_found_when_the_app_is_built() -> None:
    """It would answer with a coroutine, which is no Decision, on every request."""

    class Async(Authorizer):
        async def check(self, request: Request) -> Decision:  # type: ignore[override]
            return allow()

    with pytest.raises(TypeError, match="prepare"):
        Gate(App(), authorize=[Async()])


@pytest.mark.parametrize("keys", [[b"x" * 40], [5], {"alice": b"x" * 40}, b"x" * 40], ids=repr)
def test_keys_of_the_wrong_type_are_told(keys: Any) -> None:
    """The fault says that it is about a key."""
    with pytest.raises((ConfigurationError, TypeError), match="key"):
        StaticKeys(keys)


def test_a_hash_is_not_hashed_again() -> None:
    """The hash of a hash would be of no key."""
    with pytest.raises(ConfigurationError, match="already"):
        hash_key(hash_key(KEY))


@pytest.mark.parametrize("target", ["/a%C2%85b", "/a%C2%9Bb", "/a%E2%80%A8b"])
def test_controls_beyond_ascii_are_refused(target: str) -> None:
    """C1 controls and line separators in a path have no use but to confuse who reads it."""
    decision = Edge().check(Request.http("GET", target))
    assert decision is not None
    assert decision.status == 400


@pytest.mark.parametrize("kind", [b"content-type", b"Content-Type"])
async def test_a_policy_may_say_what_its_text_is(kind: bytes) -> None:
    """Its content type stands in the place of ours, not beside it."""
    rule = Rule(deny("{}", headers=((kind, b"application/json"),)))
    exchange = await drive(Gate(App(), authorize=[rule]), http_scope())
    assert [value for name, value in exchange.messages[0]["headers"] if name.lower() == b"content-type"] == [
        b"application/json"
    ]


def test_exit_does_not_wait_for_a_pipe_that_nobody_reads() -> None:
    """A process whose log is stuck ends all the same."""
    program = (
        "from agentgate.observe.line_writer import LineWriter; w = LineWriter(); [w('x' * 100) for n in range(9000)]"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        process.wait(20)
    finally:
        process.kill()
        process.communicate()


async def test_a_scope_without_a_raw_path_gets_none() -> None:
    """What ASGI makes optional is not made up for the app, whatever was taken out of the request."""
    app = App()
    scope = http_scope("GET", "/a", headers=[("authorization", f"Bearer {KEY}")])
    del scope["raw_path"]
    await drive(Gate(app, authenticate=[APIKeyAuth(KEYS)]), scope)
    assert app.calls == 1
    assert "raw_path" not in app.scope
