"""Endpoint: one of several servers behind a backend, and whether it is worth asking.

Nobody probes: an endpoint's health is what came of the requests it was sent. An unhealthy one is asked last, not never:
when all are unhealthy, all are asked as before.
"""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx

from ..errors import ConfigurationError
from .connection import address
from .messages import PORTS, origin_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """When an endpoint is taken for unhealthy: after so many `failures` in a row, for `rest` seconds, and when it fails
    again after that for twice as long, up to `longest`.

    A failure is an error before the answer has begun, or a status of these. `Retry-After` of such an answer has the
    endpoint rest at once, for as long as it says, up to `longest`.
    """

    failures: int = 3
    rest: float = 3.0  # agentgateway's
    longest: float = 60.0
    statuses: Collection[int] = (502, 503, 504)

    def __post_init__(self) -> None:
        faults = {
            "health: failures is a number, 1 or more": not is_count(self.failures) or self.failures < 1,
            "health: rest and longest are seconds, and longest is not less": not (
                is_number(self.rest) and is_number(self.longest) and self.rest <= self.longest
            ),
            "health: statuses are errors, 400 to 599": not are_errors(self.statuses),
        }
        if any(faults.values()):
            raise ConfigurationError(fault for fault, present in faults.items() if present)


class Endpoint:
    """One of the servers behind a backend, at `url`. `weight`: its share of the requests; 0 is asked only when the
    others fail or rest."""

    def __init__(self, url: str, *, weight: float = 1) -> None:
        self.url = upstream_url(url)
        if not is_number(weight):
            raise ConfigurationError(f"{self.url.host}: a weight is a number, 0 or more")
        self.weight = weight
        self.origin = origin_of(self.url)
        self.address = address((self.url.host, self.origin[2]))
        self._failures = 0  # in a row
        self._rests = 0  # since it last answered well
        self._until = 0.0  # resting until then, by the loop's clock

    def failed(self, health: Health, retry_after: float | None = None) -> None:
        """It has not answered as it should. `retry_after`: when it wants to be asked again, in seconds."""
        self._failures += 1
        now = asyncio.get_running_loop().time()
        if self._until > now:
            return  # asked for want of a better one, or by those who began before: once told is enough
        if self._failures >= health.failures or retry_after is not None:
            rest = min(health.longest, health.rest * 2.0 ** min(self._rests, 32))
            self._until = now + max(rest, min(health.longest, retry_after or 0))
            self._rests += 1
            self._failures = health.failures  # the next failure counts as one more in the row

    def answered(self) -> None:
        """It has answered well."""
        self._failures = self._rests = 0
        self._until = 0.0

    def rests(self) -> bool:
        """Whether the others are asked first for now."""
        return self._until > asyncio.get_running_loop().time()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.url)!r}, weight={self.weight})"


_E = TypeVar("_E", bound=Endpoint)


def in_turn(endpoints: Sequence[_E]) -> Sequence[_E]:
    """In which order to ask them: those that rest last, the others by weighted chance."""
    if len(endpoints) < 2:
        return endpoints
    # Weighted sampling without replacement (Efraimidis and Spirakis): the largest random ** (1 / weight) first.
    keys = {one: random.random() ** (1 / one.weight) if one.weight else -1.0 for one in endpoints}
    return sorted(endpoints, key=lambda one: (one.rests(), -keys[one]))


def endpoints_at(url: str | Sequence[str | Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints that a backend is given: one URL, or several servers for the same path."""
    given: Sequence[str | Endpoint] = tuple(url) if isinstance(url, list | tuple) else (url,)  # type: ignore[assignment]
    faults: list[str] = []
    found: list[Endpoint] = []
    for one in given:
        try:
            found.append(one if isinstance(one, Endpoint) else Endpoint(one))
        except ConfigurationError as exc:
            faults += exc.faults
    if not given:
        faults.append("a backend has a URL, or a list of endpoints")
    if len({(one.url.scheme, one.address) for one in found}) < len(found):
        faults.append("an endpoint is listed twice: give it a weight")
    if len({one.url.raw_path.rstrip(b"/") for one in found}) > 1:
        faults.append("the endpoints of a backend have one path: each can stand in for another")
    if faults:
        raise ConfigurationError(faults)
    return tuple(found)


def upstream_url(url: str) -> httpx.URL:
    """The URL of an upstream; a `ConfigurationError` for what is none, or has a user, a query or a fragment."""
    try:
        base = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as exc:
        raise ConfigurationError(f"an upstream is a URL such as http://httpbin:8000: {exc}") from None
    if base.scheme not in PORTS or not base.host:
        raise ConfigurationError("an upstream is an http or https URL with a host, such as http://httpbin:8000")
    if base.userinfo or base.query or base.fragment:
        raise ConfigurationError("an upstream URL has no user, query or fragment")
    return base


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def are_errors(statuses: Any) -> bool:
    return isinstance(statuses, Collection) and all(is_count(one) and 400 <= one <= 599 for one in statuses)


DEFAULT_HEALTH: Final = Health()
