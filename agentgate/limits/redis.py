"""RedisStore: budgets counted in Redis or Valkey, so that all replicas of a gateway spend the same ones.

Counting is done there, in the scripts of the package `limits`, by the server's clock and all at once. Names of buckets
are digests: nobody's id is in the store, and nobody's id can be made to mean another's bucket. Every key expires.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..errors import ConfigurationError, describe, needs_extra
from ..secret import Secret
from .memory import Bucket
from .window import Window

if TYPE_CHECKING:
    from limits.aio.storage import RedisStorage

SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}
MAX_CONNECTIONS: Final = 32  # requests beyond wait for one to be free, no longer than the timeout
MAX_OWED: Final = 4096  # buckets with tokens that could not be charged yet; what else is spent is lost, and logged
_WITHOUT_LIMIT: Final = 2**53  # as far as Lua counts

_logger = logging.getLogger("agentgate.limits")
_T = TypeVar("_T")


class StoreFailed(Exception):
    """The store could not be asked, or answered nonsense. Its text is for the log, and names no host."""


class RedisStore:
    """Redis or Valkey at `url`: `redis://`, `rediss://`, `unix://`, `valkey://` or `valkeys://`, as a Secret where a
    password is in it.

    `namespace` begins every key. `timeout`: how many seconds a request waits for the store, connecting included. One
    store may serve many limits, told apart by their names. In the extra `redis`; nothing is connected before the first
    request, and a connection that broke is made anew.
    """

    def __init__(self, url: str | Secret, *, namespace: str = "agentgate", timeout: float = 0.5) -> None:
        try:
            import limits.aio  # noqa: F401
            import redis.asyncio  # noqa: F401
        except ImportError:
            raise ConfigurationError(needs_extra("RedisStore", "redis")) from None
        faults: list[str] = []
        self._url = Secret(_checked(url.reveal() if isinstance(url, Secret) else url, faults))
        if not isinstance(namespace, str) or not namespace.isascii() or not namespace.isprintable() or not namespace:
            faults.append("namespace is some printable ASCII text")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 60:
            faults.append("timeout is a number of seconds, at most 60")
        if faults:
            raise ConfigurationError(faults)
        self._namespace = namespace
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._storage: RedisStorage | None = None
        self._pool: Any = None
        self._turns: asyncio.Semaphore
        self._down = False
        self._owed: dict[tuple[str, int], int] = {}
        self._paying: asyncio.Task[None] | None = None

    def counting(self, name: str, seconds: int) -> "Counting":
        """Where the limit of this name is counted."""
        return Counting(self, name, seconds)

    async def ask(self, question: Callable[["RedisStorage"], Awaitable[_T]]) -> _T:
        """The store's answer, in time; StoreFailed otherwise."""
        try:
            async with asyncio.timeout(self._timeout):
                storage = self._connected()
                async with self._turns:
                    answer = await question(storage)
        except Exception as exc:
            if not self._down:
                self._down = True
                _logger.error("%r failed: %s", self, describe(exc))
            raise StoreFailed(f"the store failed: {type(exc).__name__}") from None
        if self._down:
            self._down = False
            _logger.info("%r answers again", self)
        return answer

    def owe(self, key: str, seconds: int, amount: int) -> None:
        """Charge a bucket soon, and nobody waits for it. What cannot be charged now is charged before the bucket is
        looked at again, or with the next."""
        self._note(key, seconds, amount)
        task = self._paying
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            self._paying = asyncio.create_task(self._pay(), context=Context())

    async def look(self, key: str, seconds: int) -> Window:
        """What a bucket holds, when it has been charged with what it owes."""
        amount = self._owed.pop((key, seconds), 0)
        return await self._spending(key, seconds, amount, lambda storage: _window(storage, key, seconds))

    async def aclose(self) -> None:
        """Charge what is owed, and close the connections. The store can be used again afterwards."""
        if self._paying is not None and self._loop is asyncio.get_running_loop():
            await asyncio.gather(self._paying, return_exceptions=True)
        await self._pay()
        pool, self._pool, self._storage, self._loop = self._pool, None, None, None
        if pool is not None:
            await pool.disconnect()

    async def _pay(self) -> None:
        while self._owed:
            (key, seconds), amount = self._owed.popitem()
            try:
                await self._spending(key, seconds, amount, _nothing)
            except StoreFailed:
                return

    async def _spending(
        self, key: str, seconds: int, amount: int, then: Callable[["RedisStorage"], Awaitable[_T]]
    ) -> _T:
        async def question(storage: "RedisStorage") -> _T:
            if amount:
                await storage.acquire_sliding_window_entry(key, _WITHOUT_LIMIT, seconds, amount)
            return await then(storage)

        try:
            return await self.ask(question)
        except BaseException:  # whoever was to wait for it may have gone away
            if amount:
                self._note(key, seconds, amount)
            raise

    def _note(self, key: str, seconds: int, amount: int) -> None:
        if (key, seconds) not in self._owed and len(self._owed) >= MAX_OWED:
            _logger.error("%r: %d tokens are not charged: it has been away for too long", self, amount)
            return
        self._owed[key, seconds] = self._owed.get((key, seconds), 0) + amount

    def _connected(self) -> "RedisStorage":
        """A client of this event loop: connections cannot be shared between two."""
        loop = asyncio.get_running_loop()
        if self._storage is None or self._loop is not loop:
            from limits.aio.storage import RedisStorage
            from redis.asyncio import ConnectionPool
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            self._loop = loop
            self._turns = asyncio.Semaphore(MAX_CONNECTIONS)
            self._pool = ConnectionPool.from_url(
                self._url.reveal(),
                max_connections=MAX_CONNECTIONS,
                # The client's own time limits, because it does not heed every cancellation.
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                # A connection that the server has closed meanwhile is found out by using it. What is counted twice by
                # that is nobody's gain.
                retry=Retry(NoBackoff(), 1),
            )
            self._storage = RedisStorage(
                "async+redis://", implementation="redispy", key_prefix=self._namespace, connection_pool=self._pool
            )
        return self._storage

    def __repr__(self) -> str:
        return f"RedisStore({self._namespace!r})"  # a URL may hold a password


