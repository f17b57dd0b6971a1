"""A caller's connection: requests go out as bytes, answers come back whole, broken off, or not at all.

It reads what HTTP says and no more: an answer is complete when its framing says so, and only then.
"""

import asyncio
import socket
from collections import deque
from typing import Final, cast

import httptools

from .words import AGENT, CANARY


class Answer:
    """One answer, or what there was of it."""

    __slots__ = ("agents", "begins", "body", "canaries", "complete", "head_only", "over", "size", "status")

    def __init__(self, over: "asyncio.Future[None]", *, head_only: bool) -> None:
        self.over = over  # done when it is complete, or never will be
        self.head_only = head_only
        self.status = 0  # none, so far
        self.canaries: list[bytes] = []
        self.agents: list[bytes] = []
        self.body: list[bytes] = []
        self.size = 0
        self.complete = False
        self.begins: asyncio.Future[None] | None = None  # done when some of the body is there

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    async def begun(self, seconds: float) -> None:
        """Wait until some of the body is there, or there will be none."""
        if self.size or self.over.done():
            return
        self.begins = self.over.get_loop().create_future()
        await asyncio.wait((self.begins, self.over), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        self.begins = None


class Client(asyncio.Protocol):
    """A connection to the gateway."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.answers: deque[Answer] = deque()
        self.closed = False
        self.unasked = False  # something came that was no answer
        self.drained = asyncio.Event()
        self.drained.set()
        self._parser = httptools.HttpResponseParser(self)
        self._keep = False
        self._renew = False

    def ask(self, data: bytes, *, head_only: bool = False) -> Answer:
        """Send these bytes, and more by `write` if that was not all of it."""
        answer = Answer(self.loop.create_future(), head_only=head_only)
        self.answers.append(answer)
        if self.closed:
            answer.end()
        else:
            self.transport.write(data)
        return answer

    async def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)
            await self.drained.wait()

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self.transport.abort()
        else:
            self.transport.close()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            if not self.answers:
                self.unasked = True
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._broken()
            self.transport.abort()
            return
        if self._renew:  # llhttp cannot be told that the answer to HEAD has no body
            self._parser, self._renew = httptools.HttpResponseParser(self), False

    def pause_writing(self) -> None:
        self.drained.clear()

    def resume_writing(self) -> None:
        self.drained.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._broken()

    def _broken(self) -> None:
        self.closed = True
        self.drained.set()
        while self.answers:
            self.answers.popleft().end()

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == CANARY:
            self.answers[0].canaries.append(value)
        elif name == AGENT:
            self.answers[0].agents.append(value)

    def on_headers_complete(self) -> None:
        answer = self.answers[0]
        answer.status = self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()
        if answer.head_only:
            self._renew = True
            self._complete()

    def on_body(self, body: bytes) -> None:
        answer = self.answers[0]
        answer.body.append(body)
        answer.size += len(body)
        if answer.begins is not None and not answer.begins.done():
            answer.begins.set_result(None)

    def on_message_complete(self) -> None:
        if not self._renew:
            self._complete()

    def _complete(self) -> None:
        answer = self.answers.popleft()
        answer.complete = True
        answer.end()
        if not self._keep:
            self.closed = True  # by the other side, any moment


_SMALL_BUFFER: Final = 16 * 1024


async def connect(port: int, *, small: bool = False) -> Client:
    """A connection to this port; `small`: with little room for what is not read yet."""
    loop = asyncio.get_running_loop()
    opened = socket.socket()
    try:
        opened.setblocking(False)
        if small:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        await loop.sock_connect(opened, ("127.0.0.1", port))
        _, client = await loop.create_connection(lambda: Client(loop), sock=opened)
    except BaseException:
        opened.close()
        raise
    return client
