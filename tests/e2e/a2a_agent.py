"""An agent made with the A2A SDK: both bindings in both versions, and a line of log for every request that it gets."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Task, TaskState, TaskStatus
from a2a.types.a2a_pb2 import AgentCardSignature, Part
from starlette.applications import Starlette


def agent(url: str, log: Callable[[str], object]) -> Any:
    """The ASGI app of an agent at `url`. It echoes messages; one that says `wait` becomes a task without end."""
    public = card(url)
    extended = AgentCard()
    extended.CopyFrom(public)
    extended.name = "Echo, extended"
    handler = DefaultRequestHandler(
        agent_executor=Echo(), task_store=InMemoryTaskStore(), agent_card=public, extended_agent_card=extended
    )
    routes = [
        *create_agent_card_routes(public, cache_control="public, max-age=3600"),
        *create_jsonrpc_routes(handler, "/a2a/jsonrpc", enable_v0_3_compat=True),
        *create_rest_routes(handler, path_prefix="/a2a/rest", enable_v0_3_compat=True),
    ]
    return Logged(Starlette(routes=routes), log)


def card(url: str) -> AgentCard:
    """Signed by nobody; its gRPC interface is nowhere."""
    interfaces = [
        AgentInterface(url="http://127.0.0.1:1", protocol_binding="GRPC", protocol_version="1.0"),
        *(
            AgentInterface(url=f"{url}/a2a/{path}", protocol_binding=binding, protocol_version=version)
            for version in ("1.0", "0.3")
            for binding, path in (("JSONRPC", "jsonrpc"), ("HTTP+JSON", "rest"))
        ),
    ]
    return AgentCard(
        name="Echo",
        description="Says it again.",
        version="1",
        supported_interfaces=interfaces,
        capabilities=AgentCapabilities(streaming=True, push_notifications=True, extended_agent_card=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="echo", name="echo", description="Says it again.", tags=["echo"])],
        signatures=[AgentCardSignature(protected="e30", signature="AAAA")],
    )


class Echo(AgentExecutor):
    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        task = Task(
            id=context.task_id,
            context_id=context.context_id,
            status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED),
            history=[context.message] if context.message is not None else [],
        )
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work()
        said = context.get_user_input()
        if said == "wait":
            await asyncio.Event().wait()
        await updater.add_artifact([Part(text=f"echo: {said}")], name="echo")
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


class Logged:
    """Logs each request as it comes in, and `gone` when its client leaves before the answer is over."""

    def __init__(self, app: Any, log: Callable[[str], object]) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        over = False
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        line = {"method": scope["method"], "path": scope["path"], "headers": headers}
        self._log(json.dumps(line))

        async def watching() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect" and not over:
                self._log(json.dumps({**line, "method": "gone"}))
            return message

        async def sending(message: Any) -> None:
            nonlocal over
            await send(message)
            over = message["type"] == "http.response.body" and not message.get("more_body", False)

        await self._app(scope, watching, sending)
