"""The metrics arranged by the published criteria for synthetic medical data.

Source: Zamzmi et al. 2025, "Scorecard for synthetic medical data evaluation",
doi:10.1038/s44172-025-00450-1: its seven criteria. The questions are in our words.
"""

from typing import Any, NamedTuple

from cxr_gan.evaluation.report.text import DETAIL_SETS, format_estimate, metric_name


class Criterion(NamedTuple):
    """One criterion, the metrics that answer it, and what no metric answers."""

    name: str
    question: str
    metrics: tuple[str, ...]  # of all classes together, or of each if there is no other
    open: str  # what stays unanswered, and where to look
    by_class: bool = False  # whether the metrics are those of each class


# A metric that only an option of `evaluate` measures -> the option.
OPTIONS = {"auroc": "--utility", "membership_auroc": "--membership"}
CRITERIA = (
    Criterion(
        "Congruence",
        "Are the generated images distributed as real ones?",
        ("fid", "kid_in_classes", "precision", "power"),
        "",
    ),
    Criterion(
        "Coverage",
        "Do they have the variety of real images, without repeating them?",
        ("recall", "coverage", "ms_ssim", "repeated", "distance_ratio"),
        "",
    ),
    Criterion(
        "Constraint",
        "Do they keep to anatomy and to the physics of imaging?",
        ("label_accuracy",),
        "No metric looks at ribs, organs, devices or projection: look at the images, "
        "and have readers look at them (cxr_gan.reader_study).",
    ),
    Criterion(
        "Completeness",
        "Do they have all that a task needs?",
        ("auroc", "auroc_after", "auroc_few"),
        "They have a class and nothing else: no age, sex, view, finding or mask.",
    ),
    Criterion(
        "Compliance",
        "Do they protect patients, and keep to rules and formats?",
        (
            *("exact_copies", "near_copies", "below_first_percentile"),
            *("membership_auroc", "membership_found"),
        ),
        "There is no guarantee, such as differential privacy. Laws and licences are "
        "not judged.",
    ),
    Criterion(
        "Comprehension",
        "Is it clear what they are, and what they are not?",
        (),
        "No metric answers this. The card that cxr_gan.publish or cxr_gan.generate "
        "writes names data, people and limits.",
    ),
    Criterion(
        "Consistency",
        "Is the quality the same throughout?",
        ("fid", "precision", "recall", "coverage"),
        "Only classes are compared: not seeds of the training, hospitals or groups of "
        "people.",
        by_class=True,
    ),
)


def scorecard(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The criteria with their answers from the content of report.json.

    Returns:
        For each criterion "name", "question", "rows" and "open": rows are (metric,
        space, class, generated, real reference), and "open" is what stays unanswered;
        it names the option that would measure a missing metric.
    """
    rows = [row for row in report["metrics"] if row["sets"] not in DETAIL_SETS]
    measured = {row["metric"] for row in rows}
    octaves = [row["space"] for row in rows if row["metric"] == "power"]
    cards = []
    for criterion in CRITERIA:
        chosen = [
            row
            for metric in criterion.metrics
            for row in _rows_of(metric, rows, report["pooled"], criterion.by_class)
            if metric != "power" or row["space"] == octaves[-1]
        ]
        missing = [
            f"{option} measures {metric_name(metric)!r}."
            for metric, option in OPTIONS.items()
            if metric in criterion.metrics and metric not in measured
        ]
        cards.append(
            {
                "name": criterion.name,
                "question": criterion.question,
                "rows": [
                    (
                        *(metric_name(row["metric"]), row["space"], row["group"]),
                        *(format_estimate(row), format_estimate(row["reference"])),
                    )
                    for row in chosen
                ],
                "open": " ".join((*missing, criterion.open)).strip(),
            }
        )
    return cards


def _rows_of(
    metric: str, rows: list[dict[str, Any]], pooled: str, by_class: bool
) -> list[dict[str, Any]]:
    """The rows of a metric for each class, or for all together where there are any."""
    found = [row for row in rows if row["metric"] == metric]
    together = [row for row in found if row["group"] == pooled]
    apart = [row for row in found if row["group"] != pooled]
    return apart if by_class else together or apart
