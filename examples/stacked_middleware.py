"""One middleware of each kind, the way Starlette users stack them: they share one Record per request.

In this folder, with `pip install uvicorn`:

    export AGENT_KEY=$(openssl rand -hex 32)
    uvicorn stacked_middleware:app --port 8080 &
    curl -i localhost:8080/
    curl -i localhost:8080/ -H "Authorization: Bearer $AGENT_KEY"
"""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agentgate import AccessLogMiddleware, APIKeyMiddleware, Secret


async def home(request: Request) -> Response:
    return PlainTextResponse("hello")


app = Starlette(
    routes=[Route("/", home)],
    middleware=[
        Middleware(AccessLogMiddleware, format="json"),  # outermost, so that it sees what the next one refuses
        Middleware(APIKeyMiddleware, {"agent": Secret.env("AGENT_KEY")}),
    ],
)
