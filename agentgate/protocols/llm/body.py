"""What a request's body asks for: one model, named once and spelt exactly, and the parameters that rules read.

Whatever could make a server behind us take another model, or ask another server, is refused: members that routers
read (`models`, `fallbacks`, `api_base`, ...), a member twice in different spellings, a path and a body that disagree.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from .apis import Dialect, Operation, model_fault
from .splice import with_member

# Folded names of members by which routers choose another model or another server.
_ROUTES: Final = re.compile(
    r".*(?:model|fallback|litellm).*"
    r"|(?:api|base)(?:base|url|key|type|version)|(?:custom)?llmprovider|customllmprovider"
    r"|engine(?:id|name)?|deployment(?:id|name)?|rout(?:e|er|ing|ingconfig)|preset|extra(?:body|headers|query)"
).fullmatch
_HARMLESS: Final = frozenset({"modelarmorconfig"})

_NUMBER: Final = (int, float)

# Member names by the names that rules have for them; several for the same thing have to agree.
_OPENAI_PARAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "frequency_penalty": ("frequency_penalty",),
    "presence_penalty": ("presence_penalty",),
    "seed": ("seed",),
    "max_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens"),
    "encoding_format": ("encoding_format",),
    "dimensions": ("dimensions",),
}
_GEMINI_PARAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "temperature": ("temperature",),
    "top_p": ("topP", "top_p"),
    "frequency_penalty": ("frequencyPenalty", "frequency_penalty"),
    "presence_penalty": ("presencePenalty", "presence_penalty"),
    "seed": ("seed",),
    "max_tokens": ("maxOutputTokens", "max_output_tokens"),
}
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "seed": (int,),
    "max_tokens": (int,),
    "encoding_format": (str,),
    "dimensions": (int,),
}
_CONFIG: Final = ("generationConfig", "generation_config")
_REQUEST: Final = ("generateContentRequest", "generate_content_request")


class Ambiguous(ValueError):
    """The body has not one reading as a request to one model. The message quotes no value."""


@lru_cache(4096)
def _fold(name: str) -> str:
    """What a careless reader may take a member's name for: case, width and separators apart."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return folded.replace("_", "").replace("-", "")


def exact(*tables: Mapping[str, tuple[str, ...]], plus: tuple[str, ...] = ()) -> dict[str, frozenset[str]]:
    """Members that decide, by their folded names: the spellings that they may have."""
    names = [*plus, *(name for table in tables for spelt in table.values() for name in spelt)]
    return {_fold(name): frozenset(other for other in names if _fold(other) == _fold(name)) for name in names}


# The members that decide, by their folded names: these spellings of them, and no other.
_OPENAI: Final = exact(_OPENAI_PARAMS, plus=("model", "stream", "stream_options", "tools"))
_GEMINI: Final = exact(plus=("model", "requests", "tools", *_CONFIG, *_REQUEST))
_GEMINI_CONFIG: Final = exact(_GEMINI_PARAMS)
_TOOL: Final = exact(plus=("model", "type"))
_QUERY: Final = exact(plus=("api-version", "key", "api_key", "api-key", "apikey"))  # Azure's; where keys may be
_GOOGLE_QUERY: Final = frozenset({"alt", "key", "access_token", "pageSize", "pageToken"})


