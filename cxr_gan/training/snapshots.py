"""Sample grids and validation of a run's averaged generator."""

import functools
from typing import Any

import numpy as np
from PIL import Image

from cxr_gan.models.pixel_range import to_uint8
from cxr_gan.sampling import sampler
from cxr_gan.storage import files, image_grid
from cxr_gan.training import metric_writer, validation
from cxr_gan.training.experiment import Run

GRID_COLUMNS = 8
GRID_ROWS = 2  # of each class


class Validator:
    """Compares the averaged generator with val; prepares val on first use."""

    def __init__(self, run: Run):
        self._run = run

    @functools.cached_property
    def _reference(self) -> validation.Reference | None:
        config = self._run.config
        return validation.make_reference(self._run.dataset, config.samples_per_class)

    def metrics(self, ema: Any) -> metric_writer.Metrics:
        """`validation.validation_metrics`, from the same latents each time.

        Empty where val has too few images.
        """
        if self._reference is None:
            return {}
        images, labels = _sample(self._run, ema, validation.IMAGES_PER_CLASS)
        return validation.validation_metrics(self._reference, images, labels)


def _sample(run: Run, ema: Any, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, s, s, 1] of each class in turn, and their labels int [n].

    The latents are the same each time.
    """
    params = sampler.GeneratorParams(ema, run.generator_config)
    labels = np.repeat(np.arange(len(params.class_names)), per_class)
    return to_uint8(sampler.sample(params, labels, run.config.seed)), labels


def save_sample_grid(run: Run, ema: Any, step: int) -> None:
    """Writes grids/STEP.png, from the same latents at every step.

    Raises:
        files.DiskError: it cannot be written.
    """
    folder = run.folder / "grids"
    with files.translate_os_errors(folder):
        folder.mkdir(exist_ok=True)
    images, labels = _sample(run, ema, GRID_ROWS * GRID_COLUMNS)
    rows = images.reshape(-1, GRID_COLUMNS, *images.shape[1:])
    names = [run.dataset.class_names[label] for label in labels[::GRID_COLUMNS]]
    grid = image_grid.make_grid(rows, names)
    with files.atomic_write(folder / f"{step:08d}.png") as partial:
        Image.fromarray(grid).save(partial, format="PNG")
