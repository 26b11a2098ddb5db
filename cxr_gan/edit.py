r"""Generates each latent under each class, or projects real images into latents.

    python -m cxr_gan.edit pairs --model=pediatric64 --num=64 --out=pairs
    python -m cxr_gan.edit project --model=pediatric64 --images=FOLDER --out=projected

`pairs` writes images/CLASS/*.png, as cxr_gan.generate does for each class with the same
seed; differences/CLASS/*.png, each class minus the first one, in which mid-grey is no
change; pairs.csv, grid.png and pairs.json.

`project` searches, for each image, for the latent whose generated image under its class
is nearest. FOLDER has a folder for each class; with --label, all images below it are of
that class. Images are numbered in the order of their paths. It writes panels/NUMBER.png
(the image, its projection, the difference, and the same latent under each class),
projections.csv, latents.npz, grid.png and projection.json. THE PANELS AND THE GRID SHOW
REAL PATIENTS, and the model generates images like theirs from the latents: keep all of
them only where you may keep the images.

After Ctrl-C, what is finished is kept.
"""

import csv
import functools
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tqdm
from absl import flags

from cxr_gan.data import class_folders
from cxr_gan.runtime import cli
from cxr_gan.runtime.signals import StopSignals
from cxr_gan.sampling import (
    arguments,
    generation,
    image_files,
    pair_files,
    projection,
    projection_files,
    sampler,
)
from cxr_gan.sampling.generation import Generation
from cxr_gan.sampling.sampler import GeneratorParams
from cxr_gan.storage import files, git_repository
from cxr_gan.version import __version__

COLUMNS = 8  # of grid.png
BATCH_ROWS = 1024  # pixel rows projected at the same time: 16 images of 64 px


