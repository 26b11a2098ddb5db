"""Lays generated and real radiographs side by side, for a reader to tell apart.

    python -m cxr_gan.panel --model=runs/acgan --dataset=DATA --out=panel.png

panel.png shows 16 generated and 16 training images, as many of each class, in random
order; panel.csv says which is which. HALF OF THE PICTURES ARE REAL PATIENTS: keep both
files where you may keep the data, and publish neither. In a git repository they are
written only where git ignores them, as it does `panel*.png` and `panel*.csv` here.
"""

import csv
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image, PngImagePlugin

from cxr_gan import data, shelf, terminal
from cxr_gan.evaluation.sides import Side
from cxr_gan.grids import grid
from cxr_gan.subject import labels_of, subject_of

COLUMNS, ROWS = 8, 4
EACH = COLUMNS * ROWS // 2  # generated images, and real ones
NOTE = "Half of these are radiographs of real patients: not to be published."


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command: flags -> check -> draw -> write. Returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        out = pathlib.Path(values.out)
        key = out.with_suffix(".csv")
        if out.suffix != ".png":
            raise ValueError(f"--out={out}: give a name that ends in .png")
        shelf.refuse_to_overwrite(out, key)
        refuse_to_be_committed(out, key)
        subject = subject_of(values.model, None, values.dataset, EACH, values.seed)
        size = subject.images.shape[1]
        dataset = data.load(values.dataset, size, split_seed=subject.split_seed)
        labels = labels_of(subject, dataset)
        images, rows = mix(subject.images, labels, dataset, values.seed)
        write(out, images)
        with key.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("number", "real", "class_name", "image"))
            table.writerows(rows)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {out}, and which is which to {key}. {NOTE}")
    return 0


def mix(
    images: np.ndarray, labels: np.ndarray, dataset: data.Dataset, seed: int
) -> tuple[np.ndarray, list[tuple[int, str, str, str]]]:
    """Joins as many training images of the same classes, and shuffles all.

    Args:
        images: generated, uint8 [n, s, s, 1].
        labels: int [n], of these.
        dataset: of s pixels.
        seed: of which training images, and of the order.

    Returns:
        uint8 [2n, s, s, 1], and of each its number from 1 on, "yes" where it is real,
        its class, and its name in the data set or its index among the generated.

    Raises:
        ValueError: the data set has too few images of a class.
    """
    train = Side.of_real(dataset.train)
    counts = np.bincount(labels, minlength=len(dataset.class_names))
    picked = np.concatenate(
        [train.pick([label], n, seed) for label, n in enumerate(counts.tolist())]
    )
    told = [
        ("no", dataset.class_names[label], str(index))
        for index, label in enumerate(labels)
    ]
    told += [
        ("yes", dataset.class_names[train.labels[i]], dataset.train.ids[i])
        for i in picked
    ]
    order = np.random.default_rng(seed).permutation(len(told))
    joined = np.concatenate([images, train.images[picked]])[order]
    rows = [(number, *told[i]) for number, i in enumerate(order.tolist(), 1)]
    return joined, rows


def write(out: pathlib.Path, images: np.ndarray) -> None:
    """uint8 [ROWS * COLUMNS, s, s, 1] -> PNG; rows are named by their numbers."""
    first = range(1, len(images), COLUMNS)
    names = [f"{number} to {number + COLUMNS - 1}" for number in first]
    rows = images.reshape(-1, COLUMNS, *images.shape[1:])
    marks = PngImagePlugin.PngInfo()
    marks.add_text("Description", NOTE)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid(rows, names)).save(out, pnginfo=marks)


def refuse_to_be_committed(*paths: pathlib.Path) -> None:
    """Makes sure that git would not take these files.

    Raises:
        ValueError: one would lie in a git repository that does not ignore it.
        OSError: there is a repository, and no git to ask.
    """
    for path in map(pathlib.Path.absolute, paths):
        above = [folder for folder in path.parents if (folder / ".git").exists()]
        if not above:
            continue
        words = ("git", "-C", above[0], "check-ignore", "--quiet", path)
        if subprocess.run(words, capture_output=True, check=False).returncode:
            raise ValueError(
                f"{path} shows or names real patients, and git in {above[0]} would "
                f"take it; add {path.name} to its .gitignore, or write elsewhere"
            )


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """In a function, since another command may call its flags the same."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", None, "As of cxr_gan.generate.", **own)
    flags.DEFINE_string("dataset", None, "What it was trained on.", **own)
    flags.DEFINE_string("out", None, f"PNG to write, .csv beside it. {NOTE}", **own)
    flags.DEFINE_integer("seed", 0, "Of images and order.", 0, 2**32 - 1, **own)
    flags.mark_flags_as_required(["model", "dataset", "out"], **own)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    app.call_after_init(terminal.hush)
    app.run(main)


if __name__ == "__main__":
    cli()
