"""The real SDKs of OpenAI, Anthropic and Google through a gateway: what is allowed works, what is not is an error that
they understand."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from agentgate import (
    SDK_LOCATIONS,
    AllowedModels,
    APIKeyAuth,
    CELRules,
    Decision,
    Key,
    LLMBackend,
    Provider,
    Record,
    Request,
    Route,
    Secret,
    StaticKeys,
    allow,
    authorizer,
    create_gateway,
    deny,
    new_key,
)
from agentgate.testing import Recorder

from .fake_providers import Fake, serving
from .servers import PATIENCE, free_port

openai = pytest.importorskip("openai", reason="the extra `e2e` is not installed")
anthropic = pytest.importorskip("anthropic", reason="the extra `e2e` is not installed")
genai = pytest.importorskip("google.genai", reason="the extra `e2e` is not installed")

ALICE, BOB, UPSTREAM = new_key(), new_key(), "sk-upstream-secret-0123456789"
MESSAGES: Any = [{"role": "user", "content": "Hello"}]


@authorizer
def not_too_often(request: Request) -> Decision:
    if request.headers.get("x-busy") is None:
        return allow()
    headers = ((b"retry-after", b"7"),) if request.headers["x-busy"] == "later" else ()
    return deny("rate limit exceeded", status=429, code="rate_limited", headers=headers)


RULES = CELRules(
    allow={
        "small models": 'llm.requestModel in ["gpt-4o-mini", "endless", "embed", "fast", "claude-2030", "gemini-2030"]',
    }
)


@dataclass
class World:
    """A gateway, and the one provider behind all of its routes."""

    url: str
    fake: Fake
    spare: Fake
    recorder: Recorder

    def record(self) -> Record:
        """The Record of the request that was over last."""
        deadline = time.monotonic() + PATIENCE
        while len(self.recorder.records) < self.expected:
            assert time.monotonic() < deadline, "no record"
            time.sleep(0.005)
        return self.recorder.last

    expected: int = 0

    def reset(self) -> None:
        self.recorder.records.clear()
        for fake in (self.fake, self.spare):
            fake.seen.clear()
            fake.gone.clear()
            fake.status = 200
        self.expected = 1

    def openai(self, key: str = ALICE, **options: Any) -> Any:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **options)

    def anthropic(self, key: str = ALICE, **options: Any) -> Any:
        return anthropic.Anthropic(base_url=f"{self.url}/claude", api_key=key, max_retries=0, **options)

    def google(self, key: str = ALICE, **headers: str) -> Any:
        options = genai.types.HttpOptions(base_url=f"{self.url}/google", headers=headers)
        return genai.Client(api_key=key, http_options=options)


@pytest.fixture(scope="module")
def servers() -> Iterator[World]:
    fake, spare, recorder = Fake(), Fake(), Recorder()
    secret = Secret(UPSTREAM)
    with ExitStack() as stack:
        upstream = stack.enter_context(serving(fake.app))
        other = stack.enter_context(serving(spare.app))
        down = f"http://127.0.0.1:{free_port()}/v1"
        several = [
            Provider(f"{upstream}/v1", credential=secret),
            Provider(f"{other}/v1", credential=Secret("sk-other"), weight=0, aliases={"gpt-4o-mini": "other-mini"}),
        ]
        app = create_gateway(
            Route(
                "/v1",
                LLMBackend(f"{upstream}/v1", credential=secret, aliases={"fast": "gpt-4o-mini"}, include_usage=True),
            ),
            Route("/azure", LLMBackend(upstream, provider="azure", credential=secret)),
            Route("/claude", LLMBackend(upstream, provider="anthropic", credential=secret)),
            Route("/google", LLMBackend(upstream, provider="gemini", credential=secret)),
            Route("/several", LLMBackend(several)),
            Route("/down", LLMBackend([Provider(down), Provider(f"{other}/v1", weight=0)])),
            Route("/nowhere", LLMBackend(down)),
            authenticate=[
                APIKeyAuth(
                    StaticKeys([Key("alice", ALICE), Key("bob", BOB, {"allowedModels": ["gemini-*"]})]),
                    location=SDK_LOCATIONS,
                )
            ],
            authorize=[RULES, AllowedModels(), not_too_often],
            observe=[recorder],
        )
        url = stack.enter_context(serving(app))
        yield World(url, fake, spare, recorder)


@pytest.fixture
def world(servers: World) -> World:
    servers.reset()
    return servers


Ask = Callable[[World, str], Any]


def ask_openai(world: World, key: str = ALICE, model: str = "gpt-4o-mini", **headers: str) -> Any:
    with world.openai(key, default_headers=headers) as client:
        return client.chat.completions.create(model=model, messages=MESSAGES).choices[0].message.content


def ask_azure(world: World, key: str = ALICE, model: str = "gpt-4o-mini", **headers: str) -> Any:
    with openai.AzureOpenAI(
        azure_endpoint=f"{world.url}/azure",
        api_key=key,
        api_version="2030-01-01",
        max_retries=0,
        default_headers=headers,
    ) as client:
        return client.chat.completions.create(model=model, messages=MESSAGES).choices[0].message.content


def ask_anthropic(world: World, key: str = ALICE, model: str = "claude-2030", **headers: str) -> Any:
    with world.anthropic(key, default_headers=headers) as client:
        return client.messages.create(model=model, max_tokens=9, messages=MESSAGES).content[0].text


def ask_google(world: World, key: str = ALICE, model: str = "gemini-2030", **headers: str) -> Any:
    with world.google(key, **headers) as client:
        return client.models.generate_content(model=model, contents="Hello").text


SDKS: dict[str, Any] = {"openai": ask_openai, "azure": ask_azure, "anthropic": ask_anthropic, "google": ask_google}
CREDENTIALS = {
    "openai": ("authorization", f"Bearer {UPSTREAM}"),
    "azure": ("api-key", UPSTREAM),
    "anthropic": ("x-api-key", UPSTREAM),
    "google": ("x-goog-api-key", UPSTREAM),
}
PATHS = {
    "openai": "/v1/chat/completions",
    "azure": "/openai/deployments/gpt-4o-mini/chat/completions",
    "anthropic": "/v1/messages",
}
KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


@pytest.mark.parametrize("sdk", SDKS)
def test_what_is_allowed_works(world: World, sdk: str) -> None:
    """The provider gets the request with its own key and no other, and the log knows what it took."""
    assert SDKS[sdk](world) == "Hello there"
    (seen,) = world.fake.seen
    if sdk in PATHS:
        assert seen.path == PATHS[sdk]
    else:
        assert seen.path.endswith("/models/gemini-2030:generateContent")
    name, value = CREDENTIALS[sdk]
    assert {header: seen.headers[header] for header in KEY_HEADERS if header in seen.headers} == {name: value}
    assert ALICE not in str(seen)
    details = world.record().details
    assert details["gen_ai.usage.input_tokens"] == 9
    assert details["gen_ai.usage.output_tokens"] == 5
    assert str(details["gen_ai.response.model"]).endswith("2030")
    assert world.recorder.last.protocol == "llm"


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("key", [new_key(), "sk-wrong"])
def test_a_bad_key_is_an_authentication_error(world: World, sdk: str, key: str) -> None:
    with pytest.raises(Exception) as caught:
        SDKS[sdk](world, key)
    error: Any = caught.value
    if sdk == "google":
        assert isinstance(error, genai.errors.ClientError)
        assert (error.code, error.status) == (401, "UNAUTHENTICATED")
        assert error.message == "api key authentication failure: invalid credentials"
    else:
        sort: Any = anthropic.AuthenticationError if sdk == "anthropic" else openai.AuthenticationError
        assert isinstance(error, sort)
        assert "api key authentication failure: invalid credentials" in str(error)
        if sdk != "anthropic":
            assert error.code == "invalid_api_key"
    assert not world.fake.seen


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("model", ["gpt-4o", "no-such-model"])
def test_a_forbidden_model_is_a_permission_error_whether_it_exists_or_not(world: World, sdk: str, model: str) -> None:
    with pytest.raises(Exception) as caught:
        SDKS[sdk](world, model=model)
    error: Any = caught.value
    if sdk == "google":
        assert (error.code, error.status) == (403, "PERMISSION_DENIED")
    else:
        sort: Any = anthropic.PermissionDeniedError if sdk == "anthropic" else openai.PermissionDeniedError
        assert isinstance(error, sort)
    assert "authorization failed" in str(error)
    assert model not in str(error)
    assert not world.fake.seen


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("when", ["later", "never"])
def test_a_limit_is_a_rate_limit_error(world: World, sdk: str, when: str) -> None:
    with pytest.raises(Exception) as caught:
        SDKS[sdk](world, **{"x-busy": when})
    error: Any = caught.value
    if sdk == "google":
        assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED")
    else:
        sort: Any = anthropic.RateLimitError if sdk == "anthropic" else openai.RateLimitError
        assert isinstance(error, sort)
        assert error.response.headers.get("retry-after") == ("7" if when == "later" else None)
    assert "rate limit exceeded" in str(error)
    assert not world.fake.seen


def test_where_trying_again_is_pointless_sdks_do_not(world: World) -> None:
    with (
        openai.OpenAI(base_url=f"{world.url}/v1", api_key=ALICE, max_retries=2) as client,
        pytest.raises(openai.RateLimitError),
    ):
        client.with_options(default_headers={"x-busy": "never"}).chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES
        )
    world.record()
    assert len(world.recorder.records) == 1


def test_a_key_may_be_held_to_models(world: World) -> None:
    assert ask_google(world, BOB) == "Hello there"
    with pytest.raises(openai.PermissionDeniedError) as caught:
        ask_openai(world, BOB)
    assert caught.value.code == "model_not_allowed"
    assert caught.value.body["message"] == "Model is not allowed for this API key"


def test_a_bad_request_is_a_bad_request_error(world: World) -> None:
    with world.openai() as client:
        for extra in ({"models": ["gpt-4o"]}, {"Model": "gpt-4o"}, {"api_base": "http://evil"}):
            with pytest.raises(openai.BadRequestError, match="invalid request: the body has a member"):
                client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, extra_body=extra)
        with pytest.raises(openai.BadRequestError, match="the model is not named"):
            client.responses.create(input="Hello", prompt={"id": "pmpt_1"})
    assert not world.fake.seen


def test_openai_streams_and_the_log_knows_what_they_took(world: World) -> None:
    """The gateway asks for usage, and the client that did not ask does not see it."""
    with world.openai() as client:
        chunks = [*client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)]
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == "Hello there"
    assert len(chunks) == 2
    assert world.fake.last.json["stream_options"] == {"include_usage": True}
    details = world.record().details
    assert {name: value for name, value in details.items() if "time" not in name} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2030",
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning_tokens": 2,
    }
    assert 0 <= float(details["agw.ai.time_to_first_token"]) < PATIENCE
    assert 0 <= float(details["agw.ai.time_per_output_token"]) < PATIENCE


def test_openai_streams_with_usage_for_the_client_that_asks(world: World) -> None:
    with world.openai() as client:
        chunks = [
            *client.chat.completions.create(
                model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
        ]
    assert (len(chunks), chunks[-1].usage.total_tokens) == (3, 14)
    assert world.record().details["gen_ai.usage.output_tokens"] == 5


def test_openai_responses_streaming_or_not(world: World) -> None:
    with world.openai() as client:
        assert client.responses.create(model="gpt-4o-mini", input="Hello").output_text == "Hello there"
        assert world.record().details["gen_ai.usage.cache_read.input_tokens"] == 4
        world.reset()
        events = [*client.responses.create(model="gpt-4o-mini", input="Hello", stream=True)]
    assert events[-1].response.output_text == "Hello there"
    details = world.record().details
    assert (details["gen_ai.usage.output_tokens"], details["gen_ai.response.model"]) == (5, "gpt-4o-mini-2030")


def test_openai_embeddings(world: World) -> None:
    with world.openai() as client:
        answer = client.embeddings.create(model="embed", input="Hello", dimensions=2, encoding_format="float")
    assert answer.data[0].embedding == [0.5, 0.25]
    details = world.record().details
    assert (details["gen_ai.operation.name"], details["gen_ai.usage.input_tokens"]) == ("embeddings", 3)
    assert (details["gen_ai.embeddings.dimension.count"], details["gen_ai.request.encoding_formats"]) == (2, "float")


def test_anthropic_streams_and_counts(world: World) -> None:
    with world.anthropic() as client:
        with client.messages.stream(model="claude-2030", max_tokens=9, messages=MESSAGES) as stream:
            assert stream.get_final_text() == "Hello there"
        details = world.record().details
        assert details["gen_ai.usage.input_tokens"] == 9
        assert details["gen_ai.usage.cache_read.input_tokens"] == 4
        assert details["gen_ai.usage.cache_creation.input_tokens"] == 3
        assert details["gen_ai.usage.output_tokens"] == 5
        assert details["gen_ai.request.max_tokens"] == 9
        assert world.fake.last.headers["anthropic-version"]
        world.reset()
        assert client.messages.count_tokens(model="claude-2030", messages=MESSAGES).input_tokens == 9
        assert world.record().details["gen_ai.operation.name"] == "count_tokens"


def test_google_streams_counts_and_embeds(world: World) -> None:
    with world.google() as client:
        parts = [*client.models.generate_content_stream(model="gemini-2030", contents="Hello")]
        assert "".join(part.text for part in parts) == "Hello there"
        details = world.record().details
        assert (details["gen_ai.usage.input_tokens"], details["gen_ai.usage.output_tokens"]) == (9, 5)
        assert details["gen_ai.usage.reasoning_tokens"] == 2
        assert client.models.count_tokens(model="gemini-2030", contents="Hello").total_tokens == 9
        embedded = client.models.embed_content(model="gemini-2030", contents="Hello")
        assert embedded.embeddings[0].values == [0.5, 0.25]


def test_lists_show_the_models_that_may_be_used(world: World) -> None:
    with world.openai() as client:
        assert [model.id for model in client.models.list()] == ["gpt-4o-mini", "claude-2030", "gemini-2030"]
    with world.anthropic() as other:
        assert [model.id for model in other.models.list()] == ["gpt-4o-mini", "claude-2030", "gemini-2030"]
    with world.google(BOB) as third:
        assert [model.name for model in third.models.list()] == ["models/gemini-2030"]


def test_an_alias_is_what_clients_and_rules_see(world: World) -> None:
    assert ask_openai(world, model="fast") == "Hello there"
    assert world.fake.last.json["model"] == "gpt-4o-mini"
    assert world.record().details["gen_ai.request.model"] == "fast"


def test_a_client_that_leaves_is_left_by_the_provider(world: World) -> None:
    with world.openai() as client:
        stream = client.chat.completions.create(model="endless", messages=MESSAGES, stream=True)
        for _ in zip(range(3), stream, strict=False):
            pass
        stream.close()
    assert world.fake.gone.wait(PATIENCE)
    assert world.record().error == "client disconnected"


def chat(world: World, route: str) -> Any:
    with openai.OpenAI(base_url=f"{world.url}/{route}/v1", api_key=ALICE, max_retries=0) as client:
        return client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES).choices[0].message.content


@pytest.mark.parametrize("status", [429, 500, 503])
def test_another_provider_is_asked_when_the_first_one_cannot(world: World, status: int) -> None:
    """With its own key, and its own name of the model."""
    world.fake.status = status
    assert chat(world, "several") == "Hello there"
    assert (len(world.fake.seen), len(world.spare.seen)) in ((1, 1), (0, 1))  # one that failed just now is asked last
    assert world.spare.last.headers["authorization"] == "Bearer sk-other"
    assert world.spare.last.json["model"] == "other-mini"


def test_one_that_cannot_be_reached_is_passed_over(world: World) -> None:
    assert chat(world, "down") == "Hello there"
    assert len(world.spare.seen) == 1


def test_when_none_can_the_client_is_told(world: World) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        chat(world, "nowhere")
    assert caught.value.status_code == 503
    assert caught.value.body == {
        "message": "upstream call failed",
        "type": "server_error",
        "param": None,
        "code": "upstream_failure",
    }
    assert world.record().reason == "UpstreamFailure"


def test_a_client_s_mistake_is_no_reason_to_ask_another(world: World) -> None:
    world.fake.status = 400
    with pytest.raises(openai.BadRequestError, match="the provider's own error"):
        ask_openai(world)
    world.fake.status = 401
    with pytest.raises(openai.InternalServerError, match="upstream call failed"):
        ask_openai(world)
