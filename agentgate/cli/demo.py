"""`agentgate demo`: the tutorial's gateway on this machine alone, in front of an upstream of its own; and beside it a
route that wants a token, with one to try it with. The key that signs it is made at the start, and kept by nobody."""

import sys
import time
from contextlib import ExitStack
from importlib.resources import as_file, files
from typing import Final

from ..auth.jwt import JWTAuth
from ..manifests import load_gateway
from ..observe.access_log import AccessLog, Format
from ..observe.line_writer import LineWriter
from ..proxy.backend import HTTPBackend
from ..proxy.gateway import create_gateway
from ..proxy.route import Route
from ..testing import TokenIssuer
from . import complain
from .httpbin import httpbin
from .listen import CannotListen, listen, run

DOCUMENTS: Final = ("httproute.yaml", "secret.yaml", "policy.yaml")
KEY: Final = "N2YwMDIxZTEtNGUzNS1jNzgzLTRkYjAtYjE2YzRkZGVmNjcy"  # the tutorial's, known to everybody
LOOPBACK: Final = "127.0.0.1"
ISSUER: Final = "https://demo.invalid"
TOKEN_SECONDS: Final = 3600

_HINTS: Final = """\
curl -i localhost:{port}/headers -H "host: www.example.com"
curl -i localhost:{port}/headers -H "host: www.example.com" -H "Authorization: Bearer {key}"
curl -i localhost:{port}/headers -H "host: jwt.example.com" -H "Authorization: Bearer {token}"
"""


def demo(port: int, log_format: Format) -> int:
    """Run until a signal ends it."""
    try:
        upstream = listen([LOOPBACK], 0)
        front = listen([LOOPBACK], port)
    except CannotListen as exc:
        return complain(str(exc), code=1)
    service = f"http://{LOOPBACK}:{upstream[0].getsockname()[1]}"
    with ExitStack() as stack:
        documents = load_gateway(
            [stack.enter_context(as_file(files(__package__) / "tutorial" / name)) for name in DOCUMENTS],
            backends={"httpbin/httpbin:8000": service},
            allow_weak_keys=True,  # the tutorial's key is published; only this machine can use it here
            warn=lambda text: None,
        )
    log = LineWriter()
    issuer = TokenIssuer(ISSUER, algorithm="EdDSA")
    gateway = create_gateway(
        *documents.routes, _token_route(issuer, service), observe=[AccessLog(log, format=log_format)]
    )
    token = issuer.token({"sub": "demo", "aud": "demo", "exp": int(time.time()) + TOKEN_SECONDS})
    hints = _HINTS.format(port=front[0].getsockname()[1], key=KEY, token=token)
    try:
        run([(httpbin(), upstream), (gateway, front)], ready=lambda: print(hints, end="", file=sys.stderr, flush=True))
    finally:
        log.flush()
    return 0


def _token_route(issuer: TokenIssuer, service: str) -> Route:
    tokens = JWTAuth(
        issuer=issuer.issuer, audience="demo", jwks=issuer.jwks, identity_headers={"x-agent-subject": "sub"}
    )
    return Route(
        "/",
        HTTPBackend(service, preserve_host=True),
        hosts=["jwt.example.com"],
        authenticate=[tokens],
        name="httpbin/jwt",
    )
