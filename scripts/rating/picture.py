"""The speed of models against their accuracy, as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

_STYLE = (
    "text{font:13px sans-serif;fill:#333}circle{fill:#0a6}"
    ".line{stroke:#888;stroke-dasharray:5 4;fill:none}.grid{stroke:#ddd}"
)
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _EDGE = 640, 400, 60, 50, 20


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    speed: float
    """Tokens a second."""
    accuracy: float
    """Percent."""


def curve(points: list[Point], dense: tuple[Point, Point]) -> str:
    """All points, and the straight line between the two dense models: what lies above it is worth
    having."""
    fastest = 1.1 * max(point.speed for point in points)
    lowest = 10 * int(min(point.accuracy for point in points) / 10)

    def at(point: Point) -> tuple[float, float]:
        right = _LEFT + (_WIDTH - _LEFT - _EDGE) * point.speed / fastest
        share = (point.accuracy - lowest) / (100 - lowest)
        return right, _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _EDGE) * share

    (x1, y1), (x2, y2) = at(dense[0]), at(dense[1])
    marks = [f'<path d="M{x1:.0f} {y1:.0f}L{x2:.0f} {y2:.0f}" class="line"/>']
    for point in points:
        x, y = at(point)
        side = "end" if x > _WIDTH * 0.7 else "start"
        shift = -9 if side == "end" else 9
        marks.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4"/>')
        label = escape(point.name)
        where = f'x="{x + shift:.0f}" y="{y - 7:.0f}" text-anchor="{side}"'
        marks.append(f"<text {where}>{label}</text>")
    return _frame(marks, fastest, lowest)


def _frame(marks: list[str], fastest: float, lowest: int) -> str:
    across, down = _WIDTH - _LEFT - _EDGE, _HEIGHT - _BOTTOM - _EDGE
    base = _HEIGHT - _BOTTOM
    for speed in range(0, int(fastest) + 1, 10):
        x = _LEFT + across * speed / fastest
        marks.append(f'<text x="{x:.0f}" y="{base + 18}" text-anchor="middle">{speed}</text>')
    for percent in range(lowest, 101, 10):
        y = base - down * (percent - lowest) / (100 - lowest)
        marks.append(f'<text x="{_LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{percent} %</text>')
        marks.append(f'<path d="M{_LEFT} {y:.0f}h{across}" class="grid"/>')
    middle = f'x="{_LEFT + across / 2:.0f}" y="{_HEIGHT - 10}" text-anchor="middle"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        *marks,
        f"<text {middle}>decoded tokens a second</text>",
        f'<text x="{_LEFT}" y="14">questions answered right</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
