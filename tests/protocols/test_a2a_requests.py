"""A2A requests are read as calls by their names in 1.0, and what is not plainly one of them is refused."""

import json
from typing import Any

import pytest

from agentgate import A2A, ConfigurationError, Decision, Request
from agentgate.call import Call
from agentgate.protocols.protocol import Reading
from agentgate.testing import http_scope

HELLO = {"messageId": "1", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
JSON = {"content-type": "application/json"}


def rpc(method: Any, params: Any = None, **more: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": 7, "method": method, **more}
    return json.dumps(message if params is None else {**message, "params": params}).encode()


def read(
    method: str,
    target: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    protocol: A2A | None = None,
    **o: Any,
) -> Reading | Decision:
    protocol = protocol or A2A(push_notifications=True)
    return protocol.read(Request.http(method, target, body=body, headers=headers or {}, **o))


def calls(*given: Any, **options: Any) -> tuple[Call, ...]:
    reading = read(*given, **options)
    assert isinstance(reading, Reading), reading
    return reading.calls


def call(method: str, task: str | None = None, **attributes: Any) -> Call:
    return Call("a2a", method, task=task, attributes={"metadata": {}, **attributes})


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("SendMessage", {"message": HELLO}, call("SendMessage")),
        ("SendStreamingMessage", {"message": HELLO}, call("SendStreamingMessage")),
        ("SendMessage", {"message": {**HELLO, "taskId": "t"}}, call("SendMessage", "t")),
        ("SendMessage", {"message": {**HELLO, "task_id": "t"}}, call("SendMessage", "t")),
        ("SendMessage", {"message": {**HELLO, "taskId": ""}}, call("SendMessage")),
        ("SendMessage", {"message": {**HELLO, "taskId": None}}, call("SendMessage")),
        ("SendMessage", {"message": {**HELLO, "contextId": "c"}}, call("SendMessage", contextId="c")),
        ("SendMessage", {"message": {**HELLO, "context_id": "c"}}, call("SendMessage", contextId="c")),
        (
            "SendMessage",
            {"message": {**HELLO, "metadata": {"skill": "x"}}},
            call("SendMessage", metadata={"skill": "x"}),
        ),
        ("SendMessage", {"message": HELLO, "metadata": {"skill": "x"}}, call("SendMessage")),
        ("SendMessage", {"message": HELLO, "tenant": "acme"}, call("SendMessage", tenant="acme")),
        ("SendMessage", {"message": HELLO, "configuration": {"historyLength": 3}}, call("SendMessage")),
        ("GetTask", {"id": "t"}, call("GetTask", "t")),
        ("ListTasks", {}, call("ListTasks")),
        ("ListTasks", {"contextId": "c"}, call("ListTasks", contextId="c")),
        ("CancelTask", {"id": "t", "metadata": {"why": 1}}, call("CancelTask", "t", metadata={"why": 1})),
        ("SubscribeToTask", {"id": "t"}, call("SubscribeToTask", "t")),
        ("CreateTaskPushNotificationConfig", {"taskId": "t"}, call("CreateTaskPushNotificationConfig", "t")),
        ("GetTaskPushNotificationConfig", {"task_id": "t", "id": "c"}, call("GetTaskPushNotificationConfig", "t")),
        ("ListTaskPushNotificationConfigs", {"taskId": "t"}, call("ListTaskPushNotificationConfigs", "t")),
        ("DeleteTaskPushNotificationConfig", {"taskId": "t"}, call("DeleteTaskPushNotificationConfig", "t")),
        ("GetExtendedAgentCard", None, call("GetExtendedAgentCard")),
        ("message/send", {"message": {**HELLO, "taskId": "t"}}, call("SendMessage", "t")),
        ("message/stream", {"message": HELLO}, call("SendStreamingMessage")),
        ("tasks/get", {"id": "t"}, call("GetTask", "t")),
        ("tasks/cancel", {"id": "t"}, call("CancelTask", "t")),
        ("tasks/resubscribe", {"id": "t"}, call("SubscribeToTask", "t")),
        ("tasks/pushNotificationConfig/set", {"taskId": "t"}, call("CreateTaskPushNotificationConfig", "t")),
        ("tasks/pushNotificationConfig/get", {"id": "t"}, call("GetTaskPushNotificationConfig", "t")),
        ("tasks/pushNotificationConfig/list", {"id": "t"}, call("ListTaskPushNotificationConfigs", "t")),
        ("tasks/pushNotificationConfig/delete", {"id": "t"}, call("DeleteTaskPushNotificationConfig", "t")),
        ("agent/getAuthenticatedExtendedCard", None, call("GetExtendedAgentCard")),
        ("tasks/nudge", {"id": "t"}, Call("a2a", "tasks/nudge")),
    ],
)
def test_methods_of_json_rpc(name: str, params: Any, expected: Call) -> None:
    assert calls("POST", "/", rpc(name, params)) == (expected,)


