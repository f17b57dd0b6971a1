"""The demo's second part: a tool server, a model and an agent, each a toy, and two callers with different rights.

One may look at what there is and ask the small model; the other may do everything. Their keys are made at the start.
"""

from typing import Final, NamedTuple

from ..auth.api_key import APIKeyAuth
from ..auth.keys import Key, StaticKeys, new_key
from ..proxy.a2a import A2ABackend
from ..proxy.llm import LLMBackend
from ..proxy.mcp import MCPBackend
from ..proxy.route import Route
from ..rules import CELRules

_HOSTS: Final = ("localhost", "127.0.0.1")
_ADMIN: Final = {"admins do everything": 'apiKey.role == "admin"'}

TOOL_RULES: Final = CELRules(allow={**_ADMIN, "readers look": 'mcp.tool.name.startsWith("get_")'})
MODEL_RULES: Final = CELRules(allow={**_ADMIN, "readers ask the small model": 'llm.requestModel == "gpt-4o-mini"'})
AGENT_RULES: Final = CELRules(allow={**_ADMIN, "readers see the card": 'a2a.method == "GetAgentCard"'})

_HINTS: Final = """
READER={reader}
ADMIN={admin}
J='content-type: application/json'
curl -i localhost:{port}/mcp -H "Authorization: Bearer $READER" -H "$J" -d '{{"jsonrpc":"2.0","id":1,"method":"tools/list"}}'
curl -i localhost:{port}/mcp -H "Authorization: Bearer $READER" -H "$J" -d '{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"drop_table"}}}}'
curl -i localhost:{port}/mcp -H "Authorization: Bearer $ADMIN" -H "$J" -d '{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":"drop_table"}}}}'
curl -i localhost:{port}/v1/chat/completions -H "Authorization: Bearer $READER" -H "$J" -d '{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"hello"}}]}}'
curl -i localhost:{port}/v1/chat/completions -H "Authorization: Bearer $READER" -H "$J" -d '{{"model":"gpt-4o","messages":[{{"role":"user","content":"hello"}}]}}'
curl -i localhost:{port}/echo/.well-known/agent-card.json -H "Authorization: Bearer $READER"
curl -i localhost:{port}/echo -H "Authorization: Bearer $ADMIN" -H "$J" -H "A2A-Version: 1.0" -d '{{"jsonrpc":"2.0","id":4,"method":"SendMessage","params":{{"message":{{"messageId":"1","role":"ROLE_USER","parts":[{{"text":"hello"}}]}}}}}}'
# Who called what, and what was refused: agentgate demo | tee access.log, and then agentgate audit access.log
"""  # noqa: E501  (lines for a shell)


class Keys(NamedTuple):
    """The keys of the two callers, in clear: they are shown once, and kept nowhere."""

    reader: str
    admin: str

    @classmethod
    def new(cls) -> "Keys":
        return cls(new_key(), new_key())


def agent_routes(keys: Keys, *, tools: str, model: str, agent: str) -> list[Route]:
    """Routes to upstreams at these URLs, for the callers who have one of the keys."""
    callers = StaticKeys([Key("reader", keys.reader, {"role": "reader"}), Key("admin", keys.admin, {"role": "admin"})])
    known = [APIKeyAuth(callers)]
    return [
        Route("/mcp", MCPBackend(tools), hosts=_HOSTS, authenticate=known, authorize=[TOOL_RULES], name="demo/tools"),
        Route("/v1", LLMBackend(model), hosts=_HOSTS, authenticate=known, authorize=[MODEL_RULES], name="demo/model"),
        Route("/echo", A2ABackend(agent), hosts=_HOSTS, authenticate=known, authorize=[AGENT_RULES], name="demo/agent"),
    ]


def hints(keys: Keys, port: int) -> str:
    """Lines to type into a shell."""
    return _HINTS.format(port=port, reader=keys.reader, admin=keys.admin)
