"""RateLimit: an authorizer that allows what a budget has room for.

It counts in `prepare`, which is called once for every request or call that nobody has refused before; `check` only
tells what came of it. So what merely asks ahead, for one item of a list or to explain, spends nothing.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil, floor
from typing import Any, Final, Literal, get_args

from ..answer_headers import LIMIT, REMAINING, RESET
from ..decision import Decision, Reason, allow, deny, policy_error
from ..errors import ConfigurationError
from ..names import Names
from ..policy import Authorizer
from ..record import Record
from ..request import Request
from .key import Key, NoKey, NotCounted
from .memory import Bucket, MemoryStore
from .redis import Counting, RedisStore, StoreFailed
from .tokens import taken
from .window import Window

Unit = Literal["second", "minute", "hour", "day"]
OnStoreError = Literal["deny", "allow"]

SECONDS: Final[Mapping[Any, int]] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
MOST: Final = 10**12  # requests or tokens
LONGEST: Final = 366 * 86400  # seconds


class RateLimit(Authorizer):
    """So many `requests`, or `tokens` of LLMs, `per` second, minute, hour, day or number of seconds, for each `key`.

    `key`: `principal` (who is asking; an anonymous caller by peer), `peer` (the source's address; of IPv6 its network
    of 64 bits), `tool`, `model`, `route`, an expression over what rules may read that gives text, or a list of those.
    An empty list is one budget for all. What calls no tool is not counted by the tool, nor what speaks to no LLM by the
    model. A key that fails is a denial.

    `tokens` are charged when the answer has told its usage; a call is refused when the budget is spent by then.

    `store`: where replicas count together; then `name` tells this limit from others there, and `on_store_error="allow"`
    lets requests pass uncounted while it cannot be asked, which the trail tells. Otherwise that is a 500. Without a
    store this object counts for itself.
    """

    def __init__(
        self,
        *,
        requests: int | None = None,
        tokens: int | None = None,
        per: Unit | int,
        key: str | Sequence[str] = "principal",
        name: str | None = None,
        store: RedisStore | None = None,
        on_store_error: OnStoreError = "deny",
    ) -> None:
        faults = []
        if (requests is None) == (tokens is None):
            faults.append("a limit is of requests or of tokens: give one of them")
        for what, amount in (("requests", requests), ("tokens", tokens)):
            if amount is not None and not _is_whole(amount, MOST):
                faults.append(f"{what} is a whole number between 1 and {MOST}")
        seconds = SECONDS.get(per, 0) if isinstance(per, str) else per
        if not _is_whole(seconds, LONGEST):
            faults.append(f"per is one of {', '.join(SECONDS)}, or a whole number of seconds")
        if name is not None and (not isinstance(name, str) or not name or not name.isprintable() or len(name) > 128):
            faults.append("name is some printable text")
        if store is not None and not isinstance(store, RedisStore):
            faults.append("store is a RedisStore")
        elif store is not None and name is None:
            faults.append("name is needed with a store: limits of one name there are one limit")
        if on_store_error not in get_args(OnStoreError):
            faults.append(f"on_store_error is one of {', '.join(get_args(OnStoreError))}")
        self._key = Key(key)
        faults += self._key.faults
        if faults:
            raise ConfigurationError(faults)
        self.limit: Final = requests or tokens or 0
        self.seconds: Final = seconds
        self.reads_body = self._key.reads_body
        self.of_tokens: Final = tokens is not None
        what = "requests" if tokens is None else "tokens"
        self.local: Final = store is None
        """Whether it is counted in this process alone."""
        self.rule: Final = name or f"{self.limit} {what} per {per if isinstance(per, str) else f'{per} seconds'}"
        self._counting: MemoryStore | Counting = (
            MemoryStore(seconds) if store is None else store.counting(self.rule, seconds)
        )
        self._store = store
        self._lenient = on_store_error == "allow"
        self._limit_header = LIMIT, b"%d" % self.limit
        self._name = self.name
        self._passed = allow(rule=self.rule, policy=self.name)

    def names(self) -> Names:
        return Names(policies=frozenset({self.name}), rules=frozenset({self.rule}))

    async def prepare(self, request: Request) -> None:
        """Count the request, or this call in it: once, however often it is asked about."""
        if request.prepared is None:  # by itself, as in a test
            request.prepared = {}
        found = request.prepared.get(self)
        if found is None or found[0] is not request.call:
            request.prepared[self] = request.call, await self._count(request)

    async def aclose(self) -> None:
        """Have the store charge what it has not yet, and close its connections."""
        if self._store is not None:
            await self._store.aclose()

    def check(self, request: Request) -> Decision:
        """What came of counting. Of a request that nobody serves, whether it could be counted."""
        if request.prepared is None:
            try:
                self._bucket(request)
            except NotCounted:
                return self._passed
            except NoKey as fault:
                return self._no_key(fault)
            return self._passed
        found = request.prepared.get(self)
        if found is None:
            return policy_error(self.name, "check was called without prepare")
        call, decision = found
        if call is request.call:
            counted: Decision = decision
            return counted
        return self._passed  # asked what else could be allowed in an answer: the request itself has been counted

    def _bucket(self, request: Request) -> Bucket:
        if self.of_tokens:
            call = request.call
            if call is None:
                raise NoKey("no protocol is read here that would tell of tokens")
            if call.protocol != "llm" or call.provisional:
                raise NotCounted
        return self._key.of(request)

    async def _count(self, request: Request) -> Decision:
        try:
            bucket = self._bucket(request)
            if self.of_tokens:
                window = await self._counting.look(bucket)
                granted = window.used < self.limit
                if granted:
                    self._remember(request, bucket)
            else:
                granted, window = await self._counting.take(bucket, self.limit)
        except NotCounted:
            return self._passed
        except NoKey as fault:
            return self._no_key(fault)
        except StoreFailed as fault:
            return self._unreachable(str(fault))
        return self._within(window) if granted else self._exceeded(window)

    def _remember(self, request: Request, bucket: Bucket) -> None:
        """That it is this bucket which pays: once, however many calls of the request are its."""
        assert request.prepared is not None  # as `prepare` has seen to
        if request.afterwards is not None and (self, bucket) not in request.prepared:
            request.prepared[self, bucket] = True
            request.afterwards.append(partial(self._settle, bucket, len(request.body or b"")))

    def _settle(self, bucket: Bucket, question: int, record: Record) -> None:
        amount = taken(record, question)
        if amount:
            self._counting.charge(bucket, amount)

    def _within(self, window: Window) -> Decision:
        left = b"%d" % max(0, self.limit - window.used)
        headers = (self._limit_header, (REMAINING, left), (RESET, b"%d" % ceil(window.left)))
        return Decision("allow", rule=self.rule, policy=self._name, headers=headers)

    def _exceeded(self, window: Window) -> Decision:
        wait = b"%d" % (floor(window.wait(self.limit)) + 1)  # after which there surely is one
        return deny(
            "rate limit exceeded",
            status=429,
            code="rate_limit_exceeded",
            reason=Reason.RATE_LIMIT,
            rule=self.rule,
            policy=self.name,
            headers=(self._limit_header, (REMAINING, b"0"), (RESET, wait), (b"retry-after", wait)),
        )

    def _no_key(self, fault: NoKey) -> Decision:
        return deny(detail=str(fault), reason=Reason.RATE_LIMIT, rule=self.rule, policy=self.name)

    def _unreachable(self, detail: str) -> Decision:
        if self._lenient:
            return allow(rule=self.rule, policy=self.name, detail=f"not counted: {detail}")
        return deny(
            "rate limit failed",
            status=500,
            code="rate_limit_failed",
            reason=Reason.RATE_LIMIT,
            detail=detail,
            rule=self.rule,
            policy=self.name,
        )

    def __repr__(self) -> str:
        return f"RateLimit({self.rule!r})"


def _is_whole(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most
