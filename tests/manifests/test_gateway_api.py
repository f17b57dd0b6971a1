"""The HTTPRoute cases of the Gateway API's conformance suite: documents, requests, and what must become of them.

Each is asked of the whole gateway that the documents describe; only the upstreams are stand-ins, which echo.
"""

import asyncio
import json
import os
import random
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from agentgate.manifests import load_gateway
from agentgate.observe.access_log import AccessLog
from agentgate.proxy.gateway import Gateway
from agentgate.proxy.mirror import Mirror
from agentgate.testing import Exchange, drive, http_scope

TOTAL: Final = 251
PASSING: Final = 247

EXCEPTED: Final = {
    "httproute-backend-protocol-h2c": "the upstream speaks HTTP/2, which no backend here does",
    "httproute-https-listener": "about TLS, which ends in front of the gateway",
    "httproute-https-listener-detect-misdirected-requests": "about TLS, which ends in front of the gateway",
    "httproute-retry": "its requests and answers are variables of the suite's source, and retry is refused by name",
}

_DATA = os.environ.get("AGENTGATE_TEST_DATA")
_INFRA: Final = "gateway-conformance-infra"
_DEFAULT_HOST: Final = "gateway.invalid"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not _DATA, reason="AGENTGATE_TEST_DATA names no folder with gateway-api-cases.json"),
]

Case = dict[str, Any]


# -- what the suite does beside its data -------------------------------------------------------------------------------


def _gateways(name: str, number: int) -> list[str]:
    """The Gateways that a case is asked of."""
    if name == "gateway-http-listener-isolation":
        return ["http-listener-isolation", "http-listener-isolation-with-hostname-intersection"]
    if name == "httproute-hostname-intersection":
        return ["httproute-hostname-intersection-all" if number >= 27 else "httproute-hostname-intersection"]
    if name == "httproute-redirect-port-and-scheme":
        https = number >= 9
        return ["same-namespace-with-https-listener" if https else _port_gateway(number)]
    if name == "httproute-multiple-gateways":
        return ["same-namespace" if number < 2 else "all-namespaces"]
    if name == "httproute-cross-namespace":
        return ["backend-namespaces"]
    if name in ("httproute-listener-hostname-matching", "httproute-listener-port-matching"):
        return [name]
    return ["same-namespace"]


def _port_gateway(number: int) -> str:
    return "same-namespace-with-http-listener-on-8080" if number >= 6 else "same-namespace"


def _host(name: str, number: int, asked: Case) -> str:
    """The Host header: that of the case, or the Gateway's address with its port."""
    eighty_eighty = name == "httproute-redirect-port-and-scheme" and 6 <= number < 9
    return asked.get("Host") or (f"{_DEFAULT_HOST}:8080" if eighty_eighty else _DEFAULT_HOST)


def _expanded(name: str, number: int, case: Case) -> list[Case]:
    """The case, with what the suite's source puts in the place of variables."""
    if name == "httproute-named-rule":
        return [case | {"Backend": ("infra-backend-v1", "infra-backend-v2")[number]}]
    if name == "httproute-service-types":
        services = ("manual-endpointslices", "headless", "headless-manual-endpointslices")
        return [case | {"Request": {"Path": f"/{one}"}, "Backend": one} for one in services]
    return [case]


def _variants(name: str, number: int) -> list[str]:
    """What of its documents the case is about, where it is not all of them."""
    if name == "httproute-reference-grant" and number == 1:
        return ["without the grant"]
    if name == "httproute-request-header-modifier":
        return ["filters of backends", "filters of rules"]
    return [""]


def _documents(name: str, variant: str) -> list[Case]:
    manifests: list[Case] = _data()["tests"][name]["manifests"]
    if variant == "without the grant":
        return [one for one in manifests if one["kind"] != "ReferenceGrant"]
    return {"filters of backends": manifests[:1], "filters of rules": manifests[1:]}.get(variant, manifests)


