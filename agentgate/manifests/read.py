"""Files to documents: what is in them, and every fault with file, document and field path.

Values are never quoted. Documents with faults are kept as far as they can be read, so that references to them and
from them can be checked all the same; nothing is built from them, as a fault was noted.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, get_args

from pydantic import ValidationError

from ..documents import load_yaml_documents
from ..errors import ConfigurationError
from .backend_kinds import AgentgatewayBackend
from .gateway_kinds import GatewayDocument, Namespace, ReferenceGrant, Service
from .kinds import ConfigMap, KubernetesDocument, Secret
from .model import NOT_SUPPORTED, PARTIAL, RULE, Loc, message
from .policy_kinds import AgentgatewayPolicy
from .route_kinds import HTTPRoute

KINDS: Final[dict[str, type[KubernetesDocument]]] = {
    "HTTPRoute": HTTPRoute,
    "Secret": Secret,
    "ConfigMap": ConfigMap,
    "AgentgatewayPolicy": AgentgatewayPolicy,
    "AgentgatewayBackend": AgentgatewayBackend,
    "Gateway": GatewayDocument,
    "ReferenceGrant": ReferenceGrant,
    "Namespace": Namespace,
    "Service": Service,
}
AFTER_ALL: Final = 1 << 32

M = TypeVar("M", bound=KubernetesDocument)

_PRINTABLE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")


class Faults:
    """Everything that is wrong, told at once in the order of the documents."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}  # in a dict, as two ways may lead to the same fault

    def add(self, text: str, order: int = AFTER_ALL) -> None:
        """Note a fault; `order` is that of its document, or after all where it is about no one document."""
        self._found.setdefault(text, order)

    def raise_any(self) -> None:
        """Raise one `ConfigurationError` with all of them, if there are any."""
        if self._found:
            raise ConfigurationError(sorted(self._found, key=lambda text: self._found[text]))


@dataclass(frozen=True, eq=False)
class Document(Generic[M]):
    """One document that could be read, and where it stands."""

    model: M
    place: str
    order: int

    @property
    def name(self) -> str:
        """Its own name, without the namespace."""
        return self.model.metadata.name

    @property
    def namespace(self) -> str:
        """The namespace it is in; `default` where it names none."""
        return self.model.metadata.namespace

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def at(self, path: str, text: str) -> str:
        """A message about one of its fields."""
        return f"{self.place}: {path}: {text}"


@dataclass
class Documents:
    """What the files hold, by kind."""

    routes: list[Document[HTTPRoute]] = field(default_factory=list)
    secrets: list[Document[Secret]] = field(default_factory=list)
    config_maps: list[Document[ConfigMap]] = field(default_factory=list)
    policies: list[Document[AgentgatewayPolicy]] = field(default_factory=list)
    backends: list[Document[AgentgatewayBackend]] = field(default_factory=list)
    gateways: list[Document[GatewayDocument]] = field(default_factory=list)
    grants: list[Document[ReferenceGrant]] = field(default_factory=list)
    namespaces: list[Document[Namespace]] = field(default_factory=list)
    services: list[Document[Service]] = field(default_factory=list)
    unreadable: set[tuple[str, str, str]] = field(default_factory=set)
    """Kind, namespace and name of those that are too broken to be anything else than a fault."""
    unknown: bool = False
    """Whether there are others, in a file that cannot be read, or not to its end."""

    def lists(self) -> Mapping[str, list[Any]]:
        return {
            "HTTPRoute": self.routes,
            "Secret": self.secrets,
            "ConfigMap": self.config_maps,
            "AgentgatewayPolicy": self.policies,
            "AgentgatewayBackend": self.backends,
            "Gateway": self.gateways,
            "ReferenceGrant": self.grants,
            "Namespace": self.namespaces,
            "Service": self.services,
        }

    def broken(self, kind: str) -> bool:
        """Whether there are, or may be, documents of this kind of which next to nothing is known."""
        return self.unknown or any(found == kind for found, _, _ in self.unreadable)


