"""agentgateway's variables that a rule cannot read here, each with its reason.

A rule that is carried over is refused when it is built, and told why: what it needs is known later, or nobody here
makes it.
"""

from typing import Final

_LATER = "is known when the response is over: an access log has it, a rule decides before"
_NO_SUCH_PARTY = "is not here: agentgate has no {}"
_NO_TLS = "is not here: the server in front ends TLS, and ASGI does not tell who the peer is"
_PROXY = "is not here: a rule belongs to its gateway and route; what it may know of them is backend.*"
_LLM_FIELDS = """
    responseModel inputTokens providerInputTokens inputImageTokens inputTextTokens inputAudioTokens
    cachedInputTokens cacheCreationInputTokens outputTokens outputImageTokens outputTextTokens outputAudioTokens
    reasoningTokens totalTokens providerTotalTokens serviceTier timeToFirstToken timePerOutputToken countTokens
    completion toolCalls cost costRates
"""

REASONS: Final[dict[str, str]] = {
    "response": _LATER,
    "request.endTime": _LATER,
    "request.bodyPrefix": "is not here: half a body decides nothing",
    "proxy": _PROXY,
    "destination": "is not here: ASGI does not tell where a connection was accepted",
    "basicAuth": _NO_SUCH_PARTY.format("basic authentication"),
    "extauthz": _NO_SUCH_PARTY.format("external authorization"),
    "extproc": _NO_SUCH_PARTY.format("external processing"),
    "mcpGuardrails": _NO_SUCH_PARTY.format("guardrail processors"),
    "metadata": _NO_SUCH_PARTY.format("transformation that sets metadata"),
    "llmRequest": "is not here: rules see the model that is asked for, and how, in llm.*; the rest is in request.body",
    **{f"llm.{field}": _LATER for field in _LLM_FIELDS.split()},
    "llm.prompt": "is not here: what is asked is in request.body",
    "mcp.tool.result": _LATER,
    "mcp.tool.error": _LATER,
    **{
        f"source.{field}": _NO_TLS
        for field in ("identity", "spiffeId", "subjectAltNames", "issuer", "subject", "subjectCn", "certificate")
    },
    "source.unverifiedWorkload": "is not here: nobody has verified it",
    "source.connectHeaders": "is not here: CONNECT is refused",
}
"""What follows a name in the fault: `response is known when ...`."""
