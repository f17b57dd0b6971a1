"""Documents for the tests, as text."""

from pathlib import Path

from agentgate.auth.keys import new_key
from agentgate.manifests import load_gateway
from agentgate.observe.access_log import AccessLog
from agentgate.proxy.gateway import Gateway
from agentgate.request import Request

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial"
TUTORIAL_KEY = "N2YwMDIxZTEtNGUzNS1jNzgzLTRkYjAtYjE2YzRkZGVmNjcy"
KEY = new_key()
OTHER_KEY = new_key()

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: apps}
spec:
  parentRefs: [{name: gw, namespace: infra}]
  rules:
    - backendRefs: [{name: web, port: 80}]
"""

SECRET = f"""\
apiVersion: v1
kind: Secret
metadata: {{name: keys, namespace: infra, labels: {{app: web}}}}
stringData: {{alice: {KEY}}}
"""

POLICY = """\
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {name: auth, namespace: infra}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}]
  traffic:
    apiKeyAuthentication:
      secretRef: {name: keys}
"""


def write(folder: Path, *documents: str) -> Path:
    """One file of these documents."""
    path = folder / "all.yaml"
    path.write_text("---\n".join(documents))
    return path


def load(folder: Path, *documents: str, **options: object) -> Gateway:
    """The gateway that these documents describe."""
    return load_gateway([write(folder, *documents)], observe=[AccessLog(lambda line: None)], **options)  # type: ignore[arg-type]


def answer(gateway: Gateway, target: str = "/", *, key: str | None = None, host: str = "localhost") -> str:
    """Who the gateway takes a request for, `anonymous` if nobody, or what it says in refusing it."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    decisions = gateway.explain(Request.http("GET", target, headers=headers, host=host))
    for decision in decisions:
        if decision.effect == "deny" and decision.enforced:
            return f"{decision.status} {decision.message}"
    return next((decision.principal.id for decision in decisions if decision.principal), "anonymous")
