"""Metrics: what requests, decisions, upstreams, models and tools come to, for Prometheus, under OpenTelemetry's names.

A label's values come out of a closed set: what a client, a model or a tool server says is a label only if the operator
has named it; everything else is `_OTHER`. Who asked is no label.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..allowed_models import lists_model
from ..decision import Reason
from ..errors import ConfigurationError, needs_extra
from ..names import Names
from ..policy import Observer
from ..record import Record
from ..request import Request
from .route import route_of
from .series import MAX_SERIES, OTHER, Series

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.metrics import MetricWrapperBase

    from ..attempt import Attempt

_M = TypeVar("_M", bound="MetricWrapperBase")

# Of OpenTelemetry's semantic conventions: HTTP v1.44, generative AI and MCP as of 2026-11.
HTTP_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
MCP_SECONDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
GEN_AI_SECONDS: Final = tuple(0.01 * 2**n for n in range(14))
TOKENS: Final = tuple(4**n for n in range(14))

_METHODS: Final = frozenset(["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"])
_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})
_STATUSES: Final[dict[int | None, str]] = {None: "", **{int(status): str(int(status)) for status in HTTPStatus}}
_POLICIES: Final = frozenset({"gate", "edge", "body", "gateway", "forward", "mcp", "llm", "a2a"})  # who else decides

# Codes of errors that JSON-RPC and MCP define.
_RPC_CODES: Final = frozenset(
    {-32700, -32600, -32601, -32602, -32603, -32000, -32001, -32002, -32003, -32004, -32020, -32022, -32042}
)
_MCP_METHODS: Final = frozenset(
    {
        *("initialize", "ping", "server/discover", "logging/setLevel", "completion/complete", "subscriptions/listen"),
        *("tools/call", "tools/list", "prompts/get", "prompts/list"),
        *("resources/list", "resources/read", "resources/templates/list"),
        *("resources/subscribe", "resources/unsubscribe"),
        *("tasks/cancel", "tasks/get", "tasks/list", "tasks/result", "tasks/update"),
        *("notifications/initialized", "notifications/cancelled", "notifications/progress"),
        "notifications/roots/list_changed",
    }
)
_TOKEN_TYPES: Final = (("gen_ai.usage.input_tokens", "input"), ("gen_ai.usage.output_tokens", "output"))


class Metrics(Observer):
    """Counts and measures every request; `app` is the ASGI app that Prometheus reads. It wants the extra `prometheus`.

    `registry`: prometheus_client's, which may hold other metrics as well; without it, one of its own. `tools`,
    `prompts` and `models` are names to tell apart besides those that the rules compare with; all others are `_OTHER`.
    `max_series`: of one metric; what comes on top has every label `_OTHER`.
    """

    def __init__(
        self,
        registry: "CollectorRegistry | None" = None,
        *,
        tools: Iterable[str] = (),
        prompts: Iterable[str] = (),
        models: Iterable[str] = (),
        max_series: int = MAX_SERIES,
    ) -> None:
        try:
            import prometheus_client
        except ImportError:
            raise ConfigurationError(needs_extra("Metrics", "prometheus")) from None
        from .exposition import Exposition, check_multiprocess

        _check(tools, prompts, models, max_series)
        check_multiprocess()
        self._names = Names(
            policies=_POLICIES, tools=frozenset(tools), prompts=frozenset(prompts), models=frozenset(models)
        )
        self.registry = prometheus_client.CollectorRegistry() if registry is None else registry
        self._max_series = max_series
        self._make()
        self.app = Exposition(self.registry)

    def _make(self) -> None:
        from .. import __version__

        self._requests = self._histogram(
            "http_server_request_duration_seconds",
            "Duration of requests, to the end of the response.",
            "http_request_method url_scheme http_route http_response_status_code error_type",
            HTTP_SECONDS,
        )
        self._active = self._gauge(
            "http_server_active_requests", "Requests under way.", "http_request_method url_scheme", "livesum"
        )
        self._upstream = self._histogram(
            "http_client_request_duration_seconds",
            "Duration of requests to upstreams, to the end of the answer.",
            "http_request_method server_address server_port http_response_status_code error_type",
            HTTP_SECONDS,
        )
        self._decisions = self._counter(
            "agentgate_decisions",
            "Decisions of policies. Those that are not enforced had no effect.",
            "policy rule effect reason enforced",
        )
        self._mcp_operations = self._histogram(
            "mcp_server_operation_duration_seconds",
            "Duration of MCP requests and notifications.",
            "mcp_method_name gen_ai_tool_name gen_ai_prompt_name error_type",
            MCP_SECONDS,
        )
        model = "gen_ai_operation_name gen_ai_provider_name gen_ai_request_model"
        self._gen_ai_operations = self._histogram(
            "gen_ai_client_operation_duration_seconds",
            "Duration of requests to models.",
            f"{model} error_type",
            GEN_AI_SECONDS,
        )
        self._tokens = self._histogram(
            "gen_ai_client_token_usage", "Tokens of requests to models.", f"{model} gen_ai_token_type", TOKENS
        )
        self._errors = self._counter("agentgate_observer_errors", "Observers that raised.", "observer")
        self._gauge("agentgate_build_info", "The version of agentgate.", "version", "max").of(__version__).set(1)

    def _histogram(self, name: str, help: str, labels: str, buckets: tuple[float, ...]) -> "Series[Histogram]":
        from prometheus_client import Histogram

        return self._series(Histogram(name, help, labels.split(), registry=self.registry, buckets=buckets), labels)

    def _counter(self, name: str, help: str, labels: str) -> "Series[Counter]":
        from prometheus_client import Counter

        return self._series(Counter(name, help, labels.split(), registry=self.registry), labels)

    def _gauge(self, name: str, help: str, labels: str, over_processes: Any) -> "Series[Gauge]":
        from prometheus_client import Gauge

        gauge = Gauge(name, help, labels.split(), registry=self.registry, multiprocess_mode=over_processes)
        return self._series(gauge, labels)

    def _series(self, metric: _M, labels: str) -> Series[_M]:
        return Series(metric, len(labels.split()), self._max_series)

    def attached(self, names: Names) -> None:
        self._names = Names.union((self._names, names))

    def start(self, request: Request) -> "Gauge":
        active = self._active.of(_within(request.method, _METHODS), _within(request.scheme, _SCHEMES))
        active.inc()
        return active

    def failed(self, token: Any, record: Record, observer: Observer) -> None:
        self._errors.of(type(observer).__name__).inc()

    def end(self, token: "Gauge", record: Record) -> None:
        token.dec()
        names, request = self._names, record.request
        seconds = record.duration or 0.0
        self._requests.of(
            _within(request.method, _METHODS),
            _within(request.scheme, _SCHEMES),
            _route(record, names),
            _STATUSES.get(record.status, OTHER),
            _server_error(record),
        ).observe(seconds, _exemplar(record))
        for decision in record.trail:
            self._decisions.of(
                _within(decision.policy, names.policies),
                _within(decision.rule, names.rules),
                decision.effect,
                decision.reason or "",
                "true" if decision.enforced else "false",
            ).inc()
        for attempt in record.attempts:
            self._attempt(attempt)
        if record.details:
            if "mcp.method.name" in record.details:
                self._mcp(record, seconds)
            # A request that was refused here has asked no model.
            elif "gen_ai.operation.name" in record.details and (record.refusal is None or record.attempts):
                self._gen_ai(record, seconds)

    def _attempt(self, attempt: "Attempt") -> None:
        _, host, port = attempt.origin
        status = attempt.status
        error = attempt.error or (str(status) if status is not None and status >= 400 else "")
        self._upstream.of(
            _within(attempt.request.method, _METHODS),
            host,  # a backend's: the operator has named it
            str(port or ""),
            _STATUSES.get(status, OTHER),
            error if error.isalnum() or not error else OTHER,  # the name of an exception, or a status
        ).observe(attempt.duration or 0.0)

    def _mcp(self, record: Record, seconds: float) -> None:
        details, names = record.details, self._names
        self._mcp_operations.of(
            _within(details["mcp.method.name"], _MCP_METHODS),
            _within(details.get("gen_ai.tool.name"), names.tools),
            _within(details.get("gen_ai.prompt.name"), names.prompts),
            _mcp_error(record),
        ).observe(seconds)

    def _gen_ai(self, record: Record, seconds: float) -> None:
        details = record.details
        model = details.get("gen_ai.request.model")
        if model is not None and not lists_model(record.view.api_key, str(model)):
            model = _within(model, self._names.models)
        about = str(details["gen_ai.operation.name"]), str(details["gen_ai.provider.name"]), str(model or "")
        self._gen_ai_operations.of(*about, _client_error(record)).observe(seconds)
        for name, kind in _TOKEN_TYPES:
            count = details.get(name)
            if count is not None:
                self._tokens.of(*about, kind).observe(float(count))

    def __repr__(self) -> str:
        return f"Metrics(max_series={self._max_series})"


def _check(tools: Iterable[str], prompts: Iterable[str], models: Iterable[str], max_series: int) -> None:
    faults = [
        f"{what} is a list of names"
        for what, given in (("tools", tools), ("prompts", prompts), ("models", models))
        if isinstance(given, str)
    ]
    if not isinstance(max_series, int) or max_series < 1:
        faults.append(f"max_series is a number, 1 or more, not {max_series!r}")
    if faults:
        raise ConfigurationError(faults)


def _within(value: Any, known: frozenset[str]) -> str:
    """A label out of a closed set; what is not there is the empty label, which Prometheus takes for none."""
    if value is None:
        return ""
    return str(value) if value in known else OTHER


def _route(record: Record, names: Names) -> str:
    """The route's name in a gateway; else the path of the app's own route, as Starlette and FastAPI leave it behind."""
    if record.route is not None:
        return _within(record.route, names.routes)
    return route_of(record) or ""


def _exemplar(record: Record) -> dict[str, str] | None:
    trace, span = record.trace_id, record.span_id
    if not record.sampled:  # nobody would find it
        return None
    if trace is None or span is None or len(trace) != 32 or len(span) != 16:  # what is too long would raise
        return None
    return {"trace_id": trace, "span_id": span}


def _server_error(record: Record) -> str:
    """`error.type` of what a server did: a 4xx is the client's error, and none here."""
    status = record.status
    if status is not None and status >= 500:
        return _STATUSES.get(status, OTHER)
    return "" if record.refusal is not None else _broken_off(record)


def _client_error(record: Record) -> str:
    """`error.type` of what a client asked for."""
    status = record.status
    return _STATUSES.get(status, OTHER) if status is not None and status >= 400 else _broken_off(record)


def _mcp_error(record: Record) -> str:
    """The code of the JSON-RPC error, where the answer was read; for what was refused here, the reason of that."""
    if record.refusal is not None:
        reasons = [decision.reason for decision in record.trail if decision.effect == "deny" and decision.enforced]
        reason = reasons[-1] if reasons else record.refusal.reason
        return Reason.INTERNAL.value if reason is None else reason.value
    code = record.details.get("mcp.error.code")
    if code is not None:
        return str(code) if code in _RPC_CODES else OTHER
    return _client_error(record)


def _broken_off(record: Record) -> str:
    """Why a response did not come to its end, if it did not."""
    if record.reason is not None:
        return "" if record.reason is Reason.DIRECT_RESPONSE else record.reason.value
    return "client_disconnected" if record.error else ""
