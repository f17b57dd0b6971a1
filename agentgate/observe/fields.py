"""The access log's fields of a finished Record: keys, order and texts as agentgateway writes them.

Of headers and bodies there is nothing, and no credential in anything. What follows `duration` is agentgate's own.
"""

from typing import Any, Final

from ..decision import Decision
from ..principal import JWT
from ..record import Record
from .redaction import query_of

MAX_VALUE: Final = 1024  # characters of one field; what a client sends must not make a log line of any size
CUT: Final = "..."  # ends what was longer
MAX_SHADOW: Final = 16  # denials of shadow policies in one line: a batch is asked call by call

_ORDER: Final = """
    a2a.method a2a.response.outcome a2a.response.error_code a2a.result.kind a2a.task.state a2a.context.id
    mcp.method.name mcp.target mcp.resource.type mcp.resource.uri gen_ai.tool.name gen_ai.prompt.name
    mcp.session.id mcp.error.code mcp.error.message
    gen_ai.operation.name gen_ai.provider.name gen_ai.request.model gen_ai.response.model
    gen_ai.usage.input_tokens gen_ai.usage.cache_creation.input_tokens gen_ai.usage.cache_read.input_tokens
    gen_ai.usage.output_tokens gen_ai.usage.reasoning_tokens
    agw.ai.time_to_first_token agw.ai.time_per_output_token agw.ai.usage.cost.total
    gen_ai.usage.output_image_tokens gen_ai.usage.input_audio_tokens gen_ai.usage.output_audio_tokens
    gen_ai.request.temperature gen_ai.embeddings.dimension.count gen_ai.request.encoding_formats
    gen_ai.request.top_p gen_ai.request.max_tokens gen_ai.request.frequency_penalty
    gen_ai.request.presence_penalty gen_ai.request.seed
"""
DETAILS: Final = {name: place for place, name in enumerate(_ORDER.split())}
"""What protocols tell, in the order of agentgateway's access log; what is not among it comes after that."""

_OWN: Final = """
    route endpoint src.addr http.method http.host http.path http.version http.status trace.id span.id jwt.sub protocol
    retry.attempt error reason duration principal rule detail shadow.policy shadow.rule shadow.detail
"""
_ELSEWHERE: Final = """
    connection.id request.id gateway listener route_rule src.identity grpc.status tls.sni
    inferencepool.selected_endpoint
"""
FIELDS: Final = frozenset((*_OWN.split(), *DETAILS, *_ELSEWHERE.split()))
"""Every name of a field, those of agentgateway that are not written here among them."""


def fields(record: Record) -> dict[str, Any]:
    """The fields, in their order; what is not known is left out."""
    request = record.request
    found: dict[str, Any] = {}
    if record.route:
        found["route"] = record.route
    if record.endpoint:
        found["endpoint"] = record.endpoint
    if request.peer:
        host, port = request.peer[0], request.peer[1]
        found["src.addr"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    found["http.method"] = request.method
    authority = request.authority
    if authority:
        found["http.host"] = authority
    path = request.raw_path.decode("latin-1")
    found["http.path"] = f"{path}?{query_of(record, request.query_string)}" if request.query_string else path
    version = request.http_version
    found["http.version"] = f"HTTP/{version}.0" if len(version) == 1 else f"HTTP/{version}"
    if record.status is not None:
        found["http.status"] = record.status
    if record.trace_id is not None:
        found["trace.id"] = record.trace_id
        if record.span_id is not None:
            found["span.id"] = record.span_id
    for known in record.view.principals:
        if known.source == JWT and isinstance(known.attributes.get("sub"), str):
            found["jwt.sub"] = known.attributes["sub"]  # of several, the innermost's
    if record.protocol:
        found["protocol"] = record.protocol
    if record.details:
        found.update(sorted(record.details.items(), key=_place))
    if record.error:
        found["error"] = record.error
    if record.reason:
        found["reason"] = record.reason.value
    found["duration"] = f"{int((record.duration or 0) * 1000)}ms"
    principal = record.principal
    if principal is not None:
        found["principal"] = principal.id
    refusal = record.refusal
    if refusal is not None:
        if refusal.rule:
            found["rule"] = refusal.rule
        if refusal.detail:
            found["detail"] = refusal.detail
    for decision in record.trail:
        if not decision.enforced:
            _tell_shadows(found, record)
            break
    return found


def shadow_denials(record: Record) -> list[Decision]:
    """The denials that had no effect, each once: those of shadow policies, and of credentials that permissive mode let
    pass."""
    found: list[Decision] = []
    for decision in record.trail:
        if not decision.enforced and decision.effect != "allow" and decision not in found and len(found) < MAX_SHADOW:
            found.append(decision)
    return found


def _tell_shadows(found: dict[str, Any], record: Record) -> None:
    """Which policy would have refused the request, by which rule and why: of several a list each, in one order."""
    denials = shadow_denials(record)
    whys = [denial.detail or (None if denial.rule else denial.message) for denial in denials]
    columns = [denial.policy for denial in denials], [denial.rule for denial in denials], whys
    for name, column in zip(("policy", "rule", "detail"), columns, strict=True):
        if any(column):
            found[f"shadow.{name}"] = column[0] if len(column) == 1 else _within(column)


def _within(texts: list[str | None]) -> list[str | None]:
    """As many of them as a field may hold."""
    found: list[str | None] = []
    left = MAX_VALUE
    for text in texts:
        if left <= 0:
            return [*found, CUT]
        found.append(text if text is None or len(text) <= left else text[:left] + CUT)
        left -= len(text or "") + 8
    return found


def _place(detail: tuple[str, str | int | float]) -> int:
    return DETAILS.get(detail[0], len(DETAILS))
