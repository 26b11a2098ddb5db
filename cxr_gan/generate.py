"""Writes images of a trained generator, each marked as synthetic, and their labels.

    python -m cxr_gan.generate --model=runs/acgan --label=PNEUMONIA --num=64 --out=DIR

DIR gets the PNGs, labels.csv, grid.png and generation.json. The same model, flags and
kind of machine write the same bytes.
"""

import contextlib
import csv
import dataclasses
import json
import math
import pathlib
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from absl import app, flags
from PIL import Image, PngImagePlugin

from cxr_gan import disk, hosts, images, request, sampling, terminal
from cxr_gan.grids import grid
from cxr_gan.version import __version__

ALL = "all"
COLUMNS = 8  # of the grid
ROWS = 8  # of the grid where one class is drawn; else one row a class
NOTE = (
    "Drawn by a generative model. It shows no patient and is not for clinical use: "
    "neither for diagnosis nor for teaching it."
)
STOPPED = 130  # exit code of a command ended by Ctrl-C


@dataclasses.dataclass(frozen=True)
class Order:
    """Who draws what, and where to."""

    params: sampling.GeneratorParams
    model_hash: str
    labels: np.ndarray  # int32 [num]; of each image
    seed: int
    truncation: float
    out: pathlib.Path

    def path(self, index: int) -> pathlib.Path:
        """DIR/NORMAL_00000.png: safe whatever the class is called."""
        name = re.sub(r"[^\w-]+", "_", self.class_name(index))
        digits = max(5, len(str(len(self.labels) - 1)))
        return self.out / f"{name}_{index:0{digits}}.png"

    def class_name(self, index: int) -> str:
        """Of an image."""
        return self.params.class_names[self.labels[index]]

    def save(self, image: np.ndarray, path: pathlib.Path, label: str) -> None:
        """uint8 [h, w] -> a PNG that says in itself what it is, wherever it goes."""
        marks = PngImagePlugin.PngInfo()
        marks.add_text("Synthetic", "true")
        marks.add_text("Description", f"Synthetic chest radiograph. {NOTE}")
        marks.add_text("Label", label)
        marks.add_text("Model", self.model_hash)
        marks.add_text("Seed", str(self.seed))
        marks.add_text("Truncation", str(self.truncation))
        marks.add_text("Software", f"cxr_gan {__version__}")
        with disk.whole(path) as unfinished:
            Image.fromarray(image).save(unfinished, format="PNG", pnginfo=marks)


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command: flags -> check -> write. Returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        out = terminal.empty_folder(values.out)
        params, meta = sampling.load_with_meta(values.model)
        labels = labels_of(values.label, values.num, params.class_names)
        model_hash = sampling.fingerprint(params)
        order = Order(params, model_hash, labels, values.seed, values.truncation, out)
        out.mkdir(parents=True, exist_ok=True)
        written = write(order)
        describe(order, written, {"path": values.model, **meta})
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if written < values.num:
        print(f"stopped after {written} of {values.num} images; see {out}/labels.csv")
        return STOPPED
    print(f"wrote {written} images, labels.csv, grid.png, generation.json to {out}")
    return 0


def labels_of(label: str, num: int, class_names: tuple[str, ...]) -> np.ndarray:
    """int32 [num]: the one class, or all in turn, so that counts differ by 1 at most.

    Raises:
        ValueError: no class has that name.
    """
    if label == ALL:
        return np.arange(num, dtype=np.int32) % len(class_names)
    return np.full(num, request.label_of(label, class_names), np.int32)


def write(order: Order) -> int:
    """Writes PNGs, and a row for each when it is whole; a grid at the end.

    Ctrl-C ends it after the image in hand, so labels.csv lists exactly what is there.

    Returns:
        How many images were written.

    Raises:
        disk.DiskError: naming the file that could not be written, and how many were.
    """
    written = 0
    listing = order.out / "labels.csv"
    try:
        with (
            disk.writing(listing),
            listing.open("w", newline="", encoding="utf-8") as file,
            tqdm.tqdm(total=len(order.labels), unit="img", disable=None) as bar,
            deferred_interrupt() as interrupted,
        ):
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("file", "label", "class_name", "index", "seed"))
            for index, image in enumerate(draw(order)):
                if interrupted:
                    break
                path, name = order.path(index), order.class_name(index)
                order.save(image, path, name)
                row = (path.name, order.labels[index], name, index, order.seed)
                table.writerow(row)
                file.flush()
                written += 1
                bar.update()
    except disk.DiskError as error:
        raise disk.DiskError(
            f"{error}, and draw again into another --out; the {written} images before "
            f"it are whole, and listed in {listing}"
        ) from error
    if written:
        draw_grid(order, written)
    return written


