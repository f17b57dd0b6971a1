"""Several MCP servers behind one endpoint: which of them a name that clients see belongs to, and what that calls it.

The names are agentgateway's: `docs_search` is the tool `search` of the target `docs`, `docs+file:///a` its resource
`file:///a`. Rules speak of target and name, clients and refusals of the name that clients see. Whoever forwards a
request and whoever judges it read a name with this, so that they cannot mean two servers. Nothing here forwards.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from ...call import Call
from ...errors import ConfigurationError
from ..json_rpc import INVALID_PARAMS, RPCFault
from .methods import Kind
from .uris import is_template

MAX_TARGETS: Final = 128
MAX_TARGET_NAME: Final = 63

# No underscore and no plus, which end it; and a letter first, as it begins the scheme of a URI.
_TARGET: Final = re.compile(r"[a-z](?:[a-z0-9.-]*[a-z0-9])?").fullmatch
_UI: Final = "ui://"  # MCP Apps know their resources by this scheme, so the target is in what follows it
_KINDS: Final[tuple[Kind, ...]] = ("tool", "prompt", "resource", "task")


class Targets:
    """The targets of one endpoint. Without any, or with one, names are the server's own."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = tuple(names)
        faults = [
            f"target {name!r} is not lower-case letters, digits, dots and dashes that begin with a letter"
            for name in self.names
            if not isinstance(name, str) or len(name) > MAX_TARGET_NAME or _TARGET(name) is None
        ]
        if len(set(self.names)) != len(self.names):
            faults.append("targets: a name is given twice")
        if len(self.names) > MAX_TARGETS:
            faults.append(f"targets: there are at most {MAX_TARGETS}")
        if faults:
            raise ConfigurationError(faults)
        self._known = frozenset(self.names)
        self._only = self.names[0] if len(self.names) == 1 else None

    def locate(self, kind: Kind, shown: str) -> tuple[str | None, str]:
        """The target of what clients call this, and what that target calls it. Raises `RPCFault`, with the words for
        what does not exist."""
        if len(self.names) < 2:
            return self._only, shown
        if kind == "resource":
            target, name = _split_uri(shown)
            if not is_template(name):  # what the server is sent has to have its one spelling, too
                target = ""
        else:
            target, _, name = shown.partition("_" if kind != "task" else "+")
        if target not in self._known or not name:
            raise RPCFault(INVALID_PARAMS, f"Unknown {kind}: {shown}")
        return target, name

    def shown(self, kind: Kind, target: str | None, name: str) -> str:
        """What clients call a thing of this target."""
        if len(self.names) < 2 or target is None:
            return name
        if kind == "resource":
            return f"{_UI}{target}+{name[len(_UI) :]}" if name.startswith(_UI) else f"{target}+{name}"
        return f"{target}{'_' if kind != 'task' else '+'}{name}"

    def judged(self, call: Call) -> Call:
        """A call by names that clients see, as rules are asked about it. Raises `RPCFault`."""
        if not self.names:
            return call
        for kind in _KINDS:
            name = getattr(call, kind)
            if name is not None:
                target, own = self.locate(kind, name)
                changes: dict[str, Any] = {kind: own, "target": target}
                return replace(call, **changes)
        return call if self._only is None else replace(call, target=self._only)

    def seen(self, call: Call) -> Call:
        """A judged call by the names that clients see."""
        if len(self.names) < 2 or call.target is None:
            return call
        for kind in _KINDS:
            name = getattr(call, kind)
            if name is not None:
                changes: dict[str, Any] = {kind: self.shown(kind, call.target, name)}
                return replace(call, **changes)
        return call


def _split_uri(shown: str) -> tuple[str, str]:
    if shown.startswith(_UI):
        target, plus, rest = shown[len(_UI) :].partition("+")
        return (target, _UI + rest) if plus and rest else ("", "")
    target, plus, uri = shown.partition("+")
    return (target, uri) if plus else ("", "")
