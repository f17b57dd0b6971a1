"""Budgets of tokens: what is charged, when, and what a client cannot get for nothing."""

import json
import logging
from typing import Any

import pytest

from agentgate import LLM, Call, Gate, RateLimit, Record, Request, all_of, shadow
from agentgate.limits import tokens
from agentgate.limits.memory import MemoryStore
from agentgate.limits.tokens import taken
from agentgate.protocols.llm import usage
from agentgate.testing import Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
BODY = json.dumps({"model": "m", "messages": ["x" * 370]}).encode()  # a hundred tokens by its size
USAGE = {"usage": {"prompt_tokens": 30, "completion_tokens": 20}}


class Model:
    """An LLM API that answers with these chunks."""

    def __init__(self, *chunks: Any, headers: Any = JSON, status: int = 200, ends: bool = True) -> None:
        self.chunks = [chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode() for chunk in chunks]
        self.headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.status, self.ends, self.calls = status, ends, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if self.ends:
            await send({"type": "http.response.body", "body": b""})


async def spent(gate: Gate, target: str = "/v1/chat/completions", body: bytes = BODY, **options: Any) -> Any:
    return await drive(gate, http_scope("POST", target, headers=JSON), body=body, **options)


def gated(app: Any, limit: Any, **options: Any) -> Gate:
    return Gate(app, authorize=[limit], protocol=LLM(), **options)


async def test_a_call_is_refused_when_the_budget_is_spent() -> None:
    model = Model(USAGE)
    gate = gated(model, RateLimit(tokens=100, per="day"))
    exchange = await spent(gate)
    assert (exchange.status, exchange.headers["x-ratelimit-remaining"]) == (200, "100")  # it is not known yet
    exchange = await spent(gate)
    assert (exchange.status, exchange.headers["x-ratelimit-remaining"]) == (200, "50")
    exchange = await spent(gate)
    assert (exchange.status, json.loads(exchange.body)["error"]["message"], model.calls) == (
        429,
        "rate limit exceeded",
        2,
    )


async def test_what_was_spent_too_much_has_to_be_waited_for() -> None:
    limit = RateLimit(tokens=100, per=1000)
    gate = gated(Model({"usage": {"prompt_tokens": 399, "completion_tokens": 1}}), limit)
    await spent(gate)
    exchange = await spent(gate)
    assert exchange.status == 429
    assert 1740 <= int(exchange.headers["retry-after"]) <= 1751  # the window, and three quarters of the next


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


