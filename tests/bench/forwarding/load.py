"""Load: what is asked, of whom, and how fast it was answered. wrk asks."""

import json
import re
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .servers import OTHER_CORE, Server


@dataclass(frozen=True)
class Load:
    """One kind of traffic: requests for `path` over so many connections, POSTs of `body` if there is one."""

    name: str
    path: str
    connections: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """What one round gave: requests per second, microseconds of the proxy's CPU per request, median latency in ms."""

    rate: float
    cpu: float
    latency: float


def measure(
    servers: Mapping[str, Server],
    loads: Sequence[Load],
    *,
    key: str,
    folder: Path,
    rounds: int,
    seconds: int,
    said: Callable[[str], None],
) -> dict[tuple[str, str], Figures]:
    """Medians of interleaved rounds, by peer and load."""
    found: dict[tuple[str, str], list[Figures]] = {}
    for number, load in enumerate(loads):
        script = folder / f"load{number}.lua"
        script.write_text(_script(load, key))
        for turn in range(rounds + 1):  # the first one warms up
            for name, server in servers.items():
                before = server.cpu()
                rate, latency, total = wrk(server.url + load.path, load.connections, seconds if turn else 1, script)
                used = server.cpu() - before
                if turn:
                    found.setdefault((name, load.name), []).append(Figures(rate, used / total * 1e6, latency))
        said(f"done: {load.name}")
    said("; ".join(f"{name}: {server.memory():.0f} MiB" for name, server in servers.items()))
    return {place: _median(rows) for place, rows in found.items()}


def wrk(url: str, connections: int, seconds: int, script: Path) -> tuple[float, float, int]:
    """Requests per second, median latency in milliseconds, and how many requests there were. Raises `RuntimeError`
    when any of them failed."""
    command = ["taskset", "-c", str(OTHER_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    output = subprocess.run([*command, "-s", str(script), url], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{url}\n{output}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    total = re.search(r"(\d+) requests in", output)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", output)
    assert rate is not None
    assert total is not None
    assert median is not None
    return float(rate[1]), float(median[1]) * {"us": 0.001, "ms": 1, "s": 1000}[median[2]], int(total[1])


def table(figures: Mapping[tuple[str, str], Figures]) -> str:
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


def _median(rows: Sequence[Figures]) -> Figures:
    middle = [statistics.median(getattr(one, field) for one in rows) for field in ("rate", "cpu", "latency")]
    return Figures(*middle)


def _script(load: Load, key: str) -> str:
    headers = {"Authorization": f"Bearer {key}", **load.headers}
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    if load.body is not None:
        lines += ['wrk.method = "POST"', f"wrk.body = {json.dumps(json.dumps(load.body))}"]
    return "\n".join(lines) + "\n"
