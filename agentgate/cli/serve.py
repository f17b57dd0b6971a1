"""`agentgate serve`: the gateway that Kubernetes documents describe. With a fault anywhere, nothing is started."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.routing import Route

from ..errors import ConfigurationError
from ..manifests import load_gateway
from ..observe.access_log import AccessLog, Format
from ..observe.metrics import Metrics
from ..policy import Observer
from ..probes import Probes
from ..respond import ASGIApp
from . import complain, warn
from .listen import CannotListen, Served, addresses, is_loopback, listen, run
from .otlp import exporting

METRICS_PATH: Final = "/metrics"


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
) -> int:
    """Run until a signal ends it. Weak keys are let in where only this machine can call."""
    probes = Probes(ready=False)
    apps: list[Served] = []
    aside: list[Served] = []

    def ready() -> None:
        probes.ready = True
        print(says, file=sys.stderr, flush=True)

    def stopping() -> None:
        probes.ready = False

    with exporting(otlp) as traced:
        try:
            where = addresses(host)
            if log_replay and log_format != "json":
                raise ConfigurationError("--log-replay: it needs --log-format json")
            log = AccessLog(None if log_file is None else Path(log_file), format=log_format, replay=log_replay)
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
                observe=observe,
                allow_weak_keys=allow_weak_keys or all(map(is_loopback, where)),
                resolve=_resolves,
                warn=warn,
            )
            apps.append((app, listen(where, port)))
            says = f"listening on {_urls(apps)}"
            if metrics is not None and metrics_port is not None:
                aside.append((_at_metrics(metrics), listen(addresses(metrics_host), metrics_port)))
                says += f"; metrics on {_urls(aside, METRICS_PATH)}"
            if probe_port is not None:
                aside.append((probes, listen(where, probe_port)))
                says += f"; probes on {_urls(aside[-1:])}"
        except CannotListen as exc:
            for _, sockets in (*apps, *aside):
                for opened in sockets:
                    opened.close()
            return complain(str(exc), code=1)
        try:
            run(apps, ready, aside=aside, stopping=stopping, drain=drain, grace=grace)
        finally:
            log.close()
    return 0


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


def _urls(served: Sequence[Served], path: str = "") -> str:
    """Where it is, for people."""
    return ", ".join(_url(opened) + path for _, sockets in served for opened in sockets)


def _url(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
