"""Which operation a path is, whoever's API, and where its model is named. What is not known names none."""

import pytest

from agentgate import ConfigurationError
from agentgate.protocols.llm import LLM
from agentgate.protocols.llm.apis import PROVIDERS, ProviderName, below_version, model_fault, recognise

V1BETA = "/v1beta/models/gemini-2:generateContent"
VERTEX = "/v1/projects/p/locations/l/publishers/google/models/gemini-2:generateContent"
CLAUDE = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-3:streamRawPredict"

KNOWN: dict[str, tuple[str, str, str | None, str]] = {
    # path: provider, operation, model in the path (None: in the body), the API's own path
    "/v1/chat/completions": ("openai", "chat", None, "/chat/completions"),
    "/openai/v1/chat/completions": ("azure", "chat", None, "/openai/v1/chat/completions"),
    "/api/paas/v4/chat/completions": ("openai", "chat", None, "/chat/completions"),
    "/chat/completions": ("openai", "chat", None, "/chat/completions"),
    "/v1/completions": ("openai", "text_completion", None, "/completions"),
    "/v1/responses": ("openai", "chat", None, "/responses"),
    "/v1/responses/compact": ("openai", "chat", None, "/responses/compact"),
    "/v1/responses/input_tokens": ("openai", "count_tokens", None, "/responses/input_tokens"),
    "/v1/embeddings": ("openai", "embeddings", None, "/embeddings"),
    "/v1/images/generations": ("openai", "image_generation", None, "/images/generations"),
    "/v1/audio/speech": ("openai", "speech", None, "/audio/speech"),
    "/v2/rerank": ("openai", "rerank", None, "/rerank"),
    "/v1/projects/p/locations/l/endpoints/openapi/chat/completions": (
        "openai",
        "chat",
        None,
        "/chat/completions",
    ),
    "/openai/deployments/gpt-4o/chat/completions": (
        "azure",
        "chat",
        "gpt-4o",
        "/openai/deployments/gpt-4o/chat/completions",
    ),
    "/a/openai/deployments/a%2Db/embeddings": (
        "azure",
        "embeddings",
        "a-b",
        "/openai/deployments/a%2Db/embeddings",
    ),
    "/v1/messages": ("anthropic", "chat", None, "/v1/messages"),
    "/claude/v1/messages": ("anthropic", "chat", None, "/v1/messages"),
    "/v1/messages/count_tokens": ("anthropic", "count_tokens", None, "/v1/messages/count_tokens"),
    V1BETA: ("gemini", "generate_content", "gemini-2", V1BETA),
    "/g/v1/models/gemini-2:streamGenerateContent": (
        "gemini",
        "generate_content",
        "gemini-2",
        "/v1/models/gemini-2:streamGenerateContent",
    ),
    "/v1beta/tunedModels/mine:generateContent": (
        "gemini",
        "generate_content",
        "tunedModels/mine",
        "/v1beta/tunedModels/mine:generateContent",
    ),
    "/v1beta/models/m:batchEmbedContents": (
        "gemini",
        "embeddings",
        "m",
        "/v1beta/models/m:batchEmbedContents",
    ),
    VERTEX: ("vertex", "generate_content", "gemini-2", VERTEX),
    "/v1/publishers/google/models/m:countTokens": (
        "vertex",
        "count_tokens",
        "m",
        "/v1/publishers/google/models/m:countTokens",
    ),
    "/v1/projects/p/locations/l/endpoints/123:generateContent": (
        "vertex",
        "generate_content",
        "endpoints/123",
        "/v1/projects/p/locations/l/endpoints/123:generateContent",
    ),
    CLAUDE: ("vertex", "chat", "claude-3", CLAUDE),
}


@pytest.mark.parametrize("path", KNOWN)
def test_operations(path: str) -> None:
    provider, name, model, own = KNOWN[path]
    found = recognise("POST", path)
    assert found is not None
    assert (found.provider, found.name, found.model) == (provider, name, model)
    assert found.in_body is (model is None)
    assert found.path_for(None) == own.encode()
    assert recognise("POST", path, found.provider) == found
    assert recognise("PUT", path) is None


def test_dialects_and_streams() -> None:
    for path, dialect, streaming in (
        (CLAUDE, "anthropic", True),
        (CLAUDE.replace("/anthropic/", "/mistralai/").replace("streamRaw", "raw"), "openai", False),
        (VERTEX, "gemini", False),
        (VERTEX.replace("generateC", "streamGenerateC"), "gemini", True),
    ):
        found = recognise("POST", path)
        assert found is not None
        assert (found.dialect, found.streaming) == (dialect, streaming)


