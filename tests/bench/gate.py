"""What a Gate costs: microseconds of CPU that it adds to a request, in-process, beside what others add.

Run it: `python tests/bench/gate.py`. All rows come from one run, their rounds interleaved, so that a machine that
drifts does so for all of them; compare the ratios, not the figures of two runs.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any

from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, BaseUser, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from agentgate import AccessLog, APIKeyAuth, Gate, Observer, RateLimit, allow, authorizer, hash_key, new_key

KEY = new_key()
AGENT = {"user_agent.name": 'request.headers["user-agent"]'}
HEADERS = [
    (b"host", b"www.example.com"),
    (b"user-agent", b"curl/8.5.0"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"x-request-id", b"0123456789abcdef"),
    (b"authorization", b"Bearer " + KEY.encode()),
]
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}

ASGIApp = Callable[..., Awaitable[None]]


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers at once."""
    await send(START)
    await send(BODY)


class NoOp(BaseHTTPMiddleware):
    """The least that a `BaseHTTPMiddleware` can do."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


class KeyBackend(AuthenticationBackend):
    """An API key as one would write it for Starlette's own middleware: a digest, looked up."""

    def __init__(self) -> None:
        self.digests = {sha256(KEY.encode()).digest(): "alice"}

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser]:
        scheme, _, key = conn.headers.get("authorization", "").partition(" ")
        name = self.digests.get(sha256(key.encode()).digest())
        if scheme.lower() != "bearer" or name is None:
            raise AuthenticationError("invalid credentials")
        return AuthCredentials(["authenticated"]), SimpleUser(name)


class _Nothing(Observer):
    def end(self, token: Any, record: object) -> None:
        pass


@authorizer
def _yes(request: object) -> Any:
    return allow()


def contestants() -> dict[str, ASGIApp]:
    """What is measured; the first one is what the others are compared with."""
    keys = {"alice": hash_key(KEY)}

    def null(line: str) -> None:
        pass

    return {
        "bare app": bare,
        "Gate: API key + access log": Gate(bare, authenticate=[APIKeyAuth(keys)], observe=[AccessLog(null)]),
        "Gate: API key": Gate(bare, authenticate=[APIKeyAuth(keys)]),
        "Gate: API key + rate limit": Gate(
            bare, authenticate=[APIKeyAuth(keys)], authorize=[RateLimit(requests=10**9, per="hour")]
        ),
        "Gate: one function": Gate(bare, authorize=[_yes]),
        "Gate: access log": Gate(bare, observe=[AccessLog(null)]),
        "Gate: access log as JSON": Gate(bare, observe=[AccessLog(null, format="json")]),
        "Gate: access log, a field added": Gate(bare, observe=[AccessLog(null, add=AGENT)]),
        "Gate: access log, filtered away": Gate(bare, observe=[AccessLog(null, filter="response.code >= 400")]),
        "Gate: access log as JSON, replay": Gate(bare, observe=[AccessLog(null, format="json", replay=True)]),
        "Gate: an observer that does nothing": Gate(bare, observe=[_Nothing()]),
        "Starlette AuthenticationMiddleware": AuthenticationMiddleware(bare, backend=KeyBackend()),
        "BaseHTTPMiddleware, no-op": NoOp(bare),
    }


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: object) -> None:
    pass


def _scope() -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 53122),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/headers",
        "raw_path": b"/headers",
        "query_string": b"",
        "headers": list(HEADERS),
        "state": {},
    }


async def _round(app: ASGIApp, requests: int) -> float:
    started = time.process_time_ns()
    for _ in range(requests):
        await app(_scope(), _receive, _send)
    return (time.process_time_ns() - started) / requests / 1000


async def _measure(apps: Mapping[str, ASGIApp], rounds: int, requests: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(rounds):
        for name, app in apps.items():
            times[name].append(await _round(app, requests))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(rounds: int = 15, requests: int = 2000, apps: Mapping[str, ASGIApp] | None = None) -> Mapping[str, float]:
    """Microseconds of CPU per request that each contestant adds to the bare app: medians of interleaved rounds."""
    times = asyncio.run(_measure(apps or contestants(), rounds, requests))
    return {name: time - times["bare app"] for name, time in times.items()}


def main() -> None:
    added = measure()
    reference = added["BaseHTTPMiddleware, no-op"]
    print("| added to a bare app | µs per request | of a no-op BaseHTTPMiddleware |\n| --- | ---: | ---: |")
    for name, microseconds in added.items():
        if name != "bare app":
            print(f"| {name} | {microseconds:.1f} | {microseconds / reference:.2f} |")


if __name__ == "__main__":
    main()
