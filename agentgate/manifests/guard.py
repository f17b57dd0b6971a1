"""Several authentications of one route: each has to be passed, in its own mode, as in agentgateway.

One Gate asks its authenticators until one recognises the credential; so to want two, Gates are nested. The outer one is
the route's own, the inner one stands before the backend.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ..decision import Decision
from ..gate import Gate
from ..policy import Authorizer
from ..protocols.protocol import Protocol
from ..proxy.destination import Backend
from ..request import Request
from ..respond import ASGIApp
from .policies import Authentication


class _Guarded:
    """A backend behind a Gate of its own."""

    def __init__(self, backend: Backend, gate: Gate) -> None:
        self.name, self.mounts = backend.name, backend.mounts
        self.protocol: Protocol | None = None  # read by the inner Gate, whose rules are about it
        self.app: ASGIApp = gate
        self._backend = backend

    def answer(self, request: Request) -> Decision | None:
        answer: Callable[[Request], Decision | None] | None = getattr(self._backend, "answer", None)
        return None if answer is None else answer(request)

    async def aclose(self) -> None:
        await self._backend.aclose()

    def __repr__(self) -> str:
        return repr(self._backend)


def guarded(
    backend: Backend, wanted: Sequence[Authentication], authorize: Sequence[Authorizer] = (), url: str | None = None
) -> dict[str, Any]:
    """What a Route is made with: its backend, and the policies that stand before it. The authorizers are innermost, and
    know everybody who was recognised further out. `url`: the route's own."""
    if not wanted:
        return {"backend": backend, "authenticate": [], "authorize": authorize}
    *outer, inner = wanted
    if outer:
        protocol = backend.protocol
        if protocol is not None:  # as the gateway would, which knows nothing of the inner Gate
            mounted = None if url is None else url.partition("/.well-known/")[0]
            protocol = protocol.at(mounted, [policy for one in wanted for policy in one.authenticators])
        gate = Gate(
            backend.app,
            authenticate=inner.authenticators,
            authorize=authorize,
            mode=inner.mode,
            protocol=protocol,
        )
        return guarded(_Guarded(backend, gate), outer, (), url)
    return {
        "backend": backend,
        "authenticate": inner.authenticators,
        "mode": inner.mode,
        "authorize": authorize,
    }
