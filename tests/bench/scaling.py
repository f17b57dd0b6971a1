"""How the cost of a request grows: with routes, keys, rules, open streams and workers.

Run it: `python -m tests.bench.scaling`; `--plots FOLDER` draws what was measured. All but the last figures are
CPU time of one process, in rounds that take turns, so that a machine that drifts does so for all sizes. Workers are
measured with wrk over sockets, shortly; a machine with few cores measures itself with them, so look at CPU per request.
"""

import argparse
import asyncio
import gc
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import uvloop

from agentgate import (
    APIKeyAuth,
    CELRules,
    Exact,
    HTTPBackend,
    Key,
    PoolTransport,
    Regex,
    Route,
    StaticKeys,
    allow,
    authorizer,
    create_gateway,
    hash_key,
    new_key,
)
from agentgate.protocols.protocol import Protocol
from agentgate.proxy.gateway import Gateway
from agentgate.respond import ASGIApp

Figures = dict[int, float]
"""Microseconds of CPU, by size."""

ROUNDS = 15
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY)


class Answer:
    """A backend that answers at once, in this process."""

    protocol: Protocol | None = None
    name = "answer"
    mounts = False

    def __init__(self) -> None:
        self.app: ASGIApp = answer

    async def aclose(self) -> None:
        pass


@authorizer
def yes(request: object) -> Any:
    return allow()


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: object) -> None:
    pass


def scope(path: str, key: str | None = None) -> dict[str, Any]:
    headers = [(b"host", b"www.example.com"), (b"user-agent", b"curl/8.5.0"), (b"accept", b"*/*")]
    if key is not None:
        headers.append((b"authorization", b"Bearer " + key.encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 53122),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "state": {},
    }


Asked = tuple[Gateway, Callable[[], dict[str, Any]]]
"""A gateway, and what makes a request for it."""


