"""Curves as SVG, small and by hand: both axes are logarithmic, and the colours follow the reader's light or dark."""

import math
from collections.abc import Mapping
from pathlib import Path

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 16, 40

_STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #333 } .grid { stroke: #ccc; stroke-width: 1 }
.line { fill: none; stroke-width: 2 } .c0 { stroke: #0969da } .c1 { stroke: #bc4c00 } .c2 { stroke: #1a7f37 }
.c3 { stroke: #8250df } .c4 { stroke: #cf222e }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .grid { stroke: #444 } .c0 { stroke: #58a6ff } .c1 { stroke: #f0883e } .c2 { stroke: #3fb950 }
.c3 { stroke: #bc8cff } .c4 { stroke: #ff7b72 } }
</style>"""


def svg(curves: Mapping[str, Mapping[int, float]], unit: str) -> str:
    """One line for each curve: sizes to the right, costs upwards."""
    sizes = [size for curve in curves.values() for size in curve]
    costs = [cost for curve in curves.values() for cost in curve.values()]
    most_right = math.ceil(math.log10(max(sizes)))
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))

    def x(size: float) -> float:
        return LEFT + math.log10(size) / most_right * (WIDTH - LEFT - RIGHT)

    def y(cost: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(cost) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{unit}, by the number of {', '.join(curves)}</title>",
        _STYLE,
    ]
    for power in range(low, high + 1):
        at = y(10**power)
        found.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        found.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{10**power:,}</text>')
    for power in range(most_right + 1):
        at = x(10**power)
        found.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        found.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{10**power:,}</text>')
    ends: list[float] = []
    for number, (name, curve) in enumerate(curves.items()):
        points = " ".join(f"{x(size):.1f},{y(cost):.1f}" for size, cost in curve.items())
        found.append(f'<polyline class="line c{number}" points="{points}"/>')
        found += [
            f'<circle class="line c{number}" cx="{x(size):.1f}" cy="{y(cost):.1f}" r="2"/>'
            for size, cost in curve.items()
        ]
        at = y([*curve.values()][-1])
        while any(abs(at - other) < 14 for other in ends):  # names do not lie on one another
            at += 14
        ends.append(at)
        found.append(f'<text x="{x([*curve][-1]) + 8:.1f}" y="{at + 4:.1f}">{name}</text>')
    found.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">{unit}, by how many there are</text>')
    return "\n".join([*found, "</svg>", ""])


def write(folder: Path, curves: Mapping[str, Mapping[int, float]]) -> None:
    """`scaling.svg`, and `scaling-streams.svg` for the streams."""
    requests = {name: curve for name, curve in curves.items() if name != "open streams"}
    if requests:
        (folder / "scaling.svg").write_text(svg(requests, "µs of CPU per request"), "utf-8")
    if "open streams" in curves:
        streams = {"open streams": curves["open streams"]}
        (folder / "scaling-streams.svg").write_text(svg(streams, "µs of CPU per event"), "utf-8")