MESSAGE = json.dumps({"message": {**HELLO, "taskId": "t"}}).encode()
LEGACY = json.dumps({"request": {**HELLO, "task_id": "t"}}).encode()


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/message:send", MESSAGE, call("SendMessage", "t")),
        ("POST", "/message:stream", MESSAGE, call("SendStreamingMessage", "t")),
        ("POST", "/acme/message:send", MESSAGE, call("SendMessage", "t", tenant="acme")),
        ("GET", "/tasks/t", b"", call("GetTask", "t")),
        ("HEAD", "/tasks/t", b"", call("GetTask", "t")),
        ("GET", "/tasks/t?historyLength=2", b"", call("GetTask", "t")),
        ("GET", "/tasks/t?id=t", b"", call("GetTask", "t")),
        ("GET", "/acme/tasks/t", b"", call("GetTask", "t", tenant="acme")),
        ("GET", "/acme/tasks/t?tenant=acme", b"", call("GetTask", "t", tenant="acme")),
        ("GET", "/tasks", b"", call("ListTasks")),
        ("GET", "/tasks?contextId=c&pageSize=3", b"", call("ListTasks", contextId="c")),
        ("GET", "/acme/tasks", b"", call("ListTasks", tenant="acme")),
        ("POST", "/tasks/t:cancel", b"", call("CancelTask", "t")),
        ("POST", "/tasks/t:cancel", b'{"id": "t"}', call("CancelTask", "t")),
        ("POST", "/tasks/t:subscribe", b"", call("SubscribeToTask", "t")),
        ("GET", "/tasks/t:subscribe", b"", call("SubscribeToTask", "t")),
        ("POST", "/tasks/t/pushNotificationConfigs", b'{"id": "c"}', call("CreateTaskPushNotificationConfig", "t")),
        ("GET", "/tasks/t/pushNotificationConfigs", b"", call("ListTaskPushNotificationConfigs", "t")),
        ("GET", "/tasks/t/pushNotificationConfigs/c", b"", call("GetTaskPushNotificationConfig", "t")),
        ("DELETE", "/tasks/t/pushNotificationConfigs/c", b"", call("DeleteTaskPushNotificationConfig", "t")),
        ("GET", "/extendedAgentCard", b"", call("GetExtendedAgentCard")),
        ("GET", "/acme/extendedAgentCard", b"", call("GetExtendedAgentCard", tenant="acme")),
        ("POST", "/v1/message:send", LEGACY, call("SendMessage", "t")),
        ("POST", "/v1/message:stream", MESSAGE, call("SendStreamingMessage", "t")),
        ("GET", "/v1/tasks/t", b"", call("GetTask", "t")),
        ("POST", "/v1/tasks/t:cancel", b'{"name": "tasks/t"}', call("CancelTask", "t")),
        ("GET", "/v1/tasks/t:subscribe", b"", call("SubscribeToTask", "t")),
        (
            "POST",
            "/v1/tasks/t/pushNotificationConfigs",
            b'{"parent": "tasks/t"}',
            call("CreateTaskPushNotificationConfig", "t"),
        ),
        ("GET", "/v1/card", b"", call("GetExtendedAgentCard")),
        ("GET", "/agent/authenticatedExtendedCard", b"", call("GetExtendedAgentCard")),
        ("GET", "/.well-known/agent-card.json", b"", Call("a2a", "GetAgentCard")),
        ("HEAD", "/.well-known/agent-card.json", b"", Call("a2a", "GetAgentCard")),
        ("GET", "/.well-known/agent.json", b"", Call("a2a", "GetAgentCard")),
    ],
)
def test_paths_of_rest(method: str, path: str, body: bytes, expected: Call) -> None:
    assert calls(method, path, body) == (expected,)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("PUT", "/message:send"),
        ("POST", "/messages"),
        ("POST", "/message:send/"),
        ("POST", "/message:Send"),
        ("POST", "/Message:send"),
        ("POST", "/a/b/message:send"),
        ("POST", "/message%3Asend"),
        ("POST", "/tasks/t%3Acancel"),
        ("GET", "/tasks/t%3Asubscribe"),
        ("GET", "/tasks/%74"),
        ("GET", "/tasks/t:Subscribe"),
        ("GET", "/tasks/t:x:subscribe"),
        ("GET", "/tasks/t:"),
        ("POST", "/tasks/t"),
        ("GET", "/tasks/"),
        ("POST", "/tasks/:cancel"),
        ("DELETE", "/tasks/t"),
        ("GET", "/Tasks/t"),
        ("GET", "/Tasks/tasks"),
        ("GET", "/tasks/tasks"),
        ("GET", "/tasks/tasks/t"),
        ("GET", "/v1/v1/tasks/t"),
        ("POST", "/tasks/message:send"),
        ("GET", "/tasks/extendedAgentCard"),
        ("GET", "/TASKS/extendedAgentCard"),
        ("GET", "/tasks/t/pushnotificationconfigs"),
        ("GET", "/tasks/t/pushNotificationConfigs/c/d"),
        ("GET", "/tasks/t/pushNotificationConfigs/c:d"),
        ("POST", "/tasks/t/pushNotificationConfigs/c"),
        ("GET", "/tasks/t/history"),
        ("GET", "/card"),
        ("POST", "/.well-known/agent-card.json"),
        ("GET", "/acme/.well-known/agent-card.json"),
        ("GET", "/.well-known/agent-card.json/"),
        ("GET", "/health"),
        ("POST", "/a2a/jsonrpc"),
        ("POST", "/lf.a2a.v1.A2AService/SendMessage"),
        ("POST", "//"),
    ],
)
def test_what_is_no_operation_is_not_there(method: str, target: str) -> None:
    """gRPC included: every other spelling, method or depth than A2A's own could be something else to the agent."""
    decision = read(method, target, b"{}")
    assert isinstance(decision, Decision)
    assert (decision.effect, decision.status, decision.message) == ("deny", 404, "not found")
    assert decision.body is not None
    assert json.loads(decision.body)["error"]["details"][0]["reason"] == "METHOD_NOT_FOUND"


