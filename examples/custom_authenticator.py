"""An authenticator of one's own: callers sign their name with a secret that they share with this app.

In this folder, with `pip install uvicorn`:

    export AGENT_KEY=$(openssl rand -hex 32)
    uvicorn custom_authenticator:app --port 8080 &
    SIGNED=$(python -c 'from custom_authenticator import sign; print(sign("billing"))')
    curl -i localhost:8080/ -H "x-caller: billing" -H "x-signature: $SIGNED"
"""

import hmac

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agentgate import (
    AccessLog,
    Authenticator,
    Decision,
    Gate,
    Header,
    Principal,
    Request,
    Secret,
    abstain,
    allow,
    deny,
)


def sign(caller: str) -> str:
    return hmac.new(Secret.env("AGENT_KEY").reveal().encode(), caller.encode(), "sha256").hexdigest()


class SignedName(Authenticator):
    location = Header("x-signature")  # removed once it was accepted: the app never sees it

    def check(self, request: Request) -> Decision:
        found = self.location.find(request)
        if not found:
            return abstain("signature missing")
        caller = request.headers.get("x-caller", "")
        if len(found) > 1 or not hmac.compare_digest(sign(caller).encode(), found[0]):
            return deny("signature invalid", status=401, code="invalid_credential", detail=f"for {caller!r}")
        return allow(Principal(caller, "signature"))


async def home(request: HTTPConnection) -> Response:
    return PlainTextResponse(f"hello {request.scope['agentgate'].principal.id}")


app = Starlette(
    routes=[Route("/", home)],
    middleware=[Middleware(Gate, authenticate=[SignedName()], observe=[AccessLog()])],
)
