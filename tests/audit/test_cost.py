"""What a line costs stays where it is: coarse bounds that a noisy machine does not break."""

import json
import time
import tracemalloc
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from agentgate.audit.findings import Findings, find
from agentgate.audit.names import keys_of

from .day import day

ROUNDS = 4


def counted(path: Path) -> Findings:
    return find([str(path)], keys_of("principal,called"), since=None, until=None, told=lambda done, size: None)


def seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def written(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_a_line_costs_little_more_than_to_read_it_as_json(tmp_path: Path) -> None:
    """Twice as much, when this was written."""
    lines = list(day(2000, "json"))
    files = [written(tmp_path / "json.log", lines), written(tmp_path / "text.log", day(2000))]
    parsed = seconds(lambda: [json.loads(line) for line in lines if line.startswith("{")])
    for file in files:
        assert seconds(partial(counted, file)) < 5 * parsed, file.name


def test_memory_is_for_names_not_for_lines(tmp_path: Path) -> None:
    names = written(
        tmp_path / "names.log",
        (
            f"2026-11-24T10:00:00.000000Z\tinfo\trequest principal={'p' * 100}{number} gen_ai.tool.name=t{number} "
            f"reason=MCP rule=r{number} duration={number}ms"
            for number in range(5_000)
        ),
    )
    tracemalloc.start()
    try:
        found = counted(names)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.tally.total.calls == 5_000
    assert peak < 16 * 2**20
