"""Writes generated images, each marked as synthetic, and their labels.

    python -m cxr_gan.generate --model=runs/acgan --label=PNEUMONIA --num=64 --out=DIR

It writes PNGs, labels.csv, grid.png and generation.json into DIR. The same model and
flags write the same bytes on the same kind of machine.
"""

import csv
import dataclasses
import json
import math
import pathlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import tqdm
from absl import flags
from PIL import Image, PngImagePlugin

from cxr_gan.models import pixel_range
from cxr_gan.runtime import cli, multihost
from cxr_gan.runtime.signals import StopSignals
from cxr_gan.sampling import arguments, sampler
from cxr_gan.storage import files
from cxr_gan.storage.image_grid import make_grid
from cxr_gan.version import __version__

ALL = "all"
COLUMNS = 8  # of the grid
ROWS = 8  # of the grid if all images are of one class; otherwise one row per class
NOTE = (
    "Drawn by a generative model. It shows no patient and is not for clinical use: "
    "neither for diagnosis nor for teaching it."
)


@dataclasses.dataclass(frozen=True)
class GenerationJob:
    """A checked request: the model, what to generate, and the output folder."""

    params: sampler.GeneratorParams
    model_hash: str
    labels: np.ndarray  # int32 [num], one per image
    seed: int
    truncation: float
    out: pathlib.Path

    def path(self, index: int) -> pathlib.Path:
        """DIR/NORMAL_00000.png; unsafe characters of the class name become "_"."""
        name = re.sub(r"[^\w-]+", "_", self.class_name(index))
        digits = max(5, len(str(len(self.labels) - 1)))
        return self.out / f"{name}_{index:0{digits}}.png"

    def class_name(self, index: int) -> str:
        """The class name of an image."""
        return self.params.class_names[self.labels[index]]

    def save(self, image: np.ndarray, path: pathlib.Path, label: str) -> None:
        """Writes uint8 [h, w] as a PNG whose metadata says how it was generated."""
        metadata = PngImagePlugin.PngInfo()
        metadata.add_text("Synthetic", "true")
        metadata.add_text("Description", f"Synthetic chest radiograph. {NOTE}")
        metadata.add_text("Label", label)
        metadata.add_text("Model", self.model_hash)
        metadata.add_text("Seed", str(self.seed))
        metadata.add_text("Truncation", str(self.truncation))
        metadata.add_text("Software", f"cxr_gan {__version__}")
        with files.atomic_write(path) as unfinished:
            Image.fromarray(image).save(unfinished, format="PNG", pnginfo=metadata)


@cli.command(example="--model=runs/acgan")
def main(values: flags.FlagValues) -> int:
    """Checks the flags and writes the files. Returns the exit code."""
    out = cli.new_output_folder(values.out)
    params, meta = sampler.load_with_meta(values.model)
    labels = make_labels(values.label, values.num, params.class_names)
    model_hash = sampler.fingerprint(params)
    job = GenerationJob(params, model_hash, labels, values.seed, values.truncation, out)
    out.mkdir(parents=True, exist_ok=True)
    written = write_images(job)
    write_metadata(job, written, {"path": values.model, **meta})
    if written < values.num:
        print(f"stopped after {written} of {values.num} images; see {out}/labels.csv")
        return cli.STOPPED
    print(f"wrote {written} images, labels.csv, grid.png, generation.json to {out}")
    return 0


def make_labels(label: str, num: int, class_names: tuple[str, ...]) -> np.ndarray:
    """The labels of all images; int32 [num].

    Args:
        label: a class name; or `ALL`, which takes the classes in turn, so that their
            counts differ by at most 1.
        num: number of images.
        class_names: index = label.

    Raises:
        ValueError: no class has this name.
    """
    if label == ALL:
        return np.arange(num, dtype=np.int32) % len(class_names)
    return np.full(num, arguments.label_index(label, class_names), np.int32)


