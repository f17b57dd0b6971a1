"""Mirror: a copy of a route's requests for another backend, whose answers nobody sees.

The request itself neither waits for its copies nor learns of them. A copy is sent when the whole body has come in and
was small enough to keep; what goes wrong with it is logged and counted, and that is all.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from copy import copy
from typing import Final

from ..errors import ConfigurationError, describe
from ..record import SCOPE_KEY, Record
from ..request import Scope
from ..respond import Message, Receive
from .destination import Backend

MAX_BODY: Final = 64 * 1024  # bytes; a request with more is not mirrored
MAX_IN_FLIGHT: Final = 100  # copies of one Mirror that wait for their answers; those beyond are dropped
SECONDS: Final = 30  # for a copy to be answered in full

_logger = logging.getLogger("agentgate.mirror")


class Mirror:
    """Sends a copy of each request to `backend` as well, a plain HTTP one; of a share of them with `fraction` (0 to 1).

    The copy is what the route's own backend gets: without the caller's accepted credential, with the route's changes
    of headers and path. `sent`, `failed` and `dropped` count copies: those for which an answer came, those for which
    none came, and those that were not made (body of more than 64 KiB, or 100 of them under way).
    """

    def __init__(self, backend: Backend, *, fraction: float = 1) -> None:
        faults = []
        if backend.protocol is not None:
            faults.append("Mirror: only a plain HTTP backend can be sent copies")
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            faults.append("Mirror: fraction is a number from 0 to 1")
        if faults:
            raise ConfigurationError(faults)
        self.backend = backend
        self.fraction = fraction
        self.sent = self.failed = self.dropped = 0
        self._under_way: set[asyncio.Task[None]] = set()

    def wanted(self) -> bool:
        """Whether this request is among those that are copied."""
        return self.fraction >= 1 or random.random() < self.fraction

    def send(self, scope: Scope, record: Record, body: bytes) -> None:
        """Send one copy, and return at once."""
        if len(self._under_way) >= MAX_IN_FLIGHT:
            self.dropped += 1
            return
        task = asyncio.create_task(self._send(scope, record, body))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _send(self, scope: Scope, record: Record, body: bytes) -> None:
        # Of a view of its own: what policies have noted there is for the request itself.
        unseen = Record(copy(record.view))
        unseen.rewritten = record.rewritten
        message: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def receive() -> Message:
            nonlocal message
            if message is None:
                await asyncio.Event().wait()  # nobody leaves
            given, message = message, None
            return given  # type: ignore[return-value]

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                unseen.status = message["status"]

        try:
            async with asyncio.timeout(SECONDS):
                await self.backend.app({**scope, SCOPE_KEY: unseen}, receive, send)
        except Exception as exc:
            unseen.fail(describe(exc), None)
        if unseen.error is None and unseen.status is not None:
            self.sent += 1
        else:
            self.failed += 1
            _logger.warning("mirror to %s failed: %s", self.backend.name, unseen.error)

    async def aclose(self) -> None:
        """Give up what is under way."""
        tasks = [*self._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __repr__(self) -> str:
        return f"Mirror({self.backend!r}, fraction={self.fraction})"


class Copying:
    """The `receive` of a request that is mirrored: hands on what comes, keeps what it may, and sends the copies with
    the last of it."""

    __slots__ = ("_chunks", "_mirrors", "_receive", "_record", "_scope", "_size")

    def __init__(self, mirrors: Sequence[Mirror], scope: Scope, record: Record, receive: Receive) -> None:
        self._mirrors = mirrors
        self._scope = scope
        self._record = record
        self._receive = receive
        self._chunks: list[bytes] = []
        self._size = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if self._mirrors:
            self._keep(message)
        return message

    def _keep(self, message: Message) -> None:
        mirrors = self._mirrors
        if message["type"] != "http.request":  # the client has gone: there is no whole request
            self._forget()
            return
        body = message.get("body") or b""
        self._size += len(body)
        if self._size > MAX_BODY:
            self._forget()
            for mirror in mirrors:
                mirror.dropped += 1
            return
        self._chunks.append(body)
        if not message.get("more_body", False):
            whole = b"".join(self._chunks)
            self._forget()
            for mirror in mirrors:
                mirror.send(self._scope, self._record, whole)

    def _forget(self) -> None:
        self._mirrors, self._chunks = (), []
