"""Run: the mixed traffic, then the event streams, then the judgement and the report."""

import asyncio
import json
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from .book import Book
from .callers import Callers
from .judge import faults
from .plot import plot
from .processes import Gateway, Upstream, ending, open_files
from .streams import Streams
from .traffic import Traffic
from .watch import Rest, Watch, at_rest, growth, leftovers
from .words import Ledger

SPARE: Final = 500  # files of a process that are no stream's
RESTART_SECONDS: Final = 0.3  # that the upstream is away


@dataclass(frozen=True)
class Plan:
    """How much of everything. `growth`: how much more memory the last third of the traffic may take than the first."""

    requests: int
    seconds: float = math.inf  # for them
    connections: int = 48
    callers: int = 100
    tokens: int = 20  # callers who have tokens
    upstream_connections: int = 32
    streams: int = 10_000
    rounds: int = 3  # of events, one for each stream
    event_seconds: float = 4.0
    restarts: int = 5
    rotate_every: float = 2.0
    sample_every: float = 1.0
    growth: float = 0.05
    seed: int = 0


@dataclass
class Report:
    """What came of it: `faults` must be empty."""

    faults: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


class Run:
    """One run, in a folder of its own."""

    def __init__(self, plan: Plan, folder: Path, said: Callable[[str], None]) -> None:
        self.plan = plan
        self.folder = folder
        self.said = said
        self.report = Report()
        self.watch = Watch(plan.sample_every)
        self.book = Book(plan.requests + plan.streams)
        self.requests = 0  # that reached a gateway

    async def run(self) -> Report:
        size = self.book.size
        Ledger(self.folder / "ledger", size).close()
        callers = Callers(self.folder, self.plan.callers, tokens=self.plan.tokens, seed=self.plan.seed)
        issuer = await callers.publish()
        jwks = f"http://127.0.0.1:{issuer.sockets[0].getsockname()[1]}/jwks"
        rotating = [
            asyncio.create_task(callers.rotate_keys(self.plan.rotate_every, at_once=5)),
            asyncio.create_task(callers.rotate_tokens()),
        ]
        logs: list[Path] = []
        try:
            with ExitStack() as stack:
                upstream = Upstream(self.folder, size, event_seconds=self.plan.event_seconds)
                stack.enter_context(ending(upstream))
                logs += await self._traffic(callers, upstream, jwks)
                if self.plan.streams:
                    logs += await self._streams(callers, upstream, jwks)
        finally:
            for task in rotating:
                if task.done():
                    task.result()
                task.cancel()
            await asyncio.gather(*rotating, return_exceptions=True)
            issuer.close()
        ledger = Ledger(self.folder / "ledger", size)
        self.report.faults += faults(self.book, ledger, logs, self.requests, self.folder)
        ledger.close()
        self.report.figures |= {
            "outcomes": self.book.totals,
            "scenes": dict(self.book.scenes.most_common()),
            "credentials replaced": callers.rotations,
            "revoked credentials tried": self.book.tried,
            "signing keys": callers.issued,
        }
        self._write()
        return self.report

    async def _traffic(self, callers: Callers, upstream: Upstream, jwks: str) -> list[Path]:
        plan = self.plan
        gateway = Gateway(self.folder, "traffic", upstream.url, jwks, connections=plan.upstream_connections)
        with ending(gateway):
            before = await at_rest(gateway)
            traffic = Traffic(
                self.book, callers, gateway.port, seed=plan.seed, until=plan.requests, seconds=plan.seconds
            )
            crashing = asyncio.create_task(self._crash(upstream, traffic))
            began = time.monotonic()
            async with self.watch.over("traffic", [gateway]):
                await traffic.run(plan.connections)
            took, requests = time.monotonic() - began, self.book.next
            await crashing
            after = await self._rest("traffic", gateway, before)
            self.requests += after.requests
            first, last = growth(self.watch.of("traffic"))
            self.report.figures |= {
                "requests": requests,
                "seconds": round(took, 1),
                "requests per second": round(requests / took),
                "MiB, first third": round(first, 1),
                "MiB, last third": round(last, 1),
                "objects before and after": [before.objects, after.objects],
                "upstream crashes": plan.restarts,
            }
            if last > first * (1 + plan.growth):
                self.report.faults.append(f"memory grew from {first:.1f} to {last:.1f} MiB")
            self.said(f"traffic: {self.report.figures}")
        return [gateway.log]

    async def _crash(self, upstream: Upstream, traffic: Traffic) -> None:
        """Kill the upstream now and then, spread over the traffic, and start it again."""
        for number in range(self.plan.restarts):
            while traffic.progress < (number + 1) / (self.plan.restarts + 1):
                await asyncio.sleep(0.05)
            traffic.crashes += 1
            upstream.kill()
            await asyncio.sleep(RESTART_SECONDS)
            upstream.start()
            await asyncio.to_thread(upstream.ready)

    async def _streams(self, callers: Callers, upstream: Upstream, jwks: str) -> list[Path]:
        """As many gateways as it takes: a stream is two sockets, and a process may not have any number of them."""
        plan = self.plan
        each = (open_files() - SPARE) // 2
        count = -(-plan.streams // each)
        gateways: list[Gateway] = []
        with ExitStack() as stack:
            for number in range(count):
                gateways.append(Gateway(self.folder, f"streams-{number}", upstream.url, jwks, connections=1))
                stack.enter_context(ending(gateways[-1]))
            before = [await at_rest(gateway) for gateway in gateways]
            idle = await self.watch.take("streams", gateways)
            streams = Streams(
                self.book, callers, gateways, count=plan.streams, rounds=plan.rounds, seconds=plan.event_seconds
            )
            async with self.watch.over("streams", gateways):
                await streams.open()
                self.said(f"streams: {streams.alive} open after {streams.opening:.1f} s")
                await streams.stay()
                alive = streams.alive
                full = await self.watch.take("streams", gateways)
                streams.leave()
                await streams.break_off(upstream)
            for gateway, was in zip(gateways, before, strict=True):
                after = await self._rest("streams", gateway, was)
                self.requests += after.requests
            await self.watch.take("streams", gateways)
        if alive != plan.streams:
            self.report.faults.append(f"{alive} of {plan.streams} streams were alive")
        self.report.figures |= {
            "streams open at once": alive,
            "gateways for them": count,
            "seconds to open them": round(streams.opening, 1),
            "events in all": sum(stream.events for stream in streams.streams),
            "KiB for each": round((full.rss - idle.rss) * 1024 / max(alive, 1), 1),
        }
        self.said("streams: closed")
        return [gateway.log for gateway in gateways]

    async def _rest(self, phase: str, gateway: Gateway, before: Rest) -> Rest:
        after = await at_rest(gateway, before)
        self.report.faults += [f"{phase}, at rest: {fault}" for fault in leftovers(before, after)]
        if not gateway.alive:
            self.report.faults.append(f"{phase}: the gateway has ended: {gateway.output.read_text()[-2000:]}")
        return after

    def _write(self) -> None:
        self.watch.write(self.folder / "samples.csv")
        plot(self.watch.samples, self.folder / "soak.svg")
        report = {"plan": asdict(self.plan), **self.report.figures, "faults": self.report.faults}
        (self.folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
