"""TimeLimit: how long a request and its answer may take, streams included.

An answer that has begun is cut off, as one is whose upstream has gone; before that, it is 504.
"""

import asyncio
from typing import Final

from ..decision import Reason, deny
from ..protocols.protocol import Protocol
from ..record import record_of
from ..request import Scope
from ..respond import ASGIApp, Message, Receive, Send, respond

_REQUEST: Final = deny("request timeout", status=504, code="request_timeout", reason=Reason.TIMEOUT, policy="route")
_BACKEND: Final = deny(
    "upstream call timeout", status=504, code="upstream_timeout", reason=Reason.TIMEOUT, policy="route"
)


class TimeLimit:
    """An app with so many seconds: `request` counted from the moment the request came in, `backend` from when it is
    handed to the app. What it refuses is said by the `protocol`."""

    def __init__(
        self, app: ASGIApp, *, request: float | None, backend: float | None, protocol: Protocol | None = None
    ) -> None:
        self.behind = app
        self._request = request
        self._backend = backend
        self._protocol = protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        assert record is not None  # a gateway's entry Gate has seen to it
        left = None if self._request is None else self._request - record.elapsed
        seconds, decision = self._backend, _BACKEND
        if left is not None and (seconds is None or left <= seconds):
            seconds, decision = left, _REQUEST
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        clock = asyncio.timeout(seconds)
        try:
            async with clock:
                await self.behind(scope, receive, noting)
                return
        except TimeoutError:
            if not clock.expired():
                raise  # the app's own
        if begun:
            record.fail(decision.message, decision.reason)
            return
        if self._protocol is not None:
            decision = self._protocol.refuse(decision, record.view)
        record.refuse(decision)
        await respond(decision, scope, send)


def is_limit(seconds: object) -> bool:
    """Whether it is a number of seconds that an answer can take, or None for no limit."""
    if seconds is None:
        return True
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < float("inf")
