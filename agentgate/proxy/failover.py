"""Failover: one request, to one endpoint after the other, until one answers or it is time to give up.

What may be sent again, and when, is here alone. A request whose answer has begun is never sent again; nor one whose
body was asked for and is not wholly at hand.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import httpx

from ..record import Record
from .client import Client
from .endpoint import Endpoint, Health, in_turn
from .messages import UpstreamRequest, raw_headers
from .retry import LOST, UNSENT, Budget, Retry, retry_after

ATTEMPT: Final = "x-retry-attempt"  # agentgateway's: the how-manieth repetition this is; not on the first request


class Failover(httpx.AsyncBaseTransport):
    """Sends requests by `transport` to one of the endpoints: another is asked when one could not be sent the request.
    With a `retry`, requests are also sent again that may have arrived."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        transport: httpx.AsyncBaseTransport,
        *,
        retry: Retry | None,
        health: Health,
        preserve_host: bool = False,
    ) -> None:
        self._endpoints = endpoints
        self._transport = transport
        self._retry = retry
        self._budget = Budget(0 if retry is None else retry.budget)
        self._health = health
        self._failures = frozenset(health.statuses)
        self._preserve_host = preserve_host

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        record: Record = request.extensions["record"]
        candidates = self.candidates(request)
        number = retries = 0
        self._budget.earn()
        while True:
            endpoint = candidates[number % len(candidates)]
            record.endpoint = endpoint.address
            sent = await self.addressed(request, endpoint)
            if number:
                record.details["retry.attempt"] = number
                sent.headers[ATTEMPT] = str(number)
            outcome: httpx.Response | Exception
            after = None
            try:
                outcome = await self._transport.handle_async_request(sent)
            except LOST as exc:
                outcome = exc
                endpoint.failed(self._health)
            else:
                if self.failing(outcome, endpoint):
                    after = retry_after(outcome)
                    endpoint.failed(self._health, after)
                else:
                    endpoint.answered()
            number += 1
            if not _repeatable(request, outcome):
                wait = None
            elif number < len(candidates) and self.elsewhere(outcome, endpoint):
                wait = 0.0
            else:
                wait = self._again(request.method, outcome, retries, after)
                retries += 1
            if wait is None:
                if isinstance(outcome, Exception):
                    raise outcome
                return await self.answer(outcome, endpoint)
            if isinstance(outcome, httpx.Response):
                await outcome.aclose()
            if wait:
                await asyncio.sleep(wait)

    def candidates(self, request: httpx.Request) -> Sequence[Endpoint]:
        """Whom to ask, in this order; at least one."""
        return in_turn(self._endpoints)

    async def addressed(self, request: httpx.Request, endpoint: Endpoint) -> httpx.Request:
        """The request as this endpoint is to get it, which is new each time."""
        headers = raw_headers(request)
        record: Record = request.extensions["record"]
        if not self._preserve_host and record.rewritten[1] is None:
            headers = [(b"host", endpoint.url.netloc), *headers[1:]]  # the first is the Host; see `request_headers`
        target: bytes = request.extensions["target"]
        stream: Any = request.stream
        return UpstreamRequest(
            request.method, endpoint.url, endpoint.origin, target, [*headers], stream, {**request.extensions}
        )

    def failing(self, response: httpx.Response, endpoint: Endpoint) -> bool:
        """Whether an answer speaks against the endpoint's health."""
        return response.status_code in self._failures

    def elsewhere(self, outcome: httpx.Response | Exception, endpoint: Endpoint) -> bool:
        """Whether another endpoint is asked at once, which has not been asked for this request."""
        return isinstance(outcome, UNSENT)

    async def answer(self, response: httpx.Response, endpoint: Endpoint) -> httpx.Response:
        """The answer that stands."""
        return response

    def _again(
        self, method: str, outcome: httpx.Response | Exception, retries: int, after: float | None
    ) -> float | None:
        """Seconds until the request is sent again; None when it is not."""
        retry = self._retry
        if retry is None or retries >= retry.attempts or not retry.wants(method, outcome):
            return None
        if after is None and isinstance(outcome, httpx.Response):
            after = retry_after(outcome)
        wait = retry.delay(retries, after)
        return wait if wait is not None and self._budget.spend() else None


def _repeatable(request: httpx.Request, outcome: httpx.Response | Exception) -> bool:
    """Whether the body can be had once more: it is at hand, or nobody has asked for it yet."""
    stream = request.stream
    return type(stream) is httpx.ByteStream or (
        isinstance(outcome, UNSENT) and isinstance(stream, Client) and not stream.started
    )
