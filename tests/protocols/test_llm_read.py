"""LLM: one model, from the one place where the API has it. Everything that could make a server take another is refused,
and nothing of it reaches the app."""

import json
from typing import Any

import pytest

from agentgate import CELRules, Decision, Gate, Request, authorizer, deny
from agentgate.protocols.llm import LLM
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
AZURE = "/openai/deployments/cheap/chat/completions"
CLAUDE = "/v1/messages"
GEMINI = "/v1beta/models/cheap:generateContent"
EMBED = "/v1beta/models/cheap:batchEmbedContents"
COUNT = "/v1beta/models/cheap:countTokens"
VERTEX = "/v1/projects/p/locations/l/publishers/google/models/cheap:generateContent"
RAW = "/v1/projects/p/locations/l/publishers/anthropic/models/cheap:rawPredict"

CHEAP = CELRules(allow={"cheap": 'llm.requestModel == "cheap"'})
NO_DEAR = CELRules(deny={"dear": 'llm.requestModel == "dear"'})


class App:
    calls = 0
    body = b""
    headers: Any = ()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        self.headers = scope["headers"]
        self.body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


def body_of(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()


GOOD: dict[str, tuple[str, Any]] = {
    "OpenAI's chat": (CHAT, {"model": "cheap", "messages": []}),
    "with an escaped name": (CHAT, '{"\\u006dodel": "ch\\u0065ap"}'),
    "with members nobody knows": (CHAT, {"model": "cheap", "x": 1, "metadata": {"model": "dear", "models": []}}),
    "with tools whose schema has a model": (
        CHAT,
        {"model": "cheap", "tools": [{"type": "function", "function": {"parameters": {"model": {}}}}]},
    ),
    "with a tool that is the same model": (CHAT, {"model": "cheap", "tools": [{"type": "x", "model": "cheap"}]}),
    "with a tool of no model": (CHAT, {"model": "cheap", "tools": [{"type": "x", "model": None}]}),
    "with nothing where a list of tools may be": (CHAT, {"model": "cheap", "tools": None}),
    "Azure's, without a model in the body": (AZURE, {"messages": []}),
    "Azure's, with the same": (AZURE, {"model": "cheap"}),
    "Azure's, with a version": (AZURE + "?api-version=2030-01-01", {}),
    "Anthropic's": (CLAUDE, {"model": "cheap", "max_tokens": 5}),
    "Google's": (GEMINI, {"contents": []}),
    "Google's, with a key in the query": (GEMINI + "?key=abc&alt=sse", {"contents": []}),
    "Google's, that names it again": (GEMINI, {"model": "models/cheap"}),
    "Google's, that names it shortly": (GEMINI, {"model": "cheap"}),
    "Google's embeddings": (EMBED, {"requests": [{"model": "models/cheap", "content": {}}, {"content": {}}]}),
    "Google's count": (COUNT, {"generateContentRequest": {"model": "models/cheap"}}),
    "Google's armor": (GEMINI, {"modelArmorConfig": {}}),
    "Vertex's": (VERTEX, {"contents": []}),
    "Vertex's, that names it in full": (VERTEX, {"model": "publishers/google/models/cheap"}),
    "Anthropic's at Vertex": (RAW, {"anthropic_version": "vertex-2023-10-16", "messages": []}),
}


@pytest.mark.parametrize(("target", "body"), GOOD.values(), ids=GOOD)
async def test_one_model_is_asked_for(target: str, body: Any) -> None:
    """And the body goes on as it was sent."""
    app = App()
    gate = Gate(app, authorize=[CHEAP, NO_DEAR], protocol=LLM())
    exchange = await drive(gate, http_scope("POST", target, headers=JSON), body=body_of(body))
    assert (exchange.status, app.body) == (200, body_of(body))


BAD: dict[str, tuple[str, Any, int]] = {
    "another model": (CHAT, {"model": "dear"}, 403),
    "another spelling of it": (CHAT, {"model": "Cheap"}, 403),
    "no model": (CHAT, {"messages": []}, 400),
    "null": (CHAT, {"model": None}, 400),
    "an empty one": (CHAT, {"model": ""}, 400),
    "a blank one": (CHAT, {"model": " cheap"}, 400),
    "one with a NUL": (CHAT, {"model": "cheap\x00"}, 400),
    "a number": (CHAT, {"model": 1}, 400),
    "a list": (CHAT, {"model": ["cheap", "dear"]}, 400),
    "an object": (CHAT, {"model": {"id": "cheap"}}, 400),
    "two": (CHAT, '{"model": "cheap", "model": "dear"}', 400),
    "two, one escaped": (CHAT, '{"model": "cheap", "mode\\u006c": "dear"}', 400),
    "a second one in capitals": (CHAT, {"model": "cheap", "MODEL": "dear"}, 400),
    "only one in capitals": (CHAT, {"Model": "cheap"}, 400),
    "a second one in full width": (CHAT, {"model": "cheap", "\uff4dodel": "dear"}, 400),
    "a second one with separators": (CHAT, {"model": "cheap", "mo_del": "dear"}, 400),
    "a member twice but for its case": (CHAT, {"model": "cheap", "x_y": 1, "xY": 2}, 400),
    "a stream in another spelling": (CHAT, {"model": "cheap", "Stream": True}, 400),
    "a long s": (CHAT, {"model": "cheap", "\u017ftream": True}, 400),
    "a list of others": (CHAT, {"model": "cheap", "models": ["dear"]}, 400),
    "an empty list of others": (CHAT, {"model": "cheap", "models": []}, 400),
    "fallbacks": (CHAT, {"model": "cheap", "fallbacks": [{"model": "dear"}]}, 400),
    "fallbacks of another kind": (CHAT, {"model": "cheap", "context_window_fallbacks": []}, 400),
    "a base": (CHAT, {"model": "cheap", "api_base": "http://evil"}, 400),
    "a base URL": (CHAT, {"model": "cheap", "base_url": "http://evil"}, 400),
    "a base in another spelling": (CHAT, {"model": "cheap", "apiBase": "http://evil"}, 400),
    "a key": (CHAT, {"model": "cheap", "api_key": "sk"}, 400),
    "an engine": (CHAT, {"model": "cheap", "engine": "dear"}, 400),
    "a deployment": (CHAT, {"model": "cheap", "deployment_id": "dear"}, 400),
    "a provider's name": (CHAT, {"model": "cheap", "custom_llm_provider": "x"}, 400),
    "a preset": (CHAT, {"model": "cheap", "preset": "dear"}, 400),
    "a route": (CHAT, {"model": "cheap", "route": "fallback"}, 400),
    "a body for the upstream": (CHAT, {"model": "cheap", "extra_body": {"model": "dear"}}, 400),
    "a tool that is another": (CHAT, {"model": "cheap", "tools": [{"type": "image_generation", "model": "dear"}]}, 403),
    "Anthropic's advisor": (CLAUDE, {"model": "cheap", "tools": [{"type": "advisor_1", "model": "dear"}]}, 403),
    "a tool that is nothing": (CHAT, {"model": "cheap", "tools": ["x"]}, 400),
    "a tool of two": (CHAT, {"model": "cheap", "tools": [{"model": "cheap", "fallback_model": "dear"}]}, 400),
    "a tool of a number": (CHAT, {"model": "cheap", "tools": [{"model": 1}]}, 400),
    "tools that are no list": (CHAT, {"model": "cheap", "tools": {"model": "dear"}}, 400),
    "tools that are a number": (CHAT, {"model": "cheap", "tools": 7}, 400),
    "a stream that is text": (CHAT, {"model": "cheap", "stream": "true"}, 400),
    "a model in the query": (CHAT + "?model=dear", {"model": "cheap"}, 400),
    "the same in the query": (CHAT + "?model=cheap", {"model": "cheap"}, 400),
    "an encoded one in the query": (CHAT + "?%6dodel=dear", {"model": "cheap"}, 400),
    "a deployment in the query": (CHAT + "?deployment=dear", {"model": "cheap"}, 400),
    "Google's other method": (GEMINI + "?$httpMethod=DELETE", {}, 400),
    "Google's other headers": (GEMINI + "?$httpHeaders=x-goog-api-key:x", {}, 400),
    "Google's answer without usage": (GEMINI + "?fields=candidates", {}, 400),
    "Google's answer in another form": (GEMINI + "?alt=proto", {}, 400),
    "Google's answer in two forms": (VERTEX + "?alt=sse&alt=media", {}, 400),
    "a list for an object": (CHAT, [{"model": "cheap"}], 400),
    "text": (CHAT, '"cheap"', 400),
    "nothing": (CHAT, b"", 400),
    "no JSON": (CHAT, b"{", 400),
    "a byte order mark": (CHAT, b'\xef\xbb\xbf{"model": "cheap"}', 400),
    "UTF-16": (CHAT, '{"model": "cheap"}'.encode("utf-16"), 400),
    "NaN": (CHAT, '{"model": "cheap", "x": NaN}', 400),
    "two documents": (CHAT, '{"model": "cheap"}{"model": "dear"}', 400),
    "Azure's path and another body": (AZURE, {"model": "dear"}, 400),
    "Azure's other path": (AZURE.replace("cheap", "dear"), {"model": "cheap"}, 400),
    "Azure's other path alone": (AZURE.replace("cheap", "dear"), {}, 403),
    "Azure's and a part of its path": (AZURE, {"model": "deployments/cheap"}, 400),
    "Azure's and a number": (AZURE, {"model": 1}, 400),
    "Google's other path": (GEMINI.replace("cheap", "dear"), {"model": "models/cheap"}, 400),
    "Google's path and another body": (GEMINI, {"model": "models/dear"}, 400),
    "Google's path and a list": (GEMINI, {"model": ["models/cheap"]}, 400),
    "Google's path and nothing": (GEMINI, {"model": ""}, 400),
    "Google's path and a part of it": (GEMINI, {"model": "heap"}, 400),
    "Google's embeddings of another": (EMBED, {"requests": [{"model": "models/cheap"}, {"model": "models/dear"}]}, 400),
    "Google's embeddings of nothing": (EMBED, {"requests": [1]}, 400),
    "Google's embeddings in an object": (EMBED, {"requests": {"model": "models/dear"}}, 400),
    "Google's count of another": (COUNT, {"generateContentRequest": {"model": "models/dear"}}, 400),
    "Google's count in the other spelling": (COUNT, {"generate_content_request": {"model": "models/dear"}}, 400),
    "Google's count in both": (
        COUNT,
        {"generateContentRequest": {"model": "models/cheap"}, "generate_content_request": {"model": "models/dear"}},
        400,
    ),
    "Google's router": (
        GEMINI,
        {"generationConfig": {"routingConfig": {"manualMode": {"modelName": "dear"}}}},
        400,
    ),
    "Google's choice": (GEMINI, {"generation_config": {"model_selection_config": {}}}, 400),
    "Google's config twice": (GEMINI, {"generation_config": {}, "generationConfig": {}}, 400),
    "Google's config in a third spelling": (GEMINI, {"GenerationConfig": {"maxOutputTokens": 9}}, 400),
    "Google's config that is none": (GEMINI, {"generationConfig": []}, 400),
    "a tuned one of the same name": ("/v1beta/tunedModels/cheap:generateContent", {}, 403),
    "a tuned one that is named": ("/v1beta/tunedModels/cheap:generateContent", {"model": "cheap"}, 400),
    "an endpoint of the same name": ("/v1/projects/p/locations/l/endpoints/cheap:generateContent", {}, 403),
    "a model with a slash in it": ("/openai/deployments/cheap%3Fx/chat/completions", {}, 400),
    "Anthropic's at Vertex of another": (RAW, {"model": "dear"}, 400),
    "Anthropic's at Vertex that is dear": (RAW.replace("cheap", "dear"), {}, 403),
}


@pytest.mark.parametrize(("target", "body", "status"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("rules", [CHEAP, NO_DEAR], ids=["allow", "deny"])
async def test_nothing_else_is(target: str, body: Any, status: int, rules: CELRules) -> None:
    """Whether rules say what may be, or what may not, the app sees nothing of it. 400: no rule was asked."""
    app, recorder = App(), Recorder()
    gate = Gate(app, authorize=[rules], observe=[recorder], protocol=LLM())
    exchange = await drive(gate, http_scope("POST", target, headers=JSON), body=body_of(body))
    named_dear = b"dear" in body_of(body) or "dear" in target
    if status == 403 and rules is NO_DEAR and not named_dear:
        assert exchange.status == 200
        return
    assert (exchange.status, app.calls) == (status, 0)
    assert exchange.headers["content-type"] == "application/json"
    assert "dear" not in exchange.text
    assert recorder.last.protocol == "llm"


MEDIA = {
    "a form": ("application/x-www-form-urlencoded", b"model=dear"),
    "a multipart form": ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="model"'),
    "text": ("text/plain", b'{"model": "cheap"}'),
    "another charset": ("application/json; charset=utf-7", b'{"model": "cheap"}'),
}


@pytest.mark.parametrize(("kind", "body"), MEDIA.values(), ids=MEDIA)
async def test_other_media_types_are_not_read(kind: str, body: bytes) -> None:
    app = App()
    gate = Gate(app, authorize=[CHEAP], protocol=LLM())
    exchange = await drive(gate, http_scope("POST", CHAT, headers={"content-type": kind}), body=body)
    assert (exchange.status, app.calls) == (415, 0)
    assert json.loads(exchange.body)["error"]["type"] == "invalid_request_error"


async def test_compressed_bodies_are_not_read() -> None:
    app = App()
    headers = {**JSON, "content-encoding": "gzip"}
    exchange = await drive(
        Gate(app, authorize=[CHEAP], protocol=LLM()), http_scope("POST", CHAT, headers=headers), body=b"x"
    )
    assert (exchange.status, app.calls) == (415, 0)


UNKNOWN = {
    "a path nobody knows": ("POST", "/v1/files"),
    "a method nobody knows": ("PUT", CHAT),
    "a known path read": ("GET", CHAT),
    "a stored response": ("GET", "/v1/responses/resp_1"),
    "a deleted model": ("DELETE", "/v1/models/cheap"),
    "a trailing slash": ("POST", CHAT + "/"),
    "audio": ("POST", "/v1/audio/transcriptions"),
    "a path that names a model": ("POST", "/engines/dear/chat/completions"),
}


@pytest.mark.parametrize(("method", "target"), UNKNOWN.values(), ids=UNKNOWN)
async def test_what_is_not_known_has_no_model(method: str, target: str) -> None:
    """Rules about models deny it, those that say no too; rules about anything else decide it, and its body streams."""
    body = b'{"model": "cheap"}'
    for rules, status in (
        (CHEAP, 403),
        (NO_DEAR, 403),
        (CELRules(allow=["llm.requestModel == 'cheap' || !llm.streaming"]), 403),
        (CELRules(allow=['request.path.startsWith("/") && llm.provider == "openai"']), 200),
        (CELRules(allow=["!has(llm.requestModel)"]), 200),
    ):
        app, recorder = App(), Recorder()
        gate = Gate(app, authorize=[rules], observe=[recorder], protocol=LLM())
        exchange = await drive(gate, http_scope(method, target, headers={"content-type": "audio/mpeg"}), body=body)
        assert (exchange.status, app.calls) == (status, 1 if status == 200 else 0)
        if status == 200:
            assert app.body == body
            assert recorder.last.details == {"gen_ai.provider.name": "openai"}


async def test_headers_that_choose_go_no_further() -> None:
    routing = {"x-litellm-model": "dear", "x-model": "dear", "azureml-model-deployment": "dear", "x-fallbacks": "dear",
               "x-portkey-config": "{}", "helicone-target-url": "http://evil", "cf-aig-authorization": "x"}  # fmt: skip
    for target, body in ((CHAT, b'{"model": "cheap"}'), ("/v1/files", b"")):
        app = App()
        gate = Gate(app, authorize=[CELRules(allow=["true"])], protocol=LLM())
        await drive(gate, http_scope("POST", target, headers={**JSON, **routing, "x-mine": "1"}), body=body)
        assert {name.decode() for name, _ in app.headers} - {"accept-encoding"} == {"host", "content-type", "x-mine"}


ATTRIBUTES: list[tuple[str, Any, str, bool, dict[str, Any]]] = [
    (CHAT, {"model": "m"}, "openai", False, {}),
    (
        CHAT,
        {"model": "m", "stream": True, "temperature": 1, "top_p": 0.5, "seed": 7, "max_completion_tokens": 9},
        "openai",
        True,
        {"temperature": 1, "top_p": 0.5, "seed": 7, "max_tokens": 9},
    ),
    (CHAT, {"model": "m", "max_tokens": 9, "max_completion_tokens": 9}, "openai", False, {"max_tokens": 9}),
    (CHAT, {"model": "m", "stream": None, "temperature": None}, "openai", False, {}),
    ("/v1/responses", {"model": "m", "max_output_tokens": 9}, "openai", False, {"max_tokens": 9}),
    (
        "/v1/embeddings",
        {"model": "m", "dimensions": 3, "encoding_format": "base64"},
        "openai",
        False,
        {"dimensions": 3, "encoding_format": "base64"},
    ),
    (AZURE, {"stream": False, "frequency_penalty": -1.5}, "azure.ai.openai", False, {"frequency_penalty": -1.5}),
    (CLAUDE, {"model": "m", "stream": True, "max_tokens": 9}, "anthropic", True, {"max_tokens": 9}),
    (
        GEMINI,
        {"generationConfig": {"maxOutputTokens": 9, "topP": 1, "presencePenalty": 0.5}},
        "gcp.gemini",
        False,
        {"max_tokens": 9, "top_p": 1, "presence_penalty": 0.5},
    ),
    (GEMINI, {"generation_config": {"max_output_tokens": 9}}, "gcp.gemini", False, {"max_tokens": 9}),
    (GEMINI, {"generationConfig": None}, "gcp.gemini", False, {}),
    (GEMINI.replace("generate", "streamGenerate"), {}, "gcp.gemini", True, {}),
    (RAW.replace("raw", "streamRaw"), {"max_tokens": 9}, "gcp.vertex_ai", True, {"max_tokens": 9}),
    (RAW, {"stream": True}, "gcp.vertex_ai", True, {}),
]


@pytest.mark.parametrize(("target", "body", "provider", "streaming", "params"), ATTRIBUTES)
def test_what_rules_may_read_besides(
    target: str, body: Any, provider: str, streaming: bool, params: dict[str, Any]
) -> None:
    request = Request.http("POST", target, headers=JSON, body=body_of(body))
    reading = LLM().read(request)
    assert not isinstance(reading, Decision)
    (call,) = reading.calls
    assert dict(call.attributes) == {"provider": provider, "streaming": streaming, "params": params}
    assert not call.provisional


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (CHAT, {"model": "m", "max_tokens": "9"}),
        (CHAT, {"model": "m", "max_tokens": 9.0}),
        (CHAT, {"model": "m", "max_tokens": True}),
        (CHAT, {"model": "m", "max_tokens": 9, "max_completion_tokens": 99999}),
        (CHAT, {"model": "m", "maxTokens": 99999}),
        (CHAT, {"model": "m", "temperature": "1"}),
        (CHAT, {"model": "m", "seed": 1.5}),
        ("/v1/embeddings", {"model": "m", "encoding_format": 1}),
        ("/v1/embeddings", {"model": "m", "dimensions": [1]}),
        (GEMINI, {"generationConfig": {"maxOutputTokens": 9, "max_output_tokens": 99999}}),
        (GEMINI, {"generationConfig": {"MaxOutputTokens": 9}}),
        (GEMINI, {"generationConfig": {"maxOutputTokens": "9"}}),
    ],
)
def test_a_parameter_is_of_its_kind_or_refused(target: str, body: Any) -> None:
    """A rule that looks for a number must not be passed by text that the server takes for one."""
    decision = LLM().read(Request.http("POST", target, headers=JSON, body=body_of(body)))
    assert isinstance(decision, Decision)
    assert decision.status == 400


async def test_rules_over_parameters() -> None:
    gate = Gate(
        App(), authorize=[CELRules(deny=["has(llm.params.max_tokens) && llm.params.max_tokens > 100"])], protocol=LLM()
    )
    for tokens, status in ((100, 200), (101, 403), ("101", 400), (None, 200)):
        body = body_of({"model": "m", "max_tokens": tokens})
        assert (await drive(gate, http_scope("POST", CHAT, headers=JSON), body=body)).status == status


async def test_the_log_knows_what_was_asked_for_and_denied() -> None:
    recorder = Recorder()
    gate = Gate(App(), authorize=[CHEAP], observe=[recorder], protocol=LLM())
    body = body_of({"model": "dear", "temperature": 0.5})
    assert (await drive(gate, http_scope("POST", CHAT, headers=JSON), body=body)).status == 403
    assert recorder.last.details == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "dear",
        "gen_ai.request.temperature": 0.5,
    }


