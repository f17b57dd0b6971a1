"""One table for each kind of traffic: `http`, `llm` or `mcp`."""

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from agentgate import new_key

from . import upstreams
from .load import Load, measure, table
from .servers import Server, missing_programs, uvicorn

APPS = "tests.bench.forwarding.apps"


@dataclass(frozen=True)
class Subject:
    """What is compared: an upstream, the loads, and the apps in front of it with what each needs to be installed."""

    upstream: upstreams.Upstream
    loads: Sequence[Load]
    apps: Mapping[str, tuple[str, str]]
    nginx: bool = False


SUBJECTS = {
    "http": Subject(
        upstreams.http,
        (
            Load("200 B, 32 connections", "/small", 32),
            Load("200 B, 1 connection", "/small", 1),
            Load("200 B, 8 connections", "/small", 8),
            Load("200 B, 64 connections", "/small", 64),
            Load("100 KB, 16 connections", "/large", 16),
            Load("50 events at once, 8 connections", "/events", 8),
        ),
        {
            "agentgate, bare": ("gateway", "agentgate"),
            "agentgate, key + 3 rules + log + metrics": ("gateway_with_policies", "prometheus_client"),
            "raw ASGI + aiohttp": ("raw_aiohttp", "aiohttp"),
            "Starlette + httpx2.AsyncClient": ("starlette_httpx2", "httpx2"),
            "Starlette + httpx.AsyncClient": ("starlette_httpx", "httpx"),
        },
        nginx=True,
    ),
    "llm": Subject(
        upstreams.llm,
        (
            Load(
                "chat, 16 connections", "/v1/chat/completions", 16, upstreams.CHAT, {"content-type": "application/json"}
            ),
        ),
        {
            "agentgate, key + model rule": ("llm_gateway", "agentgate"),
            "FastAPI + httpx.AsyncClient": ("fastapi_llm", "fastapi"),
            "LiteLLM proxy": ("litellm_proxy", "litellm"),
        },
    ),
    "mcp": Subject(
        upstreams.mcp,
        (Load("tools/call, 8 connections", "/mcp", 8, upstreams.CALL, upstreams.CALL_HEADERS),),
        {
            "agentgate, key + tool rule": ("mcp_gateway", "agentgate"),
            "FastMCP create_proxy": ("fastmcp_proxy", "fastmcp"),
        },
    ),
}


def run(subject: Subject, only: Sequence[str], rounds: int, seconds: int, loads: Sequence[Load]) -> str:
    """Start everything, measure, and give the table."""
    key = new_key()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # nginx's worker reads from it
        direct = stack.enter_context(subject.upstream(folder))
        env = {"UPSTREAM": direct.url, "BENCH_KEY": key, "BENCH_LOG": str(folder / "access.log")}
        servers: dict[str, Server] = {"direct": direct}
        if subject.nginx:
            servers["nginx"] = stack.enter_context(upstreams.nginx_proxy(folder, direct.url))
        for name, (app, needed) in subject.apps.items():
            if only and name not in only:
                continue
            if importlib.util.find_spec(needed) is None:
                _say(f"left out: {name}, as {needed} is not installed")
                continue
            servers[name] = stack.enter_context(uvicorn(f"{APPS}:{app}", env))
        return table(measure(servers, loads, key=key, folder=folder, rounds=rounds, seconds=seconds, said=_say))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.forwarding", description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], metavar="PEER", help="this peer; may be repeated")
    parser.add_argument("--load", action="append", type=int, metavar="N", help="only the Nth load; may be repeated")
    options = parser.parse_args()
    missing = missing_programs()
    if missing:
        sys.exit(f"nothing measured: {', '.join(missing)} not installed")
    os.environ.setdefault("PYTHONPATH", str(Path.cwd()))
    subject = SUBJECTS[options.subject]
    loads = [subject.loads[number] for number in options.load or range(len(subject.loads))]
    print(run(subject, options.only, options.rounds, options.seconds, loads))


if __name__ == "__main__":
    main()
