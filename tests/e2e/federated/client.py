# mypy: ignore-errors
# It runs with mcp 1.x and mcp 2.x, which no type checker can follow at once.
"""An MCP client of a federation, made with `mcp` of either version: `python client.py URL KEY MODE`. It asks for what
there is, calls what it may and what it may not, answers when it is asked, and prints what became of it, as JSON."""

import asyncio
import json
import sys
import warnings
from importlib.metadata import version

from mcp.client.streamable_http import streamable_http_client

warnings.simplefilter("ignore")
URL, KEY, MODE = sys.argv[1:]
TWO = version("mcp").startswith("2.")
if TWO:
    import httpx2 as httpx
    from mcp import Client
    from mcp_types import ElicitResult
else:
    import httpx
    from mcp import ClientSession
    from mcp.types import ElicitResult
    from pydantic import AnyUrl

said = {}
told = []
asked = []


async def elicit(context, params):
    asked.append(params.message)
    return ElicitResult(action="accept", content={"name": KEY})


async def heard(message):
    message = getattr(message, "root", message)
    told.append(getattr(message, "method", type(message).__name__))
    if told[-1] == "notifications/resources/updated":
        told[-1] += " " + str(message.params.uri)


async def outcome(call):
    """The text that came back, or the error that did."""
    try:
        answer = await call
    except Exception as exc:
        return str(exc)
    while not isinstance(answer, str):
        for member in ("content", "contents", "messages", "text"):
            if isinstance(answer, list):
                answer = answer[0]
            answer = getattr(answer, member, answer)
    return answer


async def until(what):
    async with asyncio.timeout(20):
        while what not in told:
            await asyncio.sleep(0.01)


async def use(client):
    answer = await client.list_tools()
    said["tools"] = [tool.name for tool in answer.tools]
    said["missing"] = (answer.meta or {}).get("agentgate/unavailable")
    said["prompts"] = [prompt.name for prompt in (await client.list_prompts()).prompts]
    said["resources"] = [str(one.uri) for one in (await client.list_resources()).resources]
    templates = await client.list_resource_templates()
    said["templates"] = [
        one.uri_template if TWO else one.uriTemplate
        for one in (templates.resource_templates if TWO else templates.resourceTemplates)
    ]
    steps = []

    async def progress(step, total, message):
        steps.append([step, total])

    uri = (lambda text: text) if TWO else AnyUrl
    calls = {
        "docs": client.call_tool("docs_search", {"query": "x", "missing": None}),
        "tickets": client.call_tool("tickets_search", {"query": "y"}),
        "forbidden": client.call_tool("docs_drop_table", {}),
        "unknown": client.call_tool("nope_search", {}),
        "gone": client.call_tool("gone_search", {}),
        "remember": client.call_tool("tickets_remember", {"text": KEY}),
        "remembered": client.call_tool("tickets_remember", {"text": ""}),
        "sent": client.call_tool("docs_headers", {}),
        "slowly": client.call_tool("docs_slowly", {}, progress_callback=progress),
        "asked by docs": client.call_tool("docs_greet", {}),
        "asked by tickets": client.call_tool("tickets_greet", {}),
        "prompt": client.get_prompt("docs_summarise", {"topic": "x"}),
        "resource": client.read_resource(uri("docs+docs://guide")),
        "page": client.read_resource(uri("docs+docs://pages/7")),
        "hidden": client.read_resource(uri("tickets+tickets://open")),
        "completion": complete(client),
    }
    for name, call in calls.items():
        said[name] = await outcome(call)
    said["steps"], said["asked"] = steps, asked
    if MODE == "legacy":
        await client.call_tool("docs_change", {"uri": "docs://guide"})
        await until("notifications/tools/list_changed")
        await until("notifications/resources/updated docs+docs://guide")
    else:
        async with client.listen(tools_list_changed=True, resource_subscriptions=["docs+docs://guide"]) as events:
            await client.call_tool("docs_change", {"uri": "docs://other"})
            await client.call_tool("docs_change", {"uri": "docs://guide"})
            heard = set()
            async with asyncio.timeout(20):
                async for event in events:
                    heard.add(type(event).__name__ + " " + getattr(event, "uri", ""))
                    if len(heard) == 2:
                        break
            said["events"] = sorted(heard)
    said["told"] = sorted({line for line in told if "progress" not in line})


async def complete(client):
    if TWO:
        from mcp_types import PromptReference
    else:
        from mcp.types import PromptReference
    answer = await client.complete(
        PromptReference(type="ref/prompt", name="docs_summarise"), {"name": "topic", "value": "t"}
    )
    return " ".join(answer.completion.values)


async def main():
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=20) as http:
        if TWO:
            options = {"elicitation_callback": elicit, "message_handler": heard, "mode": MODE}
            async with Client(streamable_http_client(URL, http_client=http), **options) as client:
                said["version"], said["instructions"] = client.protocol_version, client.instructions
                await use(client)
        else:
            async with (
                streamable_http_client(URL, http_client=http) as (read, write, _),
                ClientSession(read, write, elicitation_callback=elicit, message_handler=heard) as session,
            ):
                answer = await session.initialize()
                said["version"], said["instructions"] = answer.protocolVersion, answer.instructions
                await use(session)


asyncio.run(main())
sys.stdout.write(json.dumps(said) + "\n")
