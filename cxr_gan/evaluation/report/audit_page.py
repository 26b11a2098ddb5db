"""The page of an audit, self-contained: checks, counts, contact sheets."""

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cxr_gan.data.dataset import blocks
from cxr_gan.evaluation.report.html import data_url_of_png
from cxr_gan.evaluation.report.templates import environment
from cxr_gan.storage.image_grid import make_grid

if TYPE_CHECKING:
    from cxr_gan.evaluation.audit.checks import Evidence

COLUMNS, MAX_ROWS = 12, 3  # of a contact sheet
SIDE = 96  # px, at most, of an image on it


def pictures(
    images: np.ndarray, evidence: "Evidence", report: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Contact sheets by caption: of each class, and of each check; uint8 [h, w].

    Args:
        images: uint8 [n, s, s, 1].
        evidence: of these images.
        report: content of audit.json.
    """
    rng = np.random.default_rng(0)
    chosen: dict[str, list[int]] = {}
    for label, name in enumerate(evidence.class_names):
        of_class = np.flatnonzero(evidence.labels == label)
        count = min(COLUMNS * MAX_ROWS, len(of_class))
        rows = np.sort(rng.choice(of_class, count, replace=False)).tolist()
        chosen[f"{name}: {count} images, chosen at random"] = rows
    row_of = {row.id: number for number, row in enumerate(evidence.rows)}
    for check in report["checks"]:
        rows = [row_of[id_] for id_ in check["images"][: COLUMNS * MAX_ROWS]]
        if rows:
            total = len(check["images"])
            shown = f"{len(rows)} of {total}" if total > len(rows) else str(total)
            chosen[f"{check['name']}: {shown} images"] = rows
    return {caption: _sheet(images, rows) for caption, rows in chosen.items()}


def mean_images(images: np.ndarray, evidence: "Evidence") -> np.ndarray:
    """The mean image of each class, uint8 [K, s, s]; arguments as `pictures`."""
    total = np.zeros((len(evidence.class_names), *images.shape[1:]))
    labels = iter(evidence.labels.tolist())
    for block in blocks(images):
        for image in block:
            total[next(labels)] += image
    counts = np.bincount(evidence.labels).reshape(-1, 1, 1, 1)
    return np.rint(total / counts).astype(np.uint8)[..., 0]


def _sheet(images: np.ndarray, rows: list[int]) -> np.ndarray:
    side = min(SIDE, images.shape[1])
    height = -(-len(rows) // COLUMNS)
    sheet = np.zeros((height * COLUMNS, side, side, 1), np.uint8)
    for place, row in enumerate(rows):
        picture = Image.fromarray(np.asarray(images[row, ..., 0]))
        resized = picture.resize((side, side), Image.Resampling.BOX)
        sheet[place, ..., 0] = np.asarray(resized)
    return make_grid(sheet.reshape(height, COLUMNS, side, side, 1), [""] * height)


def render(
    report: dict[str, Any], means: np.ndarray, sheets: dict[str, np.ndarray]
) -> str:
    """The HTML page.

    Args:
        report: content of audit.json.
        means: from `mean_images`.
        sheets: from `pictures`.
    """
    template = environment().get_template("audit.html.jinja")
    return template.render(
        report=report,
        means=[data_url_of_png(mean) for mean in means],
        sheets={caption: data_url_of_png(sheet) for caption, sheet in sheets.items()},
    )
