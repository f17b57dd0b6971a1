"""A2A: agents called by agents, over JSON-RPC or REST, in 1.0 and 0.3; every call by its name in A2A 1.0.

    Gate(agent, authorize=[CELRules(allow=['a2a.method in ["SendMessage", "GetTask"]'])], protocol=A2A())

It refuses what is not plainly one call: paths outside of the interfaces that it is told of, batches, notifications,
versions that it does not know, parameters spelt in two ways, a body that contradicts the path. gRPC is not served.
Push notifications, by which a client has the agent call a URL of its choice, are refused unless they are wanted.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from ...auth.location import Place, Query, RawHeaderList
from ...call import Call
from ...decision import Decision
from ...errors import ConfigurationError
from ...record import Record
from ...request import Request, below_mount
from ...respond import Send
from ..json_rpc import INVALID_PARAMS, RPCFault, id_of, name_of, read_message, refuse_twins
from ..protocol import May, Protocol, Reading
from . import errors, operations
from .answers import Answer, CardAnswer, without_conditions
from .cards import Cards
from .errors import Known, Speech

_VERSION: Final = re.compile(r"(?:1|0\.3)(?:\.[0-9]{1,5}){0,2}|").fullmatch  # absent and empty mean 0.3
_INTERFACE: Final = re.compile(r"/|(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+/?").fullmatch

_REST_MESSAGE: Final = ("message", "request")  # the latter in 0.3: protobuf reads either
_TASK: Final = ("taskId", "task_id")
_CONTEXT: Final = ("contextId", "context_id")
_PUSH: Final = (
    *("taskPushNotificationConfig", "task_push_notification_config"),
    *("pushNotificationConfig", "push_notification_config", "pushNotification", "push_notification"),
)

# Members that no others may be taken for. They are all those that clients send, not just those that are read: where
# there is nothing else, nothing has to be compared.
_IN_PARAMS: Final = frozenset(
    {
        *(*_REST_MESSAGE, "configuration", "metadata", "tenant", "id", "name", "parent", *_TASK, *_CONTEXT),
        *("historyLength", "pageSize", "pageToken", "status", "includeArtifacts", "url", "token", "authentication"),
        *("pushNotificationConfig", "pushNotificationConfigId", "config", "config_id"),
    }
)
_IN_MESSAGE: Final = frozenset(
    {
        *(*_TASK, *_CONTEXT, "metadata", "messageId", "message_id", "role", "parts", "content", "kind", "extensions"),
        *("referenceTaskIds", "reference_task_ids"),
    }
)
_IN_CONFIGURATION: Final = frozenset(
    {
        *(*_PUSH, "acceptedOutputModes", "accepted_output_modes", "historyLength", "history_length"),
        *("blocking", "returnImmediately"),
    }
)

# Members of a REST body or query that say again which task the path names; in 0.3 as `tasks/{id}`.
_TASK_AGAIN: Final = {
    operations.GET_TASK: ("id", "name"),
    operations.CANCEL: ("id", "name"),
    operations.SUBSCRIBE: ("id", "name"),
    operations.CREATE_PUSH: (*_TASK, "parent"),
    operations.GET_PUSH: (*_TASK, "name"),
    operations.LIST_PUSH: (*_TASK, "parent"),
    operations.DELETE_PUSH: (*_TASK, "name"),
}


class _Refused(Exception):
    """The request is refused: as which error, and with which text."""

    def __init__(self, error: Known, message: str) -> None:
        self.error = error
        self.message = message


class A2A(Protocol):
    """Reads A2A below where the app is mounted.

    `interfaces`: the paths at which the agent speaks it; JSON-RPC at exactly such a path, REST below it, with the
    public card below each of them and at the root. Nothing else is let through. `push_notifications`: whether clients
    may have the agent call them back.
    """

    name: ClassVar[str] = "a2a"
    cards: Cards | None = None
    """How cards and redirects are rewritten; None: they are the app's own, and right."""
    credentials: tuple[Place, ...] = ()
    """Where callers have theirs for other requests. With one for a card that wants none, it goes no further."""

    def __init__(self, *, interfaces: Sequence[str] = ("/",), push_notifications: bool = False) -> None:
        if isinstance(interfaces, str) or not interfaces:
            raise ConfigurationError("A2A: interfaces are a list of paths, one at least")
        faults = [f"A2A: an interface is a plain path, not {path!r}" for path in interfaces if not _is_path(path)]
        if faults:
            raise ConfigurationError(faults)
        self.interfaces = tuple(sorted({path.rstrip("/") for path in interfaces}, key=len, reverse=True))
        self.push_notifications = push_notifications
        self._card_paths = frozenset(base + path for base in ("", *self.interfaces) for path in operations.CARD_PATHS)
        self._endpoints = frozenset(path for base in self.interfaces for path in (base, base + "/"))

    def reads_body(self, request: Request) -> bool:
        return True  # and refuses one where none belongs

    def read(self, request: Request) -> Reading | Decision:
        path = self._path(request)
        speech = self._speech(request, path)
        try:
            if path is None:
                raise _Refused(errors.NO_METHOD, "not found")
            self._check_version(request)
            if path in self._card_paths and request.method in ("GET", "HEAD"):
                _no_body(request)
                if request.principal is None and any(
                    isinstance(place, Query) and place.find(request) for place in self.credentials
                ):
                    raise _Refused(errors.BAD_REQUEST, "a credential in the query of a request that wants none")
                return _CardReading(self, Speech(rest=True), Call("a2a", operations.CARD))
            if path in self._endpoints and request.method == "POST":
                return self._read_rpc(request, speech)
            return self._read_rest(request, path)
        except _Refused as refused:
            return speech.refuse(refused.error, refused.message)
        except RPCFault as fault:
            return speech.refuse(errors.BY_CODE[fault.code], str(fault))

    def refuse(self, decision: Decision, request: Request) -> Decision:
        path = self._path(request)
        speech = self._speech(request, path)
        if speech.rest:
            return decision if path in self._card_paths else speech.keep(decision)
        if decision.policy == "body" and decision.status == 400:
            return speech.say(decision, errors.BAD_JSON, decision.message)
        return decision

    def _path(self, request: Request) -> str | None:
        """The path below the mount. None: it has percent signs, and servers differ in what a task called `a%3Acancel`
        is; or it is a websocket's."""
        path, raw = below_mount(request)
        return None if b"%" in raw or request.type == "websocket" else path

    def _speech(self, request: Request, path: str | None) -> Speech:
        if path is None or path not in self._endpoints or request.method != "POST":
            return Speech(rest=True)
        try:
            body = request.json()
        except ValueError:
            return Speech()
        method = body.get("method") if isinstance(body, dict) else None
        named = operations.JSON_RPC.get(method) if isinstance(method, str) else None
        return Speech(legacy=named is not None and named.legacy, id=id_of(body))

    def _check_version(self, request: Request) -> None:
        """Servers read a request as the version that it says. It says so once, and it is one that is known here."""
        said = {value for name, values in request.query.items() if name.lower() == "a2a-version" for value in values}
        header = request.headers.getlist("a2a-version")
        said.update(header)
        if len(said) > 1 or len(header) > 1 or not all(map(_VERSION, said)):
            raise _Refused(errors.VERSION_NOT_SUPPORTED, "this A2A version is not supported")

    def _read_rpc(self, request: Request, speech: Speech) -> Reading:
        if not request.body:
            raise RPCFault(errors.BAD_JSON.code, "the body is empty")
        message = read_message(request.json())
        if message.kind != "request":
            raise _Refused(errors.BAD_REQUEST, "neither notifications nor responses are served")
        named = operations.JSON_RPC.get(message.method)
        if named is None:
            if operations.is_misspelt(message.method):
                raise _Refused(errors.NO_METHOD, "Method not found")
            return _CallReading(self, speech, Call("a2a", message.method), known=False)
        refuse_twins(message.params, _IN_PARAMS)
        task = _text(message.params, named.task, required=True) if named.task else None
        tenant = _text(message.params, ("tenant",))
        calls = self._calls(named.method, message.params, ("message",), task, tenant)
        reading = _CardReading if named.method == operations.EXTENDED_CARD else _CallReading
        return reading(self, speech, *calls)

    def _read_rest(self, request: Request, path: str) -> Reading:
        asked = self._asked(request.method, path)
        if asked is None:
            raise _Refused(errors.NO_METHOD, "not found")
        if request.method == "POST":
            params = request.json() if request.body else {}
            if not isinstance(params, dict):
                raise RPCFault(INVALID_PARAMS, "the body is not an object")
            refuse_twins(params, _IN_PARAMS)
        else:
            _no_body(request)
            params = {}
        query = _query(request)
        for members in (params, query):
            _agree(members, asked)
        if asked.method == operations.LIST_TASKS:
            params = query
        calls = self._calls(asked.method, params, _REST_MESSAGE, asked.task, asked.tenant)
        reading = _CardReading if asked.method == operations.EXTENDED_CARD else _CallReading
        return reading(self, Speech(rest=True), *calls)

    def _asked(self, method: str, path: str) -> operations.Asked | None:
        """By the longest interface that the path is below."""
        for base in self.interfaces:
            if path.startswith(base + "/"):
                return operations.asked(method, path[len(base) :])
        return None

    def _calls(
        self,
        method: str,
        params: Mapping[str, Any],
        message_names: tuple[str, ...],
        task: str | None,
        tenant: str | None,
    ) -> tuple[Call, ...]:
        attributes: dict[str, Any] = {}
        if tenant is not None:
            attributes["tenant"] = tenant
        calls_back = method == operations.CREATE_PUSH
        about = params
        if method in operations.MESSAGES:
            about = _object(params, message_names, required=True)
            refuse_twins(about, _IN_MESSAGE)
            task = _text(about, _TASK)
            configuration = _object(params, ("configuration",))
            refuse_twins(configuration, _IN_CONFIGURATION)
            calls_back = _one_of(configuration, _PUSH) is not None
        context = _text(about, _CONTEXT)
        if context is not None:
            attributes["contextId"] = context
        attributes["metadata"] = metadata = _object(about, ("metadata",))
        if metadata:
            refuse_twins(metadata, ())
        if calls_back and not self.push_notifications:
            raise _Refused(errors.PUSH_NOT_SUPPORTED, "Push Notification is not supported")
        call = Call("a2a", method, task=task, attributes=attributes)
        if not calls_back or method == operations.CREATE_PUSH:
            return (call,)
        # To send a message with a URL to call back is to set one: a rule against that is not passed by.
        return call, Call("a2a", operations.CREATE_PUSH, task=task, attributes=attributes)

    def __repr__(self) -> str:
        return f"A2A(interfaces={[path or '/' for path in self.interfaces]})"


