"""What is refused, and how it is told: every fault at once, with file, document and field, and never a value."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentgate.errors import ConfigurationError
from agentgate.manifests import load_gateway

from .manifest_files import KEY, OTHER_KEY, POLICY, ROUTE, SECRET, load

R = "document 1 (HTTPRoute apps/web): "
S = "document 2 (Secret infra/keys): "
P = "document 3 (AgentgatewayPolicy infra/auth): "
B = R + "spec.rules[0].backendRefs[0]"
A = "spec.traffic.apiKeyAuthentication"
REF = "secretRef: {name: keys}"
NOT = "not supported by this version"


def faults(folder: Path, *documents: str, **options: Any) -> list[str]:
    """The faults, without the name of the file."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, *documents, **options)
    text = str(caught.value)
    assert KEY not in text
    assert OTHER_KEY not in text
    return [fault.removeprefix(f"{folder}/all.yaml: ") for fault in caught.value.faults]


def edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


def path(value: str) -> str:
    return f"{{path: {{value: '{value}'}}}}"


def rule(text: str) -> tuple[str, str]:
    return ("    - backendRefs: [{name: web, port: 80}]\n", f"    - {text}\n")


ONE = "backendRefs: [{name: web, port: 80}]"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("kind: HTTPRoute", "kind: GRPCRoute"), [f"document 1: kind: GRPCRoute is {NOT}: HTTPRoute, "]),
        (("kind: HTTPRoute\n", ""), ["document 1: kind: required"]),
        (("kind: HTTPRoute", "kind: [HTTPRoute]"), [f"document 1: kind: ? is {NOT}"]),
        (("/v1", "/v9"), [R + "apiVersion: Input should be 'gateway.networking.k8s.io/v1' or"]),
        (("name: web, namespace", "namespace"), ["document 1 (HTTPRoute): metadata.name: required"]),
        (("name: web, namespace", "name: 'a b', namespace"), ["document 1 (HTTPRoute apps/?): metadata.name: "]),
        (("namespace: apps}", "namespace: apps, nmae: x}"), [R + "metadata.nmae: unknown field"]),
        (("namespace: apps}", "namespace: apps, creationTimestamp: soon}"), [R + "metadata.creationTimestamp: a"]),
        (("namespace: apps}", "namespace: apps, creationTimestamp: 2026-01-01T00:00:00}"), [R + "metadata.creation"]),
        (("namespace: apps}", "namespace: apps, labels: {a: yes}}"), [R + "metadata.labels.a: text is expected"]),
        (("spec:", "sepc: 1\nspec:"), [R + "sepc: unknown field"]),
        (("  rules:", "  hostnames: [WWW.example.com, 'a:80', ok.example]\n  rules:"), [
            R + "spec.hostnames[0]: a lower-case host name", R + "spec.hostnames[1]: a lower-case host name",
        ]),
        (("namespace: infra}", "namespace: infra, sectionName: http}"), [
            R + "spec.parentRefs[0].sectionName: there is no Gateway infra/gw that would have such a listener",
        ]),
        (("namespace: infra}", "namespace: infra, port: 80}"), [
            R + "spec.parentRefs[0].port: there is no Gateway infra/gw that would have such a listener",
        ]),
        (("namespace: infra}", "namespace: infra, kind: Service}"), [R + f"spec.parentRefs[0].kind: Service is {NOT}"]),
        (("namespace: infra}", "namespace: infra, kind: Door}"), [R + "spec.parentRefs[0].kind: Input should"]),
        (("[{name: gw, namespace: infra}]", "[]"), [R + "spec.parentRefs: List should have at least 1 item"]),
        (("[{name: gw, namespace: infra}]", "gw"), [R + "spec.parentRefs: a list is expected"]),
        (("[{name: gw, namespace: infra}]", "[gw]"), [R + "spec.parentRefs[0]: a mapping is expected"]),
        (rule("backendRefs: [{name: a, port: 1}, {name: b, prot: 2}]"), [
            R + "spec.rules[0].backendRefs[1].prot: unknown field",
            R + "spec.rules[0].backendRefs[1].port: required",
        ]),
        (rule("backendRefs: [{name: web, port: 80, weight: -1}]"), [
            B + ".weight: Input should be greater than or equal to 0",
        ]),
        (rule("backendRefs: [{name: web, port: '80'}]"), [B + ".port: Input should be a valid integer"]),
        (rule("backendRefs: [{name: web, port: 0}]"), [B + ".port: Input should be greater than or equal to 1"]),
        (rule("backendRefs: [{name: 'evil/x', port: 80}]"), [B + ".name: String should match"]),
        (rule("backendRefs: [{name: web, port: 80, kind: InferencePool}]"), [B + f".kind: InferencePool is {NOT}"]),
        (rule("backendRefs: [{name: web, port: 80, kind: AgentgatewayBackend, group: agentgateway.dev}]"), [
            B + ".port: an AgentgatewayBackend says its port itself",
            B + ": there is no AgentgatewayBackend apps/web",
        ]),
        (rule(f"{{{ONE}, retry: {{}}, sessionPersistence: {{}}, magic: 1}}"), [
            *(R + f"spec.rules[0].{name}: {NOT}" for name in ("retry", "sessionPersistence")),
            R + "spec.rules[0].magic: unknown field",
        ]),
        (rule(f"{{{ONE}, matches: [{{path: {{type: Glob}}, method: get}}]}}"), [
            R + "spec.rules[0].matches[0].path.type: Input should be 'Exact', 'PathPrefix' or 'RegularExpression'",
            R + "spec.rules[0].matches[0].method: Input should be 'GET'",
        ]),
        (rule(f"{{{ONE}, matches: [{path('a')}, {path('/a//b')}, {path('/a?b')}]}}"), [
            R + "spec.rules[0].matches[0].path.value: a path begins with a slash",
            R + "spec.rules[0].matches[1].path.value: a path has no empty segment",
            R + "spec.rules[0].matches[2].path.value: a path begins with a slash",
        ]),
        (rule(f"{{{ONE}, matches: [{{path: {{type: RegularExpression, value: '(' }}}}]}}"), [
            R + "spec.rules[0].matches[0].path.value: no regular expression: missing ), unterminated subpattern",
        ]),
        (rule(f"{{{ONE}, matches: [{{headers: [{{name: 'a b', type: RegularExpression, value: '['}}]}}]}}"), [
            R + "spec.rules[0].matches[0].headers[0].name: String should match pattern",
            R + "spec.rules[0].matches[0].headers[0].value: no regular expression: unterminated character set",
        ]),
    ],
)  # fmt: skip
def test_routes(tmp_path: Path, edit: tuple[str, str], expected: list[str]) -> None:
    found = faults(tmp_path, edited(ROUTE, edit))
    assert len(found) >= len(expected)
    for fault, start in zip(found, expected, strict=False):
        assert fault.startswith(start)
    assert all(not fault.startswith(R) for fault in found[len(expected) :])


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ((REF, "secretRef: {name: nope}"), [P + f"{A}.secretRef: there is no Secret infra/nope"]),
        ((REF, "secretSelector: {matchLabels: {app: x}}"), [
            P + f"{A}.secretSelector: no Secret in namespace infra has these labels",
        ]),
        ((REF, "configMapSelector: {matchLabels: {app: web}}"), [
            P + f"{A}.configMapSelector: no ConfigMap in namespace infra has these labels",
        ]),
        ((REF, "secretSelector: {matchLabels: {}}"), [
            P + f"{A}.secretSelector.matchLabels: Dictionary should have at least 1 item",
        ]),
        ((REF, "mode: Strict"), [
            P + f"{A}: exactly one of secretRef, secretSelector, configMapSelector must be set",
        ]),
        ((REF, "{secretRef: {name: nope}, secretSelector: {matchLabels: {a: b}}, mode: strict}"), [
            P + f"{A}.mode: Input should be 'Strict', 'Optional' or 'Permissive'",
            P + f"{A}: exactly one of secretRef, secretSelector, configMapSelector must be set",
            P + f"{A}.secretRef: there is no Secret infra/nope",
        ]),
        ((REF, "{secretRef: {name: nope}, mode: strict, modus: 1}"), [
            P + f"{A}.mode: Input should be 'Strict', 'Optional' or 'Permissive'",
            P + f"{A}.modus: unknown field",
            P + f"{A}.secretRef: there is no Secret infra/nope",
        ]),
        ((REF, "{secretRef: {name: keys}, location: {}}"), [
            P + f"{A}.location: exactly one of header, queryParameter, cookie, expression must be set",
        ]),
        ((REF, "{secretRef: {name: keys}, location: {header: {name: a}, cookie: {name: b}}}"), [
            P + f"{A}.location: exactly one of header, queryParameter, cookie, expression must be set",
        ]),
        ((REF, "{secretRef: {name: keys}, location: {expression: 'a'}}"), [
            P + f"{A}.location.expression: {NOT}",
        ]),
        ((REF, "{secretRef: {name: keys}, location: {header: {name: 'a b'}}}"), [
            P + f"{A}.location: 'a b' is no header name",
        ]),
        (("kind: Gateway, name: gw", "kind: Gateway, name: nope"), [
            P + "spec.targetRefs[0]: no HTTPRoute here names Gateway infra/nope",
        ]),
        (("kind: Gateway, name: gw", "kind: HTTPRoute, name: web"), [
            P + "spec.targetRefs[0]: there is no HTTPRoute infra/web",
        ]),
        (("kind: Gateway, name: gw", "kind: Service, name: gw"), [P + f"spec.targetRefs[0].kind: Service is {NOT}"]),
        (("group: gateway.networking.k8s.io", "group: agentgateway.dev"), [
            P + "spec.targetRefs[0].group: it is 'gateway.networking.k8s.io' for this kind",
        ]),
        (("name: gw}", "name: gw, sectionName: http}"), [P + f"spec.targetRefs[0].sectionName: {NOT}"]),
        (("name: gw}]", "name: gw}, {group: gateway.networking.k8s.io, kind: Gateway, name: gw}]"), [
            P + "spec.targetRefs[1]: Gateway infra/gw has an apiKeyAuthentication already, by",
        ]),
        (("name: gw}]", "name: gw}, {group: gateway.networking.k8s.io, kind: HTTPRoute, name: gw}]"), [
            P + "spec.targetRefs: Only one Kind of targetRef can be set on one policy",
            P + "spec.targetRefs[1]: there is no HTTPRoute infra/gw",
        ]),
        (("  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}]\n", ""), [
            P + "spec: exactly one of targetRefs, targetSelectors must be set",
        ]),
        (("  targetRefs:", "  strategy: {inheritance: Override}\n  targetSelectors: []\n  targetRefs:"), [
            P + f"spec.targetSelectors: {NOT}",
            P + f"spec.strategy: {NOT}",
            P + "spec: exactly one of targetRefs, targetSelectors must be set",
        ]),
        (("  traffic:", "  frontend: {}\n  backend: {}\n  traffic:"), [
            P + "spec.frontend: a policy that does nothing", P + "spec.backend: a policy that does nothing",
        ]),
        (("  traffic:\n    apiKeyAuthentication:\n      secretRef: {name: keys}\n", ""), [
            P + "spec: At least one of traffic, frontend, or backend must be provided.",
        ]),
        (("    apiKeyAuthentication:\n      secretRef: {name: keys}\n", "    phase: PostRouting\n"), [
            P + "spec.traffic: a policy that does nothing",
        ]),
        (("  traffic:", "  traffic:\n    phase: PreRouting"), [P + f"spec.traffic.phase: PreRouting is {NOT}"]),
    ],
)  # fmt: skip
def test_policies(tmp_path: Path, edit: tuple[str, str], expected: list[str]) -> None:
    found = faults(tmp_path, ROUTE, SECRET, edited(POLICY, edit))
    assert len(found) == len(expected)
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start)


