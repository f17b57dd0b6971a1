"""Two websockets that are one: what either side says reaches the other, message by message, and so does its goodbye.

Nothing is kept but the message on its way: whoever reads too slowly is waited for, and the other side with it. A code
that no close frame can have is never sent.
"""

import asyncio
from time import monotonic
from typing import Final, NamedTuple

from ..decision import Reason
from ..protocols.protocol import AnswerRefused
from ..record import Record
from ..respond import POLICY_VIOLATION, Receive, Send, close_reason
from .websocket_upstream import CLOSE_SECONDS, Broken, Socket

GOING_AWAY: Final = 1001
MESSAGE_TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011  # not 1014, "bad gateway": widespread clients take that for a broken frame

_NO_STATUS: Final = 1005  # stands for a close frame without a code
# What an endpoint may say of itself: RFC 6455 §7.4 and its registry. 1004, 1005, 1006, 1015 are never sent.
_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})


class End(NamedTuple):
    """How a websocket ends: code and reason for the client (None: it knows, or has gone) and for the upstream (None:
    it has failed), whose code None is a close without one; what the log is told."""

    client: tuple[int, str] | None
    upstream: tuple[int | None, str] | None
    error: str = ""
    reason: Reason | None = None


class Bridge:
    """One websocket of a client that goes on to an upstream."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        socket: Socket,
        record: Record,
        *,
        max_message_bytes: int,
        idle_seconds: float | None,
        max_seconds: float | None,
    ) -> None:
        self._receive = receive
        self._send = send
        self._socket = socket
        self._record = record
        self._max_message_bytes = max_message_bytes
        self._idle_seconds = idle_seconds
        self._over = None if max_seconds is None else monotonic() + max_seconds
        self._last = monotonic()  # when a message has come, from either side
        self._received = 0  # bytes of the client's messages
        self._shut: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    def shut(self) -> None:
        """End it: the gateway is going away. From any thread."""
        loop = self._shut.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._go_away)

    def _go_away(self) -> None:
        if not self._shut.done():
            self._shut.set_result(End((GOING_AWAY, ""), (GOING_AWAY, "")))

    async def run(self) -> None:
        """Until either side, the clock or `shut` ends it. What a protocol refuses of the messages is raised when both
        sides have been told."""
        pumps = [asyncio.create_task(self._to_upstream()), asyncio.create_task(self._to_client())]
        refused: AnswerRefused | None = None
        try:
            try:
                end = await self._ending(pumps)
            except AnswerRefused as exc:
                refused, end = exc, End((POLICY_VIOLATION, exc.decision.message), (GOING_AWAY, ""))
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            await self._finish(end)
        finally:
            self._socket.abort()
        if refused is not None:
            raise refused

    async def _ending(self, pumps: list[asyncio.Task[End]]) -> End:
        ends: list[asyncio.Future[End]] = [*pumps, self._shut]
        while True:
            await asyncio.wait(ends, timeout=self._seconds_left(), return_when=asyncio.FIRST_COMPLETED)
            for one in ends:
                if one.done():
                    return one.result()
            if self._seconds_left() == 0:
                old = self._over is not None and monotonic() >= self._over
                why = "open for too long" if old else "no message for too long"
                return End((GOING_AWAY, why), (GOING_AWAY, ""), f"websocket closed: {why}", Reason.TIMEOUT)

    def _seconds_left(self) -> float | None:
        moments = [] if self._over is None else [self._over]
        if self._idle_seconds is not None:
            moments.append(self._last + self._idle_seconds)
        return max(0.0, min(moments) - monotonic()) if moments else None

    async def _to_upstream(self) -> End:
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                return self._left(message.get("code", _NO_STATUS), message.get("reason") or "")
            text = message.get("text")
            data = message.get("bytes") or b"" if text is None else text.encode()
            if len(data) > self._max_message_bytes:
                return End((MESSAGE_TOO_BIG, "the message is too large"), (GOING_AWAY, ""))
            self._last = monotonic()
            self._received += len(data)
            try:
                await self._socket.send(data, text=text is not None)
            except Broken as exc:
                return self._broken(exc)

    def _left(self, code: int, reason: str) -> End:
        """The client has closed, or is gone."""
        if code in _CODES:
            return End(None, (code, reason))
        if code == _NO_STATUS:
            return End(None, (None, ""))
        return End(None, (GOING_AWAY, ""), "client disconnected")

    async def _to_client(self) -> End:
        try:
            async for message in self._socket.messages():
                self._last = monotonic()
                kind = "text" if isinstance(message, str) else "bytes"
                await self._send({"type": "websocket.send", kind: message})
        except Broken as exc:
            return self._broken(exc)
        except OSError:  # as servers say of a client that is gone
            return End(None, (GOING_AWAY, ""), "client disconnected")
        code, reason = self._socket.closed
        return End((code, reason) if code in _CODES else (1000, ""), (None, ""))

    def _broken(self, exc: Broken) -> End:
        self._record.attempts[-1].error = str(exc)
        error = f"upstream call failed: {exc}"
        return End((INTERNAL_ERROR, "upstream connection failed"), None, error, Reason.UPSTREAM_FAILURE)

    async def _finish(self, end: End) -> None:
        """Say goodbye, to the client first: the upstream may take its time to answer."""
        self._record.details["websocket.bytes_received"] = self._received
        code, reason = end.client or end.upstream or (None, "")
        self._record.details["websocket.close_code"] = code or _NO_STATUS
        if end.error or end.reason:
            self._record.fail(end.error, end.reason)
        if end.client is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._send({"type": "websocket.close", "code": code, "reason": close_reason(reason)})
            except (OSError, TimeoutError):
                pass
        if end.upstream is not None:
            code, reason = end.upstream
            await self._socket.close(code, close_reason(reason))
