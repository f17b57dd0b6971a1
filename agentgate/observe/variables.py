"""The variables of an access log's expressions: those of rules, and what only is known when the response is over.

They are agentgateway's. No credential can be read: values of headers and parameters that may hold one are
`<redacted>`, and there is no body. An expression about what is not there leaves its field out.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from agentgate import cel

from ..context import READERS, VARIABLES, Reader, Whole, env_readers
from ..elsewhere import REASONS
from ..headers import Headers
from ..headers_view import FUNCTIONS, HeadersView
from ..record import Record
from ..request import Request
from .redaction import hides_answer_header, hides_header, query_of

_NOT_COUNTED: Final = "is not here: nobody counts it"
_USAGE: Final = {
    "responseModel": "gen_ai.response.model",
    "inputTokens": "gen_ai.usage.input_tokens",
    "cachedInputTokens": "gen_ai.usage.cache_read.input_tokens",
    "cacheCreationInputTokens": "gen_ai.usage.cache_creation.input_tokens",
    "inputAudioTokens": "gen_ai.usage.input_audio_tokens",
    "outputTokens": "gen_ai.usage.output_tokens",
    "reasoningTokens": "gen_ai.usage.reasoning_tokens",
    "outputAudioTokens": "gen_ai.usage.output_audio_tokens",
}
_TIMINGS: Final = {
    "timeToFirstToken": "agw.ai.time_to_first_token",
    "timePerOutputToken": "agw.ai.time_per_output_token",
}


def _members(variable: str) -> dict[str, Any]:
    declared = VARIABLES[variable]
    assert isinstance(declared, Mapping)
    return dict(declared)


_request = _members("request")
del _request["body"]

DECLARED: Final[Mapping[str, cel.TypeLike]] = {
    **VARIABLES,
    "request": {**_request, "endTime": "timestamp"},
    "response": {"code?": "int", "headers": "map(string, dyn)"},
    "llm": {
        **_members("llm"),
        **{f"{field}?": "string" if field == "responseModel" else "int" for field in (*_USAGE, "totalTokens")},
        **dict.fromkeys([f"{field}?" for field in _TIMINGS], "duration"),
    },
}

_WITHIN: Final = "is not here: bodies are not logged"
REASONS_HERE: Final[Mapping[str, str]] = {
    **{name: _NOT_COUNTED if name.startswith("llm.") else reason for name, reason in REASONS.items()},
    **dict.fromkeys(("request.body", "request.bodyPrefix", "llm.prompt", "llm.completion", "llm.toolCalls"), _WITHIN),
    **dict.fromkeys(("response.body", "response.bodyPrefix", "mcp.tool.result", "mcp.tool.error"), _WITHIN),
    "llmRequest": _WITHIN,
    "response.grpcStatus": "is not here: gRPC is not read",
    "proxy": "is not here: the log has its route, and backend.* is where it led",
}


def _target(record: Record) -> str:
    request = record.view
    path = request.raw_path.decode("latin-1")
    return f"{path}?{query_of(record, request.query_string)}" if request.query_string else path


def _uri(record: Record) -> str:
    return f"{record.view.scheme}://{READERS['request.host'](record.view)}{_target(record)}"


def _query(record: Record) -> Mapping[str, tuple[str, ...]]:
    shown = Request({"query_string": query_of(record, record.view.query_string).encode("latin-1")}, now=0)
    return shown.query


def _headers(record: Record) -> HeadersView:
    return HeadersView(record.view.headers, hides=partial(hides_header, record))


def _header(record: Record, name: str) -> Any:
    lowered = name.lower()
    return _headers(record)[name] if hides_header(record, lowered) else READERS["request.headers[]"](record.view, name)


def _answer_headers(record: Record) -> HeadersView:
    raw = tuple((bytes(name).lower(), bytes(value)) for name, value in record.response_headers)
    return HeadersView(Headers(raw), hides=hides_answer_header)


def _end_time(record: Record) -> cel.Timestamp:
    return cel.Timestamp(round((record.request.now + (record.duration or 0)) * 1_000_000) * 1000)


def _code(record: Record) -> int:
    if record.status is None:
        raise cel.Missing("response.code")
    return record.status


def _detail(path: str, name: str) -> Reader:
    def read(record: Record) -> Any:
        value = record.details.get(name)
        if value is None:
            raise cel.Missing(path)
        return value

    return read


def _total(record: Record) -> int:
    counts = [record.details.get(_USAGE[field]) for field in ("inputTokens", "outputTokens")]
    if counts == [None, None]:
        raise cel.Missing("llm.totalTokens")
    return sum(count for count in counts if isinstance(count, int))


def _duration(path: str, name: str) -> Reader:
    seconds = _detail(path, name)
    return lambda record: cel.Duration(round(seconds(record) * 1_000_000) * 1000)


def _of_view(reader: Reader) -> Reader:
    return lambda record, *key: reader(record.view, *key)


def _whole(path: str) -> Reader:
    """Of what has fields, each of which is read as it is here."""
    of_rules = READERS[path]

    def read(record: Record) -> Any:
        found = of_rules(record.view)
        return found if found is cel.UNKNOWN else Whole(path, record, OF_RECORDS)

    return read


_HAVE_FIELDS: Final = {path.rpartition(".")[0] for path in READERS if not path.endswith("[]")} - {""}

OF_RECORDS: Final[Mapping[str, Reader]] = {
    **{path: _of_view(reader) for path, reader in READERS.items() if path != "request.body"},
    **{path: _whole(path) for path in _HAVE_FIELDS},
    "request.uri": _uri,
    "request.pathAndQuery": _target,
    "request.query": _query,
    "request.headers": _headers,
    "request.headers[]": _header,
    "request.endTime": _end_time,
    "response": lambda record: Whole("response", record, OF_RECORDS),
    "response.code": _code,
    "response.headers": _answer_headers,
    **{f"llm.{field}": _detail(f"llm.{field}", name) for field, name in _USAGE.items()},
    "llm.totalTokens": _total,
    **{f"llm.{field}": _duration(f"llm.{field}", name) for field, name in _TIMINGS.items()},
}
"""How each variable is read from a finished Record."""


class Flat(Mapping[str, Any]):
    """A map that is to become several fields: one for each of its entries, or of those within them, too."""

    def __init__(self, entries: Mapping[str, Any], deep: bool) -> None:
        self._entries = entries
        self.deep = deep

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    **FUNCTIONS,
    "random() -> double": random.random,  # for sampling; nobody is kept out by it
    "flatten(map(string, dyn)) -> map(string, dyn)": lambda entries: Flat(entries, False),
    "flattenRecursive(map(string, dyn)) -> map(string, dyn)": lambda entries: Flat(entries, True),
}


def compiled(text: str, result: str | None = None) -> cel.Expression:
    """An expression of the log. Raises `cel.CompileError`."""
    return cel.compile(
        text,
        variables=DECLARED,
        functions=_FUNCTIONS,
        reasons=REASONS_HERE,
        readers={**OF_RECORDS, **{path: _of_view(reader) for path, reader in env_readers(None).items()}},
        result=result,
    )
