"""The cors, headerModifiers and timeouts of AgentgatewayPolicy documents, by what they target.

Each of them is one field: a route's own takes the place of its Gateway's, and what a rule of the route says of the same
takes the place of both.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ..errors import ConfigurationError
from ..protocols.protocol import Protocol
from ..proxy.filters import Filter, filter_faults
from ..proxy.header_changes import RequestHeaders, ResponseHeaders
from .filters import changes, cors
from .policies import Target
from .policy_kinds import AgentgatewayPolicy, Traffic
from .read import Document, Documents, Faults

Policy = Document[AgentgatewayPolicy]
_T = TypeVar("_T")


@dataclass
class RoutePolicies:
    """What these documents say, made once for each policy."""

    documents: Documents
    faults: Faults
    _filters: dict[str, dict[Target, tuple[Policy, Sequence[Filter]]]] = field(default_factory=dict)
    _timeouts: dict[Target, tuple[Policy, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for policy in self.documents.policies:
            traffic = policy.model.spec.traffic
            if traffic is not None:
                for name, make in _MAKERS.items():
                    made = self._made(policy, name, make, traffic)
                    if made:
                        self._attach(self._filters.setdefault(name, {}), name, policy, made)
                if traffic.timeouts is not None:
                    self._attach(self._timeouts, "timeouts", policy, traffic.timeouts.request)

    def filters(self, gateway: str | None, route: str, said: Sequence[Filter]) -> list[Filter]:
        """Those that hold for a rule of a route, but for the kinds of which the rule has said something itself."""
        kinds = {type(one) for one in said}
        return [one for _, made in self._of(gateway, route) for one in made if type(one) not in kinds]

    def timeout(self, gateway: str | None, route: str) -> float | None:
        """Seconds for a request and its answer, where a rule says nothing."""
        found = self._timeouts.get(("HTTPRoute", route)) or self._timeouts.get(("Gateway", gateway or ""))
        return None if found is None else found[1]

    def check(self, gateway: str | None, route: str, protocol: Protocol | None) -> None:
        """Note what cannot be, before a backend that speaks this protocol."""
        for policy, made in self._of(gateway, route):
            for text in filter_faults(made, protocol, None):
                self.faults.add(policy.at("spec.traffic.headerModifiers", f"for {route} {text}"), policy.order)

    def _of(self, gateway: str | None, route: str) -> Iterator[tuple[Policy, Sequence[Filter]]]:
        for found in self._filters.values():
            one = found.get(("HTTPRoute", route)) or found.get(("Gateway", gateway or ""))
            if one is not None:
                yield one

    def _made(
        self, policy: Policy, name: str, make: Callable[[Traffic], list[Filter]], traffic: Traffic
    ) -> list[Filter]:
        try:
            return make(traffic)
        except ConfigurationError as exc:
            for text in exc.faults:
                self.faults.add(policy.at(f"spec.traffic.{name}", text), policy.order)
            return []

    def _attach(self, found: dict[Target, tuple[Policy, _T]], name: str, policy: Policy, made: _T) -> None:
        for number, ref in enumerate(policy.model.spec.target_refs):
            target = (ref.kind, f"{policy.namespace}/{ref.name}")
            if target in found:
                text = f"{ref.kind} {target[1]} has {name} already, by {found[target][0].place}"
                self.faults.add(policy.at(f"spec.targetRefs[{number}]", text), policy.order)
            found[target] = policy, made


def _cors(traffic: Traffic) -> list[Filter]:
    return [] if traffic.cors is None else [cors(traffic.cors)]


def _headers(traffic: Traffic) -> list[Filter]:
    said = traffic.header_modifiers
    made: list[Filter] = []
    if said is not None and said.request is not None:
        made.append(RequestHeaders(**changes(said.request)))
    if said is not None and said.response is not None:
        made.append(ResponseHeaders(**changes(said.response)))
    return made


_MAKERS: Final = {"cors": _cors, "headerModifiers": _headers}
