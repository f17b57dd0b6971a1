"""Probes: what they say, to whom, and that they say nothing else."""

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from agentgate import Probes
from agentgate.testing import drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

SAID = {
    "it lives": ("GET", "/healthz", True, 200, "ok"),
    "it is ready": ("GET", "/readyz", True, 200, "ok"),
    "it lives, though it is about to end": ("GET", "/healthz", False, 200, "ok"),
    "it is about to end": ("GET", "/readyz", False, 503, "not ready"),
    "without words": ("HEAD", "/readyz", False, 503, ""),
    "nothing about anything else": ("GET", "/", True, 404, "not found"),
    "nothing about what is below": ("GET", "/readyz/", True, 404, "not found"),
    "nothing to who wants something done": ("POST", "/readyz", True, 405, "method not allowed"),
}


@pytest.mark.parametrize(("method", "path", "ready", "status", "text"), SAID.values(), ids=SAID)
async def test_they_say(method: str, path: str, ready: bool, status: int, text: str) -> None:
    probes = Probes()
    probes.ready = ready
    exchange = await drive(probes, http_scope(method, path))
    assert (exchange.status, exchange.text, exchange.complete) == (status, text, True)
    assert exchange.headers["cache-control"] == "no-store"


async def test_they_can_be_mounted() -> None:
    app = Starlette(routes=[Mount("/-", Probes(ready=False))])
    assert (await drive(app, http_scope("GET", "/-/healthz"))).status == 200
    assert (await drive(app, http_scope("GET", "/-/readyz"))).status == 503
    assert (await drive(app, http_scope("GET", "/-/"))).status == 404


async def test_they_talk_http_alone() -> None:
    assert (await drive(Probes(), websocket_scope("/readyz"))).close_code == 1008
    exchange = await drive(Probes(), {"type": "lifespan"})
    assert [message["type"] for message in exchange.messages] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
