"""Plot: the samples of a run as an SVG, with nothing but text: one panel below the other, over the same time."""

from collections.abc import Sequence
from html import escape
from math import ceil, log10
from pathlib import Path
from typing import Final

from .watch import Sample

WIDTH: Final = 860
LEFT, RIGHT, TOP, HEIGHT, GAP = 70, 20, 34, 90, 34
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
    end = max(sample.seconds for sample in samples) or 1.0
    height = TOP + len(_PANELS) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for place, (phase, colour) in enumerate(_COLOURS.items()):
        parts.append(f'<text x="{LEFT + 90 * place}" y="14" fill="{colour}">{escape(phase)}</text>')
    for place, (title, name) in enumerate(_PANELS):
        parts += _panel(samples, title, name, TOP + place * (HEIGHT + GAP), end)
    parts.append("</svg>")
    path.write_text("\n".join(parts) + "\n")


def _panel(samples: Sequence[Sample], title: str, name: str, top: int, end: float) -> list[str]:
    """One value over time, from zero up."""
    most = _round_up(max(getattr(sample, name) for sample in samples))
    bottom = top + HEIGHT
    parts = [f'<text x="{LEFT}" y="{top - 5}" font-weight="bold">{escape(title)}</text>']
    for share in (0, 0.5, 1):
        y = bottom - share * HEIGHT
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:g}" y2="{y:g}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end" fill="#555">{most * share:,g}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = LEFT + share * (WIDTH - LEFT - RIGHT)
        parts.append(f'<text x="{x:g}" y="{bottom + 13}" text-anchor="middle" fill="#555">{end * share:.0f} s</text>')
    for phase, colour in _COLOURS.items():
        points = [
            f"{LEFT + sample.seconds / end * (WIDTH - LEFT - RIGHT):.1f},"
            f"{bottom - getattr(sample, name) / most * HEIGHT:.1f}"
            for sample in _thinned([sample for sample in samples if sample.phase == phase], name)
        ]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
    return parts


def _thinned(samples: Sequence[Sample], name: str) -> list[Sample]:
    """No more than can be told apart: of several that share a point, the highest."""
    step = ceil(len(samples) / MOST_POINTS) or 1
    groups = (samples[start : start + step] for start in range(0, len(samples), step))
    return [max(group, key=lambda sample: float(getattr(sample, name))) for group in groups]


def _round_up(value: float) -> float:
    """The next number of the form 1, 2, 4, 5 or 8 times a power of ten."""
    power: float = 10 ** int(log10(max(value, 1)))
    return next((power * step for step in (1, 2, 4, 5, 8) if power * step >= value), power * 10)
