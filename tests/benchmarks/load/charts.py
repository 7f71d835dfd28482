"""Line charts as SVG: axes, a legend, shaded phases. Enough for a report that needs no other files."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, isfinite, log10

Points = Sequence[tuple[float, float]]
Phase = tuple[float, float, str]
_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 170, 34, 44
# Told apart by people who see few colours as well (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Points],
    *,
    phases: Sequence[tuple[float, float, str]] = (),
    log: bool = False,
) -> str:
    """One chart. `phases` (from, to, name) are shaded in turn; with `log` the y axis is logarithmic. What is no number is left out."""
    kept = {name: [point for point in points if isfinite(point[1]) and (not log or point[1] > 0)] for name, points in series.items()}
    xs = [x for points in kept.values() for x, _ in points] + [x for start, end, _ in phases for x in (start, end)]
    ys = [y for points in kept.values() for _, y in points]
    if not xs or not ys:
        return f"<p>{escape(title)}: nothing was measured.</p>"
    low, high = min(xs), max(max(xs), min(xs) + 1e-9)
    ticks = _powers(min(ys), max(ys)) if log else _steps(max(ys))
    bottom, top = ticks[0], ticks[-1]

    def x_of(x: float) -> float:
        return _LEFT + (x - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(y: float) -> float:
        part = log10(y / bottom) / log10(top / bottom) if log else (y - bottom) / (top - bottom)
        return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)

    floor_y = _HEIGHT - _BOTTOM
    drawn = [f'<text x="{_LEFT}" y="18" font-weight="bold">{escape(title)}</text>']
    for number, (start, end, name) in enumerate(phases):
        x, width = x_of(start), x_of(end) - x_of(start)
        shade = "#f3f3f3" if number % 2 else "#fbfbfb"
        drawn.append(f'<rect x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{floor_y - _TOP}" fill="{shade}"/>')
        drawn.append(f'<text x="{x + width / 2:.1f}" y="{_TOP + 11}" text-anchor="middle" fill="#777">{escape(name)}</text>')
    for tick in ticks:
        y = y_of(tick)
        drawn.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for x in _marks(sorted({x for points in kept.values() for x, _ in points}), low, high):
        drawn.append(f'<text x="{x_of(x):.1f}" y="{floor_y + 16}" text-anchor="middle">{x:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    drawn.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    drawn.append(f'<text transform="translate(14 {(_TOP + floor_y) / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    for number, (name, points) in enumerate(kept.items()):
        colour, y, legend = _COLOURS[number % len(_COLOURS)], _TOP + 10 + 18 * number, _WIDTH - _RIGHT + 12
        path = " ".join(f"{x_of(x):.1f},{y_of(max(value, bottom)):.1f}" for x, value in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 12:
            drawn += [f'<circle cx="{x_of(x):.1f}" cy="{y_of(max(value, bottom)):.1f}" r="3" fill="{colour}"/>' for x, value in points]
        drawn.append(f'<line x1="{legend}" x2="{legend + 20}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>')
        drawn.append(f'<text x="{legend + 26}" y="{y + 4}">{escape(name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(drawn)}</svg>'
    )


def _steps(highest: float) -> list[float]:
    """Four to eight round values from 0 to at least the highest."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / 5
    unit: float = 10 ** floor(log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [number * step for number in range(ceil(highest / step - 1e-9) + 1)]


def _powers(lowest: float, highest: float) -> list[float]:
    first = floor(log10(lowest))
    return [10.0**power for power in range(first, max(ceil(log10(highest)), first + 1) + 1)]


def _marks(xs: list[float], low: float, high: float) -> list[float]:
    """Where values stand if they are few, else round values."""
    if len(xs) <= 10:
        return xs
    return [low + tick for tick in _steps(high - low) if low + tick <= high]
