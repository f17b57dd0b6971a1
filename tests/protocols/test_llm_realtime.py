"""Sessions of the Realtime API: which model a handshake and an event ask for, and what cannot be told."""

import json
from typing import Any

import pytest

from agentgate import LLM, CELRules, Decision, Gate, Reason, Record, Request
from agentgate.protocols.llm.apis import Operation
from agentgate.protocols.llm.body import Ambiguous
from agentgate.protocols.llm.realtime import MAX_PARTS, SessionWatch, models_of, with_model
from agentgate.protocols.protocol import AnswerRefused, anything
from agentgate.respond import Message
from agentgate.testing import Recorder, drive, websocket_scope

MODEL = "gpt-realtime"


@pytest.mark.parametrize(
    ("target", "llm", "provider", "path", "model"),
    [
        ("/v1/realtime?model=gpt-realtime", LLM("openai"), "openai", "/realtime", MODEL),
        ("/v1/realtime?model=gpt-realtime", LLM(), "openai", "/realtime", MODEL),
        ("/any/v1/realtime?model=ft:gpt-realtime:us::1", LLM("openai"), "openai", "/realtime", "ft:gpt-realtime:us::1"),
        ("/v1/realtime?model=ft%3Agpt-realtime", LLM("openai"), "openai", "/realtime", "ft:gpt-realtime"),
        ("/v1/realtime?api-key=a%00&model=gpt-realtime&key", LLM("openai"), "openai", "/realtime", MODEL),
        ("/openai/v1/realtime?model=mine", LLM("azure"), "azure", "/openai/v1/realtime", "mine"),
        ("/openai/realtime?api-version=2030-01-01-preview&deployment=mine", LLM(), "azure", "/openai/realtime", "mine"),
    ],
)
def test_a_session_with_one_model(target: str, llm: LLM, provider: str, path: str, model: str) -> None:
    request = Request.websocket(target)
    assert not llm.reads_body(request)
    operation = llm.operation(request)
    assert operation is not None
    assert (operation.provider, operation.path_for(None).decode(), operation.in_body) == (provider, path, False)
    reading = llm.read(request)
    assert not isinstance(reading, Decision)
    (call,) = reading.calls
    assert (call.protocol, call.method, call.model) == ("llm", "realtime", model)
    assert call.attributes["streaming"] is True
    assert reading.details["gen_ai.request.model"] == model


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("/v1/realtime", "the model is not named"),
        ("/v1/realtime?model=", "the query has a value that can be read in two ways"),
        ("/v1/realtime?model", "the query has a value that can be read in two ways"),
        ("/v1/realtime?model=a&model=a", "the query has a parameter that is not known here, or twice"),
        ("/v1/realtime?model=a&MODEL=b", "the query has a parameter that is not known here, or twice"),
        ("/v1/realtime?mod%65l=a", "the query has a parameter that is not known here, or twice"),
        ("/v1/realtime?model=a&intent=transcription", "the query has a parameter that is not known here, or twice"),
        ("/v1/realtime?model=a&", "the query has a parameter that is not known here, or twice"),
        ("/v1/realtime?model=a;model=b", "the query has a value that can be read in two ways"),
        ("/v1/realtime?model=a%26model=b", "the query has a value that can be read in two ways"),
        ("/v1/realtime?model=a+b", "the query has a value that can be read in two ways"),
        ("/v1/realtime?model=" + "a" * 257, "the model's name is empty, too long, or not visible ASCII"),
        ("/v1/realtime?deployment=a", "the query has a parameter that is not known here, or twice"),
        ("/openai/realtime?model=a", "the query has a parameter that is not known here, or twice"),
    ],
)
def test_a_session_of_which_that_cannot_be_told(target: str, fault: str) -> None:
    decision = LLM().read(Request.websocket(target))
    assert isinstance(decision, Decision)
    assert (decision.status, decision.message) == (400, f"invalid request: {fault}")
    assert decision.body is not None
    assert json.loads(decision.body)["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("target", "llm"),
    [
        ("/v1/realtime/other?model=a", LLM()),
        ("/v1/re%61ltime?model=a", LLM()),
        ("/v1/models/b/realtime?model=a", LLM()),
        ("/engines/b/realtime?model=a", LLM()),
        ("/v1/chat/completions?model=a", LLM()),
        ("/v1/realtime?model=a", LLM("azure")),
        ("/v1/realtime?model=a", LLM("anthropic")),
        ("/v1/realtime?model=a", LLM("gemini")),
    ],
)
def test_no_session(target: str, llm: LLM) -> None:
    reading = llm.read(Request.websocket(target))
    assert not isinstance(reading, Decision)
    assert [(call.method, call.model) for call in reading.calls] == [("unknown", None)]
    assert Gate(protocol=llm, authorize=[CELRules(allow=['llm.requestModel == "a"'])]).explain(
        Request.websocket(target)
    )[-1].effect == "deny"  # fmt: skip


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        (b"model=a", b"model=b%2F1"),
        (b"api-version=1&model=a", b"api-version=1&model=b%2F1"),
    ],
)
def test_another_name_for_the_model(query: bytes, sent: bytes) -> None:
    operation = Operation("realtime", "openai", "openai", ("/realtime", "", ""), "a", parameter="model")
    assert with_model(query, operation, "b/1") == sent


