"""Provider: one server that speaks an LLM API, and the request as it is to get it.

The client's credentials never reach it. Of the client's headers only those go on that are known to be harmless.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

import httpx

from ..allowed_models import ModelNames
from ..decision import Decision
from ..errors import ConfigurationError, describe
from ..nothing import NOTHING
from ..observe.redaction import SENSITIVE_PARAMETERS
from ..principal import Principal
from ..protocols.llm import ProviderName
from ..protocols.llm.apis import Operation, below_version, model_fault
from ..protocols.llm.body import renamed
from ..protocols.llm.realtime import with_model
from ..protocols.protocol import unusable
from ..record import Record
from ..secret import Secret
from .endpoint import Endpoint, is_number
from .forward import Refused
from .messages import UpstreamRequest, raw_headers

Credential = Secret | Callable[[Principal | None], Awaitable[Secret]]

_VISIBLE: Final = bytes(range(0x21, 0x7F))

_CREDENTIAL_HEADERS: Final[Mapping[ProviderName, tuple[bytes, str]]] = {
    "openai": (b"authorization", "Bearer "),
    "azure": (b"api-key", ""),
    "anthropic": (b"x-api-key", ""),
    "gemini": (b"x-goog-api-key", ""),
    "vertex": (b"authorization", "Bearer "),
}
OURS: Final = frozenset(name for name, _ in _CREDENTIAL_HEADERS.values()) | {b"cookie", b"host"}
"""Request headers that never are the client's."""

PASSED: Final = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"anthropic-beta",
        b"anthropic-version",
        b"content-length",
        b"content-type",
        b"openai-beta",
        b"traceparent",
        b"tracestate",
        b"transfer-encoding",
        b"user-agent",
        b"x-client-request-id",
        b"x-goog-api-client",
        b"x-request-id",
    }
)
"""Request headers that go on, beside what SDKs tell of themselves (`x-stainless-*`)."""
_PASSED_PREFIX: Final = b"x-stainless-"
_FRAMING: Final = (b"content-length", b"transfer-encoding")


class Provider(Endpoint):
    """One of the servers behind an `LLMBackend`. `url` is what its SDK calls the base URL.

    `credential`: the key, or a coroutine function that gives the one for a caller; None sends none. `weight`: its share
    of the requests; 0 is asked only when the others fail. `models`: names it serves, `claude-*` and the like; None for
    all. `aliases`: its own names for models that clients know by another.
    """

    def __init__(
        self,
        url: str,
        *,
        credential: Credential | None = None,
        weight: float = 1,
        models: Collection[str] | None = None,
        aliases: Mapping[str, str] = NOTHING,
    ) -> None:
        super().__init__(url)
        faults = []
        if not (credential is None or isinstance(credential, Secret) or callable(credential)):
            faults.append("a credential is a Secret or a coroutine function")
        elif isinstance(credential, Secret) and _unsendable(credential):
            faults.append("the credential is not visible ASCII")
        if not is_number(weight):
            faults.append("a weight is a number, 0 or more")
        if not isinstance(aliases, Mapping) or any(map(model_fault, [*aliases, *aliases.values()])):
            faults.append("aliases are a mapping from names of models to names of models")
        try:
            self.models = None if models is None else ModelNames(models)
        except ConfigurationError as exc:
            faults += exc.faults
        if faults:
            raise ConfigurationError(f"{self.url.host}: {fault}" for fault in faults)
        self.credential = credential
        self.weight = weight
        self.aliases = dict(aliases)
        self._prefix = self.url.raw_path.rstrip(b"/")

    def serves(self, model: str | None) -> bool:
        """Whether it has this model; None for a request that names none."""
        return model is None or self.models is None or model in self.models

    async def key(self, principal: Principal | None) -> Secret | None:
        """The credential for this caller. Raises `Refused`: without the one it should have, nothing is sent."""
        if self.credential is None or isinstance(self.credential, Secret):
            return self.credential
        try:
            secret = await self.credential(principal)
        except Exception as exc:
            raise Refused(failed(f"no credential for the provider: {describe(exc)}")) from None
        if not isinstance(secret, Secret) or _unsendable(secret):
            raise Refused(failed("no credential for the provider: what came is no Secret of visible ASCII"))
        return secret

    def request(
        self,
        request: httpx.Request,
        api: ProviderName,
        operation: Operation | None,
        model: str | None,
        key: Secret | None,
        passed: frozenset[bytes],
    ) -> httpx.Request:
        """The client's request as this provider is to get it."""
        record: Record = request.extensions["record"]
        path, _, query = request.extensions["target"].partition(b"?")
        headers = [pair for pair in raw_headers(request) if pair[0] in passed or pair[0].startswith(_PASSED_PREFIX)]
        headers.insert(0, (b"host", self.url.netloc))
        stream = request.stream
        if operation is None:
            path = below_version(path.decode("latin-1"), api).encode("latin-1")
        else:
            alias = None if model is None else self.aliases.get(model)
            path = operation.path_for(alias)
            body = b"".join(stream) if alias is not None and isinstance(stream, httpx.ByteStream) else b""
            if alias is not None and body:
                body = renamed(body, operation, alias)
                stream = httpx.ByteStream(body)
                headers = [pair for pair in headers if pair[0] not in _FRAMING]
                headers.append((b"content-length", str(len(body)).encode()))
        if key is not None:
            name, prefix = _CREDENTIAL_HEADERS[api]
            headers.append((name, f"{prefix}{key.reveal()}".encode()))
        query = _without_credentials(query, record.redacted_parameters)
        if operation is not None and operation.parameter is not None and model in self.aliases:
            query = with_model(query, operation, self.aliases[model])
        target = self._prefix + path + (b"?" + query if query else b"")
        return UpstreamRequest(request.method, self.url, self.origin, target, headers, stream, {**request.extensions})


def _without_credentials(query: bytes, more: frozenset[str]) -> bytes:
    return b"&".join(part for part in query.split(b"&") if not _is_credential(part, more)) if query else query


def _is_credential(part: bytes, more: frozenset[str]) -> bool:
    name = unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")).decode("latin-1").strip().lower()
    return name in SENSITIVE_PARAMETERS or name in more


def _unsendable(secret: Secret) -> bool:
    text = secret.reveal()
    return not text.isascii() or bool(text.encode().translate(None, _VISIBLE))


def failed(detail: str) -> Decision:
    """The refusal for a provider that cannot be asked as it should be."""
    return unusable(detail, policy="forward")
