"""The speed table's ratios, with bounds so generous that only a lost optimization can break them."""

import importlib.util
from pathlib import Path
from types import ModuleType


def bench() -> ModuleType:
    """The script `tests/bench/cel.py` as a module."""
    path = Path(__file__).parents[1] / "bench" / "cel.py"
    spec = importlib.util.spec_from_file_location("bench_cel", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_compiled_rules_cost_little_more_than_python_written_by_hand() -> None:
    script = bench()
    rows = [times for _, times in script.measure(rounds=7, count=300, interpreted=False)]
    ratio = dict(zip(script.COLUMNS, script.ratios(rows), strict=False))
    assert ratio["dicts"] < 3
    assert ratio["dicts, declared"] < 3
    assert ratio["Request"] < 6
    assert ratio["Request"] < 3 * ratio["lambda over a Request"]


def test_they_are_hundreds_of_times_faster_than_the_interpreter_of_cel_python() -> None:
    script = bench()
    rows = [times for _, times in script.measure(rounds=3, count=500, interpreted=True)]
    ratio = dict(zip(script.COLUMNS, script.ratios(rows), strict=True))
    assert ratio["cel-python"] > 200 * ratio["Request"]