class _CallReading(Reading):
    """A call that is answered in passing."""

    def __init__(self, protocol: A2A, speech: Speech, *calls: Call, known: bool = True) -> None:
        super().__init__(*calls)
        self.details = {"a2a.method": calls[0].method}
        self._cards = protocol.cards
        self._credentials = protocol.credentials
        self._speech = speech
        self._known = known

    def refuse(self, decision: Decision, call: Call | None) -> Decision:
        if decision.status != 403:
            return self._speech.keep(decision)
        if not self._known:
            return self._speech.say(decision, errors.NO_METHOD, "Method not found")
        task = None if call is None else call.task
        if task is None:
            return self._speech.say(decision, errors.UNSUPPORTED, decision.message)
        named = f"Task {task} not found" if self.calls[0].method in operations.MESSAGES else "Task not found"
        return self._speech.say(decision, errors.TASK_NOT_FOUND, named)

    def answering(self, send: Send, may: May, record: Record) -> Send:
        return Answer(send, record, rpc=not self._speech.rest, cards=self._cards)


class _CardReading(_CallReading):
    """A call that is answered with a card, which has to be whole to be rewritten."""

    def refuse(self, decision: Decision, call: Call | None) -> Decision:
        return decision if self._is_public else super().refuse(decision, call)

    @property
    def _is_public(self) -> bool:
        return self.calls[0].method == operations.CARD

    def onward(self, headers: RawHeaderList, body: bytes | None) -> tuple[RawHeaderList, bytes | None]:
        if self._cards is not None:
            headers = without_conditions(headers)
            for place in self._credentials:
                headers, _ = place.remove(tuple(headers), b"")
        return headers, body

    def answering(self, send: Send, may: May, record: Record) -> Send:
        cards = self._cards
        if cards is None:
            return super().answering(send, may, record)
        rewrite = cards.rewrite_bytes if self._speech.rest else cards.rewrite_result
        return CardAnswer(send, rewrite, record, private=not self._is_public or bool(cards.schemes))


