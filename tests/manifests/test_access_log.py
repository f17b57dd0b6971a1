"""`frontend.accessLog` of documents: what it makes of the gateway's log, and every fault in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentgate import AccessLog, ConfigurationError, Observer
from agentgate.manifests import load_gateway
from agentgate.testing import drive, http_scope

from .manifest_files import POLICY, ROUTE, SECRET, write

pytestmark = pytest.mark.anyio


def policy(log: dict[str, Any], *, name: str = "log", kind: str = "Gateway", target: str = "gw", more: str = "") -> str:
    return f"""\
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {{name: {name}, namespace: infra}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: {kind}, name: {target}}}]
  frontend: {{accessLog: {json.dumps(log)}{more}}}
"""


ADDED = {"name": "agent", "expression": 'request.headers["user-agent"]'}
SHAPED = policy(
    {"filter": "response.code >= 400", "attributes": {"add": [ADDED], "remove": ["http.version", "connection.id"]}}
)


async def lines(folder: Path, *documents: str, log: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What is logged of one request that is refused, and of one that matches no route."""
    found: list[str] = []
    observe = [AccessLog(found.append, format="json", **(log or {}))]
    gateway = load_gateway([write(folder, ROUTE, SECRET, POLICY, *documents)], observe=observe)
    await drive(gateway, http_scope("GET", "/", headers={"user-agent": "curl"}))
    return [json.loads(line) for line in found]


async def test_fields_are_added_and_removed(tmp_path: Path) -> None:
    (line,) = await lines(tmp_path, SHAPED)
    assert line["agent"] == "curl"
    assert list(line)[-1] == "agent"
    assert "http.version" not in line


async def test_it_goes_before_what_the_code_says(tmp_path: Path) -> None:
    """As in agentgateway, a list that is not empty replaces the other; one that is not there leaves it."""
    log = {"add": {"mine": "1"}, "remove": ["http.host"]}
    (line,) = await lines(tmp_path, SHAPED, log=log)
    assert ("mine" in line, "agent" in line, "http.host" in line, "http.version" in line) == (False, True, True, False)
    (line,) = await lines(tmp_path, policy({"filter": "true"}), log=log)
    assert ("mine" in line, "http.host" in line) == (True, False)


async def test_a_policy_of_another_gateway_changes_nothing(tmp_path: Path) -> None:
    other = ROUTE.replace("{name: web,", "{name: other,").replace("name: gw", "name: other")
    found: list[str] = []
    documents = [ROUTE, other, SHAPED.replace("name: gw", "name: other")]
    gateway = load_gateway(
        [write(tmp_path, *documents)], gateway="infra/gw", observe=[AccessLog(found.append, format="json")]
    )
    await drive(gateway, http_scope("GET", "/none", host="none.example"))
    assert "http.version" in json.loads(found[0])


PLACE = "all.yaml: document 2 (AgentgatewayPolicy infra/log): "
NOT = "not supported by this version"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (policy({}), ["spec.frontend.accessLog: a policy that does nothing"]),
        (policy({"otlp": {}}), [f"spec.frontend.accessLog.otlp: {NOT}"]),
        (policy({"filter": "true"}, more=", tracing: {}"), [f"spec.frontend.tracing: {NOT}"]),
        (policy({"filter": "response.cod"}), ["spec.frontend.accessLog.filter: 1:10: "]),
        (policy({"filter": "response.code"}), ["spec.frontend.accessLog.filter: 1:1: "]),
        (policy({"filter": 5}), ["spec.frontend.accessLog.filter: text is expected"]),
        (
            policy({"attributes": {"add": [{"name": "a b", "expression": "1"}, {"name": "x", "expression": "jwt."}]}}),
            [
                "spec.frontend.accessLog.attributes.add[0]: add: the name of a field is",
                "spec.frontend.accessLog.attributes.add[1]: add x: 1:",
            ],
        ),
        (
            policy({"attributes": {"add": [ADDED, ADDED, {"name": "y"}]}}),
            [
                "spec.frontend.accessLog.attributes.add[2].expression: required",
                "spec.frontend.accessLog.attributes.add[1]: agent is added twice",
            ],
        ),
        (
            policy({"attributes": {"remove": ["http.pth"]}}),
            ["spec.frontend.accessLog.attributes.remove: remove: the log has no field 'http.pth'"],
        ),
        (policy({"attributes": {"add": [], "remove": 5}}), ["spec.frontend.accessLog.attributes.remove: ", "spec."]),
        (policy({"attributes": 5}), ["spec.frontend.accessLog.attributes: a mapping is expected"]),
        (
            policy({"filter": "true"}, kind="HTTPRoute", target="web").replace("infra", "apps"),
            ["spec.frontend: the 'frontend' field can only target a Gateway"],
        ),
    ],
)
def test_every_fault_has_its_place(
    tmp_path: Path, document: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ROUTE, document)
    with pytest.raises(ConfigurationError) as caught:
        load_gateway(["all.yaml"], observe=[AccessLog(lambda line: None)])
    place = PLACE.replace("infra", "apps") if "apps" in document else PLACE
    assert len(caught.value.faults) == len(expected)
    for fault, start in zip(caught.value.faults, expected, strict=True):
        assert fault.startswith(place + start)


def test_two_for_one_gateway_are_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Gateway infra/gw has an accessLog already, by .*infra/log"):
        load_gateway(
            [write(tmp_path, ROUTE, SHAPED, policy({"filter": "true"}, name="log2"))],
            observe=[AccessLog(lambda line: None)],
        )


class Quiet(Observer):
    def end(self, token: Any, record: Any) -> None:
        """Says nothing."""


@pytest.mark.parametrize("observe", [[], [Quiet()]])
def test_without_a_log_it_would_be_of_no_effect(tmp_path: Path, observe: list[Observer]) -> None:
    with pytest.raises(ConfigurationError, match="this gateway has no access log"):
        load_gateway([write(tmp_path, ROUTE, SECRET, POLICY, SHAPED)], observe=observe)
