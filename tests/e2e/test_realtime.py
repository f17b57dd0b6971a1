"""The Realtime API through a gateway: OpenAI's SDK, and an upstream that speaks as much of it as a session needs."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("openai", reason="the extra `e2e` is not installed")

import openai
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from agentgate import (
    SDK_LOCATIONS,
    APIKeyAuth,
    CELRules,
    LLMBackend,
    Provider,
    Reason,
    Record,
    Route,
    Secret,
    WebSockets,
    create_gateway,
    new_key,
)
from agentgate.testing import Recorder

from .servers import PATIENCE, Upstream, until
from .websocket_peers import answer, serving, upstream

pytestmark = pytest.mark.anyio

ALICE, UPSTREAM_KEY = new_key(), "sk-upstream-secret-0123456789"
RULES = CELRules(allow={"these": 'llm.requestModel in ["gpt-realtime", "whisper-1"] && llm.streaming'})
USAGE = {
    "total_tokens": 12,
    "input_tokens": 5,
    "output_tokens": 7,
    "input_token_details": {"cached_tokens": 2, "audio_tokens": 3},
    "output_token_details": {"audio_tokens": 4},
}


class Model:
    """The upstream: every request for a response is answered with what it has been told before."""

    def __init__(self) -> None:
        self.handshakes: list[tuple[str, dict[str, str]]] = []
        self.closed: asyncio.Queue[int | None] = asyncio.Queue()

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        headers = {name.lower(): value for name, value in connection.request.headers.raw_items()}
        self.handshakes.append((connection.request.path, headers))
        await connection.send(json.dumps({"type": "session.created", "session": {"model": "gpt-realtime"}}))
        said = ""
        with contextlib.suppress(ConnectionClosed):
            while True:
                event = json.loads(await connection.recv())
                if event["type"] == "conversation.item.create":
                    said = event["item"]["content"][0]["text"]
                elif event["type"] == "response.create":
                    delta = {"type": "response.output_text.delta", "delta": f"You said: {said}"}
                    await connection.send(json.dumps(delta))
                    await connection.send(json.dumps({"type": "response.done", "response": {"usage": USAGE}}))
        self.closed.put_nowait(connection.close_code)


class World:
    def __init__(self, port: int, model: Model, recorder: Recorder) -> None:
        self.port = port
        self.model = model
        self.recorder = recorder

    @property
    def sdk(self) -> Any:
        return openai.AsyncOpenAI(
            api_key=ALICE,
            base_url=f"http://127.0.0.1:{self.port}/v1",
            websocket_base_url=f"ws://127.0.0.1:{self.port}/v1",
        )

    def connect(self, query: str = "model=gpt-realtime", path: str = "/v1/realtime", **options: Any) -> connect:
        options.setdefault("additional_headers", {"authorization": f"Bearer {ALICE}"})
        return connect(f"ws://127.0.0.1:{self.port}{path}{query and '?' + query}", proxy=None, **options)

    async def record(self) -> Record:
        await until(lambda: self.recorder.records)
        return self.recorder.last


def _first(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


@asynccontextmanager
async def between(*first: Provider, **options: Any) -> AsyncIterator[World]:
    model, recorder = Model(), Recorder()
    async with upstream(model, select_subprotocol=_first) as port:
        url, weight = f"http://127.0.0.1:{port}/api/v1", 0 if first else 1
        own = Provider(url, credential=Secret(UPSTREAM_KEY), weight=weight, **options)
        app = create_gateway(
            Route("/v1", LLMBackend([*first, own], websockets=WebSockets())),
            authenticate=[APIKeyAuth({"alice": ALICE}, location=SDK_LOCATIONS)],
            authorize=[RULES],
            observe=[recorder],
        )
        async with asyncio.timeout(2 * PATIENCE), serving(app) as gateway:
            yield World(gateway, model, recorder)


async def test_the_sdk_holds_a_session() -> None:
    async with between() as world:
        async with world.sdk as sdk, sdk.realtime.connect(model="gpt-realtime") as session:
            assert (await session.recv()).type == "session.created"
            await session.session.update(
                session={
                    "type": "realtime",
                    "tools": [{"type": "function", "name": "f", "parameters": {"properties": {"model": {}}}}],
                    "audio": {"input": {"transcription": {"model": "whisper-1"}}},
                }
            )
            for text in ("hello", "again"):
                content = [{"type": "input_text", "text": text}]
                await session.conversation.item.create(item={"type": "message", "role": "user", "content": content})
                await session.response.create()
                assert (await session.recv()).delta == f"You said: {text}"
                assert (await session.recv()).type == "response.done"
        record = await world.record()
        ((path, headers),) = world.model.handshakes
    assert path == "/api/v1/realtime?model=gpt-realtime"
    assert headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert not [name for name, value in headers.items() if ALICE in value]
    assert "openai" in headers["user-agent"].lower()
    assert (record.protocol, record.status, record.error) == ("llm", 101, None)
    told = {
        "gen_ai.operation.name": "realtime",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-realtime",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 14,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_audio_tokens": 8,
        "websocket.close_code": 1000,
    }
    assert {name: record.details.get(name) for name in told} == told


async def test_the_sdk_is_told_of_a_model_that_is_not_for_it() -> None:
    async with between() as world:
        with pytest.raises(InvalidStatus) as caught:
            async with world.sdk as sdk, sdk.realtime.connect(model="gpt-5"):
                pass
        response = caught.value.response
        assert response.status_code == 403
        assert json.loads(response.body)["error"]["message"] == "authorization failed"
        record = await world.record()
        assert (record.reason, record.details["gen_ai.request.model"]) == (Reason.AUTHORIZATION, "gpt-5")
        assert world.model.handshakes == []


@pytest.mark.parametrize(
    ("query", "path", "status"),
    [
        ("", "/v1/realtime", 400),
        ("model=", "/v1/realtime", 400),
        ("intent=transcription", "/v1/realtime", 400),
        ("call_id=rtc_1", "/v1/realtime", 400),
        ("model=gpt-realtime&call_id=rtc_1", "/v1/realtime", 400),
        ("model=gpt-realtime&model=gpt-5", "/v1/realtime", 400),
        ("model=gpt-realtime&Model=gpt-5", "/v1/realtime", 400),
        ("model=gpt-realtime&m%6fdel=gpt-5", "/v1/realtime", 400),
        ("model=gpt-realtime;model=gpt-5", "/v1/realtime", 400),
        ("model=gpt-realtime%26model=gpt-5", "/v1/realtime", 400),
        ("model=gpt-realtime%00", "/v1/realtime", 400),
        ("model=gpt-realtime", "/v1/models/gpt-5/realtime", 403),
        ("model=gpt-realtime", "/v1/responses", 403),
        ("model=gpt-realtime", "/v1/re%61ltime", 403),
        ("model=gpt-realtime", "/v1/chat/completions", 403),
    ],
)
async def test_what_cannot_be_judged_is_refused(query: str, path: str, status: int) -> None:
    async with between() as world:
        with pytest.raises(InvalidStatus) as caught:
            await world.connect(query, path)
        assert caught.value.response.status_code == status
        assert world.model.handshakes == []


async def test_what_rules_let_pass_and_nobody_has_judged() -> None:
    """A rule that looks at no model allows everything; a socket that names none is not forwarded all the same."""
    model = Model()
    async with upstream(model) as port:
        backend = LLMBackend(f"http://127.0.0.1:{port}/v1", websockets=WebSockets())
        app = create_gateway(Route("/", backend), authenticate=[], authorize=[CELRules(allow=["true"])])
        async with serving(app) as own:
            for path in ("/v1/other", "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"):
                with pytest.raises(InvalidStatus) as caught:
                    await connect(f"ws://127.0.0.1:{own}{path}", proxy=None)
                assert caught.value.response.status_code == 403
                assert b"websocket is not forwarded" in caught.value.response.body
    assert model.handshakes == []


EVENTS: dict[str, Any] = {
    "another model": {"type": "session.update", "session": {"model": "gpt-5"}},
    "another model to transcribe with": {
        "type": "session.update",
        "session": {"audio": {"input": {"transcription": {"model": "gpt-5-transcribe"}}}},
    },
    "one in the older place": {"type": "session.update", "session": {"input_audio_transcription": {"model": "gpt-5"}}},
    "another model for a response": {"type": "response.create", "response": {"model": "gpt-5"}},
    "a model in another spelling": {"type": "session.update", "session": {"Model": "gpt-realtime"}},
    "a session in another spelling": {"type": "session.update", "Session": {"model": "gpt-5"}},
    "a model that is none": {"type": "session.update", "session": {"model": ["gpt-5"]}},
    "a fallback": {"type": "session.update", "session": {"fallbacks": ["gpt-5"]}},
    "a session that is none": {"type": "session.update", "session": ["model"]},
    "a tool's model": {"type": "session.update", "session": {"tools": [{"type": "x", "model": "gpt-5"}]}},
    "a list": [1],
    "two readings": '{"type": "session.update", "session": {"model": "gpt-realtime", "model": "gpt-5"}}',
    "no JSON": "hello",
    "no text": b'{"type": "session.update", "session": {"model": "gpt-5"}}',
}


@pytest.mark.parametrize("what", EVENTS)
async def test_an_event_that_asks_for(what: str) -> None:
    """The session is over before the upstream hears of it."""
    event = EVENTS[what]
    async with between() as world, world.connect() as client:
        await client.recv()
        await client.send(event if isinstance(event, str | bytes) else json.dumps(event))
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1008
        assert await world.model.closed.get() == 1001
        record = await world.record()
        assert record.status == 101
        assert record.reason in (Reason.AUTHORIZATION, Reason.INVALID_REQUEST)
        assert "gpt-5" not in (record.error or "") + (client.close_reason or "")


async def test_a_browser_s_key_stays_here() -> None:
    offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{ALICE}")]
    async with between() as world, world.connect(subprotocols=offered) as client:
        assert client.subprotocol == "realtime"
        ((_, headers),) = world.model.handshakes
        assert headers["sec-websocket-protocol"] == "realtime"


async def test_a_key_in_the_query_stays_here() -> None:
    async with between() as world, world.connect("key=a-key-of-the-client&model=gpt-realtime") as client:
        await client.recv()
        assert world.model.handshakes[0][0] == "/api/v1/realtime?model=gpt-realtime"


async def test_a_provider_has_its_own_name_for_a_model() -> None:
    async with between(aliases={"gpt-realtime": "deployment-7"}) as world, world.connect() as client:
        await client.recv()
        assert world.model.handshakes[0][0] == "/api/v1/realtime?model=deployment-7"


@pytest.mark.parametrize("status", ["503 Unavailable", "429 Too Many"])
async def test_another_provider_is_asked(status: str) -> None:
    async def script(peer: Any) -> None:
        await peer.message()
        peer.send(answer(status))
        await peer.rest()

    failing = Upstream()
    with failing.listener:
        first = Provider(f"http://127.0.0.1:{failing.port}/v1", credential=Secret("sk-other"))
        async with failing.doing(script), between(first) as world:
            async with world.connect() as client:
                await client.recv()
                assert [headers["authorization"] for _, headers in world.model.handshakes] == [f"Bearer {UPSTREAM_KEY}"]
            record = await world.record()
            assert [attempt.status for attempt in record.attempts] == [int(status[:3]), 101]


async def test_what_is_said_of_our_credential_is_not_for_clients() -> None:
    async def script(peer: Any) -> None:
        await peer.message()
        peer.send(answer("401 Unauthorized", body=f"{UPSTREAM_KEY} is no good"))
        await peer.rest()

    refusing = Upstream()
    with refusing.listener:
        first = Provider(f"http://127.0.0.1:{refusing.port}/v1", credential=Secret(UPSTREAM_KEY), weight=2)
        app = create_gateway(
            Route("/v1", LLMBackend([first], websockets=WebSockets())),
            authenticate=[APIKeyAuth({"alice": ALICE})],
            authorize=[RULES],
        )
        async with refusing.doing(script), serving(app) as own:
            with pytest.raises(InvalidStatus) as caught:
                await connect(
                    f"ws://127.0.0.1:{own}/v1/realtime?model=gpt-realtime",
                    additional_headers={"authorization": f"Bearer {ALICE}"},
                    proxy=None,
                )
            assert caught.value.response.status_code == 502
            assert UPSTREAM_KEY.encode() not in caught.value.response.body
