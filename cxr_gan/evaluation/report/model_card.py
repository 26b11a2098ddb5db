"""The model card of a published generator, in Markdown."""

from typing import Any

from cxr_gan.evaluation.report.templates import environment
from cxr_gan.evaluation.report.text import MEANINGS, headline, metric_table

COPIES = "generated~train"  # sets of the metrics about copies


def model_card(card: dict[str, Any]) -> str:
    """Markdown of a published model's card, which `cxr_gan.publish` writes as JSON."""
    report = card["report"]
    counts = report["dataset"]["counts"]
    classes = [
        (name, str(counts["A"][name] + counts["B"][name]), str(counts["val"][name]))
        for name in card["generator"]["class_names"]
    ]
    weights = [
        (f"published, as {card['dtype']}", card["model_hash"]),
        ("as trained, float32", card["trained_hash"]),
        ("evaluated above", report["images"]["model_hash"]),
    ]
    template = environment().get_template("model_card.md.jinja")
    return template.render(
        card=card,
        classes=[("class", "train", "held out"), *classes],
        copies=[row for row in report["metrics"] if row["sets"] == COPIES],
        metrics=[row for row in headline(report) if row["sets"] != COPIES],
        metric_table=metric_table,
        weights=[("weights", "fingerprint"), *weights],
        MEANINGS=MEANINGS,
    )
