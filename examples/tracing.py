"""An app whose requests are traced, what was decided included: one line for each span, in place of a collector.

In this folder, with `pip install uvicorn opentelemetry-sdk`:

    export AGENT_KEY=$(openssl rand -hex 32)
    uvicorn tracing:app --port 8080 &
    curl -si localhost:8080/items/7
    curl -si localhost:8080/items/7 -H "Authorization: Bearer $AGENT_KEY"
"""

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agentgate import APIKeyAuth, Gate, Secret, Tracing


async def item(request: Request) -> Response:
    return PlainTextResponse("hello")


def line(span: ReadableSpan) -> str:
    said = span.attributes or {}
    shown = ", ".join(str(said[name]) for name in ("http.response.status_code", "agentgate.decision"))
    return f"{span.name}: {shown}\n"


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=line)))

app = Starlette(
    routes=[Route("/items/{id:int}", item)],
    middleware=[
        Middleware(
            Gate,
            authenticate=[APIKeyAuth({"agent": Secret.env("AGENT_KEY")})],
            observe=[Tracing(provider=provider)],
        )
    ],
)
