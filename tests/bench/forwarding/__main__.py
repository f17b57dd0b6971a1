"""One table: requests per second and CPU per request of each proxy, for each kind of traffic."""

import argparse
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentgate import new_key

from .servers import GATEWAY_CORE, OTHER_CORE, Server, free_port, missing_programs, nginx, started, uvicorn

APPS = "tests.bench.forwarding.apps"
SMALL = '{"message":"' + "x" * 176 + '"}'  # 190 bytes, 200 with the line's own


@dataclass(frozen=True)
class Load:
    """One kind of traffic."""

    name: str
    path: str
    connections: int


LOADS = (
    Load("200 B, 32 connections", "/small", 32),
    Load("200 B, 1 connection", "/small", 1),
    Load("200 B, 8 connections", "/small", 8),
    Load("200 B, 64 connections", "/small", 64),
    Load("100 KB, 16 connections", "/large", 16),
    Load("50 events at once, 8 connections", "/events", 8),
)

PEERS: dict[str, tuple[str, str | None]] = {  # what is to be imported for it, if anything, and its app
    "direct": ("", None),
    "nginx": ("", None),
    "agentgate, bare": ("", "gateway"),
    "agentgate, key + 3 rules + log": ("", "gateway_with_policies"),
    "raw ASGI + aiohttp": ("aiohttp", "raw_aiohttp"),
    "Starlette + httpx2.AsyncClient": ("httpx2", "starlette_httpx2"),
    "Starlette + httpx.AsyncClient": ("httpx", "starlette_httpx"),
}


@dataclass(frozen=True)
class Figures:
    """What one round gave: requests per second, microseconds of the proxy's CPU per request, median latency in ms."""

    rate: float
    cpu: float
    latency: float


@contextmanager
def upstream(folder: Path) -> Iterator[str]:
    """nginx with a small and a large answer, and with the event streams of another server behind the same port."""
    port, events = free_port(), free_port()
    (folder / "large").write_bytes(b"x" * 100_000)
    blocks = (
        f"upstream events {{ server 127.0.0.1:{events}; keepalive 64; }}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096;\n"
        f"location = /small {{ default_type application/json; return 200 '{SMALL}'; }}\n"
        f"location = /large {{ root {folder}; }}\n"
        "location = /events { proxy_pass http://events; proxy_http_version 1.1; proxy_set_header Connection '';"
        " proxy_buffering off; } }"
    )
    here = [sys.executable, "-m", "tests.bench.forwarding.events", str(events)]
    with started(here, events, OTHER_CORE), nginx(folder / "upstream", blocks, port, OTHER_CORE):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def nginx_proxy(folder: Path, upstream: str) -> Iterator[Server]:
    """nginx as the proxy."""
    port = free_port()
    blocks = (
        f"upstream up {{ server {upstream.removeprefix('http://')}; keepalive 256; keepalive_requests 1000000000; }}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://up;"
        " proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off; } }"
    )
    with nginx(folder / "proxy", blocks, port, GATEWAY_CORE) as server:
        yield server


def wrk(url: str, connections: int, seconds: int, key: str) -> tuple[float, float, int]:
    """Requests per second, median latency in milliseconds, and how many requests there were."""
    command = ["taskset", "-c", str(OTHER_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    output = subprocess.run(
        [*command, "-H", f"Authorization: Bearer {key}", url], check=True, capture_output=True, text=True
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])  # type: ignore[index]
    total = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    number, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", output).groups()  # type: ignore[union-attr]
    return rate, float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit], total


def measure(
    names: Sequence[str], loads: Sequence[Load], rounds: int, seconds: int, said: Callable[[str], None]
) -> dict[tuple[str, str], Figures]:
    """Medians of interleaved rounds, by peer and load."""
    key = new_key()
    found: dict[tuple[str, str], list[Figures]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        url = stack.enter_context(upstream(folder))
        env = {"UPSTREAM": url, "BENCH_KEY": key, "BENCH_LOG": str(folder / "access.log")}
        servers: dict[str, Server | None] = {}
        for name in names:
            needed, app = PEERS[name]
            if needed and importlib.util.find_spec(needed) is None:
                said(f"left out: {name}, as {needed} is not installed")
            elif name == "direct":
                servers[name] = None
            elif name == "nginx":
                servers[name] = stack.enter_context(nginx_proxy(folder, url))
            else:
                servers[name] = stack.enter_context(uvicorn(f"{APPS}:{app}", env))
        for load in loads:
            for number in range(rounds + 1):  # the first one warms up
                for name, server in servers.items():
                    before = server.cpu() if server is not None else 0.0
                    where = url if server is None else server.url
                    rate, latency, total = wrk(where + load.path, load.connections, seconds if number else 1, key)
                    used = server.cpu() - before if server is not None else 0.0
                    if number:
                        found.setdefault((name, load.name), []).append(Figures(rate, used / total * 1e6, latency))
            said(f"done: {load.name}")
        said(", ".join(f"{name}: {server.memory():.0f} MiB" for name, server in servers.items() if server is not None))
    return {
        place: Figures(
            *(statistics.median(getattr(one, field) for one in rows) for field in ("rate", "cpu", "latency"))
        )
        for place, rows in found.items()
    }


def table(figures: dict[tuple[str, str], Figures]) -> str:
    """As Markdown: a row for each peer, a column for each load."""
    loads = list(dict.fromkeys(load for _, load in figures))
    lines = ["| requests/s · CPU µs · median ms | " + " | ".join(loads) + " |", "|---" * (len(loads) + 1) + "|"]
    for name in dict.fromkeys(peer for peer, _ in figures):
        cells = []
        for load in loads:
            one = figures[name, load]
            cells.append(f"{one.rate:,.0f} · {one.cpu:.0f} · {one.latency:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=PEERS, help="this peer; may be repeated")
    parser.add_argument("--load", action="append", type=int, help="index of a kind of traffic; may be repeated")
    options = parser.parse_args()
    missing = missing_programs()
    if missing:
        sys.exit(f"nothing measured: {', '.join(missing)} not installed")
    loads = [LOADS[index] for index in options.load or range(len(LOADS))]
    os.environ.setdefault("PYTHONPATH", str(Path.cwd()))

    def said(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    print(table(measure(options.only or [*PEERS], loads, options.rounds, options.seconds, said)))


if __name__ == "__main__":
    main()