_SERVICES: Final = {
    _INFRA: [
        *("infra-backend-v1", "infra-backend-v2", "infra-backend-v3"),
        *("manual-endpointslices", "headless", "headless-manual-endpointslices"),
    ],
    "gateway-conformance-app-backend": ["app-backend-v1", "app-backend-v2"],
    "gateway-conformance-web-backend": ["web-backend"],
}


def _base(gateway: str) -> list[Case]:
    """The suite's own documents: of this Gateway, and those that its data leaves out."""
    documents = [
        one
        for one in _data()["base_manifests"]
        # TLS ends at the server that runs the gateway; without a document, the Gateway is one listener for all.
        if one["metadata"]["name"] == gateway and gateway != "same-namespace-with-https-listener"
    ]
    for namespace, names in _SERVICES.items():
        labels = {"gateway-conformance": "infra" if namespace == _INFRA else "backend"}
        documents.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
        documents += [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": one, "namespace": namespace},
                "spec": {"selector": {"app": one}, "ports": [{"protocol": "TCP", "port": 8080, "targetPort": 3000}]},
            }
            for one in names
        ]
    return documents


@cache
def _data() -> Any:
    return json.loads((Path(_DATA or "") / "gateway-api-cases.json").read_text("utf-8"))


def _cases() -> list[Any]:
    tests = _data()["tests"] if _DATA else {}
    return [
        pytest.param(name, number, id=f"{name}-{number}")
        for name, test in tests.items()
        if name not in EXCEPTED
        for number in range(len(test["cases"]))
    ]


# -- the upstreams -----------------------------------------------------------------------------------------------------


class Echo(httpx.AsyncBaseTransport):
    """Stands in for every Service: keeps what each was asked, and answers with the headers that the case wants."""

    asked: list[httpx.Request]
    headers: dict[str, str]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        Echo.asked.append(request)
        if b"delay=1s" in request.extensions["target"]:
            await asyncio.sleep(0.1)  # as the time limits of the documents, shortened to a tenth
        return httpx.Response(200, headers=Echo.headers, content=b"ok")


@pytest.fixture(autouse=True)
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    Echo.asked, Echo.headers = [], {}
    monkeypatch.setattr("agentgate.proxy.backend.PoolTransport", Echo)
    monkeypatch.setattr(random, "random", random.Random(1).random)


@cache
def _loaded(name: str, variant: str, gateway: str, port: int | None) -> Gateway:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.yaml"
        path.write_text(yaml.safe_dump_all([*_base(gateway), *_documents(name, variant)]).replace("500ms", "50ms"))
        return load_gateway(
            [path],
            gateway=f"{_INFRA}/{gateway}",
            listener_port=port,
            observe=[AccessLog(lambda line: None)],
            warn=lambda text: None,
        )


async def _ask(app: Gateway, case: Case, host: str, scheme: str) -> Exchange:
    asked = case["Request"]
    path, _, query = asked["Path"].partition("?")
    headers = [("host", host), *(asked.get("Headers") or {}).items()]
    scope = http_scope(asked.get("Method", "GET"), path + (f"?{query}" if query else ""), headers=headers)
    exchange = await drive(app, scope | {"scheme": scheme})
    for route in app.routes:
        for one in getattr(route.backend, "filters", ()):
            if isinstance(one, Mirror):
                await asyncio.gather(*one._under_way)
    return exchange


# -- the cases ---------------------------------------------------------------------------------------------------------


def test_every_case_is_here() -> None:
    tests = _data()["tests"]
    excepted = sum(len(tests[name]["cases"]) for name in EXCEPTED)
    assert sum(len(test["cases"]) for test in tests.values()) == TOTAL
    assert len(_cases()) == TOTAL - excepted == PASSING


@pytest.mark.parametrize(("name", "number"), _cases())
async def test_what_becomes_of_a_request(name: str, number: int) -> None:
    for variant in _variants(name, number):
        for gateway in _gateways(name, number):
            for case in _expanded(name, number, _data()["tests"][name]["cases"][number]):
                host = _host(name, number, case["Request"])
                https = name == "httproute-redirect-port-and-scheme" and number >= 9
                port = int(host.partition(":")[2] or 80) if name == "httproute-listener-port-matching" else None
                app = _loaded(name, variant, gateway, port)
                Echo.asked, Echo.headers = [], case.get("BackendSetResponseHeaders", {})
                exchange = await _ask(app, case, host, "https" if https else "http")
                _check(case, exchange, host, "https" if https else "http")
                await _check_many(name, case, app, host)


