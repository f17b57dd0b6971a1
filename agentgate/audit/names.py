"""What requests can be counted by: the fields that a log has, and short names for those that people ask for."""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from ..errors import ConfigurationError

CALLED: Final = "called"
"""Not one field, but what was called, whatever its protocol: see `called`."""

SHORT: Final[Mapping[str, str]] = {
    "principal": "principal",
    "called": CALLED,
    "tool": "gen_ai.tool.name",
    "prompt": "gen_ai.prompt.name",
    "resource": "mcp.resource.uri",
    "server": "mcp.target",
    "model": "gen_ai.request.model",
    "provider": "gen_ai.provider.name",
    "route": "route",
    "upstream": "endpoint",
    "protocol": "protocol",
    "method": "http.method",
    "host": "http.host",
    "path": "http.path",
    "status": "http.status",
    "subject": "jwt.sub",
    "reason": "reason",
    "rule": "rule",
    "error": "error",
    "detail": "detail",
}

MAX_VALUE: Final = 256  # characters of a value that is counted by; what is the same up to there is counted as one

_CALLS: Final = (
    ("gen_ai.tool.name", "tool"),
    ("gen_ai.prompt.name", "prompt"),
    ("mcp.resource.uri", "resource"),
    ("gen_ai.request.model", "model"),
    ("mcp.method.name", "mcp"),
    ("a2a.method", "a2a"),
    ("gen_ai.operation.name", "llm"),
    ("route", "route"),
)


def keys_of(text: str) -> dict[str, str]:
    """The names in `principal,tool`, and the key of each: a name that is not short has to be a key of the log.

    Raises ConfigurationError where one is empty, or there twice.
    """
    names = [name.strip() for name in text.split(",")]
    keys = {name: SHORT.get(name, name) for name in names}
    if "" in keys:
        raise ConfigurationError("--by: it is one field, or several with commas between them, such as principal,tool")
    if len(set(keys.values())) < len(names):
        raise ConfigurationError("--by: a field is named twice")
    return keys


def unknown(keys: Collection[str], there: Collection[str]) -> ConfigurationError:
    """The fault of keys that are in no line, with the names of what is `there`."""
    short = [name for name, key in SHORT.items() if key in there or key == CALLED]
    rest = sorted(set(there) - set(SHORT.values()))
    return ConfigurationError(
        f"--by: no line has a field {' or '.join(map(repr, sorted(keys)))}; there are {', '.join([*short, *rest])}"
    )


def value_of(fields: Mapping[str, Any], key: str) -> str | None:
    """What the request is counted under; None where its line does not say."""
    if key is CALLED:
        return called(fields)
    return short(fields.get(key))


def called(fields: Mapping[str, Any]) -> str:
    """What was called, with its kind, as a tool may have the name of a model: `tool search`, `model gpt-4o`.

    The tool, prompt, resource or model; else the method of MCP or A2A; else the route; else the path, without query.
    """
    for key, kind in _CALLS:
        value = fields.get(key)
        if value is not None:
            return f"{kind} {short(value)}"
    path = fields.get("http.path")
    return "nothing" if path is None else f"path {str(short(path)).partition('?')[0]}"


def short(value: Any) -> str | None:
    """A value as text that is not longer than what is counted by; None stays None."""
    if value is None:
        return None
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        return "(nested too deeply)"
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "..."
