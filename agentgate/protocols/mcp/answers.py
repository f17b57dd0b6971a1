"""The answer on its way to the client: its session id is sealed, and what rules hide is taken out of it.

An event is the unit of a stream: it goes on as soon as it is complete, byte for byte unless something in it had to
change. A JSON answer is held until it can be read. Where rules have to be kept and an answer cannot be read, it is
refused, or cut off if it has begun. Where nobody has rules, nothing is looked at.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from ...auth.location import RawHeaderList
from ...call import Call
from ...record import Record
from ...respond import Message, Send
from ..protocol import AnswerRefused, May, unusable
from ..sse import Event, EventTooLarge, Splitter
from .listing import Listing
from .sessions import Caller, Sessions, owner_of
from .targets import Targets

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024  # of a JSON answer, which is held: a tool's result may hold a picture

# Without one of these, spelt plainly, nothing in a message has to be judged, and it need not be parsed. With a NUL it
# is no JSON, but may be UTF-16, which some clients would read.
_TELLING: Final = re.compile(
    rb'"(?:tools|prompts|resources|resourceTemplates|tasks|cacheScope|inputRequests|error)"'
    rb"|notifications\\?/(?:resources\\?/updated|tasks)|\\u|\0"
).search
_OTHER_CHARSET: Final = re.compile(rb";[ \t]*charset[ \t]*=(?![ \t]*\"?utf-8\"?[ \t]*(?:;|$))").search
_JSON: Final = re.compile(rb"application/(?:[a-z0-9.-]+\+)?json").fullmatch


class SealedAnswer:
    """Passes an answer on as it is, but for the session id in its head."""

    def __init__(self, send: Send, sessions: Sessions, caller: Caller) -> None:
        self._send = send
        self._sessions = sessions
        self._caller = caller

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": self._sealed(message.get("headers", ()))}
        await self._send(message)

    def _sealed(self, headers: Iterable[tuple[bytes, bytes]]) -> RawHeaderList:
        headers = [*headers]
        ids = _values(headers, b"mcp-session-id")
        if not ids:
            return headers
        if len(ids) > 1:
            raise refused("several session ids")
        sealed = (b"mcp-session-id", self._sessions.seal(ids[0], owner_of(self._caller)))
        return [sealed if name.lower() == b"mcp-session-id" else (name, value) for name, value in headers]


class FilteredAnswer(SealedAnswer):
    """Takes out of an answer what the caller may not know of."""

    def __init__(
        self, send: Send, sessions: Sessions, caller: Caller, may: May, call: Call, record: Record, targets: Targets
    ) -> None:
        super().__init__(send, sessions, caller)
        self._listing = Listing(may, call, targets)
        self._record = record
        self._over: AnswerRefused | None = None
        self._splitter: Splitter | None = None  # of an event stream
        self._start: Message = {}  # held until the body is known
        self._is_json = False
        self._held: list[bytes] = []
        self._size = 0

    async def __call__(self, message: Message) -> None:
        if self._over is not None:
            raise self._over
        try:
            await self._take(message)
        except AnswerRefused as exc:
            self._over = exc
            raise

    async def _take(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            await self._begin(message)
        elif kind != "http.response.body":
            raise refused(f"a message of type {kind}")
        elif self._splitter is not None:
            await self._stream(self._splitter, message)
        elif self._is_json:
            await self._collect(message)
        else:
            await self._pass(message)

    async def _begin(self, message: Message) -> None:
        headers = self._sealed(message.get("headers", ()))
        message = {**message, "headers": headers}
        types = _values(headers, b"content-type")
        media_type = types[0].partition(b";")[0].strip().lower() if len(types) == 1 else b""
        stream = media_type == b"text/event-stream"
        self._is_json = _JSON(media_type) is not None
        if (stream or self._is_json or message["status"] < 300) and any(
            coding.strip().lower() != b"identity" for coding in _values(headers, b"content-encoding")
        ):
            raise refused("it has a content-encoding")
        if (stream or self._is_json) and _OTHER_CHARSET(types[0].lower()):
            raise refused("it is not in UTF-8")
        if stream:
            self._splitter = Splitter()
            message["headers"] = [pair for pair in headers if pair[0].lower() != b"content-length"]
            await self._send(message)
        else:
            self._start = message

    async def _stream(self, splitter: Splitter, message: Message) -> None:
        try:
            events = splitter.feed(message.get("body", b""))
        except EventTooLarge:
            raise refused("an event is too large") from None
        passed: list[bytes] = []
        fault: AnswerRefused | None = None
        for event in events:
            try:
                passed.append(self._event(event))
            except AnswerRefused as exc:  # what came before it goes on, so that it does not matter how bytes arrive
                fault = exc
                break
        body = b"".join(passed)
        more = fault is not None or message.get("more_body", False)
        if body or not more:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        if fault is not None:
            raise fault

    def _event(self, event: Event) -> bytes:
        raw = event.raw
        if not _is_telling(raw):
            return raw
        data = event.data
        if data is None:
            return raw
        message = self._read(data)
        left = self._listing.filtered(message)
        if left is message:
            return raw
        return event.without_data() if left is None else event.with_data(_written(left))

    async def _collect(self, message: Message) -> None:
        self._held.append(message.get("body", b""))
        self._size += len(self._held[-1])
        if self._size > MAX_ANSWER_BYTES:
            raise refused("it is too large")
        if message.get("more_body", False):
            return
        body, start = b"".join(self._held), self._start
        if _is_telling(body):
            read = self._read(body)
            left = self._listing.filtered(read)
            if left is None:
                raise refused("nothing of it may be passed on")
            if left is not read:
                body = _written(left)
                kept = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
                start = {**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _pass(self, message: Message) -> None:
        """Neither JSON nor events: clients read no message in it, and a success has none."""
        if self._start:
            if self._start["status"] < 300:
                if message.get("body"):
                    raise refused("it is neither JSON nor an event stream")
                if message.get("more_body", False):
                    return
            start, self._start = self._start, {}
            await self._send(start)
        await self._send(message)

    def _read(self, data: bytes) -> Any:
        """The message as clients read it."""
        try:
            message = _decode(data.decode("utf-8"))
        except (ValueError, RecursionError):
            raise refused("it is not JSON with one reading") from None
        error = message.get("error") if isinstance(message, dict) else None
        if isinstance(error, dict):
            self._note(error)
        return message

    def _note(self, error: dict[str, Any]) -> None:
        code, text = error.get("code"), error.get("message")
        if isinstance(code, int) and isinstance(text, str):
            self._record.details.setdefault("mcp.error.code", code)
            self._record.details.setdefault("mcp.error.message", text)


def _is_telling(data: bytes) -> bool:
    return _TELLING(data) is not None or (b'"method"' in data and b'"id"' in data)  # the latter: the server asks


def _values(headers: RawHeaderList, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


# Of numbers and surrogates, which nothing here is about, what a client can read goes through as it is.
_decode: Final = json.JSONDecoder(object_pairs_hook=_members).decode


def _written(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def refused(why: str) -> AnswerRefused:
    """For an answer that must not be passed on."""
    return AnswerRefused(unusable(f"the answer cannot be filtered: {why}", policy="mcp"))
