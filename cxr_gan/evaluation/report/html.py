"""A self-contained HTML page: verdict, figures, images and all metrics."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from cxr_gan.evaluation.evaluator import EvaluationResult
from cxr_gan.evaluation.image_sets import ReferenceSplits
from cxr_gan.evaluation.report import plots
from cxr_gan.evaluation.report.scorecard import scorecard
from cxr_gan.evaluation.report.templates import environment
from cxr_gan.evaluation.report.text import (
    DETAIL_SETS,
    MEANINGS,
    headline,
    pair_table,
    variant_rows,
)
from cxr_gan.evaluation.verdict import RULES
from cxr_gan.storage.image_grid import make_grid

COLUMNS = 10  # of an image grid
# Metrics of the interval plots: one plot for each feature space, one for the others.
DISTANCES = {"precision", "recall", "density", "coverage", "spacing", "kid_in_classes"}
OTHERS = {
    *("label_accuracy", "distance_ratio", "below_first_percentile"),
    *("membership_auroc", "auroc", "auroc_after", "auroc_few"),
}
Row = dict[str, Any]


def pictures(
    images: np.ndarray,
    labels: np.ndarray,
    real: ReferenceSplits,
    result: EvaluationResult,
) -> dict[str, np.ndarray]:
    """Image grids by caption: examples of each class, and nearest pairs; uint8 [h, w].

    Args:
        images: generated, uint8 [n, s, s, 1].
        labels: int [n], of the generated images.
        real: the real data set they were compared with.
        result: of the evaluation; gives the nearest pairs.
    """
    rows, names = [], []
    for label, name in enumerate(real.class_names):
        half_b = ~real.in_a & (real.train.labels == label)
        rows += [
            _first_row(real.train.images[half_b]),
            _first_row(images[labels == label]),
        ]
        names += [f"{name}, real", f"{name}, generated"]
    caption = "The first images of each class: real ones (half B) and generated ones"
    grids = {caption: make_grid(np.stack(rows), names)}
    for view, pairs in result.nearest_pairs.items():
        pair_rows = [
            _first_row(images[[i for i, _, _ in pairs]]),
            _first_row(real.train.images[[j for _, j, _ in pairs]]),
        ]
        caption = f"Nearest pairs of generated and training images, by {view}"
        grids[caption] = make_grid(np.stack(pair_rows), ["generated", "training"])
    return grids


def _first_row(images: np.ndarray) -> np.ndarray:
    """The first COLUMNS images, padded with black; uint8 [COLUMNS, s, s, 1]."""
    first = images[:COLUMNS]
    return np.pad(first, [(0, COLUMNS - len(first)), (0, 0), (0, 0), (0, 0)])


def render(report: dict[str, Any], grids: dict[str, np.ndarray]) -> str:
    """The HTML page, from the content of report.json and the grids of `pictures`."""
    rows = [row for row in report["metrics"] if row["sets"] not in DETAIL_SETS]
    octaves = {
        name: [r for r in rows if (r["metric"], r["group"]) == ("power", name)]
        for name in report["class_names"]
    }
    panels = _panels(rows, report["pooled"])
    metrics = dict.fromkeys(row["metric"] for row in report["metrics"])
    utility = report.get("utility", {"comparisons": []})
    template = environment().get_template("report.html.jinja")
    return template.render(
        report=report,
        headline=headline(report),
        scorecard=scorecard(report),
        rows=rows,
        details=[row for row in report["metrics"] if row["sets"] in DETAIL_SETS],
        figures={name: _svg(plots.interval_plot(x)) for name, x in panels.items()},
        spectra={
            name: _svg(plots.spectrum_plot(x)) for name, x in octaves.items() if x
        },
        grids={caption: data_url_of_png(grid) for caption, grid in grids.items()},
        variants=[variant_rows(one) for one in utility["comparisons"]],
        pairs=pair_table(report["pairs"]) if "pairs" in report else [],
        meanings=[MEANINGS[metric] for metric in metrics if metric in MEANINGS],
        rules=RULES,
    )


def _panels(rows: list[Row], pooled: str) -> dict[str, list[Row]]:
    """The rows of each interval plot, by caption."""
    panels: dict[str, list[Row]] = {}
    for row in rows:
        if row["group"] != pooled:
            continue
        if row["metric"] in DISTANCES:
            panels.setdefault(f"Feature space {row['space']}", []).append(row)
        elif row["metric"] in OTHERS:
            panels.setdefault("Labels, copies, utility", []).append(row)
    return panels


def data_url_of_png(picture: np.ndarray) -> str:
    """Data URL of a PNG of uint8 [h, w]."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return _data_url("image/png", file.getvalue())


def _svg(figure: str) -> str:
    return _data_url("image/svg+xml", figure.encode())


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