def test_a_websocket_is_not_there() -> None:
    decision = read("GET", "/tasks/t", type="websocket")
    assert isinstance(decision, Decision)
    assert decision.status == 404


DOUBLE = b'{"jsonrpc": "2.0", "id": 7, "method": "GetTask", "params": %s}'


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"", -32700, "the body is empty"),
        (b"[]", -32600, "batches are not supported"),
        (b"[" + rpc("GetTask", {"id": "t"}) + b"]", -32600, "batches are not supported"),
        (b"3", -32600, "a message is an object"),
        (
            b'{"jsonrpc": "2.0", "method": "CancelTask", "params": {"id": "t"}}',
            -32600,
            "neither notifications nor responses are served",
        ),
        (b'{"jsonrpc": "2.0", "id": 1, "result": {}}', -32600, "neither notifications nor responses are served"),
        (rpc("GetTask", {"id": "t"}, id=None), -32600, "an id is a string or an integer"),
        (rpc("GetTask", {"id": "t"}, Method="CancelTask"), -32600, "a member is spelt in two ways"),
        (rpc(["GetTask"], {"id": "t"}), -32600, "method is not a name"),
        (rpc(7, {"id": "t"}), -32600, "method is not a name"),
        (rpc("GetTask ", {"id": "t"}), -32600, "method is not a name"),
        (rpc("gettask", {"id": "t"}), -32601, "Method not found"),
        (rpc("Message/Send", {"message": HELLO}), -32601, "Method not found"),
        (rpc("GetTask", []), -32602, "params is not an object"),
        (rpc("GetTask", {}), -32602, "id is not a name"),
        (rpc("GetTask"), -32602, "id is not a name"),
        (rpc("GetTask", {"id": ""}), -32602, "id is not a name"),
        (rpc("GetTask", {"id": None}), -32602, "id is not a name"),
        (rpc("GetTask", {"id": 7}), -32602, "id is not a name"),
        (rpc("GetTask", {"id": " t"}), -32602, "id is not a name"),
        (rpc("GetTask", {"id": "t\u0000"}), -32602, "id is not a name"),
        (rpc("GetTask", {"id": "t", "ID": "u"}), -32600, "a member is spelt in two ways"),
        (rpc("GetTask", {"ID": "u"}), -32600, "a member is spelt in two ways"),
        (rpc("GetTaskPushNotificationConfig", {"taskId": "t", "task_id": "u"}), -32602, "both taskId and task_id"),
        (rpc("GetTaskPushNotificationConfig", {"taskId": "t", "TaskId": "u"}), -32600, "a member is spelt in two ways"),
        (rpc("GetTask", {"id": "t", "tenant": ["acme"]}), -32602, "tenant is not a name"),
        (rpc("GetTask", {"id": "t", "Tenant": "acme"}), -32600, "a member is spelt in two ways"),
        (rpc("SendMessage", {}), -32602, "message is not an object"),
        (rpc("SendMessage", {"message": None}), -32602, "message is not an object"),
        (rpc("SendMessage", {"message": [HELLO]}), -32602, "message is not an object"),
        (rpc("SendMessage", {"request": HELLO}), -32602, "message is not an object"),
        (rpc("SendMessage", {"message": HELLO, "Message": {}}), -32600, "a member is spelt in two ways"),
        (rpc("SendMessage", {"message": {**HELLO, "taskId": "t", "task_id": "u"}}), -32602, "both taskId and task_id"),
        (rpc("SendMessage", {"message": {**HELLO, "TaskID": "t"}}), -32600, "a member is spelt in two ways"),
        (rpc("SendMessage", {"message": {**HELLO, "taskId": 7}}), -32602, "taskId is not a name"),
        (rpc("SendMessage", {"message": {**HELLO, "contextId": {}}}), -32602, "contextId is not a name"),
        (
            rpc("SendMessage", {"message": {**HELLO, "contextId": "c", "context_id": "d"}}),
            -32602,
            "both contextId and context_id",
        ),
        (rpc("SendMessage", {"message": {**HELLO, "metadata": []}}), -32602, "metadata is not an object"),
        (
            rpc("SendMessage", {"message": {**HELLO, "metadata": {"skill": 1, "Skill": 2}}}),
            -32600,
            "a member is spelt in two ways",
        ),
        (rpc("SendMessage", {"message": HELLO, "configuration": []}), -32602, "configuration is not an object"),
        (
            rpc("SendMessage", {"message": HELLO, "configuration": {"PushNotificationConfig": {}}}),
            -32600,
            "a member is spelt in two ways",
        ),
    ],
)
def test_what_has_two_readings_is_an_error_of_json_rpc(body: bytes, code: int, text: str) -> None:
    decision = read("POST", "/", body)
    assert isinstance(decision, Decision)
    assert (decision.effect, decision.status, decision.policy) == ("deny", 200, "a2a")
    assert decision.body is not None
    error = json.loads(decision.body)["error"]
    assert (error["code"], error["message"]) == (code, text)


