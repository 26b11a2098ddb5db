"""The model card: what a published generator is, in Markdown."""

from collections.abc import Sequence
from typing import Any

from cxr_gan.page.text import MEANINGS, beside_floor, headline

COPIES = "generated~train"  # sets of the figures of copies
NOT_FOR = (
    "Generated images are not patients and not evidence. Do not use them",
    "- for diagnosis, or to teach it;",
    "- to train or test a device meant for patients without real data beside them;",
    "- as a substitute for de-identification: that no copies were found does not "
    "prove that nobody can be recognised;",
    "- to speak of people who are not among those above: what a generator has not "
    "seen, it cannot show.",
)


def model_card(card: dict[str, Any]) -> str:
    """Markdown of a published model's card; see `cxr_gan.publish`."""
    spec, report = card["spec"], card["report"]
    copies = [row for row in report["figures"] if row["sets"] == COPIES]
    figures = [row for row in headline(report) if row["sets"] != COPIES]
    side = spec["resolution"]
    parts = [
        f"# {card['name']}",
        card["what"],
        f"Images of {side} x {side} pixels, one grey channel, of the classes "
        f"{', '.join(spec['class_names'])}. Trained for {card['kimg']:g} thousand "
        f"images ({card['step']} steps).",
        "## Data",
        card["people"],
        *_data(card),
        "## How good it is",
        f"{report['verdict'].capitalize()}.",
        "A figure [95 % interval] stands beside its floor: the same figure of as many "
        "real images (n), what a perfect generator would reach.",
        _table(figures),
        _meanings(figures),
        report["method"],
        *(f"Note: {note}." for note in report["notes"]),
        "## Copies of training images",
        "Each generated image was compared with every training image, by features "
        "(`cxr`), by pixels that may be shifted, and by bytes. The floor is that of "
        "held-out patients.",
        _table(copies),
        _meanings(copies),
        "## What it is not for",
        "\n".join(NOT_FOR),
        "## Licence and attribution of the data",
        card["licence"],
        "## Which weights",
        _weights(card),
    ]
    return "\n\n".join(parts) + "\n"


def _data(card: dict[str, Any]) -> list[str]:
    """Counts of images, and which set it was."""
    counts = card["report"]["dataset"]["counts"]
    rows = [("class", "train", "held out")]
    for name in card["spec"]["class_names"]:
        train = counts["A"][name] + counts["B"][name]
        rows.append((name, str(train), str(counts["val"][name])))
    told = (
        f"`{card['dataset']['name']}`, identity {card['dataset']['identity'][:16]}; "
        "equal images count once; held out by patient where names of files tell the "
        "patient."
    )
    most = card["config"]["samples_per_class"]
    if any(most):
        told += f" Of each class at most so many were trained on: {most} (0: all)."
    return [_markdown(rows), told]


def _table(figures: Sequence[dict[str, Any]]) -> str:
    head = ("figure", "seen in", "of", "n", "generated", "floor: real")
    return _markdown([head, *map(beside_floor, figures)])


def _meanings(figures: Sequence[dict[str, Any]]) -> str:
    """A line for each metric in the table above it."""
    metrics = dict.fromkeys(row["metric"] for row in figures)
    told = [MEANINGS[metric] for metric in metrics if metric in MEANINGS]
    return "\n".join(f"- {meaning.name}: {meaning.says}" for meaning in told)


def _weights(card: dict[str, Any]) -> str:
    evaluated = card["report"]["images"]["model_hash"]
    rows = [
        ("", "fingerprint"),
        (f"these, stored as {card['dtype']}", card["model_hash"]),
        ("as trained, float32", card["trained_hash"]),
        ("those the figures are of", evaluated),
    ]
    made = ", ".join(f"{name} {number}" for name, number in card["software"].items())
    return f"{_markdown(rows)}\n\nMade with {made}."


def _markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """A table; the first row is its head."""
    lines = [
        "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"
        for row in rows
    ]
    rule = "|" + "---|" * len(rows[0])
    return "\n".join([lines[0], rule, *lines[1:]])
