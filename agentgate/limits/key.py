"""Whose budget a request spends: words such as `principal`, expressions, and several of them.

A key that cannot be told has failed, and the request with it. Nothing that a client merely says of itself is a key,
unless an expression reads it.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from ipaddress import IPv6Address
from json import dumps
from typing import Any, Final

from agentgate import cel

from ..errors import describe
from ..principal import JWT
from ..request import Request
from ..rules import compile_value
from .memory import PEER, Bucket

MAX_KEY: Final = 256  # characters of a bucket that are kept; of a longer one it is the digest

Part = Callable[[Request], Bucket]


class NotCounted(Exception):
    """The limit is not about this request."""


class NoKey(Exception):
    """Whose budget it would be cannot be told: why, without any value."""


def _peer(request: Request) -> Bucket:
    """The network of an address: one caller of IPv6 has 2^64 of them. Without one, all share a bucket."""
    source = request.source
    if source is None:
        return PEER, ""
    address = source[0]
    if ":" in address:
        try:
            address = str(IPv6Address(int(IPv6Address(address)) >> 64 << 64))
        except ValueError:  # a server's own notation
            pass
    return PEER, address


def _principal(request: Request) -> Bucket:
    """An id is unique within what proved it: of tokens, the issuer."""
    principal = request.principal
    if principal is None:
        return _peer(request)
    issuer = principal.attributes.get("iss", "") if principal.source == JWT else ""
    return "principal", principal.source, issuer, principal.id


def _tool(request: Request) -> Bucket:
    call = request.call
    if call is None:
        raise NoKey("no protocol is read here that would tell which tool is called")
    if call.tool is None:
        raise NotCounted
    return "tool", call.target or "", call.tool


def _model(request: Request) -> Bucket:
    """What asks for no model that is known is counted, too: nothing is passed by asking in another way, nor in another
    case, which names of Azure's deployments do not have."""
    call = request.call
    if call is None:
        raise NoKey("no protocol is read here that would tell which model is asked")
    if call.protocol != "llm" or (call.provisional and call.model is None):
        raise NotCounted
    return "model", (call.model or "").lower()


def _route(request: Request) -> Bucket:
    if request.route is None:
        raise NoKey("there is no gateway here that has found a route")
    return "route", request.route


WORDS: Final[dict[str, Part]] = {
    "principal": _principal,
    "tool": _tool,
    "model": _model,
    "route": _route,
    "peer": _peer,
}


class Key:
    """Tells the bucket of a request. `faults` are those of what it was made of."""

    def __init__(self, written: str | Sequence[str]) -> None:
        self.faults: list[str] = []
        self.reads_body = False
        texts = [written] if isinstance(written, str) else written
        if not isinstance(texts, Sequence) or isinstance(texts, bytes) or not all(isinstance(t, str) for t in texts):
            self.faults.append(f"key is one of {', '.join(WORDS)}, an expression, or a list of those")
            return
        self._parts = [WORDS.get(text) or self._expression(text) for text in texts]
        self._only = self._parts[0] if len(self._parts) == 1 else None

    def of(self, request: Request) -> Bucket:
        """Whose budget it is. Raises NotCounted and NoKey."""
        if self._only is not None:
            bucket = self._only(request)
        else:
            found = [part(request) for part in self._parts]
            bucket = PEER if any(kind == PEER for kind, *_ in found) else "several", *map(dumps, found)
        if sum(map(len, bucket)) > MAX_KEY:
            return bucket[0], sha256(dumps(bucket).encode()).hexdigest(), "sha256"
        return bucket

    def _expression(self, text: str) -> Part:
        try:
            expression = compile_value(text, "string")
        except cel.CompileError as error:
            self.faults += [f"key: {problem}" for problem in error.problems]
            return _peer  # of a limit that is not built
        self.reads_body = self.reads_body or expression.may_read("request.body")
        evaluate = expression.evaluate

        def part(request: Request) -> Bucket:
            value: Any
            try:
                value = evaluate(request)
            except cel.EvaluationError as error:
                raise NoKey(f"the key failed at {error.line}:{error.column}: {error.kind}") from None
            except cel.Unknown:
                if request.call is not None and request.call.provisional:
                    raise NotCounted from None  # the call itself will be
                raise NoKey("the key failed: it depends on what is not known") from None
            except Exception as exc:
                raise NoKey(f"the key failed: {describe(exc)}") from None
            if not isinstance(value, str):
                raise NoKey("the key failed: its value is no text")
            return "value", value

        return part