def draw(order: Order) -> Iterator[np.ndarray]:
    """Image after image, uint8 [s, s]; only those drawn at once are in memory."""
    size = sampling.at_once()
    for start in range(0, len(order.labels), size):
        labels = order.labels[start : start + size]
        asked = np.resize(labels, max(2, len(labels)))  # see `sample` of one alone
        batch = sampling.sample(
            order.params, asked, order.seed, start=start, truncation=order.truncation
        )
        yield from images.to_uint8(batch[: len(labels), ..., 0])


def draw_grid(order: Order, written: int) -> None:
    """grid.png: a row of the first images of each class, or several of a single one."""
    labels = order.labels[:written]
    classes = np.unique(labels)
    rows: list[np.ndarray] = []
    names: list[str] = []
    for label in classes:
        first = np.flatnonzero(labels == label)
        first = first[: COLUMNS * (ROWS if len(classes) == 1 else 1)]
        rows += [first[i : i + COLUMNS] for i in range(0, len(first), COLUMNS)]
        names += [order.class_name(first[0])] + [""] * (len(rows) - len(names) - 1)
    side = order.params.spec.resolution
    shape = (len(rows), max(map(len, rows)), side, side, 1)
    pictures = np.zeros(shape, np.uint8)
    for row, indices in enumerate(rows):
        for column, index in enumerate(indices):
            with Image.open(order.path(index)) as image:
                pictures[row, column, :, :, 0] = np.asarray(image)
    shown = ", ".join(order.params.class_names[label] for label in classes)
    order.save(grid(pictures, names), order.out / "grid.png", shown)


def describe(order: Order, written: int, model: dict[str, Any]) -> None:
    """generation.json: what made these images, and how to make them again."""
    names = order.params.class_names
    counts = Counter(order.labels[:written].tolist())
    content = {
        "synthetic": True,
        "note": NOTE,
        "model": model["path"],
        "model_hash": order.model_hash,
        "step": model["step"],
        "kimg": model["kimg"],
        "dataset": model["dataset"],
        "seed": order.seed,
        "truncation": order.truncation,
        "class_names": names,
        "num": len(order.labels),
        "written": written,
        "counts": {name: counts[label] for label, name in enumerate(names)},
        "software": {"cxr_gan": __version__, "jax": jax.__version__},
        "backend": jax.default_backend(),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with disk.whole(order.out / "generation.json") as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM only fills the list; the second acts as ever."""
    seen: list[int] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def remember(number: int, _: object) -> None:
        seen.append(number)
        restore()

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, remember) for number in signals}
    try:
        yield seen
    finally:
        restore()


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """In a function, since another command may call its flags the same."""
    own: dict[str, Any] = {"flag_values": values}
    last = request.WORDS - 1
    flags.DEFINE_string(
        "model", None, "Workdir of a training, or a published model.", **own
    )
    flags.DEFINE_string("label", ALL, "Name of a class, or all in turn.", **own)
    flags.DEFINE_integer("num", 64, "Images to draw.", 1, last, **own)
    flags.DEFINE_integer("seed", 0, "Of the noise behind the images.", 0, last, **own)
    less = "Factor of the noise: below 1 images are more typical and less varied."
    flags.DEFINE_float("truncation", 1.0, less, 0.0, **own)
    flags.register_validator("truncation", math.isfinite, "must be finite", **own)
    flags.DEFINE_string("out", None, "New folder to write to.", **own)
    flags.DEFINE_boolean("multihost", False, hosts.FLAG, **own)
    flags.mark_flags_as_required(["model", "out"], **own)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    app.call_after_init(terminal.hush)
    with hosts.ending():
        app.run(lambda argv: hosts.by_first(lambda: main(argv), flags.FLAGS.multihost))


if __name__ == "__main__":
    cli()
