"""What a Gateway made of documents decides: keys from every source, modes, locations, targets, tie-breaks."""

import base64
import json
import logging
from pathlib import Path

import pytest

from agentgate.auth.keys import hash_key
from agentgate.errors import ConfigurationError
from agentgate.manifests import load_gateway
from agentgate.proxy.backend import HTTPBackend
from agentgate.proxy.gateway import Gateway
from agentgate.proxy.paths import Exact, Prefix, Regex
from agentgate.request import Request

from .manifest_files import KEY, OTHER_KEY, POLICY, ROUTE, SECRET, TUTORIAL, TUTORIAL_KEY, answer, load, write

MISSING = "401 api key authentication failure: no API Key found"
INVALID = "401 api key authentication failure: invalid credentials"


def urls(gateway: Gateway) -> list[str]:
    return [str(route.backend.url) for route in gateway.routes if isinstance(route.backend, HTTPBackend)]


def test_the_tutorial_loads_unchanged() -> None:
    warnings: list[str] = []
    gateway = load_gateway(sorted(TUTORIAL.glob("*.yaml")), allow_weak_keys=True, warn=warnings.append)
    assert answer(gateway, "/headers", host="www.example.com") == MISSING
    assert answer(gateway, "/headers", host="www.example.com", key=KEY) == INVALID
    assert answer(gateway, "/headers", host="www.example.com", key=TUTORIAL_KEY) == "api-key"
    assert answer(gateway, "/headers", key=TUTORIAL_KEY) == "404 route not found"
    assert [route.name for route in gateway.routes] == ["httpbin/httpbin"]
    assert urls(gateway) == ["http://httpbin.httpbin:8000"]
    assert [text.partition(": ")[2] for text in warnings] == [
        "document 1 (Secret agentgateway-system/apikey): stringData.api-key: this key is published in documentation"
    ]


def test_the_key_of_the_tutorial_is_refused_unless_it_is_let_in() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_gateway(sorted(TUTORIAL.glob("*.yaml")))
    assert caught.value.faults == (
        f"{TUTORIAL}/secret.yaml: document 1 (Secret agentgateway-system/apikey): stringData.api-key: this key is"
        " published in documentation; make one with `agentgate keys new`, or let it in with --allow-weak-keys",
    )


def test_a_weak_key_that_is_let_in_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "agentgate"):
        load(tmp_path, ROUTE, SECRET.replace(KEY, "hunter22"), POLICY, allow_weak_keys=True)
    assert "stringData.alice: 8 characters of this kind are too easy to guess" in caplog.text
    assert "hunter22" not in caplog.text


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        pytest.param(f"stringData: {{a: {KEY}}}", "a", id="a raw value"),
        pytest.param(f"stringData:\n  a: |\n    {KEY}\n", "a", id="a raw value in a block, with its line end"),
        pytest.param(f"data: {{a: {encoded(KEY)}}}", "a", id="base64"),
        pytest.param(f"data:\n  a: |\n    {encoded(KEY)[:20]}\n    {encoded(KEY)[20:]}\n", "a", id="base64 in lines"),
        pytest.param(f"data: {{a: {encoded(OTHER_KEY)}}}\nstringData: {{a: {KEY}}}", "a", id="stringData comes first"),
        pytest.param(f"stringData: {{a: '{json.dumps({'key': KEY})}'}}", "a", id="JSON with the key"),
        pytest.param(f"stringData: {{a: '{json.dumps({'keyHash': hash_key(KEY)})}'}}", "a", id="JSON with its hash"),
        pytest.param(
            f"stringData: {{a: '{json.dumps({'key': KEY, 'metadata': {'name': 'alice'}})}'}}", "alice", id="with a name"
        ),
        pytest.param(
            f"data: {{a: {encoded(json.dumps({'key': KEY, 'metadata': {'name': 7}}))}}}", "a", id="with no real name"
        ),
    ],
)
def test_an_entry_of_a_secret_is_a_key(tmp_path: Path, entries: str, name: str) -> None:
    secret = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: keys, namespace: infra}}\n{entries}\n"
    gateway = load(tmp_path, ROUTE, secret, POLICY)
    assert answer(gateway, key=KEY) == name
    assert answer(gateway, key=OTHER_KEY) == INVALID
    assert answer(gateway) == MISSING


