"""Tally: requests counted by who and what, refusals by rule, all of it by time, in a space with a bound.

What is counted comes from logs, and clients choose much of that: a million names must not need the memory of a million
groups. Where there are too many, the smallest are counted as one, `others`; totals stay exact.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import islice, zip_longest
from typing import Any, Final, TypeVar

from .histogram import Histogram
from .lines import Fields, Line
from .names import SHORT, called, short, value_of
from .timeline import Timeline

MAX_GROUPS: Final = (
    1000  # kept of the fields counted by, with 8 KiB of durations each; twice as many until the next look
)
MAX_CAUSES: Final = 200  # kept of rules, or of the texts of those who have no name
MAX_NAMES: Final = 50  # kept of the callers, and of what was called, under each cause
MAX_FIELDS: Final = 200  # kept of names of fields, to say which there are
MAX_SHADOWS: Final = 16  # of one request

_FAILED: Final = frozenset({"UpstreamFailure", "NoHealthyBackend", "Timeout", "ExtProc"})
_ANSWERED: Final = frozenset({"DirectResponse", "Upstream"})
_MAX_DIGITS: Final = 15  # of a number; what is longer is none that was counted

Key = tuple[str | None, ...]
_K = TypeVar("_K")
_V = TypeVar("_V")


class Group:
    """Requests counted together. `input` and `output` are tokens; `durations` are in milliseconds."""

    __slots__ = ("calls", "durations", "failed", "input", "output", "refused", "shadow")

    def __init__(self) -> None:
        self.calls = self.refused = self.shadow = self.failed = self.input = self.output = 0
        self.durations = Histogram()

    def add(self, other: "Group") -> None:
        self.calls += other.calls
        self.refused += other.refused
        self.shadow += other.shadow
        self.failed += other.failed
        self.input += other.input
        self.output += other.output
        self.durations.merge(other.durations)

    def quantile(self, share: float) -> float | None:
        """In milliseconds; None where no duration is known."""
        return self.durations.quantile(share)


class Cause:
    """What refused: the `rule`, or where it has no name the `text` that says why.

    `source` is the reason of a refusal, and the policy of one that had no effect. `who` and `what` are the most
    frequent callers and things called, with their number.
    """

    __slots__ = ("calls", "first", "last", "rule", "source", "text", "what", "who")

    def __init__(self, source: str | None, rule: str | None, text: str, time: str) -> None:
        self.source = source
        self.rule = rule
        self.text = text
        self.first = self.last = time
        self.calls = 0
        self.who: dict[str | None, int] = {}
        self.what: dict[str | None, int] = {}


class Tally:
    """Counts lines by the values of `by`, a mapping from names to keys of the log (see `names.keys_of`)."""

    def __init__(self, by: Mapping[str, str]) -> None:
        self.by: Final = tuple(by)
        self._keys: Final = tuple(by.values())
        self.total = Group()
        self.groups: dict[Key, Group] = {}
        self.others = Group()
        self.folded = False  # whether `others` has any
        self.refusals: dict[Key, Cause] = {}
        self.shadows: dict[Key, Cause] = {}
        self.timeline = Timeline()
        self.first = self.last = ""
        self.unseen = set(self._keys) - set(SHORT.values())  # of the keys: no line has had them
        self.seen: set[str] = set()  # names of fields, while there are some of those

    def add(self, line: Line) -> None:
        """Count one request."""
        time, minute, fields = line
        if self.unseen:
            self.unseen.difference_update(fields)
            if len(self.seen) < MAX_FIELDS:
                self.seen.update(map(str, map(short, islice(fields, MAX_FIELDS))))
        key = tuple([value_of(fields, name) for name in self._keys])
        group = self.groups.get(key)
        if group is None:
            if len(self.groups) >= 2 * MAX_GROUPS:
                self._fold()
            group = self.groups[key] = Group()
        total, moment = self.total, self.timeline.at(minute)
        group.calls += 1
        total.calls += 1
        moment.calls += 1
        if time > self.last:
            self.last = time
        if time < self.first or not self.first:
            self.first = time
        duration = fields.get("duration")
        if duration is not None:
            milliseconds = _milliseconds(duration)
            if milliseconds is not None:
                group.durations.add(milliseconds)
                total.durations.add(milliseconds)
        tokens = fields.get("gen_ai.usage.input_tokens")
        if tokens is not None:
            group.input += (number := _number(tokens))
            total.input += number
        tokens = fields.get("gen_ai.usage.output_tokens")
        if tokens is not None:
            group.output += (number := _number(tokens))
            total.output += number
        if is_refused(fields):
            group.refused += 1
            total.refused += 1
            moment.refused += 1
            why = fields.get("detail") or fields.get("error")
            _blame(self.refusals, fields.get("reason"), fields.get("rule"), why, line)
            return
        if has_failed(fields):
            group.failed += 1
            total.failed += 1
            moment.failed += 1
        if "shadow.policy" in fields or "shadow.rule" in fields or "shadow.detail" in fields:
            group.shadow += 1
            total.shadow += 1
            moment.shadow += 1
            for policy, rule, why in _shadows(fields):
                _blame(self.shadows, policy, rule, why, line)

    def heaviest(self) -> list[tuple[Key, Group]]:
        """The groups, the one with the most calls first."""
        return sorted(self.groups.items(), key=lambda item: (-item[1].calls, [text or "" for text in item[0]]))

    def _fold(self) -> None:
        self.folded = True
        for group in _fold(self.groups, MAX_GROUPS, lambda group: group.calls):
            self.others.add(group)


def is_refused(fields: Fields) -> bool:
    """Whether the request was refused: by a policy, as one that cannot be read, or for want of a route.

    A reason that is not known counts as one to refuse.
    """
    reason = short(fields.get("reason"))
    if reason is None:
        return "rule" in fields
    if reason == "Internal":  # a policy that did not answer, or an app that raised
        return "detail" in fields or "rule" in fields or fields.get("error") == "method not allowed"
    return reason not in _FAILED and reason not in _ANSWERED


def has_failed(fields: Fields) -> bool:
    """Whether a request that was let through came to nothing."""
    reason = short(fields.get("reason"))
    if reason is None:
        return (short(fields.get("http.status")) or "").startswith("5")
    return reason not in _ANSWERED


def _shadows(fields: Fields) -> Collection[tuple[Any, Any, Any]]:
    """Policy, rule and detail of each refusal that had no effect, each once: of several, the fields are lists."""
    several = [_several(fields.get(f"shadow.{name}")) for name in ("policy", "rule", "detail")]
    return dict.fromkeys((policy, rule, None if rule else why) for policy, rule, why in zip_longest(*several))


def _several(value: Any) -> Sequence[str | None]:
    if isinstance(value, str) and value.startswith("["):  # so a list is written as text
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    values = value if isinstance(value, list) else [value]
    return [short(one) for one in values[:MAX_SHADOWS]]


def _blame(causes: dict[Key, Cause], source: Any, rule: Any, why: Any, line: Line) -> None:
    source, rule, text = short(source), short(rule), short(why) or ""
    key = (source, rule, None if rule else text)
    cause = causes.get(key)
    if cause is None:
        if len(causes) >= 2 * MAX_CAUSES:
            _fold_causes(causes)
        cause = causes[key] = Cause(source, rule, text, line.time)
    cause.calls += 1
    cause.first, cause.last = min(cause.first, line.time), max(cause.last, line.time)
    for names, name in ((cause.who, value_of(line.fields, "principal")), (cause.what, called(line.fields))):
        if name not in names and len(names) >= 2 * MAX_NAMES:
            _fold(names, MAX_NAMES, lambda calls: calls)
        names[name] = names.get(name, 0) + 1


_OTHERS: Final[Key] = ("", "", "")  # reason, rule and text of the causes that are counted as one


def _fold_causes(causes: dict[Key, Cause]) -> None:
    others = causes.pop(_OTHERS, None) or Cause(None, None, "all others", "")
    for cause in _fold(causes, MAX_CAUSES, lambda cause: cause.calls):
        others.calls += cause.calls
        others.first = min(others.first or cause.first, cause.first)
        others.last = max(others.last, cause.last)
    causes[_OTHERS] = others


def _fold(items: dict[_K, _V], keep: int, weight: Callable[[_V], int]) -> list[_V]:
    """Take all but the `keep` heaviest out, and return them."""
    light = sorted(items, key=lambda key: weight(items[key]), reverse=True)[keep:]
    return [items.pop(key) for key in light]


def _milliseconds(text: Any) -> int | None:
    """Of `12ms`."""
    if isinstance(text, str) and text.endswith("ms") and text[:-2].isdecimal() and len(text) <= _MAX_DIGITS:
        return int(text[:-2])
    return None


def _number(value: Any) -> int:
    """How many; 0 of what is no number of tokens."""
    if isinstance(value, str) and value.isdecimal() and len(value) <= _MAX_DIGITS:
        return int(value)
    if type(value) is int and 0 <= value < 10**_MAX_DIGITS:
        return value
    return 0
