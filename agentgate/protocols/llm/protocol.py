"""LLM: which model a request asks for, whatever provider's API it speaks.

The model is read from the one place where the API has it. What else could choose a model or a server is refused in the
body and the query, and taken out of the headers. A request that is not known has no model: rules about models deny it.
"""

from types import MappingProxyType
from typing import Any, ClassVar, Final

from ...auth.location import RawHeaderList
from ...call import Call
from ...decision import Decision, Reason, deny
from ...errors import ConfigurationError
from ...record import Record
from ...request import Request
from ...respond import Message, Receive, Send
from ...strict_json import StrictJSONError
from ..protocol import AnswerRefused, May, Protocol, Reading, unusable
from .apis import DIALECTS, PROVIDERS, SEMCONV_NAMES, Dialect, Operation, ProviderName, model_fault, recognise
from .body import Ambiguous, check_query, models, params, streaming
from .errors import said
from .listing import MAX_LIST, NotAList, filtered
from .realtime import SessionWatch, check_handshake, models_of, session
from .splice import with_member
from .usage import DocumentWatch, StreamWatch, UsageSwallow, Watch

_ROUTING_PREFIXES: Final = (b"x-litellm-", b"x-portkey-", b"helicone-", b"x-openrouter-", b"cf-aig-")
_CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"range"})
_VALIDATORS: Final = frozenset({b"etag", b"last-modified", b"content-length", b"accept-ranges", b"content-md5"})

_REQUEST_DETAILS: Final = {
    "temperature": "gen_ai.request.temperature",
    "dimensions": "gen_ai.embeddings.dimension.count",
    "encoding_format": "gen_ai.request.encoding_formats",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}


class LLM(Protocol):
    """Reads requests to LLM APIs. `provider`: whose API is spoken; None for any, told apart by path and headers.

    `include_usage` asks OpenAI's streams for their usage where the client has not, and keeps what comes of it from it.
    """

    name: ClassVar[str] = "llm"

    def __init__(self, provider: ProviderName | None = None, *, include_usage: bool = False) -> None:
        if provider is not None and provider not in PROVIDERS:
            raise ConfigurationError(f"provider is one of {', '.join(PROVIDERS)}, not {provider!r}")
        self.provider = provider
        self.include_usage = include_usage

    def operation(self, request: Request) -> Operation | None:
        """What the request asks for; None when that is not known."""
        if request.type == "websocket":
            return session(request, self.provider)
        path = request.raw_path.decode("latin-1")
        return recognise(request.method, path, self.provider, hint=_speaker(request))

    def reads_body(self, request: Request) -> bool:
        return request.method == "POST" and self.operation(request) is not None

    def read(self, request: Request) -> Reading | Decision:
        operation = self.operation(request)
        if operation is None:
            return _Unknown(self._dialect(request), self.provider or _speaker(request))
        attributes: dict[str, Any] = {"provider": operation.provider_name}
        try:
            if operation.parameter is not None:
                check_handshake(request.query_string, operation)
                attributes["streaming"] = True
                return _Session(operation, Call("llm", operation.name, model=operation.model, attributes=attributes))
            check_query(request.query, operation)
            if operation.lists:
                return _Listing(operation, Call("llm", operation.name, provisional=True, attributes=attributes))
            body = {} if request.method == "GET" else request.json()
            named = models(body, operation)
            attributes["streaming"] = streaming(body, operation)
            attributes["params"] = params(body, operation.dialect)
        except (Ambiguous, StrictJSONError) as exc:
            return said(_refuse(400, f"invalid request: {exc}"), operation.dialect)
        calls = [Call("llm", operation.name, model=model, attributes=MappingProxyType(attributes)) for model in named]
        return _Known(operation, *calls, usage=_usage_options(body, operation) if self.include_usage else None)

    def refuse(self, decision: Decision, request: Request) -> Decision:
        return said(decision, self._dialect(request))

    def _dialect(self, request: Request) -> Dialect:
        operation = self.operation(request)
        return DIALECTS[self.provider or _speaker(request)] if operation is None else operation.dialect

    def __repr__(self) -> str:
        return f"LLM({self.provider!r})"


class _Unknown(Reading):
    """A request that is not known: no model, and so nothing for rules about models to allow."""

    def __init__(self, dialect: Dialect, provider: ProviderName) -> None:
        name = SEMCONV_NAMES[provider]
        super().__init__(Call("llm", "unknown", attributes={"provider": name}))
        self.details = {"gen_ai.provider.name": name}
        self._dialect = dialect

    def refuse(self, decision: Decision, call: Call | None) -> Decision:
        return said(decision, self._dialect)

    def onward(self, headers: RawHeaderList, body: bytes | None) -> tuple[RawHeaderList, bytes | None]:
        return [pair for pair in headers if not _chooses(pair[0])], body


