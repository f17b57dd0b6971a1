"""A small OpenAI-compatible upstream to try the gateway with: it repeats what it was told, counts words as tokens, and
keeps nothing."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .bounded import body_of

MODELS: Final = ("gpt-4o", "gpt-4o-mini", "o3")
MAX_BODY: Final = 1024 * 1024


def fake_llm() -> Starlette:
    """The app: `POST /v1/chat/completions`, streaming or not, and `GET /v1/models`."""
    return Starlette(
        routes=[Route("/v1/chat/completions", _chat, methods=["POST"]), Route("/v1/models", _models, methods=["GET"])]
    )


async def _models(request: Request) -> Response:
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "agentgate"} for name in MODELS]
    return JSONResponse({"object": "list", "data": data})


async def _chat(request: Request) -> Response:
    raw = await body_of(request, MAX_BODY)
    if raw is None:
        return _error(413, "the body is too large")
    try:
        body = json.loads(raw)
        model = str(body["model"])
        text = str(body["messages"][-1]["content"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return _error(400, "this is no chat completion")
    if model not in MODELS:
        return _error(404, f"The model `{model}` does not exist", "model_not_found")
    words = f"You said: {text}".split()
    usage = {
        "prompt_tokens": len(text.split()),
        "completion_tokens": len(words),
        "total_tokens": len(text.split()) + len(words),
    }
    common = {"id": "chatcmpl-1", "created": int(time.time()), "model": f"{model}-2030-01-01"}
    if body.get("stream") is True:
        wanted = (body.get("stream_options") or {}).get("include_usage") is True
        events = _events(common, words, usage if wanted else None)
        return StreamingResponse(events, media_type="text/event-stream")
    message = {"role": "assistant", "content": " ".join(words)}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return JSONResponse({**common, "object": "chat.completion", "choices": choices, "usage": usage})


async def _events(common: dict[str, Any], words: list[str], usage: dict[str, int] | None) -> AsyncIterator[str]:
    common = {**common, "object": "chat.completion.chunk"}
    if usage is not None:
        common["usage"] = None
    for number, word in enumerate(words):
        delta = {"content": word if number == 0 else f" {word}"}
        yield _event({**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage is not None:
        yield _event({**common, "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


def _error(status: int, message: str, code: str = "invalid_request") -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status)
