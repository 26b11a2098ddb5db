"""The contestants of `benchmarks.speed`. Each is imported in a process of its own."""

import dataclasses
import importlib.util
from typing import Any


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a contestant's `build(rules, cores, **options)` is, and what it needs."""

    module: str  # of this package
    needs: str  # the library it is written in
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    only_at: int = 0  # pixels a side; 0: at any resolution

    def plays(self, resolution: int) -> bool:
        """Whether it can make images of so many pixels a side."""
        return self.only_at in (0, resolution)

    @property
    def installed(self) -> bool:
        """Whether its library is there; it is not imported to find out."""
        return importlib.util.find_spec(self.needs) is not None


OURS = "cxr_gan"
# To measure another program, add it here.
RIVALS = {
    OURS: Entry("ours", "jax"),
    "cxr_gan, bfloat16": Entry("ours", "jax", {"precision": "bfloat16"}),
    "PyTorch": Entry("torch_rival", "torch", {"tuned": False}),
    "PyTorch, tuned": Entry("torch_rival", "torch"),
    "PyTorch, compiled": Entry("torch_rival", "torch", {"compiled": True}),
    "PyTorch, bfloat16": Entry("torch_rival", "torch", {"bfloat16": True}),
    "Keras, tf.function": Entry("keras_rival", "keras"),
    "Keras, train_on_batch": Entry("stacked", "keras"),
    "public ACGAN": Entry("public_acgan", "keras", only_at=64),
}
