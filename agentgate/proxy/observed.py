"""Observed: a transport whose every request is written down in the Record as an Attempt, and told to observers."""

from importlib.util import find_spec

import httpx

from ..errors import ConfigurationError, needs_extra
from ..record import Record


class Observed(httpx.AsyncBaseTransport):
    """Hands requests that carry their Record (`extensions["record"]`) to `transport`.

    An attempt that fails is over at once; one that is answered when the answer has been read, which `Forward` says, or
    when the next begins.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        # httpx finds out with the first request. It has no public word for what was asked of its transport.
        if getattr(getattr(transport, "_pool", None), "_http2", False) and find_spec("h2") is None:
            raise ConfigurationError(needs_extra("HTTP/2", "http2"))
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        record: Record = request.extensions["record"]
        attempt = record.forwarding(request)
        attempt.endpoint = record.endpoint
        try:
            response = await self._transport.handle_async_request(request)
        except BaseException as exc:
            attempt.error = type(exc).__name__
            record.forwarded()
            raise
        attempt.status = response.status_code
        record.endpoint = attempt.endpoint = response.extensions.get("peer", record.endpoint)
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()