def test_one_model() -> None:
    for model, fault in (("cheap", False), ("a%2Fb", True), ("a%20b", True)):
        reading = LLM("openai").read(Request.http("GET", f"/v1/models/{model}"))
        assert isinstance(reading, Decision) is fault
        if not isinstance(reading, Decision):
            assert [(call.method, call.model, call.provisional) for call in reading.calls] == [
                ("get_model", "cheap", False)
            ]


async def test_another_websocket_names_no_model() -> None:
    request = Request.websocket("/v1/other?model=cheap")
    llm = LLM()
    assert not llm.reads_body(request)
    reading = llm.read(request)
    assert not isinstance(reading, Decision)
    assert reading.calls[0].model is None


WHO: list[tuple[str, dict[str, str], LLM, str]] = [
    ("/v1/models", {}, LLM(), "openai"),
    ("/v1/models", {"anthropic-version": "2023-06-01"}, LLM(), "anthropic"),
    ("/v1/models", {"x-goog-api-key": "x"}, LLM(), "gemini"),
    ("/v1/models", {"x-goog-api-client": "x"}, LLM(), "gemini"),
    ("/v1beta/models", {}, LLM(), "gemini"),
    ("/v1/models", {"anthropic-version": "2023-06-01"}, LLM("openai"), "openai"),
    ("/v1/nothing", {}, LLM("gemini"), "gemini"),
    ("/v1/nothing", {"anthropic-version": "2023-06-01"}, LLM(), "anthropic"),
    ("/v1/nothing", {}, LLM("azure"), "openai"),
]


