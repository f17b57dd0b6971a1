"""An OpenAI-compatible API behind keys of our own; the provider's key stays here. The provider is at $UPSTREAM or
https://api.openai.com/v1, and $OPENAI_API_KEY its key.

In this folder, with `pip install uvicorn`:

    export AGENT_KEY=$(openssl rand -hex 32) OPENAI_API_KEY=sk-...
    uvicorn llm_gateway:app --port 8080 &
    curl -i localhost:8080/v1/models -H "Authorization: Bearer $AGENT_KEY"
    printf '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}' > small.json
    curl -i localhost:8080/v1/chat/completions -H "Authorization: Bearer $AGENT_KEY" --json @small.json
    printf '{"model": "o3", "messages": [{"role": "user", "content": "Hello"}]}' > large.json
    curl -i localhost:8080/v1/chat/completions -H "Authorization: Bearer $AGENT_KEY" --json @large.json

With the SDK: `openai.OpenAI(base_url="http://localhost:8080/v1", api_key=AGENT_KEY)`.
"""

import os

from agentgate import (
    SDK_LOCATIONS,
    AccessLog,
    APIKeyAuth,
    CELRules,
    LLMBackend,
    Route,
    Secret,
    StaticKeys,
    create_gateway,
)

provider = LLMBackend(
    os.environ.get("UPSTREAM", "https://api.openai.com/v1"),
    credential=Secret.env("OPENAI_API_KEY"),
    include_usage=True,  # so that the log knows of streams, too
)

app = create_gateway(
    Route("/v1", provider, name="openai"),
    authenticate=[APIKeyAuth(StaticKeys({"agent": Secret.env("AGENT_KEY")}), location=SDK_LOCATIONS)],
    authorize=[
        CELRules(
            allow={"small models": 'llm.requestModel.startsWith("gpt-4o")'},
            deny={"long answers": "has(llm.params.max_tokens) && llm.params.max_tokens > 4096"},
        )
    ],
    observe=[AccessLog()],
)
