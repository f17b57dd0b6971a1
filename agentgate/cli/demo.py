"""`agentgate demo`: the tutorial's gateway on this machine alone, in front of an upstream of its own."""

import sys
from contextlib import ExitStack
from importlib.resources import as_file, files
from typing import Final

from ..manifests import load_gateway
from ..observe.access_log import AccessLog, Format
from ..observe.line_writer import LineWriter
from . import complain
from .httpbin import httpbin
from .listen import CannotListen, listen, run

DOCUMENTS: Final = ("httproute.yaml", "secret.yaml", "policy.yaml")
KEY: Final = "N2YwMDIxZTEtNGUzNS1jNzgzLTRkYjAtYjE2YzRkZGVmNjcy"  # the tutorial's, known to everybody
LOOPBACK: Final = "127.0.0.1"

_HINTS: Final = """\
curl -i localhost:{port}/headers -H "host: www.example.com"
curl -i localhost:{port}/headers -H "host: www.example.com" -H "Authorization: Bearer {key}"
"""


def demo(port: int, log_format: Format) -> int:
    """Run until a signal ends it."""
    try:
        upstream = listen([LOOPBACK], 0)
        front = listen([LOOPBACK], port)
    except CannotListen as exc:
        return complain(str(exc), code=1)
    log = LineWriter()
    with ExitStack() as stack:
        gateway = load_gateway(
            [stack.enter_context(as_file(files(__package__) / "tutorial" / name)) for name in DOCUMENTS],
            backends={"httpbin/httpbin:8000": f"http://{LOOPBACK}:{upstream[0].getsockname()[1]}"},
            observe=[AccessLog(log, format=log_format)],
            allow_weak_keys=True,  # the tutorial's key is published; only this machine can use it here
            warn=lambda text: None,
        )
    hints = _HINTS.format(port=front[0].getsockname()[1], key=KEY)
    try:
        run([(httpbin(), upstream), (gateway, front)], ready=lambda: print(hints, end="", file=sys.stderr, flush=True))
    finally:
        log.flush()
    return 0