def _check(case: Case, exchange: Exchange, host: str, scheme: str) -> None:
    wanted = case.get("Response", {})
    statuses = wanted.get("StatusCodes") or [wanted.get("StatusCode", 200)]
    assert exchange.status in statuses
    answered = {name.lower(): value for name, value in exchange.headers.items()}
    for name, value in wanted.get("Headers", {}).items():
        assert answered[name.lower()].replace(", ", ",") == value
    for name, values in wanted.get("ValidHeaderValues", {}).items():
        assert answered[name.lower()] in values
    for name in wanted.get("AbsentHeaders", []):
        assert name.lower() not in answered
    if "RedirectRequest" in case:
        _check_redirect(case["RedirectRequest"], exchange, case["Request"], host, scheme)
    mirrors = {_service(one["BackendRef"]) for one in case.get("MirroredTo", [])}
    forwarded = [request for request in Echo.asked if request.url.host not in mirrors]
    if exchange.status in (404, 500, 301, 302, 303, 307, 308) or not case.get("Namespace", _INFRA):
        assert forwarded == []
        return
    (request,) = forwarded
    if "Backend" in case:
        assert request.url.host == f"{case['Backend']}.{case['Namespace']}"
    _check_request(case.get("ExpectedRequest", {}), request)


def _service(ref: Case) -> str:
    return f"{ref['Name']}.{ref['Namespace']}"


def _check_redirect(wanted: Case, exchange: Exchange, asked: Case, host: str, scheme: str) -> None:
    location = urlsplit(exchange.headers["location"])
    assert location.scheme == wanted.get("Scheme", scheme)
    assert location.hostname == wanted.get("Host", host.partition(":")[0])
    assert str(location.port or "") == wanted.get("Port", "")
    assert location.path == wanted.get("Path", asked["Path"])


def _check_request(expected: Case, request: httpx.Request) -> None:
    wanted = expected.get("Request", {})
    got: dict[str, str] = {}
    for raw_name, raw_value in request.headers.raw:
        name, value = raw_name.decode().lower(), raw_value.decode()
        got[name] = f"{got[name]},{value}" if name in got else value
    if wanted.get("Path"):
        assert request.extensions["target"].decode() == wanted["Path"]
    if wanted.get("Host"):
        assert got["host"] == wanted["Host"]
    for name, value in (wanted.get("Headers") or {}).items():
        assert got[name.lower()] == value
    for name in expected.get("AbsentHeaders", []):
        assert name.lower() not in got


async def _check_many(name: str, case: Case, app: Gateway, host: str) -> None:
    """What holds of many requests: shares of backends and of mirrors, as the suite has them within five percent."""
    mirrors = {_service(one["BackendRef"]): one.get("Percent", 100) / 100 for one in case.get("MirroredTo", [])}
    if name == "httproute-weight":
        shares = {f"infra-backend-v{one}.{_INFRA}": share for one, share in ((1, 0.7), (2, 0.3), (3, 0.0))}
    elif name == "httproute-request-header-modifier-backend-weights":
        shares = {f"infra-backend-v{one}.{_INFRA}": 0.5 for one in (1, 2)}
    elif mirrors:
        shares = mirrors
    else:
        return
    Echo.asked = []
    for _ in range(300):
        await _ask(app, case, host, "http")
    got = Counter(request.url.host for request in Echo.asked)
    for service, share in shares.items():
        assert abs(got[service] / 300 - share) <= 0.05
    if name == "httproute-request-header-modifier-backend-weights":
        assert {f"{request.headers['backend']}.{_INFRA}" == request.url.host for request in Echo.asked} == {True}
    for request in Echo.asked:
        if request.url.host in mirrors:
            assert request.extensions["target"].decode() == case["Request"]["Path"]
