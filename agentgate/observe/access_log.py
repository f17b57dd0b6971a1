"""AccessLog: one line per request, when its response is over; keys, order and texts as agentgateway writes them.

A line is one line whatever bytes the client sent, and holds no credential: headers and bodies are never logged, and
query parameters that carry credentials are shown as `<redacted>`. It differs from agentgateway's where that one can be
misread: values are quoted when they need it, and microseconds have six digits.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final, Literal, get_args
from urllib.parse import unquote_to_bytes

from ..errors import ConfigurationError
from ..policy import Observer
from ..record import Record
from ..request import JWT
from .line_writer import LineWriter

Format = Literal["text", "json"]
Sink = Callable[[str], object]

MAX_VALUE: Final = 1024  # characters of one value; what a client sends must not make a log line of any size

SENSITIVE_PARAMETERS: Final = frozenset(
    {
        *(
            "access_token",
            "api-key",
            "api_key",
            "apikey",
            "auth",
            "authorization",
            "client_secret",
            "code",
            "credential",
        ),
        *(
            "id_token",
            "jwt",
            "key",
            "passwd",
            "password",
            "refresh_token",
            "secret",
            "sig",
            "signature",
            "token",
            "x-api-key",
        ),
    }
)
"""Query parameters whose values are never logged, besides those that a Gate reads credentials from."""

_ORDER: Final = """
    a2a.method a2a.response.outcome a2a.response.error_code a2a.result.kind a2a.task.state a2a.context.id
    mcp.method.name mcp.target mcp.resource.type mcp.resource.uri gen_ai.tool.name gen_ai.prompt.name
    mcp.session.id mcp.error.code mcp.error.message
    gen_ai.operation.name gen_ai.provider.name gen_ai.request.model gen_ai.response.model
    gen_ai.usage.input_tokens gen_ai.usage.cache_creation.input_tokens gen_ai.usage.cache_read.input_tokens
    gen_ai.usage.output_tokens gen_ai.usage.reasoning_tokens
    agw.ai.time_to_first_token agw.ai.time_per_output_token agw.ai.usage.cost.total
    gen_ai.usage.output_image_tokens gen_ai.usage.input_audio_tokens gen_ai.usage.output_audio_tokens
    gen_ai.request.temperature gen_ai.embeddings.dimension.count gen_ai.request.encoding_formats
    gen_ai.request.top_p gen_ai.request.max_tokens gen_ai.request.frequency_penalty
    gen_ai.request.presence_penalty gen_ai.request.seed
"""
DETAILS: Final = {name: place for place, name in enumerate(_ORDER.split())}
"""What protocols tell, in the order of agentgateway's access log; what is not among it comes after that."""

# logfmt: a value is bare when it is visible ASCII without `"` and `=`.
_BARE: Final = re.compile(r"[!#-<>-~]+").fullmatch
_STRANGE: Final = re.compile(r"[^ !#-~]").search


class AccessLog(Observer):
    """Writes the access log: `format` is `text` (logfmt) or `json`, one object a line.

    `sink` takes the lines: None for standard output, written by a thread of its own so that a slow terminal or pipe
    does not stop the event loop; a `logging.Logger`, at INFO; or any callable that takes one line, without its end.
    """

    def __init__(self, sink: "Sink | logging.Logger | None" = None, *, format: Format = "text") -> None:
        if format not in get_args(Format):
            raise ConfigurationError(f"format is one of {', '.join(get_args(Format))}, not {format!r}")
        self.format = format
        self._render = _text if format == "text" else _json
        self._write: Sink
        if sink is None:
            self._write = LineWriter()
        elif isinstance(sink, logging.Logger):
            self._write = sink.info
        elif callable(sink):
            self._write = sink
        else:
            raise TypeError(f"a sink is a Logger or a callable that takes a line, not {sink!r}")

    def end(self, token: Any, record: Record) -> None:
        self._write(self._render(record))

    def __repr__(self) -> str:
        return f"AccessLog(format={self.format!r})"


