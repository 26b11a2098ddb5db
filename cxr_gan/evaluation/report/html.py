"""A self-contained HTML page: verdict, plots, images and all metrics."""

import base64
import io
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from cxr_gan.evaluation.evaluator import EvaluationResult
from cxr_gan.evaluation.image_sets import ReferenceSplits
from cxr_gan.evaluation.report import plots
from cxr_gan.evaluation.report.text import (
    DETAIL_SETS,
    MEANINGS,
    format_estimate,
    metric_name,
    variant_rows,
)
from cxr_gan.evaluation.verdict import RULES
from cxr_gan.storage.image_grid import make_grid

COLUMNS = 10  # of an image grid
INTERVAL_PLOT_METRICS = (
    "kid_in_classes",
    *("precision", "recall", "density", "coverage", "spacing", "label_accuracy"),
    *("distance_ratio", "below_first_percentile", "auroc", "auroc_few"),
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 980px; margin: 2em auto; padding: 0 1em; }
.verdict { font-size: 1.3em; padding: .6em .8em; border-left: 8px solid #b3261e;
  background: #fbeae9; }
.verdict.good { border-color: #2e7d32; background: #e9f5ea; }
table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; padding: .15em .7em .15em 0; border-bottom: 1px solid #eee;
  vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img { width: 100%; image-rendering: pixelated; }
svg { max-width: 100%; height: auto; }
.note { color: #7a4b00; }
"""


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
        generated = images[labels == label]
        in_class = real.train.labels[~real.in_a] == label
        half_b = real.train.images[~real.in_a][in_class]
        for kind, examples in (("real", half_b), ("generated", generated)):
            rows.append(_first_row(examples))
            names.append(f"{name}, {kind}")
    grids = {"The first images of each class": make_grid(np.stack(rows), names)}
    for view, pairs in result.nearest_pairs.items():
        pair_rows = np.stack(
            [
                _first_row(images[pairs.generated]),
                _first_row(real.train.images[pairs.train]),
            ]
        )
        caption = f"Nearest pairs of generated and training images ({view})"
        grids[caption] = make_grid(pair_rows, ["generated", "training"])
    return grids


def _first_row(images: np.ndarray) -> np.ndarray:
    """The first COLUMNS images, padded with black; uint8 [COLUMNS, s, s, 1]."""
    first = images[:COLUMNS]
    return np.pad(first, [(0, COLUMNS - len(first)), (0, 0), (0, 0), (0, 0)])


def render(report: dict[str, Any], grids: dict[str, np.ndarray]) -> str:
    """The HTML page, from the content of report.json and the grids of `pictures`."""
    good = "" if report["faults"] else " good"
    rows = [row for row in report["metrics"] if row["sets"] not in DETAIL_SETS]
    pooled = [row for row in rows if row["group"] == report["pooled"]]
    spectra = "".join(
        plots.spectrum_plot(
            [r for r in rows if (r["metric"], r["group"]) == ("power", name)], name
        )
        for name in report["class_names"]
    )
    legend = (
        "Red: generated images, with 95 % intervals. Grey: real-data reference, the "
        "same metric of real images in place of the generated ones."
    )
    parts = [
        f'<p class="verdict{good}">{escape(report["verdict"])}</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in report["notes"]),
        _counts(report),
        f"<h2>Comparison with real images</h2><p>{legend}</p>",
        plots.interval_plot(
            [row for row in pooled if row["metric"] in INTERVAL_PLOT_METRICS]
        ),
        "<h2>Power in each octave of spatial frequency</h2>"
        "<p>Below 0, generated images have less detail than real ones.</p>",
        spectra,
        *(f"<h2>{escape(c)}</h2>{_image(grid, c)}" for c, grid in grids.items()),
        _utility(report),
        f"<h2>All metrics</h2><p>{escape(report['method'])}</p>",
        _table(rows),
        "<details><summary>Comparisons with half A and val</summary>",
        _table([row for row in report["metrics"] if row["sets"] in DETAIL_SETS]),
        "</details>",
        _explanations(report),
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Evaluation</title><style>{STYLE}</style></head>\n<body>"
        f"<h1>Generated images compared with real images</h1>\n{body}\n"
        f"<p><b>{escape(report['verdict'])}</b></p></body></html>\n"
    )


def _counts(report: dict[str, Any]) -> str:
    """Origin of the images, and the number of images of each class in each set."""
    images, dataset = report["images"], report["dataset"]
    counts = {"generated": images["counts"], **dataset["counts"]}
    heads = "".join(f"<th>{escape(name)}</th>" for name in report["class_names"])
    lines = "".join(
        f"<tr><td>{name}</td>"
        + "".join(f'<td class="n">{count[c]}</td>' for c in report["class_names"])
        + "</tr>"
        for name, count in counts.items()
    )
    return (
        f"<p>{escape(images['from'])} <code>{escape(images['path'])}</code>, data set "
        f"<code>{escape(dataset['name'])}</code>, {report['resolution']} px, seed "
        f"{report['seed']}; {dataset['duplicates_dropped']} duplicates dropped.</p>"
        f"<table><tr><th>images</th>{heads}</tr>{lines}</table>"
    )


def _utility(report: dict[str, Any]) -> str:
    """Tables of the utility test; empty if it was not requested."""
    if "utility" not in report:
        return ""
    parts = [
        "<h2>Utility for training classifiers</h2>"
        f"<p>{escape(report['utility']['method'])}</p>"
    ]
    for comparison in report["utility"]["comparisons"]:
        head, *rows = variant_rows(comparison)
        heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        lines = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
            for row in rows
        )
        parts += [
            f"<h3>{escape(comparison['question'])}, {escape(comparison['view'])}</h3>",
            f"<table><tr>{heads}</tr>{lines}</table>",
        ]
    return "".join(parts)


def _image(picture: np.ndarray, title: str) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'


def _table(rows: list[dict[str, Any]]) -> str:
    heads = (
        *("metric", "space", "class", "sets", "n", "generated"),
        *("real reference", "n, reference"),
    )
    lines = []
    for row in rows:
        words = (metric_name(row["metric"]), row["space"], row["group"], row["sets"])
        reference = row["reference"]
        numbers = (
            *(row["n"], format_estimate(row)),
            *(format_estimate(reference), reference["n"]),
        )
        lines.append(
            "<tr>"
            + "".join(f"<td>{escape(word)}</td>" for word in words)
            + "".join(f'<td class="n">{cell}</td>' for cell in numbers)
            + "</tr>"
        )
    head = "".join(f"<th>{head}</th>" for head in heads)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _explanations(report: dict[str, Any]) -> str:
    """Explanations of the metrics in the report, and the rules of the verdict."""
    metrics = dict.fromkeys(row["metric"] for row in report["metrics"])
    meanings = "".join(
        f"<tr><td>{escape(MEANINGS[m].name)}</td>"
        f"<td>{escape(MEANINGS[m].explanation)}</td></tr>"
        for m in metrics
        if m in MEANINGS
    )
    rules = "".join(
        f"<tr><td>{escape(rule.words)}</td><td>{escape(metric_name(rule.metric))}</td>"
        f"<td>{escape(rule.reason)}</td></tr>"
        for rule in RULES
    )
    return (
        f"<h2>What the metrics mean</h2><table>{meanings}</table>"
        "<h2>Rules of the verdict</h2><p>The thresholds are set by hand; they and "
        "their origin are in <code>cxr_gan/evaluation/verdict.py</code>.</p>"
        f"<table><tr><th>fault</th><th>metric</th><th>reason</th></tr>{rules}</table>"
    )
