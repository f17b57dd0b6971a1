"""Weighted and NoBackend: who gets how many requests, and where nobody does."""

import random
from collections import Counter
from typing import Any

import httpx
import pytest

from agentgate import ConfigurationError, HTTPBackend, LLMBackend, MCPBackend, Reason, Route, Weighted, create_gateway
from agentgate.proxy.destination import NoBackend
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio


class Named(httpx.AsyncBaseTransport):
    def __init__(self, name: str) -> None:
        self.name = name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=self.name)


def to(name: str) -> HTTPBackend:
    return HTTPBackend(f"http://{name}", transport=Named(name))


@pytest.fixture(autouse=True)
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", random.Random(1).random)


@pytest.mark.parametrize("weights", [(70, 30, 0), (1, 0, 0), (0.5, 0.5, 1), (0, 0, 3)])
async def test_requests_are_shared_by_weight(weights: tuple[float, ...]) -> None:
    shares = [(to(name), weight) for name, weight in zip("abc", weights, strict=True)]
    app = create_gateway(Route("/", Weighted(shares)), observe=[Recorder()])
    answers = Counter([(await drive(app, http_scope())).text for _ in range(500)])
    for name, weight in zip("abc", weights, strict=True):
        assert abs(answers[name] / 500 - weight / sum(weights)) < 0.05
        assert weight or not answers[name]


async def test_the_last_one_is_chosen_at_the_very_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 1.0)
    app = create_gateway(Route("/", Weighted([(to("a"), 1), (to("b"), 1), (to("c"), 0)])), observe=[Recorder()])
    assert (await drive(app, http_scope())).text == "b"


def test_rules_know_it_by_the_names_of_all() -> None:
    assert Weighted([(to("a"), 1), (to("b"), 0)]).name == "a,b"


@pytest.mark.parametrize(
    ("shares", "fault"),
    [
        ([], "no backend has a weight"),
        ([(to("a"), 0)], "no backend has a weight"),
        ([(to("a"), -1)], "a weight is a number, 0 or more, not -1"),
        ([(to("a"), True)], "a weight is a number, 0 or more, not True"),
        ([(to("a"), "1")], "a weight is a number, 0 or more, not '1'"),
        ([(to("a"), float("inf"))], "a weight is a number, 0 or more, not inf"),
        ([(MCPBackend("http://up/mcp"), 1)], "MCPBackend('http://up/mcp') speaks mcp"),
        ([(to("a"), 1), (LLMBackend("http://up/v1"), 1)], "speaks llm"),
    ],
)
def test_faults(shares: Any, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Weighted(shares)
    assert any(fault in text and text.startswith("Weighted: ") for text in caught.value.faults)


async def test_no_backend_is_500() -> None:
    recorder = Recorder()
    app = create_gateway(Route("/", NoBackend("backend does not exist")), observe=[recorder])
    exchange = await drive(app, http_scope())
    assert (exchange.status, exchange.text) == (500, "backend does not exist")
    assert recorder.last.reason is Reason.NO_HEALTHY_BACKEND
    await app.aclose()
    assert (await drive(NoBackend().app, http_scope())).text == "no valid backends"


async def test_the_share_of_a_backend_that_does_not_exist_is_500() -> None:
    app = create_gateway(Route("/", Weighted([(to("a"), 1), (NoBackend(), 1)])), observe=[Recorder()])
    statuses = Counter([(await drive(app, http_scope())).status for _ in range(200)])
    assert 70 < statuses[500] < 130
    assert statuses[200] == 200 - statuses[500]
