"""Arranges generated and real radiographs in a grid, for a reader to tell them apart.

    python -m cxr_gan.reader_study --model=runs/acgan --dataset=DATA --out=panel.png

panel.png shows 16 generated and 16 training images, with equally many of each class, in
random order; panel.csv lists which images are real.

HALF OF THE IMAGES ARE REAL PATIENTS: keep both files only where you may keep the data,
and do not publish them. Inside a git repository they are written only to paths that git
ignores; the .gitignore of this repository ignores `panel*.png` and `panel*.csv`.
"""

import csv
import pathlib
from typing import Any

import numpy as np
from absl import flags
from PIL import Image, PngImagePlugin

from cxr_gan.data import flags as data_flags
from cxr_gan.evaluation.image_sets import ImageGroup
from cxr_gan.evaluation.inputs import EvaluationInput, open_input
from cxr_gan.runtime import cli
from cxr_gan.sampling import pretrained
from cxr_gan.storage import files, git_repository
from cxr_gan.storage.image_grid import make_grid

COLUMNS, ROWS = 8, 4
NUM_GENERATED = COLUMNS * ROWS // 2  # as many real images are added
NOTE = "Half of these are radiographs of real patients: not to be published."


@cli.command(example="--model=runs/acgan")
def main(values: flags.FlagValues) -> int:
    """Checks the flags, samples images and writes both files. Returns the exit code."""
    out = files.require_local_path(values.out, "--out")
    key = out.with_suffix(".csv")
    if out.suffix != ".png":
        raise ValueError(f"--out={out}: give a file name that ends in .png")
    pretrained.require_new_paths(out, key)
    git_repository.require_ignored(out, key)
    options = data_flags.options(values)
    source = open_input(
        values.model, None, values.dataset, NUM_GENERATED, values.seed, options
    )
    images, rows = mix_with_real(source, values.seed)
    write_panel(out, images)
    with key.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("number", "real", "class_name", "image"))
        table.writerows(rows)
    print(f"wrote {out}; {key} lists which images are real. {NOTE}")
    return 0


def mix_with_real(
    source: EvaluationInput, seed: int
) -> tuple[np.ndarray, list[tuple[int, str, str, str]]]:
    """Adds as many training images of the same classes and shuffles all images.

    Args:
        source: n generated images and the data set.
        seed: selects the training images and the order.

    Returns:
        Images uint8 [2n, s, s, 1]; and for each image its number from 1 on, "yes" if it
        is real or "no", its class name, and its index in train of the data set or among
        the generated images. Ids of real images are names of files, which may name
        patients.

    Raises:
        ValueError: the data set has too few images of a class.
    """
    dataset, labels = source.dataset, source.labels
    train = ImageGroup.from_image_set(dataset.train)
    counts = np.bincount(labels, minlength=len(dataset.class_names))
    selected = np.concatenate(
        [train.select([label], n, seed) for label, n in enumerate(counts.tolist())]
    )
    entries = [
        ("no", dataset.class_names[label], str(index))
        for index, label in enumerate(labels)
    ]
    entries += [
        ("yes", dataset.class_names[train.labels[i]], str(i)) for i in selected.tolist()
    ]
    order = np.random.default_rng(seed).permutation(len(entries))
    shuffled = np.concatenate([source.images, train.images[selected]])[order]
    rows = [(number, *entries[i]) for number, i in enumerate(order.tolist(), 1)]
    return shuffled, rows


def write_panel(out: pathlib.Path, images: np.ndarray) -> None:
    """Writes uint8 [ROWS * COLUMNS, s, s, 1] as a PNG; row titles give the numbers."""
    first = range(1, len(images), COLUMNS)
    names = [f"{number} to {number + COLUMNS - 1}" for number in first]
    rows = images.reshape(-1, COLUMNS, *images.shape[1:])
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("Description", NOTE)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_grid(rows, names)).save(out, pnginfo=metadata)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags; not at import, because other commands share flag names."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", None, "Model, as for cxr_gan.generate.", **own)
    flags.DEFINE_string("dataset", None, "Data set the model was trained on.", **own)
    flags.DEFINE_string(
        "out", None, f"PNG to write; a .csv is written beside it. {NOTE}", **own
    )
    flags.DEFINE_integer(
        "seed", 0, "Seed of the images and their order.", 0, 2**32 - 1, **own
    )
    data_flags.define(values)
    flags.mark_flags_as_required(["model", "dataset", "out"], **own)


if __name__ == "__main__":
    cli.run(main, define_flags)
