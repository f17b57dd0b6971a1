"""An MCP server behind a login that clients find by themselves: they are told where it is, and for which scope to ask.

The login and the tools are examples: put yours in. In this folder, with `pip install uvicorn`:

    uvicorn mcp_login:app --port 8080 &
    curl -i localhost:8080/mcp
    curl -i localhost:8080/.well-known/oauth-protected-resource/mcp
"""

from agentgate import AccessLog, CELRules, JWTAuth, MCPBackend, Route, create_gateway

URL = "http://localhost:8080"  # what clients dial; https, and your host

tokens = JWTAuth(
    issuer="https://login.example.com/realms/agents",  # its OpenID configuration says where the keys are
    audience=f"{URL}/mcp",
    scopes=["tools:call"],
    identity_headers={"x-agent-sub": "sub"},  # for the tools, in place of the token
)

app = create_gateway(
    Route("/mcp", MCPBackend("http://127.0.0.1:9000/mcp"), name="tools"),
    authenticate=[tokens],
    authorize=[CELRules(allow={"staff only": 'jwt.email.endsWith("@example.com")'})],
    observe=[AccessLog()],
    public_url=URL,
)
