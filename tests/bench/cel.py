"""Ten expressions, four ways: a hand-written lambda, our engine from dicts and from lazy views, cel-python's
interpreter.

Run as `python tests/bench/cel.py`. All figures come from one run with the contestants interleaved; only the ratios
mean anything elsewhere. The activation has about 75 values: 20 headers, 14 claims, tool arguments.
"""

from __future__ import annotations

import gc
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import ip_address, ip_network
from time import perf_counter
from typing import Any

from agentgate import cel

Activation = Any

HEADERS = {f"x-header-{i}": f"value-{i}" for i in range(17)} | {"x-org": "acme", "x-tenant": "t1", "accept": "*/*"}
CLAIMS = {
    "sub": "alice",
    "iss": "https://issuer.example",
    "aud": "tools",
    "scope": "openid profile tools:call",
    "groups": ["admin", "team-red-admins", "staff"],
    "level": 5,
    "tenant": "t1",
    "exp": 1900000000,
} | {f"claim{i}": i for i in range(6)}
DATA: dict[str, Any] = {
    "request": {"method": "GET", "path": "/v1/chat", "host": "gw.example", "scheme": "https", "headers": HEADERS},
    "jwt": CLAIMS,
    "source": {"address": "10.1.2.3", "port": 40000},
    "apiKey": {"team": "x", "id": "k1"},
    "mcp": {"method": "tools/call", "tool": {"name": "add", "target": "calc", "arguments": {"a": 1, "b": 2}}},
    "llm": {"provider": "openai", "model": "m", "params": {"temperature": 0.5}},
}
TYPES: dict[str, Any] = {
    "request": "struct{method: string, path: string, host: string, scheme: string, headers: map(string, dyn)}",
    "jwt": "map(string, dyn)",
    "source": "struct{address: string, port: int}",
    "apiKey": "map(string, dyn)",
    "mcp": "struct{method: string, tool?: struct{name: string, target: string, arguments: map(string, dyn)}}",
    "llm": "struct{provider: string, model: string, params: map(string, dyn)}",
}

NETWORK = ip_network("10.0.0.0/8")
parse_address = lru_cache(ip_address)
WORD = re.compile(r"[a-z]+")

# The same decisions as one would write them by hand, without the error rules of CEL.
EXPRESSIONS: list[tuple[str, Callable[[Any], Any]]] = [
    (
        'jwt.sub == "alice" && mcp.tool.name in ["add", "sub"]',
        lambda a: a["jwt"]["sub"] == "alice" and a["mcp"]["tool"]["name"] in ("add", "sub"),
    ),
    (
        'request.path.startsWith("/v1/") && apiKey.team == "x"',
        lambda a: a["request"]["path"].startswith("/v1/") and a["apiKey"]["team"] == "x",
    ),
    (
        'has(jwt.scope) && jwt.scope.split(" ").exists(s, s == "tools:call")',
        lambda a: "scope" in a["jwt"] and "tools:call" in a["jwt"]["scope"].split(" "),
    ),
    ('cidr("10.0.0.0/8").containsIP(source.address)', lambda a: parse_address(a["source"]["address"]) in NETWORK),
    (
        'request.headers["x-org"].matches("^[a-z]+$")',
        lambda a: WORD.fullmatch(a["request"]["headers"]["x-org"]) is not None,
    ),
    (
        'request.method == "GET" || (request.method == "POST" && "admin" in jwt.groups)',
        lambda a: (
            a["request"]["method"] == "GET" or (a["request"]["method"] == "POST" and "admin" in a["jwt"]["groups"])
        ),
    ),
    (
        'jwt.level >= 3 && jwt.level < 10 && !(jwt.sub in ["mallory", "eve"])',
        lambda a: a["jwt"]["level"] >= 3 and a["jwt"]["level"] < 10 and a["jwt"]["sub"] not in ("mallory", "eve"),
    ),
    (
        'has(jwt.tenant) ? jwt.tenant == request.headers["x-tenant"] : false',
        lambda a: a["jwt"]["tenant"] == a["request"]["headers"]["x-tenant"] if "tenant" in a["jwt"] else False,
    ),
    (
        'jwt.groups.exists(g, g.startsWith("team-") && g.endsWith("-admins"))',
        lambda a: any(g.startswith("team-") and g.endswith("-admins") for g in a["jwt"]["groups"]),
    ),
    (
        'mcp.method == "tools/call" && mcp.tool.name.startsWith("a")'
        " && size(mcp.tool.arguments) < 10 && jwt.exp > 1700000000",
        lambda a: (
            a["mcp"]["method"] == "tools/call"
            and a["mcp"]["tool"]["name"].startswith("a")
            and len(a["mcp"]["tool"]["arguments"]) < 10
            and a["jwt"]["exp"] > 1700000000
        ),
    ),
]


