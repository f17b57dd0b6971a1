"""The MCP server that the conformance suite calls: what its scenarios describe, under the names that they use.

The suite says in each scenario which tool, prompt or resource it wants and what that does; this is a server of that
description on the low-level server of the `mcp` SDK. Start it with `uvicorn tests.e2e.conformance.fixture:app`.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette

Context = Any  # the SDK's request context, generic in things that nothing here has
Result = types.CallToolResult | types.InputRequiredResult
Arguments = Mapping[str, Any]
Tool = Callable[[Context, types.CallToolRequestParams], Awaitable[Result]]

PNG: Final = (  # one red pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
)
WAV: Final = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="  # a head, and not one sample
STEP: Final = 0.05  # seconds between two of the messages that a tool sends while it works

BUS: Final = InMemorySubscriptionBus()
STATE_KEY: Final = secrets.token_bytes(32)

JSON_SCHEMA_2020_12: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def image() -> dict[str, Any]:
    return {"type": "image", "data": PNG, "mimeType": "image/png"}


def embedded(uri: str, mime_type: str, value: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": value}}


def done(*content: dict[str, Any], is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult.model_validate({"content": [*content], "isError": is_error})


def always(*content: dict[str, Any], is_error: bool = False) -> Tool:
    """A tool whose answer is the same whatever it is asked."""

    async def tool(ctx: Context, params: types.CallToolRequestParams) -> Result:
        return done(*content, is_error=is_error)

    return tool


# -- what the server asks of the client ------------------------------------------------------------------------------


def elicitation(message: str, **properties: Any) -> dict[str, Any]:
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema(**properties)}}


def sampling(prompt: str, max_tokens: int = 100) -> dict[str, Any]:
    messages = [{"role": "user", "content": text(prompt)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": max_tokens}}


ROOTS: Final[dict[str, Any]] = {"method": "roots/list", "params": {}}


def ask(state: str | None = None, **requests: Any) -> types.InputRequiredResult:
    """2026-07-28: the answer that asks the client for something and has it call again."""
    return types.InputRequiredResult.model_validate(
        {"resultType": "input_required", "inputRequests": requests, "requestState": state}
    )


def answers(params: Any) -> dict[str, dict[str, Any]]:
    """What the client has answered, by the names under which it was asked."""
    given = params.input_responses or {}
    return {name: json.loads(response.model_dump_json(by_alias=True)) for name, response in given.items()}


def told(answer: Mapping[str, Any] | None, member: str) -> str | None:
    """One member of what the user filled in."""
    value = ((answer or {}).get("content") or {}).get(member)
    return value if isinstance(value, str) else None


def sealed(step: str) -> str:
    return step + "." + hmac.new(STATE_KEY, step.encode(), hashlib.sha256).hexdigest()


def opened(state: str | None) -> str:
    step, _, _ = (state or "").partition(".")
    if state is None or not hmac.compare_digest(sealed(step).encode(), state.encode()):
        raise MCPError(types.INVALID_PARAMS, "requestState is not one that this server made")
    return step


# -- the tools -------------------------------------------------------------------------------------------------------


async def with_logging(ctx: Context, params: types.CallToolRequestParams) -> Result:
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.session.send_log_message(level="info", data=line, related_request_id=ctx.request_id)
        await anyio.sleep(STEP)
    return done(text("Tool with logging executed"))


async def with_progress(ctx: Context, params: types.CallToolRequestParams) -> Result:
    for progress in (0, 50, 100):
        await ctx.session.report_progress(progress, 100)
        await anyio.sleep(STEP)
    return done(text("Tool with progress executed"))


async def ask_model(ctx: Context, params: types.CallToolRequestParams) -> Result:
    answer = await ctx.session.create_message(
        [types.SamplingMessage.model_validate({"role": "user", "content": text((params.arguments or {})["prompt"])})],
        max_tokens=100,
        related_request_id=ctx.request_id,
    )
    return done(text(f"LLM response: {getattr(answer.content, 'text', '')}"))


async def ask_user(ctx: Context, said: str, message: str, wanted: dict[str, Any]) -> Result:
    answer = await ctx.session.elicit_form(message, wanted, related_request_id=ctx.request_id)
    return done(text(f"{said}: action={answer.action}, content={json.dumps(answer.content or {})}"))


async def elicit(ctx: Context, params: types.CallToolRequestParams) -> Result:
    wanted = schema(
        username={"type": "string", "description": "User's response"},
        email={"type": "string", "description": "User's email address"},
    )
    return await ask_user(ctx, "User response", (params.arguments or {})["message"], wanted)


async def elicit_defaults(ctx: Context, params: types.CallToolRequestParams) -> Result:
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return await ask_user(
        ctx, "Elicitation completed", "Please review", {"type": "object", "properties": properties, "required": []}
    )


async def elicit_enums(ctx: Context, params: types.CallToolRequestParams) -> Result:
    plain = ["option1", "option2", "option3"]

    def titled(noun: str) -> list[dict[str, str]]:
        return [
            {"const": f"value{at}", "title": f"{nth} {noun}"} for at, nth in enumerate(("First", "Second", "Third"), 1)
        ]

    properties = {
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled("Option")},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
    }
    return await ask_user(
        ctx, "Elicitation completed", "Please choose", {"type": "object", "properties": properties, "required": []}
    )


async def missing_capability(ctx: Context, params: types.CallToolRequestParams) -> Result:
    if ctx.session.client_capabilities is None or ctx.session.client_capabilities.sampling is None:
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "this tool needs sampling",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return done(text("The client can sample"))


async def input_elicitation(ctx: Context, params: types.CallToolRequestParams) -> Result:
    name = told(answers(params).get("user_name"), "name")
    if name is None:
        return ask(user_name=elicitation("What is your name?", name={"type": "string"}))
    return done(text(f"Hello, {name}!"))


async def streaming_elicitation(ctx: Context, params: types.CallToolRequestParams) -> Result:
    await ctx.session.report_progress(1)
    return await input_elicitation(ctx, params)


async def input_sampling(ctx: Context, params: types.CallToolRequestParams) -> Result:
    answer = answers(params).get("capital_question")
    if answer is None:
        return ask(capital_question=sampling("What is the capital of France?"))
    return done(text(f"The model said: {answer['content']['text']}"))


async def input_roots(ctx: Context, params: types.CallToolRequestParams) -> Result:
    answer = answers(params).get("client_roots")
    if answer is None:
        return ask(client_roots=ROOTS)
    return done(text("Roots: " + ", ".join(root["uri"] for root in answer["roots"])))


async def input_state(ctx: Context, params: types.CallToolRequestParams) -> Result:
    if "confirm" not in answers(params):
        return ask(sealed("confirm"), confirm=elicitation("Please confirm", ok={"type": "boolean"}))
    opened(params.request_state)
    return done(text("state-ok"))


async def input_several(ctx: Context, params: types.CallToolRequestParams) -> Result:
    given = answers(params)
    if not given.keys() >= {"user_name", "greeting", "client_roots"}:
        return ask(
            sealed("several"),
            user_name=elicitation("What is your name?", name={"type": "string"}),
            greeting=sampling("Generate a greeting", 50),
            client_roots=ROOTS,
        )
    opened(params.request_state)
    return done(text(f"{given['greeting']['content']['text']}, {told(given['user_name'], 'name')}"))


async def input_rounds(ctx: Context, params: types.CallToolRequestParams) -> Result:
    given = answers(params)
    if "step2" in given and opened(params.request_state) == "step2":
        return done(text(f"Your favourite colour is {told(given['step2'], 'color')}"))
    if "step1" in given and opened(params.request_state) == "step1":
        return ask(sealed("step2"), step2=elicitation("Step 2: What is your favorite color?", color={"type": "string"}))
    return ask(sealed("step1"), step1=elicitation("Step 1: What is your name?", name={"type": "string"}))


async def input_capabilities(ctx: Context, params: types.CallToolRequestParams) -> Result:
    able = ctx.session.client_capabilities or types.ClientCapabilities()
    if answers(params):
        return done(text("Thank you"))
    requests: dict[str, Any] = {}
    if able.sampling is not None:
        requests["capital_question"] = sampling("What is the capital of France?")
    if able.elicitation is not None:
        requests["user_name"] = elicitation("What is your name?", name={"type": "string"})
    return ask(**requests) if requests else done(text("There is nothing that this client could be asked"))


async def reconnection(ctx: Context, params: types.CallToolRequestParams) -> Result:
    await anyio.sleep(2 * STEP)  # the stream's first event is on its way
    await ctx.close_sse_stream()
    await anyio.sleep(2 * STEP)
    return done(text("The answer came on another stream"))


def changes(event: ToolsListChanged | PromptsListChanged) -> Tool:
    async def tool(ctx: Context, params: types.CallToolRequestParams) -> Result:
        await BUS.publish(event)
        return done(text("Changed"))

    return tool


NOTHING: Final = schema()
TOOLS: Final[dict[str, tuple[dict[str, Any], Tool]]] = {
    "test_simple_text": (NOTHING, always(text("This is a simple text response for testing."))),
    "test_image_content": (NOTHING, always(image())),
    "test_audio_content": (NOTHING, always({"type": "audio", "data": WAV, "mimeType": "audio/wav"})),
    "test_embedded_resource": (
        NOTHING,
        always(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")),
    ),
    "test_multiple_content_types": (
        NOTHING,
        always(
            text("Multiple content types test:"),
            image(),
            embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ),
    ),
    "test_tool_with_logging": (NOTHING, with_logging),
    "test_tool_with_progress": (NOTHING, with_progress),
    "test_error_handling": (
        NOTHING,
        always(text("This tool intentionally returns an error for testing"), is_error=True),
    ),
    "test_sampling": (schema(prompt={"type": "string"}), ask_model),
    "test_elicitation": (schema(message={"type": "string"}), elicit),
    "test_elicitation_sep1034_defaults": (NOTHING, elicit_defaults),
    "test_elicitation_sep1330_enums": (NOTHING, elicit_enums),
    "test_x_mcp_header": (
        {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
        always(text("The region was said twice alike")),
    ),
    "test_missing_capability": (NOTHING, missing_capability),
    "test_streaming_elicitation": (NOTHING, streaming_elicitation),
    "test_logging_tool": (NOTHING, with_logging),
    "test_input_required_result_elicitation": (NOTHING, input_elicitation),
    "test_input_required_result_sampling": (NOTHING, input_sampling),
    "test_input_required_result_list_roots": (NOTHING, input_roots),
    "test_input_required_result_request_state": (NOTHING, input_state),
    "test_input_required_result_multiple_inputs": (NOTHING, input_several),
    "test_input_required_result_multi_round": (NOTHING, input_rounds),
    "test_input_required_result_tampered_state": (NOTHING, input_state),
    "test_input_required_result_capabilities": (NOTHING, input_capabilities),
    "json_schema_2020_12_tool": (JSON_SCHEMA_2020_12, always(text("A tool with a schema"))),
    "test_reconnection": (NOTHING, reconnection),
    "test_trigger_tool_change": (NOTHING, changes(ToolsListChanged())),
    "test_trigger_prompt_change": (NOTHING, changes(PromptsListChanged())),
    "unrelated": (NOTHING, always(text("No scenario calls this tool: a rule may hide it"))),
}


async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    tools = [
        {"name": name, "description": f"For the scenarios that call {name}", "inputSchema": wanted}
        for name, (wanted, _) in TOOLS.items()
    ]
    return types.ListToolsResult.model_validate({"tools": tools})


async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> Result:
    if params.name not in TOOLS:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
    return await TOOLS[params.name][1](ctx, params)


# -- the prompts -----------------------------------------------------------------------------------------------------

PROMPTS: Final[dict[str, tuple[str, ...]]] = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


async def list_prompts(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    prompts = [
        {
            "name": name,
            "description": f"For the scenarios that get {name}",
            "arguments": [{"name": argument, "required": True} for argument in arguments],
        }
        for name, arguments in PROMPTS.items()
    ]
    return types.ListPromptsResult.model_validate({"prompts": prompts})


async def get_prompt(
    ctx: Context, params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    given = params.arguments or {}
    if params.name not in PROMPTS:
        raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    if missing := [argument for argument in PROMPTS[params.name] if argument not in given]:
        raise MCPError(types.INVALID_PARAMS, f"Missing arguments: {', '.join(missing)}")
    if params.name == "test_simple_prompt":
        content = [text("This is a simple prompt for testing.")]
    elif params.name == "test_prompt_with_arguments":
        content = [text("Prompt with arguments: arg1='{arg1}', arg2='{arg2}'".format(**given))]
    elif params.name == "test_prompt_with_embedded_resource":
        content = [
            embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing."),
            text("Please process the embedded resource above."),
        ]
    elif params.name == "test_prompt_with_image":
        content = [image(), text("Please analyze the image above.")]
    else:
        context = told(answers(params).get("user_context"), "context")
        if context is None:
            return ask(user_context=elicitation("What context should the prompt use?", context={"type": "string"}))
        content = [text(f"A prompt in the context of {context}")]
    return types.GetPromptResult.model_validate({"messages": [{"role": "user", "content": part} for part in content]})


# -- the resources ---------------------------------------------------------------------------------------------------

RESOURCES: Final[dict[str, dict[str, str]]] = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://watched-resource": {"mimeType": "text/plain", "text": "This is the content of the watched resource."},
}


async def list_resources(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    resources = [
        {"uri": uri, "name": uri.removeprefix("test://"), "description": f"What {uri} has", "mimeType": it["mimeType"]}
        for uri, it in RESOURCES.items()
    ]
    return types.ListResourcesResult.model_validate({"resources": resources})


async def list_templates(
    ctx: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    template = {"uriTemplate": "test://template/{id}/data", "name": "template", "mimeType": "application/json"}
    return types.ListResourceTemplatesResult.model_validate({"resourceTemplates": [template]})


async def read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    content: dict[str, str] | None = RESOURCES.get(uri)
    if content is None and uri.startswith("test://template/") and uri.endswith("/data"):
        id = uri.removeprefix("test://template/").removesuffix("/data")
        made = {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}
        content = {"mimeType": "application/json", "text": json.dumps(made)}
    if content is None:
        raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
    return types.ReadResourceResult.model_validate({"contents": [{"uri": uri, **content}]})


async def nothing(ctx: Context, params: Any) -> types.EmptyResult:
    return types.EmptyResult()


async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    return types.CompleteResult.model_validate({"completion": {"values": [], "total": 0, "hasMore": False}})


# -- the server ------------------------------------------------------------------------------------------------------


class Events(EventStore):
    """Keeps every event, so that a stream can be taken up again after any of them."""

    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        if not last_event_id.isdecimal() or not 0 < int(last_event_id) <= len(self._events):
            return None
        seen = int(last_event_id)
        stream = self._events[seen - 1][0]
        for at, (owner, message) in enumerate(self._events[seen:], seen + 1):
            if owner == stream and message is not None:
                await send_callback(EventMessage(message, str(at)))
        return stream


def make_app(prefix: str = "") -> Starlette:
    """The server. With a `prefix`, those of its tools and prompts that begin with it, without it: as one of several
    targets that are federated under names which give it back."""

    def whole(name: str) -> str:
        return prefix + name

    async def tools(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        found = await list_tools(ctx, params)
        mine = [tool for tool in found.tools if tool.name.startswith(prefix)]
        return found.model_copy(
            update={"tools": [tool.model_copy(update={"name": tool.name.removeprefix(prefix)}) for tool in mine]}
        )

    async def tool(ctx: Context, params: types.CallToolRequestParams) -> Result:
        return await call_tool(ctx, params.model_copy(update={"name": whole(params.name)}))

    async def prompts(ctx: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        found = await list_prompts(ctx, params)
        mine = [prompt for prompt in found.prompts if prompt.name.startswith(prefix)]
        return found.model_copy(
            update={"prompts": [one.model_copy(update={"name": one.name.removeprefix(prefix)}) for one in mine]}
        )

    async def prompt(
        ctx: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult | types.InputRequiredResult:
        return await get_prompt(ctx, params.model_copy(update={"name": whole(params.name)}))

    server: Server[Any] = Server(
        "conformance-fixture",
        version="1.0.0",
        get_tool_input_schema=lambda name: TOOLS[whole(name)][0] if whole(name) in TOOLS else None,
        on_list_tools=tools,
        on_call_tool=tool,
        on_list_prompts=prompts,
        on_get_prompt=prompt,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=nothing,
        on_unsubscribe_resource=nothing,
        on_subscriptions_listen=ListenHandler(BUS),
        on_completion=complete,
    )
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, nothing)
    return server.streamable_http_app(event_store=Events(), retry_interval=100)


app = make_app()