@pytest.mark.parametrize(
    ("method", "target", "body", "text"),
    [
        ("POST", "/message:send", b"", "message is not an object"),
        ("POST", "/message:send", b"[]", "the body is not an object"),
        ("POST", "/message:send", b'{"message": {}, "request": {}}', "both message and request"),
        ("POST", "/message:send", b'{"message": {"taskId": "t"}, "Message": {}}', "a member is spelt in two ways"),
        ("POST", "/message:send", b'{"message": {}, "tenant": "acme"}', "tenant is not the one of the path"),
        ("POST", "/acme/message:send", b'{"message": {}, "tenant": "other"}', "tenant is not the one of the path"),
        ("POST", "/message:send?tenant=acme", b'{"message": {}}', "tenant is not the one of the path"),
        ("POST", "/tasks/t:cancel", b'{"id": "u"}', "id is not the task of the path"),
        ("POST", "/tasks/t:cancel", b'{"id": ["t"]}', "id is not the task of the path"),
        ("POST", "/tasks/t:cancel", b'{"name": "tasks/u"}', "name is not the task of the path"),
        ("POST", "/tasks/t:cancel", b'{"Id": "u"}', "a member is spelt in two ways"),
        ("GET", "/tasks/t?id=u", b"", "id is not the task of the path"),
        ("GET", "/tasks/t?id=t&id=u", b"", "a parameter is given twice"),
        ("GET", "/tasks/t?ID=u", b"", "a member is spelt in two ways"),
        ("GET", "/tasks/t", b'{"id": "u"}', "a GET has no body"),
        ("GET", "/.well-known/agent-card.json", b"{}", "a GET has no body"),
        ("DELETE", "/tasks/t/pushNotificationConfigs/c", b"{}", "a DELETE has no body"),
        ("GET", "/tasks?contextId=c&context_id=d", b"", "both contextId and context_id"),
        ("POST", "/tasks/t/pushNotificationConfigs", b'{"taskId": "u"}', "taskId is not the task of the path"),
        ("POST", "/tasks/t/pushNotificationConfigs", b'{"task_id": "u"}', "task_id is not the task of the path"),
        ("POST", "/tasks/t/pushNotificationConfigs", b'{"parent": "tasks/u"}', "parent is not the task of the path"),
    ],
)
def test_what_contradicts_itself_is_an_error_of_rest(method: str, target: str, body: bytes, text: str) -> None:
    decision = read(method, target, body)
    assert isinstance(decision, Decision)
    assert (decision.effect, decision.status) == ("deny", 400)
    assert decision.body is not None
    assert json.loads(decision.body)["error"]["message"] == text


