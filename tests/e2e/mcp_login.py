# mypy: ignore-errors
# It runs with mcp 1.x and 2.x, which no type checker can follow at once.
"""An MCP client that is given a URL, and nothing else: `python mcp_login.py URL`. The SDK finds the login and gets a
token; this calls the tools and prints what they said, as JSON. Runs in an environment that has mcp alone."""

import asyncio
import json
import sys
from importlib.metadata import version
from urllib.parse import parse_qs, urlsplit

from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata

TWO = version("mcp").startswith("2.")
if TWO:
    import httpx2 as httpx
    from mcp import Client
    from mcp.shared.auth import AuthorizationCodeResult
else:
    import httpx

REDIRECT = "http://127.0.0.1:9/callback"  # nobody listens there: the answer is read off the redirect


class Memory:
    """Where the SDK keeps what it got."""

    tokens = None
    client_info = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client_info

    async def set_client_info(self, client_info):
        self.client_info = client_info


class Browser:
    """Opens the login page, and is sent back at once."""

    async def open(self, url):
        async with httpx.AsyncClient() as client:
            response = await client.get(url)
        self.answer = {
            name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()
        }

    async def callback(self):
        if TWO:
            return AuthorizationCodeResult(**self.answer)
        return self.answer["code"], self.answer["state"]


async def main(url):
    memory, browser = Memory(), Browser()
    provider = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(
            client_name="test", redirect_uris=[REDIRECT], grant_types=["authorization_code"], response_types=["code"]
        ),
        storage=memory,
        redirect_handler=browser.open,
        callback_handler=browser.callback,
    )
    said = {"version": version("mcp")}
    async with httpx.AsyncClient(auth=provider, timeout=20) as http:
        if TWO:
            async with Client(streamable_http_client(url, http_client=http)) as client:
                await use(client, said)
        else:
            async with (
                streamable_http_client(url, http_client=http) as (read, write, _),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                await use(session, said)
    said["scope"] = memory.tokens.scope
    sys.stdout.write(json.dumps(said) + "\n")


async def use(client, said):
    said["tools"] = sorted(tool.name for tool in (await client.list_tools()).tools)
    for name, arguments in (("add", {"a": 2, "b": 3}), ("whoami", {})):
        said[name] = (await client.call_tool(name, arguments)).content[0].text


asyncio.run(main(sys.argv[1]))
