"""Replay: which calls of a log would be decided differently, counted by who called what and which rule says so.

Memory is bounded however long the log is: past a number of groups, the rest are counted together.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ..audit.lines import dropped, read_line
from ..audit.names import short
from ..audit.sources import Told, blocks_of
from ..call import Call
from ..decision import Decision
from ..errors import ConfigurationError
from ..gate import Gate
from ..proxy.gateway import Gateway
from .judging import Judge, Judgement, lets_through
from .reading import OtherVersion, request_of
from .recorded import Recorded

MAX_GROUPS: Final = 1000  # of the changed and of the undecided, each
OTHERS: Final = "(others)"
NOBODY: Final = "(nobody known)"
GIVEN: Final = "(lines)"  # the file of lines that come from none

Outcome = Literal["refused", "allowed", "undecided"]

_NO_CREDENTIAL: Final = "the credential is not in the log"


@dataclass(frozen=True, slots=True)
class Difference:
    """Calls of one kind by one caller that would be decided alike.

    `outcome`: they would be `refused` or `allowed` now, or are `undecided`. `before` and `after` tell by what; where it
    is undecided, `after` tells what the log lacks. `file` and `line` (from 1) are those of the first of `count` calls.
    """

    caller: str
    called: str
    outcome: Outcome
    before: str
    after: str
    count: int
    file: str
    line: int


@dataclass(slots=True)
class Replay:
    """What a replay came to.

    `lines`: all that were read. Of them `replayed` were asked about again: `unchanged`, changed and undecided ones. Not
    asked about were requests `without` replay fields, of an `other_version`, with `malformed` ones, and `other` lines.
    `missing` lines were never written. `examples` has the first line of each kind that was not asked about.
    """

    changed: list[Difference] = field(default_factory=list)
    undecided: list[Difference] = field(default_factory=list)
    lines: int = 0
    replayed: int = 0
    unchanged: int = 0
    without: int = 0
    other_version: int = 0
    malformed: int = 0
    other: int = 0
    missing: int = 0
    examples: dict[str, str] = field(default_factory=dict)


def replayed(log: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], posture: Gate | Gateway) -> Replay:
    """See `agentgate.testing.replay`."""
    lines = _of_files([os.fspath(log)], _nobody) if isinstance(log, str | os.PathLike) else _given(log)
    return _replay(lines, posture)


def replay_files(files: Sequence[str], posture: Gate | Gateway, told: Told) -> Replay:
    """The same of these files, `-` being standard input; `told` is told of the progress."""
    return _replay(_of_files(files, told), posture)


Numbered = tuple[str, int, str]
"""File, number and text of a line."""


def _replay(lines: Iterable[Numbered], posture: Gate | Gateway) -> Replay:
    judge = Judge(posture)
    found = Replay()
    changed, undecided = _Groups(), _Groups()
    for file, number, text in lines:
        found.lines += 1
        request = _read(found, text, f"{file}:{number}")
        if request is None:
            continue
        found.replayed += 1
        judged = _against(request, judge.judge(request))
        if judged is None:
            found.unchanged += 1
            continue
        outcome, after = judged
        groups = undecided if outcome == "undecided" else changed
        groups.add((_caller(request), _called(request), outcome, _before(request), after), file, number)
    found.changed, found.undecided = changed.found(), undecided.found()
    if not found.replayed:
        raise ConfigurationError(f"no line can be replayed: {_lacking(found)}")
    return found


def _given(log: Iterable[str | os.PathLike[str]]) -> Iterator[Numbered]:
    number = 0
    for one in log:
        if isinstance(one, os.PathLike):
            yield from _of_files([os.fspath(one)], _nobody)
        else:
            number += 1
            yield GIVEN, number, one.rstrip("\r\n")


def _of_files(files: Sequence[str], told: Told) -> Iterator[Numbered]:
    earlier, number = "", 0
    for file, lines in blocks_of(files, told):
        number = number if file == earlier else 0
        earlier = file
        for text in lines:
            number += 1
            yield file, number, text


def _nobody(done: int, size: int) -> None:
    pass


def _read(found: Replay, text: str, place: str) -> Recorded | None:
    """The request of a line, or None of one that is counted as something else."""
    line = read_line(text)
    if line is None:
        missing = dropped(text)
        found.missing += missing
        if text and not text.isspace() and not missing:
            found.other += 1
            found.examples.setdefault("other", place)
    elif "replay" not in line.fields:
        found.without += 1
        found.examples.setdefault("without", place)
    else:
        try:
            return request_of(line.fields["replay"])
        except OtherVersion:
            found.other_version += 1
            found.examples.setdefault("other_version", place)
        except ValueError:
            found.malformed += 1
            found.examples.setdefault("malformed", place)
    return None


def _lacking(found: Replay) -> str:
    if found.without:
        return f"{found.without:,} lines have no replay fields: log with --log-replay"
    if found.other_version:
        return f"{found.other_version:,} lines have replay fields of another version"
    return f"none of {found.lines:,} lines is of an access log with replay fields"


# -- what a line comes to --------------------------------------------------------------------------------------------


def _against(request: Recorded, now: Judgement) -> tuple[Outcome, str] | None:
    """What would become of it, and by what; None where that is what became of it."""
    was = request.stood.let_through
    if now.decision is None:
        return "undecided", _unknown(now.unknown)
    allowed = lets_through(now.decision)
    if allowed == was:
        return None
    if allowed and request.stood.policy == "edge":  # of what it refused, the log has what it could
        return "undecided", "the request as it was sent"
    return ("allowed" if allowed else "refused"), _said(now.decision)


def _unknown(names: tuple[str, ...]) -> str:
    return ", ".join(sorted({_NO_CREDENTIAL if name == "the credential" else short(name) or "" for name in names}))


def _said(decision: Decision) -> str:
    """By whom: the rule, or why there is none."""
    by = decision.policy or ""
    if decision.rule:
        return f"{by}: {decision.rule}"
    if decision.effect == "allow":
        return by
    return f"{by}: {decision.detail or decision.message}"


def _before(request: Recorded) -> str:
    stood = request.stood
    said = ": ".join(filter(None, (stood.policy, stood.rule or ("" if stood.let_through else stood.code))))
    return short(said) or ""


def _caller(request: Recorded) -> str:
    return (short(request.callers[-1].id) or NOBODY) if request.callers else NOBODY


def _called(request: Recorded) -> str:
    """What was called, with its kind: `tool search`, `model gpt-4o`; else method and path, without query."""
    calls = request.calls or ()
    if not calls:
        return short(_target(request)) or ""
    more = f" and {len(calls) - 1} more" if len(calls) > 1 else ""
    return (short(_name(calls[0])) or "") + more


def _target(request: Recorded) -> str:
    unknown = request.notes.unknown
    method = "" if "request.method" in unknown else request.method
    return f"{method} {'(unknown path)' if 'request.path' in unknown else request.path}"


def _name(call: Call) -> str:
    for kind in ("tool", "prompt", "resource", "model", "task"):
        name = getattr(call, kind)
        if name is not None:
            return f"{kind} {name if call.target is None else f'{call.target}/{name}'}"
    return f"{call.protocol} {call.method}"


Key = tuple[str, str, Outcome, str, str]
"""The fields of a Difference up to `after`."""


class _Groups:
    """Counts by key, with the place of the first; past a number of keys, of whoever is left."""

    def __init__(self) -> None:
        self._found: dict[Key, list[int]] = {}
        self._first: dict[Key, tuple[str, int]] = {}

    def add(self, key: Key, file: str, line: int) -> None:
        if key not in self._found:
            if len(self._found) >= MAX_GROUPS:
                key = (OTHERS, OTHERS, key[2], "", "")  # three of them at most
            if key not in self._found:
                self._found[key] = [0]
                self._first[key] = file, line
        self._found[key][0] += 1

    def found(self) -> list[Difference]:
        """The largest first."""
        made = [Difference(*key, count, *self._first[key]) for key, (count,) in self._found.items()]
        return sorted(made, key=lambda one: (one.caller == OTHERS, -one.count, one.caller, one.called, one.after))