def of_routes(size: int) -> Asked:
    routes = [Route(f"/tenants/{n}", Answer(), name=f"t{n}") for n in range(size // 2)]
    routes += [Route(Exact(f"/tenants/{n}/status"), Answer(), name=f"s{n}") for n in range(size - size // 2)]
    return create_gateway(*routes, authorize=[yes]), lambda: scope(f"/tenants/{random.randrange(size // 2)}/a/b")


def of_patterns(size: int) -> Asked:
    routes = [Route(Regex(f"/tenants/{n}/[a-z/]+"), Answer(), name=f"t{n}") for n in range(size)]
    return create_gateway(*routes, authorize=[yes]), lambda: scope(f"/tenants/{random.randrange(size)}/a/b")


def of_keys(size: int) -> Asked:
    some = [new_key() for _ in range(10)]
    known = [hash_key(key) for key in some] + [f"sha256:{random.randbytes(32).hex()}" for _ in range(size - 10)]
    keys = StaticKeys([Key(f"user-{number}", hash) for number, hash in enumerate(known)])
    gateway = create_gateway(Route("/", Answer()), authenticate=[APIKeyAuth(keys)])
    return gateway, lambda: scope("/", random.choice(some))


def of_rules(size: int) -> Asked:
    rules = {f"r{n}": f'request.path.startsWith("/tenants/{n}/") && request.method == "GET"' for n in range(size)}
    gateway = create_gateway(Route("/", Answer()), authorize=[CELRules(allow=rules)])
    return gateway, lambda: scope(f"/tenants/{size - 1}/a/b")  # the last one says yes


KINDS: Mapping[str, tuple[Callable[[int], Asked], Sequence[int], str]] = {
    "routes": (of_routes, (10, 100, 1000, 10_000), "prefixes and exact paths of one host"),
    "patterns": (of_patterns, (10, 100, 1000), "routes by regular expression"),
    "keys": (of_keys, (10, 1000, 100_000, 1_000_000), "API keys, known by their hashes"),
    "rules": (of_rules, (1, 10, 100, 1000), "CEL rules, of which the last one allows"),
}


async def _round(asked: Asked, requests: int) -> float:
    gateway, made = asked
    scopes = [made() for _ in range(requests)]
    started = time.process_time_ns()
    for one in scopes:
        await gateway(one, receive, send)
    return (time.process_time_ns() - started) / requests / 1000


async def measure(kind: str, sizes: Sequence[int], rounds: int = ROUNDS) -> Figures:
    """Medians of rounds that take turns."""
    make = KINDS[kind][0]
    gateways = {size: make(size) for size in sizes}
    gc.collect()
    gc.freeze()  # what is there for good is not looked through again and again, as in `agentgate serve --workers`
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for asked in gateways.values():
        await _round(asked, 50)
    for _ in range(rounds):
        for size, asked in gateways.items():
            times[size].append(await _round(asked, 100 if kind in ("rules", "patterns") else 1000))
    gc.unfreeze()
    return {size: statistics.median(values) for size, values in times.items()}


# -- open streams ------------------------------------------------------------------------------------------------------

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"data: " + b"x" * 50 + b"\n\n"
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)


class Streams(asyncio.Protocol):
    """The upstream, a process of its own: each request opens a stream, and a full stop has an event sent to all."""

    open: set[asyncio.WriteTransport] = set()  # noqa: RUF012  one for all

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data == b".":
            for stream in self.open:
                stream.write(CHUNK)
        else:
            self.open.add(self.transport)
            self.transport.write(STREAM)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.discard(self.transport)


async def _be_upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Streams, "127.0.0.1", 0, backlog=20_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def upstream() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, __file__, "--upstream"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def streams(size: int, rounds: int = 5) -> tuple[float, float, float]:
    """Microseconds of CPU per event, KiB per stream, and the CPU of a second in which nothing happens, in ms."""
    arrived = 0
    enough = asyncio.Event()
    wanted = 0

    async def count(message: Any) -> None:
        nonlocal arrived
        arrived += message["type"] == "http.response.start" or bool(message.get("body"))
        if arrived >= wanted:
            enough.set()

    async def silent() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    def asking() -> Callable[[], Awaitable[Any]]:
        first = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Any:
            return next(first, None) or await silent()

        return receive

    with upstream() as port, socket.create_connection(("127.0.0.1", port)) as control:
        backend = HTTPBackend(
            f"http://127.0.0.1:{port}", transport=PoolTransport(max_connections=size + 10, max_waiting=size)
        )
        gateway = create_gateway(Route("/", backend), authorize=[yes])
        before, wanted = _memory(), 0
        tasks = []
        for start in range(0, size, 500):
            enough.clear()
            wanted = min(start + 500, size)
            tasks += [asyncio.create_task(gateway(scope("/stream"), asking(), count)) for _ in range(start, wanted)]
            await enough.wait()
        memory = (_memory() - before) / size
        times = []
        for _ in range(rounds):
            enough.clear()
            wanted = arrived + size
            started = time.process_time_ns()
            control.sendall(b".")
            await enough.wait()
            times.append((time.process_time_ns() - started) / size / 1000)
        started = time.process_time_ns()
        await asyncio.sleep(1)
        idle = (time.process_time_ns() - started) / 1e6
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await gateway.aclose()
    return statistics.median(times), memory, idle


def _streams(size: int) -> tuple[float, float, float]:
    return uvloop.run(streams(size))


def _memory() -> float:
    """KiB that the process holds."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024


# -- workers -----------------------------------------------------------------------------------------------------------

DOCUMENTS = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: gateway}]
  rules:
  - backendRefs: [{name: web, port: 80}]
---
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {name: keys}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gateway}]
  traffic:
    apiKeyAuthentication: {secretRef: {name: keys}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {alice: KEY}
"""


def workers(counts: Sequence[int], rounds: int, seconds: int) -> dict[str, tuple[float, float]]:
    """Requests per second, and microseconds of the gateway's CPU per request, by the number of workers: with a key and
    an access log, 200 bytes over 32 connections."""
    from tests.bench.forwarding import upstreams
    from tests.bench.forwarding.load import Load
    from tests.bench.forwarding.load import measure as measured
    from tests.bench.forwarding.servers import CORES, Server, free_port, started

    key = new_key()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        direct = stack.enter_context(upstreams.http(folder))
        (folder / "gateway.yaml").write_text(DOCUMENTS.replace("KEY", key))
        servers: dict[str, Server] = {"direct": direct}
        for count in counts:
            port = free_port()
            command = [
                *(sys.executable, "-c", "import sys; from agentgate.cli import main; sys.exit(main())", "serve"),
                *(str(folder / "gateway.yaml"), "--port", str(port), "--workers", str(count)),
                *("--backend", f"default/web:80={direct.url}", "--log-file", str(folder / f"{count}.log")),
            ]
            servers[f"{count}"] = stack.enter_context(started(command, port, *CORES[:count]))
        load = Load("200 B, 32 connections", "/small", 32)
        figures = measured(
            servers, [load], key=key, folder=folder, rounds=rounds, seconds=seconds, said=lambda text: None
        )
        return {peer: (found.rate, found.cpu) for (peer, _), found in figures.items()}


# -- all of it ---------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=[*KINDS, "streams", "workers"], default=[])
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 10, 100, 1000, 10_000])
    parser.add_argument("--plots", type=Path, metavar="FOLDER")
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        asyncio.run(_be_upstream())
        return
    wanted = options.only or [*KINDS, "streams", "workers"]
    curves: dict[str, Figures] = {}
    for kind in KINDS:
        if kind in wanted:
            curves[kind] = asyncio.run(measure(kind, KINDS[kind][1]))
            print(f"\n| {KINDS[kind][2]} | µs per request |\n| ---: | ---: |")
            print("\n".join(f"| {size:,} | {cost:.1f} |" for size, cost in curves[kind].items()), flush=True)
    if "streams" in wanted:
        print("\n| open streams | µs per event | KiB per stream | ms of CPU in an idle second |")
        print("| ---: | ---: | ---: | ---: |")
        curves["open streams"] = {}
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        for size in options.streams:
            if size + 100 > most:
                print(f"left out: {size:,} streams, as there may be no more than {most:,} open files", file=sys.stderr)
                continue
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:  # whose memory is its own
                event, memory, idle = fresh.submit(_streams, size).result()
            curves["open streams"][size] = event
            print(f"| {size:,} | {event:.1f} | {memory:.1f} | {idle:.1f} |", flush=True)
    if "workers" in wanted:
        print("\n| workers | requests per second | µs of CPU per request |\n| --- | ---: | ---: |")
        for peer, (rate, cpu) in workers((1, 2), 3, 2).items():
            print(f"| {peer} | {rate:,.0f} | {cpu:.0f} |", flush=True)
    if options.plots is not None:
        from tests.bench import plot

        plot.write(options.plots, curves)


if __name__ == "__main__":
    main()
