"""The operations of LLM APIs, by method and path: what is done, and where its one model is named.

They are recognised by the end of the path, because base URLs differ. A path is read as it was sent: what is
percent-encoded is no API's, but for the name of a model. What is not in these tables names no model here.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args
from urllib.parse import quote, unquote

ProviderName = Literal["openai", "azure", "anthropic", "gemini", "vertex"]
Dialect = Literal["openai", "anthropic", "gemini"]  # of bodies, errors and usage

PROVIDERS: Final[tuple[ProviderName, ...]] = get_args(ProviderName)

SEMCONV_NAMES: Final[dict[ProviderName, str]] = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
}
"""What OpenTelemetry's `gen_ai.provider.name` calls them."""

DIALECTS: Final[dict[ProviderName, Dialect]] = {
    "openai": "openai",
    "azure": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "vertex": "gemini",
}

MAX_MODEL: Final = 256  # characters of a model's name

_OPENAI: Final = {
    "/chat/completions": "chat",
    "/responses": "chat",
    "/responses/compact": "chat",
    "/responses/input_tokens": "count_tokens",
    "/completions": "text_completion",
    "/embeddings": "embeddings",
    "/images/generations": "image_generation",
    "/audio/speech": "speech",
    "/rerank": "rerank",
}
_ANTHROPIC: Final = {"/v1/messages": "chat", "/v1/messages/count_tokens": "count_tokens"}
_GOOGLE: Final = {
    "generateContent": "generate_content",
    "streamGenerateContent": "generate_content",
    "countTokens": "count_tokens",
    "computeTokens": "count_tokens",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
    "predict": "predict",
    "rawPredict": "chat",
    "streamRawPredict": "chat",
}
_STREAMS: Final = ("streamGenerateContent", "streamRawPredict")
_RAW: Final = ("rawPredict", "streamRawPredict")

# Segments in front of an operation that name a model to some servers: `/engines/gpt-4/chat/completions`.
NAMES_A_MODEL: Final = re.compile(
    r"/(?:engines|deployments|models?|tunedModels|publishers|endpoints/\d+)(?:/|$)"
).search


def _ends(table: dict[str, str]) -> re.Pattern[str]:
    """What ends in one of these paths, the longest first."""
    return re.compile("(.*?)(" + "|".join(re.escape(path) for path in sorted(table, key=len, reverse=True)) + ")")


