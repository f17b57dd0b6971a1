"""MCPTarget: one of several MCP servers behind an endpoint, and what it alone is sent."""

import re
from collections.abc import Mapping
from typing import Final

from ...errors import ConfigurationError
from ...secret import Secret
from ..endpoint import upstream_url

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE: Final = re.compile(r"[\t !-~]*").fullmatch
_OURS: Final = (
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "accept",
    "accept-encoding",
)


class MCPTarget:
    """The MCP server at `url`, such as `http://tickets:9000/mcp`.

    `credential` goes to it as `Authorization: Bearer ...`, `headers` as they are; neither goes to another target, and
    of the client's headers only `Mcp-Param-*` goes on, to the target that is called.
    """

    def __init__(
        self, url: str, *, credential: Secret | None = None, headers: Mapping[str, str | Secret] | None = None
    ) -> None:
        self.url = upstream_url(url)
        if credential is not None and not isinstance(credential, Secret):
            raise TypeError("a credential is a Secret")
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}
        if credential is not None:
            if "authorization" in self._headers:
                raise ConfigurationError("an MCPTarget has a credential or an authorization header, not both")
            self._headers["authorization"] = Secret(f"Bearer {credential.reveal()}")
        faults = [
            f"an MCPTarget cannot have the header {name!r}"
            for name in self._headers
            if _TOKEN(name) is None or name in _OURS or name.startswith("mcp-")
        ]
        faults += [
            f"the header {name!r} of an MCPTarget has a value that no header can have"
            for name, value in self._headers.items()
            if _VALUE(_text(value)) is None
        ]
        if faults:
            raise ConfigurationError(faults)

    def headers(self) -> dict[str, str]:
        """What it is sent, secrets revealed."""
        return {name: _text(value) for name, value in self._headers.items()}

    def __repr__(self) -> str:
        return f"MCPTarget({str(self.url)!r})"


def _text(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value
