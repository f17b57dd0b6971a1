"""One day of an agent gateway, made up, the same lines every time: `python tests/audit/day.py 1000000 > access.log`.

Six callers with habits of their own. A key that was taken back is still used until somebody notices; an agent goes
astray in the afternoon and is refused; an upstream is ill for half an hour; a limit is reached at noon; and a rule is
on trial, which would refuse exports.
"""

import itertools
import json
import random
import re
import sys
from bisect import bisect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

DAY: Final = datetime(2026, 11, 24, tzinfo=UTC)
HOURS: Final = (2, 2, 2, 2, 2, 3, 5, 9, 14, 18, 20, 20, 16, 17, 20, 19, 17, 13, 9, 6, 5, 4, 3, 2)
"""How busy each hour is."""

TOOLS: Final = {  # server and usual milliseconds
    "search_docs": ("docs", 38),
    "read_file": ("docs", 12),
    "get_ticket": ("tickets", 22),
    "reply_ticket": ("tickets", 95),
    "query_orders": ("warehouse", 140),
    "export_orders": ("warehouse", 900),
    "run_tests": ("ci", 4200),
    "deploy_preview": ("ci", 2600),
    "drop_table": ("warehouse", 60),
    "delete_user": ("warehouse", 60),
}
MODELS: Final = {  # provider, usual milliseconds, usual tokens in and out
    "gpt-4o-mini": ("openai", 640, 900, 160),
    "gpt-4o": ("openai", 1900, 2600, 420),
    "claude-sonnet-4-5": ("anthropic", 2800, 5200, 700),
    "text-embedding-3-small": ("openai", 90, 480, 0),
}
CALLERS: Final = {  # how often, and what of
    "support-bot": (34, {"search_docs": 30, "get_ticket": 28, "reply_ticket": 9, "gpt-4o-mini": 33}),
    "research-agent": (22, {"search_docs": 35, "read_file": 30, "claude-sonnet-4-5": 25, "text-embedding-3-small": 10}),
    "coding-agent": (17, {"read_file": 40, "run_tests": 16, "deploy_preview": 4, "claude-sonnet-4-5": 40}),
    "billing-agent": (12, {"query_orders": 55, "export_orders": 15, "gpt-4o": 30}),
    "planner": (9, {"SendMessage": 40, "GetTask": 60}),
    "alice": (4, {"tools/list": 20, "search_docs": 40, "gpt-4o": 40}),
}
ASTRAY: Final = {"drop_table": 3, "delete_user": 2, "export_orders": 3}
RULES: Final = {
    "drop_table": "nobody drops tables",
    "delete_user": "only admins change users",
    "export_orders": "exports are for billing",
}
ON_TRIAL: Final = "exports need a ticket"
DROPPED: Final = "dropped"
OTHERS: Final = {  # lines of something else, before the line of that share of the day
    0.0: "INFO:     Uvicorn running on http://0.0.0.0:8080 (Press CTRL+C to quit)",
    0.45: DROPPED,
    0.71: "agentgate: WARNING: the key of alice is not renewed in time",
}

Line = dict[str, Any]
_STAMP: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_BARE: Final = re.compile(r"[!#-<>-~]+").fullmatch


def day(requests: int, format: Literal["text", "json"] = "text") -> Iterator[str]:
    """The lines of a day with so many requests, in order, without line ends."""
    chance = random.Random(1848)
    others = [(round(share * requests), text) for share, text in OTHERS.items()]
    busy = list(itertools.accumulate(HOURS))
    for number in range(requests):
        while others and others[0][0] <= number:
            text = others.pop(0)[1]
            yield notice(format) if text == DROPPED else text
        at = (number + chance.random()) / requests * busy[-1]
        hour = min(bisect(busy, at), 23)
        time = DAY + timedelta(hours=hour + 1 - (busy[hour] - at) / HOURS[hour])
        yield rendered(time, request(chance, time), format)


def notice(format: Literal["text", "json"]) -> str:
    """As AccessLog says that lines are missing."""
    stamp, said = (DAY + timedelta(hours=12)).strftime(_STAMP), "lines were dropped: whoever takes them is too slow"
    if format == "json":
        return json.dumps({"level": "warn", "time": stamp, "scope": "access_log", "dropped": 41, "message": said})
    return f'{stamp}\twarn\taccess_log dropped=41 message="{said}"'


def rendered(time: datetime, fields: Line, format: Literal["text", "json"]) -> str:
    """As AccessLog writes it."""
    stamp = time.strftime(_STAMP)
    if format == "json":
        return json.dumps({"level": "info", "time": stamp, "scope": "request", **fields})
    pairs = [f"{k}={v if k != 'error' and _BARE(str(v)) else json.dumps(str(v))}" for k, v in fields.items()]
    return f"{stamp}\tinfo\trequest {' '.join(pairs)}"


