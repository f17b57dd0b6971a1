"""Gateway documents and references: which routes are attached to which listeners, and where they may not lead."""

from pathlib import Path
from typing import Any

import pytest

from agentgate import Request
from agentgate.errors import ConfigurationError
from agentgate.testing import drive, http_scope

from .manifest_files import POLICY, ROUTE, SECRET, load
from .test_faults import ONE, B, R, edited, faults, rule

pytestmark = pytest.mark.anyio

G = "document 2 (Gateway infra/gw): "
ALL = "allowedRoutes: {namespaces: {from: All}}"


def gateway(*listeners: str) -> str:
    return f"""\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gw, namespace: infra}}
spec: {{gatewayClassName: agentgate, listeners: [{", ".join(f"{{{one}}}" for one in listeners)}]}}
"""


def listener(name: str = "http", port: int = 80, more: str = ALL) -> str:
    return f"name: {name}, port: {port}, protocol: HTTP, {more}"


def namespace(labels: str) -> str:
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: apps, labels: {{{labels}}}}}\n"


def warned(folder: Path, *documents: str, **options: Any) -> list[str]:
    warnings: list[str] = []
    load(folder, *documents, warn=warnings.append, **options)
    return [text.removeprefix(f"{folder}/all.yaml: ") for text in warnings]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (gateway(), [G + "spec.listeners: List should have at least 1 item"]),
        (gateway("name: a, port: 80"), [G + "spec.listeners[0].protocol: required"]),
        (gateway("name: a, port: 443, protocol: HTTPS, tls: {}, " + ALL), [
            G + "spec.listeners[0].protocol: another protocol than HTTP is not supported by this version",
        ]),
        (gateway(listener("a"), listener("a", 80, f"hostname: a, {ALL}"), listener("b")), [
            G + "spec.listeners[1].name: Listener name must be unique within the Gateway",
            G + "spec.listeners[2]: Combination of port, protocol and hostname must be unique for each listener",
        ]),
        (gateway(listener("a"), listener("b", 8080)), [
            G + "spec.listeners: it listens on several ports (80, 8080): say which one this is with --listener-port",
        ]),
        (gateway(listener(more="allowedRoutes: {namespaces: {from: Selector}}")), [
            G + "spec.listeners[0].allowedRoutes.namespaces.selector: it is set with from: Selector, and only then",
        ]),
        (gateway(listener(more="hostname: A")), [G + "spec.listeners[0].hostname: a lower-case host name"]),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, document: str, expected: list[str]) -> None:
    found = faults(tmp_path, ROUTE, document)
    assert len(found) == len(expected)
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start)


def test_what_a_route_names_has_to_be_there(tmp_path: Path) -> None:
    route = edited(ROUTE, ("namespace: infra}", "namespace: infra, sectionName: https, port: 80}"))
    assert faults(tmp_path, route, gateway(listener())) == [
        R + "spec.parentRefs[0]: Gateway infra/gw has no such listener",
    ]
    assert faults(tmp_path, ROUTE, gateway(listener()), listener_port=81) == [
        G + "spec.listeners: no listener has port 81 (80)",
    ]
    assert faults(tmp_path, ROUTE, listener_port=81) == [
        "listener port 81: there is no Gateway infra/gw that would have it",
    ]


def test_listeners_of_another_port_are_another_process_s(tmp_path: Path) -> None:
    tls = gateway(listener(), "name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}")
    assert len(load(tmp_path, ROUTE, tls, listener_port=80).routes) == 1
    assert faults(tmp_path, ROUTE, tls, listener_port=443)[0].startswith(G + "spec.listeners[1].protocol: ")


def served(folder: Path, *documents: str, host: str = "h", **options: Any) -> bool:
    """Whether a request for this host finds a route, of a gateway that has one for sure."""
    here = edited(
        ROUTE, ("name: web, namespace: apps", "name: sure, namespace: infra"), ("rules:", "hostnames: [s]\n  rules:")
    )
    app = load(folder, here, *documents, warn=lambda text: None, **options)
    return app.match(Request.http(host=host)) is not None


@pytest.mark.parametrize(
    ("allowed", "documents", "expected"),
    [
        ("", [], False),
        ("allowedRoutes: {}", [], False),
        ("allowedRoutes: {namespaces: {from: Same}}", [], False),
        ("allowedRoutes: {namespaces: {from: None}}", [], False),
        ("allowedRoutes: {namespaces: {from: All}}", [], True),
        ("allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}", [], False),
        ("allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}", [namespace("a: c")], False),
        ("allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}", [namespace("a: b")], True),
        (
            "allowedRoutes: {namespaces: {from: Selector, selector:"
            " {matchLabels: {kubernetes.io/metadata.name: apps}}}}",
            [],
            True,
        ),
        ("allowedRoutes: {namespaces: {from: All}, kinds: [{kind: GRPCRoute}]}", [], False),
        ("allowedRoutes: {namespaces: {from: All}, kinds: [{kind: GRPCRoute}, {kind: HTTPRoute}]}", [], True),
        ("allowedRoutes: {namespaces: {from: All}, kinds: [{group: x, kind: HTTPRoute}]}", [], False),
    ],
)
def test_which_routes_a_listener_takes(tmp_path: Path, allowed: str, documents: list[str], expected: bool) -> None:
    both = gateway(listener("a", more=allowed), listener("b", more="hostname: s"))
    assert served(tmp_path, ROUTE, both, *documents) is expected


def test_a_namespace_cannot_say_what_its_name_is(tmp_path: Path) -> None:
    """The label is the cluster's to set."""
    selector = (
        "allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: b}}}}"
    )
    both = gateway(listener("a", more=selector), listener("b", more="hostname: s"))
    assert not served(tmp_path, ROUTE, both, namespace("kubernetes.io/metadata.name: b"))


