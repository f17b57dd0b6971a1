"""The upstream's end of a websocket (RFC 6455): the handshake as a transport of httpx's, so that whatever chooses an
upstream chooses one for websockets, too; then messages. The frames are the package `websockets`'; the sockets are ours.

It refuses what a handshake has not agreed on: extensions, which nobody was offered, and a subprotocol that the client
does not speak. A message is held as a whole, and is bounded; nothing else is.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import httpx
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import CONNECTING, OPEN
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from .connection import address
from .dial import dial
from .framing import FramingError, RequestHead
from .messages import UpstreamResponse, origin_of, raw_headers
from .upstream import ALPN

READ_BYTES: Final = 64 * 1024  # taken from a socket at a time; what a socket holds unread is bounded by twice that
PING_SECONDS: Final = 20.0  # of silence before the upstream is asked whether it is there; and again until it is not
CLOSE_SECONDS: Final = 5.0  # for the upstream to close a connection that is over

# The handshake is made anew, and it has no body.
_OURS: Final = frozenset({b"connection", b"upgrade", b"content-length", b"content-type", b"transfer-encoding"})
_OF_HANDSHAKE: Final = b"sec-websocket-"

_SILENT: Final = logging.Logger("websockets", logging.CRITICAL + 1)  # of nobody: the package logs heads and messages


class Broken(Exception):
    """The connection to the upstream has failed. The text quotes nothing that the upstream has sent."""


class Socket:
    """An open websocket at an upstream."""

    def __init__(
        self,
        protocol: ClientProtocol,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        events: list[Any],
        write_seconds: float | None,
    ) -> None:
        self._protocol = protocol
        self._events = events  # that came right behind the handshake
        self._reader = reader
        self._writer = writer
        self._write_seconds = write_seconds
        self._message = bytearray()
        self._is_text = False

    @property
    def subprotocol(self) -> str | None:
        return self._protocol.subprotocol

    async def messages(self) -> AsyncIterator[str | bytes]:
        """What the upstream sends, until it closes; raises `Broken` where it does not close as it should."""
        events = self._events
        while True:
            for frame in events:
                if isinstance(frame, Frame) and self._complete(frame):
                    data, self._message = self._message, bytearray()
                    yield self._text(data) if self._is_text else bytes(data)
            if self._protocol.state is not OPEN:
                if self._protocol.close_rcvd is None:
                    raise Broken(type(self._protocol.parser_exc).__name__)
                return
            events = await self._receive()

    @property
    def closed(self) -> tuple[int, str]:
        """The code and the reason with which the upstream has closed."""
        received = self._protocol.close_rcvd
        return (1005, "") if received is None else (received.code, received.reason)

    def _complete(self, frame: Frame) -> bool:
        """Whether a message is there with this frame."""
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._is_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return False
        self._message += frame.data
        return frame.fin

    def _text(self, data: bytearray) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            self._protocol.fail(1007)
            raise Broken("UnicodeDecodeError") from None

    async def _read(self) -> bytes:
        """What comes next. An upstream that says nothing for long is asked whether it is still there."""
        for asked in (False, True):
            try:
                async with asyncio.timeout(PING_SECONDS):
                    return await self._reader.read(READ_BYTES)
            except TimeoutError:
                if asked:
                    break
                self._protocol.send_ping(b"")
                await self._flush()
            except OSError as exc:
                raise Broken(type(exc).__name__) from exc
        raise Broken("TimeoutError")

    async def _receive(self) -> list[Any]:
        """The frames that come next. Pings and a close are answered; one that cannot hear the answer is told of by
        what it sends."""
        if data := await self._read():
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        events = self._protocol.events_received()
        try:
            await self._flush()
        except Broken as exc:
            if isinstance(exc.__cause__, TimeoutError):
                raise
        return events

    async def send(self, data: bytes, *, text: bool) -> None:
        """Send a message, and wait while the upstream reads too slowly. Raises `Broken`."""
        if self._protocol.state is not OPEN:
            return  # it is closing, which `messages` sees
        if text:
            self._protocol.send_text(data)
        else:
            self._protocol.send_binary(data)
        await self._flush()

    async def _flush(self) -> None:
        try:
            for data in self._protocol.data_to_send():
                if data:  # else: the end, which comes with `close`
                    self._writer.write(data)
            await self._drained()
        except (OSError, TimeoutError) as exc:
            raise Broken(type(exc).__name__) from exc

    async def _drained(self) -> None:
        """Wait for a slow reader, as long as it does read."""
        unsent = self._writer.transport.get_write_buffer_size()
        while True:
            try:
                async with asyncio.timeout(self._write_seconds):
                    return await self._writer.drain()
            except TimeoutError:
                left = self._writer.transport.get_write_buffer_size()
                if left >= unsent:
                    raise
                unsent = left

    async def close(self, code: int | None, reason: str) -> None:
        """Say goodbye, if that is still to be done (None: without a code), and wait a moment for it to be answered."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._protocol.state is OPEN:
                    self._protocol.send_close(code, reason)
                await self._flush()
                while data := await self._reader.read(READ_BYTES):
                    self._protocol.receive_data(data)
                    self._protocol.events_received()  # which nobody wants any more
        except (OSError, TimeoutError, Broken):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()


