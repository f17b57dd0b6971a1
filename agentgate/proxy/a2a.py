"""A2ABackend: an A2A agent behind the gateway. Its cards are rewritten, so that clients never learn a way around it."""

from collections.abc import Sequence
from copy import copy
from typing import Self

import httpx

from ..auth.location import places
from ..auth.resource import public_url as checked_public_url
from ..errors import ConfigurationError
from ..policy import Authenticator
from ..protocols.a2a import A2A
from ..protocols.a2a.cards import Base, Cards, schemes_of
from ..protocols.protocol import Protocol
from .backend import HTTPBackend
from .endpoint import DEFAULT_HEALTH, Endpoint, Health
from .retry import Retry
from .timeouts import DEFAULT_TIMEOUTS, Timeouts


class A2ABackend(HTTPBackend):
    """Forwards to the A2A agent at `url`: what comes below the route's path goes below that URL.

    `interfaces`: the paths below `url` at which it speaks A2A, JSON-RPC at the path itself and REST below it.
    `advertised`: other URLs by which the agent's card calls the same place. `public_url`: where clients reach it, if
    that is not the gateway's `public_url` and the route's path. `push_notifications`: whether clients may have the
    agent call URLs of theirs. The rest is as for `HTTPBackend`; several servers have to share their tasks.
    """

    mounts = True

    def __init__(
        self,
        url: str | Sequence[str | Endpoint],
        *,
        interfaces: Sequence[str] = ("/",),
        advertised: Sequence[str] = (),
        public_url: str | None = None,
        push_notifications: bool = False,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retry: Retry | None = None,
        health: Health = DEFAULT_HEALTH,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, timeouts=timeouts, retry=retry, health=health, transport=transport)
        if isinstance(advertised, str):
            raise ConfigurationError("A2ABackend: advertised is a list of URLs")
        bases = [(named, Base.of(named)) for named in (*(str(one.url) for one in self.endpoints), *advertised)]
        faults = [f"A2ABackend: {named!r} is no plain URL of an agent" for named, base in bases if base is None]
        if faults:
            raise ConfigurationError(faults)
        self.protocol: Protocol | None = AgentA2A(
            [base for _, base in bases if base is not None],
            None if public_url is None else checked_public_url(public_url),
            interfaces=interfaces,
            push_notifications=push_notifications,
        )


class AgentA2A(A2A):
    """A2A as it is spoken with an agent behind a gateway, at one of the gateway's routes."""

    def __init__(
        self, bases: Sequence[Base], public_url: str | None, *, interfaces: Sequence[str], push_notifications: bool
    ) -> None:
        super().__init__(interfaces=interfaces, push_notifications=push_notifications)
        self._bases = bases
        self._public_url = public_url
        self.cards = Cards((), "", ())  # which lets no card through: nobody has said yet where clients are to go
        self._placed = False

    def at(self, public_url: str | None, authenticators: Sequence[Authenticator]) -> Self:
        if self._placed:
            return self  # by the gateway, which knows of all its routes; a route's Gate knows of one
        public_url = self._public_url or public_url
        if public_url is None:
            raise ConfigurationError(
                "the agent's cards have to name the gateway in its place, and so it has to be known where clients reach"
                " it: create_gateway(public_url=...), or A2ABackend(public_url=...) on a route for other hosts"
            )
        placed = copy(self)
        placed._placed = True
        placed.credentials = tuple({place for policy in authenticators for place in places(policy.location)})
        placed.cards = Cards(
            self._bases,
            public_url,
            self.interfaces,
            schemes=schemes_of(authenticators),
            push_notifications=self.push_notifications,
        )
        return placed