class Counting:
    """What is spent of one limit, in a RedisStore."""

    def __init__(self, store: RedisStore, name: str, seconds: int) -> None:
        self._store = store
        self._name = name
        self._seconds = seconds

    async def take(self, bucket: Bucket, limit: int) -> tuple[bool, Window]:
        """Spend one, if one is left; and what the bucket holds then."""
        key, seconds = self._key(bucket), self._seconds

        async def both(storage: "RedisStorage") -> tuple[bool, Window]:
            granted = await storage.acquire_sliding_window_entry(key, limit, seconds, 1)
            return granted is True, await _window(storage, key, seconds)

        return await self._store.ask(both)

    async def look(self, bucket: Bucket) -> Window:
        """What the bucket holds."""
        return await self._store.look(self._key(bucket), self._seconds)

    def charge(self, bucket: Bucket, amount: int) -> None:
        """Spend so much, whether it is left or not."""
        self._store.owe(self._key(bucket), self._seconds, amount)

    def _key(self, bucket: Bucket) -> str:
        return sha256(json.dumps([self._name, self._seconds, bucket]).encode()).hexdigest()


async def _nothing(storage: "RedisStorage") -> None:
    """Nothing else is asked."""


async def _window(storage: "RedisStorage", key: str, seconds: int) -> Window:
    previous, _, current, current_for = await storage.get_sliding_window(key, seconds)
    left = current_for - seconds if current_for > 0 else seconds
    return Window(int(previous), int(current), min(max(left, 0.0), seconds), seconds)


def _checked(url: Any, faults: list[str]) -> str:
    """The URL as redis-py reads it. The fault quotes nothing of it."""
    from redis.asyncio.connection import parse_url

    scheme, colon, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    known = f"{SCHEMES.get(scheme, '')}{colon}{rest}"
    try:
        found = parse_url(known)
        if found.get("path") or found.get("host"):
            return known
    except ValueError:
        pass
    faults.append(f"the store is at a URL, such as redis://cache:6379, with one of {', '.join(SCHEMES)}")
    return known or "://"
