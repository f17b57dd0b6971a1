"""`import agentgate` costs next to nothing, and all of its names are where type checkers think they are."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import agentgate

ROUNDS = 7


def shown_to_type_checkers() -> dict[str, str]:
    """The names imported under TYPE_CHECKING, and the module that each comes from."""
    tree = ast.parse(Path(agentgate.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


def test_what_is_imported_when_asked_for_is_what_type_checkers_see() -> None:
    assert shown_to_type_checkers() == agentgate._HOMES
    assert sorted(agentgate.__all__) == sorted(agentgate._HOMES)
    assert set(agentgate.__all__) <= set(dir(agentgate))
    for name in agentgate.__all__:
        assert getattr(agentgate, name) is getattr(sys.modules[f"agentgate.{agentgate._HOMES[name]}"], name)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'agentgate' has no attribute 'Gaet'"):
        agentgate.Gaet  # type: ignore[attr-defined]  # noqa: B018


def seconds(statement: str) -> float:
    """How long a new process takes for an import, in the median."""
    script = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    times = []
    for _ in range(ROUNDS):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        times.append(float(done.stdout))
    return statistics.median(times)


def test_it_takes_no_longer_than_the_frameworks_it_is_used_with() -> None:
    theirs = seconds("import starlette.applications, httpx")
    assert seconds("import agentgate") <= 1.2 * theirs
    assert seconds("from agentgate import Gate, APIKeyAuth, AccessLog, CELRules") <= 2.4 * theirs  # in use
