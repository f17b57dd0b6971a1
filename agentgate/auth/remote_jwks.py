"""RemoteJWKS: the keys that an issuer publishes, fetched when a token first needs them and kept up to date behind the
requests.

Nothing is fetched when the app is built, and never because of a token that is not the issuer's. One fetch at a time,
with a pause after each, whatever came of it; no redirects, no proxies from the environment, no plain HTTP but to this
machine. Keys that cannot be renewed are used for another hour, and then no longer.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable
from contextvars import Context
from hashlib import sha256
from ipaddress import ip_address
from typing import Final

import httpx

from .. import strict_json
from ..errors import ConfigurationError, describe
from .jwk import KeySet, pyjwt_algorithms, read_set
from .jwks import MAX_DOCUMENT_BYTES

FETCH_SECONDS: Final = 5.0  # for one document, from the first byte sent to the last one read
DEFAULT_MAX_AGE: Final = 300.0  # of keys whose response says nothing; what it says counts between the next two
LEAST_MAX_AGE: Final = 60.0
MOST_MAX_AGE: Final = 3600.0
EARLY: Final = 0.8  # of the age at which keys are renewed behind the requests, so that none has to wait
STALE_SECONDS: Final = 3600.0  # how much longer keys are used when they cannot be renewed
COOL_DOWN_SECONDS: Final = 30.0  # between two fetches; less while there are no keys at all: 2, 4, 8, ...
ABSENT_SECONDS: Final = 60.0  # a kid that a fetch did not bring is not asked for again for so long
MAX_ABSENT: Final = 256

_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])").search
_UNCACHEABLE: Final = re.compile(r"(?:^|[\s,])no-(?:store|cache)(?:$|[\s,=])").search
_HOST: Final = re.compile(rb"[A-Za-z0-9_.:-]+").fullmatch  # names, IPv4, and IPv6 without its brackets

_logger = logging.getLogger("agentgate.jwks")


class RemoteJWKS:
    """The JWK Set at `url`, which is https, or http on this machine.

    `max_age`: how many seconds keys are good; left out, the response says it (`Cache-Control`, between a minute and an
    hour), else five minutes. `transport` is httpx's, for a network that needs a CA or a proxy of its own, and for
    tests; `clock` counts seconds.
    A set with a private or a symmetric key is refused whole; keys that are unfit are left out with a warning.
    """

    refreshes = True

    def __init__(
        self,
        url: str,
        *,
        max_age: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url: Final = _checked(url)
        pyjwt_algorithms()  # loaded now, rather than while the first requests wait
        self.issuer: str | None = None
        self.keys: KeySet | None = None
        """The keys as last fetched; None before that, and when they have become too old."""
        if max_age is not None and not max_age >= LEAST_MAX_AGE:
            raise ConfigurationError("max_age is at least 60 seconds")
        self.max_age: Final = max_age
        self._transport = transport
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._document = b""  # digest of it: keys that did not change stay the same object
        self._failures = 0  # in a row
        self._look_again = -math.inf  # until then, nothing is due
        self._not_before = -math.inf  # the next fetch
        self._fresh_until = -math.inf
        self._expires = -math.inf
        self._absent: dict[str, float] = {}

    @classmethod
    def discover(
        cls,
        issuer: str,
        *,
        max_age: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> "RemoteJWKS":
        """The keys of an OpenID provider: its configuration, at `/.well-known/openid-configuration` below the issuer,
        says where they are. Both are fetched each time; a configuration of another issuer is refused."""
        below = str(issuer).removesuffix("/")
        remote = cls(f"{below}/.well-known/openid-configuration", max_age=max_age, transport=transport, clock=clock)
        if remote.url.query:
            raise ConfigurationError("an issuer that keys are discovered from has no query")
        remote.issuer = issuer
        return remote

    def settled(self, kid: str | None) -> bool:
        """Whether `refresh(kid)` has nothing to do."""
        return self.keys is not None and self._clock() < self._look_again and self.keys.knows(kid)

    async def refresh(self, kid: str | None) -> None:
        """Fetch what a token with this `kid` needs. Waits where there are no keys, where the kid is new, and once where
        keys are past their age; renews them behind the request otherwise. Raises nothing: look at `keys`."""
        now = self._clock()
        if self.keys is not None and now >= self._expires:
            _logger.error("%r: the keys are too old, and no longer used", self)
            self.keys = None
        new = self.keys is not None and not self.keys.knows(kid) and now >= self._absent.get(kid or "", -math.inf)
        old = now >= self._fresh_until and not self._failures
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            if now < self._not_before or not (self.keys is None or new or now >= self._look_again):
                return
            # In a context of its own: it is not this request's, and may outlive it.
            task = self._task = asyncio.create_task(self._fetch(), context=Context())
        if self.keys is None or new or old:
            await asyncio.shield(task)  # a request that goes away takes nobody's keys with it
        if new and kid is not None and self.keys is not None and not self.keys.knows(kid):
            if len(self._absent) >= MAX_ABSENT:
                del self._absent[next(iter(self._absent))]
            self._absent[kid] = self._clock() + ABSENT_SECONDS

    async def _fetch(self) -> None:
        try:
            document, said = await self._get_keys()
            self._take(document)
        except Exception as exc:
            self._failures += 1
            fault = "; ".join(exc.faults) if isinstance(exc, ConfigurationError) else describe(exc)
            _logger.warning("%r: keys not fetched: %s", self, fault)
            pause = COOL_DOWN_SECONDS if self.keys is not None else 2.0 ** min(self._failures, 5)
            self._not_before = self._clock() + min(pause, COOL_DOWN_SECONDS)
            self._look_again = min(self._not_before, self._expires)
        else:
            now = self._clock()
            max_age = said if self.max_age is None else self.max_age
            self._failures = 0
            self._not_before = now + COOL_DOWN_SECONDS
            self._look_again = now + max_age * EARLY
            self._fresh_until = now + max_age
            self._expires = self._fresh_until + STALE_SECONDS

    async def _get_keys(self) -> tuple[bytes, float]:
        transport = self._transport
        if transport is None:
            tls = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)  # reads hundreds of certificates
            transport = httpx.AsyncHTTPTransport(verify=tls, trust_env=False)
        client = httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=FETCH_SECONDS)
        try:
            url = self.url if self.issuer is None else await self._discover(client)
            return await _get(client, url)
        finally:
            if self._transport is None:
                await client.aclose()

    async def _discover(self, client: httpx.AsyncClient) -> httpx.URL:
        document, _ = await _get(client, self.url)
        configuration = strict_json.loads(document)
        if not isinstance(configuration, dict) or configuration.get("issuer") != self.issuer:
            raise ConfigurationError("the configuration is not that of the issuer")
        url = _checked(configuration.get("jwks_uri"))
        if url.scheme == "http" and not _is_here(self.url.host):
            raise ConfigurationError("jwks_uri leads to this machine")  # where only we can go
        return url

    def _take(self, document: bytes) -> None:
        digest = sha256(document).digest()
        if self.keys is not None and digest == self._document:
            return
        keys = read_set(strict_json.loads(document))
        for fault in keys.skipped:
            _logger.warning("%r: a key is left out: %s", self, fault)
        _logger.log(logging.INFO if keys.size else logging.ERROR, "%r: %d usable keys", self, keys.size)
        self._document = digest
        self.keys = keys  # all of them at once: a request goes on with those that it began with

    def __repr__(self) -> str:
        if self.issuer is not None:
            return f"RemoteJWKS.discover({self.issuer!r})"
        return f"RemoteJWKS({str(self.url.copy_with(query=None))!r})"


def _checked(url: object) -> httpx.URL:
    """The URL, if keys may be fetched from there; else a `ConfigurationError`."""
    try:
        parsed = httpx.URL(url) if isinstance(url, str) else None
    except httpx.InvalidURL:
        parsed = None
    if (
        parsed is None
        or parsed.scheme not in ("http", "https")
        or _HOST(parsed.raw_host) is None
        or (parsed.port is not None and not 0 < parsed.port < 65536)
    ):
        raise ConfigurationError("the keys are at a URL, such as https://issuer.example/jwks.json")
    if parsed.userinfo or parsed.fragment:
        raise ConfigurationError("the URL of keys has no user, password or fragment")
    if parsed.scheme == "http" and not _is_here(parsed.host):
        raise ConfigurationError("keys are fetched with https: over http, anybody on the way could give us others")
    return parsed


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def _get(client: httpx.AsyncClient, url: httpx.URL) -> tuple[bytes, float]:
    """A document, and for how long it is good."""
    asked = {"accept": "application/json", "accept-encoding": "identity"}  # nothing to unpack: no bombs
    async with asyncio.timeout(FETCH_SECONDS), client.stream("GET", url, headers=asked) as response:
        if response.status_code != 200:
            raise ConfigurationError(f"status {response.status_code}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ConfigurationError("an encoding that was not asked for")
        assert isinstance(response.stream, httpx.AsyncByteStream)
        document = bytearray()
        async for chunk in response.stream:
            document += chunk
            if len(document) > MAX_DOCUMENT_BYTES:
                raise ConfigurationError(f"more than {MAX_DOCUMENT_BYTES} bytes")
        return bytes(document), _max_age(response.headers.get("cache-control", "").lower())


def _max_age(cache_control: str) -> float:
    if _UNCACHEABLE(cache_control):
        return LEAST_MAX_AGE
    said = _MAX_AGE(cache_control)
    return DEFAULT_MAX_AGE if said is None else min(max(float(said[1]), LEAST_MAX_AGE), MOST_MAX_AGE)
