"""Protocol and Reading: what a Gate wants of a protocol, so that policies decide about calls and never about bytes.

A protocol reads a request into Calls, says a refusal so that its clients understand it, and keeps out of answers what
the caller may not know of. It decides nothing itself: whether a Call may be, it is told.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..auth.location import RawHeaderList
from ..call import Call
from ..decision import Decision, Reason, deny
from ..nothing import NOTHING
from ..record import Record
from ..request import Request
from ..respond import Receive, Send

if TYPE_CHECKING:
    from ..policy import Authenticator

May = Callable[[Call], bool]
"""Whether the policies would allow a Call in the place of the one that was made. Asks them now, and waits for none."""


def anything(call: Call) -> bool:
    """The `May` of a Gate that has no authorizers: nothing has to be kept out of an answer."""
    return True


class AnswerRefused(Exception):
    """An answer that must not be passed on: raised by the `send` for it, which has sent nothing of what was wrong; or
    a message over a websocket that must not, raised by the `receive` for it. The Gate
    answers with `decision` instead, or cuts an answer off that has begun."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.detail)
        self.decision = decision


def unusable(detail: str, *, policy: str) -> Decision:
    """502 for what is behind the gate: it cannot be asked as it should be, or its answer must not be passed on."""
    return deny(
        "upstream call failed",
        status=502,
        code="upstream_failure",
        reason=Reason.UPSTREAM_FAILURE,
        detail=detail,
        policy=policy,
    )


class Reading:
    """One request as its protocol reads it: the calls in it, and what becomes of request and answer.

    Policies are asked about every one of `calls`, and all of them have to be allowed. There is at least one.
    `details` are for the log, under the names of agentgateway's access log, whether the request is let through or not.
    """

    details: Mapping[str, Any] = NOTHING

    def __init__(self, *calls: Call) -> None:
        if not calls:
            raise ValueError("a request that asks for nothing would be denied by nobody")
        self.calls = calls

    def refuse(self, decision: Decision, call: Call | None) -> Decision:
        """The denial of one of its calls, as the protocol says it."""
        return decision

    def onward(self, headers: RawHeaderList, body: bytes | None) -> tuple[RawHeaderList, bytes | None]:
        """What goes on in place of these headers and this body (None: it was not read, and streams through). The Gate
        sees to content-length."""
        return headers, body

    def hearing(self, receive: Receive, may: May) -> Receive:
        """The `receive` for what a client says over a websocket; it may raise `AnswerRefused`."""
        return receive

    def answering(self, send: Send, may: May, record: Record) -> Send:
        """The `send` for the answer: filters it, and notes on the Record what the log should know."""
        return send


class Protocol(ABC):
    """One of the protocols that agents speak. Stateless, or its state is bounded: a Gate has one for all requests."""

    name: ClassVar[str]
    """`mcp`, `llm`, `a2a`: what the log calls it."""

    @abstractmethod
    def reads_body(self, request: Request) -> bool:
        """Whether `read` needs this request's body. It is then read, bounded and strict, before."""

    @abstractmethod
    def read(self, request: Request) -> Reading | Decision:
        """What the request asks for; a denial for what has no one reading, as `refuse` says it unless it has its body
        already. Pure, as a policy's check is; an error here denies."""

    def refuse(self, decision: Decision, request: Request) -> Decision:
        """A denial of a request that was not read into calls, as the protocol says it."""
        return decision

    def at(self, public_url: str | None, authenticators: "Sequence[Authenticator]") -> Self:
        """The protocol as it is served to clients at this URL, whom these authenticators recognise. Asked when a
        gateway or a Gate is built; raises `ConfigurationError` where that is not enough to go by."""
        return self
