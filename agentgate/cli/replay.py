"""`agentgate replay`: which calls of an access log Kubernetes documents would decide differently.

Nothing is served, sent or fetched, and no credential is looked at: recorded callers stand for themselves.
"""

import json
from collections.abc import Sequence

from ..audit.sources import check
from ..manifests import load_gateway
from ..observe.access_log import AccessLog
from ..replay.differences import replay_files
from ..replay.report import document, report
from .output import Progress, columns, show


def replay(
    logs: Sequence[str],
    files: Sequence[str],
    *,
    gateway: str | None,
    listener_port: int | None,
    public_url: str | None,
    as_json: bool,
) -> int:
    """Print the report, or the JSON document. Returns 1 where a call would be decided differently, else 0."""
    check(logs)
    posture = load_gateway(
        files,
        gateway=gateway,
        listener_port=listener_port,
        public_url=public_url,
        observe=[AccessLog(lambda line: None)],
        allow_weak_keys=True,  # nobody can call
        warn=lambda text: None,
    )
    with Progress() as progress:
        found = replay_files(logs, posture, progress)
    show([json.dumps(document(found))] if as_json else report(found, columns()))
    return 1 if found.changed else 0
