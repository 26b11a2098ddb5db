"""Looks at a run's averaged generator: grids of samples, and how near val it is."""

import functools
from typing import Any

import numpy as np
from PIL import Image

from cxr_gan import disk, grids, monitor, report, sampling
from cxr_gan.images import to_uint8
from cxr_gan.run import Run

GRID_COLUMNS = 8
GRID_ROWS = 2  # of each class


class Exam:
    """Looks how near the averaged generator is to val; fetches val when first asked."""

    def __init__(self, run: Run):
        self._run = run

    @functools.cached_property
    def _reference(self) -> monitor.Reference | None:
        return monitor.reference_of(self._run.dataset)

    def due(self, done: int, last: bool) -> bool:
        """Whether to look after this step: every evaluate_kimg, and at the end."""
        every = self._run.config.evaluate_kimg
        return bool(every) and (last or self._run.due(done, every))

    def figures(self, ema: Any) -> report.Figures:
        """`monitor.figures` of the same latents each time; none without enough val."""
        if self._reference is None:
            return {}
        params = sampling.GeneratorParams(params=ema, spec=self._run.spec)
        labels = np.repeat(np.arange(len(params.class_names)), monitor.PER_CLASS)
        images = sampling.sample(params, labels, self._run.config.seed)
        return monitor.figures(self._reference, to_uint8(images), labels)


def draw_grid(run: Run, ema: Any, done: int) -> None:
    """grids/DONE.png: the same latents at every kimg, so that the PNGs form a film.

    Raises:
        disk.DiskError: it cannot be written.
    """
    names = run.spec.class_names
    params = sampling.GeneratorParams(params=ema, spec=run.spec)
    labels = np.repeat(np.arange(len(names)), GRID_ROWS * GRID_COLUMNS)
    images = sampling.sample(params, labels, run.config.seed)
    folder = run.folder / "grids"
    with disk.writing(folder):
        folder.mkdir(exist_ok=True)
    rows = to_uint8(images).reshape(-1, GRID_COLUMNS, *images.shape[1:])
    grid = grids.grid(rows, [name for name in names for _ in range(GRID_ROWS)])
    with disk.whole(folder / f"{done:08d}.png") as unfinished:
        Image.fromarray(grid).save(unfinished, format="PNG")
