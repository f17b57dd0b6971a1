"""No secret is ever shown: canaries are put wherever a secret can be, and every place where text comes out is read."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentgate import (
    AccessLog,
    APIKeyAuth,
    Authorizer,
    CELRules,
    ConfigurationError,
    Cookie,
    Decision,
    DirectoryKeys,
    FileKeys,
    Gate,
    Header,
    JWTAuth,
    Key,
    Observer,
    Query,
    Request,
    Secret,
    StaticJWKS,
    StaticKeys,
    Tracing,
    allow,
    hash_key,
    record_of,
    shadow,
)
from agentgate.auth import key_files
from agentgate.auth.location import BEARER, Location
from agentgate.testing import Exchange, Recorder, TokenIssuer, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

CANARY = "canary"  # part of every secret below, and of nothing else
GOOD = "agk_canary_Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4"
BAD = "agk_canary_YmFkYmFkYmFkYmFkMDEyMzQ1Njc4"
ISSUER, STRANGER = TokenIssuer(), TokenIssuer()


RULES = CELRules(
    # They look wherever a secret can be, and some of them fail on it.
    allow=[
        "request.headers['authorization'] == 'x'",
        "request.headers.exists(name, request.headers[name] == 'x')",
        "request.query.exists(name, int(request.query[name][0]) == 1)",
        "request.pathAndQuery == 'x' || int(request.uri) == 1",
    ]
)


class Raises(Authorizer):
    """Quotes everything it can see in an error."""

    def __init__(self, where: str = "check") -> None:
        self.prepares = where == "prepare"

    async def prepare(self, request: Request) -> None:
        self.quote(request)

    def check(self, request: Request) -> Decision:
        self.quote(request)
        return allow()

    def quote(self, request: Request) -> None:
        raise ValueError(f"canary {request.raw_headers!r} {request.target!r}")


class Loud(Observer):
    """Fails with a secret in its message."""

    def start(self, request: Request) -> None:
        raise ValueError("canary")

    def end(self, token: Any, record: Any) -> None:
        raise ValueError("canary")


class BrokenKeys:
    """A key store that quotes what it was asked."""

    refreshes = True

    def find(self, digest: bytes) -> Key | None:
        raise LookupError("canary")

    async def refresh(self) -> None:
        raise LookupError("canary")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with all that an app behind the Gate gets to see."""
    record = record_of(scope)
    shown = repr((record, record and record.request, record and record.trail, record and record.principal))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": shown.encode()})


