"""Bodies: read once when a policy wants them, bounded, judged as JSON with one reading, and sent on byte for byte."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from agentgate import (
    APIKeyAuth,
    Authorizer,
    CELRules,
    Decision,
    Edge,
    Gate,
    Request,
    all_of,
    allow,
    any_of,
    authorizer,
    deny,
    new_key,
    shadow,
)
from agentgate.strict_json import StrictJSONError
from agentgate.testing import Exchange, Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
JSON = {"content-type": "application/json"}
ADD = b'{"method": "add", "n": [1, 2]}'


class App:
    """Reads the whole body, keeps it, and answers `ok`."""

    body: bytes | None = None
    messages = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.body, more = b"", True
        self.scope = scope
        while more:
            message = await receive()
            self.messages += 1
            self.body += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        assert (await receive())["type"] == "http.disconnect"


class OnlyAdd(Authorizer):
    """Looks into the body, and counts how often it was asked."""

    reads_body = True
    asked = 0

    def check(self, request: Request) -> Decision:
        self.asked += 1
        return allow() if request.json()["method"] == "add" else deny()


READERS: list[Callable[[], Authorizer]] = [
    OnlyAdd,
    lambda: any_of(OnlyAdd()),
    lambda: all_of(OnlyAdd()),
    lambda: CELRules(allow=['json(request.body).method == "add"']),
    lambda: CELRules(allow=['json(request["body"]).method == "add"']),
    lambda: CELRules(deny=['json(request.body).method != "add"']),
]


@pytest.mark.parametrize("reader", READERS)
async def test_the_bytes_that_were_judged_go_on(reader: Callable[[], Authorizer]) -> None:
    app = App()
    gate = Gate(app, authorize=[reader()])
    exchange = await drive(gate, http_scope("POST", headers=JSON), body=[ADD[:5], ADD[5:9], b"", ADD[9:]])
    assert (exchange.status, app.body, app.messages) == (200, ADD, 1)
    app.body = None
    exchange = await drive(gate, http_scope("POST", headers=JSON), body=b'{"method": "drop"}')
    assert (exchange.status, app.body) == (403, None)


async def test_a_body_that_no_policy_reads_is_not_buffered() -> None:
    app = App()
    gate = Gate(app, authorize=[CELRules(allow=["request.method == 'POST'"])])
    assert (await drive(gate, http_scope("POST"), body=[b"a", b"b", b"c"])).status == 200
    assert (app.body, app.messages) == (b"abc", 3)


async def test_a_shadow_sees_the_body_too() -> None:
    recorder = Recorder()
    gate = Gate(App(), authorize=[shadow(OnlyAdd())], observe=[recorder])
    await drive(gate, http_scope("POST", headers=JSON), body=b'{"method": "drop"}')
    assert [(d.effect, d.enforced, d.status) for d in recorder.last.trail] == [("deny", False, 403)]


async def test_of_a_stranger_nothing_is_read() -> None:
    async def receive() -> Any:
        raise AssertionError("nobody reads this")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    reader = OnlyAdd()
    gate = Gate(App(), authenticate=[APIKeyAuth({"alice": KEY})], authorize=[reader])
    await gate(http_scope("POST", headers=JSON), receive, send)
    assert (sent[0]["status"], reader.asked) == (401, 0)


@pytest.mark.parametrize(
    ("headers", "body", "status", "detail"),
    [
        ({"content-type": "text/plain"}, ADD, 415, "the body is not application/json in UTF-8"),
        ({}, ADD, 415, "the body is not application/json in UTF-8"),
        ({"content-type": ""}, ADD, 415, "the body is not application/json in UTF-8"),
        ({"content-type": "application/jsonp"}, ADD, 415, "the body is not application/json in UTF-8"),
        ({"content-type": "application/json, text/plain"}, ADD, 415, "the body is not application/json in UTF-8"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"method=add", 415, "the body is not application/json"),
        ({"content-type": "application/json; charset=utf-16"}, ADD, 415, "the body is not application/json in UTF-8"),
        (
            {"content-type": "application/json;charset=utf-8;charset=utf-7"},
            ADD,
            415,
            "the body is not application/json",
        ),
        ({"content-type": "application/json; charset"}, ADD, 415, "the body is not application/json in UTF-8"),
        ({**JSON, "content-encoding": "gzip"}, ADD, 415, "the body has a content-encoding"),
        ({**JSON, "content-encoding": "identity, gzip"}, ADD, 415, "the body has a content-encoding"),
        ({**JSON, "content-encoding": ""}, ADD, 415, "the body has a content-encoding"),
        ({**JSON, "content-length": "5"}, ADD, 400, "content-length is not the length of the body"),
        ({**JSON, "content-length": "0"}, ADD, 400, "content-length is not the length of the body"),
        (JSON, b'{"method": "add", "method": "drop"}', 400, "has not one reading as JSON: a member is given twice"),
        (JSON, b'{"method": "add"} {}', 400, "has not one reading as JSON: not valid JSON"),
        (JSON, '{"method": "add"}'.encode("utf-16"), 400, "has not one reading as JSON: not UTF-8"),
        (JSON, b"\xef\xbb\xbf" + ADD, 400, "has not one reading as JSON: not valid JSON"),
    ],
)
async def test_what_could_be_read_otherwise_is_refused_before_any_policy(
    headers: dict[str, str], body: bytes, status: int, detail: str
) -> None:
    app, reader, recorder = App(), OnlyAdd(), Recorder()
    gate = Gate(app, authorize=[reader], observe=[recorder])
    exchange = await drive(gate, http_scope("POST", headers=headers), body=body)
    assert (exchange.status, app.body, reader.asked) == (status, None, 0)
    refusal = recorder.last.refusal
    assert refusal is not None
    assert detail in refusal.message
    assert exchange.text == refusal.message
    assert recorder.last.trail[-1] == refusal


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/a2a+json",
        'application/json; profile="x y"',
    ],
)
async def test_json_under_its_names(content_type: str) -> None:
    gate = Gate(App(), authorize=[OnlyAdd()])
    scope = http_scope("POST", headers={"content-type": content_type, "content-length": str(len(ADD))})
    assert (await drive(gate, scope, body=ADD)).status == 200


@pytest.mark.parametrize("announced", [True, False])
async def test_more_than_the_limit_is_refused_while_it_is_read(announced: bool) -> None:
    app, reader = App(), OnlyAdd()
    gate = Gate(app, authorize=[reader], edge=Edge(max_body_bytes=len(ADD)))
    assert (await drive(gate, http_scope("POST", headers=JSON), body=ADD)).status == 200
    body = ADD + b" "
    headers = {**JSON, "content-length": str(len(body))} if announced else JSON
    read = 0

    async def receive() -> Any:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": body, "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await gate(http_scope("POST", headers=headers), receive, send)
    assert (sent[0]["status"], sent[1]["body"], read) == (413, b"content too large", 0 if announced else 1)
    assert reader.asked == 1


async def test_a_client_that_leaves_before_its_end_is_forwarded_nowhere() -> None:
    app, reader, recorder = App(), OnlyAdd(), Recorder()
    gate = Gate(app, authorize=[reader], observe=[recorder])
    exchange = await drive(gate, http_scope("POST", headers=JSON), body=[ADD], abort=True)
    assert (exchange.started, app.body, reader.asked) == (False, None, 0)
    assert (recorder.last.status, recorder.last.error) == (None, "client disconnected")


async def test_an_error_while_reading_denies() -> None:
    async def receive() -> Any:
        raise RuntimeError("s3cret")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app, recorder = App(), Recorder()
    await Gate(app, authorize=[OnlyAdd()], observe=[recorder])(http_scope("POST", headers=JSON), receive, send)
    assert (sent[0]["status"], app.body) == (500, None)
    assert "s3cret" not in repr(recorder.last.refusal)


async def test_no_body_is_an_empty_one() -> None:
    @authorizer
    def nothing(request: Request) -> Decision:
        return allow() if request.body == b"" else deny()

    gate = Gate(App(), authorize=[CELRules(allow=["request.body == b''"]), nothing])
    assert (await drive(gate, http_scope("GET"))).status == 200
    assert [d.effect for d in gate.explain(Request.http())] == ["allow", "allow"]

    async def socket(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.close"})

    assert (await drive(Gate(socket, authorize=[nothing, OnlyAdd()]), websocket_scope())).status == 500
    gate = Gate(socket, authorize=[CELRules(allow=["request.body == b''"])])
    assert (await drive(gate, websocket_scope())).close_code == 1000


async def test_an_inner_gate_reads_what_it_will_pass_on() -> None:
    """Not what a Gate further out has read: an app between them may have put another body in its place."""
    app = App()
    inner = Gate(app, authorize=[OnlyAdd()])

    async def swapping(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == ADD

        async def swapped() -> Any:
            return {"type": "http.request", "body": b'{"method": "drop"}'}

        await inner(scope, swapped, send)

    outer = Gate(swapping, authorize=[OnlyAdd()])
    assert (await drive(outer, http_scope("POST", headers=JSON), body=ADD)).status == 403
    assert app.body is None
    assert (await drive(Gate(inner, authorize=[OnlyAdd()]), http_scope("POST", headers=JSON), body=ADD)).status == 200
    assert app.body == ADD


def test_explain_judges_the_body_as_the_gate_does() -> None:
    gate = Gate(authorize=[OnlyAdd()])
    asked = [
        Request.http("POST", headers=JSON, body=ADD),
        Request.http("POST", headers=JSON, body=b'{"method": "drop"}'),
        Request.http("POST", body=ADD),
        Request.http("POST", headers=JSON, body=b"{"),
        Request({**http_scope("POST", headers=JSON)}),
    ]
    assert [gate.explain(request)[-1].status for request in asked] == [200, 403, 415, 400, 500]


def test_a_request_parses_its_body_once() -> None:
    request = Request.http("POST", body=json.dumps({"a": [1]}).encode())
    assert request.json() is request.json()
    with pytest.raises(StrictJSONError, match="the body was not read"):
        Request({"type": "http"}).json()


class Dripping:
    """A client that sends its body byte by byte, and then nothing; `got` is what it was sent."""

    def __init__(self, chunks: list[bytes], pause: float = 0) -> None:
        self.chunks = chunks
        self.pause = pause
        self.got: list[Any] = []

    async def receive(self) -> Any:
        if not self.chunks:
            await asyncio.Event().wait()
        await asyncio.sleep(self.pause)
        return {"type": "http.request", "body": self.chunks.pop(0), "more_body": True}

    async def send(self, message: Any) -> None:
        self.got.append(message)


SLOW: dict[str, tuple[list[bytes], float]] = {
    "nothing": ([], 0),
    "half of it": ([b'{"method"'], 0),
    "a byte now and then, for ever": ([b"["] * 1000, 0.005),
}


@pytest.mark.parametrize(("chunks", "pause"), SLOW.values(), ids=SLOW)
async def test_a_client_is_not_waited_for_that_sends(
    chunks: list[bytes], pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """408, and no policy is asked: what is held for a client has an end."""
    monkeypatch.setattr("agentgate.body.SECONDS", 0.05)
    policy, app, recorder = OnlyAdd(), App(), Recorder()
    gate = Gate(app, authorize=[policy], observe=[recorder])
    client = Dripping(chunks, pause)
    await gate(http_scope("POST", headers=JSON), client.receive, client.send)
    exchange = Exchange(client.got)
    assert (exchange.status, exchange.text) == (408, "request timeout")
    assert (policy.asked, app.body) == (0, None)
    assert recorder.last.refusal is not None
    await asyncio.sleep(0)  # nor is the task cancelled any more


async def test_a_long_body_has_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for each kilobyte, beside what every body has."""
    monkeypatch.setattr("agentgate.body.SECONDS", 0.0)
    monkeypatch.setattr("agentgate.body.BYTES_PER_SECOND", 100)
    client = Dripping([b'{"method": "add", '] + [b" "] * 9 + [b'"x": 1}'], 0.005)
    await Gate(App(), authorize=[OnlyAdd()])(http_scope("POST", headers=JSON), client.receive, client.send)
    assert Exchange(client.got).status == 408  # which had a third of a second: it is the end that did not come


async def test_when_the_server_cancels_while_a_body_is_read_it_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, or as time is up."""
    client = Dripping([])
    gate = Gate(App(), authorize=[OnlyAdd()])
    task = asyncio.create_task(gate(http_scope("POST", headers=JSON), client.receive, client.send))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    monkeypatch.setattr("agentgate.body.SECONDS", 0.05)

    class Both(Dripping):
        async def receive(self) -> Any:
            try:
                return await super().receive()
            finally:
                task.cancel()

    client = Both([])
    task = asyncio.create_task(gate(http_scope("POST", headers=JSON), client.receive, client.send))
    with pytest.raises(asyncio.CancelledError):
        await task
