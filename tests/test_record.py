"""Record: what happened to one request, told once."""

import logging
from typing import Any

import httpx
import pytest

from agentgate import Observer, Principal, Reason, Request, deny, record_of
from agentgate.attempt import Attempt
from agentgate.record import SCOPE_KEY, Record
from agentgate.request import authenticated


class Notes(Observer):
    """Writes down what it is told, under its name."""

    def __init__(self, name: str, told: list[str], fail: str = "") -> None:
        self.name, self.told, self.fail = name, told, fail

    def start(self, request: Request) -> Any:
        self.told.append(f"{self.name} starts")
        if self.fail == "start":
            raise RuntimeError("hunter2")
        return f"{self.name}'s token"

    def end(self, token: Any, record: Record) -> None:
        self.told.append(f"{token} ends")
        if self.fail == "end":
            raise RuntimeError("hunter2")


def test_observers_end_in_reverse_order_and_once() -> None:
    """What started first ends last, and the end comes only once, however often it is announced."""
    told: list[str] = []
    record = Record(Request.http())
    record.observe((Notes("a", told), Notes("b", told)))
    assert record.duration is None
    record.finish()
    record.finish()
    assert told == ["a starts", "b starts", "b's token ends", "a's token ends"]
    assert record.duration is not None
    assert record.duration >= 0


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        ("start", ["a starts", "b starts", "c starts", "c's token ends", "a's token ends"]),
        ("end", ["a starts", "b starts", "c starts", "c's token ends", "b's token ends", "a's token ends"]),
    ],
)
def test_a_failing_observer_stops_no_other(fail: str, told: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """An observer's error is logged with kind and place, never its message, and the others are told all the same."""
    heard: list[str] = []
    record = Record(Request.http())
    with caplog.at_level(logging.DEBUG):
        record.observe((Notes("a", heard), Notes("b", heard, fail), Notes("c", heard)))
        record.finish()
    assert heard == told
    assert [entry.getMessage().partition(" at ")[0] for entry in caplog.records] == [
        "observer Notes failed: RuntimeError"
    ]
    assert "hunter2" not in caplog.text


class Listener(Notes):
    """Wants to hear everything."""

    def judged(self, token: Any, record: Record) -> None:
        self._hear("judged", token)

    def forwarding(self, token: Any, record: Record, attempt: Attempt) -> None:
        self._hear(f"forwarding {attempt.number}", token)

    def forwarded(self, token: Any, record: Record, attempt: Attempt) -> None:
        self._hear(f"forwarded {attempt.number}", token)

    def returned(self, token: Any, record: Record) -> None:
        self._hear("returned", token)

    def _hear(self, hook: str, token: Any) -> None:
        self.told.append(f"{token} {hook}")
        if self.fail == hook:
            raise RuntimeError("hunter2")


def test_who_wants_to_hear_more_is_told_all_of_it_in_order() -> None:
    """Each attempt is over before the next begins, and before the end at the latest; who came first hears an end last,
    and who joins later hears nothing twice."""
    told: list[str] = []
    record = Record(Request.http())
    record.observe((Listener("a", told), Notes("b", told)))
    first = record.judged()
    record.observe((Listener("c", told),))
    second = record.judged()
    for _ in range(2):
        record.forwarding(httpx.Request("GET", "http://upstream"))
    record.returned(second)
    record.finish()
    record.returned(first)
    assert told == [
        *("a starts", "b starts", "a's token judged", "c starts", "c's token judged"),
        *("a's token forwarding 0", "c's token forwarding 0", "c's token forwarded 0", "a's token forwarded 0"),
        *("a's token forwarding 1", "c's token forwarding 1", "c's token returned"),
        *("c's token forwarded 1", "a's token forwarded 1", "c's token ends", "b's token ends", "a's token ends"),
        "a's token returned",
    ]
    assert [attempt.number for attempt in record.attempts] == [0, 1]
    assert all(attempt.duration is not None for attempt in record.attempts)


@pytest.mark.parametrize("fail", ["judged", "forwarding 0", "forwarded 0", "returned"])
def test_a_failing_listener_stops_nothing(fail: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is told of what comes after, and its message stays out of the log."""
    told: list[str] = []
    record = Record(Request.http())
    record.observe((Listener("a", told, fail),))
    heard = record.judged()
    record.forwarding(httpx.Request("GET", "http://upstream"))
    record.finish()
    record.returned(heard)
    assert told[-1] == "a's token returned"
    assert len(told) == 6
    assert "observer Listener failed: RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text


def test_what_is_refused_is_judged_at_the_end() -> None:
    """Nobody ends a request that it was not told about."""
    told: list[str] = []
    record = Record(Request.http())
    record.observe((Listener("a", told),))
    record.finish()
    assert told == ["a starts", "a's token judged", "a's token ends"]


@pytest.mark.parametrize(
    ("told", "error", "reason"),
    [
        ([("first", Reason.TIMEOUT), ("second", Reason.INTERNAL)], "first", Reason.TIMEOUT),
        ([("", Reason.DIRECT_RESPONSE), ("second", None)], None, Reason.DIRECT_RESPONSE),
        ([("first", None), ("second", Reason.INTERNAL)], "first", None),
        ([], None, None),
    ],
)
def test_the_first_fault_is_kept(
    told: list[tuple[str, Reason | None]], error: str | None, reason: Reason | None
) -> None:
    """What went wrong first is what the log says."""
    record = Record(Request.http())
    for fault in told:
        record.fail(*fault)
    assert (record.error, record.reason) == (error, reason)


def test_a_refusal_is_the_error_too() -> None:
    """The denial that ended a request gives the log its error and reason."""
    record = Record(Request.http())
    decision = deny("closed", reason=Reason.AUTHORIZATION)
    record.refuse(decision)
    assert (record.refusal, record.error, record.reason) == (decision, "closed", Reason.AUTHORIZATION)


def test_it_knows_who_asked() -> None:
    """A Record's principal is the one its request's innermost Gate found."""
    record = Record(Request.http())
    assert record.principal is None
    authenticated(record.view, Principal("alice"))
    assert record.principal == Principal("alice")


def test_its_repr_is_one_line_of_facts() -> None:
    """A Record shows method, path, status and effects."""
    record = Record(Request.http("GET", "/x?api_key=hunter2"))
    record.trail.append(deny())
    record.status = 403
    assert repr(record) == "<Record <Request GET /x> status=403 decisions=['deny']>"


@pytest.mark.parametrize("scope", [{}, {SCOPE_KEY: None}, {SCOPE_KEY: "record"}, {SCOPE_KEY: {"trail": []}}])
def test_outside_of_a_gate_there_is_no_record(scope: dict[str, Any]) -> None:
    """Only a Record in the scope is a Record."""
    assert record_of(scope) is None


def test_a_record_is_found_in_its_scope() -> None:
    """An app behind a Gate gets the Record with `record_of`."""
    record = Record(Request.http())
    assert record_of({SCOPE_KEY: record}) is record
