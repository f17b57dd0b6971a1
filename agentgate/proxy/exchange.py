"""One request and its response: what is on its way in either direction, and what nobody has asked for yet.

An exchange occupies a connection until the response has arrived in full or failed; from then on it is a buffer. So a
response that is complete gives its connection back at once, even if nobody has read it yet: a slow reader holds a
bounded number of bytes, never a connection that has nothing more to say.

It refuses to end a response cleanly that the server did not, or that its consumer has closed.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, cast

import httpx

from .framing import BodyWriter, FramingError, RequestHead, ResponseHead, ResponseReader

if TYPE_CHECKING:
    from .connection import Connection


Seconds = Mapping[str, float | None]
"""As httpx passes them, by `pool`, `connect`, `read` and `write`; what is missing has no end. The last two are looked
at whenever they begin to run, so that whoever holds the mapping can change them on the way, as with httpx's own
transport."""


class Exchange:
    """One request and its response. It leaves the connection when the response has arrived or failed."""

    __slots__ = (
        "_unsent_head",
        "_upload",
        "_waiter",
        "body",
        "chunks",
        "closes",
        "connection",
        "error",
        "head",
        "loop",
        "request",
        "size",
        "stale",
        "timeouts",
    )

    def __init__(self, connection: "Connection", request: httpx.Request, timeouts: Seconds) -> None:
        self.request = request
        self.connection: Connection | None = connection  # None: the exchange is over
        self.loop = connection.loop
        self.timeouts = timeouts
        self.head: ResponseHead | None = None
        self.chunks: list[bytes] = []
        self.size = 0  # of the chunks
        self.error: BaseException | None = None
        self.stale = False  # it failed on a used connection before the server said a word
        self._waiter: asyncio.Future[None] | None = None
        self._upload: asyncio.Task[None] | None = None

    # The request.

    def start(self, head: RequestHead, body: BodyWriter, wire: tuple[bytes, ...] | None) -> None:
        """Write `wire`, the request as a whole; or, when that is None, the head, and the stream in a task beside."""
        assert self.connection is not None
        self.body = body
        self.closes = head.closes
        self.connection.begin(self, head_only=head.is_head)
        if wire is not None:
            for part in wire:
                self.connection.write(part)
            return
        # Only a task can wait for the client and for the server at once. It runs first; what it finds to send at once
        # takes the head along, and if that is nothing the head goes alone.
        self._unsent_head = head.data
        self._upload = self.loop.create_task(self._send_body(self.connection))
        self.loop.call_soon(self._send, b"")

    def _send(self, data: bytes) -> None:
        data = self._unsent_head + data
        self._unsent_head = b""
        if self.connection is not None:
            if data:
                self.connection.write(data)
            self.connection.clock()  # once all is sent, the server is the one to wait for

    async def _send_body(self, connection: "Connection") -> None:
        chunks: AsyncIterator[bytes] | None = None
        try:
            chunks = aiter(cast(httpx.AsyncByteStream, self.request.stream))
            async for chunk in chunks:
                if self.connection is None:
                    raise asyncio.CancelledError  # again, for a stream that took no notice
                self._send(self.body.encode(chunk))
                if connection.drained is not None:
                    await connection.drained
            self._send(self.body.end())
            self._upload = None
        except FramingError as error:
            self._break(httpx.LocalProtocolError(str(error), request=self.request))
        except (Exception, asyncio.CancelledError) as error:
            self._break(error)  # nothing, if the exchange is over and this its echo
        finally:
            aclose = getattr(chunks, "aclose", None)  # generators have one, other iterators need not
            if aclose is not None:
                await aclose()

    def _break(self, error: BaseException) -> None:
        self._upload = None
        if self.connection is not None:
            self.connection.fail(error)

    # The response.

    def receive(self, reader: ResponseReader) -> None:
        """Take over what the reader has found."""
        if reader.body:
            self.chunks += reader.body
            self.size += sum(map(len, reader.body))
            reader.body = []
        self.head = reader.head
        if self.head is not None:
            self._wake()

    def finish(self, error: BaseException | None = None) -> None:
        """The exchange is over: from here on it is a buffer, and an error if the response did not end well."""
        self.connection = None
        self.error = error
        if self._upload is not None:
            self._upload.cancel()
        self._wake()

    def abandon(self) -> None:
        """Nobody wants the rest. What has not arrived takes the connection with it."""
        if self.connection is not None:
            self.connection.fail(httpx.StreamClosed())
        elif self.chunks:
            self.error = httpx.StreamClosed()
        self.chunks = []

    async def wait(self) -> None:
        """Until there is something new. Whoever is cancelled here has abandoned the exchange."""
        assert self.connection is not None
        self._waiter = waiter = self.loop.create_future()
        try:
            self.connection.clock()
            await waiter
        except BaseException:
            self.abandon()
            raise

    @property
    def waiting(self) -> bool:
        return self._waiter is not None

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def take(self) -> bytes:
        """Everything received and not yet taken, in one piece."""
        chunks = self.chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self.chunks = []
        self.size = 0
        if self.connection is not None:
            self.connection.resume()
        return data


class ResponseStream(httpx.AsyncByteStream):
    """The body of a response, as it arrives. To drop it is as good as to close it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def at_end(self) -> bool:
        """Whether the response is complete and everything of it has been yielded: no need to ask for more."""
        exchange = self._exchange
        return exchange.connection is None and exchange.error is None and not exchange.chunks

    def whole(self) -> bytes | None:
        """The body, if the response is complete and nothing of it has been yielded; None if it has to be waited for."""
        exchange = self._exchange
        if exchange.connection is not None or exchange.error is not None:
            return None
        return exchange.take()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        exchange = self._exchange
        while not exchange.chunks:
            if exchange.error is not None:
                raise exchange.error
            if exchange.connection is None:
                raise StopAsyncIteration
            await exchange.wait()
        return exchange.take()

    async def aclose(self) -> None:
        self._exchange.abandon()

    def __del__(self) -> None:
        # The garbage collector may run in any thread, and after the loop is gone.
        exchange = self._exchange
        if exchange.connection is not None and not exchange.loop.is_closed():
            exchange.loop.call_soon_threadsafe(exchange.abandon)
