"""Time limits of routes: how long, counted from when, and what is said then."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentgate import (
    Authorizer,
    ConfigurationError,
    Decision,
    Filtered,
    HTTPBackend,
    LLMBackend,
    Reason,
    Request,
    Route,
    allow,
    create_gateway,
)
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

SHORT = 0.05  # seconds: what is waited for never comes
LONG = 60.0


class Silent(httpx.AsyncBaseTransport):
    """Never answers; or begins to, and never ends."""

    def __init__(self, begins: bool = False) -> None:
        self.begins = begins
        self.cancelled = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.begins:
            return httpx.Response(200, stream=self.Stream(self))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise AssertionError

    class Stream(httpx.AsyncByteStream):
        def __init__(self, owner: "Silent") -> None:
            self.owner = owner

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.Event().wait()

        async def aclose(self) -> None:
            self.owner.cancelled = True


class Prompt(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"ok")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"timeout": SHORT}, "request timeout"),
        ({"backend_timeout": SHORT}, "upstream call timeout"),
        ({"timeout": SHORT, "backend_timeout": LONG}, "request timeout"),
        ({"timeout": LONG, "backend_timeout": SHORT}, "upstream call timeout"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
async def test_an_upstream_that_does_not_answer(limits: dict[str, Any], message: str, inside: bool) -> None:
    recorder, upstream = Recorder(), Silent()
    backend = HTTPBackend("http://up", transport=upstream)
    route = Route("/", Filtered(backend, **limits)) if inside else Route("/", backend, **limits)
    exchange = await drive(create_gateway(route, observe=[recorder]), http_scope())
    assert (exchange.status, exchange.text) == (504, message)
    assert (recorder.last.reason, recorder.last.error) == (Reason.TIMEOUT, message)
    assert upstream.cancelled


@pytest.mark.parametrize("limits", [{"timeout": SHORT}, {"backend_timeout": SHORT}])
async def test_a_stream_is_cut_off_and_not_ended(limits: dict[str, Any]) -> None:
    recorder, upstream = Recorder(), Silent(begins=True)
    route = Route("/", HTTPBackend("http://up", transport=upstream), **limits)
    exchange = await drive(create_gateway(route, observe=[recorder]), http_scope())
    assert (exchange.status, exchange.body, exchange.complete) == (200, b"first", False)
    assert recorder.last.reason is Reason.TIMEOUT
    assert upstream.cancelled


async def test_a_prompt_answer_is_let_through() -> None:
    route = Route("/", HTTPBackend("http://up", transport=Prompt()), timeout=LONG, backend_timeout=LONG)
    assert (await drive(create_gateway(route, observe=[Recorder()]), http_scope())).text == "ok"


async def test_the_policies_time_counts() -> None:
    class Slow(Authorizer):
        async def prepare(self, request: Request) -> None:
            await asyncio.sleep(2 * SHORT)

        def check(self, request: Request) -> Decision:
            return allow()

    class Unasked(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0)
            raise AssertionError("it was too late to ask")

    route = Route("/", HTTPBackend("http://up", transport=Unasked()), timeout=SHORT, authorize=[Slow()])
    assert (await drive(create_gateway(route), http_scope())).text == "request timeout"


async def test_a_client_that_leaves_is_no_timeout() -> None:
    recorder = Recorder()
    route = Route("/", HTTPBackend("http://up", transport=Silent()), timeout=LONG)
    exchange = await drive(create_gateway(route, observe=[recorder]), http_scope(), disconnect_after=0)
    assert not exchange.started
    assert recorder.last.error == "client disconnected"


async def test_the_app_s_own_timeout_is_its_own() -> None:
    async def app(*args: Any) -> None:
        raise TimeoutError

    backend = HTTPBackend("http://up")
    backend.app = app
    with pytest.raises(TimeoutError):
        await drive(create_gateway(Route("/", backend, timeout=LONG), observe=[Recorder()]), http_scope())


async def test_it_is_said_in_the_protocol_s_words() -> None:
    route = Route("/v1", LLMBackend("http://up/v1", transport=Silent()), timeout=SHORT)
    exchange = await drive(
        create_gateway(route, observe=[Recorder()]),
        http_scope("POST", "/v1/chat/completions", headers={"content-type": "application/json"}),
        body=b'{"model": "m", "messages": []}',
    )
    assert exchange.status == 504
    assert json.loads(exchange.text)["error"]["message"] == "request timeout"


@pytest.mark.parametrize("seconds", [0, -1, True, "1", float("inf"), float("nan")])
@pytest.mark.parametrize("limit", ["timeout", "backend_timeout"])
def test_limits_that_are_none(limit: str, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"route /: {limit} is a number of seconds, more than 0"):
        Route("/", HTTPBackend("http://up"), **{limit: seconds})
