"""Traffic: many connections, each with one request after the other, of any caller, for any kind of answer; some callers
are slow, some leave, some come with a credential that is not theirs any more.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Final

from .book import BROKEN, COMPLETE, DENIED, FAILED, LEFT, UNREACHED, Book
from .callers import Caller, Callers
from .client import Answer, Client, connect
from .words import CANARY, FAULTY, MARK, WHOLE, body_of, filled, path_of

PATIENCE: Final = 60.0  # seconds, then an answer will never come: longer than all of the gateway's timeouts
LARGE: Final = 300_000  # bytes of an answer that does not fit into any buffer on its way
UPLOAD: Final = 150_000
BACK_OFF: Final = 0.1  # seconds after an error of the gateway's, as careful callers do

_WHOLE: Final = sorted(WHOLE - {"at-once"})
_FAULTY: Final = sorted(FAULTY - {"silent", "stalls"})
_WAITING: Final = ("silent", "stalls")  # for the gateway's timeout, so fewer of them

# What happens, and how often of a thousand times.
_SCENES: Final[dict[str, int]] = {
    "at once": 640,
    "whole": 120,
    "faulty": 50,
    "waiting": 2,
    "large": 10,
    "upload": 40,
    "slow writer": 8,
    "slow reader": 5,
    "behind another": 30,
    "spoofed": 20,
    "revoked": 15,
    "unknown": 10,
    "leaves before the body": 10,
    "leaves in the body": 10,
    "leaves waiting": 15,
    "leaves in the answer": 15,
}


@dataclass
class Errand:
    """One request of one caller's."""

    number: int
    caller: Caller
    kind: str
    size: int
    method: str = "GET"
    body_size: int = 0
    credential: bytes | None = None  # another than the caller's own
    spoofed: bool = False
    crashes: int = 0  # of the upstream, before it
    asked: float = 0.0  # when its head was made
    used: bytes = b""  # the credential in it

    @property
    def canary(self) -> bytes:
        return self.caller.canary(self.number)

    @property
    def body(self) -> bytes:
        return filled(self.canary, self.body_size)

    def refused(self) -> str:
        """What there is to say when it was, and should not have been."""
        caller, now = self.caller, time.monotonic()
        return (
            f"{caller.id} was refused: asked {now - self.asked:.2f} s ago, "
            f"with a credential that replaced another {now - caller.since:.2f} s ago"
        )

    def head(self, *more: bytes) -> bytes:
        self.asked = time.monotonic()
        self.used = self.caller.current if self.credential is None else self.credential
        lines = [
            b"%b %b HTTP/1.1" % (self.method.encode(), path_of(self.kind, self.number, self.size)),
            b"host: gateway",
            CANARY + b": " + self.canary,
            *((b"authorization: " + self.used,) if self.used else ()),
            *((b"content-length: %d" % self.body_size,) if self.body_size and not more else more),
        ]
        if self.spoofed:
            lines += [b"X-Agent: p000", b"connection: x-agent"]
        return b"\r\n".join(lines) + b"\r\n\r\n"


