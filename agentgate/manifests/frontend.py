"""`frontend` of AgentgatewayPolicy: what the access log of a Gateway has, by documents.

It shapes the AccessLog that the gateway is built with. One policy at most says so: of two, agentgateway lets chance
decide.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from ..errors import ConfigurationError
from ..observe.access_log import AccessLog
from ..policy import Observer
from .model import Fault, Model, Unsupported

MAX_EXPRESSION: Final = 16384  # characters

Expression = Annotated[str, Field(min_length=1, max_length=MAX_EXPRESSION)]
FieldOfLog = Annotated[str, Field(min_length=1, max_length=128)]


class AddedField(Model):
    name: FieldOfLog
    expression: Expression


class LogAttributes(Model):
    remove: list[FieldOfLog] = Field(default_factory=list, min_length=1, max_length=32)
    add: list[AddedField] = Field(default_factory=list, min_length=1, max_length=64)


class AccessLogPolicy(Model):
    filter: Expression | None = None
    attributes: LogAttributes | None = None
    otlp: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        """Those of names and expressions, as the log itself finds them."""
        if not any(value is not None for value in raw.values()):
            yield (), "a policy that does nothing"
        written = raw.get("attributes")
        attributes = written if isinstance(written, Mapping) else {}
        if isinstance(text := raw.get("filter"), str):
            yield from _faults(("filter",), filter=text)
        names: list[str] = []
        for number, one in enumerate(_list(attributes.get("add"))):
            if isinstance(one, Mapping) and isinstance(name := one.get("name"), str):
                place = ("attributes", "add", number)
                if name in names:
                    yield place, f"{name} is added twice"
                names.append(name)
                if isinstance(text := one.get("expression"), str):
                    yield from _faults(place, add={name: text})
        removed = [name for name in _list(attributes.get("remove")) if isinstance(name, str)]
        yield from _faults(("attributes", "remove"), remove=removed)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _faults(loc: tuple[str | int, ...], **options: Any) -> Iterator[Fault]:
    try:
        AccessLog(_nowhere, **options)
    except ConfigurationError as exc:
        yield from ((loc, fault.removeprefix("filter: ")) for fault in exc.faults)


def _nowhere(line: str) -> None:
    pass


class Frontend(Model):
    access_log: AccessLogPolicy | None = None
    connect: Unsupported = None
    http: Unsupported = None
    metrics: Unsupported = None
    network_authorization: Unsupported = None
    proxy_protocol: Unsupported = None
    tcp: Unsupported = None
    tls: Unsupported = None
    tracing: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        if not any(value is not None for value in raw.values()):
            yield (), "a policy that does nothing"


def shaped(observe: Sequence[Observer], wanted: AccessLogPolicy | None) -> list[Observer]:
    """The observers, each AccessLog among them as the policy wants it."""
    if wanted is None:
        return [*observe]
    attributes = wanted.attributes or LogAttributes()
    add = {one.name: one.expression for one in attributes.add}
    return [
        one.shaped(filter=wanted.filter, add=add, remove=attributes.remove) if isinstance(one, AccessLog) else one
        for one in observe
    ]
