"""The model card of a published generator, in Markdown."""

from collections.abc import Sequence
from typing import Any

from cxr_gan.evaluation.report.text import MEANINGS, headline, metric_cells

COPIES = "generated~train"  # sets of the metrics about copies
NOT_FOR = (
    "Generated images are not patients and not evidence. Do not use them",
    "- for diagnosis, or to teach diagnosis;",
    "- to train or test a device for patients on generated images alone;",
    "- as a substitute for de-identification: finding no copies does not prove that "
    "no patient can be recognised;",
    "- to represent people other than those described above: a generator cannot show "
    "what its training data do not contain.",
)


def model_card(card: dict[str, Any]) -> str:
    """Markdown of a published model's card, which `cxr_gan.publish` writes as JSON."""
    generator, report = card["generator"], card["report"]
    copies = [row for row in report["metrics"] if row["sets"] == COPIES]
    metrics = [row for row in headline(report) if row["sets"] != COPIES]
    size = generator["resolution"]
    parts = [
        f"# {card['name']}",
        card["what"],
        f"Images of {size} x {size} pixels, one grey channel, of the classes "
        f"{', '.join(generator['class_names'])}. Trained for {card['kimg']:g} thousand "
        f"images ({card['step']} steps).",
        "## Data",
        card["people"],
        *_data(card),
        "## Evaluation",
        f"{report['verdict'].capitalize()}.",
        "Each metric has a 95 % interval and a real-data reference: the same metric of "
        "n real images in place of the n generated ones, which a perfect generator "
        "would reach.",
        _table(metrics),
        _meanings(metrics),
        report["method"],
        *(f"Note: {note}." for note in report["notes"]),
        "## Copies of training images",
        "Each generated image was compared with every training image: by features "
        "(`cxr`), by pixels, allowing for shifts, and byte by byte. The reference is "
        "that of images of held-out patients.",
        _table(copies),
        _meanings(copies),
        "## What it is not for",
        "\n".join(NOT_FOR),
        "## Licence and attribution of the data",
        card["licence"],
        "## Weights",
        _weights(card),
    ]
    return "\n\n".join(parts) + "\n"


def _data(card: dict[str, Any]) -> list[str]:
    """A table of images per class, and the identity of the data set."""
    counts = card["report"]["dataset"]["counts"]
    rows = [("class", "train", "held out")]
    for name in card["generator"]["class_names"]:
        train = counts["A"][name] + counts["B"][name]
        rows.append((name, str(train), str(counts["val"][name])))
    note = (
        f"`{card['dataset']['name']}`, identity {card['dataset']['identity'][:16]}; "
        "bit-identical images count once. The held-out images are of other patients "
        "than the training images wherever file names identify the patient."
    )
    limits = card["config"]["samples_per_class"]
    if any(limits):
        note += f" Training images of each class were limited to {limits} (0: all)."
    return [_markdown(rows), note]


def _table(rows: Sequence[dict[str, Any]]) -> str:
    head = ("metric", "space", "class", "n", "generated", "real reference")
    return _markdown([head, *map(metric_cells, rows)])


def _meanings(rows: Sequence[dict[str, Any]]) -> str:
    """One line for each metric of the table above it."""
    metrics = dict.fromkeys(row["metric"] for row in rows)
    meanings = [MEANINGS[metric] for metric in metrics if metric in MEANINGS]
    return "\n".join(f"- {meaning.name}: {meaning.explanation}" for meaning in meanings)


def _weights(card: dict[str, Any]) -> str:
    evaluated = card["report"]["images"]["model_hash"]
    rows = [
        ("weights", "fingerprint"),
        (f"published, as {card['dtype']}", card["model_hash"]),
        ("as trained, float32", card["trained_hash"]),
        ("evaluated above", evaluated),
    ]
    software = ", ".join(f"{name} {value}" for name, value in card["software"].items())
    return f"{_markdown(rows)}\n\nMade with {software}."


def _markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table; the first row is its header."""
    lines = [
        "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"
        for row in rows
    ]
    rule = "|" + "---|" * len(rows[0])
    return "\n".join([lines[0], rule, *lines[1:]])
