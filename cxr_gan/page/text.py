"""Figures as words: what each is called, what it says, and a short table of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Meaning(NamedTuple):
    """Of one metric."""

    name: str
    says: str  # unit, and which way is better


# A metric that is not here is shown by its key. To explain one, add it here.
MEANINGS = {
    "fid": Meaning(
        "FID",
        "Fréchet distance of two Gaussians; 0 is equal, lower is better. Larger for "
        "fewer images: compare with the floor only.",
    ),
    "kid": Meaning("KID", "Squared MMD, unbiased: 0 on average for equal sets."),
    "kid_in_classes": Meaning(
        "KID / classes",
        "KID over that between the real classes, or over what chance does where that "
        "is more: 0 is equal, 1 as far from real images as a class from another.",
    ),
    "precision": Meaning("precision", "Share of generated images among real ones."),
    "recall": Meaning("recall", "Share of real images among generated ones."),
    "density": Meaning("density", "How many real images are near a generated one."),
    "coverage": Meaning(
        "coverage", "Share of real images with a generated one near them."
    ),
    "spacing": Meaning(
        "spacing",
        "Median distance to the nearest image of the own set, over that of real ones: "
        "1 is as varied, towards 0 images repeat.",
    ),
    "power": Meaning(
        "power",
        "dB in an octave of spatial frequency (cycles/pixel), less that of real "
        "images: 0 is equal, -3 half, +3 twice as much; the finest is sharpness.",
    ),
    "label_fidelity": Meaning(
        "label fidelity",
        "Share of images whose class a judge taught on real ones gives back. Above "
        "that of real images: more typical than they, which is no praise.",
    ),
    "ms_ssim": Meaning(
        "MS-SSIM, less real",
        "Likeness of pairs within a class less that of real pairs: above 0 is less "
        "varied.",
    ),
    "repeated": Meaning("repeated", "Share of images that are another, to the bit."),
    "distance_ratio": Meaning(
        "distance to training",
        "Median distance to the nearest training image, over that of held-out images: "
        "1 is as new as they; below, nearer.",
    ),
    "below_first_percentile": Meaning(
        "share very near to training",
        "Nearer to a training image than 99 % of held-out images: 0.01 by chance.",
    ),
    "exact_copies": Meaning("exact copies", "Images equal to a training image."),
    "near_copies": Meaning(
        "near copies",
        "Images at less than a quarter of the distance that 99 % of held-out ones keep "
        "to training images.",
    ),
    "auroc": Meaning(
        "AUROC, trained on them",
        "How well classifiers trained on generated images alone tell val's classes "
        "apart, beside as many real ones: 1 always, 0.5 as by guessing. `frame only` "
        "shows the outer 4 of 64 px, where no lung is; `centre only` all but 8.",
    ),
    "auroc_few": Meaning(
        "AUROC, added to few",
        "The same with generated images added to few real ones of a class, beside the "
        "best that was found without them.",
    ),
    "factor_distance": Meaning(
        "factor",
        "How differently often the phantom's factors come: 0 is as often, 1 never. "
        "Each image is given the factors of its nearest phantom of B.",
    ),
}
SHORT = (  # of the table a terminal shows
    *("fid", "kid", "precision", "recall", "coverage", "label_fidelity", "power"),
    *("kid_in_classes", "auroc", "auroc_few"),
    *("ms_ssim", "repeated", "below_first_percentile", "exact_copies", "near_copies"),
)
OTHERS = ("generated~A", "generated~val")  # sets in the full table alone


def name_of(metric: str) -> str:
    """As it is called."""
    return MEANINGS[metric].name if metric in MEANINGS else metric


def number(value: float) -> str:
    """Digits that matter, about three of them."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.4f}".rstrip("0") if abs(value) >= 1e-3 else f"{value:.1e}"


def measured(row: dict[str, Any]) -> str:
    """A value and its interval."""
    ends = f"[{number(row['low'])}, {number(row['high'])}]"
    return f"{number(row['value'])} {ends}"


def headline(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that say most: against B, all classes together, or the finest octave."""
    rows = [row for row in report["figures"] if row["sets"] not in OTHERS]
    octaves = [row["space"] for row in rows if row["metric"] == "power"]
    return [
        row
        for row in rows
        if row["metric"] in SHORT
        and (
            row["group"] == report["pooled"]
            or row["metric"] == "ms_ssim"
            or (row["metric"] == "power" and row["space"] == octaves[-1])
        )
    ]


def beside_floor(row: dict[str, Any]) -> tuple[str, ...]:
    """A figure of a report -> name, space, group, n, it and its floor, as words."""
    return (
        name_of(row["metric"]),
        row["space"],
        row["group"],
        str(row["n"]),
        measured(row),
        measured(row["floor"]),
    )


def summary(report: dict[str, Any]) -> str:
    """The short table for a terminal, notes above it."""
    lines = [f"note: {note}" for note in report["notes"]]
    head = ("figure", "seen in", "of", "n", "generated", "real (floor)")
    lines += columns([head, *map(beside_floor, headline(report))])
    if "utility" in report:
        lines += use(report["utility"])
    return "\n".join(lines)


def use(utility: dict[str, Any]) -> list[str]:
    """What classifiers made of the images, arm by arm, whichever way it went."""
    lines = []
    for of in utility["comparisons"]:
        lines.append(
            f"{of['question']}, {of['view']}, {utility['seeds']} seeds, "
            f"{utility['images_of_val']} images of val:"
        )
        lines += columns([(f"  {arm[0]}", *arm[1:]) for arm in arms(of)])
    return lines


def arms(comparison: dict[str, Any]) -> list[tuple[str, ...]]:
    """A head and a row for each: name, images of each class, figures, words."""
    head = ("learnt from", "images", "AUROC", f"less {comparison['against']}", "")
    rows: list[tuple[str, ...]] = [head]
    for arm in comparison["arms"]:
        counts = ", ".join(f"{n} {name}" for name, n in arm["counts"].items())
        less = measured(arm["difference"]) if "difference" in arm else "0"
        rows.append((arm["arm"], counts, measured(arm["auroc"]), less, arm["words"]))
    return rows


def columns(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines in which the cells of each column begin at one place."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()
        for cells in table
    ]