def read_documents(paths: Iterable[str | os.PathLike[str]], faults: Faults) -> Documents:
    """All documents of these files."""
    documents = Documents()
    seen: dict[tuple[str, str, str], str] = {}
    order = 0
    for path in paths:
        order += 1
        for number, raw in _raw_documents(path, documents, faults, order):
            order += 1
            _read(raw, f"{os.fspath(path)}: document {number}", order, documents, seen, faults)
    return documents


def _raw_documents(
    path: str | os.PathLike[str], documents: Documents, faults: Faults, order: int
) -> Iterator[tuple[int, Any]]:
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        faults.add(f"{os.fspath(path)}: cannot read ({type(exc).__name__})", order)
        documents.unknown = True
        return
    number = 0
    try:
        for number, (_, raw) in enumerate(load_yaml_documents(text), 1):
            yield number, raw
    except ConfigurationError as exc:
        for text in exc.faults:
            faults.add(f"{os.fspath(path)}: document {number + 1}: {text}", order)
        documents.unknown = True
        return
    if not number:
        faults.add(f"{os.fspath(path)}: no document in it", order)


def _read(
    raw: Any, place: str, order: int, documents: Documents, seen: dict[tuple[str, str, str], str], faults: Faults
) -> None:
    if not isinstance(raw, dict):
        faults.add(f"{place}: a document is a mapping", order)
        return
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        problem = "required" if kind is None else f"{_shown(kind)} is {NOT_SUPPORTED}: {', '.join(KINDS)}"
        faults.add(f"{place}: kind: {problem}", order)
        return
    metadata = raw.get("metadata")
    names = metadata if isinstance(metadata, dict) else {}
    name, namespace = names.get("name"), names.get("namespace", "default")
    identity = (kind, str(namespace), str(name))
    place = f"{place} ({kind} {_shown(namespace)}/{_shown(name)})" if name is not None else f"{place} ({kind})"
    model, problems = _validate(KINDS[kind], raw)
    for problem in problems:
        faults.add(f"{place}: {problem}", order)
    if name is not None and seen.setdefault(identity, place) != place:
        faults.add(f"{place}: defined twice, first in {seen[identity]}", order)
    elif model is None:
        documents.unreadable.add(identity)
    else:
        documents.lists()[kind].append(Document(model, place, order))


def _validate(kind: type[KubernetesDocument], raw: dict[Any, Any]) -> tuple[KubernetesDocument | None, list[str]]:
    """The document, without its faulty fields if need be and if that can be; and what is wrong with it."""
    try:
        return kind.model_validate(raw), []
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
    problems = [_problem(kind, error) for error in errors]
    pruned = deepcopy(raw)
    for error in errors:
        if error["type"] != RULE:
            _prune(pruned, error["loc"])
    pruned["apiVersion"] = get_args(kind.model_fields["api_version"].annotation)[0]
    try:
        return kind.model_validate(pruned, context={PARTIAL: True}), problems
    except ValidationError:
        return None, problems


def _problem(kind: type[KubernetesDocument], error: Mapping[str, Any]) -> str:
    loc: Loc = error["loc"]
    if kind in (Secret, ConfigMap) and len(loc) > 1 and error["input"] is None:
        # `stringData: {? the-key}`: what stands in the place of a name may be a key.
        return f"{loc[0]}: an entry has no value"
    return f"{field_path(loc)}: {message(error)}" if loc else message(error)


def _prune(raw: Any, loc: Loc) -> None:
    """Remove the field at `loc`. Items of lists stay, as those after them would get other numbers."""
    *parents, last = loc
    try:
        for step in parents:
            raw = raw[step]
    except (LookupError, TypeError):  # removed already, or a place of pydantic's own making
        return
    if isinstance(raw, dict):
        raw.pop(last, None)


def field_path(loc: Iterable[str | int]) -> str:
    """`spec.rules[0].matches`."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step != "[key]":  # pydantic's word for a mapping's key that is of the wrong type
            path += f".{step}" if path else step
    return path


def _shown(value: object) -> str:
    """A name, if it looks like one."""
    return value if isinstance(value, str) and 0 < len(value) <= 253 and _PRINTABLE.issuperset(value) else "?"
