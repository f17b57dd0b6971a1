"""The body of a request to one of the demo's upstreams, read up to a limit."""

from starlette.requests import Request


async def body_of(request: Request, limit: int) -> bytes | None:
    """The whole body; None where it has more bytes than the limit, which are then not read."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return body
