"""The demo's agent: its card, its one method, and its bounds."""

from typing import Any

import httpx
import pytest

from agentgate import A2ABackend, AccessLog, Route, create_gateway
from agentgate.cli.echo_agent import MAX_BODY, echo_agent

pytestmark = pytest.mark.anyio

URL = "http://agent:9000"


async def ask(app: Any, body: Any = None, target: str = "/", content: bytes | None = None) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        if body is None and content is None:
            return await client.get(target)
        headers = {"content-type": "application/json", "a2a-version": "1.0"}
        return await client.post(target, json=body, content=content, headers=headers)


def sending(message: Any, method: str = "SendMessage") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": message}}


HELLO = {"messageId": "1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}


async def test_it_sends_messages_back_through_a_gateway() -> None:
    """With nothing changed in between but where its card says that it is."""
    lines: list[str] = []
    backend = A2ABackend(URL, transport=httpx.ASGITransport(echo_agent(URL)))
    app = create_gateway(
        Route("/echo", backend), public_url="https://gateway.example.com", observe=[AccessLog(lines.append)]
    )
    card = (await ask(app, target="/echo/.well-known/agent-card.json")).json()
    assert card["supportedInterfaces"][0]["url"] == "https://gateway.example.com/echo"
    answer = (await ask(app, sending({**HELLO, "contextId": "c"}), "/echo")).json()
    message = answer["result"]["message"]
    assert (answer["id"], message["contextId"], message["parts"]) == (1, "c", [{"text": "hello"}])
    assert "a2a.method=SendMessage a2a.response.outcome=success a2a.result.kind=message a2a.context.id=c" in lines[-1]


@pytest.mark.parametrize(
    ("body", "content", "code"),
    [
        (sending(HELLO, "GetTask"), None, -32601),
        (sending("hello"), None, -32602),
        (sending({}), None, -32602),
        (["x"], None, -32600),
        (None, b"{", -32700),
    ],
)
async def test_errors(body: Any, content: bytes | None, code: int) -> None:
    assert (await ask(echo_agent(URL), body, content=content)).json()["error"]["code"] == code


async def test_a_body_is_read_up_to_its_bound() -> None:
    assert (await ask(echo_agent(URL), content=b"x" * (MAX_BODY + 1))).status_code == 413
