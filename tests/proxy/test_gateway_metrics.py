"""`create_gateway(metrics=...)`: where the metrics are, and what cannot be there as well."""

from typing import Any

import httpx
import pytest

from agentgate import (
    APIKeyAuth,
    ConfigurationError,
    Exact,
    HTTPBackend,
    Metrics,
    Prefix,
    Regex,
    Request,
    Route,
    create_gateway,
    hash_key,
    new_key,
)
from agentgate.testing import Recorder, drive, http_scope, websocket_scope

ANSWERS = httpx.MockTransport(lambda request: httpx.Response(200, text="upstream"))
KEYS = APIKeyAuth({"alice": hash_key(new_key())})


def to(path: Any, **options: Any) -> Route:
    return Route(path, HTTPBackend("http://up", transport=ANSWERS), **options)


@pytest.mark.parametrize("hosts", [[], ["localhost"]])
@pytest.mark.anyio
async def test_they_are_at_that_very_path_and_count_the_gateway_s_own_requests(hosts: list[str]) -> None:
    """Without a key: what stands before the routes does not stand before them."""
    recorder = Recorder()
    app = create_gateway(to("/", hosts=hosts), authenticate=[KEYS], observe=[recorder], metrics="/metrics")
    assert (await drive(app, http_scope("GET", "/x"))).status == 401
    exchange = await drive(app, http_scope("GET", "/metrics"))
    assert exchange.status == 200
    assert 'http_route="/",' in exchange.text
    assert recorder.last.route == "/metrics"
    assert 'http_route="/metrics"' in (await drive(app, http_scope("GET", "/metrics"))).text
    for path in ("/metrics/", "/metrics/x", "/metricsx", "/METRICS", "/%6detrics/.."):
        assert (await drive(app, http_scope("GET", path))).status in (400, 401), path


@pytest.mark.anyio
async def test_the_edge_stands_before_them_and_nothing_is_written() -> None:
    app = create_gateway(to("/a", authenticate=[]), metrics="/metrics")
    assert (await drive(app, http_scope("GET", "/metrics", headers={"x_y": "1"}))).status == 400
    assert (await drive(app, http_scope("POST", "/metrics"))).status == 405
    assert (await drive(app, websocket_scope("/metrics"))).close_code == 1008
    assert (await drive(app, http_scope("GET", "/a"))).text == "upstream"


@pytest.mark.anyio
async def test_metrics_that_observe_already_are_the_ones_that_are_read() -> None:
    metrics = Metrics()
    app = create_gateway(to("/a"), observe=[metrics], metrics="/-/metrics")
    await drive(app, http_scope("GET", "/a"))
    assert 'http_route="/a"' in (await drive(app, http_scope("GET", "/-/metrics"))).text
    assert 'http_route="/-/metrics"' in (await drive(metrics.app, http_scope())).text


@pytest.mark.anyio
async def test_a_gateway_that_is_mounted_has_them_below_its_mount() -> None:
    app = create_gateway(to("/"), metrics="/metrics")
    assert (await drive(app, http_scope("GET", "/gw/metrics", root_path="/gw"))).text.startswith("# HELP")
    assert (await drive(app, http_scope("GET", "/metrics"))).text.startswith("# HELP")
    assert (await drive(app, http_scope("GET", "/gw/metrics"))).text == "upstream"


@pytest.mark.anyio
async def test_without_being_asked_for_there_are_none() -> None:
    app = create_gateway(to("/"), authenticate=[KEYS], observe=[Metrics()])
    assert (await drive(app, http_scope("GET", "/metrics"))).status == 401


def test_explain_tells_that_nobody_is_asked() -> None:
    app = create_gateway(to("/", authorize=[]), authenticate=[KEYS], metrics="/metrics")
    assert [decision.effect for decision in app.explain(Request.http("GET", "/metrics"))] == ["allow"]
    assert [decision.effect for decision in app.explain(Request.http("GET", "/other"))] == ["deny"]


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("/", False),  # for what nobody else takes
        ("/a", False),
        ("/metricsx", False),
        ("/metrics", True),
        (Prefix("/metrics/"), True),
        (Exact("/metrics"), True),
        (Exact("/metrics/"), False),
        (Regex("/m.*"), True),
        (Regex("/.*"), True),
    ],
)
def test_a_route_to_the_same_path_is_a_fault(path: Any, taken: bool) -> None:
    if not taken:
        create_gateway(to(path), metrics="/metrics")
        return
    with pytest.raises(ConfigurationError) as caught:
        create_gateway(to(path, name="mine", methods=["POST"]), to("/ok"), metrics="/metrics")
    assert [*caught.value.faults] == ["route mine: it takes /metrics, where the metrics are"]


def test_one_of_several_metrics_is_not_chosen_and_a_path_is_one() -> None:
    with pytest.raises(ConfigurationError, match="there are several Metrics to be read"):
        create_gateway(to("/"), observe=[Metrics(), Metrics()], metrics="/metrics")
    with pytest.raises(ConfigurationError, match="a path begins with a slash"):
        create_gateway(to("/"), metrics="metrics")
