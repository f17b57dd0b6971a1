"""An MCP server behind keys and rules: who may call which tool, and see it. The server is at $UPSTREAM or
http://127.0.0.1:9000/mcp.

In this folder, with `pip install uvicorn`:

    export AGENT_KEY=$(openssl rand -hex 32)
    uvicorn mcp_gateway:app --port 8080 &
    printf '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "drop_table"}}' > drop.json
    curl -i -w '\\n' localhost:8080/mcp --json @drop.json
    curl -i -w '\\n' localhost:8080/mcp --json @drop.json -H "Authorization: Bearer $AGENT_KEY"
    printf '{"jsonrpc": "2.0", "id": 2, "method": "resources/read", "params": {"uri": "file:///a/../b"}}' > read.json
    curl -i -w '\\n' localhost:8080/mcp --json @read.json -H "Authorization: Bearer $AGENT_KEY"

With the SDK: `Client("http://localhost:8080/mcp", auth=AGENT_KEY)` of FastMCP, or any other.
"""

import os

from agentgate import AccessLog, APIKeyAuth, CELRules, MCPBackend, Route, Secret, StaticKeys, create_gateway

rules = CELRules(
    allow={
        "reading": 'mcp.tool.name.startsWith("get_")',
        "small transfers": 'mcp.tool.name == "transfer" && mcp.tool.arguments.amount <= 100',
        "public files": 'mcp.resource.name.startsWith("file:///public/")',
    },
)

app = create_gateway(
    Route("/mcp", MCPBackend(os.environ.get("UPSTREAM", "http://127.0.0.1:9000/mcp")), name="tools"),
    authenticate=[APIKeyAuth(StaticKeys({"agent": Secret.env("AGENT_KEY")}))],
    authorize=[rules],
    observe=[AccessLog()],
)
