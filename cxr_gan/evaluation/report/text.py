"""Names and explanations of the metrics, and plain-text tables of their values."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Meaning(NamedTuple):
    """Display name and explanation of one metric."""

    name: str
    explanation: str  # with the unit, and which direction is better


# A metric without an entry is shown by its key. To explain one, add one entry here.
MEANINGS = {
    "fid": Meaning(
        "FID",
        "Fréchet distance between Gaussians fitted to the features; 0 for equal sets, "
        "lower is better. It grows as the number of images shrinks: compare it only "
        "with its real-data reference.",
    ),
    "kid": Meaning(
        "KID",
        "Unbiased estimate of the squared maximum mean discrepancy (MMD); 0 on average "
        "for sets from the same distribution, lower is better.",
    ),
    "kid_in_classes": Meaning(
        "KID / classes",
        "KID divided by the KID between the real classes, or by the chance variation "
        "of KID if that is larger; at 0 equal, at 1 as far from real images as one "
        "class is from another.",
    ),
    "precision": Meaning(
        "precision", "Share of generated images that lie among real images."
    ),
    "recall": Meaning(
        "recall", "Share of real images that lie among generated images."
    ),
    "density": Meaning(
        "density",
        "Average number of real neighbourhoods that contain a generated image, divided "
        "by k; about 1 for equal sets, it can exceed 1.",
    ),
    "coverage": Meaning(
        "coverage",
        "Share of real images with a generated image in their neighbourhood.",
    ),
    "spacing": Meaning(
        "spacing",
        "Median distance to the nearest neighbour in the same set, divided by that of "
        "real images; at 1 equally diverse, near 0 images repeat.",
    ),
    "power": Meaning(
        "power",
        "Power in one octave of spatial frequency (cycles/pixel) relative to real "
        "images, in dB; 0 is equal, -3 half, +3 twice the power. The finest octave "
        "measures sharpness.",
    ),
    "alternation": Meaning(
        "pixel pattern",
        "Power of stripes of one row, one column, two rows or two columns, and of "
        "checkerboards (both), relative to real images, in dB. Upsampling layers tend "
        "to add them.",
    ),
    "label_accuracy": Meaning(
        "label accuracy",
        "Share of images whose label is predicted by a classifier trained on real "
        "images. A value above that of real images means more typical images, not "
        "better ones.",
    ),
    "ms_ssim": Meaning(
        "MS-SSIM, less real",
        "Mean MS-SSIM between pairs of images of a class, minus that of real pairs; "
        "above 0 less diverse than real images.",
    ),
    "repeated": Meaning(
        "repeated",
        "Share of images that are bit-identical to an earlier one of the set.",
    ),
    "distance_ratio": Meaning(
        "distance to training",
        "Median distance to the nearest training image, divided by that of held-out "
        "images; at 1 as novel as held-out images, below 1 nearer.",
    ),
    "below_first_percentile": Meaning(
        "share very near to training",
        "Share of images nearer to a training image than 99 % of held-out images are; "
        "0.01 by chance.",
    ),
    "exact_copies": Meaning(
        "exact copies", "Number of images equal to a training image."
    ),
    "near_copies": Meaning(
        "near copies",
        "Number of images whose distance to the nearest training image is above 0 and "
        "below a quarter of the distance that 99 % of held-out images exceed.",
    ),
    "membership_auroc": Meaning(
        "membership, AUROC",
        "How well an attacker distinguishes images of half B, which were in the "
        "training, from those of val: by the distance to the nearest generated image, "
        "or by the score of the discriminator. 0.5 is chance, 1 always right. The "
        "reference is the distance to half A; for the discriminator it is chance.",
    ),
    "membership_found": Meaning(
        "membership, found",
        "Share of half B that such an attacker finds while at most 1 % of val is "
        "mistaken for training images.",
    ),
    "auroc": Meaning(
        "AUROC, trained on them",
        "AUROC on val of classifiers trained on generated images only; the reference "
        "was trained on equally many real images. 1 is perfect, 0.5 is chance. `frame "
        "only` shows the outer 4 of 64 px, which contain no lung; `centre only` hides "
        "the outer 8 px.",
    ),
    "auroc_after": Meaning(
        "AUROC, pretrained",
        "AUROC on val of classifiers trained on generated images, then on few real "
        "images; the reference was trained on these real images only, for as many "
        "steps.",
    ),
    "auroc_few": Meaning(
        "AUROC, added to few",
        "AUROC on val of classifiers trained on generated images added to the few real "
        "images of a class; the reference is the best method without generated images.",
    ),
}
SUMMARY_METRICS = (  # in the short table
    *("fid", "kid", "precision", "recall", "coverage", "label_accuracy", "power"),
    *("alternation", "kid_in_classes", "auroc", "auroc_after", "auroc_few"),
    *("ms_ssim", "repeated", "below_first_percentile", "exact_copies", "near_copies"),
    *("membership_auroc", "membership_found"),
)
DETAIL_SETS = ("generated~A", "generated~val")  # sets shown in the full table only


def metric_name(metric: str) -> str:
    """Display name of a metric."""
    return MEANINGS[metric].name if metric in MEANINGS else metric


def format_number(value: float) -> str:
    """A number with about three significant digits."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.4f}".rstrip("0") if abs(value) >= 1e-3 else f"{value:.1e}"