class Traffic:
    """All connections' requests: those of the book up to the number `until`, or as many as `seconds` allow."""

    def __init__(self, book: Book, callers: Callers, port: int, *, seed: int, until: int, seconds: float) -> None:
        self.book = book
        self.callers = callers
        self.port = port
        self.until = until
        self.seconds = seconds
        self.began = time.monotonic()
        self.crashes = 0  # of the upstream, so far
        self.random = random.Random(seed)
        self._names = list(_SCENES)
        self._weights = list(_SCENES.values())

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        return max(self.book.next / self.until, (time.monotonic() - self.began) / self.seconds)

    def _take(self) -> int | None:
        return self.book.take(self.until) if self.progress < 1 else None

    async def run(self, connections: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._one_after_the_other())

    async def _one_after_the_other(self) -> None:
        client: Client | None = None
        while (number := self._take()) is not None:
            scene = self.random.choices(self._names, self._weights)[0]
            if scene == "slow reader" and client is not None:
                client.close()
                client = None
            if client is None or client.closed:
                client = await connect(self.port, small=scene == "slow reader")
            self.book.scenes[scene] += 1
            await self._play(scene, number, client)
            if self.book.outcomes[number] == FAILED:
                await asyncio.sleep(BACK_OFF)
            if client.unasked:
                self.book.fault(number, "more came than was asked for")
            if scene == "slow reader" or self.random.random() < 0.002:
                client.close(reset=self.random.random() < 0.5)
                client = None
        if client is not None:
            client.close()

    async def _play(self, scene: str, number: int, client: Client) -> None:
        errand = self._errand(scene, number)
        if scene.startswith("leaves"):
            await self._leave(scene, errand, client)
        elif scene == "behind another" and (second := self._take()) is not None:
            await self._two_at_once(errand, self._errand("whole", second), client)
        elif scene == "slow writer":
            chunked = self.random.random() < 0.5
            answer = client.ask(errand.head(*((b"transfer-encoding: chunked",) if chunked else ())))
            await self._write_slowly(errand, client, chunked=chunked)
            self.check(errand, await self._over(errand, answer, client))
        else:
            answer = client.ask(errand.head() + errand.body, head_only=errand.method == "HEAD")
            if scene == "slow reader":
                await self._read_slowly(client, answer)
            self.check(errand, await self._over(errand, answer, client))

    def _errand(self, scene: str, number: int) -> Errand:
        rng = self.random
        caller = rng.choice(self.callers.everybody)
        self.book.callers[number] = int(caller.id[1:])
        errand = Errand(number, caller, "at-once", rng.randrange(1, 2000), crashes=self.crashes)
        match scene:
            case "at once":
                errand.method = rng.choice(("GET", "GET", "GET", "POST", "HEAD"))
            case "whole":
                errand.kind = rng.choice(_WHOLE)
                errand.method = rng.choice(("GET", "GET", "POST", "DELETE"))
            case "faulty":
                errand.kind = rng.choice(_FAULTY)
                errand.method = rng.choice(("GET", "POST"))
            case "waiting":
                errand.kind = rng.choice(_WAITING)
            case "large" | "slow reader":
                errand.kind = rng.choice(("at-once", "slow", "chunks", "until-close"))
                errand.size = rng.randrange(2000, LARGE) if scene == "large" else LARGE
            case "upload" | "slow writer":
                errand.body_size = rng.choice((rng.randrange(1, 2000), rng.randrange(1, UPLOAD)))
            case "spoofed":
                errand.spoofed = True
            case "revoked":
                errand.credential = self.callers.revoked.any(rng)
                self.book.tried += errand.credential is not None
            case "unknown":
                errand.credential = rng.choice((b"", b"Bearer agk_unknown", b"Bearer a.b.c"))
            case "leaves before the body" | "leaves in the body":
                errand.body_size = rng.randrange(2, UPLOAD)
            case "leaves waiting":
                errand.kind = rng.choice(("late", "silent", "slow", "at-once"))
            case "leaves in the answer":
                errand.kind = rng.choice(("slow", "chunks", "stalls", "events", "until-close"))
                errand.size = rng.choice((errand.size, LARGE))
        if errand.body_size or rng.random() < 0.1:
            errand.method = "POST" if errand.method == "GET" else errand.method
        self.book.once[number] = errand.method == "POST"
        return errand

    # What callers do.

    async def _write_slowly(self, errand: Errand, client: Client, *, chunked: bool) -> None:
        body = errand.body
        step = max(1, len(body) // self.random.randrange(2, 8))
        for start in range(0, len(body), step):
            part = body[start : start + step]
            await client.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            await asyncio.sleep(self.random.uniform(0, 0.05))
        if chunked:
            await client.write(b"0\r\n\r\n")

    async def _read_slowly(self, client: Client, answer: Answer) -> None:
        for _ in range(6):
            if client.transport.is_closing() or answer.over.done():
                return
            client.transport.pause_reading()
            await asyncio.sleep(self.random.uniform(0.01, 0.2))
            if client.transport.is_closing():
                return
            client.transport.resume_reading()
            await asyncio.sleep(0.001)

    async def _two_at_once(self, first: Errand, second: Errand, client: Client) -> None:
        """Another caller's request right behind, on the same connection, before the first is answered."""
        answer = client.ask(first.head() + first.body, head_only=first.method == "HEAD")
        behind = client.ask(second.head() + second.body, head_only=second.method == "HEAD")
        self.check(first, await self._over(first, answer, client))
        await self._over(second, behind, client)
        if behind.status or answer.complete:
            self.check(second, behind)
        else:
            self.book.outcomes[second.number] = UNREACHED

    async def _leave(self, scene: str, errand: Errand, client: Client) -> None:
        rng = self.random
        answer = client.ask(errand.head())
        if scene == "leaves in the body":
            await client.write(errand.body[: errand.body_size // 2])
        elif scene == "leaves waiting":
            await client.write(errand.body)
        elif scene == "leaves in the answer":
            await client.write(errand.body)
            await answer.begun(5.0)
        if rng.random() < 0.7 and not answer.over.done():
            await asyncio.wait((answer.over,), timeout=rng.choice((0.0, 0.01, 0.1)))
        client.close(reset=rng.random() < 0.5)
        client.closed = True
        self.book.outcomes[errand.number] = LEFT
        self._check_bytes(errand, answer)

    # What they must see.

    async def _over(self, errand: Errand, answer: Answer, client: Client) -> Answer:
        if not answer.over.done():
            done, _ = await asyncio.wait((answer.over,), timeout=PATIENCE)
            if not done:
                self.book.fault(errand.number, f"{errand.kind}: neither an answer nor an end")
                client.close(reset=True)
        return answer

    def _check_bytes(self, errand: Errand, answer: Answer) -> bool:
        """Whether everything that came is this request's own, if it is from the upstream at all."""
        body = b"".join(answer.body)
        if not answer.canaries and not answer.agents:
            if MARK in body:
                self.book.fault(errand.number, "somebody's canary in an error of the gateway's")
            return False
        if answer.canaries != [errand.canary] or answer.agents != [errand.caller.id.encode()]:
            self.book.fault(errand.number, f"{errand.caller.id} got {answer.canaries} of {answer.agents}")
            return False
        expected = body_of(errand.kind, errand.canary, errand.size)
        if not expected.startswith(body):
            self.book.fault(errand.number, f"{errand.kind}: a byte that is not of {errand.canary!r}")
            return False
        return True

    def check(self, errand: Errand, answer: Answer) -> None:
        """Enter what became of it, and whatever is wrong with that."""
        number, kind = errand.number, errand.kind
        self.book.outcomes[number] = self._outcome(errand, answer)
        if self.book.outcomes[number] == COMPLETE and kind not in WHOLE:
            self.book.fault(number, f"{kind}: a broken answer ended like a whole one")

    def _outcome(self, errand: Errand, answer: Answer) -> int:
        number, kind = errand.number, errand.kind
        genuine = self._check_bytes(errand, answer)
        refused = errand.credential is not None
        if answer.status == 401:
            if not refused and errand.used not in self.callers.revoked.ever:
                self.book.fault(number, errand.refused())
            elif not answer.complete:
                self.book.fault(number, "a refusal broke off")
            return DENIED
        if refused:
            self.book.fault(number, f"a revoked or unknown credential got {answer.status}")
        if not answer.complete:
            return BROKEN
        if not genuine:
            if answer.status not in (502, 503, 504):
                self.book.fault(number, f"{kind}: status {answer.status} from nobody")
            return FAILED
        expected = b"" if answer.head_only else body_of(kind, errand.canary, errand.size)
        if answer.size != len(expected):
            if kind == "until-close" and errand.crashes != self.crashes:
                return BROKEN  # nobody can tell: where an answer ends with its connection, a crash is an end
            self.book.fault(number, f"{kind}: {answer.size} of {len(expected)} bytes, and a clean end")
        return COMPLETE