BEGUN = event({"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}})
TEXT = event({"type": "content_block_delta", "delta": {"text": "x" * 200}})  # 251 bytes
ENDED = event({"type": "message_delta", "usage": {"output_tokens": 5}})
CLAUDE = "/v1/messages"


@pytest.mark.parametrize(
    ("model", "target", "options", "charged"),
    [
        pytest.param(Model(USAGE), None, {}, 50, id="as told"),
        pytest.param(Model({"usage": {"prompt_tokens": 30}}), "/v1/embeddings", {}, 30, id="embeddings"),
        pytest.param(Model(BEGUN, TEXT, ENDED, headers=SSE), CLAUDE, {}, 14, id="a stream"),
        pytest.param(Model("x" * 398), None, {}, 200, id="an answer without usage: by its size, 4 bytes each"),
        pytest.param(Model(event({}), TEXT * 10, headers=SSE), None, {}, 100 + 13, id="a stream without usage"),
        pytest.param(
            Model(BEGUN, TEXT * 10, headers=SSE, ends=False), CLAUDE, {}, 9 + 13, id="a stream that is cut off"
        ),
        pytest.param(
            Model(BEGUN, TEXT * 10, ENDED, headers=SSE, ends=False), CLAUDE, {}, 22, id="cut off with its last byte"
        ),
        pytest.param(Model(USAGE, ends=False), None, {}, 100 + 14, id="a document that is cut off"),
        pytest.param(Model(ends=False), None, {}, 100, id="nothing but a start"),
        pytest.param(Model({"error": "x" * 999}, status=500), None, {}, 0, id="the provider's error"),
        pytest.param(Model({"error": "x" * 999}, status=429), None, {}, 0, id="the provider's limit"),
        pytest.param(Model({"usage": {"prompt_tokens": 2**53 - 1}}), None, {}, 2**40, id="absurd"),
        pytest.param(Model(b"{" * 400), "/v1/brand/new", {}, 100, id="an API that is not known"),
    ],
)
async def test_what_is_charged(monkeypatch: Any, model: Model, target: str | None, options: Any, charged: int) -> None:
    noted: list[int] = []
    monkeypatch.setattr(MemoryStore, "charge", lambda self, bucket, amount: noted.append(amount))
    gate = gated(model, RateLimit(tokens=1, per="day"))
    await spent(gate, target or "/v1/chat/completions", **options)
    assert noted == ([charged] if charged else [])


async def test_whoever_goes_away_before_the_end_has_spent_all_the_same() -> None:
    class Gone(Model):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await send({"type": "http.response.body", "body": TEXT, "more_body": True})
            raise OSError("the client has gone")

    limit = RateLimit(tokens=100, per="day")
    gate = gated(Gone(headers=SSE), limit)
    await spent(gate, catch=True)
    assert (await spent(gate)).status == 429


CREATED = json.dumps({"type": "response.created"})
DELTA = json.dumps({"type": "response.output_audio.delta", "delta": "x" * 1948})  # of 2,000 bytes: as ten events
DONE = json.dumps({"type": "response.done", "response": {"usage": {"input_tokens": 30, "output_tokens": 20}}})
UNTOLD = json.dumps({"type": "response.done", "response": {"usage": None}})


@pytest.mark.parametrize(
    ("events", "charged"),
    [
        pytest.param([CREATED, DELTA, DONE], 50, id="what the provider says, not how large audio is"),
        pytest.param([CREATED, DELTA, DONE, CREATED, DELTA, DONE], 100, id="two responses"),
        pytest.param([CREATED, DELTA, DONE, CREATED, DELTA], 60, id="left in the middle of the second"),
        pytest.param([CREATED, DELTA], 10, id="left in the middle of the first"),
        pytest.param([CREATED, DELTA, UNTOLD], 10, id="one that tells nothing"),
        pytest.param([DELTA, DONE, DELTA], 50, id="what is said of no response"),
    ],
)
async def test_a_session_is_charged_by_its_responses(monkeypatch: Any, events: list[str], charged: int) -> None:
    noted: list[int] = []
    monkeypatch.setattr(MemoryStore, "charge", lambda self, bucket, amount: noted.append(amount))

    async def model(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        for event in events:
            await send({"type": "websocket.send", "text": event})

    assert len(DELTA) == 2000
    await drive(gated(model, RateLimit(tokens=1, per="day")), websocket_scope("/v1/realtime?model=m"))
    assert noted == [charged]


async def test_a_request_that_was_refused_costs_nothing() -> None:
    spendthrift, frugal = RateLimit(tokens=10**6, per="day"), RateLimit(requests=1, per="day")
    noted: list[Any] = []
    spendthrift._counting.charge = lambda *what: noted.append(what)  # type: ignore[method-assign]
    gate = Gate(Model(), authorize=[spendthrift, frugal], protocol=LLM())
    assert [(await spent(gate)).status for _ in range(3)] == [200, 429, 429]
    assert len(noted) == 1


async def test_one_answer_is_charged_once_to_each_budget() -> None:
    limit = RateLimit(tokens=10**6, per="day")
    by_model = RateLimit(tokens=10**6, per="day", key="model")
    noted: list[Any] = []
    for one in (limit, by_model):
        one._counting.charge = lambda *what: noted.append(what)  # type: ignore[method-assign]
    gate = Gate(
        gated(Model(USAGE), limit), authorize=[limit, all_of(limit, by_model), shadow(by_model)], protocol=LLM()
    )
    await spent(gate)
    assert sorted(noted) == [(("model", "m"), 50), (("peer", "127.0.0.1"), 50)]


@pytest.mark.parametrize("method", ["models", "unknown"])
async def test_a_list_of_models_takes_no_tokens(method: str) -> None:
    limit = RateLimit(tokens=1, per="day")
    limit._counting.charge(("peer", "127.0.0.1"), 9)
    provisional = Request.http(call=Call("llm", method, provisional=method == "models"))
    await limit.prepare(provisional)
    assert limit.check(provisional).effect == ("allow" if method == "models" else "deny")


async def test_what_speaks_no_llm_is_not_counted_and_where_nobody_reads_none_may_pass() -> None:
    limit = RateLimit(tokens=1, per="day")
    limit._counting.charge(("peer", "127.0.0.1"), 9)
    tool = Request.tool("t")
    await limit.prepare(tool)
    assert limit.check(tool).effect == "allow"
    exchange = await drive(Gate(Model(USAGE), authorize=[limit]), http_scope())
    assert (exchange.status, exchange.text) == (403, "authorization failed")
    assert limit.check(Request.http()).detail == "no protocol is read here that would tell of tokens"
    assert limit.check(Request.model("m")).effect == "allow"


async def test_a_store_that_breaks_when_it_is_charged_is_told_in_the_log(caplog: Any) -> None:
    limit = RateLimit(tokens=1, per="day")

    def broken(bucket: Any, amount: int) -> None:
        raise RuntimeError("secret")

    limit._counting.charge = broken  # type: ignore[method-assign]
    recorder = Recorder()
    with caplog.at_level(logging.ERROR, "agentgate"):
        exchange = await spent(gated(Model(USAGE), limit, observe=[recorder]))
    assert (exchange.status, len(recorder.records)) == (200, 1)
    assert "a policy failed after the response: RuntimeError at test_tokens.py:" in caplog.text
    assert "secret" not in caplog.text


def test_the_words_are_those_in_which_the_protocol_notes_usage() -> None:
    assert (tokens.INPUT, tokens.OUTPUT, tokens.FIRST_TOKEN) == (usage._INPUT, usage._OUTPUT, usage.FIRST_TOKEN)


def test_nothing_is_made_of_what_is_no_number() -> None:
    record = Record(Request.http())
    record.complete = True
    record.details |= {tokens.INPUT: "9", tokens.OUTPUT: 1.5}
    assert taken(record, 0) == 0
