"""`agentgate check`: every fault of Kubernetes documents. No name is resolved, and nothing listens."""

from collections.abc import Sequence

from ..manifests import load_gateway
from ..observe.access_log import AccessLog
from . import warn


def check(
    files: Sequence[str],
    *,
    gateway: str | None,
    listener_port: int | None,
    public_url: str | None,
    allow_weak_keys: bool,
) -> int:
    """Say `ok`. Faults are raised, all of them at once."""
    unheard = AccessLog(lambda line: None)  # `serve` has a log as well, so a posture without a policy may be served
    load_gateway(
        files,
        gateway=gateway,
        listener_port=listener_port,
        public_url=public_url,
        observe=[unheard],
        allow_weak_keys=allow_weak_keys,
        warn=warn,
    )
    print("ok")
    return 0
