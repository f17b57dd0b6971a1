"""Backend: where traffic goes. NoBackend: where it goes that nobody takes, which is nowhere."""

from typing import Protocol as Structure

from ..decision import Decision, Reason, deny
from ..protocols.protocol import Protocol
from ..record import record_of
from ..request import Request, Scope
from ..respond import ASGIApp, Receive, Send, respond


class Backend(Structure):
    """Where traffic goes: an ASGI app for requests that were let through, with something to close."""

    protocol: Protocol | None
    """What it speaks, so that rules can be about its calls; None for plain HTTP."""
    name: str
    """What rules call it: `backend.name`."""
    app: ASGIApp
    mounts: bool
    """Whether what comes below a route's path is for what is below the backend's URL, and not the whole path."""

    async def aclose(self) -> None:
        """Let go of its connections."""


class NoBackend:
    """Answers every request with 500, as agentgateway does where a route has no backend, or one that does not exist."""

    protocol: Protocol | None = None
    mounts: bool = False
    name: str = ""

    def __init__(self, message: str = "no valid backends") -> None:
        self.refusal = deny(message, status=500, code="no_backend", reason=Reason.NO_HEALTHY_BACKEND, policy="route")
        self.app: ASGIApp = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        if record is not None:
            record.refuse(self.refusal)
        await respond(self.refusal, scope, send)

    def answer(self, request: Request) -> Decision:
        """What every request gets."""
        return self.refusal

    async def aclose(self) -> None:
        """There is nothing to close."""

    def __repr__(self) -> str:
        return f"NoBackend({self.refusal.message!r})"