def _is_path(path: Any) -> bool:
    return isinstance(path, str) and _INTERFACE(path) is not None


def _no_body(request: Request) -> None:
    if request.body:
        raise _Refused(errors.BAD_REQUEST, f"a {request.method} has no body")


def _query(request: Request) -> dict[str, str]:
    """The query of a REST request, each parameter given once."""
    pairs = [(name, values) for name, values in request.query.items()]
    if any(len(values) > 1 for _, values in pairs):
        raise RPCFault(INVALID_PARAMS, "a parameter is given twice")
    query = {name: values[0] for name, values in pairs}
    refuse_twins(query, _IN_PARAMS)
    return query


def _agree(members: Mapping[str, Any], asked: operations.Asked) -> None:
    """Refuse a body or a query that names another task or tenant than the path: servers differ in which one counts."""
    for name in _TASK_AGAIN.get(asked.method, ()):
        said = members.get(name)
        if said and said not in (asked.task, f"tasks/{asked.task}"):
            raise RPCFault(INVALID_PARAMS, f"{name} is not the task of the path")
    said = members.get("tenant")
    if said and said != asked.tenant:
        raise RPCFault(INVALID_PARAMS, "tenant is not the one of the path")


def _one_of(members: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The value under one of these names; None where there is none, or it is null, as protobuf has it."""
    found = [name for name in names if name in members]
    if len(found) > 1:
        raise RPCFault(INVALID_PARAMS, f"both {found[0]} and {found[1]}")
    return members[found[0]] if found else None


def _text(members: Mapping[str, Any], names: tuple[str, ...], *, required: bool = False) -> str | None:
    """The text under one of these names; None where there is none, or an empty one, as protobuf has it."""
    value = _one_of(members, names)
    if (value is None or value == "") and not required:
        return None
    return name_of({names[0]: value}, names[0])


def _object(members: Mapping[str, Any], names: tuple[str, ...], *, required: bool = False) -> Mapping[str, Any]:
    """The object under one of these names; empty where there is none."""
    value = _one_of(members, names)
    if value is None and not required:
        return {}
    if not isinstance(value, dict):
        raise RPCFault(INVALID_PARAMS, f"{names[0]} is not an object")
    return value