def checked(value: Any, what: str, exact: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """The object, if no member of it is what a careless reader takes for another."""
    if not isinstance(value, dict):
        raise Ambiguous(f"{what} is no JSON object")
    folded = [_fold(name) if len(name) <= 256 else name for name in value]
    if len(set(folded)) != len(folded):
        raise Ambiguous(f"{what} has a member twice, in different spellings")
    for name, fold in zip(value, folded, strict=True):
        spellings = exact.get(fold)
        if spellings is not None:
            if name not in spellings:
                raise Ambiguous(f"{what} has a member in an unusual spelling")
        elif _ROUTES(fold) and fold not in _HARMLESS:
            raise Ambiguous(f"{what} has a member that may choose another model or server")
    return value


def check_query(query: Mapping[str, tuple[str, ...]], operation: Operation) -> None:
    """Raises `Ambiguous` for a parameter that may choose another model or server, or, at Google, another method, other
    headers (`$httpMethod`, `$httpHeaders`) or an answer without its usage (`fields`)."""
    checked(dict.fromkeys(query), "the query", _QUERY)
    if operation.provider in ("gemini", "vertex") and not (
        _GOOGLE_QUERY.issuperset(query) and {"json", "sse"}.issuperset(query.get("alt", ()))
    ):
        raise Ambiguous("the query has a parameter that changes what the API does")


def models(body: Any, operation: Operation) -> list[str]:
    """The model that is asked for, and after it any that a tool is told to use. Raises `Ambiguous`."""
    body = checked(body, "the body", _GEMINI if operation.dialect == "gemini" else _OPENAI)
    model: Any = body.get("model") if operation.in_body else operation.model
    fault = model_fault(model, in_path=not operation.in_body)
    if fault is not None:
        raise Ambiguous(fault)
    if not operation.in_body and any(not _agree(named, operation) for named in _named(body)):
        raise Ambiguous("the body names another model than the path")
    return [model, *models_of_tools(body.get("tools"))]


def _named(body: dict[str, Any]) -> Iterator[Any]:
    """Every other place in the body that names the model of the path."""
    if "model" in body:
        yield body["model"]
    requests = body.get("requests")
    nested = [*requests] if isinstance(requests, list) else [] if requests is None else [requests]
    nested += [body[name] for name in _REQUEST if name in body]
    for request in nested:
        request = checked(request, "a request in the body", _GEMINI)
        if "model" in request:
            yield request["model"]


def _agree(named: Any, operation: Operation) -> bool:
    model = operation.model
    if operation.dialect != "gemini":
        return bool(named == model)
    full = "".join(operation.path[:2])  # .../models/x
    return isinstance(named, str) and (named == model or (len(named) > len(str(model)) and full.endswith(f"/{named}")))


def models_of_tools(tools: Any) -> Iterator[str]:
    """Models that run as a tool of the first: OpenAI's image generation, Anthropic's advisor."""
    if tools is None:
        return
    if not isinstance(tools, list):
        raise Ambiguous("the tools are no list")
    for tool in tools:
        model = checked(tool, "a tool", _TOOL).get("model")
        if model is not None:
            fault = model_fault(model)
            if fault is not None:
                raise Ambiguous(fault)
            yield model


def renamed(body: bytes, operation: Operation, name: str) -> bytes:
    """The body, which `models` has read, with another name for its model wherever it is named; nothing else of it is
    changed."""
    if operation.in_body:
        return with_member(body, "model", name)
    document = json.loads(body)
    model = str(operation.model)

    def rename(request: dict[str, Any]) -> dict[str, Any]:
        named = request.get("model")
        return request if named is None else {**request, "model": named.removesuffix(model) + name}

    if "model" in document:
        body = with_member(body, "model", rename(document)["model"])
    if operation.dialect == "gemini":
        if isinstance(document.get("requests"), list):
            body = with_member(body, "requests", [rename(request) for request in document["requests"]])
        for member in _REQUEST:
            if member in document:
                body = with_member(body, member, rename(document[member]))
    return body


def streaming(body: dict[str, Any], operation: Operation) -> bool:
    """Whether the answer is asked for as a stream. Raises `Ambiguous`."""
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise Ambiguous("stream is neither true nor false")
    return operation.streaming or stream is True


def params(body: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    """The parameters that rules may read; raises `Ambiguous` for one that is not of its kind, which a server might
    still understand."""
    table = _OPENAI_PARAMS
    if dialect == "gemini":
        table = _GEMINI_PARAMS
        configs = [body[name] for name in _CONFIG if body.get(name) is not None]
        body = checked(configs[0], "the generation config", _GEMINI_CONFIG) if configs else {}
    found: dict[str, Any] = {}
    for name, spellings in table.items():
        for spelt in spellings:
            value = body.get(spelt)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, _KINDS.get(name, _NUMBER)):
                raise Ambiguous(f"{spelt} is of another kind than its API says")
            if found.setdefault(name, value) != value:
                raise Ambiguous(f"{spelt} contradicts another parameter")
    return found