class _Known(Reading):
    """A request to one model, and perhaps to others as its tools."""

    def __init__(self, operation: Operation, *calls: Call, usage: dict[str, Any] | None = None) -> None:
        super().__init__(*calls)
        self._operation = operation
        self._usage = usage  # the `stream_options` to send in place of the client's
        self.details = _details(operation, calls[0])

    def refuse(self, decision: Decision, call: Call | None) -> Decision:
        return said(decision, self._operation.dialect)

    def onward(self, headers: RawHeaderList, body: bytes | None) -> tuple[RawHeaderList, bytes | None]:
        """Answers are asked for uncompressed: what they say of usage is read as it passes."""
        kept = [pair for pair in headers if pair[0] != b"accept-encoding" and not _chooses(pair[0])]
        kept.append((b"accept-encoding", b"identity"))
        if self._usage is not None and body is not None:
            body = with_member(body, "stream_options", self._usage)
        return kept, body

    def answering(self, send: Send, may: May, record: Record) -> Send:
        dialect = self._operation.dialect
        watch: Watch | None = None
        swallow: UsageSwallow | None = None

        async def watching(message: Message) -> None:
            nonlocal watch, swallow
            if message["type"] == "http.response.start":
                kind = _readable(message)
                if kind == b"text/event-stream":
                    watch = StreamWatch(record, dialect)
                    swallow = None if self._usage is None else UsageSwallow()
                elif kind == b"application/json":
                    watch = DocumentWatch(record, dialect)
            elif watch is not None:
                chunk = message.get("body", b"")
                if chunk:
                    watch.feed(chunk)
                    if swallow is not None:
                        message = {**message, "body": swallow.feed(chunk)}
                if not message.get("more_body", False):
                    watch.finish()
            await send(message)

        return watching


class _Listing(_Known):
    """A list of models: the answer is held back until all of it is there, and filtered."""

    def onward(self, headers: RawHeaderList, body: bytes | None) -> tuple[RawHeaderList, bytes | None]:
        headers, body = super().onward(headers, body)
        return [pair for pair in headers if pair[0] not in _CONDITIONS], body

    def answering(self, send: Send, may: May, record: Record) -> Send:
        call = self.calls[0]
        start: Message | None = None
        body = b""

        def may_use(model: str) -> bool:
            return model_fault(model) is None and may(
                Call("llm", call.method, model=model, provisional=True, attributes=call.attributes)
            )

        async def filtering(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and 200 <= message["status"] < 300:
                if _readable(message) != b"application/json":
                    raise AnswerRefused(self._not_filtered("not plain JSON"))
                start = message
                return
            if start is None:  # a refusal, or an error, says nothing of models
                await send(message)
                return
            body += message.get("body", b"")
            if len(body) > MAX_LIST:
                raise AnswerRefused(self._not_filtered("too large"))
            if message.get("more_body", False):
                return
            try:
                left = filtered(body, may_use)
            except NotAList as exc:
                raise AnswerRefused(self._not_filtered(str(exc))) from None
            kept = [pair for pair in start["headers"] if pair[0].lower() not in _VALIDATORS]
            await send({**start, "headers": [*kept, (b"content-length", str(len(left)).encode())]})
            await send({"type": "http.response.body", "body": left, "more_body": False})

        return filtering

    def _not_filtered(self, why: str) -> Decision:
        decision = unusable(f"the list of models cannot be filtered: {why}", policy="llm")
        return said(decision, self._operation.dialect)


class _Session(_Known):
    """A session over a websocket: what the client says in it may ask for further models."""

    def hearing(self, receive: Receive, may: May) -> Receive:
        first = self.calls[0]

        async def judging() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                try:
                    named = models_of(message.get("text"))
                except Ambiguous as exc:
                    raise AnswerRefused(_refuse(400, f"invalid request: {exc}")) from None
                for model in named:
                    call = Call("llm", first.method, model=model, attributes=first.attributes)
                    if model != first.model and not may(call):
                        raise AnswerRefused(deny(policy="llm", detail="an event names a model that is not allowed"))
            return message

        return judging

    def answering(self, send: Send, may: May, record: Record) -> Send:
        watch = SessionWatch(record)

        async def watching(message: Message) -> None:
            if message["type"] == "websocket.send":
                watch.hear(message.get("text") or "")
            await send(message)

        return watching


def _speaker(request: Request) -> ProviderName:
    """Whose client this is, where the path does not tell."""
    headers = request.by_name
    if b"anthropic-version" in headers:
        return "anthropic"
    if b"x-goog-api-key" in headers or b"x-goog-api-client" in headers or b"/v1beta/" in request.raw_path:
        return "gemini"
    return "openai"


def _details(operation: Operation, call: Call) -> dict[str, str | int | float]:
    details: dict[str, str | int | float] = {
        "gen_ai.operation.name": operation.name,
        "gen_ai.provider.name": operation.provider_name,
    }
    if call.model is not None:
        details["gen_ai.request.model"] = call.model
    for name, value in call.attributes.get("params", {}).items():
        details[_REQUEST_DETAILS[name]] = value
    return details


def _chooses(name: bytes) -> bool:
    """Whether a header is one by which routers choose another model or server."""
    return b"model" in name or b"fallback" in name or name.startswith(_ROUTING_PREFIXES)


def _usage_options(body: dict[str, Any], operation: Operation) -> dict[str, Any] | None:
    """The `stream_options` that ask for usage, where it has to be asked for: for an OpenAI stream, when the client has
    not. (The Responses API tells it unasked.)"""
    wants = operation.dialect == "openai" and "".join(operation.path).endswith("/completions")
    if not wants or body.get("stream") is not True:
        return None
    options = body.get("stream_options")
    options = {} if options is None else options
    if not isinstance(options, dict) or options.get("include_usage") is True:
        return None
    return {**options, "include_usage": True}


def _readable(head: Message) -> bytes | None:
    """The media type of an answer, if it went well and is in no coding."""
    if not 200 <= head["status"] < 300:
        return None
    kind = None
    for name, value in head.get("headers", ()):
        lowered = name.lower()
        if lowered == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
        elif lowered == b"content-encoding" and value.strip().lower() != b"identity":
            return None
    return kind


def _refuse(status: int, message: str) -> Decision:
    return deny(message, status=status, code="invalid_request", reason=Reason.INVALID_REQUEST, policy="llm")
