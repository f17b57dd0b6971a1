"""What a request seems to speak, for the log alone: `Gate(protocol="auto")`.

A guess decides nothing. Rules about calls want a protocol that somebody answers for, and see none here; nothing is
refused, filtered or held back, and what cannot be made out is plain http.
"""

from typing import Any, Final

from ..record import Record
from ..request import Request, with_body
from ..respond import Message, Receive, Send
from .a2a import operations as a2a
from .json_rpc import RPCMessage, read_message
from .llm import LLM
from .mcp.eras import MODERN
from .mcp.methods import LEGACY_NAMING, LEGACY_UNNAMED, MODERN_NAMING, MODERN_UNNAMED, NOTIFICATIONS, calls_of
from .mcp.protocol import details_of
from .protocol import Reading

MAX_BYTES: Final = 64 * 1024  # of a body that is looked at; the method of a larger one is not worth the memory

_MCP_HEADERS: Final = (b"mcp-session-id", b"mcp-protocol-version", b"mcp-method")
_MCP_METHODS: Final = frozenset(
    {*LEGACY_NAMING, *MODERN_NAMING, *LEGACY_UNNAMED, *MODERN_UNNAMED, "completion/complete"}
)
_LLM: Final = LLM()


class Guess:
    """One request and its body, looked at while they pass."""

    def __init__(self, request: Request, receive: Receive) -> None:
        self._request = request
        self._receive = receive
        self._body: bytearray | None = bytearray()

    async def receive(self) -> Message:
        """What the server says; of a body, as much is kept as is looked at."""
        message = await self._receive()
        if self._body is not None and message["type"] == "http.request":
            self._body += message.get("body") or b""
            if len(self._body) > MAX_BYTES:
                self._body = None
        return message

    def answering(self, send: Send, record: Record) -> Send:
        """The `send` that notes the guess once the answer begins: by then the app has read what it was asked."""

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                try:
                    self._tell(record)
                except ValueError:  # no JSON with one reading, or no call: nothing to tell
                    pass
            await send(message)

        return telling

    def _tell(self, record: Record) -> None:
        request = self._request
        headers = request.by_name
        if b"a2a-version" in headers or request.path.endswith(a2a.CARD_PATHS):
            record.protocol = "a2a"
        elif any(name in headers for name in _MCP_HEADERS):
            record.protocol = "mcp"
        elif _LLM.operation(request) is not None:
            record.protocol = "llm"
        with_body(request, bytes(self._body or b""))
        if record.protocol == "llm":
            reading = _LLM.read(request)
            record.details.update(reading.details if isinstance(reading, Reading) else {})
        elif request.body:
            self._tell_message(read_message(request.json()), record)

    def _tell_message(self, message: RPCMessage, record: Record) -> None:
        method = message.method
        named = a2a.JSON_RPC.get(method)
        is_mcp = method in _MCP_METHODS or method.startswith(NOTIFICATIONS)
        if named is not None and (record.protocol == "a2a" or not is_mcp):
            record.protocol = "a2a"
            record.details["a2a.method"] = named.method
        elif is_mcp and record.protocol != "a2a":
            record.protocol = "mcp"
            modern = self._request.by_name.get(b"mcp-protocol-version", b"").decode("latin-1") in MODERN
            nothing: dict[str, Any] = {}
            record.details.update(details_of(calls_of(message, modern, nothing)[0], message))
