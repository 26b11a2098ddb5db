"""Pictures of projected images: they show patients, and name no file."""

import pathlib

import numpy as np
from PIL import Image, PngImagePlugin

from cxr_gan.models import pixel_range
from cxr_gan.sampling import class_pairs, sampler
from cxr_gan.sampling.image_files import save_npz
from cxr_gan.sampling.projection import Projection
from cxr_gan.sampling.sampler import GeneratorParams
from cxr_gan.storage import files
from cxr_gan.storage.image_grid import make_grid

NOTE = "These files show radiographs of real patients: do not publish them."
PANELS, GRID, LATENTS = "panels", "grid.png", "latents.npz"  # in the output folder
COLUMNS = 8  # of grid.png


def real_paths(out: pathlib.Path) -> list[pathlib.Path]:
    """What shows patients, or generates images like theirs."""
    return [out / name for name in (PANELS, GRID, LATENTS)]


def file(number: int) -> str:
    """panels/00000.png."""
    return f"{PANELS}/{number:05}.png"


def write(
    out: pathlib.Path,
    params: GeneratorParams,
    images: np.ndarray,
    labels: np.ndarray,
    found: Projection,
    *,
    new: int,
) -> None:
    """Writes the panels of the newest projections, and the tables and grid of all.

    Args:
        out: folder that contains PANELS.
        params: return value of `sampler.load`.
        images: uint8 [n, s, s, 1].
        labels: int [n].
        found: the projections of the first images.
        new: number of the newest ones.

    Raises:
        files.DiskError: a file cannot be written.
    """
    names, done = params.class_names, len(found.latents)
    in_grid, newest = range(min(done, COLUMNS)), range(done - new, done)
    panels = {
        i: panel(params, images[i], labels[i], found.latents[i])
        for i in (*in_grid, *newest)
    }
    for i in newest:
        save(out / file(i), make_grid(panels[i][:, None], titles(names)))
    head = ("number", "class_name", "panel", "mean_absolute_difference")
    rows = (
        (i, names[labels[i]], file(i), f"{found.error[i]:.5f}") for i in range(done)
    )
    files.write_table(out / "projections.csv", [head, *rows])
    arrays = {"latents": found.latents, "labels": labels[:done]}
    with files.atomic_write(out / LATENTS) as unfinished:
        save_npz(unfinished, arrays | {"class_names": np.array(names)})
    strips = np.stack([panels[i] for i in in_grid], 1)
    save(out / GRID, make_grid(strips, titles(names)))


def panel(
    params: GeneratorParams, image: np.ndarray, label: int, z: np.ndarray
) -> np.ndarray:
    """An image, its projection, their difference, and the latent under each class.

    Args:
        params: return value of `sampler.load`.
        image: uint8 [s, s, 1].
        label: of the image.
        z: float32 [d], its latent.

    Returns:
        uint8 [3 + K, s, s, 1]; `titles` has the name of each.
    """
    classes = np.arange(len(params.class_names))
    latents = np.tile(z, (len(classes), 1))
    drawn = pixel_range.to_uint8(sampler.sample(params, classes, latents=latents))
    difference = class_pairs.difference_map(drawn[label], image)
    return np.concatenate([np.stack([image, drawn[label], difference]), drawn])


def titles(names: tuple[str, ...]) -> list[str]:
    """Names of the images of a panel, for these classes."""
    return ["image", "projection", "difference", *(f"as {name}" for name in names)]


def save(path: pathlib.Path, picture: np.ndarray) -> None:
    """Writes uint8 [h, w] as a PNG that is marked as showing patients.

    Raises:
        files.DiskError: the file cannot be written.
    """
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("Description", NOTE)
    with files.atomic_write(path) as unfinished:
        Image.fromarray(picture).save(unfinished, format="PNG", pnginfo=metadata)
