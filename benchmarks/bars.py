"""A bar chart as SVG: measured times, and the part above a lower bound."""

from collections.abc import Sequence
from html import escape

LOWER_BOUND, EXCESS, GRID = "#9aa5b1", "#b3261e", "#e3e7eb"
LABELS, WIDTH, STEP, TOP = 250, 420, 18, 34


def draw(rows: Sequence[tuple[str, float, float]], title: str, unit: str) -> str:
    """(name, lower bound, measured) -> bars: grey up to the lower bound, then red."""
    longest = max(measured for _, _, measured in rows)
    height = TOP + STEP * len(rows) + 26
    parts = [text(LABELS + WIDTH / 2, 16, title, "middle")]
    for fraction in (0, 0.25, 0.5, 0.75, 1):
        x = LABELS + fraction * WIDTH
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 22}" '
            f'stroke="{GRID}"/>'
        )
        parts.append(text(x, height - 8, f"{fraction * longest:.3g} {unit}", "middle"))
    for index, (name, bound, measured) in enumerate(rows):
        y, scale = TOP + STEP * index, WIDTH / longest
        bound = min(bound, measured)
        parts += [
            text(LABELS - 8, y + 11, name, "end"),
            _bar(LABELS, y, scale * bound, LOWER_BOUND),
            _bar(LABELS + scale * bound, y, scale * (measured - bound), EXCESS),
        ]
    return sheet(LABELS + WIDTH + 40, height, parts, title)


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{STEP - 5}" '
        f'fill="{colour}"/>'
    )


def text(x: float, y: float, content: str, anchor: str) -> str:
    """Text at a position; anchor: start, middle or end."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'
    )


def sheet(width: int, height: int, parts: Sequence[str], title: str) -> str:
    """A complete SVG with the parts on a white background; sizes in px."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        f'font-family="sans-serif" font-size="12" fill="#333">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
