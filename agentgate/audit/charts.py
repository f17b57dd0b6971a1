"""The page's charts as SVG: no script, no style of their own but classes, and every text in them escaped.

Nothing is told by colour alone: what was refused has a mark and a number, what would have been a dashed line.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from . import shown
from .tally import Group
from .timeline import Moment

WIDTH: Final = 1120
_LABEL: Final = 26  # characters of a name; all of it is in its title
_LETTER: Final = 6.7  # pixels of a character, about
_TILT: Final = 35  # degrees of the names of columns

REFUSED: Final = "✕"
SHADOW: Final = "◇"


def heat(rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], Group]) -> str:
    """Calls by row and column: the darker, the more; with what was refused of them."""
    left = 16 + _LETTER * max(len(_cut(row)) for row in rows)
    wide = min(100.0, max(52.0, (WIDTH - left - 150) / len(columns)))
    high, top = 44, 24 + _LETTER * math.sin(math.radians(_TILT)) * max(len(_cut(column)) for column in columns)
    most = max(group.calls for group in cells.values())
    return _svg(
        left + wide * len(columns) + 150,
        top + high * len(rows) + 4,
        "Calls by row and column",
        [
            *_column_names(columns, left, wide, top),
            *_row_names(rows, cells, left, wide * len(columns), top, high),
            *(
                _cell(f"{row}, {column}", cells.get((row, column)), most, left + wide * x, top + high * y, wide, high)
                for y, row in enumerate(rows)
                for x, column in enumerate(columns)
            ),
        ],
    )


def _column_names(columns: Sequence[str], left: float, wide: float, top: float) -> Iterator[str]:
    for number, column in enumerate(columns):
        x, y = left + wide * (number + 0.5) - 4, top - 10
        turned = f'transform="rotate(-{_TILT} {x:.0f} {y:.0f})"'
        yield f'<text x="{x:.0f}" y="{y:.0f}" {turned}>{_named(column)}</text>'


def _row_names(
    rows: Sequence[str], cells: Mapping[tuple[str, str], Group], left: float, wide: float, top: float, high: float
) -> Iterator[str]:
    for number, row in enumerate(rows):
        middle = top + high * (number + 0.5)
        calls = sum(group.calls for (name, _), group in cells.items() if name == row)
        refused = sum(group.refused for (name, _), group in cells.items() if name == row)
        yield f'<text class="end" x="{left - 10:.0f}" y="{middle + 4:.0f}">{_named(row)}</text>'
        x, y = left + wide + 12, middle + (-2 if refused else 4)
        yield f'<text class="strong" x="{x:.0f}" y="{y:.0f}">{shown.count(calls)}</text>'
        if refused:
            said = f"{REFUSED} {shown.count(refused)} refused"
            yield f'<text class="small" x="{x:.0f}" y="{middle + 13:.0f}">{said}</text>'


def _cell(name: str, group: Group | None, most: int, x: float, y: float, wide: float, high: float) -> str:
    box = f'x="{x + 1.5:.1f}" y="{y + 1.5:.1f}" width="{wide - 3:.1f}" height="{high - 3}" rx="3"'
    if group is None:
        return f'<rect class="empty" {box}/>'
    said = [f"{shown.count(group.calls)} calls"]
    said += [f"{shown.count(group.refused)} refused"] if group.refused else []
    said += [f"{shown.count(group.shadow)} would have been refused"] if group.shadow else []
    marks = [f"{REFUSED} {_brief(group.refused)}"] if group.refused else []
    marks += [f"{SHADOW} {_brief(group.shadow)}"] if group.shadow else []
    middle, line = x + wide / 2, y + high / 2 + (4 if not marks else -2)
    parts = [f"<g><title>{escape(name)}: {', '.join(said)}</title>"]
    if group.refused == group.calls:
        parts.append(f'<rect class="all-refused" {box}/>')
    else:
        strength = 0.08 + 0.47 * math.sqrt(group.calls / most)
        parts.append(f'<rect class="calls" fill-opacity="{strength:.2f}" {box}/>')
    if group.shadow:
        inset = f'x="{x + 3:.1f}" y="{y + 3:.1f}" width="{wide - 6:.1f}" height="{high - 6}" rx="2"'
        parts.append(f'<rect class="shadow" {inset}/>')
    if 0 < group.refused < group.calls:
        part = max(3.0, (wide - 7) * group.refused / group.calls)
        parts.append(f'<rect class="refused" x="{x + 3.5:.1f}" y="{y + high - 7:.1f}" width="{part:.1f}" height="4"/>')
    parts.append(f'<text class="middle strong" x="{middle:.1f}" y="{line:.1f}">{_brief(group.calls)}</text>')
    if marks:
        parts.append(
            f'<text class="middle small" x="{middle:.1f}" y="{y + high / 2 + 11:.1f}">{" ".join(marks)}</text>'
        )
    return "".join(parts) + "</g>"


def over_time(step: int, moments: Sequence[tuple[int, Moment]]) -> str:
    """A panel each for the calls, the refused ones and what else there is, over the same time."""
    panels = [
        ("calls", "calls", [moment.calls for _, moment in moments]),
        (f"{REFUSED} refused", "refused", [moment.refused for _, moment in moments]),
        (f"{SHADOW} would have been refused", "shadow", [moment.shadow for _, moment in moments]),
        ("failed", "failed", [moment.failed for _, moment in moments]),
    ]
    panels = [panel for panel in panels if any(panel[2])]
    left, high, gap = 56, 84, 34
    wide = (WIDTH - left - 8) / len(moments)
    parts: list[str] = []
    for number, (name, kind, counts) in enumerate(panels):
        base = (gap + high) * (number + 1)
        parts += _scale(name, max(counts), left, base, high)
        for place, ((start, _), calls) in enumerate(zip(moments, counts, strict=True)):
            if calls:
                tall = max(1.5, high * calls / _nice(max(counts)))
                title = f"{shown.minute(start, '%Y-%m-%d %H:%M')}: {shown.count(calls)}"
                inset = 0.12 * wide
                parts.append(
                    f'<rect class="{kind}" x="{left + wide * place + inset:.1f}" y="{base - tall:.1f}" '
                    f'width="{wide - 2 * inset:.1f}" height="{tall:.1f}"><title>{title}</title></rect>'
                )
    base = (gap + high) * len(panels)
    return _svg(WIDTH, base + 28, "Calls and refusals over time", [*parts, *_times(step, moments, left, wide, base)])


def _scale(name: str, most: int, left: float, base: float, high: float) -> Iterator[str]:
    yield f'<text class="strong" x="{left}" y="{base - high - 10}">{escape(name)}</text>'
    top = _nice(most)
    for part in (0, 0.5, 1):
        y = base - high * part
        yield f'<line class="grid" x1="{left}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
        if top * part == int(top * part):
            yield f'<text class="small muted end" x="{left - 8}" y="{y + 4:.1f}">{_brief(int(top * part))}</text>'


def _times(step: int, moments: Sequence[tuple[int, Moment]], left: float, wide: float, base: float) -> Iterator[str]:
    one_day = shown.minute(moments[0][0], "%j%Y") == shown.minute(moments[-1][0], "%j%Y")
    form = "%Y-%m-%d" if step >= 1440 else "%H:%M" if one_day else "%m-%d %H:%M"
    every = max(1, math.ceil(len(moments) / (24 if one_day else 10)))
    for unit in (60, 180, 360, 1440):  # whole hours, where there are any
        if step < unit and unit // step >= every:
            every = unit // step
            break
    for place, (start, _) in enumerate(moments):
        if start // step % every == 0:
            x = left + wide * place
            yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 5}"/>'
            yield f'<text class="small muted" x="{x:.1f}" y="{base + 19}">{shown.minute(start, form)}</text>'


def latency(rows: Sequence[tuple[str, Group]]) -> str:
    """From the median to the 99th percentile, on a logarithmic scale."""
    left, high, right = _left(rows), 26, 130
    most = max(group.quantile(0.99) or 0 for _, group in rows)
    decades = max(1, math.ceil(math.log10(max(most, 2))))
    bottom = 8 + high * len(rows)

    def across(milliseconds: float) -> float:
        return left + (WIDTH - left - right) * math.log10(max(milliseconds, 1)) / decades

    parts = []
    for decade in range(decades + 1):
        x = across(10**decade)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        label = shown.duration(10**decade)
        parts.append(f'<text class="small muted middle" x="{x:.1f}" y="{bottom + 16}">{label}</text>')
    for number, (name, group) in enumerate(rows):
        half, rare = group.quantile(0.5) or 0, group.quantile(0.99) or 0
        y, x1, x2 = 8 + high * (number + 0.5), across(half), across(rare)
        said = f"half within {shown.duration(half)}, 99 % within {shown.duration(rare)}"
        parts.append(f'<text class="end" x="{left - 12:.0f}" y="{y + 4}">{_named(name)}</text>')
        parts.append(f'<g><title>{escape(name)}: {said}</title><line class="range" x1="{x1:.1f}" x2="{x2:.1f}" ')
        parts.append(f'y1="{y}" y2="{y}"/><circle class="p99" cx="{x2:.1f}" cy="{y}" r="4.5"/>')
        parts.append(f'<circle class="calls" cx="{x1:.1f}" cy="{y}" r="5.5"/></g>')
        values = f"{shown.duration(half)} / {shown.duration(rare)}"
        parts.append(f'<text class="small muted" x="{WIDTH - right + 20}" y="{y + 4}">{values}</text>')
    return _svg(WIDTH, bottom + 24, "Durations", parts)


def tokens(rows: Sequence[tuple[str, Group]]) -> str:
    """Bars of tokens read and written."""
    left, high, right = _left(rows), 26, 150
    most = max(group.input + group.output for _, group in rows)
    parts = []
    for number, (name, group) in enumerate(rows):
        y = 4 + high * number
        read, written = ((WIDTH - left - right) * part / most for part in (group.input, group.output))
        values = f"{shown.tokens(group.input)} in, {shown.tokens(group.output)} out"
        parts.append(f'<text class="end" x="{left - 12:.0f}" y="{y + 17}">{_named(name)}</text>')
        parts.append(f"<g><title>{escape(name)}: {values}</title>")
        parts.append(f'<rect class="calls" x="{left:.1f}" y="{y + 4}" width="{read:.1f}" height="18"/>')
        parts.append(
            f'<rect class="calls-2" x="{left + read + 1:.1f}" y="{y + 4}" width="{written:.1f}" height="18"/></g>'
        )
        parts.append(f'<text class="small muted" x="{left + read + written + 8:.1f}" y="{y + 17}">{values}</text>')
    return _svg(WIDTH, 8 + high * len(rows), "Tokens", parts)


def bar(part: int, whole: int, kind: str) -> str:
    """In a cell of a table."""
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" width="{max(1.0, 100 * part / whole):.1f}" height="10"/></svg>'
    )


def _svg(width: float, height: float, name: str, parts: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg {size} role="img" aria-label="{escape(name)}">{"".join(parts)}</svg>'


def _left(rows: Sequence[tuple[str, Group]]) -> float:
    return 20 + _LETTER * max(len(_cut(name, 2 * _LABEL)) for name, _ in rows)


def _named(name: str) -> str:
    return f"<title>{escape(name)}</title>{escape(_cut(name, 2 * _LABEL))}"


def _cut(name: str, most: int = _LABEL) -> str:
    return shown.cut(name, most)


def _brief(number: int) -> str:
    return shown.count(number) if number < 100_000 else shown.tokens(number)


def _nice(most: int) -> int:
    """The end of a scale: 1, 2, 4, 6, 8 or 10 of some power of ten."""
    power: int = 10 ** (len(str(most)) - 1)
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= most)