@pytest.mark.parametrize(
    "kind",
    [
        *("basicAuthentication", "buffer", "csrf", "delay", "directResponse", "extAuth"),
        *("extProc", "hostRewrite", "retry", "transformation"),
    ],
)
def test_other_policy_kinds_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    for policy in (POLICY + f"    {kind}: {{a: b}}\n", edited(POLICY, ("apiKeyAuthentication", kind))):
        assert faults(tmp_path, ROUTE, SECRET, policy) == [P + f"spec.traffic.{kind}: {NOT}"]


UNWANTED = "keys sourced from a ConfigMap must use keyHash, not a raw key, since ConfigMaps are not confidential"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ("stringData: {a: ''}", ["stringData.a: empty value"]),
        ("stringData: {a: 'two words'}", ["stringData.a: a key is visible ASCII characters without blanks"]),
        ("stringData: {a: hunter2}", ["stringData.a: 7 characters of this kind are too easy to guess; make one with"]),
        ("stringData: {a: 123}", ["stringData.a: text is expected"]),
        (f"stringData: {{? {KEY}}}", ["stringData: an entry has no value"]),
        ("data: {a: '%%%'}", ["data.a: not base64"]),
        ("data: {a: YWJ}", ["data.a: not base64"]),
        ("data: {a: /////w==}", ["data.a: not UTF-8 text"]),
        (f"stringData: {{a: '{json.dumps({})}'}}", ["stringData.a: exactly one of key or keyHash must be set"]),
        (f"stringData: {{a: '{json.dumps({'key': KEY, 'keyHash': 'x'})}'}}", [
            "stringData.a: exactly one of key or keyHash must be set",
            "stringData.a: keyHash must use the sha256:<hex> format",
        ]),
        (f"stringData: {{a: '{json.dumps({'keyHash': 'sha256:00'})}'}}", [
            "stringData.a: sha256 keyHash must decode to 32 bytes",
        ]),
        (f"stringData: {{a: '{json.dumps({'key': KEY, 'allowedModels': []})}'}}", [
            "stringData.a: unknown field allowedModels",
        ]),
        ("stringData: {a: '{'}", ["stringData.a: not valid JSON"]),
        (f"stringData: {{a: '{{\"key\": \"{KEY}\", \"key\": \"{OTHER_KEY}\"}}'}}", [
            "stringData.a: a member is given twice",
        ]),
        (f"stringData: {{a: {KEY}, b: {KEY}}}", ["stringData.b: the same key as that of a"]),
        (f"stringdata: {{a: {KEY}}}", ["stringdata: unknown field"]),
        (f"stringData: {{a: '', b: 'x y', c: {KEY}}}\ndata: {{d: '!'}}", [
            "data.d: not base64",
            "stringData.a: empty value",
            "stringData.b: a key is visible ASCII characters without blanks",
        ]),
    ],
)  # fmt: skip
def test_secrets(tmp_path: Path, entries: str, expected: list[str]) -> None:
    secret = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: keys, namespace: infra}}\n{entries}\n"
    found = [fault for fault in faults(tmp_path, ROUTE, secret, POLICY) if fault.startswith(S)]
    assert len(found) == len(expected)
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(S + start)


