"""The proxies that are compared, each an ASGI app for uvicorn: `uvicorn tests.bench.forwarding.apps:NAME`.

They forward to the server at `UPSTREAM`, an address such as `http://127.0.0.1:9000`.
"""

import os
from collections.abc import Callable
from functools import cache
from typing import Any

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:9")
KEY = os.environ.get("BENCH_KEY", "")
LOG = os.environ.get("BENCH_LOG", os.devnull)

_DROPPED = frozenset({b"host", b"connection", b"keep-alive", b"transfer-encoding", b"content-length"})


def gateway() -> Any:
    """agentgate, one route, no policy: somebody has to look on, so that it is not nobody's gateway."""
    from agentgate import HTTPBackend, Route, create_gateway
    from agentgate.policy import Observer

    class Nobody(Observer):
        def end(self, token: Any, record: Any) -> None:
            pass

    return create_gateway(Route("/", HTTPBackend(UPSTREAM)), observe=[Nobody()])


def gateway_with_policies() -> Any:
    """agentgate with an API key, three CEL rules, metrics and the access log in a file."""
    from agentgate import APIKeyAuth, CELRules, HTTPBackend, Key, Metrics, Route, StaticKeys, create_gateway
    from agentgate.observe.access_log import AccessLog
    from agentgate.observe.line_writer import LineWriter

    rules = CELRules(
        allow={"readers": 'request.method == "GET" && apiKey.team == "bench"'},
        deny={"no admin": 'request.path.startsWith("/admin")'},
        require={"no long paths": "size(request.path) < 200"},
    )
    keys = StaticKeys([Key("bench", KEY, {"team": "bench"})])
    log = AccessLog(LineWriter(open(LOG, "a", encoding="utf-8")))  # noqa: SIM115  (for as long as the process runs)
    return create_gateway(
        Route("/", HTTPBackend(UPSTREAM)), authenticate=[APIKeyAuth(keys)], authorize=[rules], observe=[log, Metrics()]
    )


def starlette_httpx() -> Any:
    """What everybody writes: Starlette and `httpx.AsyncClient`."""
    import httpx
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    return Starlette(routes=[Route("/{path:path}", _client_recipe(httpx, Request, StreamingResponse, BackgroundTask))])


def starlette_httpx2() -> Any:
    """The same with httpx2."""
    import httpx2
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    return Starlette(routes=[Route("/{path:path}", _client_recipe(httpx2, Request, StreamingResponse, BackgroundTask))])


def _client_recipe(library: Any, request_class: Any, response_class: Any, task_class: Any) -> Callable[..., Any]:
    client = library.AsyncClient(base_url=UPSTREAM, timeout=None)

    async def proxy(request: Any) -> Any:
        url = library.URL(path=request.url.path, query=request.url.query.encode())
        headers = [(name, value) for name, value in request.headers.raw if name not in _DROPPED]
        onward = client.build_request(request.method, url, headers=headers, content=await request.body())
        response = await client.send(onward, stream=True)
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _DROPPED]
        answer = response_class(
            response.aiter_raw(), status_code=response.status_code, background=task_class(response.aclose)
        )
        answer.raw_headers = headers
        return answer

    proxy.__annotations__ = {"request": request_class}
    return proxy


def raw_aiohttp() -> Any:
    """Raw ASGI and aiohttp's client: what careful people write."""
    import aiohttp
    from yarl import URL

    @cache
    def session() -> Any:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, timeout=aiohttp.ClientTimeout()
        )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _no_lifespan(receive, send)
            if session.cache_info().currsize:
                await session().close()
            return
        body = (await receive()).get("body") or None
        headers = [(n.decode(), v.decode()) for n, v in scope["headers"] if n not in _DROPPED]
        url = URL(UPSTREAM + scope["raw_path"].decode(), encoded=True)
        async with session().request(scope["method"], url, headers=headers, data=body) as response:
            passed = [(n.lower(), v) for n, v in response.raw_headers if n.lower() not in _DROPPED]
            await send({"type": "http.response.start", "status": response.status, "headers": passed})
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    return app


async def _no_lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


# LLM.


def llm_gateway() -> Any:
    """agentgate in front of an LLM API: a key, and a rule about the model."""
    from agentgate import APIKeyAuth, CELRules, LLMBackend, Route, Secret, create_gateway

    rules = CELRules(allow={"cheap models": 'llm.requestModel.startsWith("gpt-4o")'})
    backend = LLMBackend(f"{UPSTREAM}/v1", credential=Secret("sk-upstream"))
    return create_gateway(Route("/v1", backend), authenticate=[APIKeyAuth({"bench": KEY})], authorize=[rules])


def fastapi_llm() -> Any:
    """What people write by hand: FastAPI, a key in a dictionary, `httpx.AsyncClient`."""
    import httpx
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.responses import JSONResponse

    app = FastAPI()
    client = httpx.AsyncClient(base_url=UPSTREAM, timeout=None)
    keys = {KEY: "bench"}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> JSONResponse:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        body = await request.json()
        if key not in keys:
            raise HTTPException(401)
        if not body["model"].startswith("gpt-4o"):
            raise HTTPException(403)
        answer = await client.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer sk-upstream"})
        return JSONResponse(answer.json(), answer.status_code)

    return app


def litellm_proxy() -> Any:
    """LiteLLM's proxy with a master key and one model."""
    import tempfile

    import yaml

    with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
        yaml.safe_dump(
            {
                "model_list": [
                    {
                        "model_name": "gpt-4o",
                        "litellm_params": {
                            "model": "openai/gpt-4o",
                            "api_base": f"{UPSTREAM}/v1",
                            "api_key": "sk-upstream",
                        },
                    }
                ],
                "general_settings": {"master_key": KEY},
            },
            file,
        )
    os.environ["CONFIG_FILE_PATH"] = file.name
    from litellm.proxy.proxy_server import app  # type: ignore[import-not-found]  # not in any extra: it is large

    return app


# MCP.


def mcp_server() -> Any:
    """A server with one tool."""
    from mcp.server import MCPServer

    server = MCPServer("bench")

    @server.tool()
    def add(a: int, b: int) -> str:
        return str(a + b)

    return server.streamable_http_app(stateless_http=True, json_response=True)


def mcp_gateway() -> Any:
    """agentgate in front of an MCP server: a key, and a rule about the tool."""
    from agentgate import APIKeyAuth, CELRules, MCPBackend, Route, create_gateway

    rules = CELRules(allow={"adding": 'mcp.tool.name == "add"'})
    backend = MCPBackend(f"{UPSTREAM}/mcp")
    return create_gateway(Route("/mcp", backend), authenticate=[APIKeyAuth({"bench": KEY})], authorize=[rules])


def fastmcp_proxy() -> Any:
    """FastMCP's proxy of a server."""
    from fastmcp.server import create_proxy

    return create_proxy(f"{UPSTREAM}/mcp").http_app(path="/mcp", stateless_http=True, json_response=True)
