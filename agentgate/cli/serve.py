"""`agentgate serve`: the gateway that Kubernetes documents describe. With a fault anywhere, nothing is started."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigurationError
from ..manifests import load_gateway
from ..observe.access_log import AccessLog, Format
from . import complain, warn
from .listen import CannotListen, addresses, is_loopback, listen, run


def serve(
    files: Sequence[str],
    *,
    host: str,
    port: int,
    backends: Sequence[str],
    gateway: str | None,
    public_url: str | None,
    log_format: Format,
    log_file: str | None,
    log_replay: bool,
    allow_weak_keys: bool,
) -> int:
    """Run until a signal ends it. Weak keys are let in where only this machine can call."""
    try:
        where = addresses(host)
        if log_replay and log_format != "json":
            raise ConfigurationError("--log-replay: it needs --log-format json")
        log = AccessLog(None if log_file is None else Path(log_file), format=log_format, replay=log_replay)
        app = load_gateway(
            files,
            backends=_backends(backends),
            gateway=gateway,
            public_url=public_url,
            observe=[log],
            allow_weak_keys=allow_weak_keys or all(map(is_loopback, where)),
            resolve=_resolves,
            warn=warn,
        )
        sockets = listen(where, port)
    except CannotListen as exc:
        return complain(str(exc), code=1)
    names = [f"http://{_authority(opened)}" for opened in sockets]
    try:
        run([(app, sockets)], ready=lambda: print(f"listening on {', '.join(names)}", file=sys.stderr, flush=True))
    finally:
        log.close()
    return 0


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


def _authority(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
