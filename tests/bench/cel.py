"""Ten expressions, five ways: a hand-written lambda over dicts and over a Request, our engine over both, cel-python's
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

from agentgate import Call, Edge, Principal, Request, cel
from agentgate.context import READERS, VARIABLES
from agentgate.headers_view import FUNCTIONS

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
    "mcp": {"methodName": "tools/call", "tool": {"name": "add", "target": "calc", "arguments": {"a": 1, "b": 2}}},
    "llm": {"provider": "openai", "model": "m", "params": {"temperature": 0.5}},
}
TYPES: dict[str, Any] = {
    "request": "struct{method: string, path: string, host: string, scheme: string, headers: map(string, dyn)}",
    "jwt": "map(string, dyn)",
    "source": "struct{address: string, port: int}",
    "apiKey": "map(string, dyn)",
    "mcp": "struct{methodName: string, tool?: struct{name: string, target: string, arguments: map(string, dyn)}}",
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
        'mcp.methodName == "tools/call" && mcp.tool.name.startsWith("a")'
        " && size(mcp.tool.arguments) < 10 && jwt.exp > 1700000000",
        lambda a: (
            a["mcp"]["methodName"] == "tools/call"
            and a["mcp"]["tool"]["name"].startswith("a")
            and len(a["mcp"]["tool"]["arguments"]) < 10
            and a["jwt"]["exp"] > 1700000000
        ),
    ),
]


# What the Gate hands to a policy: an ASGI scope with 21 headers, two principals, a call.
REQUEST = Request(
    {
        "type": "http",
        "method": "GET",
        "scheme": "https",
        "path": "/v1/chat",
        "raw_path": b"/v1/chat",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in {"host": "gw.example", **HEADERS}.items()],
        "client": ("10.1.2.3", 40000),
    },
    principals=(Principal("k1", "apiKey", DATA["apiKey"]), Principal("alice", "jwt", CLAIMS)),
    call=Call("mcp", "tools/call", tool="add", target="calc", arguments={"a": 1, "b": 2}),
)
assert Edge().check(REQUEST) is None  # as the Gate does before any policy

# The decisions again, as the body of an `@authorizer`: what somebody would write who has no rules.
BY_HAND: list[Callable[[Any], Any]] = [
    lambda r: r.jwt["sub"] == "alice" and r.call.tool in ("add", "sub"),
    lambda r: r.path.startswith("/v1/") and r.api_key["team"] == "x",
    lambda r: "scope" in r.jwt and "tools:call" in r.jwt["scope"].split(" "),
    lambda r: parse_address(r.peer[0]) in NETWORK,
    lambda r: WORD.fullmatch(r.headers["x-org"]) is not None,
    lambda r: r.method == "GET" or (r.method == "POST" and "admin" in r.jwt["groups"]),
    lambda r: r.jwt["level"] >= 3 and r.jwt["level"] < 10 and r.jwt["sub"] not in ("mallory", "eve"),
    lambda r: r.jwt["tenant"] == r.headers["x-tenant"] if "tenant" in r.jwt else False,
    lambda r: any(g.startswith("team-") and g.endswith("-admins") for g in r.jwt["groups"]),
    lambda r: (
        r.call.method == "tools/call"
        and r.call.tool.startswith("a")
        and len(r.call.arguments) < 10
        and r.jwt["exp"] > 1700000000
    ),
]


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


def seconds(run: Callable[[Any], Any], given: Any, count: int) -> float:
    """The time of one call."""
    start = perf_counter()
    for _ in range(count):
        run(given)
    return (perf_counter() - start) / count


COLUMNS = ["lambda", "dicts", "dicts, declared", "lambda over a Request", "Request", "cel-python"]


def measure(rounds: int, count: int, interpreted: bool) -> Iterator[tuple[str, list[float]]]:
    """The median times of each contestant, in the order of COLUMNS, for each expression."""
    limit = sys.getrecursionlimit()
    for (source, by_hand), over_request in zip(EXPRESSIONS, BY_HAND, strict=True):
        read = cel.compile(source, variables=VARIABLES, functions=FUNCTIONS, readers=READERS, result="bool")
        contestants: list[tuple[Callable[[Any], Any], Any]] = [
            (by_hand, DATA),
            (cel.compile(source).evaluate, DATA),
            (cel.compile(source, variables=TYPES, result="bool").evaluate, DATA),
            (over_request, REQUEST),
            (read.evaluate, REQUEST),
        ]
        counts = [count] * len(contestants)
        if interpreted:
            contestants.append((cel_python(source), DATA))
            counts.append(max(1, count // 500))
        assert all(bool(run(given)) is True for run, given in contestants), source
        times: list[list[float]] = [[] for _ in contestants]
        for _ in range(rounds):
            for (run, given), n, found in zip(contestants, counts, times, strict=True):
                found.append(seconds(run, given, n))
        yield source, [statistics.median(found) for found in times]
    sys.setrecursionlimit(limit)  # cel-python's Environment changes it


def ratios(rows: list[list[float]]) -> list[float]:
    """The geometric mean of each column, as a multiple of the first."""
    means = [math.exp(statistics.fmean(math.log(value) for value in column)) for column in zip(*rows, strict=True)]
    return [mean / means[0] for mean in means]


def main() -> None:
    """Print the table."""
    gc.collect()
    rows = []
    print(f"| expression (us per evaluation) | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for source, times in measure(rounds=31, count=2000, interpreted=True):
        rows.append(times)
        shown = source.replace("|", "\\|")
        print(f"| `{shown}` | {' | '.join(f'{time * 1e6:.2f}' for time in times)} |")
    print(f"| **geometric mean, x lambda** | {' | '.join(f'**{ratio:.1f}**' for ratio in ratios(rows))} |")


if __name__ == "__main__":
    main()