@pytest.mark.parametrize(
    ("headers", "target", "fine"),
    [
        ({}, "/tasks/t", True),
        ({"a2a-version": ""}, "/tasks/t", True),
        ({"a2a-version": "1.0"}, "/tasks/t", True),
        ({"a2a-version": "1.0.1"}, "/tasks/t", True),
        ({"a2a-version": "0.3"}, "/tasks/t", True),
        ({"a2a-version": "0.3.0"}, "/tasks/t", True),
        ({}, "/tasks/t?A2A-Version=1.0", True),
        ({"a2a-version": "1.0"}, "/tasks/t?A2A-Version=1.0", True),
        ({"a2a-version": "2.0"}, "/tasks/t", False),
        ({"a2a-version": "0.2.6"}, "/tasks/t", False),
        ({"a2a-version": "0.30"}, "/tasks/t", False),
        ({"a2a-version": "1.0, 0.3"}, "/tasks/t", False),
        ({"a2a-version": "v1"}, "/tasks/t", False),
        ({}, "/tasks/t?a2a-version=9", False),
        ({"a2a-version": "1.0"}, "/tasks/t?A2A-Version=0.3", False),
    ],
)
def test_versions(headers: dict[str, str], target: str, fine: bool) -> None:
    reading = read("GET", target, headers=headers)
    assert isinstance(reading, Reading) is fine
    if isinstance(reading, Decision):
        assert (reading.status, reading.code) == (400, "version_not_supported")


def test_two_versions_are_none() -> None:
    reading = A2A().read(Request.http("GET", "/tasks/t", headers=[("a2a-version", "1.0"), ("a2a-version", "1.0")]))
    assert isinstance(reading, Decision)


CALL_BACK = {"url": "http://169.254.169.254/"}


