"""What an answer says of itself: the model that answered, and the tokens it took. Read as it passes, never changed.

Nothing is held back. Of a stream, only the events that speak of usage are parsed; of a large document only its end.
What cannot be read is left out of the log, and nothing else comes of it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeGuard

from ...record import Record
from ..sse import Event, Splitter
from .apis import Dialect

MAX_DOCUMENT: Final = 64 * 1024  # bytes of an answer that is parsed as a whole; of a larger one, its tail is
MAX_TAIL: Final = 16 * 1024
MAX_LINE: Final = 1024 * 1024  # of a stream: a longer line is not looked at. The last event of a response holds it all

_INPUT: Final = "gen_ai.usage.input_tokens"
_OUTPUT: Final = "gen_ai.usage.output_tokens"
_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
_REASONING: Final = "gen_ai.usage.reasoning_tokens"
_AUDIO_IN: Final = "gen_ai.usage.input_audio_tokens"
_AUDIO_OUT: Final = "gen_ai.usage.output_audio_tokens"
_MODEL: Final = "gen_ai.response.model"
FIRST_TOKEN: Final = "agw.ai.time_to_first_token"
PER_TOKEN: Final = "agw.ai.time_per_output_token"

_MARKS: Final[Mapping[Dialect, bytes]] = {
    "openai": b'"usage"',
    "anthropic": b'"usage"',
    "gemini": b'"usageMetadata"',
}


class Watch:
    """Reads one answer for what the Record should know of it. Feed it every chunk, and say when it is over."""

    def __init__(self, record: Record, dialect: Dialect) -> None:
        self._record = record
        self._details = record.details
        self._read = _READERS[dialect]
        self._mark = _MARKS[dialect]

    def _note(self, document: Any) -> None:
        if isinstance(document, dict):
            for name, value in self._read(document):
                if name is _MODEL:
                    if isinstance(value, str):
                        self._details[name] = value
                elif _is_count(value):  # what a stream says is the sum so far
                    self._details[name] = max(value, self._details.get(name, 0))

    def add(self, document: dict[str, Any]) -> None:
        """One of several answers, which are told of together."""
        for name, value in self._read(document):
            if _is_count(value):
                before = self._details.get(name, 0)
                self._details[name] = value + (before if _is_count(before) else 0)

    def feed(self, chunk: bytes) -> None:
        """Look at the next piece of the answer."""

    def finish(self) -> None:
        """The answer is complete."""


class StreamWatch(Watch):
    """Of an event stream. Events are looked at one line at a time, as every provider writes them."""

    def __init__(self, record: Record, dialect: Dialect) -> None:
        super().__init__(record, dialect)
        self._held = b""  # a line that is not complete
        self._began: float | None = None  # when the first bytes came, in seconds from the request's start
        self._looked = False  # at the first event, which names the model

    def feed(self, chunk: bytes) -> None:
        data = self._held + chunk if self._held else chunk
        end = data.rfind(b"\n") + 1
        self._held = data[end:]
        if len(self._held) > MAX_LINE:
            self._held = b""
        if self._began is None:
            self._began = self._record.elapsed
            self._details[FIRST_TOKEN] = round(self._began, 3)
        if self._looked and self._mark not in data:
            return
        for line in data[:end].splitlines():
            if line.startswith(b"data:") and (self._mark in line or not self._looked):
                self._looked = True
                self._note(_parsed(line[5:]))

    def finish(self) -> None:
        tokens = self._details.get(_OUTPUT)
        if self._began is not None and isinstance(tokens, int) and tokens:
            self._details[PER_TOKEN] = round((self._record.elapsed - self._began) / tokens, 6)


class DocumentWatch(Watch):
    """Of one JSON document."""

    def __init__(self, record: Record, dialect: Dialect) -> None:
        super().__init__(record, dialect)
        self._held = b""
        self._whole = True

    def feed(self, chunk: bytes) -> None:
        held = self._held + chunk
        if len(held) > MAX_DOCUMENT:
            self._whole = False
            held = held[-MAX_TAIL:]
        self._held = held

    def finish(self) -> None:
        held = self._held
        if self._whole:
            document = _parsed(held)
            # Google streams without `alt=sse` are one array; what its last element says is the sum.
            self._note(document[-1] if isinstance(document, list) and document else document)
            return
        start = held.rfind(self._mark)
        if start >= 0:
            # Only what stands in the outermost object ends with it; and no string holds this mark unescaped.
            self._note(_parsed(b"{" + held[start:]))


class UsageSwallow:
    """Takes out of a stream the one event that the client has not asked for: the usage, with no choices in it."""

    def __init__(self) -> None:
        self._splitter = Splitter()
        self._between = True  # two events: the splitter holds nothing

    def feed(self, chunk: bytes) -> bytes:
        """What goes on. The last piece of an event that is not complete waits for the rest."""
        whole = self._between and b'"usage"' not in chunk
        self._between = chunk.endswith((b"\n\n", b"\r\n\r\n"))
        if whole and self._between:
            return chunk
        return b"".join([event.raw for event in self._splitter.feed(chunk) if not _is_usage(event)])


def _is_usage(event: Event) -> bool:
    if b'"usage"' not in event.raw:
        return False
    document = _parsed(event.data or b"")
    return isinstance(document, dict) and document.get("choices") == [] and isinstance(document.get("usage"), dict)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


Found = Iterator[tuple[str, Any]]


def _openai(document: dict[str, Any]) -> Found:
    response = document.get("response")  # an event of the Responses API
    if isinstance(response, dict):
        document = response
    yield _MODEL, document.get("model")
    usage = _object(document, "usage")
    yield _INPUT, usage.get("prompt_tokens", usage.get("input_tokens"))
    yield _OUTPUT, usage.get("completion_tokens", usage.get("output_tokens"))
    into = _first(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    out = _first(usage, "completion_tokens_details", "output_tokens_details", "output_token_details")
    yield _CACHE_READ, into.get("cached_tokens")
    yield _AUDIO_IN, into.get("audio_tokens")
    yield _REASONING, out.get("reasoning_tokens")
    yield _AUDIO_OUT, out.get("audio_tokens")


def _anthropic(document: dict[str, Any]) -> Found:
    message = document.get("message")  # of the event that begins a stream; the last one has the rest
    if isinstance(message, dict):
        document = message
    yield _MODEL, document.get("model")
    usage = _object(document, "usage")
    read, created = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    fresh = usage.get("input_tokens")
    if _is_count(fresh):  # OpenTelemetry counts cached tokens in, as the other providers do
        yield _INPUT, fresh + sum(part for part in (read, created) if _is_count(part))
    yield _CACHE_READ, read
    yield _CACHE_CREATION, created
    yield _OUTPUT, usage.get("output_tokens")


def _gemini(document: dict[str, Any]) -> Found:
    yield _MODEL, document.get("modelVersion")
    usage = _object(document, "usageMetadata")
    yield _INPUT, usage.get("promptTokenCount")
    candidates, thoughts = usage.get("candidatesTokenCount"), usage.get("thoughtsTokenCount")
    if _is_count(candidates):  # OpenTelemetry counts reasoning in, as the other providers do
        yield _OUTPUT, candidates + (thoughts if _is_count(thoughts) else 0)
    yield _REASONING, thoughts
    yield _CACHE_READ, usage.get("cachedContentTokenCount")


def _first(document: dict[str, Any], *names: str) -> dict[str, Any]:
    """The first of these that is there: of the chat completions, of the Responses API, of the Realtime API."""
    return next(filter(None, (_object(document, name) for name in names)), {})


def _object(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


_READERS: Final[Mapping[Dialect, Callable[[dict[str, Any]], Found]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
}
