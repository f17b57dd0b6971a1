"""`agentgate serve`: the gateway that Kubernetes documents describe. With a fault anywhere, nothing is started."""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard

from starlette.applications import Starlette
from starlette.routing import Route

from ..errors import ConfigurationError
from ..limits.rate_limit import RateLimit
from ..manifests import load_gateway
from ..observe.access_log import AccessLog, Format
from ..observe.metrics import Metrics
from ..policy import Authorizer, Observer
from ..probes import Probes
from ..protocols.mcp import MCP
from ..protocols.mcp.sessions import MIN_KEY, Sessions
from ..proxy.gateway import Gateway
from ..respond import ASGIApp
from ..secret import Secret
from . import complain, warn
from .listen import CannotListen, addresses, close, each, is_loopback, listen, listen_each, run
from .otlp import exporting

if TYPE_CHECKING:
    from .shared import Shared

METRICS_PATH: Final = "/metrics"

_Served = tuple[ASGIApp, list[list[socket.socket]]]
"""An app, and the sockets that each worker serves it on."""


def serve(
    files: Sequence[str],
    *,
    host: str,
    port: int,
    backends: Sequence[str],
    gateway: str | None,
    listener_port: int | None,
    public_url: str | None,
    log_format: Format,
    log_file: str | None,
    log_replay: bool,
    allow_weak_keys: bool,
    metrics_host: str,
    metrics_port: int | None,
    otlp: str | None,
    probe_port: int | None,
    drain: int,
    grace: int,
    workers: int,
    session_key_file: str | None,
) -> int:
    """Run until a signal ends it. Weak keys are let in where only this machine can call."""
    probes = Probes(ready=False)
    apps: list[_Served] = []
    aside: list[_Served] = []
    with ExitStack() as stack:
        shared = _shared(stack, workers, measured=metrics_port is not None)

        def opened(hosts: Sequence[str], port: int, *, balanced: bool = False) -> list[list[socket.socket]]:
            groups = listen_each(hosts, port, workers) if balanced else each(listen(hosts, port), workers)
            stack.callback(close, groups)
            return groups

        try:
            where = addresses(host)
            if log_replay and log_format != "json":
                raise ConfigurationError("--log-replay: it needs --log-format json")
            log = AccessLog(None if log_file is None else Path(log_file), format=log_format, replay=log_replay)
            traced, exported = exporting(otlp)
            observe: list[Observer] = [log, *traced]
            metrics = None if metrics_port is None else Metrics()
            if metrics is not None:
                observe.append(metrics)
            app = load_gateway(
                files,
                backends=_backends(backends),
                gateway=gateway,
                listener_port=listener_port,
                public_url=public_url,
                session_key=None if session_key_file is None else _session_key(session_key_file),
                observe=observe,
                allow_weak_keys=allow_weak_keys or all(map(is_loopback, where)),
                resolve=_resolves,
                warn=warn,
            )
            if shared is not None:
                _check_workers(app, workers)
            apps.append((app, opened(where, port, balanced=True)))
            says = f"listening on {_urls(apps)}"
            if metrics is not None and metrics_port is not None:
                aside.append((_at_metrics(metrics), opened(addresses(metrics_host), metrics_port)))
                says += f"; metrics on {_urls(aside, METRICS_PATH)}"
            if probe_port is not None:
                aside.append((probes, opened(where, probe_port)))
                says += f"; probes on {_urls(aside[-1:])}"
        except CannotListen as exc:
            return complain(str(exc), code=1)

        def say() -> None:
            print(says, file=sys.stderr, flush=True)

        def work(number: int, supervisor: socket.socket | None = None) -> None:
            def ready() -> None:
                probes.ready = True
                if supervisor is None:
                    say()
                else:
                    supervisor.send(b".")

            def stopping() -> None:
                probes.ready = False

            with exported(), closing(log):
                run(
                    [(app, groups[number - 1]) for app, groups in apps],
                    ready,
                    aside=[(app, groups[number - 1]) for app, groups in aside],
                    stopping=stopping,
                    drain=drain,
                    grace=grace,
                    supervisor=supervisor,
                )

        if shared is None:
            work(1)
            return 0
        sockets = [[one for _, groups in (*apps, *aside) for one in groups[index]] for index in range(workers)]
        return shared.supervise(sockets, work, up=say, warn=warn, drain=drain, grace=grace)


def _shared(stack: ExitStack, workers: int, *, measured: bool) -> "Shared | None":
    """What several workers share; None where there is one."""
    if workers == 1:
        return None
    if not hasattr(os, "fork"):
        raise ConfigurationError("--workers: this system cannot fork processes")
    from .shared import Shared  # wants what only such systems have

    return stack.enter_context(Shared(measured=measured))


def _check_workers(app: Gateway, workers: int) -> None:
    """Refuse what each worker would count for itself, and warn of what only one of them knows."""
    limits = {policy.rule: None for route in app.routes for policy in route.authorize if _is_local(policy)}
    if limits:
        raise ConfigurationError(
            [
                f"--workers: {limit}: each of the {workers} workers would let as many through: one worker, or a limit"
                " counted in Redis"
                for limit in limits
            ]
        )
    backends = {id(route.backend): route for route in app.routes}
    for route in backends.values():
        protocol = route.backend.protocol
        if isinstance(protocol, MCP) and protocol.targets.names:
            warn(
                f"--workers: route {route.name}: several MCP servers as one: a session of a client of up to 2025-11-25"
                " is known to one worker alone, and not found by the others"
            )


def _is_local(policy: Authorizer) -> TypeGuard[RateLimit]:
    return isinstance(policy, RateLimit) and policy.local


def _session_key(path: str) -> Secret:
    key = Secret.file(path)
    try:
        Sessions(key)
    except ConfigurationError:
        raise ConfigurationError(f"--session-key-file: {path}: at least {MIN_KEY} random characters") from None
    return key


def _at_metrics(metrics: Metrics) -> ASGIApp:
    """The app of a listener that has nothing else."""
    return Starlette(routes=[Route(METRICS_PATH, metrics.app)])


def _backends(options: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    faults = []
    for option in options:
        service, equals, url = option.partition("=")
        if not equals:
            faults.append(f"--backend {option}: it is NAMESPACE/NAME:PORT=URL")
        elif service in found:
            faults.append(f"--backend {service}: given twice")
        found[service] = url
    if faults:
        raise ConfigurationError(faults)
    return found


def _resolves(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None)
    except (OSError, UnicodeError):
        return False
    return True


def _urls(served: Sequence[_Served], path: str = "") -> str:
    """Where it is, for people."""
    return ", ".join(_url(opened) + path for _, groups in served for opened in groups[0])


def _url(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