class Dialer(httpx.AsyncBaseTransport):
    """Opens websockets: a request becomes a handshake, its response has the `Socket` in `extensions["websocket"]` if
    its status is 101. `extensions["subprotocols"]` of a request are what the client speaks.

    `context` gives the TLS context; `max_message_bytes`: of a message of the upstream's.
    """

    def __init__(self, context: Callable[[], ssl.SSLContext], max_message_bytes: int) -> None:
        self._context = context
        self._max_size = max_message_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        timeout: dict[str, float | None] = request.extensions["timeout"]
        protocol = _protocol(request, self._max_size)
        head = _handshake(request, protocol)
        try:
            async with asyncio.timeout(timeout["connect"]):
                reader, writer = await self._connect(request)
        except TimeoutError:
            raise httpx.ConnectTimeout("the server did not accept in time", request=request) from None
        except OSError as exc:
            raise httpx.ConnectError(str(exc), request=request) from exc
        events: list[Any] = []
        try:
            async with asyncio.timeout(timeout["read"]):
                writer.write(head)
                while protocol.state is CONNECTING and protocol.handshake_exc is None:
                    if data := await reader.read(READ_BYTES):
                        protocol.receive_data(data)
                    else:
                        protocol.receive_eof()
                    events += protocol.events_received()
        except TimeoutError:
            writer.transport.abort()
            raise httpx.ReadTimeout("the server did not answer in time", request=request) from None
        except OSError as exc:
            writer.transport.abort()
            raise httpx.ReadError(str(exc), request=request) from exc
        except BaseException:
            writer.transport.abort()
            raise
        fault = protocol.handshake_exc
        if fault is not None:
            writer.transport.abort()
        if fault is not None and not isinstance(fault, InvalidStatus):
            raise httpx.RemoteProtocolError(f"no handshake: {type(fault).__name__}", request=request)
        response: Response = events.pop(0)
        headers = [
            (name.encode(), value.encode("latin-1", "surrogateescape")) for name, value in response.headers.raw_items()
        ]
        extensions: dict[str, Any] = {"peer": address(writer.get_extra_info("peername"))}
        if fault is None:
            extensions["websocket"] = Socket(protocol, reader, writer, events, timeout["write"])
        return UpstreamResponse(response.status_code, headers, _Body(bytes(response.body)), extensions)

    async def _connect(self, request: httpx.Request) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        scheme, host, port = origin_of(request.url)
        name = host.decode("ascii")
        sock = await dial(asyncio.get_running_loop(), name, port)
        try:
            options: dict[str, Any] = {"ssl": self._context(), "server_hostname": name} if scheme == "https" else {}
            reader, writer = await asyncio.open_connection(sock=sock, limit=READ_BYTES, **options)
        except BaseException:
            sock.close()
            raise
        tls = writer.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() not in ALPN:
            writer.transport.abort()
            raise OSError("the server wants a protocol other than http/1.1")
        return reader, writer


def _protocol(request: httpx.Request, max_size: int) -> ClientProtocol:
    scheme, host, port = origin_of(request.url)
    uri = WebSocketURI(scheme == "https", host.decode("ascii"), port, "/", "", None, None)
    spoken = [Subprotocol(name) for name in request.extensions.get("subprotocols", ())]
    return ClientProtocol(uri, subprotocols=spoken or None, max_size=max_size, logger=_SILENT)


def _handshake(request: httpx.Request, protocol: ClientProtocol) -> bytes:
    headers = [
        (name, value)
        for name, value in raw_headers(request)
        if name.lower() not in _OURS and not name.lower().startswith(_OF_HANDSHAKE)
    ]
    headers += [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", protocol.key.encode()),
        (b"sec-websocket-version", b"13"),
    ]
    if protocol.available_subprotocols:
        headers.append((b"sec-websocket-protocol", ", ".join(protocol.available_subprotocols).encode()))
    try:
        return RequestHead(b"GET", request.extensions["target"], headers).data
    except FramingError as error:
        raise httpx.LocalProtocolError(str(error), request=request) from None


class _Body(httpx.AsyncByteStream):
    """The body of a refusal, as far as the package reads one: a MiB."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body
