"""load_gateway: files of Kubernetes documents to a Gateway, or every fault in them at once."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..nothing import NOTHING
from ..observe.access_log import AccessLog
from ..policy import Observer
from ..proxy.gateway import Gateway
from ..secret import Secret
from .authorization import authorizations, mcp_authorizations
from .backends import AgentBackends
from .frontend import AccessLogPolicy, shaped
from .gateways import Listeners
from .jwt import attach_tokens, check_resources, public_url_of
from .keys import KeySources, check_base64
from .policies import Attached, attach_keys, check_targets
from .rate_limits import check_limits, rate_limits
from .read import Documents, Faults, read_documents
from .references import References
from .route_policies import RoutePolicies
from .routes import (
    build_routes,
    check_locations,
    check_protocols,
    choose_gateway,
    gateways_of,
    plan_routes,
    route_urls,
)
from .services import Services

_logger = logging.getLogger("agentgate.manifests")


def load_gateway(
    paths: Iterable[str | os.PathLike[str]],
    *,
    backends: Mapping[str, str] = NOTHING,
    gateway: str | None = None,
    listener_port: int | None = None,
    public_url: str | None = None,
    session_key: Secret | None = None,
    observe: Sequence[Observer] = (),
    allow_weak_keys: bool = False,
    resolve: Callable[[str], bool] | None = None,
    warn: Callable[[str], Any] = _logger.warning,
) -> Gateway:
    """The Gateway that these YAML files describe. Raises one `ConfigurationError` with every fault in them.

    `backends` says where a Service lives (`{"httpbin/httpbin:8000": "http://127.0.0.1:8000"}`), which is otherwise
    `http://name.namespace:port`; `resolve` is asked whether such a host name is known here. `gateway` is the
    `namespace/name` of the Gateway to be, when the routes name several, and `listener_port` the port of its listeners,
    when they have several. `public_url` is where clients reach it, as for `create_gateway`; without it, what
    `resourceMetadata.resource` of the policies says. `session_key` is what ids of MCP sessions are sealed with, as for
    `MCPBackend`; replicas need the same one. `warn` is told of each weak key that `allow_weak_keys` lets in, of
    references that lead nowhere, and of routes that no listener takes.
    """
    faults = Faults()
    documents = read_documents(paths, faults)
    check_base64(documents.secrets, faults)
    if not documents.routes and not documents.broken("HTTPRoute"):
        faults.add("there is no HTTPRoute: nothing would be served")
    named = frozenset[str]().union(*map(gateways_of, documents.routes))
    # Which Gateways there are is not known while routes cannot be read.
    chosen = gateway if documents.broken("HTTPRoute") else choose_gateway(named, gateway, faults)
    check_targets(documents, named | {document.full_name for document in documents.gateways}, faults)
    references = References(documents, backends)
    services = Services(backends, resolve, faults, AgentBackends(documents, faults, session_key), references)
    listeners = Listeners(documents, chosen, listener_port, faults)
    attached = Attached(faults)
    attach_keys(documents, KeySources(faults, allow_weak_keys, warn), attached)
    attach_tokens(documents, services, attached)
    check_limits(documents, attached)
    log = _access_log(documents, chosen, observe, faults)
    plan = plan_routes(documents.routes, listeners, services, RoutePolicies(documents, faults), references.note)
    if not documents.broken("HTTPRoute"):
        services.check_unused()
    url = public_url_of(public_url, attached.all(), faults)
    check_resources(url, route_urls(plan, chosen, attached, url), faults)
    check_locations(plan, chosen, attached, faults)
    check_protocols(plan, chosen, documents, services, url, faults)
    faults.raise_any()
    assert chosen is not None  # or it would have been a fault
    for warning in references.warnings:
        warn(warning)
    rules, mcp_rules = authorizations(documents), mcp_authorizations(documents)
    routes = build_routes(plan, chosen, services, attached, rules, mcp_rules, rate_limits(documents), url)
    return Gateway([*routes], observe=shaped(observe, log), public_url=url, listeners=listeners.hostnames())


def _access_log(
    documents: Documents, gateway: str | None, observe: Sequence[Observer], faults: Faults
) -> AccessLogPolicy | None:
    """What a policy says of this Gateway's access log. Where there is no log, it would be of no effect."""
    found: AccessLogPolicy | None = None
    owner = ""
    for policy in documents.policies:
        frontend = policy.model.spec.frontend
        for number, ref in enumerate(policy.model.spec.target_refs):
            if frontend is None or frontend.access_log is None or f"{policy.namespace}/{ref.name}" != gateway:
                continue
            if found is not None:
                text = f"Gateway {gateway} has an accessLog already, by {owner}"
                faults.add(policy.at(f"spec.targetRefs[{number}]", text), policy.order)
            found, owner = frontend.access_log, policy.place
            if not any(isinstance(one, AccessLog) for one in observe):
                text = "this gateway has no access log: give it one in observe"
                faults.add(policy.at("spec.frontend.accessLog", text), policy.order)
    return found
