"""A FastAPI app behind a gate: one key, from the environment, and an access log on standard output.

In this folder, with `pip install fastapi uvicorn`:

    export AGENT_KEY=$(openssl rand -hex 32)
    uvicorn wrap_fastapi:app --port 8080 &
    curl -i localhost:8080/whoami
    curl -i localhost:8080/whoami -H "Authorization: Bearer $AGENT_KEY"
"""

from typing import Annotated

from fastapi import Depends, FastAPI, Request

from agentgate import AccessLog, APIKeyAuth, Gate, Principal, Secret, StaticKeys, record_of

app = FastAPI()
app.add_middleware(
    Gate,
    authenticate=[APIKeyAuth(StaticKeys({"agent": Secret.env("AGENT_KEY")}))],
    observe=[AccessLog()],
)


def caller(request: Request) -> Principal:
    """Who is asking: behind this gate there is always somebody."""
    record = record_of(request.scope)
    assert record is not None
    assert record.principal is not None
    return record.principal


@app.get("/whoami")
async def whoami(who: Annotated[Principal, Depends(caller)]) -> dict[str, str]:
    return {"id": who.id}
