"""AgentgatewayBackend documents to backends, each made once, and the credential that one of an LLM provider has.

The credential is read from a Secret of the backend's own namespace, and no fault shows it.
"""

from dataclasses import dataclass, field
from typing import Final

from ..errors import ConfigurationError
from ..protocols.llm import ProviderName
from ..proxy.a2a import A2ABackend
from ..proxy.backend import HTTPBackend
from ..proxy.destination import Backend
from ..proxy.llm import LLMBackend
from ..proxy.mcp import MCPBackend
from ..secret import Secret
from .backend_kinds import AgentgatewayBackend, LLMProvider, Server
from .keys import text_of
from .read import Document, Documents, Faults

ENTRY: Final = "Authorization"
"""The entry of a Secret that is the credential."""

_SECRET: Final = "spec.policies.auth.secretRef"
_BASES: Final[dict[ProviderName, str]] = {
    "openai": "https://api.openai.com",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}


@dataclass
class AgentBackends:
    """The backends of documents, by `namespace/name`; None for one with a fault."""

    documents: Documents
    faults: Faults
    session_key: Secret | None
    _made: dict[str, Backend | None] = field(init=False)

    def __post_init__(self) -> None:
        self._made = {document.full_name: self._checked(document) for document in self.documents.backends}

    def known(self, name: str) -> bool:
        """Whether there is such a document, be it one that cannot be read."""
        return name in self._made or ("AgentgatewayBackend", *name.split("/")) in self.documents.unreadable

    def get(self, name: str) -> Backend | None:
        """The backend; None where there is none, which is a fault that was noted."""
        return self._made.get(name)

    def speaks(self, name: str, protocol: str) -> bool:
        """Whether it speaks this protocol, as far as is known of it."""
        backend = self._made.get(name)
        return backend is None or (backend.protocol is not None and backend.protocol.name == protocol)

    def _checked(self, document: Document[AgentgatewayBackend]) -> Backend | None:
        try:
            return self._make(document)
        except ConfigurationError as exc:
            for text in exc.faults:
                self.faults.add(document.at("spec", text), document.order)
            return None

    def _make(self, document: Document[AgentgatewayBackend]) -> Backend | None:
        spec = document.model.spec
        self._check_clear(document)
        scheme = "https" if spec.policies is not None and spec.policies.tls is not None else "http"
        if spec.static is not None:
            return HTTPBackend(f"{scheme}://{spec.static.host}:{spec.static.port}")
        if spec.mcp is not None:
            urls = {
                one.name: f"{scheme}://{one.static.host}:{one.static.port}{one.static.path}" for one in spec.mcp.targets
            }
            return MCPBackend(urls if len(urls) > 1 else next(iter(urls.values())), session_key=self._key_of(document))
        if spec.a2a is not None:
            return A2ABackend(f"{scheme}://{spec.a2a.host}:{spec.a2a.port}")
        if spec.ai is not None:
            return self._llm(document, spec.ai.provider, scheme)
        return None  # what it is was a fault

    def _key_of(self, document: Document[AgentgatewayBackend]) -> Secret | None:
        """A key for each: no server is ever told of a session that another one has opened."""
        return None if self.session_key is None else Secret(f"{self.session_key.reveal()} {document.full_name}")

    def _check_clear(self, document: Document[AgentgatewayBackend]) -> None:
        """Note a port of TLS that would be spoken to in the clear: the first request would give its credential away."""
        spec = document.model.spec
        if spec.policies is not None and spec.policies.tls is not None:
            return
        servers: list[tuple[str, Server | LLMProvider | None]] = [
            ("static", spec.static),
            ("a2a", spec.a2a),
            ("ai.provider", spec.ai.provider if spec.ai else None),
        ]
        targets = spec.mcp.targets if spec.mcp else ()
        servers += [(f"mcp.targets[{number}].static", target.static) for number, target in enumerate(targets)]
        for path, server in servers:
            if server is not None and server.port == 443:
                text = "443 is a port of https: say so with policies.tls: {}"
                self.faults.add(document.at(f"spec.{path}.port", text), document.order)

    def _llm(self, document: Document[AgentgatewayBackend], provider: LLMProvider, scheme: str) -> Backend | None:
        name: ProviderName = "openai" if provider.openai else "anthropic" if provider.anthropic else "gemini"
        base = _BASES[name] if provider.host is None else f"{scheme}://{provider.host}:{provider.port}"
        if name == "openai":
            base += (provider.path_prefix or "/v1").rstrip("/")
        policies = document.model.spec.policies
        if policies is None or policies.auth is None:
            return LLMBackend(base, provider=name)
        credential = self._credential(document, f"{document.namespace}/{policies.auth.secret_ref.name}")
        return None if credential is None else LLMBackend(base, provider=name, credential=credential)

    def _credential(self, document: Document[AgentgatewayBackend], name: str) -> Secret | None:
        for secret in self.documents.secrets:
            if secret.full_name == name:
                text = (text_of(secret, ENTRY) or "").strip()
                if text[:7].rstrip().lower() == "bearer":
                    text = text[7:].lstrip()
                if text:
                    return Secret(text)
                self.faults.add(document.at(_SECRET, f"Secret {name} has no entry {ENTRY}"), document.order)
                return None
        if not self.documents.unknown and ("Secret", *name.split("/")) not in self.documents.unreadable:
            self.faults.add(document.at(_SECRET, f"there is no Secret {name}"), document.order)
        return None
