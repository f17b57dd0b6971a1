"""Probes: whether the process lives and whether it wants requests, for whoever restarts it and sends it traffic.

It tells that and nothing else, to everybody, with no policy before it: serve it on a port of its own, or mount it at a
path that no route needs.
"""

from typing import Final

from .request import Scope
from .respond import Message, Receive, Send

LIVE: Final = "/healthz"
READY: Final = "/readyz"


class Probes:
    """An ASGI app: `/healthz` is 200 for as long as the process answers at all, `/readyz` while `ready`, else 503.

    Whoever ends the process sets `ready` to False before it stops accepting connections.
    """

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "not found"})
        else:
            await _answer(scope, send, *self._said(scope))

    def _said(self, scope: Scope) -> tuple[int, bytes]:
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # where it is mounted
        if path not in (LIVE, READY):
            return 404, b"not found"
        if scope["method"] not in ("GET", "HEAD"):
            return 405, b"method not allowed"
        return (200, b"ok") if path == LIVE or self.ready else (503, b"not ready")


async def _answer(scope: Scope, send: Send, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _lifespan(receive: Receive, send: Send) -> None:
    message: Message = {}
    while message.get("type") != "lifespan.shutdown":
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
