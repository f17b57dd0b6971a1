r"""A gateway in front of an A2A agent, which is at $AGENT or http://127.0.0.1:9000.

In this folder, with `pip install uvicorn` and an agent that speaks JSON-RPC there:

    export AGENT_KEY=$(openssl rand -hex 32)
    uvicorn agent_gateway:app --port 8080 &
    curl -s localhost:8080/echo/.well-known/agent-card.json | grep -o '"url": "[^"]*"'
    curl -s localhost:8080/echo -H "Authorization: Bearer $AGENT_KEY" -H "Content-Type: application/json" \
      -d '{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"parts":[{"text":"hello"}]}}}' \
      | grep -o '"text":"hello"'
    curl -s localhost:8080/echo -H "Authorization: Bearer $AGENT_KEY" -H "Content-Type: application/json" \
      -d '{"jsonrpc":"2.0","id":1,"method":"ListTasks"}' | grep -o 'authorization failed'
    curl -i localhost:8080/echo
"""

import os

from agentgate import (
    A2ABackend,
    AccessLog,
    APIKeyAuth,
    CELRules,
    Exact,
    Route,
    Secret,
    StaticKeys,
    create_gateway,
)

agent = A2ABackend(os.environ.get("AGENT", "http://127.0.0.1:9000"))
card = Exact("/echo/.well-known/agent-card.json")

app = create_gateway(
    Route("/echo", agent, name="echo", authorize=[CELRules(allow=['a2a.method == "SendMessage"'])]),
    Route(card, agent, name="card", authenticate=[]),  # the card is public, and nothing else is
    authenticate=[APIKeyAuth(StaticKeys({"agent": Secret.env("AGENT_KEY")}))],
    observe=[AccessLog()],
    public_url="http://localhost:8080",
)