def write_images(job: GenerationJob) -> int:
    """Writes the PNGs, one row of labels.csv after each, and the grid at the end.

    After Ctrl-C or SIGTERM the current image is completed and no other is begun, so
    labels.csv lists exactly the images in the folder.

    Returns:
        The number of images written.

    Raises:
        files.DiskError: names the file that cannot be written, and how many were.
    """
    written = 0
    listing = job.out / "labels.csv"
    try:
        with (
            files.translate_os_errors(listing),
            listing.open("w", newline="", encoding="utf-8") as file,
            tqdm.tqdm(total=len(job.labels), unit="img", disable=None) as bar,
            StopSignals() as signals,
        ):
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("file", "label", "class_name", "index", "seed"))
            for index, image in enumerate(sample_images(job)):
                if signals.requested:
                    break
                path, name = job.path(index), job.class_name(index)
                job.save(image, path, name)
                row = (path.name, job.labels[index], name, index, job.seed)
                table.writerow(row)
                file.flush()
                written += 1
                bar.update()
    except files.DiskError as error:
        raise files.DiskError(
            f"{error}, then generate into another --out; the {written} images before "
            f"it are complete and listed in {listing}"
        ) from error
    if written:
        save_grid(job, written)
    return written


def sample_images(job: GenerationJob) -> Iterator[np.ndarray]:
    """Yields the images in order, uint8 [s, s].

    At most `sampler.images_in_flight()` images are held in memory.
    """
    size = sampler.images_in_flight()
    for start in range(0, len(job.labels), size):
        labels = job.labels[start : start + size]
        # `sample` rounds a single image differently, so it never gets just one label.
        padded = np.resize(labels, max(2, len(labels)))
        batch = sampler.sample(
            job.params, padded, job.seed, start=start, truncation=job.truncation
        )
        yield from pixel_range.to_uint8(batch[: len(labels), ..., 0])


def save_grid(job: GenerationJob, written: int) -> None:
    """Writes grid.png: a row of the first images per class; `ROWS` for one class."""
    labels = job.labels[:written]
    classes = np.unique(labels)
    rows: list[np.ndarray] = []
    names: list[str] = []
    for label in classes:
        first = np.flatnonzero(labels == label)
        first = first[: COLUMNS * (ROWS if len(classes) == 1 else 1)]
        rows += [first[i : i + COLUMNS] for i in range(0, len(first), COLUMNS)]
        names += [job.class_name(first[0])] + [""] * (len(rows) - len(names) - 1)
    side = job.params.config.resolution
    shape = (len(rows), max(map(len, rows)), side, side, 1)
    images = np.zeros(shape, np.uint8)
    for row, indices in enumerate(rows):
        for column, index in enumerate(indices):
            with Image.open(job.path(index)) as image:
                images[row, column, :, :, 0] = np.asarray(image)
    label = ", ".join(job.params.class_names[label] for label in classes)
    job.save(make_grid(images, names), job.out / "grid.png", label)


def write_metadata(job: GenerationJob, written: int, model: dict[str, Any]) -> None:
    """Writes generation.json: the model and settings that reproduce these images.

    Args:
        job: the checked request.
        written: number of images written.
        model: metadata of `sampler.load_with_meta`, with "path" added.
    """
    names = job.params.class_names
    counts = Counter(job.labels[:written].tolist())
    content = {
        "synthetic": True,
        "note": NOTE,
        "model": model["path"],
        "model_hash": job.model_hash,
        "step": model["step"],
        "kimg": model["kimg"],
        "dataset": model["dataset"]
        | {"name": files.last_name(model["dataset"]["name"])},
        "seed": job.seed,
        "truncation": job.truncation,
        "class_names": names,
        "num": len(job.labels),
        "written": written,
        "counts": {name: counts[label] for label, name in enumerate(names)},
        "software": {"cxr_gan": __version__, "jax": jax.__version__},
        "backend": jax.default_backend(),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with files.atomic_write(job.out / "generation.json") as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags; not at import, because other commands share flag names."""
    own: dict[str, Any] = {"flag_values": values}
    last = arguments.UINT32_RANGE - 1
    flags.DEFINE_string(
        "model", None, "Workdir of a training run, or a published model.", **own
    )
    flags.DEFINE_string(
        "label", ALL, f"Name of a class; {ALL} for all classes in turn.", **own
    )
    flags.DEFINE_integer("num", 64, "Number of images.", 1, last, **own)
    flags.DEFINE_integer("seed", 0, "Seed of the latents.", 0, last, **own)
    truncation = "Factor of the latents; below 1, images are more typical, less varied."
    flags.DEFINE_float("truncation", 1.0, truncation, 0.0, **own)
    flags.register_validator("truncation", math.isfinite, "must be finite", **own)
    flags.DEFINE_string("out", None, "New or empty folder to write to.", **own)
    flags.DEFINE_boolean("multihost", False, multihost.FLAG_HELP, **own)
    flags.mark_flags_as_required(["model", "out"], **own)


if __name__ == "__main__":
    cli.run(main, define_flags)