class Lazy:
    """A struct whose fields are properties, each read from what is beneath only when it is asked for."""

    __slots__ = ("data",)

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data


class RequestView(Lazy):
    """`request`"""

    __slots__ = ()
    method = property(lambda self: self.data["method"])
    path = property(lambda self: self.data["path"])
    headers = property(lambda self: self.data["headers"])


class SourceView(Lazy):
    """`source`"""

    __slots__ = ()
    address = property(lambda self: self.data["address"])


class ToolView(Lazy):
    """`mcp.tool`"""

    __slots__ = ()
    name = property(lambda self: self.data["name"])
    arguments = property(lambda self: self.data["arguments"])


class McpView(Lazy):
    """`mcp`"""

    __slots__ = ()
    method = property(lambda self: self.data["method"])
    tool = property(lambda self: ToolView(self.data["tool"]))


VIEWS: dict[str, Callable[[Any], Any]] = {"request": RequestView, "source": SourceView, "mcp": McpView}


class Variables(dict[str, Any]):
    """The variables of one request: a view is made when an expression asks for it, and kept for the next one."""

    __slots__ = ("data",)

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def __missing__(self, name: str) -> Any:
        value = self.data[name]
        view = VIEWS.get(name)
        self[name] = value = value if view is None else view(value)
        return value


def from_views(expression: cel.Expression) -> Callable[[Any], Any]:
    """Evaluate from views that are made for each evaluation: the only rule of a request."""
    evaluate = expression.evaluate
    return lambda data: evaluate(Variables(data))


def from_built_views(expression: cel.Expression) -> Callable[[Any], Any]:
    """Evaluate from views that exist already: the second and later rules of a request."""
    variables = Variables(DATA)
    evaluate = expression.evaluate
    return lambda _: evaluate(variables)


def cel_python(source: str) -> Callable[[Any], Any]:
    """cel-python's interpreted runner, its activation converted each time, with the functions it lacks."""
    import celpy
    from celpy import celtypes
    from celpy.adapter import json_to_cel

    environment = celpy.Environment()
    functions: dict[str, Any] = {
        "split": lambda s, by: celtypes.ListType(map(celtypes.StringType, s.split(by))),
        "cidr": celtypes.StringType,
        "containsIP": lambda net, address: celtypes.BoolType(ip_address(address) in ip_network(net)),
    }
    program: Any = environment.program(environment.compile(source), functions=functions)
    return lambda data: program.evaluate(json_to_cel(data))


def seconds(run: Callable[[Any], Any], count: int) -> float:
    """The time of one call."""
    start = perf_counter()
    for _ in range(count):
        run(DATA)
    return (perf_counter() - start) / count


def measure(rounds: int, count: int, interpreted: bool) -> Iterator[tuple[str, list[float]]]:
    """The median times of each contestant, in the order of the table, for each expression."""
    limit = sys.getrecursionlimit()
    for source, by_hand in EXPRESSIONS:
        typed = cel.compile(source, variables=TYPES, result="bool")
        contestants = [
            by_hand,
            cel.compile(source).evaluate,
            typed.evaluate,
            from_built_views(typed),
            from_views(typed),
        ]
        counts = [count] * len(contestants)
        if interpreted:
            contestants.append(cel_python(source))
            counts.append(max(1, count // 500))
        assert all(bool(run(DATA)) is True for run in contestants), source
        times: list[list[float]] = [[] for _ in contestants]
        for _ in range(rounds):
            for run, n, found in zip(contestants, counts, times, strict=True):
                found.append(seconds(run, n))
        yield source, [statistics.median(found) for found in times]
    sys.setrecursionlimit(limit)  # cel-python's Environment changes it


def ratios(rows: list[list[float]]) -> list[float]:
    """The geometric mean of each column, as a multiple of the first."""
    means = [math.exp(statistics.fmean(math.log(value) for value in column)) for column in zip(*rows, strict=True)]
    return [mean / means[0] for mean in means]


def main() -> None:
    """Print the table."""
    names = ["lambda", "dicts", "dicts, declared", "views, made before", "views, made each time", "cel-python"]
    gc.collect()
    rows = []
    print(f"| expression (us per evaluation) | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for source, times in measure(rounds=31, count=2000, interpreted=True):
        rows.append(times)
        shown = source.replace("|", "\\|")
        print(f"| `{shown}` | {' | '.join(f'{time * 1e6:.2f}' for time in times)} |")
    print(f"| **geometric mean, x lambda** | {' | '.join(f'**{ratio:.1f}**' for ratio in ratios(rows))} |")


if __name__ == "__main__":
    main()
