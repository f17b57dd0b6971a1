"""The names of OpenTelemetry's semantic conventions that are used here, as text.

Those of HTTP are stable (1.44). Those of GenAI, MCP and A2A are in development, and move between packages: so they
stand here, and not in a dependency. What is nobody's is called `agentgate.*`.
"""

from collections.abc import Mapping
from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
OTHER: Final = "_OTHER"
"""What a method is called that is not among them."""

HTTP_METHOD: Final = "http.request.method"
HTTP_METHOD_ORIGINAL: Final = "http.request.method_original"
HTTP_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_STATUS: Final = "http.response.status_code"
HTTP_ROUTE: Final = "http.route"
URL_SCHEME: Final = "url.scheme"
URL_PATH: Final = "url.path"
URL_QUERY: Final = "url.query"
URL_FULL: Final = "url.full"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
CLIENT_ADDRESS: Final = "client.address"
PEER_ADDRESS: Final = "network.peer.address"
NETWORK_PROTOCOL: Final = "network.protocol.name"
NETWORK_VERSION: Final = "network.protocol.version"
NETWORK_TRANSPORT: Final = "network.transport"
USER_AGENT: Final = "user_agent.original"
ERROR_TYPE: Final = "error.type"
RPC_STATUS: Final = "rpc.response.status_code"

JSONRPC_ID: Final = "jsonrpc.request.id"
MCP_VERSION: Final = "mcp.protocol.version"
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_MODEL: Final = "gen_ai.request.model"
GEN_AI_STREAM: Final = "gen_ai.request.stream"
GEN_AI_ENCODINGS: Final = "gen_ai.request.encoding_formats"
GEN_AI_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
GEN_AI_TOOL: Final = "gen_ai.tool.name"
GEN_AI_PROMPT: Final = "gen_ai.prompt.name"
GEN_AI_CONVERSATION: Final = "gen_ai.conversation.id"
A2A_METHOD: Final = "a2a.method.name"
A2A_TASK: Final = "a2a.task.id"
A2A_MESSAGE: Final = "a2a.message.id"
A2A_TENANT: Final = "a2a.tenant"
A2A_VERSION: Final = "a2a.protocol.version"

DECISION: Final = "agentgate.decision"
RULE: Final = "agentgate.rule"
POLICY: Final = "agentgate.policy"
REASON: Final = "agentgate.reason"
SHADOW_DENIALS: Final = "agentgate.shadow_denials"
FIRST_BYTE: Final = "agentgate.first_byte"
"""The event of a stream's first byte."""

_AS_THEY_ARE: Final = """
    mcp.method.name mcp.target mcp.resource.uri mcp.session.id gen_ai.tool.name gen_ai.prompt.name
    gen_ai.operation.name gen_ai.provider.name gen_ai.request.model gen_ai.response.model
    gen_ai.usage.input_tokens gen_ai.usage.cache_creation.input_tokens gen_ai.usage.cache_read.input_tokens
    gen_ai.usage.output_tokens gen_ai.usage.input_audio_tokens gen_ai.usage.output_audio_tokens
    gen_ai.request.temperature gen_ai.embeddings.dimension.count gen_ai.request.encoding_formats
    gen_ai.request.top_p gen_ai.request.max_tokens gen_ai.request.frequency_penalty gen_ai.request.presence_penalty
    gen_ai.request.seed a2a.task.state
"""
DETAILS: Final[Mapping[str, str]] = {
    **{name: name for name in _AS_THEY_ARE.split()},
    "a2a.method": A2A_METHOD,
    "a2a.context.id": GEN_AI_CONVERSATION,
    "agw.ai.time_to_first_token": GEN_AI_FIRST_CHUNK,
    "gen_ai.usage.reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
"""What a Record's details are called in a span; what is not among them stays out of it."""
