"""The programs that `benchmarks.speed` and `benchmarks.train_baseline` run."""

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Program(NamedTuple):
    """A baseline that is trained on a data set."""

    # labels int32 [n] -> images uint8 [n, s, s]
    generate: Callable[[np.ndarray], np.ndarray]
    # images uint8 [n, s, s, 1], labels int32 [n]; None: nothing is trained
    train_step: Callable[[np.ndarray, np.ndarray], None] | None = None
    batch_size: int = 16


@dataclasses.dataclass(frozen=True)
class Entry:
    """A program of `benchmarks.speed`; runs in a process of its own."""

    module: str  # of this package; has build(settings, cores, **options)
    needs: str  # library the program is written in
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    only_resolution: int = 0  # the one supported number of pixels per side; 0: any
    multicore_only: bool = False  # of interest only if several cores are given
    cores: int | None = None  # number of the given cores it uses; None: all
    checkout: str = ""  # absolute path of another checkout of cxr_gan, to run its code

    def supports(self, resolution: int, cores: int) -> bool:
        """Whether to run it with images of `resolution` pixels per side, on `cores`."""
        enough_cores = cores > 1 or not self.multicore_only
        return self.only_resolution in (0, resolution) and enough_cores

    @property
    def installed(self) -> bool:
        """Whether its library is installed; does not import the library."""
        return importlib.util.find_spec(self.needs) is not None


OURS = "cxr_gan"
# To measure another program, add it here.
BASELINES = {
    OURS: Entry("ours", "jax"),
    "cxr_gan, bfloat16": Entry("ours", "jax", {"compute_dtype": "bfloat16"}),
    "cxr_gan, one core": Entry("ours", "jax", multicore_only=True, cores=1),
    "cxr_gan, one device": Entry("ours", "jax", {"devices": 1}, multicore_only=True),
    "PyTorch": Entry("torch_baseline", "torch", {"tuned": False}),
    "PyTorch, tuned": Entry("torch_baseline", "torch"),
    "PyTorch, compiled": Entry("torch_baseline", "torch", {"compiled": True}),
    "PyTorch, bfloat16": Entry("torch_baseline", "torch", {"bfloat16": True}),
    "Keras, tf.function": Entry("keras_baseline", "keras"),
    "Keras, train_on_batch": Entry("stacked", "keras"),
    "public ACGAN": Entry("public_acgan", "keras", only_resolution=64),
}
