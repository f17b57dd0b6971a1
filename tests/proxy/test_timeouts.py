"""Timeouts: each phase of a forwarded request has its own, the whole has one, and none is for another party's fault."""

import asyncio
from typing import Any

import httpx
import pytest

from agentgate import ConfigurationError, Gate, HTTPBackend, LLMBackend, Timeouts, allow, authorizer
from agentgate.request import Request
from agentgate.respond import ASGIApp, Message
from agentgate.testing import Exchange, Recorder, drive, http_scope

from .upstream_server import Peer, Script, serving, until

pytestmark = pytest.mark.anyio

SHORT = 0.05
NONE: dict[str, None] = dict.fromkeys(("connect", "pool", "write", "first_byte", "idle", "events", "client", "total"))
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
FIRST = b"5\r\nfirst\r\n"
END = b"0\r\n\r\n"


def limited(**seconds: float) -> Timeouts:
    """These timeouts and no other."""
    return Timeouts(**{**NONE, **seconds})


async def answered(
    script: Script, timeouts: Timeouts, *, method: str = "GET", transport: httpx.AsyncBaseTransport | None = None
) -> tuple[Exchange, Recorder]:
    recorder = Recorder()
    async with serving(script) as server:
        backend = HTTPBackend(server.origin, timeouts=timeouts, transport=transport)
        exchange = await drive(Gate(backend.app, observe=[recorder]), http_scope(method))
        await backend.aclose()
    return exchange, recorder


def saying(*parts: bytes, pause: float = 0) -> Script:
    """An answer, part by part, and then silence."""

    async def script(peer: Peer) -> None:
        await peer.head()
        for part in parts:
            peer.send(part)
            await asyncio.sleep(pause)
        await peer.gone()

    return script


BEFORE = {
    "the first byte": (limited(first_byte=SHORT), "ReadTimeout"),
    "the first byte, whatever streams may do": (limited(first_byte=SHORT, idle=9, events=9), "ReadTimeout"),
    "the whole": (limited(total=SHORT), "the whole exchange took too long"),
}


@pytest.mark.parametrize(("timeouts", "detail"), BEFORE.values(), ids=BEFORE)
async def test_504_when_there_is_no_answer_within_the_time_for(timeouts: Timeouts, detail: str) -> None:
    exchange, recorder = await answered(saying(), timeouts)
    assert (exchange.status, exchange.text, exchange.complete) == (504, "upstream call timeout", True)
    assert recorder.last.refusal is not None
    assert (recorder.last.refusal.code, recorder.last.refusal.detail) == ("upstream_timeout", detail)
    assert recorder.last.endpoint


AMID: dict[str, tuple[Timeouts, bytes, str]] = {
    "between two chunks": (limited(first_byte=9, idle=SHORT, events=9), HEAD, "ReadTimeout"),
    "between two events": (limited(first_byte=9, idle=9, events=SHORT), EVENTS, "ReadTimeout"),
    "in all": (limited(total=SHORT), HEAD, "the whole exchange took too long"),
    "in all, of an event stream": (limited(total=SHORT), EVENTS, "the whole exchange took too long"),
}


@pytest.mark.parametrize(("timeouts", "head", "detail"), AMID.values(), ids=AMID)
@pytest.mark.parametrize("transport", [None, httpx.AsyncHTTPTransport], ids=["PoolTransport", "httpx's transport"])
async def test_a_response_is_cut_off_that_takes_too_long(
    timeouts: Timeouts, head: bytes, detail: str, transport: type[httpx.AsyncHTTPTransport] | None
) -> None:
    """It is not ended, so that the client learns that something is missing."""
    exchange, recorder = await answered(
        saying(head + FIRST), timeouts, transport=None if transport is None else transport()
    )
    assert (exchange.status, exchange.body, exchange.complete) == (200, b"first", False)
    assert recorder.last.error == f"upstream call timeout: {detail}"


PATIENT: dict[str, tuple[Timeouts, bytes]] = {
    "chunks, for which only the first byte has a time": (limited(first_byte=SHORT), HEAD),
    "events, which may take long though other chunks may not": (limited(first_byte=SHORT, idle=SHORT), EVENTS),
    "chunks, though events may not take long": (limited(first_byte=SHORT, events=SHORT), HEAD),
}