def test_a_route_that_no_listener_takes_is_told(tmp_path: Path) -> None:
    two = edited(ROUTE, ("name: web, namespace", "name: two, namespace"), ("rules:", "hostnames: [b]\n  rules:"))
    assert warned(tmp_path, ROUTE, two, gateway(listener(more=f"hostname: a, {ALL}"))) == [
        "document 2 (HTTPRoute apps/two): spec.parentRefs: no listener takes this route"
    ]


def test_a_listener_without_routes_has_its_hosts_all_the_same(tmp_path: Path) -> None:
    both = gateway(listener("a", more=f"hostname: a.example, {ALL}"), listener("b"))
    one = edited(ROUTE, ("namespace: infra}", "namespace: infra, sectionName: b}"))
    app = load(tmp_path, one, both)
    assert app.match(Request.http(host="b.example")) is not None
    assert app.match(Request.http(host="a.example")) is None


async def test_a_policy_on_a_gateway_holds_on_all_of_its_listeners(tmp_path: Path) -> None:
    both = gateway(listener("a", more=f"hostname: a.example, {ALL}"), listener("b"))
    app = load(tmp_path, ROUTE, both, SECRET, POLICY)
    for host in ("a.example", "b.example"):
        assert (await drive(app, http_scope(host=host))).status == 401


# References.


HTTP_ROUTES = "group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: apps"


def grant(of: str = HTTP_ROUTES, to: str = "group: '', kind: Service") -> str:
    return f"""\
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: grant, namespace: far}}
spec: {{from: [{{{of}}}], to: [{{{to}}}]}}
"""


def service(name: str, namespace: str = "apps", more: str = "") -> str:
    spec = f"{{ports: [{{port: 80, targetPort: 8080{more}}}], selector: {{a: b}}, type: ClusterIP}}"
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"


FAR = edited(ROUTE, rule("backendRefs: [{name: web, port: 80, namespace: far}]"))
NOT_GRANTED = "no ReferenceGrant in far lets routes of apps lead to Service web: its requests get 500"


@pytest.mark.parametrize(
    ("documents", "warning"),
    [
        ([FAR], NOT_GRANTED),
        ([FAR, grant()], None),
        ([FAR, grant(to="group: '', kind: Service, name: web")], None),
        ([FAR, grant(to="group: '', kind: Service, name: other")], NOT_GRANTED),
        ([FAR, grant(to="group: '', kind: Secret")], NOT_GRANTED),
        ([FAR, grant(of="group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra")], NOT_GRANTED),
        ([FAR, grant(of="group: '', kind: HTTPRoute, namespace: apps")], NOT_GRANTED),
        ([FAR, edited(grant(), ("namespace: far", "namespace: apps"))], NOT_GRANTED),
        ([edited(ROUTE, rule("backendRefs: [{kind: Door, name: web}]"))], "nobody knows the kind Door"),
        ([edited(ROUTE, rule("backendRefs: [{group: x.y, name: web}]"))], "nobody knows the group x.y"),
        ([ROUTE, service("web")], None),
        ([ROUTE, service("web", "far")], None),
        ([ROUTE, service("other")], "there is no Service apps/web with port 80"),
        ([edited(ROUTE, ("port: 80", "port: 81")), service("web")], "there is no Service apps/web with port 81"),
    ],
)  # fmt: skip
async def test_references(tmp_path: Path, documents: list[str], warning: str | None) -> None:
    found = warned(tmp_path, *documents)
    app = load(tmp_path, *documents, warn=lambda text: None)
    assert len(app.routes) == 1
    if warning is None:
        assert found == []
        return
    (text,) = found
    assert text.startswith(f"{B}: {warning}")
    exchange = await drive(app, http_scope())
    assert (exchange.status, exchange.text) == (500, "backend does not exist")


def test_nobody_is_warned_of_a_route_of_another_gateway(tmp_path: Path) -> None:
    other = edited(FAR, ("name: web, namespace", "name: other, namespace"), ("name: gw", "name: x"))
    assert warned(tmp_path, ROUTE, other, gateway="infra/gw") == []


def test_where_it_is_said_where_a_service_lives_it_need_not_be_known(tmp_path: Path) -> None:
    assert warned(tmp_path, ROUTE, service("other"), backends={"apps/web:80": "http://127.0.0.1:1"}) == []


async def test_the_policies_come_before_the_reference_that_leads_nowhere(tmp_path: Path) -> None:
    app = load(tmp_path, FAR, SECRET, POLICY, warn=lambda text: None)
    assert (await drive(app, http_scope())).status == 401


def test_a_mirror_that_leads_nowhere_is_left_out(tmp_path: Path) -> None:
    edit = rule(
        f"{{{ONE}, filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{kind: Door, name: a}}}}}}]}}"
    )
    (text,) = warned(tmp_path, edited(ROUTE, edit))
    assert text.startswith(R + "spec.rules[0].filters[0].requestMirror.backendRef: nobody knows the kind Door")
    (route,) = load(tmp_path, edited(ROUTE, edit), warn=lambda text: None).routes
    assert route.backend.name == "web.apps"


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        (
            service("web", more=", appProtocol: kubernetes.io/h2c"),
            "spec.ports[0].appProtocol: another protocol",
        ),
        (service("web", more=", appProtocol: https"), "spec.ports[0].appProtocol: another protocol"),
        (edited(service("web"), ("type: ClusterIP", "externalName: evil.example")), "spec.externalName: not supported"),
    ],
)
def test_services_that_could_not_be_reached(tmp_path: Path, document: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, ROUTE, document)
    assert fault in caught.value.faults[0]
