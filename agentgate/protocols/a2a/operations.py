"""The operations of A2A: the names and paths under which each is asked for, and where a request names its task.

Rules know an operation by its name in A2A 1.0, however it was asked for: by JSON-RPC or over REST, in 1.0 or 0.3. What
a path could mean to a server that is careless about case, percent signs or tenants is no operation.
"""

from typing import Final, NamedTuple

SEND: Final = "SendMessage"
STREAM: Final = "SendStreamingMessage"
GET_TASK: Final = "GetTask"
LIST_TASKS: Final = "ListTasks"
CANCEL: Final = "CancelTask"
SUBSCRIBE: Final = "SubscribeToTask"
CREATE_PUSH: Final = "CreateTaskPushNotificationConfig"
GET_PUSH: Final = "GetTaskPushNotificationConfig"
LIST_PUSH: Final = "ListTaskPushNotificationConfigs"
DELETE_PUSH: Final = "DeleteTaskPushNotificationConfig"
EXTENDED_CARD: Final = "GetExtendedAgentCard"
CARD: Final = "GetAgentCard"  # the public one: no method in 1.0; so called in gRPC's 0.3

MESSAGES: Final = frozenset({SEND, STREAM})
"""Operations whose parameters hold a message, which names the task that goes on, if any."""

CARD_PATHS: Final = ("/.well-known/agent-card.json", "/.well-known/agent.json")
"""Of the public card, below the agent's URL: since 0.3, and before."""


class Named(NamedTuple):
    """An operation under one of its names in JSON-RPC. `task`: the parameters that name its task, in both spellings
    that protobuf reads; empty where none does, or a message does."""

    method: str
    task: tuple[str, ...] = ()
    legacy: bool = False
    """Whether it is the name in 0.3."""


_ID: Final = ("id",)
_TASK_ID: Final = ("taskId", "task_id")

JSON_RPC: Final = {
    SEND: Named(SEND),
    STREAM: Named(STREAM),
    GET_TASK: Named(GET_TASK, _ID),
    LIST_TASKS: Named(LIST_TASKS),
    CANCEL: Named(CANCEL, _ID),
    SUBSCRIBE: Named(SUBSCRIBE, _ID),
    CREATE_PUSH: Named(CREATE_PUSH, _TASK_ID),
    GET_PUSH: Named(GET_PUSH, _TASK_ID),
    LIST_PUSH: Named(LIST_PUSH, _TASK_ID),
    DELETE_PUSH: Named(DELETE_PUSH, _TASK_ID),
    EXTENDED_CARD: Named(EXTENDED_CARD),
    "message/send": Named(SEND, legacy=True),
    "message/stream": Named(STREAM, legacy=True),
    "tasks/get": Named(GET_TASK, _ID, legacy=True),
    "tasks/cancel": Named(CANCEL, _ID, legacy=True),
    "tasks/resubscribe": Named(SUBSCRIBE, _ID, legacy=True),
    "tasks/pushNotificationConfig/set": Named(CREATE_PUSH, _TASK_ID, legacy=True),
    "tasks/pushNotificationConfig/get": Named(GET_PUSH, _ID, legacy=True),
    "tasks/pushNotificationConfig/list": Named(LIST_PUSH, _ID, legacy=True),
    "tasks/pushNotificationConfig/delete": Named(DELETE_PUSH, _ID, legacy=True),
    "agent/getAuthenticatedExtendedCard": Named(EXTENDED_CARD, legacy=True),
}
"""By the name that a client sends."""

_FOLDED: Final = frozenset(name.casefold() for name in JSON_RPC)


def is_misspelt(name: str) -> bool:
    """Whether a careless server takes this name for one that it is not."""
    return name not in JSON_RPC and name.casefold() in _FOLDED


class Asked(NamedTuple):
    """An operation asked for over REST: the task and the tenant that the path names, and whether the path is 0.3's."""

    method: str
    task: str | None = None
    tenant: str | None = None
    legacy: bool = False


_PLAIN: Final[dict[tuple[str, tuple[str, ...]], str]] = {
    ("POST", ("message:send",)): SEND,
    ("POST", ("message:stream",)): STREAM,
    ("GET", ("tasks",)): LIST_TASKS,
    ("GET", ("extendedAgentCard",)): EXTENDED_CARD,
}
_LEGACY_CARDS: Final = (["v1", "card"], ["agent", "authenticatedExtendedCard"])  # of 0.3, and before its REST binding
_VERBS: Final = {
    ("POST", ":cancel"): CANCEL,
    ("POST", ":subscribe"): SUBSCRIBE,
    ("GET", ":subscribe"): SUBSCRIBE,
    ("GET", ""): GET_TASK,
}
_CONFIGS: Final = {"POST": CREATE_PUSH, "GET": LIST_PUSH}
_CONFIG: Final = {"GET": GET_PUSH, "DELETE": DELETE_PUSH}

# What no task or tenant in a path is called: servers may take it for a part of the path that means something.
_RESERVED: Final = frozenset(
    {"agent", "card", "extendedagentcard", "message:send", "message:stream", "pushnotificationconfigs", "tasks", "v1"}
)


def asked(method: str, path: str) -> Asked | None:
    """What this method and path, below the URL of an interface, ask for; None for what is no operation."""
    segments = path.split("/")[1:]
    method = "GET" if method == "HEAD" else method
    if method == "GET" and segments in _LEGACY_CARDS:
        return Asked(EXTENDED_CARD, legacy=True)
    found = _read(method, segments)
    if found is not None or len(segments) < 2:
        return found
    found = _read(method, segments[1:])
    if found is None:
        return None
    if segments[0] == "v1":
        return found._replace(legacy=True)
    return found._replace(tenant=segments[0]) if _is_name(segments[0]) else None


def _read(method: str, segments: list[str]) -> Asked | None:
    plain = _PLAIN.get((method, tuple(segments)))
    if plain is not None:
        return Asked(plain)
    if not 2 <= len(segments) <= 4 or segments[0] != "tasks":
        return None
    task = segments[1]
    operation = None
    if len(segments) == 2:
        task, colon, verb = segments[1].partition(":")
        operation = _VERBS.get((method, colon + verb))
    elif segments[2] == "pushNotificationConfigs":
        operation = (_CONFIGS if len(segments) == 3 else _CONFIG).get(method)
    if operation is None or not _is_name(task) or (len(segments) == 4 and not _is_name(segments[3])):
        return None
    return Asked(operation, task)


def _is_name(segment: str) -> bool:
    return segment != "" and ":" not in segment and segment.casefold() not in _RESERVED
