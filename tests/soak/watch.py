"""Watch: what is sampled of the gateways while they work, and once they are at rest."""

import asyncio
import csv
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from .processes import Gateway

REST_SECONDS: Final = 20.0  # for what ends by a timeout; at rest is what has stayed the same


@dataclass(frozen=True)
class Sample:
    """Of all gateways together. `seconds` since the run began; `lag` in milliseconds, until all probes had answered;
    `rss` in MiB; connections are those to the upstream."""

    seconds: float
    phase: str
    lag: float
    rss: float
    files: int
    tasks: int
    open: int
    idle: int
    waiting: int
    requests: int


@dataclass(frozen=True)
class Rest:
    """A gateway that has nothing to do."""

    files: int
    tasks: int
    open: int
    requests: int
    of_requests: dict[str, int]
    objects: int


class Watch:
    """Samples, in order."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.samples: list[Sample] = []
        self._began = time.monotonic()

    @asynccontextmanager
    async def over(self, phase: str, gateways: Sequence[Gateway]) -> AsyncIterator[None]:
        """Sample these gateways while the block runs."""
        over = asyncio.Event()
        task = asyncio.create_task(self._sample(phase, gateways, over))
        try:
            yield
        finally:
            over.set()  # not cancelled: the probe's answer would be left for the next who asks
            await task

    async def _sample(self, phase: str, gateways: Sequence[Gateway], over: asyncio.Event) -> None:
        while not over.is_set():
            await self.take(phase, gateways)
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), self.every)

    async def take(self, phase: str, gateways: Sequence[Gateway]) -> Sample:
        asked = time.monotonic()
        said = [await gateway.ask() for gateway in gateways]
        lag = time.monotonic() - asked
        sample = Sample(
            seconds=round(time.monotonic() - self._began, 2),
            phase=phase,
            lag=round(lag * 1000, 1),
            rss=round(sum(gateway.memory() for gateway in gateways) / 2**20, 2),
            files=sum(gateway.files() for gateway in gateways),
            **{name: sum(one[name] for one in said) for name in ("tasks", "open", "idle", "waiting", "requests")},
        )
        self.samples.append(sample)
        return sample

    def of(self, phase: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.phase == phase]

    def write(self, path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
            writer.writeheader()
            writer.writerows(asdict(sample) for sample in self.samples)


async def at_rest(gateway: Gateway, before: Rest | None = None) -> Rest:
    """The gateway, when it has come to rest: as it was `before`, or when `REST_SECONDS` are over."""
    give_up = time.monotonic() + REST_SECONDS
    while True:
        rest = await _rest(gateway)
        if before is None or time.monotonic() > give_up or not leftovers(before, rest):
            return rest
        await asyncio.sleep(0.25)


async def _rest(gateway: Gateway) -> Rest:
    census: dict[str, Any] = await gateway.ask("census")
    now = await gateway.ask()
    return Rest(
        files=gateway.files(),
        tasks=now["tasks"],
        open=now["open"],
        requests=now["requests"],
        of_requests=census["of_requests"],
        objects=census["objects"],
    )


def leftovers(before: Rest, after: Rest) -> list[str]:
    """What a gateway at rest still has of its work."""
    found = []
    for name in ("files", "tasks", "open"):
        was, now = getattr(before, name), getattr(after, name)
        if now > was:
            found.append(f"{now - was} more {name} than before")
    return found + [f"{count} of {name} are left" for name, count in sorted(after.of_requests.items())]


def growth(samples: Sequence[Sample]) -> tuple[float, float]:
    """Median memory, in MiB, of the first and of the last third of what comes after the first tenth, which warms up."""
    warm = samples[len(samples) // 10 :]
    third = max(1, len(warm) // 3)
    first, last = warm[:third], warm[-third:]
    return statistics.median(one.rss for one in first), statistics.median(one.rss for one in last)