def test_every_entry_is_a_key_and_metadata_goes_along(tmp_path: Path) -> None:
    bob = json.dumps({"key": OTHER_KEY, "metadata": {"group": "sales"}})
    gateway = load(tmp_path, ROUTE, SECRET.replace("stringData: {", f"stringData: {{bob: '{bob}', "), POLICY)
    assert answer(gateway, key=KEY) == "alice"
    request = Request.http(headers={"authorization": f"Bearer {OTHER_KEY}"})
    principal = gateway.explain(request)[-1].principal
    assert principal is not None
    assert (principal.id, dict(principal.attributes)) == ("bob", {"group": "sales"})


def test_a_config_map_holds_hashes(tmp_path: Path) -> None:
    config_map = f"""\
apiVersion: v1
kind: ConfigMap
metadata: {{name: keys, namespace: infra, labels: {{app: web, tier: front}}}}
data: {{alice: '{json.dumps({"keyHash": hash_key(KEY)})}'}}
"""
    policy = POLICY.replace("secretRef: {name: keys}", "configMapSelector: {matchLabels: {app: web}}")
    assert answer(load(tmp_path, ROUTE, config_map, policy), key=KEY) == "alice"


def test_a_selector_takes_every_secret_with_its_labels_in_its_namespace(tmp_path: Path) -> None:
    policy = POLICY.replace("secretRef: {name: keys}", "secretSelector: {matchLabels: {app: web}}")
    second = SECRET.replace("name: keys", "name: more").replace(KEY, OTHER_KEY).replace("alice", "bob")
    for namespace, expected in (("infra", "bob"), ("elsewhere", INVALID)):
        gateway = load(tmp_path, ROUTE, SECRET, second.replace("infra", namespace), policy)
        assert answer(gateway, key=KEY) == "alice"
        assert answer(gateway, key=OTHER_KEY) == expected


@pytest.mark.parametrize(
    ("mode", "without", "bad"),
    [
        ("", MISSING, INVALID),
        ("mode: Strict", MISSING, INVALID),
        ("mode: Optional", "anonymous", INVALID),
        ("mode: Permissive", "anonymous", "anonymous"),
    ],
)
def test_modes(tmp_path: Path, mode: str, without: str, bad: str) -> None:
    gateway = load(tmp_path, ROUTE, SECRET, POLICY + f"      {mode}\n")
    assert (answer(gateway), answer(gateway, key="bad"), answer(gateway, key=KEY)) == (without, bad, "alice")


@pytest.mark.parametrize(
    ("location", "target", "headers"),
    [
        ("header: {name: X-API-Key}", "/", {"x-api-key": KEY}),
        ("header: {name: x-api-key, prefix: 'Key '}", "/", {"x-api-key": f"Key {KEY}"}),
        ("queryParameter: {name: key}", f"/?key={KEY}", {}),
        ("cookie: {name: session}", "/", {"cookie": f"session={KEY}"}),
    ],
)
def test_locations(tmp_path: Path, location: str, target: str, headers: dict[str, str]) -> None:
    gateway = load(tmp_path, ROUTE, SECRET, POLICY + f"      location: {{{location}}}\n")
    decision = gateway.explain(Request.http("GET", target, headers=headers))[-1]
    assert decision.principal is not None
    assert answer(gateway, key=KEY) == MISSING


def test_a_policy_on_a_route_replaces_that_on_its_gateway(tmp_path: Path) -> None:
    own = SECRET.replace("infra", "apps").replace(KEY, OTHER_KEY).replace("alice", "bob")
    policy = POLICY.replace("infra", "apps").replace("kind: Gateway, name: gw", "kind: HTTPRoute, name: web")
    other_route = ROUTE.replace("{name: web, namespace: apps}", "{name: other}").replace(
        "spec:", "spec:\n  hostnames: [o]"
    )
    gateway = load(tmp_path, ROUTE, other_route, SECRET, POLICY, own, policy + "      mode: Optional\n")
    assert answer(gateway) == "anonymous"
    assert answer(gateway, key=KEY) == INVALID
    assert answer(gateway, key=OTHER_KEY) == "bob"
    assert answer(gateway, host="o") == MISSING
    assert answer(gateway, host="o", key=KEY) == "alice"


