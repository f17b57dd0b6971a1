"""One middleware per kind: stacked in any order, they are one Gate."""

import itertools
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agentgate import (
    AccessLogMiddleware,
    APIKeyMiddleware,
    ConfigurationError,
    Cookie,
    Edge,
    StaticKeys,
    new_key,
    record_of,
)
from agentgate.testing import drive, http_scope

pytestmark = pytest.mark.anyio

KEY = new_key()


async def hello(request: StarletteRequest) -> PlainTextResponse:
    record = record_of(request.scope)
    return PlainTextResponse(f"hello {record and record.principal and record.principal.id}")


def app_with(*middleware: Any) -> Starlette:
    return Starlette(routes=[Route("/hello", hello)], middleware=list(middleware))


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gw.example")


@pytest.mark.parametrize("order", list(itertools.permutations(["log", "second log", "key"])))
async def test_a_stack_is_one_gate(order: tuple[str, ...]) -> None:
    """In whatever order they stand, a good key passes, a missing one is refused, and each outer log has one line."""
    lines: dict[str, list[str]] = {"log": [], "second log": []}
    stack = [
        Middleware(APIKeyMiddleware, {"alice": KEY})
        if name == "key"
        else Middleware(AccessLogMiddleware, lines[name].append)
        for name in order
    ]
    async with client(app_with(*stack)) as http:
        refused = await http.get("/hello")
        passed = await http.get("/hello", headers={"authorization": f"Bearer {KEY}"})
    assert (refused.status_code, refused.text) == (401, "api key authentication failure: no API Key found")
    assert (passed.status_code, passed.text) == (200, "hello alice")
    outside = order[: order.index("key")]
    for name, written in lines.items():
        expected = ["http.status=401", "http.status=200"] if name in outside else ["http.status=200"]
        assert [next(part for part in line.split() if part.startswith("http.status=")) for line in written] == expected
        assert KEY not in "".join(written)


@pytest.mark.parametrize("keys", [{"alice": KEY}, [KEY], StaticKeys([KEY])])
async def test_keys_in_any_form(keys: Any) -> None:
    """Keys are whatever APIKeyAuth takes."""
    gate = APIKeyMiddleware(app_with(), keys)
    assert (await drive(gate, http_scope(headers={"authorization": f"Bearer {KEY}"}))).status == 404
    assert (await drive(gate, http_scope())).status == 401


async def test_options_of_the_key_middleware() -> None:
    """Location, mode and edge are the Gate's."""
    gate = APIKeyMiddleware(
        app_with(), [KEY], location=Cookie("sid"), mode="optional", edge=Edge(allow_underscores=True)
    )
    assert (await drive(gate, http_scope(headers={"x_y": "1"}))).status == 404
    assert (await drive(gate, http_scope(headers={"cookie": "sid=bad"}))).status == 401
    assert (await drive(gate, http_scope(headers={"cookie": f"sid={KEY}"}))).status == 404
    assert (gate.mode, gate.edge) == ("optional", Edge(allow_underscores=True))


async def test_options_of_the_log_middleware() -> None:
    """Sink, format and edge are the log's and the Gate's."""
    lines: list[str] = []
    gate = AccessLogMiddleware(app_with(), lines.append, format="json", edge=Edge(allow_empty_segments=True))
    assert (await drive(gate, http_scope("GET", "//"))).status == 404
    assert [line[0] for line in lines] == ["{"]


async def test_credentials_in_the_query_are_hidden_from_an_outer_log() -> None:
    """A log outside of a Gate that reads a query credential does not show it, whatever its name."""
    from agentgate import Query

    lines: list[str] = []
    inner = APIKeyMiddleware(app_with(), [KEY], location=Query("Ticket"))
    for query in (f"Ticket={KEY}", f"ticket={KEY}", f"%54icket={KEY}", f"a=1&Ticket={KEY}&b=2"):
        await drive(AccessLogMiddleware(inner, lines.append), http_scope("GET", f"/hello?{query}"))
    assert len(lines) == 4
    assert not any(KEY in line for line in lines)


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda: APIKeyMiddleware(hello, []), ConfigurationError),  # type: ignore[arg-type]
        (lambda: APIKeyMiddleware(hello, ["weak"]), ConfigurationError),  # type: ignore[arg-type]
        (lambda: APIKeyMiddleware(hello, KEY), TypeError),  # type: ignore[arg-type]
        (lambda: APIKeyMiddleware(hello, [KEY], mode="off"), ConfigurationError),  # type: ignore[arg-type]
        (lambda: AccessLogMiddleware(hello, format="xml"), ConfigurationError),  # type: ignore[arg-type]
        (lambda: AccessLogMiddleware(hello, "access.log"), TypeError),  # type: ignore[arg-type]
    ],
)
def test_faults_stop_the_start(build: Callable[[], object], error: type[Exception]) -> None:
    """A middleware with a fault cannot be built, and its error quotes no key."""
    with pytest.raises(error) as caught:
        build()
    assert KEY not in str(caught.value)
