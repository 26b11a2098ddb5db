"""The programs that `benchmarks.speed` compares with cxr_gan."""

import dataclasses
import importlib.util
from typing import Any


@dataclasses.dataclass(frozen=True)
class Entry:
    """A program of `benchmarks.speed`; runs in a process of its own."""

    module: str  # of this package; has build(settings, cores, **options)
    needs: str  # library the program is written in
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    checkout: str = ""  # absolute path of another checkout of cxr_gan, to run its code

    @property
    def installed(self) -> bool:
        """Whether its library is installed; does not import the library."""
        return importlib.util.find_spec(self.needs) is not None


OURS = "cxr_gan"
# To measure another program, add it here.
BASELINES = {
    OURS: Entry("ours", "jax"),
    "cxr_gan, bfloat16": Entry("ours", "jax", {"compute_dtype": "bfloat16"}),
    "PyTorch": Entry("torch_baseline", "torch", {"tuned": False}),
    "PyTorch, tuned": Entry("torch_baseline", "torch"),
    "PyTorch, compiled": Entry("torch_baseline", "torch", {"compiled": True}),
    "PyTorch, bfloat16": Entry("torch_baseline", "torch", {"bfloat16": True}),
    "Keras, tf.function": Entry("keras_baseline", "keras"),
}
