"""Values that are not known yet: neither true nor false, and not an error."""

from types import SimpleNamespace
from typing import Any

import pytest

from agentgate import cel

TYPES: dict[str, Any] = {"mcp": "struct{tool: struct{name: string, arguments?: map(string, dyn)}}"}
AS_DICT = {"mcp": {"tool": {"name": "add", "arguments": cel.UNKNOWN}}}
AS_VIEW = {"mcp": SimpleNamespace(tool=SimpleNamespace(name="add", arguments=cel.UNKNOWN))}

both = pytest.mark.parametrize("data", [AS_DICT, AS_VIEW], ids=["dict", "view"])


@both
@pytest.mark.parametrize(
    "source",
    [
        "mcp.tool.arguments",
        "mcp.tool.arguments.x",
        "mcp.tool.arguments['x'] == 1",
        "mcp.tool.arguments == {}",
        "mcp.tool.arguments != {}",
        "{} == mcp.tool.arguments",
        "'x' in mcp.tool.arguments",
        "dyn(mcp.tool.arguments) in [1]",
        "dyn(mcp.tool.arguments) in ['a', 'b']",
        "size(mcp.tool.arguments) < 3",
        "has(mcp.tool.arguments)",
        "!has(mcp.tool.arguments)",
        "has(mcp.tool.arguments.x)",
        "mcp.tool.?arguments.hasValue()",
        "mcp.tool.arguments.?x.hasValue()",
        "mcp.tool.arguments.exists(k, k == 'x')",
        "mcp.tool.arguments.x.matches('a')",
        "dyn(mcp.tool.arguments).startsWith('a')",
        "dyn(mcp.tool.arguments) < 1",
        "dyn(mcp.tool.arguments) + 1",
        "dyn(mcp.tool.arguments) ? 1 : 2",
        "!dyn(mcp.tool.arguments)",
        "{'a': mcp.tool.arguments}",
        "[mcp.tool.arguments]",
        "default(mcp.tool.arguments.x, 1)",
        "coalesce(mcp.tool.arguments.x, 1)",
        "toJson(mcp.tool.arguments)",
        "cel.bind(a, mcp.tool.arguments, a.x)",
        "true && mcp.tool.arguments.x == 1",
        "mcp.tool.arguments.x == 1 && true",
        "false || mcp.tool.arguments.x == 1",
        # of an error and an unknown, the unknown remains
        "nobody == 1 || mcp.tool.arguments.x == 1",
        "mcp.tool.arguments.x == 1 || nobody == 1",
        "(mcp.tool.arguments.x == 1 || nobody == 1) && 1 / 0 == 1",
        "[1, 2].all(i, i == 2 ? mcp.tool.arguments.x == 1 : 1 / 0 == 1)",
    ],
)
def test_what_needs_an_unknown_is_unknown(source: str, data: Any) -> None:
    with pytest.raises(cel.Unknown):
        cel.compile(source, variables=TYPES, check=False).evaluate(data)


@both
@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("mcp.tool.name == 'add'", True),
        ("mcp.tool.name == 'drop' && mcp.tool.arguments.x == 1", False),
        ("mcp.tool.arguments.x == 1 && mcp.tool.name == 'drop'", False),
        ("mcp.tool.arguments.x == 1 || mcp.tool.name == 'add'", True),
        ("mcp.tool.name == 'add' ? 1 : mcp.tool.arguments.x", 1),
        ("['drop', 'add'].exists(n, n == mcp.tool.name || mcp.tool.arguments.x == n)", True),
    ],
)
def test_what_is_decided_without_it_is_not(source: str, value: Any, data: Any) -> None:
    assert cel.compile(source, variables=TYPES, check=False).evaluate(data) == value


def test_an_unknown_variable_is_unknown() -> None:
    with pytest.raises(cel.Unknown):
        cel.compile("mcp.tool.name == 'x'", variables=TYPES).evaluate({"mcp": cel.UNKNOWN})


def test_it_shows_nothing() -> None:
    assert repr(cel.UNKNOWN) == "UNKNOWN"