_OPENAI_PATH: Final = _ends(_OPENAI).fullmatch
_ANTHROPIC_PATH: Final = _ends(_ANTHROPIC).fullmatch
_AZURE_PATH: Final = re.compile(
    r".*?(/openai/deployments/)([^/]+)(/(?:chat/completions|completions|embeddings|images/generations|audio/speech))"
).fullmatch
_AZURE_V1_PATH: Final = re.compile(r".*?(/openai/v1)(/.*)").fullmatch
_GEMINI_PATH: Final = re.compile(r".*?(/v[0-9][a-z0-9]*/)(models|tunedModels)/([^/:]+)(:[A-Za-z]+)").fullmatch
_VERTEX_PATH: Final = re.compile(
    r".*?(/v[0-9][a-z0-9]*/(?:projects/[^/]+/locations/[^/]+/)?)(publishers/([^/]+)/models|endpoints)/([^/:]+)(:[A-Za-z]+)"
).fullmatch
_LIST_PATH: Final = re.compile(r"(.*?)((?:/v[0-9][a-z0-9]*)?/models)(?:/([^/]+))?").fullmatch


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one API. `model` is the name in the path, if that is where it is. `path`: what follows the
    base URL, in three parts, the middle one the model's own segment. `lists`: about all models, and none. `parameter`:
    the one of the query that names the model, if that is where it is."""

    name: str
    provider: ProviderName
    dialect: Dialect
    path: tuple[str, str, str]
    model: str | None = None
    streaming: bool = False
    lists: bool = False
    parameter: str | None = None

    @property
    def in_body(self) -> bool:
        """Whether the model is a member of the body."""
        return self.model is None and not self.lists and self.parameter is None

    @property
    def provider_name(self) -> str:
        return SEMCONV_NAMES[self.provider]

    def path_for(self, model: str | None) -> bytes:
        """The path below the base URL, with another model in it if one is given and the path names one."""
        before, own, after = self.path
        return f"{before}{quote(model, safe='') if model and own else own}{after}".encode()


@lru_cache(256)
def recognise(
    method: str, path: str, provider: ProviderName | None = None, *, hint: ProviderName = "openai"
) -> Operation | None:
    """The operation that a request asks for; None for what is not known. `path` is as it was sent. `provider`: whose
    APIs are meant, None for all of them; `hint`: whose list of models, where the path does not tell."""
    found: Operation | None = None
    if method == "GET":
        found = _listing(path, provider or hint)
    elif method == "POST":
        for one in _TRIED if provider is None else (provider,):
            found = _POST[one](path)
            if found is not None:
                break
    if found is None or path.count("%") != found.path[1].count("%"):
        return None
    return found


def _openai(path: str, provider: ProviderName = "openai") -> Operation | None:
    match = _OPENAI_PATH(path)
    if match is None or NAMES_A_MODEL(match[1]):
        return None
    return Operation(_OPENAI[match[2]], provider, "openai", (match[2], "", ""))


def _azure(path: str) -> Operation | None:
    match = _AZURE_PATH(path)
    if match is None:
        later = _AZURE_V1_PATH(path)
        found = _openai(later[2], "azure") if later else None
        if found is None or later is None or found.path[0] != later[2]:
            return None
        return Operation(found.name, "azure", "openai", (later[1] + later[2], "", ""))
    return Operation(_OPENAI[match[3]], "azure", "openai", (match[1], match[2], match[3]), unquote(match[2]))


def _anthropic(path: str) -> Operation | None:
    match = _ANTHROPIC_PATH(path)
    if match is None or NAMES_A_MODEL(match[1]):
        return None
    return Operation(_ANTHROPIC[match[2]], "anthropic", "anthropic", (match[2], "", ""))


def _gemini(path: str) -> Operation | None:
    match = _GEMINI_PATH(path)
    if match is None or match[4][1:] not in _GOOGLE or match[4][1:] in _RAW:
        return None
    kind, model, verb = match[2], unquote(match[3]), match[4][1:]
    return Operation(
        _GOOGLE[verb],
        "gemini",
        "gemini",
        (f"{match[1]}{kind}/", match[3], match[4]),
        model if kind == "models" else f"{kind}/{model}",
        streaming=verb in _STREAMS,
    )


def _vertex(path: str) -> Operation | None:
    match = _VERTEX_PATH(path)
    if match is None or match[5][1:] not in _GOOGLE:
        return None
    kind, publisher, model, verb = match[2], match[3], unquote(match[4]), match[5][1:]
    raw: Dialect = "anthropic" if publisher == "anthropic" else "openai"
    return Operation(
        _GOOGLE[verb],
        "vertex",
        raw if verb in _RAW else "gemini",
        (f"{match[1]}{kind}/", match[4], match[5]),
        model if publisher else f"{kind}/{model}",
        streaming=verb in _STREAMS,
    )


_POST: Final = {
    "openai": _openai,
    "azure": _azure,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "vertex": _vertex,
}
_TRIED: Final[tuple[ProviderName, ...]] = ("vertex", "gemini", "azure", "anthropic", "openai")


def _listing(path: str, provider: ProviderName) -> Operation | None:
    """The list of models, or one of them."""
    match = _LIST_PATH(path)
    if match is None or provider == "vertex" or NAMES_A_MODEL(match[1]):
        return None
    before, kind, model = match[1], match[2], match[3]
    if provider == "openai":
        kind = "/models"
    elif provider == "azure":
        kind = before[before.rfind("/openai") :] + kind if "/openai" in before else "/openai" + kind
    dialect = DIALECTS[provider]
    if model is None:
        return Operation("list_models", provider, dialect, (kind, "", ""), lists=True)
    return Operation("get_model", provider, dialect, (f"{kind}/", model, ""), unquote(model))


def below_version(path: str, provider: ProviderName) -> str:
    """What follows the base URL of an operation that is not known: for OpenAI what comes after the version, for Azure
    from `/openai` on, else from the version on; all of the path where it has none."""
    pattern = _UNKNOWN.get(provider, _FROM_VERSION)
    match = pattern(path)
    return match[1] if match else path


_FROM_VERSION: Final = re.compile(r".*?(/v[0-9][a-z0-9]*(?:/.*)?)").fullmatch
_UNKNOWN: Final = {
    "openai": re.compile(r".*?/v[0-9][a-z0-9]*(/.*)").fullmatch,
    "azure": re.compile(r".*?(/openai(?:/.*)?)").fullmatch,
}


def model_fault(name: object, *, in_path: bool = False) -> str | None:
    """Why this cannot be the name of a model, or None. Names are visible ASCII; rules compare them as they are."""
    if not isinstance(name, str):
        return "the model is not named" if name is None else "the model's name is no text"
    if not name or len(name) > MAX_MODEL or not name.isascii() or not name.isprintable() or " " in name:
        return "the model's name is empty, too long, or not visible ASCII"
    if in_path and any(mark in name.removeprefix("tunedModels/").removeprefix("endpoints/") for mark in "/%?#"):
        return "the model's name has a character that a path gives another meaning"
    return None