UNKNOWN = [
    "/",
    "/v1",
    "/v1/files",
    "/v1/chat/completions/",
    "/v1/Chat/Completions",
    "/v1/chat/completions/chatcmpl-1",
    "/v1/chat/%63ompletions",
    "/v%31/chat/completions",
    "/v1/xchat/completions-",
    "/v1/xcompletions",
    "/v1/messages/batches",
    "/v1/audio/transcriptions",
    "/v1/responses/resp_1",
    "/v1/responses/resp_1/cancel",
    "/v1/batches",
    "/v1/moderations",
    # A server may take the model from these paths, whatever the body says.
    "/engines/gpt-4/chat/completions",
    "/v1/engines/gpt-4/completions",
    "/%65ngines/gpt-4/chat/completions",
    "/openai/deployments/gpt-4/extra/chat/completions",
    "/models/gpt-4/v1/chat/completions",
    "/model/gpt-4/v1/messages",
    "/publishers/google/v1/messages",
    "/v1/projects/p/locations/l/endpoints/123/chat/completions",
    "/openai/deployments/gpt-4/responses",
    "/openai/v1/nothing",
    "/openai/v1/x/chat/completions",
    # Google's: two colons, no model, a verb nobody knows, a verb of Vertex alone.
    "/v1beta/models/cheap:generateContent:generateContent",
    "/v1beta/models/:generateContent",
    "/v1beta/models/m:batchGenerateContent",
    "/v1beta/models/m:GenerateContent",
    "/v1beta/models/m:rawPredict",
    "/v1beta/models/m/x:generateContent",
    "/v1beta/models/m%3AgenerateContent",
    "/models/m:generateContent",
    "/v1/projects/p/locations/l/publishers/google/models/m:unknown",
    "/v1%62eta/models/m:generateContent",
]


@pytest.mark.parametrize("path", UNKNOWN)
def test_what_is_not_known(path: str) -> None:
    assert path == "/openai/v1/x/chat/completions" or recognise("POST", path) is None
    assert recognise("POST", path, "azure") is None


def test_only_the_provider_s_own() -> None:
    for path, own in (("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic"), (V1BETA, "gemini")):
        for provider in PROVIDERS:
            assert (recognise("POST", path, provider) is not None) == (provider == own)


LISTS: list[tuple[ProviderName, str, str | None, str | None]] = [
    # provider, path, the API's own path (None: not known), model
    ("openai", "/v1/models", "/models", None),
    ("openai", "/v1/models/gpt-4o", "/models/gpt-4o", "gpt-4o"),
    ("openai", "/v1/models/ft:gpt-4o:us", "/models/ft:gpt-4o:us", "ft:gpt-4o:us"),
    ("openai", "/models", "/models", None),
    ("openai", "/v1/models/a/b", None, None),
    ("openai", "/v1/models/", None, None),
    ("openai", "/engines/x/models", None, None),
    ("azure", "/openai/models", "/openai/models", None),
    ("azure", "/x/openai/v1/models", "/openai/v1/models", None),
    ("azure", "/models", "/openai/models", None),
    ("anthropic", "/claude/v1/models", "/v1/models", None),
    ("anthropic", "/v1/models/claude-3", "/v1/models/claude-3", "claude-3"),
    ("gemini", "/v1beta/models", "/v1beta/models", None),
    ("gemini", "/v1beta/models/gemini-2", "/v1beta/models/gemini-2", "gemini-2"),
    ("vertex", "/v1/models", None, None),
    ("openai", "/v1/publishers/google/models", None, None),
]


@pytest.mark.parametrize(("provider", "path", "own", "model"), LISTS)
def test_lists_of_models(provider: ProviderName, path: str, own: str | None, model: str | None) -> None:
    found = recognise("GET", path, provider)
    if own is None:
        assert found is None
        return
    assert found is not None
    assert (found.path_for(None).decode(), found.model, found.lists) == (own, model, model is None)
    assert recognise("GET", path, hint=provider) == found
    assert recognise("DELETE", path, provider) is None


def test_another_model_in_the_path() -> None:
    for path, own in (
        (V1BETA, b"/v1beta/models/a%2Fb:generateContent"),
        ("/v1/chat/completions", b"/chat/completions"),
        ("/openai/deployments/x/completions", b"/openai/deployments/a%2Fb/completions"),
    ):
        found = recognise("POST", path)
        assert found is not None
        assert found.path_for("a/b") == own


@pytest.mark.parametrize(
    ("provider", "path", "below"),
    [
        ("openai", "/v1/files/f1/content", "/files/f1/content"),
        ("openai", "/x/v1/v1/files", "/v1/files"),
        ("openai", "/files", "/files"),
        ("anthropic", "/claude/v1/messages/batches", "/v1/messages/batches"),
        ("gemini", "/g/v1beta/files", "/v1beta/files"),
        ("vertex", "/v1/projects/p", "/v1/projects/p"),
        ("azure", "/x/openai/assistants", "/openai/assistants"),
        ("azure", "/x", "/x"),
        ("anthropic", "/x", "/x"),
    ],
)
def test_what_follows_the_base_url_of_an_operation_not_known(provider: ProviderName, path: str, below: str) -> None:
    assert below_version(path, provider) == below


@pytest.mark.parametrize("name", ["gpt-4o", "ft:gpt-4o:us::1", "meta-llama/Llama-3", "claude-3@2030", "x" * 256])
def test_names(name: str) -> None:
    assert model_fault(name) is None


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "a\x00", "gpt\u20114o", "x" * 257, None, 1, True, ["a"], {}])
def test_what_cannot_be_a_name(name: object) -> None:
    assert model_fault(name) is not None


@pytest.mark.parametrize("name", ["a/b", "a%2fb", "a?b", "a#b", "tunedModels/a/b"])
def test_what_cannot_be_a_name_in_a_path(name: str) -> None:
    assert model_fault(name, in_path=True) is not None
    assert model_fault("tunedModels/a", in_path=True) is None


def test_a_provider_nobody_knows() -> None:
    with pytest.raises(ConfigurationError, match="openai, azure, anthropic"):
        LLM("mistral")  # type: ignore[arg-type]
    assert repr(LLM("openai")) == "LLM('openai')"