@pytest.mark.parametrize(("timeouts", "head"), PATIENT.values(), ids=PATIENT)
@pytest.mark.parametrize("transport", [None, httpx.AsyncHTTPTransport], ids=["PoolTransport", "httpx's transport"])
async def test_silence_is_waited_out_between(
    timeouts: Timeouts, head: bytes, transport: type[httpx.AsyncHTTPTransport] | None
) -> None:
    script = saying(head + FIRST, FIRST, END, pause=3 * SHORT)
    exchange, recorder = await answered(script, timeouts, transport=None if transport is None else transport())
    assert (exchange.body, exchange.complete, recorder.last.error) == (b"firstfirst", True, None)


async def test_the_total_covers_an_answer_that_never_falls_silent() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(HEAD)
        while True:
            peer.send(FIRST)
            await asyncio.sleep(0.005)

    exchange, recorder = await answered(script, limited(total=2 * SHORT, idle=9))
    assert exchange.body.startswith(b"first")
    assert not exchange.complete
    assert recorder.last.error == "upstream call timeout: the whole exchange took too long"


async def test_an_answer_in_time_is_not_troubled() -> None:
    """Nor is the next, by a deadline that somebody has left behind."""
    recorder = Recorder()
    async with serving(saying(HEAD + END)) as server:
        backend = HTTPBackend(server.origin, timeouts=Timeouts(total=SHORT))
        app = Gate(backend.app, observe=[recorder])
        assert (await drive(app, http_scope())).status == 200
        await asyncio.sleep(2 * SHORT)
        await backend.aclose()
    assert recorder.last.error is None


class SlowClient:
    """Sends what it is told to, and then waits; `got` is what it was sent."""

    def __init__(self, *messages: Message) -> None:
        self.messages = [*messages]
        self.got: list[Message] = []

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.got.append(message)

    async def call(self, app: ASGIApp, **scope: Any) -> Exchange:
        await app(http_scope("POST", headers={"content-length": "9"}, **scope), self.receive, self.send)
        return Exchange(self.got)


SLOW: dict[str, tuple[list[Message], str]] = {
    "not at all": ([], "1.1"),
    "not to its end": ([{"type": "http.request", "body": b"half", "more_body": True}], "1.1"),
    "not to its end, over HTTP/2": ([{"type": "http.request", "body": b"half", "more_body": True}], "2"),
}


@pytest.mark.parametrize(("messages", "version"), SLOW.values(), ids=SLOW)
async def test_a_client_that_sends_its_body(messages: list[Message], version: str) -> None:
    """408, and the upstream is let go: a slow client holds no connection and no task."""
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.gone()
        gone.set()

    recorder = Recorder()
    before = asyncio.all_tasks()
    async with serving(script) as server:
        backend = HTTPBackend(server.origin, timeouts=limited(client=SHORT))
        exchange = await SlowClient(*messages).call(Gate(backend.app, observe=[recorder]), http_version=version)
        if messages:
            await gone.wait()
        await backend.aclose()
    assert (exchange.status, exchange.text) == (408, "request timeout")
    assert exchange.headers.get("connection") == ("close" if version == "1.1" else None)
    assert recorder.last.refusal is not None
    assert recorder.last.refusal.code == "request_timeout"
    await until(lambda: asyncio.all_tasks() == before)


async def test_a_client_that_is_slow_amid_the_answer_is_cut_off() -> None:
    """The upstream answers before it has the whole body, and the rest does not come."""
    script = saying(HEAD + FIRST)
    recorder = Recorder()
    async with serving(script) as server:
        backend = HTTPBackend(server.origin, timeouts=limited(client=SHORT))
        client = SlowClient({"type": "http.request", "body": b"half", "more_body": True})
        exchange = await client.call(Gate(backend.app, observe=[recorder]))
        await backend.aclose()
    assert (exchange.status, exchange.body, exchange.complete) == (200, b"first", False)
    assert recorder.last.error == "request timeout: the client did not send its body in time"


@pytest.mark.parametrize("sending", [False, True])
async def test_a_client_that_does_not_take_the_answer_is_cut_off(sending: bool) -> None:
    """Whatever else it does: it holds a connection to the upstream, and what has come from there."""

    class Full(SlowClient):
        async def receive(self) -> Message:
            if self.messages or not sending:
                return await super().receive()
            await asyncio.sleep(0.005)
            return {"type": "http.request", "body": b".", "more_body": True}

        async def send(self, message: Message) -> None:
            await super().send(message)
            if message.get("body"):
                await asyncio.Event().wait()

    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(HEAD + FIRST)
        await peer.gone()
        gone.set()

    recorder = Recorder()
    async with serving(script) as server:
        backend = HTTPBackend(server.origin, timeouts=limited(client=SHORT))
        client = Full({"type": "http.request", "body": b"", "more_body": sending})
        await Gate(backend.app, observe=[recorder])(
            http_scope("POST", headers={"transfer-encoding": "chunked"}), client.receive, client.send
        )
        await gone.wait()
        await backend.aclose()
    assert not Exchange(client.got).complete
    assert recorder.last.error == "request timeout: the client did not take the answer in time"