def format_estimate(row: dict[str, Any]) -> str:
    """A value with its interval, such as "0.5 [0.4, 0.6]"."""
    interval = f"[{format_number(row['low'])}, {format_number(row['high'])}]"
    return f"{format_number(row['value'])} {interval}"


def headline(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the short table.

    These are the `SUMMARY_METRICS` of all classes pooled, and of each class MS-SSIM,
    the finest octave and pixel patterns; without comparisons with half A and val.
    """
    rows = [row for row in report["metrics"] if row["sets"] not in DETAIL_SETS]
    octaves = [row["space"] for row in rows if row["metric"] == "power"]
    return [
        row
        for row in rows
        if row["metric"] in SUMMARY_METRICS
        and (
            row["group"] == report["pooled"]
            or row["metric"] in ("ms_ssim", "alternation")
            or (row["metric"] == "power" and row["space"] == octaves[-1])
        )
    ]


def metric_table(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A header and one line for each row of a report, as cells of a table."""
    head = ("metric", "space", "class", "n", "generated", "real reference")
    return [head] + [
        (
            *(metric_name(row["metric"]), row["space"], row["group"], str(row["n"])),
            *(format_estimate(row), format_estimate(row["reference"])),
        )
        for row in rows
    ]


def summary(report: dict[str, Any]) -> str:
    """Notes, the short table, pairs and the utility test, as text for a terminal."""
    lines = [f"note: {note}" for note in report["notes"]]
    lines += align_columns(metric_table(headline(report)))
    if "pairs" in report:
        lines.append(
            f"pairs of one latent under two classes, n {report['pairs']['latents']}:"
        )
        lines += [f"  {line}" for line in align_columns(pair_table(report["pairs"]))]
    if "utility" not in report:
        return "\n".join(lines)
    utility = report["utility"]
    for comparison in utility["comparisons"]:
        lines.append(
            f"{comparison['question']}, {comparison['view']}, "
            f"{utility['seeds']} seeds, {utility['images_of_val']} images of val:"
        )
        lines += [f"  {line}" for line in align_columns(variant_rows(comparison))]
    return "\n".join(lines)


def pair_table(pairs: dict[str, Any]) -> list[tuple[str, ...]]:
    """A header and one line for each row of the pairs, as cells of a table."""
    head = ("metric", "classes", "pairs", "random, one class", "least", "by chance")
    return [head] + [
        (
            *(row["metric"], row["classes"], format_estimate(row)),
            *(
                "" if row[key] is None else format_number(row[key])
                for key in ("random", "least", "chance")
            ),
        )
        for row in pairs["rows"]
    ]


def variant_rows(comparison: dict[str, Any]) -> list[tuple[str, ...]]:
    """A header and one line for each variant, as cells of a table.

    The columns are the variant, images of each class, AUROC, difference from the
    baseline, and the result in words.
    """
    head = ("trained on", "images", "AUROC", f"minus {comparison['baseline']}")
    rows: list[tuple[str, ...]] = [(*head, "result")]
    for variant in comparison["variants"]:
        counts = ", ".join(f"{n} {name}" for name, n in variant["counts"].items())
        difference = variant.get("difference")
        rows.append(
            (
                *(variant["variant"], counts, format_estimate(variant["auroc"])),
                *(format_estimate(difference) if difference else "0", variant["words"]),
            )
        )
    return rows


def align_columns(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of text in which the cells of each column start at the same position."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]