def test_a_secret_without_entries_lets_nobody_in(tmp_path: Path) -> None:
    secret = edited(SECRET, (f"stringData: {{alice: {KEY}}}\n", ""))
    assert faults(tmp_path, ROUTE, secret, POLICY) == [P + f"{A}.secretRef: no keys: nobody could call"]


def test_bad_base64_is_told_of_secrets_that_nobody_refers_to(tmp_path: Path) -> None:
    unused = "apiVersion: v1\nkind: Secret\nmetadata: {name: unused}\ndata: {tls.crt: '*'}\n"
    assert faults(tmp_path, ROUTE, SECRET, POLICY, unused) == [
        "document 4 (Secret default/unused): data.tls.crt: not base64"
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (KEY, UNWANTED),
        (json.dumps({"key": KEY}), UNWANTED),
        ("", "empty value"),
        ("{", "not valid JSON"),
        (json.dumps({"keyHash": "md5:00"}), "keyHash must use the sha256:<hex> format"),
    ],
)
def test_config_maps(tmp_path: Path, value: str, expected: str) -> None:
    metadata = "metadata: {name: k, namespace: infra, labels: {a: b}}"
    config_map = f"apiVersion: v1\nkind: ConfigMap\n{metadata}\ndata: {{x: '{value}'}}\n"
    policy = edited(POLICY, (REF, "configMapSelector: {matchLabels: {a: b}}"))
    assert faults(tmp_path, ROUTE, config_map, policy) == [f"document 2 (ConfigMap infra/k): data.x: {expected}"]