def request(chance: random.Random, time: datetime) -> Line:
    """The fields of one request, in the log's order."""
    hour = time.hour + time.minute / 60
    if chance.random() < (0.05 if 9 <= hour < 10.5 else 0.006):
        return stranger(chance)
    names = list(CALLERS)
    caller = chance.choices(names, [CALLERS[name][0] for name in names])[0]
    does = CALLERS[caller][1]
    if caller == "research-agent" and 14.2 <= hour < 15.1 and chance.random() < 0.6:
        does = ASTRAY
    called = chance.choices(list(does), list(does.values()))[0]
    if called in MODELS:
        line = model(chance, called, caller, hour)
    elif called in TOOLS:
        line = tool(chance, called, caller, hour)
    else:
        line = other(chance, called)
    tail: Line = {key: line.pop(key) for key in ("rule", "detail", "shadow.policy", "shadow.rule") if key in line}
    return {**line, "principal": caller, **tail}


def stranger(chance: random.Random) -> Line:
    told = chance.choice(("no API Key found", "no API Key found", "invalid API Key"))
    return {
        **client(chance, "agents/tools", "/mcp"),
        "http.status": 401,
        "protocol": "mcp",
        "error": f"api key authentication failure: {told}",
        "reason": "APIKeyAuth",
        "duration": "0ms",
    }


def tool(chance: random.Random, name: str, caller: str, hour: float) -> Line:
    server, usual = TOOLS[name]
    line = {**client(chance, "agents/tools", "/mcp"), "http.status": 200, "protocol": "mcp"}
    call = {
        "mcp.method.name": "tools/call",
        "mcp.target": server,
        "mcp.resource.type": "tool",
        "gen_ai.tool.name": name,
        "mcp.session.id": f"{abs(hash_of(caller)):016x}",
    }
    if name in RULES and caller != "billing-agent":
        refused = {"error": f"mcp: Unknown tool: {name}", "reason": "MCP", "duration": "0ms", "rule": RULES[name]}
        return {**line, **call, **refused}
    if server == "warehouse" and 20 <= hour < 20.5 and chance.random() < 0.4:
        failed = {"error": "upstream call timeout", "reason": "Timeout", "duration": "30000ms"}
        return {**line, "http.status": 504, **call, **failed}
    on_trial = {"shadow.policy": "CELRules", "shadow.rule": ON_TRIAL} if name == "export_orders" else {}
    return {**up(line, f"{server}:9000"), **call, "duration": took(chance, usual), **on_trial}


def model(chance: random.Random, name: str, caller: str, hour: float) -> Line:
    provider, usual, tokens, written = MODELS[name]
    operation = "embeddings" if name.startswith("text-embedding") else "chat"
    line = {**client(chance, "agents/models", "/v1/chat/completions"), "http.status": 200, "protocol": "llm"}
    call: Line = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": name,
    }
    if caller == "support-bot" and 12 <= hour < 12.4 and chance.random() < 0.5:
        limited = {"error": "rate limit exceeded", "reason": "RateLimit", "duration": "0ms", "rule": "60 a minute"}
        return {**line, "http.status": 429, **call, **limited}
    if caller == "alice" and name == "gpt-4o" and chance.random() < 0.3:
        refused = {"error": "authorization failed", "reason": "Authorization", "duration": "1ms"}
        return {**line, "http.status": 403, **call, **refused, "detail": "none of 2 allow rules matched"}
    usage = {"gen_ai.usage.input_tokens": some(chance, tokens)}
    if written:
        usage["gen_ai.usage.output_tokens"] = some(chance, written)
    line = up(line, f"api.{provider}.com:443")
    return {**line, **call, "gen_ai.response.model": f"{name}-2026-08-06", **usage, "duration": took(chance, usual)}


def other(chance: random.Random, method: str) -> Line:
    if method == "tools/list":
        line = up({**client(chance, "agents/tools", "/mcp"), "http.status": 200, "protocol": "mcp"}, "docs:9000")
        return {**line, "mcp.method.name": method, "duration": took(chance, 9)}
    line = up({**client(chance, "agents/planner", "/planner"), "http.status": 200, "protocol": "a2a"}, "planner:8001")
    usual = 5200 if method == "SendMessage" else 18
    return {**line, "a2a.method": method, "a2a.response.outcome": "success", "duration": took(chance, usual)}


def client(chance: random.Random, route: str, path: str) -> Line:
    return {
        "route": route,
        "src.addr": f"10.20.{chance.randrange(4)}.{chance.randrange(2, 250)}:{chance.randrange(32768, 61000)}",
        "http.method": "POST",
        "http.host": "agents.example.com",
        "http.path": path,
        "http.version": "HTTP/1.1",
    }


def up(line: Line, endpoint: str) -> Line:
    """The line of a request that reached an upstream, which comes second."""
    return {"route": line["route"], "endpoint": endpoint, **line}


def took(chance: random.Random, usual: int) -> str:
    return f"{int(usual * chance.lognormvariate(0, 0.5))}ms"


def some(chance: random.Random, usual: int) -> int:
    return int(usual * chance.lognormvariate(0, 0.4)) + 1


def hash_of(text: str) -> int:
    return random.Random(text).getrandbits(64)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    style: Literal["text", "json"] = "json" if sys.argv[2:] == ["json"] else "text"
    for text in day(wanted, style):
        sys.stdout.write(text + "\n")