@pytest.mark.parametrize(("target", "headers", "llm", "dialect"), WHO)
async def test_refusals_are_in_the_client_s_own_words(
    target: str, headers: dict[str, str], llm: LLM, dialect: str
) -> None:
    @authorizer
    def no(request: Request) -> Decision:
        return deny("no")

    exchange = await drive(Gate(App(), authorize=[no], protocol=llm), http_scope("GET", target, headers=headers))
    error = json.loads(exchange.body)
    assert (exchange.status, error["error"]["message"]) == (403, "no")
    shape = "anthropic" if "type" in error else "gemini" if "status" in error["error"] else "openai"
    assert shape == dialect


async def test_what_the_edge_and_authenticators_refuse_is_said_so_too() -> None:
    gate = Gate(App(), authorize=[CELRules(allow=["true"])], protocol=LLM())
    exchange = await drive(gate, http_scope("POST", "//v1/messages", headers=JSON), body=b"{}")
    assert (exchange.status, json.loads(exchange.body)["error"]["type"]) == (400, "invalid_request_error")
    big = b'{"model": "' + b"x" * (2 * 1024 * 1024) + b'"}'
    exchange = await drive(gate, http_scope("POST", "/v1/messages", headers=JSON), body=big)
    assert (exchange.status, json.loads(exchange.body)["error"]["type"]) == (413, "request_too_large")
