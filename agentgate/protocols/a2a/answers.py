"""What an agent answers, on its way to the client: cards rewritten, and what the log should know noted in passing.

Nothing but a card is held back or changed. What is noted of other answers is read beside the stream, as far as it is
small enough; an answer that cannot be read is an answer all the same.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

from ...auth.location import RawHeaderList
from ...record import Record
from ...respond import Message, Send
from ..protocol import AnswerRefused, unusable
from ..sse import EventTooLarge, Splitter
from .cards import MAX_BYTES, CardFault, Cards

MAX_NOTED: Final = 256 * 1024  # bytes of an answer, or of an event, that is looked into for the log

_CONDITIONS: Final = frozenset(
    {
        *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range"),
        b"accept-encoding",
    }
)
_ABOUT_BYTES: Final = frozenset(
    {
        *(b"content-length", b"content-encoding", b"content-range", b"accept-ranges", b"etag", b"last-modified"),
        *(b"content-md5", b"digest", b"content-digest", b"repr-digest", b"content-location", b"link"),
    }
)
_CACHING: Final = frozenset({b"cache-control", b"expires", b"age", b"pragma"})
_PRIVATE: Final = (b"cache-control", b"private, no-cache")

_KINDS: Final = {  # members of a result in 1.0, by the kinds of 0.3
    "task": "task",
    "message": "message",
    "statusUpdate": "status-update",
    "artifactUpdate": "artifact-update",
}
_REDIRECTS: Final = range(300, 400)


def without_conditions(headers: RawHeaderList) -> RawHeaderList:
    """Request headers that ask for a card whole and in plain bytes: what its ETag was for is not what clients hold."""
    return [pair for pair in headers if pair[0] not in _CONDITIONS]


def refused(detail: str) -> AnswerRefused:
    """502, and the log is told why."""
    return AnswerRefused(unusable(detail, policy="a2a"))


class CardAnswer:
    """The `send` for an answer that is a card: it is held until it is whole, and goes on rewritten, or not at all. Over
    REST with an ETag of what goes on, and as 304 to a client that has that."""

    def __init__(self, send: Send, rewrite: Callable[[bytes], bytes], record: Record, *, private: bool) -> None:
        self._send = send
        self._rewrite = rewrite
        self._head = record.request.method == "HEAD"
        self._known = record.request.by_name.get(b"if-none-match", b"") if record.request.method == "GET" else None
        self._private = private
        self._start: Message | None = None
        self._chunks: list[bytes] = []
        self._size = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._start is None:
            await self._send(message)  # of an error, which is no card
        else:
            await self._body(message)

    async def _begin(self, message: Message) -> None:
        status = message["status"]
        headers = message["headers"]
        if status >= 400:
            await self._send(message)
        elif status != 200:
            raise refused("the agent's card: its status is not 200")
        elif any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
            raise refused("the agent's card: it has a content-encoding")
        else:
            self._start = {**message, "headers": self._headers(headers)}

    def _headers(self, headers: RawHeaderList) -> RawHeaderList:
        if not self._private:
            return [pair for pair in headers if pair[0] not in _ABOUT_BYTES]
        kept = [pair for pair in headers if pair[0] not in _ABOUT_BYTES and pair[0] not in _CACHING]
        return [*kept, _PRIVATE]

    async def _body(self, message: Message) -> None:
        assert self._start is not None
        self._chunks.append(message.get("body", b""))
        self._size += len(self._chunks[-1])
        if self._size > MAX_BYTES:
            raise refused("the agent's card: too large")
        if not message.get("more_body", False):
            await self._end(self._start)

    async def _end(self, start: Message) -> None:
        card = b""
        if not self._head:
            try:
                card = self._rewrite(b"".join(self._chunks))
            except CardFault as fault:
                raise refused(f"the agent's card: {fault}") from None
        headers = start["headers"]
        if self._known is not None:
            etag = b'"%s"' % sha256(card).hexdigest()[:32].encode()
            headers.append((b"etag", etag))
            if any(tag.strip().removeprefix(b"W/") in (etag, b"*") for tag in self._known.split(b",")):
                start, card = {**start, "status": 304}, b""
        if start["status"] == 200 and not self._head:
            headers.append((b"content-length", str(len(card)).encode()))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": card})


class Answer:
    """The `send` for any other answer, which passes as it is. With `cards`, where a redirect leads is rewritten as the
    URLs in cards are; one that would lead past the gateway is refused."""

    def __init__(self, send: Send, record: Record, *, rpc: bool, cards: Cards | None) -> None:
        self._send = send
        self._record = record
        self._rpc = rpc
        self._cards = cards
        self._status = 0
        self._splitter: Splitter | None = None
        self._chunks: list[bytes] | None = None
        self._size = 0
        record.details["a2a.response.outcome"] = "unknown"

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = self._begin(message)
        else:
            self._note(message)
        await self._send(message)

    def _begin(self, message: Message) -> Message:
        self._status = message["status"]
        headers = dict(message["headers"])
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if headers.get(b"content-encoding", b"identity").lower() == b"identity":
            if kind == b"text/event-stream":
                self._splitter = Splitter(MAX_NOTED)
            elif kind == b"application/json" or kind.endswith(b"+json"):
                self._chunks = []
        if self._cards is None or self._status not in _REDIRECTS or b"location" not in headers:
            return message
        target = self._cards.public(headers[b"location"].decode("latin-1"))
        if target is None:
            raise refused("the agent redirects to a URL that is not its own")
        rest = [pair for pair in message["headers"] if pair[0] != b"location"]
        return {**message, "headers": [*rest, (b"location", target.encode("latin-1"))]}

    def _note(self, message: Message) -> None:
        body = message.get("body", b"")
        if self._splitter is not None:
            try:
                events = self._splitter.feed(body)
            except EventTooLarge:
                self._splitter = None
                return
            for event in events:
                data = event.data
                if data is not None:
                    self._look_at(data)
        elif self._chunks is not None:
            self._chunks.append(body)
            self._size += len(body)
            if self._size > MAX_NOTED:
                self._chunks = None
            elif not message.get("more_body", False):
                self._look_at(b"".join(self._chunks))

    def _look_at(self, data: bytes) -> None:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict):
            self._record.details.update(facts(value, rpc=self._rpc, failed=self._status >= 400))


def facts(value: Mapping[str, Any], *, rpc: bool, failed: bool = False) -> dict[str, str | int | float]:
    """What the log tells of one answer, or of one event of a stream."""
    error = value.get("error")
    if failed or error is not None:
        found: dict[str, str | int | float] = {"a2a.response.outcome": "error"}
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, int) and not isinstance(code, bool):
            found["a2a.response.error_code"] = code
        return found
    result = value.get("result") if rpc else value
    if result is None:
        return {}
    found = {"a2a.response.outcome": "success"}
    if isinstance(result, dict):
        found.update(_result(result))
    return found


def _result(result: Mapping[str, Any]) -> dict[str, str | int | float]:
    member = next((name for name in _KINDS if isinstance(result.get(name), dict)), None)
    about = result if member is None else result[member]
    status = about.get("status")
    said = {
        "a2a.result.kind": result.get("kind") if member is None else _KINDS[member],
        "a2a.task.state": status.get("state") if isinstance(status, dict) else None,
        "a2a.context.id": about.get("contextId"),
    }
    if member is None and said["a2a.result.kind"] is None and said["a2a.task.state"] is not None and "id" in result:
        said["a2a.result.kind"] = "task"  # a task by itself, which in 1.0 does not say what it is
    return {name: text for name, text in said.items() if isinstance(text, str) and text}
