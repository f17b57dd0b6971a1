"""What becomes of answers: usage is read as they pass, lists are filtered, and all else goes on as it came."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest

from agentgate import CELRules, Gate
from agentgate.protocols.llm import LLM
from agentgate.protocols.llm.listing import MAX_LIST
from agentgate.protocols.llm.usage import MAX_DOCUMENT, MAX_LINE
from agentgate.testing import Exchange, Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream; charset=utf-8"}
CHAT = "/v1/chat/completions"
CLAUDE = "/v1/messages"
GEMINI = "/v1beta/models/m:generateContent"
STREAM = "/v1beta/models/m:streamGenerateContent"
BODY = b'{"model": "m"}'
ANY = CELRules(allow=["true"])


class Upstream:
    """An app that answers with these chunks; `cut`: and does not end its answer."""

    def __init__(
        self, chunks: Iterable[bytes], headers: dict[str, str] = JSON, status: int = 200, cut: bool = False
    ) -> None:
        self.chunks = [*chunks]
        self.headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.status = status
        self.cut = cut
        self.asked: dict[bytes, bytes] = {}
        self.body = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked = dict(scope["headers"])
        self.body = (await receive())["body"]
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not self.cut:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def ask(
    upstream: Upstream, target: str = CHAT, body: bytes = BODY, *, include_usage: bool = False, rules: CELRules = ANY
) -> tuple[Exchange, dict[str, Any]]:
    """The exchange, and what the log learnt of the answer."""
    recorder = Recorder()
    gate = Gate(upstream, authorize=[rules], observe=[recorder], protocol=LLM(include_usage=include_usage))
    scope = http_scope("POST" if body else "GET", target, headers={**JSON, "accept-encoding": "gzip"})
    exchange = await drive(gate, scope, body=body)
    details = recorder.last.details
    return exchange, {
        name.removeprefix("gen_ai.").removeprefix("usage."): value
        for name, value in details.items()
        if name.startswith(("gen_ai.usage.", "gen_ai.response."))
    }


def event(document: Any, end: bytes = b"\n", name: str = "") -> bytes:
    first = b"event: " + name.encode() + end if name else b""
    return first + b"data: " + json.dumps(document).encode() + end + end


OPENAI = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
DETAILED = {
    **OPENAI,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 3},
}
NINE_FIVE = {"input_tokens": 9, "output_tokens": 5}

DOCUMENTS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "OpenAI": (CHAT, {"model": "m-1", "usage": OPENAI}, {"response.model": "m-1", **NINE_FIVE}),
    "OpenAI, all of it": (
        CHAT,
        {"usage": DETAILED},
        {
            **NINE_FIVE,
            "cache_read.input_tokens": 4,
            "reasoning_tokens": 2,
            "input_audio_tokens": 1,
            "output_audio_tokens": 3,
        },
    ),
    "OpenAI's responses": (
        "/v1/responses",
        {
            "model": "m-1",
            "usage": {
                **NINE_FIVE,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
        },
        {"response.model": "m-1", **NINE_FIVE, "cache_read.input_tokens": 4, "reasoning_tokens": 2},
    ),
    "Anthropic": (
        CLAUDE,
        {
            "model": "c-1",
            "usage": {
                "input_tokens": 2,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 3,
                "output_tokens": 5,
            },
        },
        {
            "response.model": "c-1",
            **NINE_FIVE,
            "cache_read.input_tokens": 4,
            "cache_creation.input_tokens": 3,
        },
    ),
    "Google": (
        GEMINI,
        {
            "modelVersion": "g-1",
            "usageMetadata": {
                "promptTokenCount": 9,
                "candidatesTokenCount": 3,
                "thoughtsTokenCount": 2,
                "cachedContentTokenCount": 4,
            },
        },
        {"response.model": "g-1", **NINE_FIVE, "reasoning_tokens": 2, "cache_read.input_tokens": 4},
    ),
    "Google, without thoughts": (
        GEMINI,
        {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 5}},
        NINE_FIVE,
    ),
    "Google, a stream as one array": (
        STREAM,
        [{"usageMetadata": {"promptTokenCount": 1}}, {"usageMetadata": {"promptTokenCount": 9}}],
        {"input_tokens": 9},
    ),
    "an empty array": (STREAM, [], {}),
    "usage that is none": (CHAT, {"model": 1, "usage": {"prompt_tokens": "9", "completion_tokens": -1}}, {}),
    "usage that is absurd": (CHAT, {"usage": {"prompt_tokens": True, "completion_tokens": 10**30}}, {}),
    "usage that is a list": (CHAT, {"usage": [9]}, {}),
    "Anthropic's that is none": (CLAUDE, {"usage": {"input_tokens": None, "output_tokens": "5"}}, {}),
    "Google's that is none": (GEMINI, {"usageMetadata": 1}, {}),
    "usage that a model made up": (
        CLAUDE,
        {"content": [{"type": "tool_use", "input": {"usage": {"input_tokens": 1}}}], "usage": NINE_FIVE},
        NINE_FIVE,
    ),
    "a number": (CHAT, 7, {}),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(("target", "document", "usage"), DOCUMENTS.values(), ids=DOCUMENTS)
async def test_usage_of_a_document(target: str, document: Any, usage: dict[str, Any], size: int) -> None:
    """However it is cut up; and it goes on as it came."""
    data = json.dumps(document).encode()
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    exchange, found = await ask(Upstream(chunks), target)
    assert (found, exchange.chunks) == (usage, [*chunks, b""])


@pytest.mark.parametrize(
    ("data", "usage"),
    [
        ({"data": ["x" * MAX_DOCUMENT], "usage": OPENAI}, NINE_FIVE),
        ({"data": ["x" * MAX_DOCUMENT], "usage": OPENAI, "model": "m-1"}, {**NINE_FIVE, "response.model": "m-1"}),
        ({"usage": OPENAI, "data": ["x" * MAX_DOCUMENT]}, {}),  # out of sight
        ({"data": ["x" * MAX_DOCUMENT, {"usage": OPENAI}]}, {}),  # not the document's own
        ({"data": ["x" * MAX_DOCUMENT, '"usage": {"prompt_tokens": 1}']}, {}),
    ],
)
async def test_of_a_large_document_only_the_end_is_looked_at(data: Any, usage: dict[str, Any]) -> None:
    document = json.dumps(data).encode()
    chunks = [document[at : at + 5000] for at in range(0, len(document), 5000)]
    exchange, found = await ask(Upstream(chunks), "/v1/embeddings")
    assert (found, exchange.body) == (usage, document)


CHUNK = {"model": "m-1", "choices": [{"delta": {"content": "hi"}}]}
LAST = {"model": "m-1", "choices": [], "usage": OPENAI}
DONE = b"data: [DONE]\n\n"
RESPONSE = {"model": "m-1", "usage": NINE_FIVE}
BEGUN = {"type": "message_start", "message": {"model": "c-1", "usage": {"input_tokens": 9, "output_tokens": 1}}}
DELTA = {"type": "message_delta", "usage": {"output_tokens": 5}}

STREAMS: dict[str, tuple[str, list[bytes], dict[str, Any]]] = {
    "OpenAI": (CHAT, [event(CHUNK), event(LAST), DONE], {"response.model": "m-1", **NINE_FIVE}),
    "OpenAI, with nulls": (
        CHAT,
        [event({**CHUNK, "usage": None}), event(LAST)],
        {"response.model": "m-1", **NINE_FIVE},
    ),
    "OpenAI, without usage": (CHAT, [event(CHUNK), event(CHUNK), DONE], {"response.model": "m-1"}),
    "OpenAI, CR LF": (
        CHAT,
        [event(CHUNK, b"\r\n"), event(LAST, b"\r\n")],
        {"response.model": "m-1", **NINE_FIVE},
    ),
    "OpenAI's responses": (
        "/v1/responses",
        [
            event({"type": "response.created", "response": {"model": "m-1"}}, name="response.created"),
            event({"type": "response.completed", "response": RESPONSE}, name="response.completed"),
        ],
        {"response.model": "m-1", **NINE_FIVE},
    ),
    "Anthropic": (
        CLAUDE,
        [event(BEGUN, name="message_start"), event(DELTA, name="message_delta")],
        {"response.model": "c-1", **NINE_FIVE},
    ),
    "Google": (
        STREAM,
        [
            event({"modelVersion": "g-1", "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1}}),
            event({"modelVersion": "g-1", "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 5}}),
        ],
        {"response.model": "g-1", **NINE_FIVE},
    ),
    "comments first": (CHAT, [b": hello\n\n", event(CHUNK), event(LAST)], {"response.model": "m-1", **NINE_FIVE}),
    "no JSON": (CHAT, [b"data: {usage\n\n", b'data: {"usage"\n\n', b'"usage"\n\n'], {}),
    "an event without an end": (CHAT, [event(LAST)[:-2]], {}),
    "nothing": (CHAT, [b""], {}),
}


@pytest.mark.parametrize("size", [1, 9, 1 << 20])
@pytest.mark.parametrize(("target", "events", "usage"), STREAMS.values(), ids=STREAMS)
async def test_usage_of_a_stream(target: str, events: list[bytes], usage: dict[str, Any], size: int) -> None:
    data = b"".join(events)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    exchange, found = await ask(Upstream(chunks, SSE), target)
    assert (found, exchange.chunks) == (usage, [*chunks, b""])


async def test_what_was_said_before_a_stream_broke_off_is_known() -> None:
    exchange, found = await ask(Upstream([event(BEGUN)], SSE, cut=True), CLAUDE)
    assert not exchange.complete
    assert found == {"response.model": "c-1", "input_tokens": 9, "output_tokens": 1}


async def test_a_line_of_any_length_is_not_kept() -> None:
    long = b"data: " + b"x" * (MAX_LINE + 1)
    exchange, found = await ask(Upstream([long, b"y", b"\n\n", event(LAST)], SSE))
    assert found == {"response.model": "m-1", **NINE_FIVE}
    assert len(exchange.body) == len(long) + 3 + len(event(LAST))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({**JSON, "content-encoding": "gzip"}, 200),
        ({**JSON, "content-encoding": "identity"}, 400),
        ({"content-type": "audio/mpeg"}, 200),
        ({"Content-Type": "text/plain"}, 200),
        ({}, 200),
    ],
)
async def test_answers_that_are_not_looked_at(headers: dict[str, str], status: int) -> None:
    upstream = Upstream([json.dumps({"usage": OPENAI}).encode()], headers, status)
    exchange, found = await ask(upstream)
    assert (exchange.status, found, exchange.body) == (status, {}, upstream.chunks[0])
    assert upstream.asked[b"accept-encoding"] == b"identity"


# -- usage that the client has not asked for ---------------------------------------------------------------------------

STREAMED = {"model": "m", "stream": True}


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 11, 1 << 20])
async def test_usage_is_asked_for_and_kept_back(end: bytes, size: int) -> None:
    data = event(CHUNK, end) + event({**CHUNK, "choices": []}, end) + event(LAST, end) + DONE
    wanted = event(CHUNK, end) + event({**CHUNK, "choices": []}, end) + DONE
    upstream = Upstream([data[at : at + size] for at in range(0, len(data), size)], SSE)
    exchange, found = await ask(upstream, body=json.dumps(STREAMED).encode(), include_usage=True)
    assert json.loads(upstream.body) == {**STREAMED, "stream_options": {"include_usage": True}}
    assert exchange.body == wanted
    assert found == {"response.model": "m-1", **NINE_FIVE}


async def test_chunks_that_are_whole_events_go_on_as_they_are() -> None:
    chunks = [event(CHUNK), event(CHUNK, b"\r\n") * 2, event(CHUNK)[:9], event(CHUNK)[9:], event(LAST), DONE]
    body = json.dumps(STREAMED).encode()
    exchange, _ = await ask(Upstream(chunks, SSE), body=body, include_usage=True)
    assert exchange.chunks == [chunks[0], chunks[1], b"", event(CHUNK), b"", DONE, b""]


ASKED: dict[str, tuple[str, dict[str, Any], Any]] = {
    # target, body, the stream_options that go on (False: the body goes on as it is)
    "an option of its own": (CHAT, {"stream_options": {"include_obfuscation": False}}, {"include_obfuscation": False}),
    "no": (CHAT, {"stream_options": {"include_usage": False}}, {}),
    "null": (CHAT, {"stream_options": None}, {}),
    "old completions": ("/v1/completions", {}, {}),
    "Azure": ("/openai/deployments/m/chat/completions", {}, {}),
    "yes": (CHAT, {"stream_options": {"include_usage": True}}, False),
    "no options": (CHAT, {"stream_options": 7}, False),
    "no stream": (CHAT, {"stream": False}, False),
    "responses": ("/v1/responses", {}, False),
    "embeddings": ("/v1/embeddings", {}, False),
    "Anthropic": (CLAUDE, {}, False),
}


@pytest.mark.parametrize(("target", "more", "options"), ASKED.values(), ids=ASKED)
async def test_when_usage_is_asked_for(target: str, more: dict[str, Any], options: Any) -> None:
    body = json.dumps({**STREAMED, **more}, indent=1).encode()
    upstream = Upstream([event(LAST)], SSE)
    exchange, _ = await ask(upstream, target, body, include_usage=True)
    if options is False:
        assert (upstream.body, exchange.body) == (body, event(LAST))
        return
    sent = json.loads(upstream.body)
    assert sent == {**STREAMED, **more, "stream_options": {**options, "include_usage": True}}
    assert exchange.body == b""
    assert upstream.asked.get(b"content-length") == str(len(upstream.body)).encode()


async def test_an_answer_that_is_no_stream_goes_on_as_it_is() -> None:
    body = json.dumps(STREAMED).encode()
    document = json.dumps({"choices": [], "usage": OPENAI}).encode()
    for headers in (JSON, {"content-type": "text/plain"}):
        exchange, _ = await ask(Upstream([document], headers), body=body, include_usage=True)
        assert exchange.body == document


# -- lists of models ---------------------------------------------------------------------------------------------------

CHEAP = CELRules(allow=['llm.requestModel.startsWith("cheap") && llm.provider != ""'])


def openai_list(*names: Any, **more: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model"} for name in names], **more}


def pages(first: Any, last: Any, more: bool = False) -> dict[str, Any]:
    return {"has_more": more, "first_id": first, "last_id": last}


LISTS: dict[str, tuple[str, Any, Any]] = {
    "OpenAI's": ("/v1/models", openai_list("cheap-1", "dear", "cheap-2"), openai_list("cheap-1", "cheap-2")),
    "Google's items of no name": ("/v1beta/models", {"models": [{}, {"name": 1}]}, {"models": []}),
    "all of them": ("/v1/models", openai_list("cheap-1"), openai_list("cheap-1")),
    "none": ("/v1/models", openai_list("dear"), openai_list()),
    "items of no name": ("/v1/models", openai_list("cheap-1", None, 1, "cheap 2"), openai_list("cheap-1")),
    "items that are none": ("/v1/models", {"data": ["dear", None, {"id": "cheap-1"}]}, {"data": [{"id": "cheap-1"}]}),
    "an empty one": ("/v1/models", openai_list(), openai_list()),
    "Anthropic's": (
        "/v1/models",
        openai_list("dear", "cheap-1", "cheap-2", "dear-2", **pages("dear", "dear-2", True)),
        openai_list("cheap-1", "cheap-2", **pages("cheap-1", "cheap-2", True)),
    ),
    "a page of none, and more": (
        "/v1/models",
        openai_list("dear", **pages("dear", "dear", True)),
        openai_list(**pages("dear", "dear", True)),
    ),
    "a last page of none": (
        "/v1/models",
        openai_list("dear", **pages("dear", "dear")),
        openai_list(**pages(None, None)),
    ),
    "Google's": (
        "/v1beta/models",
        {"models": [{"name": name} for name in ("models/cheap", "models/dear", "tunedModels/cheap")], "next": "t"},
        {"models": [{"name": "models/cheap"}], "next": "t"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", [5, 1 << 20])
@pytest.mark.parametrize(("target", "listed", "left"), LISTS.values(), ids=LISTS)
async def test_a_list_has_what_the_caller_may_use(target: str, listed: Any, left: Any, size: int) -> None:
    data = json.dumps(listed, indent=1).encode()
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    headers = {**JSON, "content-length": str(len(data)), "etag": '"1"', "x-request-id": "r"}
    exchange, _ = await ask(Upstream(chunks, headers), target, b"", rules=CHEAP)
    assert (exchange.status, json.loads(exchange.body)) == (200, left)
    assert exchange.headers == {
        "content-type": "application/json",
        "x-request-id": "r",
        "content-length": str(len(exchange.body)),
    }
    assert listed != left or exchange.body == data


NO_LISTS: dict[str, tuple[bytes, dict[str, str]]] = {
    "no JSON": (b"<html>dear</html>", JSON),
    "another media type": (b'{"data": []}', {"content-type": "text/html"}),
    "no media type": (b'{"data": []}', {}),
    "compressed": (b'{"data": []}', {**JSON, "content-encoding": "gzip"}),
    "an array": (b'["dear"]', JSON),
    "text": (b'"data"', JSON),
    "a number": (b"7", JSON),
    "another shape": (b'{"items": ["dear"]}', JSON),
    "both shapes": (b'{"data": [], "models": ["dear"]}', JSON),
    "a member twice": (b'{"data": [], "data": ["dear"]}', JSON),
    "no list in it": (b'{"data": {"dear": 1}}', JSON),
    "nothing": (b"", JSON),
}


@pytest.mark.parametrize(("data", "headers"), NO_LISTS.values(), ids=NO_LISTS)
async def test_what_cannot_be_filtered_is_not_shown(data: bytes, headers: dict[str, str]) -> None:
    recorder = Recorder()
    gate = Gate(Upstream([data], headers), authorize=[CHEAP], observe=[recorder], protocol=LLM())
    exchange = await drive(gate, http_scope("GET", "/v1/models"))
    assert exchange.status == 502
    assert json.loads(exchange.body)["error"]["message"] == "upstream call failed"
    assert "dear" not in exchange.text
    assert recorder.last.refusal is not None
    assert recorder.last.refusal.detail.startswith("the list of models cannot be filtered: ")


async def test_a_list_that_is_too_large_is_cut_short() -> None:
    chunk = b"x" * (1 << 20)
    endless = itertools.repeat(chunk, MAX_LIST // len(chunk) + 3)
    exchange, _ = await ask(Upstream(endless), "/v1/models", b"", rules=CHEAP)
    assert (exchange.status, len(exchange.chunks)) == (502, 1)


async def test_a_list_that_breaks_off_is_not_shown() -> None:
    data = json.dumps(openai_list("cheap-1")).encode()
    exchange, _ = await ask(Upstream([data], cut=True), "/v1/models", b"", rules=CHEAP)
    assert not exchange.started


async def test_errors_in_place_of_a_list_go_on() -> None:
    exchange, _ = await ask(Upstream([b"not now"], {}, 503), "/v1/models", b"", rules=CHEAP)
    assert (exchange.status, exchange.body) == (503, b"not now")


async def test_a_list_is_asked_for_whole() -> None:
    """Without conditions: who sees which part of it may have changed."""
    upstream = Upstream([b'{"data": []}'])
    gate = Gate(upstream, authorize=[CHEAP], protocol=LLM())
    headers = {"if-none-match": '"1"', "range": "bytes=0-5", "accept": "*/*"}
    assert (await drive(gate, http_scope("GET", "/v1/models", headers=headers))).status == 200
    assert upstream.asked.keys() == {b"host", b"accept", b"accept-encoding"}


@pytest.mark.parametrize(
    "rules",
    [
        CELRules(allow=["true"], deny=["has(llm.params.max_tokens) && llm.params.max_tokens > 9"]),
        CELRules(allow=["llm.params.max_tokens <= 9"]),
        CELRules(allow=["!llm.streaming"]),
        CELRules(require=["llm.params.seed == 1"]),
    ],
)
async def test_what_only_the_call_itself_can_tell_hides_no_model(rules: CELRules) -> None:
    data = json.dumps(openai_list("cheap-1")).encode()
    exchange, _ = await ask(Upstream([data]), "/v1/models", b"", rules=rules)
    assert (exchange.status, exchange.body) == (200, data)


async def test_who_may_not_list_is_not_asked() -> None:
    upstream = Upstream([b'{"data": []}'])
    exchange, _ = await ask(upstream, "/v1/models", b"", rules=CELRules(deny=["true"]))
    assert (exchange.status, upstream.asked) == (403, {})


@pytest.mark.parametrize(
    ("chunks", "cut", "told"),
    [
        pytest.param([{"usage": OPENAI}], False, True, id="a stream with its usage"),
        pytest.param([{"usage": None}], False, False, id="one that does not tell it"),
        pytest.param([{"usage": {"completion_tokens": 0}}], False, False, id="one of no tokens"),
        pytest.param([{"usage": OPENAI}], True, False, id="one that was cut off"),
        pytest.param([], False, False, id="one of nothing"),
    ],
)
async def test_time_per_token_is_told_of_whole_streams(chunks: list[Any], cut: bool, told: bool) -> None:
    """From the first bytes to the last, by the number of tokens: as agentgateway counts it."""
    recorder = Recorder()
    upstream = Upstream([event({"model": "m", "choices": [], **chunk}) for chunk in chunks], SSE, cut=cut)
    gate = Gate(upstream, authorize=[ANY], observe=[recorder], protocol=LLM())
    await drive(gate, http_scope("POST", CHAT, headers=JSON), body=BODY, disconnect_after=2 if cut else None)
    details = recorder.last.details
    assert ("agw.ai.time_to_first_token" in details) is bool(chunks)
    assert ("agw.ai.time_per_output_token" in details) is told
    if told:
        first, each = details["agw.ai.time_to_first_token"], details["agw.ai.time_per_output_token"]
        assert isinstance(first, float)
        assert isinstance(each, float)
        assert recorder.last.duration is not None
        assert 0 <= 5 * each <= recorder.last.duration - first + 0.002
