"""Figures of the HTML page, drawn by matplotlib as SVG.

They contain names of metrics and numbers only: names that users choose, such as those
of classes, stand beside them in the page, where the template escapes them.
"""

import importlib
import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_gan.evaluation.report.text import metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RED, GREY = "#b3261e", "#9aa5b1"
GENERATED: dict[str, Any] = {"color": RED, "label": "generated images"}
REFERENCE: dict[str, Any] = {
    "color": GREY,
    "edgecolor": GREY,  # visible also where the interval has no width
    "alpha": 0.6,
    "label": "real-data reference",
}
LOWEST, HIGHEST = -0.6, 1.6  # widest limits of the axis of `interval_plot`
SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.sans-serif": ["DejaVu Sans", "Arial"],  # the first comes with matplotlib
    "font.size": 9.0,
    "grid.color": "#e3e7eb",
    "svg.fonttype": "none",  # text is kept as text
    "svg.hashsalt": "cxr_gan",  # equal figures have equal ids
    "text.parse_math": False,  # a dollar sign is one
}
Row = dict[str, Any]  # of report.json["metrics"]


def interval_plot(rows: list[Row]) -> str:
    """SVG of metrics between 0 and about 1, one line each.

    A triangle is a value beyond the axis, which extends to LOWEST and HIGHEST at most.
    """
    values, reference = _columns(rows), _columns([row["reference"] for row in rows])
    left = max(LOWEST, min(0, values.min(), reference.min()))
    right = min(HIGHEST, max(1, values.max(), reference.max()))
    places = np.arange(len(rows))

    def paint(axes: "Axes") -> None:
        _, low, high = reference
        axes.barh(places, high - low, 0.6, left=low, **REFERENCE)
        value, low, high = values
        axes.hlines(places, low, high, **GENERATED)
        for place, x in enumerate(value):
            marker = "<" if x < left else ">" if x > right else "o"
            axes.plot(np.clip(x, left, right), place, marker, color=RED, clip_on=False)
        axes.set_yticks(places, _names(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left - 0.02, right + 0.02)
        axes.set_xlabel("value")

    return _draw(paint, 1 + 0.25 * len(rows))


def spectrum_plot(rows: list[Row]) -> str:
    """SVG of the power difference in each octave, lowest octave first."""
    values, reference = _columns(rows), _columns([row["reference"] for row in rows])
    reach = max(6.0, np.abs(values).max(), np.abs(reference).max())
    places = np.arange(len(rows))

    def paint(axes: "Axes") -> None:
        _, low, high = reference
        axes.bar(places, high - low, 0.6, bottom=low, **REFERENCE)
        value, low, high = values
        axes.axhline(0, color=GREY)
        axes.vlines(places, low, high, **GENERATED)
        axes.plot(places, value, "o-", color=RED, linewidth=1)
        axes.set_xticks(places, [row["space"] for row in rows])
        axes.set_ylim(-1.05 * reach, 1.05 * reach)
        axes.set_xlabel("spatial frequency (cycles/pixel)")
        axes.set_ylabel("power relative to real (dB)")

    return _draw(paint, 3.0)


def _names(rows: list[Row]) -> list[str]:
    """Display name of each row's metric, with the space where that is ambiguous."""
    metrics = [row["metric"] for row in rows]
    return [
        metric_name(row["metric"])
        + (f", {row['space']}" if metrics.count(row["metric"]) > 1 else "")
        for row in rows
    ]


def _columns(rows: list[Row]) -> np.ndarray:
    """Value, low and high of each row; float64 [3, n]."""
    return np.array([[row[key] for row in rows] for key in ("value", "low", "high")])


def import_matplotlib() -> None:
    """Imports matplotlib, which only reports need, because its import is slow.

    Figures are drawn without its windows, so $MPLBACKEND is not read: it may name a
    backend of another environment, as that of a notebook.

    Raises:
        ValueError: a matplotlibrc of the user cannot be read.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        importlib.import_module("matplotlib")
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def _draw(paint: Callable[["Axes"], None], height: float) -> str:
    """SVG of what `paint` draws, with a legend; equal figures give equal text.

    It is 4.6 inches wide and `height` inches high. Settings of the user or of other
    figures of the process have no influence, and are the same afterwards.
    """
    import_matplotlib()
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(SETTINGS, after_reset=True):
        figure = Figure((4.6, height), layout="constrained")
        paint(figure.add_subplot())
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        svg = io.StringIO()
        omitted = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=omitted)
    return svg.getvalue()
