"""Keys, as documents write them, field by field, and what all documents have; fields that are only the cluster's own
book-keeping are let in and not looked at."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from .model import Fault, Label, Model, Name, Unsupported, fault

GATEWAY_API: Final = "gateway.networking.k8s.io"
AGENTGATEWAY: Final = "agentgateway.dev"
INFERENCE: Final = "inference.networking.k8s.io"

Text = Annotated[str, Field(min_length=1, max_length=4096)]
FieldName = Annotated[str, Field(min_length=1, max_length=256)]
Port = Annotated[int, Field(ge=1, le=65535)]
Labels = dict[str, str]


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            fault("a time such as 2030-01-31T00:00:00Z")
    if isinstance(value, datetime) and value.tzinfo is None:
        fault("a time has a time zone, such as 2030-01-31T00:00:00Z")
    return value


class Metadata(Model):
    name: Name
    namespace: Label = "default"
    labels: Labels = Field(default_factory=dict)
    creation_timestamp: Annotated[datetime | None, BeforeValidator(_moment)] = None
    # What a cluster writes into documents, and what only its tools read.
    annotations: Any = None
    finalizers: Any = None
    generation: Any = None
    managed_fields: Any = None
    owner_references: Any = None
    resource_version: Any = None
    self_link: Any = None
    uid: Any = None


class KubernetesDocument(Model):
    metadata: Metadata
    status: Any = None  # what a controller found, not what is wanted


# -- keys ------------------------------------------------------------------------------------------------------------


class Secret(KubernetesDocument):
    api_version: Literal["v1"]
    kind: Literal["Secret"]
    type: str = "Opaque"
    immutable: bool = False
    data: dict[str, str] = Field(default_factory=dict, repr=False)
    string_data: dict[str, str] = Field(default_factory=dict, repr=False)


class ConfigMap(KubernetesDocument):
    api_version: Literal["v1"]
    kind: Literal["ConfigMap"]
    immutable: bool = False
    data: dict[str, str] = Field(default_factory=dict, repr=False)
    binary_data: Unsupported = None


# -- references -------------------------------------------------------------------------------------------------------


def group_faults(kind: Any, group: Any, otherwise: str) -> Iterator[Fault]:
    """That an AgentgatewayBackend is of its own group, and nothing else is."""
    if group in (AGENTGATEWAY, otherwise) and (kind == "AgentgatewayBackend") != (group == AGENTGATEWAY):
        wanted = AGENTGATEWAY if kind == "AgentgatewayBackend" else repr(otherwise)
        yield ("group",), f"it is {wanted} for this kind"
