"""Weighted and Filtered: backends that are made of others."""

import random
from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import accumulate

from ..decision import Decision
from ..errors import ConfigurationError
from ..protocols.protocol import Protocol
from ..request import Request, Scope
from ..respond import ASGIApp, Receive, Send
from .cors import CORS
from .destination import Backend
from .filters import Filter, answered, filter_faults, served
from .mirror import Mirror
from .paths import Path, Prefix
from .time_limit import is_limit


class Weighted:
    """Shares requests between backends: `Weighted([(stable, 9), (canary, 1)])`; one of weight 0 gets none.

    For plain HTTP backends: an `LLMBackend` shares between its own providers, and what speaks MCP or A2A knows its
    callers, so that another one would not do.
    """

    protocol: Protocol | None = None
    mounts: bool = False

    def __init__(self, backends: Iterable[tuple[Backend, float]]) -> None:
        shares = [*backends]
        faults = [
            f"{backend!r} speaks {backend.protocol.name}" for backend, _ in shares if backend.protocol is not None
        ]
        faults += [
            f"a weight is a number, 0 or more, not {weight!r}"
            for _, weight in shares
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf")
        ]
        if not faults and not any(weight for _, weight in shares):
            faults.append("no backend has a weight, so that nobody would get a request")
        if faults:
            raise ConfigurationError(f"Weighted: {fault}" for fault in faults)
        self.shares = tuple(shares)
        self.parts = tuple(backend for backend, _ in shares)
        self.name = ",".join(backend.name for backend in self.parts)
        self.app: ASGIApp = self._share
        self._apps = [backend.app for backend, weight in shares if weight]
        self._bounds = [*accumulate(weight for _, weight in shares if weight)]

    async def _share(self, scope: Scope, receive: Receive, send: Send) -> None:
        chosen = bisect(self._bounds, random.random() * self._bounds[-1])
        await self._apps[min(chosen, len(self._apps) - 1)](scope, receive, send)

    async def aclose(self) -> None:
        """Close each of them."""
        for backend in self.parts:
            await backend.aclose()

    def __repr__(self) -> str:
        return f"Weighted({[*self.shares]!r})"


class Filtered:
    """A backend with filters of its own, behind those of the route: for one of several in a `Weighted`.

    `path` is the route's, for filters that replace its prefix; `CORS` is a route's own. `timeout` and `backend_timeout`
    are as for a `Route`.
    """

    def __init__(
        self,
        backend: Backend,
        filters: Sequence[Filter] = (),
        *,
        path: str | Path | None = None,
        timeout: float | None = None,
        backend_timeout: float | None = None,
    ) -> None:
        path = Prefix(path) if isinstance(path, str) else path
        faults = filter_faults(filters, backend.protocol, path)
        if any(isinstance(one, CORS) for one in filters):
            faults.append("CORS stands before the policies: it is a route's filter")
        if not (is_limit(timeout) and is_limit(backend_timeout)):
            faults.append("a time limit is a number of seconds, more than 0")
        if faults:
            raise ConfigurationError(f"Filtered: {fault}" for fault in faults)
        self.backend = backend
        self.filters = tuple(filters)
        self._path = path
        self.parts = (backend, *(one.backend for one in filters if isinstance(one, Mirror)))
        self.protocol, self.name, self.mounts = backend.protocol, backend.name, backend.mounts
        self.app = served(backend, filters, path, timeout, backend_timeout)

    def answer(self, request: Request) -> Decision | None:
        """What is answered without asking the backend's upstream."""
        return answered(self.filters, self._path, self.backend, request)

    async def aclose(self) -> None:
        """Close the backend, and those of its mirrors."""
        for one in self.filters:
            if isinstance(one, Mirror):
                await one.aclose()
        for backend in self.parts:
            await backend.aclose()

    def __repr__(self) -> str:
        return f"Filtered({self.backend!r}, {[*self.filters]!r})"