@pytest.mark.parametrize(
    ("event", "models"),
    [
        ({"type": "response.create"}, []),
        ({"type": "x", "model": "a"}, ["a"]),
        ({"session": {"model": "a", "audio": {"input": {"transcription": {"model": "b"}}}}}, ["a", "b"]),
        ({"session": {"input_audio_transcription": {"model": "b"}, "model": None}}, ["b"]),
        ({"session": {"input_audio_transcription": None, "audio": None}}, []),
        ({"session": {"tools": [{"type": "function", "parameters": {"model": 1}}, {"model": "c"}]}}, ["c"]),
        ({"response": {"model": "d", "tools": [{"model": "e"}], "input": [{"model": 1}]}}, ["d", "e"]),
        ({"item": {"model": 1, "content": [{"text": "model"}]}}, []),
    ],
)
def test_what_events_name(event: Any, models: list[str]) -> None:
    assert models_of(json.dumps(event)) == models


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        (None, "an event is no text"),
        ("", "not valid JSON"),
        ("\ud800", "has not one reading"),
        ('"model"', "an event is no JSON object"),
        ('{"model": "a", "model": "b"}', "has not one reading"),
        ('{"Model": "a"}', "an unusual spelling"),
        ('{"session": {"fallback_models": []}}', "may choose another model"),
        ('{"session": []}', "the session of an event is no JSON object"),
        ('{"session": {"audio": 1}}', "the audio of an event is no JSON object"),
        ('{"session": {"audio": {"input": {"transcription": "whisper-1"}}}}', "transcription of an event is no JSON"),
        ('{"response": {"model": ""}}', "the model's name is empty"),
        ('{"response": {"model": {"id": "a"}}}', "the model's name is no text"),
        ('{"response": {"tools": {}}}', "the tools are no list"),
    ],
)
def test_events_of_which_that_cannot_be_told(event: str | None, fault: str) -> None:
    with pytest.raises(Ambiguous, match=fault):
        models_of(event)


USAGE = {"input_tokens": 5, "output_tokens": 7, "input_token_details": {"cached_tokens": True, "audio_tokens": 3}}


def test_an_event_may_be_long_but_not_of_many_parts() -> None:
    assert models_of(json.dumps({"type": "input_audio_buffer.append", "audio": "A" * MAX_PARTS * 2})) == []
    with pytest.raises(Ambiguous, match="too many parts"):
        models_of(json.dumps({"type": "session.update", "a": [[]] * MAX_PARTS}))


def test_what_responses_take_is_added_up() -> None:
    record = Record(Request.websocket("/"))
    record.details["gen_ai.usage.output_tokens"] = "nonsense"
    watch = SessionWatch(record)
    done = json.dumps({"type": "response.done", "response": {"model": "m", "usage": USAGE}})
    for event in (done, '"response.done"', '{"response.done"', '{"type": "x", "a": "response.done"}', done, "{}"):
        watch.hear(event)
    watch.hear(done.replace("}", " " * 2**20 + "}", 1))
    assert record.details == {
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 14,
        "gen_ai.usage.input_audio_tokens": 6,
    }


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Accepts, and says every message again."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    for _ in range(3):
        await send({**await receive(), "type": "websocket.send"})
    await send({"type": "websocket.close", "code": 1000})


RULES = CELRules(allow=['llm.requestModel in ["gpt-realtime", "whisper-1"]'])


@pytest.mark.anyio
async def test_an_app_hears_what_was_judged() -> None:
    recorder = Recorder()
    gate = Gate(app, protocol="llm", authorize=[RULES], observe=[recorder])
    said = [
        '{"session": {"model": "gpt-realtime"}}',
        '{"session": {"input_audio_transcription": {"model": "whisper-1"}}}',
    ]
    said.append(json.dumps({"type": "response.done", "response": {"usage": USAGE}}))
    answered = await drive(gate, websocket_scope("/v1/realtime?model=gpt-realtime"), incoming=said)
    heard = [message.get("text") for message in answered.messages if message["type"] == "websocket.send"]
    assert heard == said
    assert recorder.last.details["gen_ai.usage.input_tokens"] == 5


@pytest.mark.anyio
async def test_another_websocket_of_an_app_is_left_alone() -> None:
    """It names no model, which is for rules to judge; what is said over it is not looked at."""
    gate = Gate(app, protocol="llm", authorize=[CELRules(allow=["true"])])
    said = ['{"session": {"model": "gpt-5"}}', "no JSON", "x"]
    answered = await drive(gate, websocket_scope("/chat"), incoming=said)
    assert [message.get("text") for message in answered.messages if message["type"] == "websocket.send"] == said


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ('{"session": {"model": "gpt-5"}}', Reason.AUTHORIZATION),
        ("no JSON", Reason.INVALID_REQUEST),
        (b"{}", Reason.INVALID_REQUEST),
    ],
)
async def test_what_was_not_is_the_end(event: str | bytes, reason: Reason) -> None:
    recorder = Recorder()
    gate = Gate(app, protocol="llm", authorize=[RULES], observe=[recorder])
    answered = await drive(gate, websocket_scope("/v1/realtime?model=gpt-realtime"), incoming=["{}", event, "{}"])
    assert [message["type"] for message in answered.messages] == ["websocket.accept", "websocket.send"]
    assert (recorder.last.status, recorder.last.reason) == (101, reason)
    assert "gpt-5" not in (recorder.last.error or "")


@pytest.mark.anyio
async def test_where_nobody_restricts_models_events_may_name_any() -> None:
    reading = LLM().read(Request.websocket("/v1/realtime?model=gpt-realtime"))
    assert not isinstance(reading, Decision)

    async def receive() -> Message:
        return {"type": "websocket.receive", "text": '{"model": "gpt-5"}'}

    assert (await reading.hearing(receive, anything)())["type"] == "websocket.receive"
    with pytest.raises(AnswerRefused):
        await reading.hearing(receive, lambda call: False)()
