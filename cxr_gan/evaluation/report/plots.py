"""SVG plots of metrics, written without a plotting library."""

from html import escape
from typing import Any

from cxr_gan.evaluation.report.text import metric_name

RED, GREY, GRID = "#b3261e", "#9aa5b1", "#e3e7eb"  # generated, real, grid lines
Row = dict[str, Any]


def interval_plot(rows: list[Row]) -> str:
    """Metrics between 0 and about 1: each row has a point and a line for its interval.

    The grey band is the interval of the real-data reference.
    """
    left, width, step = 250, 420, 26
    top = max([1.0, *(min(row["high"], 1.6) for row in rows)])
    height = step * len(rows) + 40

    def x(value: float) -> float:
        return left + width * min(max(value, 0), top) / top

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5):
        if tick <= top:
            parts += [
                _line(x(tick), 10, x(tick), height - 25, GRID),
                _text(x(tick), height - 8, f"{tick:g}", "middle"),
            ]
    for place, row in enumerate(rows):
        y, reference = 24 + step * place, row["reference"]
        band = max(x(reference["high"]) - x(reference["low"]), 3)
        where = f"{metric_name(row['metric'])}, {row['space']}"
        parts += [
            _text(left - 12, y + 4, where, "end"),
            f'<rect x="{x(reference["low"]):.1f}" y="{y - 8}" width="{band:.1f}" '
            f'height="16" fill="{GREY}" opacity="0.6"/>',
            _line(x(row["low"]), y, x(row["high"]), y, RED, 2),
            f'<circle cx="{x(row["value"]):.1f}" cy="{y}" r="4" fill="{RED}"/>',
        ]
    return _svg(left + width + 30, height, parts, "Metrics with real-data references")


def spectrum_plot(rows: list[Row], title: str) -> str:
    """Power difference in dB against octave, lowest octave first.

    The grey bands are the intervals of the real-data references.
    """
    left, width, height, bottom = 60, 330, 240, 40
    reach = max([6.0, *(abs(row[end]) for row in rows for end in ("low", "high"))])
    step = width / max(len(rows), 1)

    def y(value: float) -> float:
        return 20 + (height - 20 - bottom) * (1 - (value / reach + 1) / 2)

    parts = [_text(left + width / 2, 14, title, "middle")]
    for tick in (-reach, -3, 0, 3, reach):
        parts += [
            _line(left, y(tick), left + width, y(tick), GRID if tick else GREY),
            _text(left - 8, y(tick) + 4, f"{tick:+.0f} dB" if tick else "0", "end"),
        ]
    points = []
    for place, row in enumerate(rows):
        x, reference = left + step * (place + 0.5), row["reference"]
        tall = max(y(reference["low"]) - y(reference["high"]), 2)
        points.append(f"{x:.1f},{y(row['value']):.1f}")
        parts += [
            f'<rect x="{x - 16:.1f}" y="{y(reference["high"]):.1f}" width="32" '
            f'height="{tall:.1f}" fill="{GREY}" opacity="0.6"/>',
            _line(x, y(row["low"]), x, y(row["high"]), RED, 2),
            f'<circle cx="{x:.1f}" cy="{y(row["value"]):.1f}" r="4" fill="{RED}"/>',
            _text(x, height - 20, row["space"], "middle"),
        ]
    path = f'<polyline points="{" ".join(points)}" fill="none" stroke="{RED}"/>'
    parts += [path, _text(left + width / 2, height - 4, "cycles/pixel", "middle")]
    return _svg(left + width + 20, height, parts, f"Power spectrum of {title}")


def training_curve(
    points: list[tuple[float, float]], reference: float, title: str
) -> str:
    """A metric over a training run, from points (kimg, value).

    The grey line is the value of real images.
    """
    left, width, height, bottom = 60, 520, 260, 40
    last = max(kimg for kimg, _ in points)
    top = max(reference, *(value for _, value in points)) * 1.05

    def x(kimg: float) -> float:
        return left + width * kimg / last

    def y(value: float) -> float:
        return 24 + (height - 24 - bottom) * (1 - value / top)

    parts = [_text(left + width / 2, 14, title, "middle")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        value, kimg = share * top, share * last
        parts += [
            _line(left, y(value), left + width, y(value), GRID),
            _text(left - 8, y(value) + 4, f"{value:.3g}", "end"),
            _text(x(kimg), height - 22, f"{kimg:.0f}", "middle"),
        ]
    line = " ".join(f"{x(kimg):.1f},{y(value):.1f}" for kimg, value in points)
    parts += [
        _line(left, y(max(reference, 0)), left + width, y(max(reference, 0)), GREY, 3),
        f'<polyline points="{line}" fill="none" stroke="{RED}" stroke-width="2"/>',
        *(
            f'<circle cx="{x(kimg):.1f}" cy="{y(value):.1f}" r="3" fill="{RED}"/>'
            for kimg, value in points
        ),
        _text(
            left + width / 2, height - 4, "thousand images shown to D (kimg)", "middle"
        ),
    ]
    return _svg(left + width + 20, height, parts, title)


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: int = 1
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def _svg(width: float, height: float, parts: list[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif" font-size="12" '
        f'fill="#333">{"".join(parts)}</svg>'
    )