def fields(record: Record) -> dict[str, str | int | float]:
    """The access log's fields of a finished Record, in their order; what is not known is left out."""
    request = record.request
    found: dict[str, str | int | float] = {}
    if record.route:
        found["route"] = record.route
    if record.endpoint:
        found["endpoint"] = record.endpoint
    if request.peer:
        host, port = request.peer[0], request.peer[1]
        found["src.addr"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    found["http.method"] = request.method
    authority = request.authority
    if authority:
        found["http.host"] = authority
    found["http.path"] = request.raw_path.decode("latin-1") + (_query(record) if request.query_string else "")
    version = request.http_version
    found["http.version"] = f"HTTP/{version}.0" if len(version) == 1 else f"HTTP/{version}"
    if record.status is not None:
        found["http.status"] = record.status
    for known in record.view.principals:
        if known.source == JWT and isinstance(known.attributes.get("sub"), str):
            found["jwt.sub"] = known.attributes["sub"]  # of several, the innermost's
    if record.protocol:
        found["protocol"] = record.protocol
    if record.details:
        found.update(sorted(record.details.items(), key=_place))
    if record.error:
        found["error"] = record.error
    if record.reason:
        found["reason"] = record.reason.value
    found["duration"] = f"{int((record.duration or 0) * 1000)}ms"
    principal = record.principal
    if principal is not None:
        found["principal"] = principal.id
    refusal = record.refusal
    if refusal is not None:
        if refusal.rule:
            found["rule"] = refusal.rule
        if refusal.detail:
            found["detail"] = refusal.detail
    return found


def _query(record: Record) -> str:
    """The query as it was sent, the values of sensitive parameters hidden; all values, where the request was refused
    on its way in: a Gate further in, which knows its own credentials, has not seen it."""
    refusal = record.refusal
    if record.edge is None or (refusal is not None and refusal.policy != "forward"):
        return "?" + "&".join([_hidden(part) for part in record.request.query_string.split(b"&")])
    sensitive = SENSITIVE_PARAMETERS | record.redacted_parameters
    return "?" + "&".join([_redacted(part, sensitive) for part in record.request.query_string.split(b"&")])


def _redacted(part: bytes, sensitive: frozenset[str]) -> str:
    name, equals, _ = part.partition(b"=")
    decoded = unquote_to_bytes(name.replace(b"+", b" ")).decode("latin-1").strip().lower()
    return _hidden(part) if equals and decoded in sensitive else part.decode("latin-1")


def _hidden(part: bytes) -> str:
    name, equals, _ = part.partition(b"=")
    return f"{name.decode('latin-1')}=<redacted>" if equals else name.decode("latin-1")


def _text(record: Record) -> str:
    found = fields(record)
    plain = " ".join([f"{key}={value}" for key, value in found.items()])
    if record.error or not _all_bare(plain, len(found)):
        plain = " ".join([f"{key}={_quoted(value, key)}" for key, value in found.items()])
    return f"{_timestamp()}\tinfo\trequest {plain}"


def _all_bare(line: str, fields: int) -> bool:
    """Whether a line of so many fields needs no quotes anywhere, as nearly every one does: cheaper than to ask each."""
    return (
        len(line) <= MAX_VALUE
        and _STRANGE(line) is None
        and line.count(" ") == fields - 1
        and line.count("=") == fields
        and "= " not in line
        and line[-1] != "="
    )


def _place(detail: tuple[str, str | int | float]) -> int:
    return DETAILS.get(detail[0], len(DETAILS))


def _quoted(value: str | int | float, key: str) -> str:
    text = str(value)
    if key != "error" and len(text) <= MAX_VALUE and _BARE(text):
        return text
    return json.dumps(_capped(text))  # ASCII only: no control, no line separator, no lone surrogate gets through


def _json(record: Record) -> str:
    line: dict[str, str | int | float] = {"level": "info", "time": _timestamp(), "scope": "request"}
    for key, value in fields(record).items():
        line[key] = _capped(value) if isinstance(value, str) else value
    return json.dumps(line)


def _capped(value: str) -> str:
    return value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + "..."


class _Clock:
    """The time of now as `2026-08-06T21:10:58.810727Z`. The second's text is kept: it is most of the work."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self) -> str:
        microseconds = time.time_ns() // 1000
        second = microseconds // 1_000_000
        text = self._text
        if second != self._second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            # Another thread may come between these two; each of them would then only write the same again.
            self._text, self._second = text, second
        return f"{text}{str(microseconds % 1_000_000 + 1_000_000)[1:]}Z"  # six digits; cheaper than a format


_timestamp: Final = _Clock()
