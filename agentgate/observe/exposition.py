"""Exposition: the ASGI app from which Prometheus reads metrics. It has no policy: whoever reaches it may read them."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError
from ..request import Scope
from ..respond import Receive, Send

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which several processes share their values: prometheus_client's."""

_READS: Final = ("GET", "HEAD")


class Exposition:
    """Answers GET and HEAD at any path with what is in `registry`, or, with `PROMETHEUS_MULTIPROC_DIR`, with the values
    of all processes that write there."""

    def __init__(self, registry: "CollectorRegistry") -> None:
        self._registry = _shared() if MULTIPROCESS in os.environ else registry
        # One thread, of its own: thousands of lines take their time, and many readers must not keep the threads busy
        # that look up host names.
        self._renderer = ThreadPoolExecutor(1, "agentgate-metrics")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["method"] in _READS:
            loop = asyncio.get_running_loop()
            media_type, body = await loop.run_in_executor(self._renderer, self._text, _accept(scope))
            await _answer(scope, send, 200, (b"content-type", media_type.encode("latin-1")), body)
        else:
            await _answer(scope, send, 405, (b"allow", ", ".join(_READS).encode()), b"")

    def _text(self, accept: str) -> tuple[str, bytes]:
        from prometheus_client.exposition import choose_encoder

        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):  # of a version that is none
            encode, media_type = choose_encoder("")
        return media_type, encode(self._registry)


def _shared() -> "CollectorRegistry":
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def check_multiprocess() -> None:
    """A `ConfigurationError` when values are to be shared and could not be."""
    from prometheus_client import values

    if MULTIPROCESS not in os.environ:
        return
    if not os.path.isdir(os.environ[MULTIPROCESS]):
        raise ConfigurationError(f"{MULTIPROCESS} is no directory")
    if not values.ValueClass._multiprocess:
        raise ConfigurationError(f"{MULTIPROCESS} has to be set before prometheus_client is imported")


def _accept(scope: Scope) -> str:
    return ",".join([value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"accept"])


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _answer(scope: Scope, send: Send, status: int, header: tuple[bytes, bytes], body: bytes) -> None:
    headers = [header, (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
