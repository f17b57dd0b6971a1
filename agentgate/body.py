"""The body of a request that a policy reads: read once, bounded, and handed on as the very bytes that were judged.

It is judged as strict JSON or not at all: a body in another coding, charset or media type could be read otherwise by
the app than by a policy, and is refused before any policy decides. What no policy reads is never buffered.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final

from .auth.location import RawHeaderList
from .deadlines import NEVER, Clock, Deadlines
from .decision import Decision, Reason, deny, policy_error
from .request import Request, with_body
from .respond import Message, Receive
from .strict_json import StrictJSONError

SECONDS: Final = 60.0  # for a body to come in, and a second more for each of these:
BYTES_PER_SECOND: Final = 1024  # a client that is slower than that holds memory for nothing

_JSON: Final = re.compile(
    rb"application/(?:[a-z0-9][a-z0-9.-]*\+)?json((?:[ \t]*;[ \t]*[a-z0-9-]+=(?:[a-z0-9._-]+|\"[a-z0-9 ._-]*\"))*)"
).fullmatch
_CHARSET: Final = re.compile(rb"charset=\"?([^\";]*)").findall


class ClientGone(Exception):
    """The client disconnected while its body was read: there is nobody to answer."""


class TooSlow(Exception):
    """The client did not send its body in time."""


class Incoming:
    """The body of one request, on its way to the policies (`prepare`) and then to the app (`receive`)."""

    deadline = NEVER

    def __init__(self, receive: Receive, limit: int, clock: Clock) -> None:
        self._receive = receive
        self._limit = limit
        self._clock = clock
        self._whole: Message | None = None
        self._task: asyncio.Task[Any] | None = None
        self._late = False

    async def prepare(self, request: Request) -> None:
        """Read all of it, and note it on the request; stop as soon as it is more than the limit (bytes). Raises
        `ClientGone` and `TooSlow`."""
        body = b"" if request.type == "websocket" else await self._read_in_time(request)
        if body is not None:
            with_body(request, body)

    async def _read_in_time(self, request: Request) -> bytes | None:
        deadlines = self._clock.deadlines()
        self._task = task = asyncio.current_task()
        assert task is not None
        deadlines.watch(self)
        try:
            return await self._read(request, deadlines)
        except asyncio.CancelledError:
            if not self._late or task.uncancel() > 0:
                raise  # somebody else wants this task to end
            raise TooSlow from None
        finally:
            deadlines.forget(self)

    async def _read(self, request: Request, deadlines: Deadlines) -> bytes | None:
        if int(request.by_name.get(b"content-length", b"0")) > self._limit:
            return None
        chunks: list[bytes] = []
        size = 0
        more = True
        start = deadlines.loop.time() + SECONDS
        while more:
            deadlines.until(self, start + size / BYTES_PER_SECOND)
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone
            chunks.append(message.get("body") or b"")
            size += len(chunks[-1])
            if size > self._limit:
                return None
            more = message.get("more_body", False)
        body = b"".join(chunks)
        self._whole = {"type": "http.request", "body": body, "more_body": False}
        return body

    def expire(self) -> None:
        """Time is up for the client."""
        self.deadline = NEVER
        self._late = True
        assert self._task is not None  # it is watched while it reads, and not before
        self._task.cancel()

    def shut(self) -> None:
        """Nobody shuts these deadlines."""

    def replace(self, headers: RawHeaderList, body: bytes) -> RawHeaderList:
        """Hand out another body than the one that was read. Returns the headers with its length."""
        self._whole = {"type": "http.request", "body": body, "more_body": False}
        return [
            *(pair for pair in headers if pair[0] not in (b"content-length", b"transfer-encoding")),
            (b"content-length", str(len(body)).encode()),
        ]

    def hear(self, through: Callable[[Receive], Receive]) -> None:
        """Hand out what comes after the body, or over a websocket, by way of another `receive`."""
        self._receive = through(self._receive)

    async def receive(self) -> Message:
        """The body as one message; from then on, what the server says."""
        message, self._whole = self._whole, None
        return await self._receive() if message is None else message


def body_fault(fault: Exception) -> Decision:
    """What it means that the body was not read."""
    return _refuse(408, "request timeout") if isinstance(fault, TooSlow) else policy_error("body", fault)


def body_refusal(request: Request) -> Decision | None:
    """Why policies cannot judge the body, or None. An empty one has nothing that could be misread."""
    body = request.body
    if body is None:
        return _refuse(413, "content too large")
    headers = request.by_name
    length = headers.get(b"content-length")
    if length is not None and int(length) != len(body):
        return _refuse(400, "invalid request: content-length is not the length of the body")
    if not body:
        return None
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        return _refuse(415, "unsupported media type: the body has a content-encoding")
    media_type = _JSON(headers.get(b"content-type", b"").lower())
    if media_type is None or any(charset != b"utf-8" for charset in _CHARSET(media_type[1])):
        return _refuse(415, "unsupported media type: the body is not application/json in UTF-8")
    try:
        request.json()
    except StrictJSONError as exc:
        return _refuse(400, f"invalid request: the body has not one reading as JSON: {exc}")
    return None


def _refuse(status: int, message: str) -> Decision:
    return deny(message, status=status, code="invalid_request", reason=Reason.INVALID_REQUEST, policy="body")
