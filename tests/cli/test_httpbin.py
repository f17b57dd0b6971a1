"""The demo's upstream: what it says it was sent, and its bounds."""

from typing import Any

import httpx
import pytest

from agentgate.cli.httpbin import MAX_BODY, MAX_BYTES, MAX_LINES, httpbin

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ask(method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(httpbin())
    async with httpx.AsyncClient(transport=transport, base_url="http://upstream") as client:
        return await client.request(method, path, **options)


async def test_headers() -> None:
    answer = await ask("GET", "/headers", headers=[("x-a", "1"), ("x-a", "2")])
    assert answer.json()["headers"]["X-A"] == "1,2"
    assert answer.json()["headers"]["Host"] == "upstream"


async def test_get() -> None:
    answer = (await ask("GET", "/get?a=1&b=2&b=3&b=4")).json()
    assert answer["args"] == {"a": "1", "b": ["2", "3", "4"]}
    assert answer["url"] == "http://upstream/get?a=1&b=2&b=3&b=4"


@pytest.mark.parametrize(
    ("method", "path", "body", "data", "parsed"),
    [
        ("POST", "/post", b'{"a": 1}', '{"a": 1}', {"a": 1}),
        ("PUT", "/anything", b"text", "text", None),
        ("GET", "/anything/a/b", b"", "", None),
    ],
)
async def test_anything(method: str, path: str, body: bytes, data: str, parsed: Any) -> None:
    answer = (await ask(method, path, content=body)).json()
    assert (answer["method"], answer["data"], answer["json"]) == (method, data, parsed)


async def test_a_body_is_read_up_to_its_bound() -> None:
    assert (await ask("POST", "/post", content=b"x" * (MAX_BODY + 1))).status_code == 413


@pytest.mark.parametrize(("code", "expected"), [(204, 204), (418, 418), (599, 599), (101, 400), (1000, 400)])
async def test_status(code: int, expected: int) -> None:
    assert (await ask("GET", f"/status/{code}")).status_code == expected


async def test_delay_stream_and_bytes() -> None:
    assert (await ask("GET", "/delay/0")).status_code == 200
    assert len((await ask("GET", "/stream/3")).text.splitlines()) == 3
    assert len((await ask("GET", "/stream/100000")).text.splitlines()) == MAX_LINES
    assert len((await ask("GET", "/bytes/7")).content) == 7
    assert len((await ask("GET", "/bytes/99999999")).content) == MAX_BYTES
