"""LLMBackend: one LLM API in front of one or several providers that speak it.

No request goes to the same provider twice, and none to another once an answer has begun. What a provider says of the
gateway's own credential is not the client's to hear.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import httpx

from ..decision import Reason, deny
from ..errors import ConfigurationError
from ..nothing import NOTHING
from ..protocols.llm import LLM, ProviderName
from ..protocols.llm.apis import Operation
from ..protocols.protocol import Protocol
from ..record import Record
from ..respond import ASGIApp
from .endpoint import Endpoint, Health, in_turn
from .failover import Failover
from .forward import NO_WEBSOCKET, Forward, Refused
from .observed import Observed
from .provider import OURS, PASSED, Credential, Provider, failed
from .retry import Retry
from .timeouts import DEFAULT_TIMEOUTS, Timeouts
from .upstream import PoolTransport
from .websocket import WebSockets, websocket_forward

SUBPROTOCOLS: Final = frozenset({"realtime", "openai-beta.realtime-v1"})  # browsers put their keys beside these
FAILOVER_ON: Final = (429, 500, 502, 503, 504, 529)


class LLMBackend:
    """Forwards to an LLM API at `url`, which is what the provider's SDK calls the base URL; or to several `Provider`s
    that speak the same API, `provider` saying which.

    `credential` and `aliases` are those of the one provider at `url`. `failover_on`: statuses after which another
    provider is asked, as it is when one cannot be reached or breaks off before it answers. `include_usage`: ask
    OpenAI's streams for their usage, for the log alone. `pass_headers`: further request headers that go on. `retry`:
    when a request is sent once more, after every provider has been asked. `websockets`: what is allowed of the Realtime
    API's sessions; None forwards none.
    """

    mounts = False

    def __init__(
        self,
        url: str | Sequence[Provider],
        *,
        provider: ProviderName = "openai",
        credential: Credential | None = None,
        aliases: Mapping[str, str] = NOTHING,
        failover_on: Collection[int] = FAILOVER_ON,
        include_usage: bool = False,
        pass_headers: Sequence[str] = (),
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        websockets: WebSockets | None = None,
    ) -> None:
        self._provider = provider
        llm = LLM(provider, include_usage=include_usage)
        self.protocol: Protocol | None = llm
        if isinstance(url, str):
            self.providers: tuple[Provider, ...] = (Provider(url, credential=credential, aliases=aliases),)
        else:
            self.providers = tuple(url)
            if not self.providers or any(not isinstance(one, Provider) for one in self.providers):
                raise ConfigurationError("an LLMBackend has a URL, or a list of Providers")
            if credential is not None or aliases:
                raise ConfigurationError("with several Providers, each has its own credential and aliases")
        passed = {name.lower().encode("latin-1", "replace") for name in pass_headers}
        faults = [f"pass_headers: {name.decode()} is not the client's to say" for name in sorted(passed & OURS)]
        if isinstance(pass_headers, str):
            faults.append("pass_headers is a list of names")
        faults += [f"failover_on: {status} is no error" for status in failover_on if not 400 <= status <= 599]
        if faults:
            raise ConfigurationError(faults)
        self.name = self.providers[0].url.netloc.decode("ascii")
        self.transport = transport if transport is not None else PoolTransport()

        def choosing(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
            return _Providers(llm, provider, self.providers, transport, retry, frozenset(failover_on), PASSED | passed)

        self._websockets = websocket_forward(websockets, self.transport, choosing, SUBPROTOCOLS)
        self.app: ASGIApp = Forward(
            self.providers[0].url.copy_with(raw_path=b"/"),
            choosing(Observed(self.transport)),
            timeouts,
            preserve_host=False,
            protocol=llm,
            websockets=self._websockets,
        )

    async def aclose(self) -> None:
        """Close the transport's connections, and every websocket."""
        if self._websockets is not None:
            self._websockets.shut()
        await self.transport.aclose()

    def __repr__(self) -> str:
        return f"LLMBackend({[*self.providers]!r}, provider={self._provider!r})"


class _Providers(Failover):
    """Sends a request on to one provider after the other, until one answers."""

    def __init__(
        self,
        llm: LLM,
        api: ProviderName,
        providers: tuple[Provider, ...],
        transport: httpx.AsyncBaseTransport,
        retry: Retry | None,
        failover_on: frozenset[int],
        passed: frozenset[bytes],
    ) -> None:
        health = Health(failures=1, statuses=failover_on)  # another provider is asked at the first sign of trouble
        super().__init__(providers, transport, retry=retry, health=health)
        self._llm = llm
        self._api = api
        self._providers = providers
        self._passed = passed

    def candidates(self, request: httpx.Request) -> Sequence[Endpoint]:
        """What is not known may be about something that only one of them has."""
        record: Record = request.extensions["record"]
        operation = self._llm.operation(record.view)
        if record.view.type == "websocket" and (record.view.call is None or record.view.call.model is None):
            raise Refused(NO_WEBSOCKET)  # there is no model that was judged
        model = _model(operation, record)
        request.extensions["llm"] = operation, model
        known = operation is not None and len(self._providers) > 1
        serving = [one for one in (self._providers if known else self._providers[:1]) if one.serves(model)]
        if not serving:
            raise Refused(_NOT_SERVED)
        return in_turn(serving)

    async def addressed(self, request: httpx.Request, endpoint: Endpoint) -> httpx.Request:
        assert isinstance(endpoint, Provider)
        key = await endpoint.key(request.extensions["record"].principal)
        operation, model = request.extensions["llm"]
        return endpoint.request(request, self._api, operation, model, key, self._passed)

    def failing(self, response: httpx.Response, endpoint: Endpoint) -> bool:
        return super().failing(response, endpoint) or _refuses_us(response, endpoint)

    def elsewhere(self, outcome: httpx.Response | Exception, endpoint: Endpoint) -> bool:
        return isinstance(outcome, Exception) or self.failing(outcome, endpoint)

    async def answer(self, response: httpx.Response, endpoint: Endpoint) -> httpx.Response:
        if _refuses_us(response, endpoint):  # not the client's to hear of
            await response.aclose()
            raise Refused(failed("the provider refuses the credential that it was sent"))
        return response


def _refuses_us(response: httpx.Response, endpoint: Endpoint) -> bool:
    return response.status_code == 401 and isinstance(endpoint, Provider) and endpoint.credential is not None


def _model(operation: Operation | None, record: Record) -> str | None:
    """The model that was judged."""
    if operation is None:
        return None
    model = record.view.json()["model"] if operation.in_body else operation.model
    return str(model) if model is not None else None


_NOT_SERVED: Final = deny(
    "Model not found", status=404, code="model_not_found", reason=Reason.NOT_FOUND, policy="forward"
)
