"""What importing costs, and that it changes nothing."""

import subprocess
import sys

import pytest

SILENT = """
import sys
before = sys.getrecursionlimit()
import agentgate.cel
assert not {name.partition(".")[0] for name in sys.modules} & {"celpy", "lark", "re2"}
assert sys.getrecursionlimit() == before
"""
PACKAGE = """
import sys
from agentgate import *
assert not {name.partition(".")[0] for name in sys.modules} & {"celpy", "lark", "re2"}
CELRules(allow=["true"])
assert "celpy" in sys.modules
"""
COMPILED = """
import sys
from agentgate import cel
assert cel.compile("1 + 1").evaluate({}) == 2
assert "celpy" in sys.modules and "re2" not in dir(cel)
"""
NEXT_TO_CEL_PYTHON = """
import celpy
from agentgate import cel
environment = celpy.Environment(runner_class=celpy.CompiledRunner)
assert cel.compile("a == 1 || true").evaluate({"a": 2}) is True
assert environment.program(environment.compile("1 + 1")).evaluate({}) == 2
"""


@pytest.mark.parametrize(
    "script",
    [SILENT, PACKAGE, COMPILED, NEXT_TO_CEL_PYTHON],
    ids=["import", "import all", "compile", "next to cel-python"],
)
def test_in_a_new_process(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == ""
    assert done.returncode == 0