def test_two_policies_on_one_target_are_ambiguous(tmp_path: Path) -> None:
    second = edited(POLICY, ("name: auth", "name: again"))
    assert faults(tmp_path, ROUTE, SECRET, POLICY, second) == [
        "document 4 (AgentgatewayPolicy infra/again): spec.targetRefs[0]: Gateway infra/gw has an apiKeyAuthentication"
        f" already, by {tmp_path}/all.yaml: {P.removesuffix(': ')}"
    ]


def test_two_documents_with_one_name(tmp_path: Path) -> None:
    assert faults(tmp_path, ROUTE, SECRET, POLICY, SECRET) == [
        f"document 4 (Secret infra/keys): defined twice, first in {tmp_path}/all.yaml: {S.removesuffix(': ')}"
    ]


def test_several_gateways(tmp_path: Path) -> None:
    other = edited(ROUTE, ("name: web, namespace", "name: other, namespace"), ("name: gw", "name: x"))
    assert faults(tmp_path, ROUTE, other) == [
        "the routes name several Gateways (infra/gw, infra/x): say which one this is with --gateway NAMESPACE/NAME"
    ]
    assert faults(tmp_path, ROUTE, other, gateway="infra/y") == [
        "gateway infra/y: no HTTPRoute names it (infra/gw, infra/x)"
    ]


