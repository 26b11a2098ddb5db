"""Pictures of projected images: they show patients, and name no file."""

import pathlib

import numpy as np
from PIL import Image, PngImagePlugin

from cxr_gan.models import pixel_range
from cxr_gan.sampling import class_pairs, sampler
from cxr_gan.sampling.sampler import GeneratorParams
from cxr_gan.storage import files

NOTE = "Shows radiographs of real patients: not to be published."
PANELS = "panels"  # folder


def file(number: int) -> str:
    """panels/00000.png."""
    return f"{PANELS}/{number:05}.png"


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
