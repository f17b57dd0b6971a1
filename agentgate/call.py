"""Call: what a request asks for, in the words of its protocol. It knows of no bytes: protocols read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .nothing import NOTHING


@dataclass(frozen=True, slots=True)
class Call:
    """The agent-level action inside a request: which protocol, which method, and the one thing it names.

    `provisional`: asked ahead of the call itself, to see whether any such call could be allowed: for one item of a
    list, or for a method that opens a session. Its arguments are not known, and where it names nothing, neither is the
    thing; rules that are undecided for want of them let it pass, as the call itself will be judged.
    `attributes`: what else the protocol says of it, under the names that rules use (`mcp.sessionId`, `llm.provider`).
    """

    protocol: str
    method: str
    tool: str | None = None
    prompt: str | None = None
    resource: str | None = None
    model: str | None = None
    task: str | None = None
    target: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=lambda: NOTHING, repr=False)
    provisional: bool = False
    attributes: Mapping[str, Any] = field(default_factory=lambda: NOTHING, repr=False)
