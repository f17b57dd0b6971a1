"""The findings for programs: one JSON object, whose members `docs/reference/cli.md` lists."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .findings import Findings
from .shown import causes
from .tally import Cause, Group
from .timeline import Moment

MOMENTS = 300  # at most about so many steps of time


def document(found: Findings) -> dict[str, Any]:
    """Values of the log are as they were logged: a terminal may obey them, a program has to know."""
    tally = found.tally
    step, moments = tally.timeline.spread(MOMENTS)
    return {
        "files": list(found.files),
        "since": _time(found.since),
        "until": _time(found.until),
        "first": tally.first or None,
        "last": tally.last or None,
        "lines": {
            "read": found.lines,
            "other": found.other,
            "outside": found.outside,
            "missing": found.missing,
        },
        "total": _group(tally.total),
        "by": list(tally.by),
        "groups": [{"by": dict(zip(tally.by, key, strict=True)), **_group(group)} for key, group in tally.heaviest()],
        "others": _group(tally.others) if tally.folded else None,
        "refusals": [_cause(cause, "reason") for cause in causes(tally.refusals)],
        "shadow": [_cause(cause, "policy") for cause in causes(tally.shadows)],
        "timeline": {
            "step": 60 * step,
            "steps": [{"start": 60 * start, **_moment(moment)} for start, moment in moments],
        },
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        **_moment(group),
        "input_tokens": group.input,
        "output_tokens": group.output,
        "p50_ms": group.quantile(0.5),
        "p99_ms": group.quantile(0.99),
    }


def _moment(counts: Moment | Group) -> dict[str, int]:
    return {"calls": counts.calls, "refused": counts.refused, "shadow": counts.shadow, "failed": counts.failed}


def _cause(cause: Cause, source: str) -> dict[str, Any]:
    return {
        source: cause.source,
        "rule": cause.rule,
        "why": cause.text or None,
        "calls": cause.calls,
        "first": cause.first or None,
        "last": cause.last or None,
        "principals": _names(cause.who),
        "called": _names(cause.what),
    }


def _names(names: Mapping[str | None, int]) -> list[dict[str, Any]]:
    ordered = sorted(names.items(), key=lambda item: (-item[1], item[0] or ""))
    return [{"name": name, "calls": calls} for name, calls in ordered]


def _time(time: datetime | None) -> str | None:
    return time.isoformat().replace("+00:00", "Z") if time else None
