"""One page that needs nothing else: verdict, plots, pictures, all figures."""

import base64
import io
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from cxr_gan.evaluation import Findings, Real
from cxr_gan.evaluation.verdict import RULES
from cxr_gan.grids import grid
from cxr_gan.page import plots
from cxr_gan.page.text import MEANINGS, OTHERS, arms, measured, name_of

COLUMNS = 10  # of a grid
SHARES = (
    "kid_in_classes",
    *("precision", "recall", "density", "coverage", "spacing", "label_fidelity"),
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
    images: np.ndarray, labels: np.ndarray, real: Real, findings: Findings
) -> dict[str, np.ndarray]:
    """Caption -> uint8 [h, w]: images of each class, and the pairs nearest to training.

    Args:
        images: generated, uint8 [n, s, s, 1].
        labels: int [n], of them.
        real: what they were compared with.
        findings: names the pairs.
    """
    rows, names = [], []
    for label, name in enumerate(real.class_names):
        own = images[labels == label]
        theirs = real.train.images[~real.in_a][real.train.labels[~real.in_a] == label]
        for kind, some in (("real", theirs), ("generated", own)):
            rows.append(_first(some))
            names.append(f"{name}, {kind}")
    found = {"The first images of each class": grid(np.stack(rows), names)}
    for view, pairs in findings.pairs.items():
        shown = np.stack(
            [_first(images[pairs.generated]), _first(real.train.images[pairs.train])]
        )
        title = f"Nearest pairs as seen in {view}, nearest first"
        found[title] = grid(shown, ["generated", "training"])
    return found


def _first(images: np.ndarray) -> np.ndarray:
    """uint8 [COLUMNS, s, s, 1]; black where there are fewer."""
    some = images[:COLUMNS]
    return np.pad(some, [(0, COLUMNS - len(some)), (0, 0), (0, 0), (0, 0)])


def render(report: dict[str, Any], shown: dict[str, np.ndarray]) -> str:
    """report.html of report.json's content and the `pictures`."""
    good = "" if report["faults"] else " good"
    rows = [row for row in report["figures"] if row["sets"] not in OTHERS]
    pooled = [row for row in rows if row["group"] == report["pooled"]]
    spectra = "".join(
        plots.octaves([r for r in rows if (r["metric"], r["group"]) == ("power", n)], n)
        for n in report["class_names"]
    )
    legend = "Red: generated, with intervals of 95 %. Grey: real images in their place."
    parts = [
        f'<p class="verdict{good}">{escape(report["verdict"])}</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in report["notes"]),
        _facts(report),
        f"<h2>Beside real images</h2><p>{legend}</p>",
        plots.shares([row for row in pooled if row["metric"] in SHARES]),
        "<h2>Detail at each scale</h2><p>Less than 0 is smoother than real images.</p>",
        spectra,
        *(f"<h2>{escape(t)}</h2>{_image(p, t)}" for t, p in shown.items()),
        _use(report),
        f"<h2>Figures</h2><p>{escape(report['method'])}</p>",
        _table(rows),
        "<details><summary>Against half A and val</summary>",
        _table([row for row in report["figures"] if row["sets"] in OTHERS]),
        "</details>",
        _explained(report),
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Evaluation</title><style>{STYLE}</style></head>\n<body>"
        f"<h1>Generated images beside real ones</h1>\n{body}\n"
        f"<p><b>{escape(report['verdict'])}</b></p></body></html>\n"
    )


def _facts(report: dict[str, Any]) -> str:
    told = report["images"], report["dataset"]
    counts = {"generated": told[0]["counts"], **told[1]["counts"]}
    heads = "".join(f"<th>{escape(name)}</th>" for name in report["class_names"])
    lines = "".join(
        f"<tr><td>{name}</td>"
        + "".join(f'<td class="n">{of[c]}</td>' for c in report["class_names"])
        + "</tr>"
        for name, of in counts.items()
    )
    return (
        f"<p>{escape(told[0]['from'])} <code>{escape(told[0]['path'])}</code>, data "
        f"set <code>{escape(told[1]['name'])}</code>, {report['resolution']} px, seed "
        f"{report['seed']}; {told[1]['duplicates_dropped']} duplicates dropped.</p>"
        f"<table><tr><th>images</th>{heads}</tr>{lines}</table>"
    )


def _use(report: dict[str, Any]) -> str:
    """What classifiers made of the images; nothing where it was not asked."""
    if "utility" not in report:
        return ""
    parts = [f"<h2>Put to use</h2><p>{escape(report['utility']['method'])}</p>"]
    for of in report["utility"]["comparisons"]:
        head, *rows = arms(of)
        heads = "".join(f"<th>{escape(word)}</th>" for word in head)
        lines = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
            for row in rows
        )
        parts += [
            f"<h3>{escape(of['question'])}, {escape(of['view'])}</h3>",
            f"<table><tr>{heads}</tr>{lines}</table>",
        ]
    return "".join(parts)


def _image(picture: np.ndarray, title: str) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'


def _table(rows: list[dict[str, Any]]) -> str:
    heads = ("figure", "seen in", "of", "sets", "n", "generated", "floor", "n, floor")
    lines = []
    for row in rows:
        words = (name_of(row["metric"]), row["space"], row["group"], row["sets"])
        numbers = (row["n"], measured(row), measured(row["floor"]), row["floor"]["n"])
        lines.append(
            "<tr>"
            + "".join(f"<td>{escape(word)}</td>" for word in words)
            + "".join(f'<td class="n">{cell}</td>' for cell in numbers)
            + "</tr>"
        )
    head = "".join(f"<th>{head}</th>" for head in heads)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _explained(report: dict[str, Any]) -> str:
    """What the figures mean, and by which rules the verdict was found."""
    there = dict.fromkeys(row["metric"] for row in report["figures"])
    meanings = "".join(
        f"<tr><td>{escape(MEANINGS[m].name)}</td><td>{escape(MEANINGS[m].says)}</td></tr>"
        for m in there
        if m in MEANINGS
    )
    rules = "".join(
        f"<tr><td>{escape(rule.words)}</td><td>{escape(name_of(rule.metric))}</td>"
        f"<td>{escape(rule.reason)}</td></tr>"
        for rule in RULES
    )
    return (
        f"<h2>What they mean</h2><table>{meanings}</table>"
        "<h2>Rules of the verdict</h2><p>Set by hand; their thresholds, and how "
        "they came about, are in <code>cxr_gan/evaluation/verdict.py</code>.</p>"
        f"<table><tr><th>fault</th><th>figure</th><th>reason</th></tr>{rules}</table>"
    )
