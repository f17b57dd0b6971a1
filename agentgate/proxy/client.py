"""Client: the client's side of a forwarded request, what it sends, how long that may take, and that it leaves.

ASGI tells of a disconnect only to who asks, and asking waits: so the watch is a task, which costs as much as half of
all the rest. It is started for who still waits after `PATIENCE`. Whoever has left, or takes too long, is not waited
for: the forwarding task is cancelled, as by `asyncio.timeout`.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import httpx

from ..body import ClientGone
from ..deadlines import NEVER, Deadlines
from ..decision import Decision, Reason, deny
from ..respond import Message, Receive, Send
from .timeouts import Timeouts

PATIENCE: Final = 0.05  # seconds; most answers are there before a client could have been missed

TOTAL: Final = deny(
    "upstream call timeout",
    status=504,
    code="upstream_timeout",
    reason=Reason.TIMEOUT,
    detail="the whole exchange took too long",
    policy="forward",
)
BODY: Final = deny(
    "request timeout",
    status=408,
    code="request_timeout",
    reason=Reason.TIMEOUT,
    detail="the client did not send its body in time",
    policy="forward",
)
ANSWER: Final = replace(BODY, detail="the client did not take the answer in time")


class Client(httpx.AsyncByteStream):
    """The body of the request as a stream, and a clock and a watch on the client.

    `gone`: it has disconnected. `overdue`: what took too long, None when nothing did. `started`: the stream has been
    asked for, so that it cannot be sent again.
    """

    def __init__(self, receive: Receive, deadlines: Deadlines, timeouts: Timeouts) -> None:
        task = asyncio.current_task(deadlines.loop)
        assert task is not None
        self.task = task
        self.gone = False
        self.overdue: Decision | None = None
        self.interrupted = False  # the forwarding task has been cancelled from here
        self.started = False
        self.deadline = NEVER  # not after the first of the moments below; `expire` finds out which it was, if any
        self._receive = receive
        self._deadlines = deadlines
        self._patience = NEVER if timeouts.client is None else timeouts.client
        self._ends = NEVER if timeouts.total is None else deadlines.loop.time() + timeouts.total
        self._sends = NEVER  # until when it has to send some of its body
        self._takes = NEVER  # until when it has to take some of the answer
        self._watched = NEVER  # from when on
        self._first: Message = {}
        self._watch: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Take the first message: most requests are complete with it."""
        now = self._deadlines.loop.time()
        watched = now + PATIENCE
        self._sends = now + self._patience
        self._deadlines.watch(self)
        self._deadlines.until(self, min(watched, self._sends, self._ends))
        self._first = self._received(await self._receive())
        if self.whole:
            self._watched = watched

    @property
    def whole(self) -> bool:
        """Whether the first message holds the whole body."""
        return not self._first.get("more_body", False)

    @property
    def body(self) -> bytes:
        """What the first message holds of the body."""
        body: bytes = self._first.get("body", b"")
        return body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.started = True
        message = self._first
        while True:
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                break
            message = await self._next()
        self._watched = self._deadlines.loop.time() + PATIENCE
        self._by(self._watched)

    async def _next(self) -> Message:
        self._sends = self._deadlines.loop.time() + self._patience
        self._by(self._sends)
        return self._received(await self._receive())

    def _received(self, message: Message) -> Message:
        self._sends = NEVER
        if message["type"] != "http.request":
            self.gone = True
            raise ClientGone
        return message

    async def take(self, send: Send, chunk: bytes) -> None:
        """Send it a chunk of the answer, which is not the last."""
        self._takes = self._deadlines.loop.time() + self._patience
        self._by(self._takes)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._takes = NEVER

    def _by(self, moment: float) -> None:
        if moment < self.deadline:
            self._deadlines.until(self, moment)

    def expire(self) -> None:
        """Something has taken too long, or the client has waited long enough to be watched, or neither any more."""
        now = self._deadlines.loop.time()
        if now >= self._watched:
            self._watched = NEVER
            self._watch = self._deadlines.loop.create_task(self._wait())
        if now >= min(self._ends, self._takes, self._sends) and not self.interrupted:
            self.overdue = TOTAL if now >= self._ends else ANSWER if now >= self._takes else BODY
            self._interrupt()
        self.deadline = NEVER
        if not self.interrupted:
            self._by(min(self._ends, self._takes, self._sends, self._watched))

    def shut(self) -> None:
        """Nobody shuts a client out."""

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._interrupt()

    def _interrupt(self) -> None:
        if not self.interrupted:  # once: a second time would be somebody else's
            self.interrupted = True
            self.task.cancel()

    def leave(self) -> None:
        """Stop watching, and the clock."""
        self._deadlines.forget(self)
        if self._watch is not None:
            self._watch.cancel()