def test_services(tmp_path: Path) -> None:
    backends = {"apps/other:80": "http://127.0.0.1:1"}
    assert faults(tmp_path, ROUTE, backends=backends, resolve=lambda name: name != "web.apps") == [
        R + "spec.rules[0].backendRefs[0]: Service apps/web:80 does not resolve here; say where it lives:"
        " --backend apps/web:80=http://HOST:PORT",
        "backend apps/other:80: no HTTPRoute has such a backendRef",
    ]
    assert faults(tmp_path, ROUTE, backends={"apps/web:80": "ftp://x"}) == [
        "backend apps/web:80: an upstream is an http or https URL with a host, such as http://httpbin:8000"
    ]


def test_every_fault_of_every_document_is_told_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        edited(ROUTE, ("port: 80", "prot: 80")),
        edited(SECRET, (f"stringData: {{alice: {KEY}}}", "data: {alice: '!'}")),
        edited(POLICY, ("name: keys", "name: nope"), ("Gateway, name: gw", "Gateway, name: nope")),
        "kind: Deployment\n",
        "- 1\n",
    )
    assert found == [
        R + "spec.rules[0].backendRefs[0].prot: unknown field",
        R + "spec.rules[0].backendRefs[0].port: required",
        S + "data.alice: not base64",
        P + "spec.targetRefs[0]: no HTTPRoute here names Gateway infra/nope",
        P + f"{A}.secretRef: there is no Secret infra/nope",
        f"document 4: kind: Deployment is {NOT}: HTTPRoute, Secret, ConfigMap, AgentgatewayPolicy, AgentgatewayBackend,"
        " Gateway, ReferenceGrant, Namespace, Service",
        "document 5: a document is a mapping",
    ]


def test_a_route_that_cannot_be_read_makes_no_further_faults(tmp_path: Path) -> None:
    # Which Gateways there are is not known then, so nothing is said of what targets one.
    assert faults(tmp_path, edited(ROUTE, ("parentRefs:", "parents:")), SECRET, POLICY) == [
        R + "spec.parentRefs: required",
        R + "spec.parents: unknown field",
    ]
    policy = edited(POLICY, ("infra", "apps"), ("Gateway, name: gw", "HTTPRoute, name: web"))
    found = faults(tmp_path, edited(ROUTE, ("parentRefs:", "parents:")), edited(SECRET, ("infra", "apps")), policy)
    assert len(found) == 2


def test_a_document_of_a_wrong_version_is_looked_into_all_the_same(tmp_path: Path) -> None:
    secret = edited(SECRET, ("apiVersion: v1\n", ""), (f"stringData: {{alice: {KEY}}}", "data: {alice: '!'}"))
    policy = edited(POLICY, ("v1alpha1", "v9"), ("Gateway, name: gw", "Gateway, name: nope"))
    assert faults(tmp_path, ROUTE, secret, policy) == [
        S + "apiVersion: required",
        S + "data.alice: not base64",
        P + "apiVersion: Input should be 'agentgateway.dev/v1alpha1'",
        P + "spec.targetRefs[0]: no HTTPRoute here names Gateway infra/nope",
    ]


def test_a_secret_that_cannot_be_read_makes_no_further_faults(tmp_path: Path) -> None:
    policy = edited(POLICY, (REF, "secretSelector: {matchLabels: {app: web}}"))
    found = faults(tmp_path, ROUTE, edited(SECRET, ("name: keys", "name: Keys")), policy)
    assert len(found) == 1
    assert found[0].startswith("document 2 (Secret infra/Keys): metadata.name: String should match pattern")


def test_nothing_to_serve(tmp_path: Path) -> None:
    assert faults(tmp_path, SECRET) == ["there is no HTTPRoute: nothing would be served"]
    assert faults(tmp_path, "") == ["no document in it", "there is no HTTPRoute: nothing would be served"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [", "document 1: line 1, column 5: not valid YAML"),
        (b"\xff", "cannot read (UnicodeDecodeError)"),
        (b"a: \x00", "document 1: not valid YAML"),
        (None, "cannot read (IsADirectoryError)"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "file.yaml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_gateway([path])
    assert caught.value.faults == (f"{path}: {expected}",)


@pytest.mark.parametrize("broken", [ROUTE, SECRET])
def test_what_a_file_that_cannot_be_read_may_hold_is_not_missed(tmp_path: Path, broken: str) -> None:
    """Its one fault is told, and none that would not be there without it."""
    documents = [broken + "\n  bad: [" if text is broken else text for text in (ROUTE, SECRET, POLICY)]
    paths = [tmp_path / f"{number}.yaml" for number in range(len(documents))]
    for path, text in zip(paths, documents, strict=True):
        path.write_text(text)
    with pytest.raises(ConfigurationError, match="not valid YAML") as caught:
        load_gateway(paths)
    assert len(caught.value.faults) == 1