def test_routes_of_other_gateways_are_left_out(tmp_path: Path) -> None:
    other = ROUTE.replace("{name: web, namespace: apps}", "{name: other, namespace: apps}").replace(
        "name: gw", "name: x"
    )
    other = other.replace("name: web, port", "name: far, port")
    known = {"web.apps"}
    gateway = load(tmp_path, ROUTE, other, SECRET, POLICY, gateway="infra/gw", resolve=known.__contains__)
    assert [route.name for route in gateway.routes] == ["apps/web"]
    assert answer(gateway) == MISSING
    gateway = load(tmp_path, ROUTE, other, SECRET, POLICY, gateway="infra/x")
    assert [route.name for route in gateway.routes] == ["apps/other"]
    assert answer(gateway) == "anonymous"


def test_a_gateway_in_the_namespace_of_the_route_need_not_be_named_in_full(tmp_path: Path) -> None:
    policy, secret = POLICY.replace("infra", "apps"), SECRET.replace("infra", "apps")
    assert answer(load(tmp_path, ROUTE.replace(", namespace: infra", ""), secret, policy)) == MISSING


def test_backends_say_where_a_service_lives(tmp_path: Path) -> None:
    gateway = load(tmp_path, ROUTE, backends={"apps/web:80": "http://127.0.0.1:9"}, resolve=lambda name: False)
    assert urls(gateway) == ["http://127.0.0.1:9"]


def test_one_service_port_is_one_backend(tmp_path: Path) -> None:
    gateway = load(tmp_path, ROUTE + "    - backendRefs: [{name: web, port: 80}]\n      matches: [{method: GET}]\n")
    assert len({id(route.backend) for route in gateway.routes}) == 1


def test_matches_become_routes(tmp_path: Path) -> None:
    rule = """\
      matches:
        - path: {type: Exact, value: /a%20b}
          method: PUT
        - path: {value: /p/}
          headers: [{name: X-A, value: one}, {name: x-a, value: two}, {name: b, type: RegularExpression, value: 'v.*'}]
          queryParams: [{name: Q, value: one}, {name: q, value: two}, {name: q, value: three}]
        - path: {type: RegularExpression, value: '/r[0-9]+'}
"""
    exact, prefix, regex = load(tmp_path, ROUTE + rule).routes
    assert exact.path == Exact("/a b")
    assert exact.methods == {"PUT"}
    assert prefix.path == Prefix("/p")
    assert prefix.query == {"Q": "one", "q": "two"}
    assert prefix.headers["x-a"] == "one"
    assert prefix.matches("/p/x", Request.http(target="/p/x?Q=one&q=two", headers={"x-a": "one", "b": "vv"}))
    assert regex.path == Regex("/r[0-9]+")


def test_ties_go_to_the_oldest_route_then_by_name(tmp_path: Path) -> None:
    def route(name: str, more: str = "") -> str:
        return ROUTE.replace("{name: web, namespace: apps}", f"{{name: {name}{more}}}")

    gateway = load(
        tmp_path,
        route("d"),
        route("c", ", namespace: z"),
        route("b", ", creationTimestamp: 2026-01-02T00:00:00Z"),
        route("a", ", creationTimestamp: '2026-01-03T00:00:00+00:00'"),
        route("c"),
    )
    assert [r.name for r in gateway.routes] == ["default/b", "default/a", "default/c", "default/d", "z/c"]


def test_documents_as_a_cluster_returns_them(tmp_path: Path) -> None:
    route = ROUTE.replace(
        "metadata: {name: web, namespace: apps}",
        "metadata: {name: web, namespace: apps, uid: u, generation: 2, resourceVersion: '7', annotations: {a: b},"
        " managedFields: [{manager: kubectl}], creationTimestamp: null, labels: {}}",
    ).replace(
        "[{name: web, port: 80}]",
        "[{group: '', kind: Service, name: web, port: 80, weight: 1, filters: null}]",
    )
    gateway = load(tmp_path, route + "status: {parents: []}\n", SECRET + "type: Opaque\nimmutable: true\n", POLICY)
    assert answer(gateway, key=KEY) == "alice"


def test_several_files(tmp_path: Path) -> None:
    paths = []
    for number, text in enumerate((ROUTE, f"# a comment\n---\n{SECRET}---\n---\n{POLICY}")):
        paths.append(tmp_path / f"{number}.yaml")
        paths[-1].write_text(text)
    assert answer(load_gateway(paths), key=KEY) == "alice"


def test_a_posture_without_policy_and_observer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no policy and no observer"):
        load_gateway([write(tmp_path, ROUTE)])
