"""A drawing of what is left on the table, as SVG."""

from collections.abc import Sequence
from html import escape

DONE, LEFT, GRID = "#9aa5b1", "#b3261e", "#e3e7eb"
LABELS, WIDTH, STEP, TOP = 250, 420, 18, 34


def draw(rows: Sequence[tuple[str, float, float]], title: str, unit: str) -> str:
    """(name, least, taken) -> bars: grey up to what it must take at least, then red."""
    most = max(taken for _, _, taken in rows)
    height = TOP + STEP * len(rows) + 26
    parts = [words(LABELS + WIDTH / 2, 16, title, "middle")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = LABELS + share * WIDTH
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 22}" '
            f'stroke="{GRID}"/>'
        )
        parts.append(words(x, height - 8, f"{share * most:.3g} {unit}", "middle"))
    for place, (name, least, taken) in enumerate(rows):
        y, scale = TOP + STEP * place, WIDTH / most
        least = min(least, taken)
        parts += [
            words(LABELS - 8, y + 11, name, "end"),
            _bar(LABELS, y, scale * least, DONE),
            _bar(LABELS + scale * least, y, scale * (taken - least), LEFT),
        ]
    return sheet(LABELS + WIDTH + 40, height, parts, title)


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{STEP - 5}" '
        f'fill="{colour}"/>'
    )


def words(x: float, y: float, said: str, anchor: str) -> str:
    """Text at a place; anchor: start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'


def sheet(width: int, height: int, parts: Sequence[str], title: str) -> str:
    """The parts on white, as a whole SVG; sizes in px."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        f'font-family="sans-serif" font-size="12" fill="#333">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
