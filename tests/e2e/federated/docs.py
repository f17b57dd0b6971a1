"""A server of the `mcp` SDK 2.x, which speaks both eras: `uvicorn tests.e2e.federated.docs:app`."""

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import Completion, CompletionArgument, ElicitResult, InputRequiredResult
from pydantic import BaseModel

server = MCPServer("docs", instructions="Ask for documents.")


class Name(BaseModel):
    name: str


@server.tool()
def search(query: str, missing: str | None = None) -> str:
    """Find documents."""
    return f"docs found {query}, {missing}"


@server.tool()
def drop_table() -> str:
    """Nobody should."""
    return "dropped"


@server.tool()
async def slowly(ctx: Context, steps: int = 3) -> str:
    """Tells how far it is."""
    for step in range(steps):
        await ctx.report_progress(step + 1, steps)
        await anyio.sleep(0.01)
    return "done"


@server.tool()
async def headers(ctx: Context) -> str:
    """What it was sent."""
    return "\n".join(f"{name}: {value}" for name, value in (ctx.headers or {}).items())


@server.tool()
async def greet(ctx: Context) -> str | InputRequiredResult:
    """Asks the user for a name, in the way of the revision that it is spoken to in."""
    if ctx.protocol_version == "2026-07-28":
        answer = (ctx.input_responses or {}).get("name")
        if answer is None:
            return InputRequiredResult.model_validate(
                {
                    "inputRequests": {
                        "name": {
                            "method": "elicitation/create",
                            "params": {"message": "Your name?", "requestedSchema": Name.model_json_schema()},
                        }
                    },
                    "requestState": "asked",
                }
            )
        assert isinstance(answer, ElicitResult)
        assert answer.content is not None
        return f"Hello, {answer.content['name']}! ({ctx.request_state})"
    told = await ctx.elicit("Your name?", Name)
    return f"Hello, {told.data.name if told.action == 'accept' else 'nobody'}!"


@server.tool()
async def change(ctx: Context, uri: str) -> str:
    """Says that a document is another, and that there are other tools: as either era hears of it."""
    await ctx.session.send_resource_updated(uri)
    await ctx.session.send_tool_list_changed()
    await ctx.notify_resource_updated(uri)
    await ctx.notify_tools_changed()
    return "changed"


@server.prompt()
def summarise(topic: str) -> str:
    """Summarise documents."""
    return f"Summarise what the documents say about {topic}"


@server.resource("docs://guide", name="guide")
def guide() -> str:
    """The guide."""
    return "the guide"


@server.resource("docs://pages/{number}", name="page")
def page(number: str) -> str:
    """A page."""
    return f"page {number}"


@server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
async def topics(ref: object, argument: CompletionArgument, context: object) -> Completion:
    return Completion(values=["tables", "trees"])


app = server.streamable_http_app()
