"""One connection to a server: the bytes, the clock, and the question whether it may be used again.

A connection serves one exchange at a time. Whatever goes wrong, and whoever walks away, ends in `Connection.close`,
which takes effect at once and without waiting: that is why no slot is ever lost.

It refuses to be kept when its state is in any doubt.
"""

import asyncio
import ssl
from typing import Any, Final, Protocol, cast

import httpx

from ..deadlines import NEVER, Deadlines
from .exchange import Exchange
from .framing import FramingError, ResponseReader

HIGH_WATER: Final = 256 * 1024  # undelivered response bytes above which the server has to wait for the consumer
DROPPED: Final = "the server dropped the connection"


class Owner(Protocol):
    """The pool, as a connection sees it."""

    deadlines: Deadlines

    def release(self, connection: "Connection") -> None:
        """The connection may serve another exchange."""

    def forget(self, connection: "Connection") -> None:
        """The connection is closed, and its slot free."""


class Connection(asyncio.Protocol):
    """A connection to a server, idle or serving one exchange. It belongs to nobody until `owner` is set."""

    __slots__ = (
        "_paused",
        "_reader",
        "_tls",
        "_transport",
        "_unsent",
        "closed",
        "deadline",
        "drained",
        "exchange",
        "loop",
        "lost",
        "owner",
        "peer",
        "reused",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.owner: Owner | None = None
        self.exchange: Exchange | None = None
        self.deadline = NEVER
        self.drained: asyncio.Future[None] | None = None  # set while the server is too slow for us
        self.lost: asyncio.Future[None] = loop.create_future()  # done when the socket is closed
        self.reused = False
        self.closed = False
        self._paused = False  # reading
        self._unsent = 0
        self._reader = ResponseReader()

    def begin(self, exchange: Exchange, *, head_only: bool) -> None:
        """Serve this exchange now."""
        self.exchange = exchange
        self.deadline = NEVER
        self._reader.begin(head_only=head_only)

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():  # else `connection_lost` is under way; to write now is an error in uvloop
            self._transport.write(data)

    def resume(self) -> None:
        """The consumer has taken everything."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def clock(self) -> None:
        """Start or stop the clock.

        It runs while the server keeps us from writing, and while somebody waits for it to answer a request that it has
        in full. That a client is slow to send, or a consumer slow to read, is not the server's fault.
        """
        exchange = self.exchange
        if exchange is None or self.owner is None:
            return
        if self.drained is not None:
            self.owner.deadlines.set(self, exchange.timeouts.get("write"))
        elif exchange.waiting and exchange.body.complete:
            self.owner.deadlines.set(self, exchange.timeouts.get("read"))
        else:
            self.deadline = NEVER

    def expire(self) -> None:
        """Time is up: for the server, or for an idle connection."""
        exchange = self.exchange
        if exchange is None:
            self.close()
        elif self.drained is None:
            self.fail(httpx.ReadTimeout("the server did not answer in time", request=exchange.request))
        elif (unsent := self._transport.get_write_buffer_size()) < self._unsent:
            self._unsent = unsent  # slow, but it does read
            self.clock()
        else:
            self.fail(httpx.WriteTimeout("the server did not read the request in time", request=exchange.request))

    def fail(self, error: BaseException) -> None:
        """End the exchange with this error, and the connection with it."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.finish(error)
        self.close()

    def shut(self) -> None:
        """The pool is being closed."""
        exchange = self.exchange
        self.fail(httpx.ReadError("the pool was closed", request=exchange.request if exchange else None))

    def close(self) -> None:
        """Abort the connection and give the slot back. Nothing is worth flushing: it is idle or broken."""
        if self.closed:
            return
        self.closed = True
        self._transport.abort()
        self._reader.close()
        if self.owner is not None:
            self.owner.forget(self)

    def _settle(self, exchange: Exchange) -> None:
        """The response is complete. Keep the connection only if nothing at all speaks against it."""
        keep = (
            self._reader.keep_alive
            and not self._reader.surplus
            and not exchange.closes
            and exchange.body.complete
            and self.drained is None
            and not self._transport.get_write_buffer_size()
        )
        self.exchange = None
        self.deadline = NEVER
        exchange.finish()
        if keep and self.owner is not None:
            self.reused = True
            self.resume()
            self.owner.release(self)
        else:
            self.close()

    def _end(self, kind: type[httpx.TransportError], text: str, cause: Exception | None = None) -> None:
        """The connection is gone."""
        exchange = self.exchange
        if exchange is None:
            self.close()
            return
        exchange.stale = self.reused and not self._reader.started
        error = kind(text, request=exchange.request)
        error.__cause__ = cause
        self.fail(error)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self.peer = address(transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.close()  # nobody asked
            return
        fault: FramingError | None = None
        try:
            self._reader.feed(data)
        except FramingError as error:
            fault = error
        # What came before the fault counts, so that it does not matter how the network cut the bytes into pieces.
        exchange.receive(self._reader)
        if fault is not None:
            self.fail(httpx.RemoteProtocolError(str(fault), request=exchange.request))
        elif self._reader.complete:
            self._settle(exchange)
        else:
            if exchange.size > HIGH_WATER and not self._paused:
                self._paused = True
                self._transport.pause_reading()
            if self.deadline != NEVER:
                self.clock()

    def eof_received(self) -> None:
        exchange = self.exchange
        if exchange is None:
            self.close()
        elif self._tls is not None and not said_goodbye(self._tls):
            self._end(httpx.RemoteProtocolError, DROPPED)
        else:
            try:
                self._reader.eof()
            except FramingError as error:
                self._end(httpx.RemoteProtocolError, str(error))
            else:
                self._settle(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        # Without an `eof_received` before, this is no way to end a response, not even one that the end of the
        # connection delimits.
        self.lost.set_result(None)
        exchange = self.exchange
        writing = exchange is not None and (self.drained is not None or not exchange.body.complete)
        if exc is None:
            self._end(httpx.RemoteProtocolError, DROPPED)
        else:
            self._end(httpx.WriteError if writing else httpx.ReadError, str(exc) or type(exc).__name__, exc)

    def pause_writing(self) -> None:
        self.drained = self.loop.create_future()
        self._unsent = self._transport.get_write_buffer_size()
        self.clock()

    def resume_writing(self) -> None:
        drained, self.drained = self.drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        self.clock()


def said_goodbye(tls: ssl.SSLObject) -> bool:
    """Whether the end of the connection is the server's doing: anybody on the way can close TCP, but not TLS (RFC 9112
    §9.8). asyncio, unlike uvloop, reports both alike."""
    try:
        return tls.read(1) == b""
    except ssl.SSLError as error:
        return isinstance(error, ssl.SSLZeroReturnError)


def address(peername: Any) -> str:
    """`10.0.0.1:80`, `[::1]:80`; empty when the socket is gone already."""
    if not peername:
        return ""
    host, port = peername[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
