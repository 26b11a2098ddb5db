"""Writes generated images, each marked as synthetic, as a data set with its card.

    python -m cxr_gan.generate --model=runs/acgan --label=PNEUMONIA --num=64 --out=DIR

DIR/images has a folder for each class, with PNG or DICOM files and nothing else;
--format=npz writes DIR/images.npz instead. Beside them are labels.csv, grid.png,
generation.json, README.md and croissant.json. The same model and flags write the same
bytes on the same kind of machine.
"""

import csv
import math
import pathlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tqdm
from absl import flags

from cxr_gan.data.formats.dicom import secondary_capture
from cxr_gan.evaluation.report import dataset_card
from cxr_gan.models import pixel_range
from cxr_gan.runtime import cli, multihost
from cxr_gan.runtime.signals import StopSignals
from cxr_gan.sampling import arguments, generation, image_files, sampler
from cxr_gan.sampling.generation import Generation
from cxr_gan.sampling.image_files import (
    FOLDER,
    LABELS,
    ImageFiles,
    NpzArchive,
    PngFiles,
)
from cxr_gan.storage import files
from cxr_gan.storage.image_grid import FirstImages
from cxr_gan.version import __version__


class DicomFiles:
    """A DICOM Secondary Capture for each image, in a folder for each class."""

    complete_at_once = True

    def __init__(self, job: Generation, out: pathlib.Path, bits: int) -> None:
        secondary_capture.require_pydicom()
        self._job, self._out, self._bits = job, out, bits

    def file(self, index: int) -> str:
        """images/NORMAL/NORMAL_00000.dcm."""
        return f"{FOLDER}/{self._job.file(index, '.dcm')}"

    def save(self, index: int, image: np.ndarray) -> None:
        """Writes an image; see `ImageFiles.save`."""
        to_pixels = pixel_range.to_uint8 if self._bits == 8 else pixel_range.to_uint16
        origin = secondary_capture.Origin(
            description=f"Synthetic chest radiograph. {generation.NOTE}",
            model_hash=self._job.model_hash,
            seed=self._job.seed,
            truncation=self._job.truncation,
            label=self._job.class_name(index),
            index=index,
        )
        path = files.with_parents(self._out / self.file(index))
        secondary_capture.save(path, to_pixels(image), origin)

    def finish(self) -> None:
        """Nothing is left to write."""


# --format -> writer of (job, output folder, bits). To add a format, add one entry.
FORMATS: dict[str, Callable[[Generation, pathlib.Path, int], ImageFiles]] = {
    "png": lambda job, out, _: PngFiles(job, out),
    "npz": lambda job, out, _: NpzArchive(job, out),
    "dicom": DicomFiles,
}


@cli.command(example="--model=runs/acgan")
def main(values: flags.FlagValues) -> int:
    """Checks the flags and writes the files. Returns the exit code."""
    out = cli.new_output_folder(values.out)
    if values.bits == "16" and values.format != "dicom":
        raise ValueError(
            f"--bits=16 with --format={values.format}: only DICOM files have 16 bits; "
            "add --format=dicom, or leave out --bits"
        )
    params, meta = sampler.load_with_meta(values.model)
    labels = generation.make_labels(values.label, values.num, params.class_names)
    model_hash = sampler.fingerprint(params)
    job = Generation(params, model_hash, labels, values.seed, values.truncation)
    writer = FORMATS[values.format](job, out, int(values.bits))
    with files.translate_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    written = write_images(job, writer, out)
    record = make_record(job, written, values, meta)
    if written:
        image_files.write_metadata(job, writer, written, out)
        dataset_card.write(record, meta, out)
    files.write_text(out / "generation.json", dataset_card.as_json(record))
    if written < values.num:
        print(f"stopped after {written} of {values.num} images; see {out}/{LABELS}")
        return cli.STOPPED
    print(f"wrote {written} images, {LABELS}, grid.png, generation.json to {out}")
    return 0