@pytest.mark.parametrize(
    "configuration",
    [
        {"taskPushNotificationConfig": CALL_BACK},
        {"task_push_notification_config": CALL_BACK},
        {"pushNotificationConfig": CALL_BACK},
        {"push_notification_config": CALL_BACK},
        {"pushNotification": CALL_BACK},
        {"push_notification": CALL_BACK},
        {"taskPushNotificationConfig": {}},
        {"taskPushNotificationConfig": "x"},
    ],
)
def test_a_message_with_a_url_to_call_back_is_two_calls(configuration: Any) -> None:
    params = {"message": {**HELLO, "taskId": "t"}, "configuration": configuration}
    for target, body in (("/", rpc("SendMessage", params)), ("/message:send", json.dumps(params).encode())):
        assert [(call.method, call.task) for call in calls("POST", target, body)] == [
            ("SendMessage", "t"),
            ("CreateTaskPushNotificationConfig", "t"),
        ]
        refused = read("POST", target, body, protocol=A2A())
        assert isinstance(refused, Decision)
        assert refused.message == "Push Notification is not supported"


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "/", rpc("CreateTaskPushNotificationConfig", {"taskId": "t"}), 200),
        ("POST", "/", rpc("tasks/pushNotificationConfig/set", {"taskId": "t"}), 200),
        ("POST", "/tasks/t/pushNotificationConfigs", b"{}", 400),
        ("POST", "/v1/tasks/t/pushNotificationConfigs", b"{}", 400),
    ],
)
def test_push_notifications_are_off(method: str, target: str, body: bytes, status: int) -> None:
    refused = read(method, target, body, protocol=A2A())
    assert isinstance(refused, Decision)
    assert (refused.status, refused.message) == (status, "Push Notification is not supported")
    assert refused.body is not None
    error = json.loads(refused.body)["error"]
    assert error["code"] == (-32003 if status == 200 else 400)


def test_interfaces_are_the_only_places() -> None:
    protocol = A2A(interfaces=["/a2a/jsonrpc", "/a2a/rest/", "/a2a"])
    for target, found in (
        ("/a2a/jsonrpc", "GetTask"),
        ("/a2a/jsonrpc/", "GetTask"),
        ("/a2a/rest", "GetTask"),
        ("/a2a", "GetTask"),
        ("/", None),
        ("/a2a/other", None),
    ):
        reading = read("POST", target, rpc("GetTask", {"id": "t"}), protocol=protocol)
        assert (reading.calls[0].method if isinstance(reading, Reading) else None) == found
    for target, tenant in (("/a2a/rest/tasks/t", None), ("/a2a/rest/x/tasks/t", "x"), ("/a2a/tasks/t", None)):
        (read_call,) = calls("GET", target, protocol=protocol)
        assert read_call == (call("GetTask", "t") if tenant is None else call("GetTask", "t", tenant=tenant))
    for target in ("/.well-known/agent-card.json", "/a2a/rest/.well-known/agent-card.json"):
        assert calls("GET", target, protocol=protocol) == (Call("a2a", "GetAgentCard"),)
    assert repr(protocol) == "A2A(interfaces=['/a2a/jsonrpc', '/a2a/rest', '/a2a'])"
    assert repr(A2A()) == "A2A(interfaces=['/'])"


def test_paths_are_read_below_the_mount() -> None:
    scope = http_scope("GET", "/planner/tasks/t", root_path="/planner")
    reading = A2A().read(Request(scope, body=b""))
    assert isinstance(reading, Reading)
    assert reading.calls == (call("GetTask", "t"),)


@pytest.mark.parametrize("path", ["", "a2a", "/a//b", "/a/../b", "/./a", "/a%20b", "/a?b", "/{x}", "/a:b", 7])
def test_what_is_no_interface(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="a plain path"):
        A2A(interfaces=["/", path])


@pytest.mark.parametrize("paths", ["/a2a", []])
def test_interfaces_are_a_list(paths: Any) -> None:
    with pytest.raises(ConfigurationError, match="a list of paths, one at least"):
        A2A(interfaces=paths)
