"""A small upstream to try the gateway with: it answers like httpbin, says what it was sent, and keeps nothing.

Everything it does on request is bounded: how long it waits, how much it sends, how much it reads.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from .bounded import body_of

MAX_DELAY: Final = 10.0  # seconds
MAX_LINES: Final = 100
MAX_BYTES: Final = 100 * 1024
MAX_BODY: Final = 1024 * 1024


def httpbin() -> Starlette:
    """The app."""
    anything = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(
        routes=[
            Route("/headers", _headers),
            Route("/get", _get),
            Route("/post", _anything, methods=["POST"]),
            Route("/anything", _anything, methods=anything),
            Route("/anything/{rest:path}", _anything, methods=anything),
            Route("/status/{code:int}", _status, methods=anything),
            Route("/delay/{seconds:float}", _delay, methods=anything),
            Route("/stream/{n:int}", _stream),
            Route("/bytes/{n:int}", _bytes),
        ]
    )


def _seen(request: Request) -> dict[str, Any]:
    """What httpbin says of every request."""
    args: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        args[name] = value if name not in args else [*_listed(args[name]), value]
    origin = request.client.host if request.client else ""
    return {"args": args, "headers": _title_cased(request), "origin": origin, "url": str(request.url)}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _title_cased(request: Request) -> dict[str, str]:
    names = sorted(set(request.headers.keys()))
    return {name.title(): ",".join(request.headers.getlist(name)) for name in names}


def _headers(request: Request) -> Response:
    return _Pretty({"headers": _title_cased(request)})


def _get(request: Request) -> Response:
    return _Pretty(_seen(request))


async def _anything(request: Request) -> Response:
    body = await body_of(request, MAX_BODY)
    if body is None:
        return PlainTextResponse("too large", 413)
    try:
        parsed = json.loads(body) if body else None
    except ValueError:
        parsed = None
    text = body.decode("utf-8", "replace")
    return _Pretty({**_seen(request), "data": text, "json": parsed, "method": request.method})


def _status(request: Request) -> Response:
    code = request.path_params["code"]
    return Response(status_code=code) if 200 <= code <= 599 else PlainTextResponse("invalid status code", 400)


async def _delay(request: Request) -> Response:
    await asyncio.sleep(min(request.path_params["seconds"], MAX_DELAY))
    return _Pretty(_seen(request))


def _stream(request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        for number in range(min(request.path_params["n"], MAX_LINES)):
            yield json.dumps({"id": number, **_seen(request)}) + "\n"

    return StreamingResponse(lines(), media_type="application/json")


def _bytes(request: Request) -> Response:
    return Response(os.urandom(min(request.path_params["n"], MAX_BYTES)), media_type="application/octet-stream")


class _Pretty(JSONResponse):
    def render(self, content: Any) -> bytes:
        return (json.dumps(content, indent=2) + "\n").encode()
