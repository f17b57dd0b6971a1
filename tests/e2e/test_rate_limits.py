"""Two gateways in processes of their own, one real Redis: they spend one budget, exactly."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from .servers import running

pytest.importorskip("redis", reason="redis is not installed: it comes with the extra redis")
pytestmark = pytest.mark.anyio

RedisServer = Any  # of tests/conftest.py

APP = """\
from agentgate import APIKeyAuth, Gate, RateLimit, RedisStore

store = RedisStore({url!r}, timeout=10)  # for two cores that are busy

async def hello(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await store.aclose()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}})
    await send({{"type": "http.response.body", "body": b"ok"}})

app = Gate(
    hello,
    authenticate=[APIKeyAuth({{"alice": "{alice}", "bob": "{bob}"}})],
    authorize=[RateLimit(requests={limit}, per="hour", name="api", store=store)],
)
"""
LIMIT, ASKED = 53, 140
ALICE, BOB = "a-key-of-alice-0123456789abcdef-0123456789", "a-key-of-bob-0123456789abcdef-0123456789abc"


async def test_two_processes_spend_one_budget(redis_server: RedisServer, tmp_path: Path) -> None:
    source = APP.format(url=redis_server.url, alice=ALICE, bob=BOB, limit=LIMIT)
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    with running("uvicorn-httptools", source, folders[0]) as one, running("hypercorn", source, folders[1]) as other:
        async with httpx.AsyncClient(timeout=30) as client:

            async def ask(n: int, key: str) -> httpx.Response:
                port = (one, other)[n % 2].port
                return await client.get(f"http://127.0.0.1:{port}/", headers={"authorization": f"Bearer {key}"})

            answers = await asyncio.gather(*(ask(n, ALICE) for n in range(ASKED)))
            statuses = [answer.status_code for answer in answers]
            assert (statuses.count(200), statuses.count(429)) == (LIMIT, ASKED - LIMIT)
            for parity in (0, 1):  # and both of them have served
                assert 200 in statuses[parity::2]
            refused = next(answer for answer in answers if answer.status_code == 429)
            assert (refused.text, refused.headers["x-ratelimit-remaining"]) == ("rate limit exceeded", "0")
            assert 3500 < int(refused.headers["retry-after"]) <= 3601
            assert (await ask(0, BOB)).headers["x-ratelimit-remaining"] == str(LIMIT - 1)
            assert (await ask(1, BOB)).headers["x-ratelimit-remaining"] == str(LIMIT - 2)
    assert "Traceback" not in one.output + other.output