async def failing(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    raise ValueError(f"canary {message!r}")


def bearer(issuer: TokenIssuer, headers: dict[str, Any] | None = None, **claims: Any) -> dict[str, Any]:
    """A request with a token that says canary, good otherwise but for what is given."""
    said = {"aud": "api", "sub": "alice", "email": "canary@example.com", "nested": {"canary": ["canary"]}, **claims}
    return {"headers": {"authorization": f"Bearer {issuer.token(said, **(headers or {}))}"}}


REQUESTS: dict[str, dict[str, Any]] = {
    "a good bearer key": {"headers": {"authorization": f"Bearer {GOOD}"}},
    "a bad bearer key": {"headers": {"authorization": f"Bearer {BAD}"}},
    "a key with a blank": {"headers": {"authorization": f"Bearer {BAD} "}},
    "a key that is too long": {"headers": {"authorization": f"Bearer {BAD * 200}"}},
    "basic credentials": {"headers": {"authorization": "Basic canary"}},
    "no scheme": {"headers": {"authorization": GOOD}},
    "two keys": {"headers": [("authorization", f"Bearer {GOOD}"), ("authorization", f"Bearer {BAD}")]},
    "a token": {"headers": {"authorization": "Bearer canary.canary.canary"}},
    "a good token": bearer(ISSUER),
    "a token that somebody else signed": bearer(STRANGER, sub="canary"),
    "a token of another issuer": bearer(ISSUER, iss="canary"),
    "a token for somebody else": bearer(ISSUER, aud="canary"),
    "a token with a wrong time": bearer(ISSUER, exp="canary"),
    "a token with a wrong subject": bearer(ISSUER, sub=["canary"]),
    "a token without the scope": bearer(ISSUER, scope="canary"),
    "a token without subject": bearer(ISSUER, sub=None, client_id="canary"),
    "a token of a wrong type": bearer(ISSUER, {"typ": "canary"}),
    "a token with an unknown kid that is no name": bearer(ISSUER, {"kid": "canary canary"}),
    "a token with a key in it": bearer(STRANGER, {"jwk": {"kty": "oct", "k": "canary"}, "jku": "https://canary"}),
    "a token with crit": bearer(ISSUER, {"crit": ["canary"], "canary": 1}),
    "a token that is cut off": {"headers": {"authorization": bearer(ISSUER)["headers"]["authorization"][:-1]}},
    "a key in a header": {"headers": {"x-api-key": GOOD}},
    "a bad key in a header": {"headers": {"x-api-key": BAD}},
    "a header with a control": {"headers": {"x-api-key": f"{BAD}\x00"}},
    "a key in a cookie": {"headers": {"cookie": f"theme=dark; session={GOOD}"}},
    "a bad key in a cookie": {"headers": {"cookie": f"session={BAD}"}},
    "a key in the query": {"target": f"/?a=1&api_key={GOOD}&b=2"},
    "a bad key in the query": {"target": f"/?api_key={BAD}"},
    "two keys in the query": {"target": f"/?api_key={BAD}&api_key={GOOD}"},
    "an upper-case parameter": {"target": f"/?API_KEY={BAD}"},
    "an encoded parameter": {"target": f"/?%61pi%5Fkey={BAD}"},
    "a parameter with a blank": {"target": f"/?+api_key+={BAD}"},
    "a second equals sign": {"target": f"/?api_key=={BAD}"},
    "a parameter of others": {"target": f"/?access_token={BAD}&Token={BAD}&client_secret={BAD}&sig={BAD}"},
    "a parameter in a refused query": {"target": f"/?api_key={BAD}#"},
    "a parameter in a refused path": {"target": f"/../?api_key={BAD}"},
    "a referer": {"headers": {"referer": f"https://a.example/?api_key={BAD}"}},
    "a proxy's credentials": {"headers": {"proxy-authorization": "Basic canary"}},
    "a header of one's own": {"headers": {"x-canary-1": "canary", "x_canary": "canary"}},
    "a body": {"body": b'{"password": "canary"}', "method": "POST"},
}


def gates(log: Callable[[str], object], recorder: Recorder, *others: Observer) -> list[Gate]:
    """Gates of every kind, with a log in both formats, and the other observers."""
    locations: list[Location] = [BEARER, Header("x-api-key"), Query("api_key"), Cookie("session")]
    keys = StaticKeys([Key("alice", GOOD, {"note": "fine"})])
    observe: list[Observer] = [
        AccessLog(log),
        AccessLog(log, format="json"),
        AccessLog(logging.getLogger("app")),
        Loud(),
        recorder,
        *others,
    ]
    built = [
        Gate(app, authenticate=[APIKeyAuth(keys, location=location)], mode=mode, observe=observe)
        for location in locations
        for mode in ("strict", "optional", "permissive")
        for app in (echo, failing)
    ]
    built += [
        Gate(echo, authenticate=[APIKeyAuth(keys, location=location) for location in locations], observe=observe),
        Gate(echo, authenticate=[APIKeyAuth(BrokenKeys())], observe=observe),
        *(
            Gate(app, authenticate=[APIKeyAuth(keys), tokens], mode=mode, observe=observe)
            for tokens in (
                JWTAuth(issuer=ISSUER.issuer, audience="api", jwks=ISSUER.jwks),
                JWTAuth(issuer=ISSUER.issuer, audience="api", jwks=ISSUER.jwks, scopes=["read"]),
            )
            for mode in ("strict", "permissive")
            for app in (echo, failing)
        ),
        Gate(echo, authorize=[Raises()], observe=observe),
        Gate(echo, authorize=[Raises("prepare")], observe=observe),
        Gate(echo, authorize=[shadow(Raises())], observe=observe),
        Gate(echo, authorize=[RULES], observe=observe),
        Gate(Gate(echo, authenticate=[APIKeyAuth(keys, location=Query("api_key"))]), observe=observe),
    ]
    return built


def shown(exchange: Exchange) -> str:
    return repr(exchange.messages)


def parts_of_token(options: dict[str, Any]) -> list[str]:
    """Header, payload and signature of a token, which do not say canary themselves."""
    authorization = dict(options.get("headers", {})).get("authorization", "")
    return [
        part
        for part in authorization.removeprefix("Bearer ").split(".")[:3]
        if part.startswith("ey") or len(part) == 86
    ]


@pytest.mark.parametrize("name", REQUESTS)
async def test_no_request_leaves_a_secret_anywhere(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a request holds, no log line, no response and no repr has any of its secrets."""
    options = dict(REQUESTS[name])
    body, method, target = options.pop("body", b""), options.pop("method", "GET"), options.pop("target", "/")
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []
    recorder = Recorder()
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    built = gates(lines.append, recorder, Tracing(provider=provider))
    for gate in built:
        for scope in (http_scope(method, target, **options), websocket_scope(target, **options)):
            exchange = await drive(gate, scope, body=body, catch=True)
            assert CANARY not in shown(exchange), repr(gate)
            assert not [part for part in parts_of_token(options) if part in shown(exchange)]
        assert CANARY not in repr(gate)
        request = Request(http_scope(method, target, **options))
        assert CANARY not in repr(gate.explain(request))
        assert CANARY not in repr([decision.verdicts for decision in gate.explain(request, every=True)])
    assert len(lines) == 2 * len(recorder.records) == 4 * len(built)
    traced = "".join(span.to_json() for span in spans.get_finished_spans())
    assert len(spans.get_finished_spans()) == 2 * len(built)
    assert CANARY not in traced
    for part in parts_of_token(options):
        assert part not in "".join(lines) + caplog.text + repr(recorder.records) + traced
    for line in lines:
        assert CANARY not in line.replace("x-canary", "").replace("x_canary", "")
    assert CANARY not in caplog.text
    for record in recorder.records:
        assert CANARY not in repr([record, record.trail, record.refusal, record.error, record.request, record.view])
        assert CANARY not in repr(record.principal)


CLAIMS = {"a good token", "a token without the scope", "a token without subject"}  # accepted: a replay tells of them
EVERYTHING = {
    "all": "request.headers.raw()",
    "authorization": "request.headers['authorization']",
    "bound": "request.with(r, r.headers.split())",
    "cookie": "request.headers.cookie('session')",
    "own": "request.headers['x-api-key']",
    "text": "toJson(request.headers)",
    "pairs": "request.headers.map(name, request.headers[name])",
    "query": "request.query",
    "uri": "request.uri + request.pathAndQuery",
    "asked": "request.uri.query('api_key')",
    "key": "apiKey",
    "flat": "flatten(apiKey)",
    "token": "jwt.rawToken",
    "answer": "response.headers",
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_no_expression_and_no_replay_gets_at_a_secret(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a log is asked to add, and whatever it records for a replay, is without credentials."""
    options = dict(REQUESTS[name])
    body, method, target = options.pop("body", b""), options.pop("method", "GET"), options.pop("target", "/")
    headers = {} if name == "a header of one's own" else EVERYTHING  # which is no credential that anybody would know
    for replay in (False, True):
        lines: list[str] = []
        logs = [AccessLog(lines.append, format="json", add=headers, replay=replay, replay_arguments=replay)]
        if not replay:
            logs.append(AccessLog(lines.append, add=headers))
        built = gates(lambda line: None, Recorder())
        for gate in built:
            gate.observe = tuple(logs)
            await drive(gate, http_scope(method, target, **options), body=body, catch=True)
        assert len(lines) == len(logs) * len(built)
        for line in lines:
            assert GOOD not in line
            assert not [part for part in parts_of_token(options) if part in line]
            if not (replay and name in CLAIMS):
                assert CANARY not in line.replace("x-canary", "").replace("x_canary", "")
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    "value",
    [
        Key("alice", GOOD),
        Key("alice", Secret(GOOD)),
        StaticKeys({"alice": GOOD}),
        APIKeyAuth({"alice": GOOD}),
        Gate(authenticate=[APIKeyAuth({"alice": Secret(GOOD)})]),
        Secret(GOOD),
        [Secret(GOOD)],
        StaticJWKS.hmac(Secret(GOOD)),
        StaticJWKS.hmac(Secret(GOOD)).keys,
        StaticJWKS.hmac(Secret(GOOD)).keys.find(None, "HS256"),
        JWTAuth(issuer="i", audience="api", jwks=StaticJWKS.hmac(Secret(GOOD))),
        JWTAuth(issuer=ISSUER.issuer, audience="api", jwks=ISSUER.jwks).check(
            Request.http(**{"headers": bearer(ISSUER)["headers"]})
        ),
        Request.http("GET", f"/?api_key={GOOD}", headers={"authorization": f"Bearer {GOOD}"}),
        Request.http(headers={"authorization": f"Bearer {GOOD}"}).headers,
        APIKeyAuth([GOOD]).check(Request.http(headers={"authorization": f"Bearer {GOOD}"})),
        APIKeyAuth([GOOD]).check(Request.http(headers={"authorization": f"Bearer {BAD}"})),
        Request.tool("login", {"password": "canary"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_repr_shows_a_secret(value: object) -> None:
    """What stands in a log or a traceback by accident shows nothing."""
    assert CANARY not in repr(value) + str(value) + f"{value}"


FAULTS: dict[str, Callable[[], object]] = {
    "an empty id": lambda: Key("", GOOD),
    "a weak key": lambda: StaticKeys({"alice": "canary"}),
    "a key with a blank": lambda: StaticKeys({"alice": "canary canary"}),
    "a key beyond ASCII": lambda: StaticKeys([Secret("canary\xfc")]),
    "a key that is too long": lambda: StaticKeys(["canary" * 1000]),
    "the same key twice": lambda: StaticKeys({"alice": GOOD, "bob": GOOD}),
    "a short secret": lambda: StaticJWKS.hmac(Secret("canary")),
    "a private key in a set": lambda: StaticJWKS({"keys": [{**ISSUER.jwks["keys"][0], "d": "canary"}]}),
    "a secret in a set": lambda: StaticJWKS({"keys": [{"kty": "oct", "alg": "HS256", "k": "canary", "kid": "canary"}]}),
    "a secret among others": lambda: StaticJWKS({"keys": [*ISSUER.jwks["keys"], {"kty": "oct", "k": "canary"}]}),
    "a broken set": lambda: StaticJWKS('{"keys": [{"kty": "oct", "k": "canary"'),
    "a private key in PEM": lambda: StaticJWKS("-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----"),
    "a password in a URL": lambda: JWTAuth(issuer="i", audience="a", jwks="https://user:canary@issuer.example/jwks"),
    "a hash that is none": lambda: StaticKeys({"alice": "sha256:canary"}),
    "no collection": lambda: StaticKeys(GOOD),
    "a key to hash": lambda: hash_key("canary canary"),
    "metadata with a key": lambda: Key("alice", GOOD, {"key": GOOD}),
    "a secret in the wrong slot": lambda: Gate(authorize=[Secret(GOOD)]),  # type: ignore[list-item]
    "a broken file": lambda: written("keys.json", '{"keys": [{"key": "canary"'),
    "a broken YAML file": lambda: written("keys.yaml", "keys: [canary"),
    "a tag in a YAML file": lambda: written("keys.yaml", "keys: !canary x"),
    "a control in a YAML file": lambda: written("keys.yaml", "canary: \x00"),
    "a date in a YAML file": lambda: written("keys.yaml", "canary: 2030-99-99"),
    "a member twice": lambda: written("keys.json", '{"canary": 1, "canary": 2}'),
    "a key twice in YAML": lambda: written("keys.yaml", "canary: 1\ncanary: 2"),
    "a weak key in a file": lambda: written("keys.json", '{"keys": [{"key": "canary"}]}'),
    "a key as hash": lambda: written("keys.json", json.dumps({"keys": [{"keyHash": GOOD}]})),
    "a hash with a typo": lambda: written("keys.json", json.dumps({"keys": [{"keyHash": "sha256:canary"}]})),
    "a time with a typo": lambda: written("keys.json", json.dumps({"keys": [{"key": GOOD, "notAfter": "canary"}]})),
}


def written(name: str, text: str) -> FileKeys:
    folder = Path.cwd()
    (folder / name).write_text(text)
    return FileKeys(folder / name)


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_of_configuration_quotes_a_secret(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while an app is built names the place, and never the value; not in what it was raised from, either."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigurationError, TypeError)) as caught:
        FAULTS[name]()
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in str(error) + repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    "text",
    [f'{{"keys": [{{"key": "{GOOD}"', f'{{"keys": [{{"key": "{GOOD}", "id": 5}}]}}', '{"keys": ["canary"]}', "canary"],
)
async def test_no_fault_in_a_changed_key_file_is_quoted(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that a key file has a fault, and quotes nothing of it."""
    monkeypatch.setattr(key_files, "POLL_SECONDS", 0.0)
    caplog.set_level(logging.DEBUG)
    (tmp_path / "keys.json").write_text('{"keys": []}')
    (tmp_path / "folder").mkdir()
    stores = (FileKeys(tmp_path / "keys.json"), DirectoryKeys(tmp_path / "folder"))
    (tmp_path / "keys.json").write_text(text)
    (tmp_path / "folder" / "alice").write_text(f'{{"key": "{GOOD}", "x": 1}}')
    for store in stores:
        await store.refresh()
    assert len([entry for entry in caplog.records if entry.levelname == "ERROR"]) == 2
    assert CANARY not in caplog.text


async def test_a_cancelled_request_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """A request that is cancelled leaves a line, and no secret in it."""
    lines: list[str] = []

    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError(GOOD)

    gate = Gate(cancelled, authenticate=[APIKeyAuth([GOOD])], observe=[AccessLog(lines.append)])
    with contextlib.suppress(asyncio.CancelledError):
        await drive(gate, http_scope(headers={"authorization": f"Bearer {GOOD}"}))
    assert len(lines) == 1
    assert CANARY not in lines[0] + caplog.text
