"""LLM providers as their SDKs know them, on loopback: they remember what they were asked, and do as they are told."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .servers import PATIENCE


@dataclass
class Seen:
    """One request as a provider got it."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Fake:
    """A server that speaks every provider's API. `status`: what it answers instead, when that is not 200."""

    status: int = 200
    seen: list[Seen] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when a client has left a stream that never ends (of the model `endless`)."""

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST", "DELETE"])])

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        path = request.url.path
        self.seen.append(Seen(request.method, path, request.url.query, dict(request.headers), body))
        if self.status != 200:
            error = {"message": "the provider's own error", "type": "server_error", "code": "overloaded"}
            return JSONResponse({"error": error}, self.status)
        if request.method == "GET" and path.endswith("/models"):
            return JSONResponse(MODEL_LISTS["gemini" if "v1beta" in path or "goog" in str(request.headers) else "data"])
        asked = json.loads(body) if body else {}
        for end, answer in ANSWERS.items():
            if path.endswith(end):
                if asked.get("model") == "endless":
                    return StreamingResponse(self._endless(), media_type="text/event-stream")
                found = answer(asked)
                if isinstance(found, dict):
                    return JSONResponse(found)
                return StreamingResponse(_sent(found), media_type="text/event-stream")
        return JSONResponse({"error": {"message": f"no such API: {path}"}}, 404)

    async def _endless(self) -> AsyncIterator[str]:
        try:
            while True:
                yield _data(_chunk({"content": "more "}))
                await asyncio.sleep(0.01)
        finally:
            self.gone.set()


async def _sent(events: list[str]) -> AsyncIterator[bytes]:
    for event in events:
        yield event.encode()


def _data(document: Any, event: str | None = None) -> str:
    return (f"event: {event}\n" if event else "") + f"data: {json.dumps(document)}\n\n"


OPENAI_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def _chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": None}]
    common = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini-2030"}
    return {**common, "choices": choices, **more}


def _chat(asked: dict[str, Any]) -> Any:
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "Hello there"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        common = {"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2030"}
        return {**common, "choices": choices, "usage": OPENAI_USAGE}
    usage = (asked.get("stream_options") or {}).get("include_usage")
    extra = {"usage": None} if usage else {}
    events = [_data(_chunk({"content": word}, **extra)) for word in ("Hello", " there")]
    if usage:
        events.append(_data({**_chunk({}), "choices": [], "usage": OPENAI_USAGE}))
    return [*events, "data: [DONE]\n\n"]


def _responses(asked: dict[str, Any]) -> Any:
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "gpt-4o-mini-2030",
        "status": "completed",
        "output": [
            {
                "id": "m1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Hello there", "annotations": []}],
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 9,
            "output_tokens": 5,
            "total_tokens": 14,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 2},
        },
    }
    if not asked.get("stream"):
        return response
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    return [
        _data({"type": "response.created", "sequence_number": 0, "response": begun}, "response.created"),
        _data({"type": "response.completed", "sequence_number": 1, "response": response}, "response.completed"),
    ]


def _embeddings(asked: dict[str, Any]) -> Any:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    return {"object": "list", "data": data, "model": "embed-2030", "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def _messages(asked: dict[str, Any]) -> Any:
    usage = {
        "input_tokens": 2,
        "output_tokens": 5,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 3,
    }
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-2030",
        "content": [{"type": "text", "text": "Hello there"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    if not asked.get("stream"):
        return message
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello there"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    return [
        _data({"type": "message_start", "message": begun}, "message_start"),
        _data(block, "content_block_start"),
        _data(delta, "content_block_delta"),
        _data({"type": "content_block_stop", "index": 0}, "content_block_stop"),
        _data({**end, "usage": {"output_tokens": 5}}, "message_delta"),
        _data({"type": "message_stop"}, "message_stop"),
    ]


def _content(text: str, **usage: int) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}],
        "usageMetadata": {"promptTokenCount": 9, **usage},
        "modelVersion": "gemini-2030",
    }


def _gemini_stream(asked: dict[str, Any]) -> Any:
    last = _content(" there", candidatesTokenCount=3, thoughtsTokenCount=2, totalTokenCount=14)
    return [_data(_content("Hello")), _data(last)]


ANSWERS: dict[str, Any] = {
    "/chat/completions": _chat,
    "/responses": _responses,
    "/embeddings": _embeddings,
    "/v1/messages/count_tokens": lambda asked: {"input_tokens": 9},
    "/v1/messages": _messages,
    ":generateContent": lambda asked: _content("Hello there", candidatesTokenCount=3, thoughtsTokenCount=2),
    ":streamGenerateContent": _gemini_stream,
    ":countTokens": lambda asked: {"totalTokens": 9},
    ":batchEmbedContents": lambda asked: {"embeddings": [{"values": [0.5, 0.25]}]},
    ":embedContent": lambda asked: {"embedding": {"values": [0.5, 0.25]}},
}

_NAMES = ("gpt-4o-mini", "gpt-4o", "claude-2030", "gemini-2030")
MODEL_LISTS: dict[str, Any] = {
    "data": {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "type": "model",
                "created": 1,
                "owned_by": "us",
                "display_name": name,
                "created_at": "2030-01-01T00:00:00Z",
            }
            for name in _NAMES
        ],
        "has_more": False,
        "first_id": _NAMES[0],
        "last_id": _NAMES[-1],
    },
    "gemini": {"models": [{"name": f"models/{name}", "displayName": name} for name in _NAMES]},
}


@contextmanager
def serving(app: Any, port: int = 0) -> Iterator[str]:
    """The app under uvicorn, in a thread, while the block runs: its URL."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started:
        assert thread.is_alive(), "uvicorn has not started"
        assert time.monotonic() < deadline, "uvicorn does not start"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
