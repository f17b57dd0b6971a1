"""The findings as one HTML page that needs nothing else and may be mailed: no script, no request to anywhere.

Its content security policy forbids both, so that a text of the log which is markup, and slips through, does nothing.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import Final

from . import charts, shown
from .findings import Findings
from .tally import Cause, Group

MAX_ROWS: Final = 12  # of the map of calls, and of charts; the rest are one more
MAX_COLUMNS: Final = 16
MAX_CAUSES: Final = 50
MAX_GROUPS: Final = 200  # in the table at the end
MOMENTS: Final = 96  # about so many bars over time
OTHERS: Final = "all others"


def page(found: Findings) -> str:
    """The whole document."""
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    names = escape(shown.files(found))
    body = "\n".join(_body(found, names))
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What the agents did: {names}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _body(found: Findings, names: str) -> Iterator[str]:
    tally, total = found.tally, found.tally.total
    yield "<h1>What the agents did</h1>"
    when = f", {shown.period(found)}" if total.calls else ""
    yield f'<p class="lead">{names}{when}</p>'
    notes = "".join(f"<p>{escape(note)}</p>" for note in shown.notes(found))
    yield f'<div class="warning">{notes}</div>' if notes else ""
    if not total.calls:
        yield "<p>No calls.</p>"
        return
    yield _tiles(total)
    if tally.refusals:
        yield "<h2>Refused, and by which rule</h2>"
        yield _causes(shown.causes(tally.refusals), "Reason", "refused")
    if tally.shadows:
        yield "<h2>Let through, but would have been refused</h2>"
        yield '<p class="note">By policies that are on trial, or by an authentication that lets everybody pass.</p>'
        yield _causes(shown.causes(tally.shadows), "Policy", "shadow-fill")
    if len(tally.by) > 1:
        yield f"<h2>Calls by {_text(tally.by[0])} and {_text(tally.by[1])}</h2>"
        yield _map(found)
    yield "<h2>Over time</h2>"
    step, moments = tally.timeline.spread(MOMENTS)
    yield _figure(charts.over_time(step, moments), f"Each bar is {shown.step(step)}. Times are UTC.")
    groups = [(", ".join(map(_shown, key)), group) for key, group in tally.heaviest()]
    answered = [(name, group) for name, group in groups if group.quantile(0.5) and group.refused < group.calls]
    if answered:
        yield "<h2>How long they took</h2>"
        yield _figure(
            charts.latency(answered[:MAX_ROWS]),
            "Full dot: half of the calls took no longer. Open dot: 99 % took no longer. The scale is logarithmic.",
        )
    spent = sorted(groups, key=lambda row: -(row[1].input + row[1].output))[:MAX_ROWS]
    if spent[0][1].input + spent[0][1].output:
        yield "<h2>Tokens</h2>"
        rows = [row for row in spent if row[1].input + row[1].output]
        yield _figure(
            charts.tokens(rows), "Left part of a bar: tokens that the model read; right part: those it wrote."
        )
    yield "<h2>All calls</h2>"
    yield _groups(found)
    yield _FOOTER


_FOOTER: Final = """\
<footer>
<p>Refused: by a policy, as a request that cannot be read, or for want of a route. Failed: let through, and then the app
or the upstream broke down. What an upstream refuses by itself counts as answered. What the log does not
say is (none), as are callers that nobody recognised. Percentiles are within 1.6 %.
Made by <code>agentgate audit</code>.</p>
</footer>"""


def _tiles(total: Group) -> str:
    of_all = [
        ("refused", f"{charts.REFUSED} refused", total.refused),
        ("shadow", f"{charts.SHADOW} would be refused", total.shadow),
        ("failed", "failed", total.failed),
    ]
    tiles = [("calls", "calls", shown.count(total.calls), "")]
    tiles += [
        (kind, name, shown.count(number), f"{shown.share(number, total.calls)} of all")
        for kind, name, number in of_all
        if number or kind == "refused"
    ]
    if total.input or total.output:
        tiles.append(("tokens", "tokens in", shown.tokens(total.input), f"{shown.tokens(total.output)} out"))
    half, rare = shown.duration(total.quantile(0.5)), shown.duration(total.quantile(0.99))
    tiles.append(("took", "median duration", half, f"99 % within {rare}"))
    return (
        "<dl>"
        + "".join(
            f'<div class="{kind}"><dt>{name}</dt><dd>{value}<small>{more or "&nbsp;"}</small></dd></div>'
            for kind, name, value, more in tiles
        )
        + "</dl>"
    )


def _causes(causes: Sequence[Cause], source: str, kind: str) -> str:
    most = causes[0].calls
    rows = [
        f'<td class="number">{shown.count(cause.calls)}</td><td class="bar">{charts.bar(cause.calls, most, kind)}</td>'
        + (f'<td class="rule">{_text(cause.rule)}</td>' if cause.rule else f'<td class="why">{_text(cause.text)}</td>')
        + f"<td>{_text(cause.source)}</td><td>{escape(shown.top(cause.who, cause.calls, 3))}</td>"
        + f"<td>{escape(shown.top(cause.what, cause.calls, 3))}</td>"
        + f'<td class="time">{_text(cause.last[:19].replace("T", " "))}</td>'
        for cause in causes[:MAX_CAUSES]
    ]
    heads = (("Calls", "number"), ("", ""), ("Rule, or why", ""), (source, ""), ("Who", ""), ("What", ""), ("Last", ""))
    return _table(heads, rows, len(causes), sum(cause.calls for cause in causes[MAX_CAUSES:]))


def _map(found: Findings) -> str:
    rows, columns = _names(found, 0, MAX_ROWS), _names(found, 1, MAX_COLUMNS)
    cells: dict[tuple[str, str], Group] = {}
    for key, group in found.tally.groups.items():
        row, column = _shown(key[0]), _shown(key[1])
        row, column = (row if row in rows else OTHERS), (column if column in columns else OTHERS)
        cells.setdefault((row, column), Group()).add(group)
    return _figure(
        charts.heat([*rows, *_rest(cells, 0, rows)], [*columns, *_rest(cells, 1, columns)], cells),
        f"The stronger the colour, the more calls. {charts.REFUSED} were refused: the bar below is their share, and a "
        f"cell with a frame was refused altogether. {charts.SHADOW} were let through, but would have been refused.",
    )


def _names(found: Findings, place: int, most: int) -> list[str]:
    """The values of a field with the most calls; half of the room is for those with the most refusals."""
    calls: dict[str, int] = {}
    refused: dict[str, int] = {}
    for key, group in found.tally.groups.items():
        name = _shown(key[place])
        calls[name] = calls.get(name, 0) + group.calls
        if group.refused or group.shadow:
            refused[name] = refused.get(name, 0) + group.refused + group.shadow
    chosen = dict.fromkeys(sorted(refused, key=lambda name: (-refused[name], name))[: most // 2])
    for name in sorted(calls, key=lambda name: (-calls[name], name)):
        if len(chosen) < most:
            chosen[name] = None
    return sorted(chosen, key=lambda name: (-calls[name], name))


def _rest(cells: dict[tuple[str, str], Group], place: int, names: Sequence[str]) -> list[str]:
    return [OTHERS] if OTHERS not in names and any(cell[place] == OTHERS for cell in cells) else []


def _groups(found: Findings) -> str:
    total, groups = found.tally.total, found.tally.heaviest()
    fields: list[tuple[str, bool, Callable[[Group], str]]] = [
        ("Calls", True, lambda group: shown.count(group.calls)),
        ("Refused", bool(total.refused), lambda group: _unless_0(group.refused)),
        ("Would have been", bool(total.shadow), lambda group: _unless_0(group.shadow)),
        ("Failed", bool(total.failed), lambda group: _unless_0(group.failed)),
        ("Tokens in", bool(total.input), lambda group: _unless_0(group.input)),
        ("Tokens out", bool(total.output), lambda group: _unless_0(group.output)),
        ("Median", True, lambda group: shown.duration(group.quantile(0.5))),
        ("99 %", True, lambda group: shown.duration(group.quantile(0.99))),
    ]
    fields = [field for field in fields if field[1]]
    kinds = {"Refused": " refused", "Would have been": " shadow"}
    rows = [
        "".join(f"<td>{_text(name)}</td>" for name in key)
        + "".join(f'<td class="number{kinds.get(name, "")}">{of(group)}</td>' for name, _, of in fields)
        for key, group in groups[:MAX_GROUPS]
    ]
    heads = [(name, "") for name in found.tally.by] + [(name, "number") for name, _, _ in fields]
    others = sum(group.calls for _, group in groups[MAX_GROUPS:]) + found.tally.others.calls
    return _table(heads, rows, len(groups), others)


def _unless_0(number: int) -> str:
    return shown.count(number) if number else ""


def _table(heads: Sequence[tuple[str, str]], rows: Sequence[str], there: int, calls: int) -> str:
    head = "".join(f'<th scope="col" class="{kind}">{_text(name) if name else ""}</th>' for name, kind in heads)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    rest = f'<p class="note">Further {shown.count(calls)} calls are not listed.</p>' if calls else ""
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>{rest}'


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _shown(text: str | None) -> str:
    return shown.plain(text)


def _text(text: str | None) -> str:
    return escape(shown.plain(text))
