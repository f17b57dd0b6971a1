"""Retry: when a request that failed is sent again, how long that waits, and how much of it there may be in all.

No request is sent again of which an answer has begun, or whose body cannot be had a second time; and a server that is
down is not buried under the repetitions of what it did not answer: those are bounded by a share of the requests.
"""

import random
import time
from collections.abc import Collection
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from ..errors import ConfigurationError
from .endpoint import are_errors, is_count, is_number
from .upstream import IDEMPOTENT

BURST: Final = 10  # retries that may follow one another before the budget has to be earned by requests
MAX_ATTEMPTS: Final = 10

UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Errors after which the upstream has seen nothing of the request."""

LOST: Final = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)
"""Errors after which nothing of an answer has come, and what happened is not the request's own fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Sends a request again, up to `attempts` times, when it could not connect; when its method is one of `methods`,
    also when the connection broke or was silent for too long before an answer, and after an answer of `statuses`.

    It waits `backoff` seconds, then twice as long each time, up to `longest`, and up to half of that less by chance.
    An upstream's `Retry-After` is waited for; with one beyond `longest`, the answer stands. `budget`: retries per
    request, of all that the backend gets, beyond a burst of ten.
    """

    attempts: int = 2
    statuses: Collection[int] = (502, 503, 504)
    methods: Collection[str] = tuple(sorted(IDEMPOTENT))
    backoff: float = 0.025
    longest: float = 1.0
    budget: float = 0.2

    def __post_init__(self) -> None:
        faults = {
            f"retry: attempts is a number, 1 to {MAX_ATTEMPTS}": not (
                is_count(self.attempts) and 1 <= self.attempts <= MAX_ATTEMPTS
            ),
            "retry: statuses are errors, 400 to 599": not are_errors(self.statuses),
            "retry: methods is a list of names in capitals": isinstance(self.methods, str)
            or not all(isinstance(one, str) and one.isupper() for one in self.methods),
            "retry: backoff and longest are seconds, and longest is not less": not (
                is_number(self.backoff) and is_number(self.longest) and self.backoff <= self.longest
            ),
            "retry: budget is a share of the requests, 0 to 1": not (is_number(self.budget) and self.budget <= 1),
        }
        if any(faults.values()):
            raise ConfigurationError(fault for fault, present in faults.items() if present)

    def wants(self, method: str, outcome: httpx.Response | Exception) -> bool:
        """Whether what came of a request asks for another."""
        if isinstance(outcome, httpx.Response):
            return method in self.methods and outcome.status_code in self.statuses
        if isinstance(outcome, httpx.PoolTimeout):
            return False  # to ask again is what there is too much of
        return isinstance(outcome, UNSENT) or (method in self.methods and isinstance(outcome, LOST))

    def delay(self, retries: int, retry_after: float | None) -> float | None:
        """Seconds before the next, when there have been so many; None when that is too long."""
        if retry_after is not None and retry_after > self.longest:
            return None
        step = min(self.longest, self.backoff * 2.0**retries)
        return max(step * (1 - random.random() / 2), retry_after or 0.0)


class Budget:
    """How many retries a backend has left: each of its requests earns a share of one."""

    __slots__ = ("_left", "_share")

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = float(BURST)

    def earn(self) -> None:
        self._left = min(BURST, self._left + self._share)

    def spend(self) -> bool:
        """Whether there is one left; then there is one less."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that an answer asks to wait (RFC 9110 §10.2.3), never negative; None where it says nothing sensible."""
    values = response.headers.get_list("retry-after")
    if len(values) != 1:
        return None
    text = values[0].strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
