"""An LLM API whose callers each have so many requests and so many tokens; replicas that share a Redis count together.
The provider is at $UPSTREAM or https://api.openai.com/v1, $OPENAI_API_KEY its key, and $REDIS where to count, if set.

In this folder, with `pip install uvicorn`:

    export AGENT_KEY=$(openssl rand -hex 32) OPENAI_API_KEY=sk-...
    uvicorn rate_limits:app --port 8080 &
    printf '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}' > hello.json
    curl -i localhost:8080/v1/chat/completions -H "Authorization: Bearer $AGENT_KEY" --json @hello.json
    curl -i localhost:8080/v1/chat/completions -H "Authorization: Bearer $AGENT_KEY" --json @hello.json
    curl -i localhost:8080/v1/chat/completions -H "Authorization: Bearer $AGENT_KEY" --json @hello.json

The third answer is a 429 that says when to come again, which the provider's SDKs heed.
"""

import os

from agentgate import (
    SDK_LOCATIONS,
    AccessLog,
    APIKeyAuth,
    LLMBackend,
    RateLimit,
    RedisStore,
    Route,
    Secret,
    StaticKeys,
    create_gateway,
)

provider = LLMBackend(
    os.environ.get("UPSTREAM", "https://api.openai.com/v1"),
    credential=Secret.env("OPENAI_API_KEY"),
    include_usage=True,  # so that streams are charged with what they took
)
store = RedisStore(Secret.env("REDIS")) if "REDIS" in os.environ else None

app = create_gateway(
    Route("/v1", provider, name="openai"),
    authenticate=[APIKeyAuth(StaticKeys({"agent": Secret.env("AGENT_KEY")}), location=SDK_LOCATIONS)],
    authorize=[
        RateLimit(requests=2, per="minute", name="requests", store=store),
        RateLimit(tokens=100_000, per="day", name="tokens", store=store),
    ],
    observe=[AccessLog()],
)
