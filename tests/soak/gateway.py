"""The gateway: a product like any other, behind an app that counts what reaches it, and says on a port of its own what
goes on inside.

Of the product's own options only those are set that a soak of minutes needs: short timeouts, and few connections for
most requests, so that they queue.
"""

import asyncio
import gc
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, Final, cast

from agentgate import (
    AccessLog,
    APIKeyAuth,
    CELRules,
    FileKeys,
    HTTPBackend,
    JWTAuth,
    PoolTransport,
    RemoteJWKS,
    Route,
    Timeouts,
    create_gateway,
)

from .words import AGENT

ISSUER: Final = "https://issuer.soak"
AUDIENCE: Final = "soak"
READ_SECONDS: Final = 2.0  # that the upstream may keep silent
REST_SECONDS: Final = 1.0  # that an idle connection to it is kept

# What must not be left of a request that is over. By name: the soak needs no more of the product's insides.
_OF_REQUESTS: Final = frozenset(
    {"Record", "Request", "Attempt", "Exchange", "ResponseStream", "Connection", "Ticket", "Client", "Incoming"}
)


def app() -> Any:
    """As the environment says: where the upstream is, the folder of the run, the ports of issuer and probe."""
    folder = Path(os.environ["SOAK_FOLDER"])
    upstream = os.environ["SOAK_UPSTREAM"]
    few = PoolTransport(max_connections=int(os.environ["SOAK_CONNECTIONS"]), keepalive_expiry=REST_SECONDS)
    many = PoolTransport(max_connections=100_000, keepalive_expiry=REST_SECONDS)
    short = Timeouts(
        connect=2.0, pool=20.0, write=5.0, first_byte=READ_SECONDS, idle=READ_SECONDS, events=READ_SECONDS, client=10.0
    )
    identity = {AGENT.decode(): "agent"}
    gateway = create_gateway(
        Route("/soak", HTTPBackend(upstream, transport=few, timeouts=short), name="soak"),
        Route("/soak/stream", HTTPBackend(upstream, transport=many), name="streams"),
        authenticate=[
            APIKeyAuth(FileKeys(folder / "keys.json"), identity_headers=identity),
            JWTAuth(
                issuer=ISSUER,
                audience=AUDIENCE,
                jwks=RemoteJWKS(os.environ["SOAK_JWKS"]),
                identity_headers=identity,
            ),
        ],
        authorize=[CELRules(allow={"soaking": 'request.path.startsWith("/soak/")'})],
        observe=[AccessLog(Path(os.environ["SOAK_LOG"]), format="json")],
    )
    return Counting(gateway, (few, many), int(os.environ["SOAK_PROBE"]))


class Counting:
    """Counts the requests that the server hands to the gateway, and answers the probe."""

    def __init__(self, gateway: Any, pools: tuple[PoolTransport, ...], port: int) -> None:
        self.gateway = gateway
        self.pools = pools
        self.port = port
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            loop = asyncio.get_running_loop()
            probe = await loop.create_server(lambda: Probe(self), "127.0.0.1", self.port)
            try:
                await self.gateway(scope, receive, send)
            finally:
                probe.close()
            return
        self.requests += 1
        await self.gateway(scope, receive, send)

    def now(self) -> dict[str, Any]:
        """What goes on inside."""
        stats = [pool.stats for pool in self.pools]
        return {
            "requests": self.requests,
            "tasks": len(asyncio.all_tasks()),
            "open": sum(stat.open for stat in stats),
            "idle": sum(stat.idle for stat in stats),
            "waiting": sum(stat.waiting for stat in stats),
        }

    def census(self) -> dict[str, Any]:
        """What is alive that belongs to a request, and how many objects there are, once all garbage is collected."""
        gc.collect()
        objects = gc.get_objects()
        names = (type(one).__name__ for one in objects if str(type(one).__module__).startswith("agentgate"))
        return {
            "objects": len(objects),
            "of_requests": {name: count for name, count in Counter(names).items() if name in _OF_REQUESTS},
            "collections": [generation["collections"] for generation in gc.get_stats()],
        }


class Probe(asyncio.Protocol):
    """A line in, a line of JSON out, and no task that would be counted."""

    def __init__(self, counting: Counting) -> None:
        self.counting = counting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        found = self.counting.census() if data == b"census\n" else self.counting.now()
        self.transport.write(json.dumps(found).encode() + b"\n")
