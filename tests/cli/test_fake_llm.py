"""The upstream to try the gateway with: it answers as OpenAI's API does, and bounds what it reads."""

import json
from typing import Any

import pytest

from agentgate.cli.fake_llm import MAX_BODY, MODELS, fake_llm
from agentgate.testing import Exchange, drive, http_scope

pytestmark = pytest.mark.anyio

HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello there"}]}


async def chat(body: Any) -> Exchange:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await drive(fake_llm(), http_scope("POST", "/v1/chat/completions"), body=data)


async def test_models() -> None:
    exchange = await drive(fake_llm(), http_scope("GET", "/v1/models"))
    assert [model["id"] for model in json.loads(exchange.body)["data"]] == [*MODELS]


async def test_a_completion() -> None:
    completion = json.loads((await chat(HELLO)).body)
    assert completion["choices"][0]["message"]["content"] == "You said: Hello there"
    assert completion["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


@pytest.mark.parametrize("usage", [True, False])
async def test_a_stream(usage: bool) -> None:
    exchange = await chat({**HELLO, "stream": True, "stream_options": {"include_usage": usage}})
    *events, done, end = exchange.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    assert said == "You said: Hello there"
    assert [chunk["usage"] for chunk in chunks if chunk.get("usage")] == (
        [{"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}] if usage else []
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({**HELLO, "model": "no-such"}, 404),
        ({"model": "gpt-4o"}, 400),
        ({"model": "gpt-4o", "messages": []}, 400),
        (b"{", 400),
        (b"x" * (MAX_BODY + 1), 413),
    ],
)
async def test_errors(body: Any, status: int) -> None:
    exchange = await chat(body)
    assert exchange.status == status
    assert json.loads(exchange.body)["error"]["type"] == "invalid_request_error"
