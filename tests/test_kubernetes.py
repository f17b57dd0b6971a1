"""examples/kubernetes: the cluster would take every document, and the gateway what is in them."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from agentgate import Request, __version__, new_key
from agentgate.cli import _parser
from agentgate.manifests import load_gateway
from agentgate.proxy.gateway import Gateway

FOLDER: Final = Path(__file__).parents[1] / "examples" / "kubernetes"
VERSIONS: Final = ("1.30", "1.34")  # of Kubernetes; their schemas come with kubernetes-validate


def documents() -> Iterator[tuple[str, Any]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield f"{path.name}: {document['kind']}", document


DOCUMENTS: Final = dict(documents())
BY_KIND: Final = {document["kind"]: document for document in DOCUMENTS.values()}
POD: Final = BY_KIND["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
SESSION_KEY: Final = new_key()


def said() -> Namespace:
    """What `agentgate` makes of the container's arguments."""
    return _parser().parse_args(CONTAINER["args"])


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """The container's file system, as far as it is mounted."""
    contents = {
        "agentgate-documents": BY_KIND["ConfigMap"]["data"],
        "agentgate-keys": BY_KIND["Secret"]["stringData"],
        "agentgate-session-key": {"session-key": SESSION_KEY},
    }
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    for mount in CONTAINER["volumeMounts"]:
        volume = volumes[mount["name"]]
        name = volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName")
        folder = tmp_path / mount["mountPath"].lstrip("/")
        folder.mkdir(parents=True)
        for file, text in contents.get(name, {}).items():
            (folder / file).write_text(text)
    return tmp_path


def gateway(root: Path) -> Gateway:
    arguments = said()
    return load_gateway(
        [root / str(file).lstrip("/") for file in arguments.files],
        public_url=arguments.public_url,
        allow_weak_keys=arguments.allow_weak_keys,
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_the_cluster_takes_it(document: Any, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize(
    "broken",
    [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "dat": {}},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {}, "spec": {"maxUnavailable": []}},
    ],
)
def test_what_no_cluster_takes_is_found(broken: Any) -> None:
    """The check can fail."""
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


def test_what_is_mounted_makes_a_gateway(mounted: Path) -> None:
    app = gateway(mounted)
    assert sorted(route.name for route in app.routes) == ["agents/reports", "agents/tools"]
    anonymous = Request.http("GET", "/reports/1", host="agents.example.com")
    assert app.explain(anonymous)[-1].status == 401
    reader = Request.tool("get_weather", host="agents.example.com", api_key={"group": "ops"})
    writer = Request.tool("drop_table", host="agents.example.com", api_key={"group": "ops"})
    engineer = Request.tool("drop_table", host="agents.example.com", api_key={"group": "eng"})
    assert [app.explain(one)[-1].effect for one in (reader, writer, engineer)] == ["allow", "deny", "allow"]


def test_the_files_that_are_named_are_there(mounted: Path) -> None:
    arguments = said()
    for path in (*arguments.files, arguments.session_key_file):
        assert (mounted / path.lstrip("/")).is_file()
        assert any(PurePosixPath(path).is_relative_to(mount["mountPath"]) for mount in CONTAINER["volumeMounts"])


def test_the_ports_are_those_that_are_served() -> None:
    arguments = said()
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"http": arguments.port, "probes": arguments.probe_port, "metrics": arguments.metrics_port}
    assert (arguments.host, arguments.metrics_host) == ("0.0.0.0", "0.0.0.0")
    paths = {}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert CONTAINER[name]["httpGet"]["port"] == "probes"
        paths[name] = CONTAINER[name]["httpGet"]["path"]
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    annotations = BY_KIND["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(arguments.metrics_port)
    assert [port["targetPort"] for port in BY_KIND["Service"]["spec"]["ports"]] == ["http"]
    rules = BY_KIND["NetworkPolicy"]["spec"]["ingress"]
    assert [(rule["ports"][0]["port"], "from" in rule) for rule in rules] == [("http", False), ("metrics", True)]


def test_there_is_time_for_the_end() -> None:
    arguments = said()
    assert arguments.drain + arguments.grace < POD["terminationGracePeriodSeconds"]
    probe = CONTAINER["readinessProbe"]
    assert probe["periodSeconds"] * (probe["failureThreshold"] + 1) <= arguments.drain


def test_it_may_do_nothing_that_it_need_not() -> None:
    """What the Pod Security Standard `restricted` asks for, and a file system that is read-only."""
    assert POD["automountServiceAccountToken"] is False
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["mountPath"] for mount in CONTAINER["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]
    assert not said().allow_weak_keys


def test_all_of_it_is_about_the_same_pods() -> None:
    labels = BY_KIND["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert BY_KIND["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["Service"]["spec"]["selector"] == labels
    assert BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert BY_KIND["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "agentgate"
    assert "replicas" not in BY_KIND["Deployment"]["spec"]  # or each rollout would undo the autoscaler's number
    assert {document["metadata"]["namespace"] for document in DOCUMENTS.values()} == {"agents"}


def test_the_image_and_the_readme_are_up_to_date() -> None:
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert f"=={__version__}'" in dockerfile
    assert CONTAINER["image"].endswith(f":{__version__}")
    user = POD["securityContext"]["runAsUser"]
    assert f"\nUSER {user}:{user}\n" in dockerfile
    assert dockerfile.endswith('ENTRYPOINT ["agentgate"]\n')
    readme = (FOLDER / "README.md").read_text()
    assert all(f"]({path.name})" in readme for path in FOLDER.iterdir() if path.name != "README.md")
