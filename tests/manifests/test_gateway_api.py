"""The matching cases of the Gateway API's conformance suite: HTTPRoute documents, requests, and who must get them."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from agentgate.manifests import load_gateway
from agentgate.observe.access_log import AccessLog
from agentgate.proxy.backend import HTTPBackend
from agentgate.proxy.route import RouteTable
from agentgate.request import Request

TESTS = (
    "httproute-exact-path-matching",
    "httproute-header-matching",
    "httproute-matching",
    "httproute-matching-across-routes",
    "httproute-method-matching",
    "httproute-path-match-order",
    "httproute-query-param-matching",
    "httproute-simple-same-namespace",
)
COUNT = 72

_DATA = os.environ.get("AGENTGATE_TEST_DATA")

pytestmark = pytest.mark.skipif(not _DATA, reason="AGENTGATE_TEST_DATA names no folder with gateway-api-cases.json")


def _tests() -> dict[str, Any]:
    if not _DATA:
        return {}
    tests = json.loads((Path(_DATA) / "gateway-api-cases.json").read_text("utf-8"))["tests"]
    return {name: tests[name] for name in TESTS}


def _cases() -> list[Any]:
    return [
        pytest.param(test["manifests"], case, id=f"{name}-{number}")
        for name, test in _tests().items()
        for number, case in enumerate(test["cases"])
    ]


def test_every_case_is_here() -> None:
    assert len(_cases()) == COUNT


@pytest.mark.parametrize(("manifests", "case"), _cases())
def test_the_request_goes_where_the_suite_says(
    manifests: list[dict[str, Any]], case: dict[str, Any], tmp_path: Path
) -> None:
    routes = tmp_path / "routes.yaml"
    routes.write_text(yaml.safe_dump_all([document for document in manifests if document["kind"] == "HTTPRoute"]))
    gateway = load_gateway([routes], observe=[AccessLog(lambda line: None)])
    asked = case["Request"]
    request = Request.http(
        asked.get("Method", "GET"),
        asked["Path"],
        host=asked.get("Host") or "gateway.invalid",
        headers=asked.get("Headers", {}),
    )
    route = RouteTable(gateway.routes).match(unquote(asked["Path"].partition("?")[0]), request)
    if "Backend" in case:
        assert route is not None
        assert isinstance(route.backend, HTTPBackend)
        assert route.backend.url == f"http://{case['Backend']}.{case['Namespace']}:8080"
    else:
        assert case["Response"]["StatusCode"] == 404
        assert route is None
