"""A gateway in front of one upstream, which is at $UPSTREAM or http://127.0.0.1:9000.

In this folder, with `pip install uvicorn` and something that listens there:

    export AGENT_KEY=$(openssl rand -hex 32)
    uvicorn gateway:app --port 8080 &
    curl -i localhost:8080/headers
    curl -i localhost:8080/headers -H "Authorization: Bearer $AGENT_KEY"
"""

import os

from agentgate import (
    AccessLog,
    APIKeyAuth,
    Decision,
    HTTPBackend,
    Request,
    Route,
    Secret,
    StaticKeys,
    allow,
    authorizer,
    create_gateway,
    deny,
)


@authorizer
def read_only(request: Request) -> Decision:
    return allow() if request.method in ("GET", "HEAD") else deny(rule="read only")


app = create_gateway(
    Route(
        "/",
        HTTPBackend(os.environ.get("UPSTREAM", "http://127.0.0.1:9000")),
        hosts=["localhost", "127.0.0.1"],
        name="upstream",
        authorize=[read_only],
    ),
    authenticate=[APIKeyAuth(StaticKeys({"agent": Secret.env("AGENT_KEY")}))],
    observe=[AccessLog()],
)