async def test_a_client_that_takes_the_answer_bit_by_bit_is_waited_for() -> None:
    class Slow(SlowClient):
        async def send(self, message: Message) -> None:
            await super().send(message)
            await asyncio.sleep(SHORT / 4)  # six times

    recorder = Recorder()
    async with serving(saying(HEAD, FIRST, FIRST, FIRST, FIRST, END, pause=0.005)) as server:
        backend = HTTPBackend(server.origin, timeouts=limited(client=SHORT))
        client = Slow({"type": "http.request"})
        await Gate(backend.app, observe=[recorder])(http_scope(), client.receive, client.send)
        await backend.aclose()
    assert Exchange(client.got).complete
    assert recorder.last.error is None


async def test_the_total_holds_for_a_client_that_sends_drop_by_drop() -> None:
    class Dripping(SlowClient):
        async def receive(self) -> Message:
            await asyncio.sleep(0.005)
            return {"type": "http.request", "body": b".", "more_body": True}

    recorder = Recorder()
    async with serving(saying()) as server:
        backend = HTTPBackend(server.origin, timeouts=limited(client=9, total=2 * SHORT))
        scope = http_scope("POST", headers={"transfer-encoding": "chunked"})
        client = Dripping()
        await Gate(backend.app, observe=[recorder])(scope, client.receive, client.send)
        await backend.aclose()
    assert Exchange(client.got).status == 504


async def test_when_the_server_cancels_as_time_is_up_it_is_obeyed() -> None:
    """Whoever else wants the task to end, gets it."""

    async def never(request: httpx.Request) -> httpx.Response:
        task = asyncio.current_task()
        assert task is not None
        try:
            await asyncio.Event().wait()
        finally:
            task.cancel()
        raise AssertionError

    backend = HTTPBackend("http://up", timeouts=limited(total=SHORT), transport=httpx.MockTransport(never))
    task = asyncio.create_task(drive(Gate(backend.app, observe=[Recorder()]), http_scope()))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_client_that_leaves_as_time_is_up_has_left_that_is_all() -> None:
    """It is not cancelled a second time, which would be taken for the server's doing."""
    leaves, told = asyncio.Event(), asyncio.Event()

    class Leaving(SlowClient):
        async def receive(self) -> Message:
            if self.messages:
                return self.messages.pop(0)
            await leaves.wait()
            told.set()
            return {"type": "http.disconnect"}

        async def send(self, message: Message) -> None:
            await super().send(message)
            leaves.set()
            await told.wait()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    recorder = Recorder()
    backend = HTTPBackend("http://up", timeouts=limited(total=3 * SHORT), transport=httpx.MockTransport(never))
    exchange = await Leaving({"type": "http.request"}).call(Gate(backend.app, observe=[recorder]))
    assert (exchange.status, exchange.complete) == (504, True)
    assert recorder.last.error == "upstream call timeout"


async def test_a_refusal_is_said_in_the_words_of_the_protocol() -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    @authorizer
    def everybody(request: Request) -> Any:
        return allow()

    backend = LLMBackend("http://up/v1", timeouts=limited(total=SHORT), transport=httpx.MockTransport(never))
    gate = Gate(backend.app, authorize=[everybody], protocol=backend.protocol)
    scope = http_scope("POST", "/v1/chat/completions", headers={"content-type": "application/json"})
    exchange = await drive(gate, scope, body=b'{"model": "m"}')
    assert exchange.status == 504
    assert '"upstream call timeout"' in exchange.text


FAULTS: dict[str, dict[str, Any]] = {
    "no number": {"connect": "10"},
    "nought, which means something else to everybody": {"total": 0},
    "negative": {"idle": -1},
    "infinite: that is None": {"events": float("inf")},
    "not a number": {"client": float("nan")},
    "a truth value": {"first_byte": True},
}


@pytest.mark.parametrize("seconds", FAULTS.values(), ids=FAULTS)
def test_what_is_no_time(seconds: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"timeouts: {next(iter(seconds))} is a number of seconds, or None"):
        Timeouts(**seconds)