@cli.command(example="--model=pediatric64")
def pairs(values: flags.FlagValues) -> int:
    """Writes images of all classes for the same latents. Returns the exit code."""
    out = cli.new_output_folder(values.out)
    params, _ = sampler.load_with_meta(values.model)
    names, model_hash = params.class_names, sampler.fingerprint(params)
    if len(names) < 2:
        raise ValueError(
            f"--model={values.model} has one class, {names[0]}; give a model of two or "
            "more"
        )
    jobs = [
        Generation(
            params,
            model_hash,
            np.full(values.num, label, np.int32),
            values.seed,
            values.truncation,
        )
        for label in range(len(names))
    ]
    with files.translate_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    changes: list[tuple[float, float]] = []
    first: list[np.ndarray] = []
    written = 0
    listing = out / "pairs.csv"
    with (
        files.translate_os_errors(listing),
        listing.open("w", newline="", encoding="utf-8") as file,
        tqdm.tqdm(total=values.num, unit="pair", disable=None) as bar,
        StopSignals() as signals,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(pair_files.Row._fields)
        for index, images in enumerate(pair_files.class_images(jobs)):
            if signals.requested:
                break
            rows = pair_files.write(out, jobs, index, images)
            table.writerows(rows)
            file.flush()
            written += 1
            changes += [(row.frame, row.centre) for row in rows if row.difference]
            first += [images] if index < COLUMNS else []
            bar.update()
    record: dict[str, Any] = {"synthetic": True, "note": generation.NOTE}
    record |= {"truncation": values.truncation, "pairs": written}
    if written:
        grid = pair_files.grid(np.stack(first), names)
        image_files.save_png(out / "grid.png", grid, jobs[0].origin(", ".join(names)))
        frame, centre = np.mean(changes, 0).tolist()
        record["mean_change"] = {"frame": frame, "centre": centre}
    write_record(out / "pairs.json", params, values, record)
    if written < values.num:
        print(f"stopped after {written} of {values.num} pairs; see {listing}")
        return cli.STOPPED
    print(
        f"wrote {written} pairs to {out}; mean absolute change from {names[0]} to the "
        f"other classes: {frame:.3f} in the frame, {centre:.3f} in the centre (pixels "
        "in [0, 1])"
    )
    return 0


@cli.command(example="--model=pediatric64")
def project(values: flags.FlagValues) -> int:
    """Projects real images into the latents of a model. Returns the exit code."""
    out = cli.new_output_folder(values.out)
    git_repository.require_ignored(*projection_files.real_paths(out))
    params, _ = sampler.load_with_meta(values.model)
    names, size = params.class_names, params.config.resolution
    label = arguments.label_index(values.label, names) if values.label else None
    read = class_folders.read(values.images, size, names, label)
    for note in read.notes:
        print(f"note: {note}")
    with files.translate_os_errors(out):
        (out / projection_files.PANELS).mkdir(parents=True, exist_ok=True)
    parts = []
    for part in project_batches(params, read, values):
        parts.append(part)
        found = projection.Projection(*map(np.concatenate, zip(*parts, strict=True)))
        sets = (read.images, read.labels, found)
        projection_files.write(out, params, *sets, new=len(part.latents))
    done = sum(len(part.latents) for part in parts)
    record = {"note": projection_files.NOTE, "steps": values.steps}
    record |= {"images": len(read.labels), "projected": done}
    write_record(out / "projection.json", params, values, record)
    if done < len(read.labels):
        print(f"stopped after {done} of {len(read.labels)} images; see {out}")
        return cli.STOPPED
    print(
        f"projected {done} images to {out}; mean absolute difference "
        f"{found.error.mean():.3f} (pixels in [0, 1]). {projection_files.NOTE}"
    )
    return 0


class Stopped(Exception):
    """Raised after Ctrl-C, SIGTERM or SIGHUP; the unfinished batch is discarded."""


def project_batches(
    params: GeneratorParams,
    read: class_folders.ClassImages,
    values: flags.FlagValues,
) -> Iterator[projection.Projection]:
    """Yields the projections of each batch, until Ctrl-C, SIGTERM or SIGHUP."""
    count = len(read.labels)
    size = min(count, max(1, BATCH_ROWS // params.config.resolution))
    with (
        tqdm.tqdm(total=values.steps * count, unit="step", disable=None) as bar,
        StopSignals() as signals,
    ):
        start = projection.nearest_candidates(
            params, read.images, read.labels, values.seed
        )

        def on_step(images: int) -> None:
            bar.update(images)
            if signals.requested:
                raise Stopped

        for first in range(0, count, size):
            chosen = np.arange(first, min(first + size, count))
            # The last batch is padded by repetition, so that one shape is compiled.
            rows = np.resize(chosen, size)
            try:
                found = projection.project(
                    params,
                    read.images[rows],
                    read.labels[rows],
                    start[rows],
                    steps=values.steps,
                    on_step=functools.partial(on_step, len(chosen)),
                )
            except Stopped:
                return
            yield projection.Projection(*(x[: len(chosen)] for x in found))


def write_record(
    path: pathlib.Path,
    params: GeneratorParams,
    values: flags.FlagValues,
    record: dict[str, Any],
) -> None:
    """Writes JSON: the record, the model, the seed and the version of the program."""
    record |= {
        "model": files.last_name(values.model),
        "model_hash": sampler.fingerprint(params),
        "class_names": params.class_names,
        "seed": values.seed,
        "software": {"cxr_gan": __version__},
    }
    files.write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def define_pair_flags(values: flags.FlagValues) -> None:
    """Defines the flags of `pairs`."""
    own: dict[str, Any] = {"flag_values": values}
    define_common_flags(values)
    last = arguments.UINT32_RANGE - 1
    flags.DEFINE_integer("num", 64, "Number of latents.", 1, last, **own)
    truncation = "Factor of the latents; below 1, images are more typical, less varied."
    flags.DEFINE_float("truncation", 1.0, truncation, 0.0, **own)
    flags.register_validator("truncation", math.isfinite, "must be finite", **own)


def define_project_flags(values: flags.FlagValues) -> None:
    """Defines the flags of `project`."""
    own: dict[str, Any] = {"flag_values": values}
    define_common_flags(values)
    flags.DEFINE_string("images", None, "Folder of real images.", **own)
    flags.DEFINE_string(
        "label", "", "Class of all images. Default: folders name the classes.", **own
    )
    flags.DEFINE_integer("steps", 200, "Steps of the search.", 1, **own)
    flags.mark_flag_as_required("images", **own)


def define_common_flags(values: flags.FlagValues) -> None:
    """Defines the flags of both."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", None, "Run or published model.", **own)
    flags.DEFINE_string("out", None, "New or empty folder to write to.", **own)
    last = arguments.UINT32_RANGE - 1
    flags.DEFINE_integer("seed", 0, "Seed of the latents.", 0, last, **own)
    flags.mark_flags_as_required(["model", "out"], **own)


# First argument -> main and flags. To add an action, add one entry.
ACTIONS = {
    "pairs": (pairs, define_pair_flags),
    "project": (project, define_project_flags),
}

if __name__ == "__main__":
    cli.run_action("edit", ACTIONS)
