"""`agentgate demo`: the tutorial's gateway on this machine alone, in front of an upstream of its own; beside it a route
that wants a token, with one to try it with, and routes to a tool server, a model and an agent. What signs the token and
what those routes want is made at the start, and kept by nobody."""

import socket
import sys
import time
from contextlib import ExitStack
from importlib.resources import as_file, files
from typing import Final

from ..auth.jwt import JWTAuth
from ..manifests import load_gateway
from ..observe.access_log import AccessLog, Format
from ..proxy.backend import HTTPBackend
from ..proxy.gateway import create_gateway
from ..proxy.route import Route
from ..respond import ASGIApp
from ..testing import TokenIssuer
from . import complain
from .demo_agents import Keys, agent_routes, hints
from .echo_agent import echo_agent
from .fake_llm import fake_llm
from .httpbin import httpbin
from .listen import CannotListen, listen, run
from .tool_server import tool_server

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
        upstream, tools, model, agent = (listen([LOOPBACK], 0) for _ in range(4))
        front = listen([LOOPBACK], port)
    except CannotListen as exc:
        return complain(str(exc), code=1)
    service, agent_url, port = _url(upstream), _url(agent), front[0].getsockname()[1]
    with ExitStack() as stack:
        documents = load_gateway(
            [stack.enter_context(as_file(files(__package__) / "tutorial" / name)) for name in DOCUMENTS],
            backends={"httpbin/httpbin:8000": service},
            allow_weak_keys=True,  # the tutorial's key is published; only this machine can use it here
            warn=lambda text: None,
        )
    log = AccessLog(format=log_format)
    issuer = TokenIssuer(ISSUER, algorithm="EdDSA")
    keys = Keys.new()
    gateway = create_gateway(
        *documents.routes,
        _token_route(issuer, service),
        *agent_routes(keys, tools=f"{_url(tools)}/mcp", model=f"{_url(model)}/v1", agent=agent_url),
        observe=[log],
        public_url=f"http://localhost:{port}",
    )
    token = issuer.token({"sub": "demo", "aud": "demo", "exp": int(time.time()) + TOKEN_SECONDS})
    text = _HINTS.format(port=port, key=KEY, token=token) + hints(keys, port)
    apps: list[tuple[ASGIApp, list[socket.socket]]] = [
        (httpbin(), upstream),
        (tool_server(), tools),
        (fake_llm(), model),
        (echo_agent(agent_url), agent),
        (gateway, front),
    ]
    try:
        run(apps, ready=lambda: print(text, end="", file=sys.stderr, flush=True))
    finally:
        log.close()
    return 0


def _url(sockets: list[socket.socket]) -> str:
    return f"http://{LOOPBACK}:{sockets[0].getsockname()[1]}"


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
