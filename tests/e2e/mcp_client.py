# mypy: ignore-errors
# It runs with mcp 1.x, mcp 2.x and fastmcp, which no type checker can follow at once.
"""An MCP client, made with `mcp` of either version or with `fastmcp`: `python mcp_client.py SDK URL KEY MODE`. It asks
for what there is, calls what it may and what it may not, and prints what became of it, as JSON."""

import asyncio
import json
import sys
from importlib.metadata import version

SDK, URL, KEY, MODE = sys.argv[1:]
TWO = version("mcp").startswith("2.")
FASTMCP = SDK == "fastmcp"

said = {}


def listed(answer, member):
    """FastMCP hands out the list, the SDK a result that has it."""
    return answer if isinstance(answer, list) else getattr(answer, member)


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


async def use(client):
    said["tools"] = sorted(tool.name for tool in listed(await client.list_tools(), "tools"))
    said["prompts"] = sorted(prompt.name for prompt in listed(await client.list_prompts(), "prompts"))
    said["resources"] = sorted(str(one.uri) for one in listed(await client.list_resources(), "resources"))
    name = "resource_templates" if TWO else "resourceTemplates"
    key = "uri_template" if TWO else "uriTemplate"
    said["templates"] = sorted(getattr(one, key) for one in listed(await client.list_resource_templates(), name))
    told = []

    async def progress(step, *_):
        told.append(step)

    if FASTMCP:
        counted = client.call_tool("count", {}, progress_handler=progress)
    else:
        counted = client.call_tool("count", {}, progress_callback=progress)
    said["count"] = await outcome(counted)
    said["progress"] = told
    said["drop_table"] = await outcome(client.call_tool("drop_table", {"name": "users"}))
    said["no tool"] = await outcome(client.call_tool("drop_everything", {}))
    said["prompt"] = await outcome(client.get_prompt("hello"))
    said["hidden prompt"] = await outcome(client.get_prompt("hidden"))
    for name, uri in (("resource", "file:///public/a"), ("any", "file:///public/b"), ("secret", "file:///secret")):
        said[name] = await outcome(client.read_resource(uri))
    said["afterwards"] = await outcome(client.call_tool("add", {"a": 2, "b": 3}))


async def main():
    if FASTMCP:
        from fastmcp import Client

        async with Client(URL, auth=KEY) as client:
            await use(client)
        return
    from mcp.client.streamable_http import streamable_http_client

    if TWO:
        import httpx2 as httpx
        from mcp import Client
    else:
        import httpx
        from mcp import ClientSession
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=20) as http:
        if TWO:
            async with Client(streamable_http_client(URL, http_client=http), mode=MODE) as client:
                await use(client)
        else:
            async with (
                streamable_http_client(URL, http_client=http) as (read, write, _),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                await use(session)


asyncio.run(main())
sys.stdout.write(json.dumps(said) + "\n")