def write_images(job: Generation, writer: ImageFiles, out: pathlib.Path) -> int:
    """Writes the images, one row of labels.csv after each, and the grid at the end.

    After Ctrl-C or SIGTERM the current image is completed and no other is begun, so
    labels.csv lists exactly the images in the folder. The images of an .npz are
    complete, and listed, only at the end.

    Returns:
        The number of images written.

    Raises:
        files.DiskError: names the file that cannot be written, and how many were.
    """
    listing = out / LABELS
    first = FirstImages(len(np.unique(job.labels)), job.params.config.resolution)
    written = 0
    try:
        with (
            files.translate_os_errors(listing),
            listing.open("w", newline="", encoding="utf-8") as file,
            tqdm.tqdm(total=len(job.labels), unit="img", disable=None) as bar,
            StopSignals() as signals,
        ):
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("file", "label", "class_name", "index", "seed"))
            for index, image in enumerate(generation.sample_images(job)):
                if signals.requested:
                    break
                writer.save(index, image)
                written += 1
                if writer.complete_at_once:
                    table.writerow(label_row(job, writer, index))
                    file.flush()
                first.add(pixel_range.to_uint8(image), int(job.labels[index]))
                bar.update()
            writer.finish()
            if not writer.complete_at_once:
                table.writerows(label_row(job, writer, i) for i in range(written))
    except files.DiskError as error:
        listed = written if writer.complete_at_once else 0
        raise files.DiskError(
            f"{error}, then generate into another --out; the {listed} images before "
            f"it are complete and listed in {listing}"
        ) from error
    if written:
        names = job.params.class_names
        present = [names[label] for label in np.unique(job.labels[:written])]
        origin = job.origin(", ".join(present))
        image_files.save_png(out / "grid.png", first.grid(names), origin)
    return written


def label_row(job: Generation, writer: ImageFiles, index: int) -> tuple[object, ...]:
    """The row of labels.csv of an image."""
    name = job.class_name(index)
    return writer.file(index), job.labels[index], name, index, job.seed


def make_record(
    job: Generation, written: int, values: flags.FlagValues, model: dict[str, Any]
) -> dict[str, Any]:
    """The content of generation.json: what reproduces these images.

    Args:
        job: the checked request.
        written: number of images written.
        values: the flags.
        model: metadata of `sampler.load_with_meta`.
    """
    names = job.params.class_names
    counts = Counter(job.labels[:written].tolist())
    return {
        "synthetic": True,
        "note": generation.NOTE,
        "model": files.last_name(values.model),
        "model_hash": job.model_hash,
        "step": model["step"],
        "kimg": model["kimg"],
        "dataset": model["dataset"]
        | {"name": files.last_name(model["dataset"]["name"])},
        "label": values.label,
        "seed": job.seed,
        "truncation": job.truncation,
        "format": values.format,
        "bits": int(values.bits),
        "resolution": job.params.config.resolution,
        "class_names": names,
        "num": len(job.labels),
        "written": written,
        "counts": {name: counts[label] for label, name in enumerate(names)},
        "software": {"cxr_gan": __version__, "jax": jax.__version__},
        "backend": jax.default_backend(),
    }


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags; not at import, because other commands share flag names."""
    own: dict[str, Any] = {"flag_values": values}
    last = arguments.UINT32_RANGE - 1
    flags.DEFINE_string(
        "model", None, "Workdir of a training run, or a published model.", **own
    )
    all_classes = generation.ALL
    flags.DEFINE_string(
        "label",
        all_classes,
        f"Name of a class; {all_classes} for all classes in turn.",
        **own,
    )
    flags.DEFINE_integer("num", 64, "Number of images.", 1, last, **own)
    flags.DEFINE_integer("seed", 0, "Seed of the latents.", 0, last, **own)
    truncation = "Factor of the latents; below 1, images are more typical, less varied."
    flags.DEFINE_float("truncation", 1.0, truncation, 0.0, **own)
    flags.register_validator("truncation", math.isfinite, "must be finite", **own)
    flags.DEFINE_enum("format", "png", list(FORMATS), "Format of the images.", **own)
    bits = "Bits of a pixel; 16 are of DICOM only."
    flags.DEFINE_enum("bits", "8", ["8", "16"], bits, **own)
    flags.DEFINE_string("out", None, "New or empty folder to write to.", **own)
    flags.DEFINE_boolean("multihost", False, multihost.FLAG_HELP, **own)
    flags.mark_flags_as_required(["model", "out"], **own)


if __name__ == "__main__":
    cli.run(main, define_flags)
