"""Plot: the samples of a run as an SVG, with nothing but text: a column for each phase, a panel for each value."""

from collections.abc import Sequence
from html import escape
from math import ceil, log10
from pathlib import Path
from typing import Final

from .watch import Sample

WIDTH: Final = 340  # of a panel
HEIGHT: Final = 90
LEFT: Final = 70  # what is around it
TOP: Final = 50
GAP: Final = 34
COLUMN: Final = LEFT + WIDTH + 20
MOST_POINTS: Final = 600  # of one line
_COLOURS: Final = {"traffic": "#1f6feb", "streams": "#bf5a00"}

_PANELS: Final = (
    ("memory, MiB", "rss"),
    ("file descriptors", "files"),
    ("tasks", "tasks"),
    ("connections to the upstream", "open"),
    ("requests, in all", "requests"),
)


def plot(samples: Sequence[Sample], path: Path) -> None:
    """Write the picture."""
    width, height = COLUMN * len(_COLOURS), TOP + len(_PANELS) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for column, phase in enumerate(_COLOURS):
        found = [sample for sample in samples if sample.phase == phase]
        if not found:
            continue
        left = LEFT + column * COLUMN
        parts.append(f'<text x="{left}" y="20" font-size="14" fill="{_COLOURS[phase]}">{escape(phase)}</text>')
        for row, (title, name) in enumerate(_PANELS):
            parts += _panel(found, title, name, left, TOP + row * (HEIGHT + GAP), _COLOURS[phase])
    parts.append("</svg>")
    path.write_text("\n".join(parts) + "\n")


def _panel(samples: Sequence[Sample], title: str, name: str, left: int, top: int, colour: str) -> list[str]:
    """One value over the time of one phase, from zero up."""
    most = _round_up(max(getattr(sample, name) for sample in samples))
    began, ended = samples[0].seconds, samples[-1].seconds
    took = ended - began or 1.0
    bottom = top + HEIGHT
    parts = [f'<text x="{left}" y="{top - 5}" font-weight="bold">{escape(title)}</text>']
    for share in (0, 0.5, 1):
        x, y = left + share * WIDTH, bottom - share * HEIGHT
        parts.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:g}" y2="{y:g}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:g}" text-anchor="end" fill="#555">{_text(most * share)}</text>')
        parts.append(
            f'<text x="{x:g}" y="{bottom + 13}" text-anchor="middle" fill="#555">{began + took * share:.0f} s</text>'
        )
    points = [
        f"{left + (sample.seconds - began) / took * WIDTH:.1f},{bottom - getattr(sample, name) / most * HEIGHT:.1f}"
        for sample in _thinned(samples, name)
    ]
    parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
    return parts


def _text(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _thinned(samples: Sequence[Sample], name: str) -> list[Sample]:
    """No more than can be told apart: of several that share a point, the highest."""
    step = ceil(len(samples) / MOST_POINTS) or 1
    groups = (samples[start : start + step] for start in range(0, len(samples), step))
    return [max(group, key=lambda sample: float(getattr(sample, name))) for group in groups]


def _round_up(value: float) -> float:
    """The next number of the form 1, 2, 4, 5 or 8 times a power of ten."""
    power: float = 10 ** int(log10(max(value, 1)))
    return next((power * step for step in (1, 2, 4, 5, 8) if power * step >= value), power * 10)
