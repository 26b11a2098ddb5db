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
    of_several: bool = False  # cores: it only plays where there are some to leave idle
    cores: int | None = None  # that it uses of them; None: all

    def plays(self, resolution: int, cores: int) -> bool:
        """Whether it is of use among images of so many pixels a side, and cores."""
        several = cores > 1 or not self.of_several
        return self.only_at in (0, resolution) and several

    @property
    def installed(self) -> bool:
        """Whether its library is there; it is not imported to find out."""
        return importlib.util.find_spec(self.needs) is not None


OURS = "cxr_gan"
# To measure another program, add it here.
RIVALS = {
    OURS: Entry("ours", "jax"),
    "cxr_gan, bfloat16": Entry("ours", "jax", {"precision": "bfloat16"}),
    "cxr_gan, one core": Entry("ours", "jax", of_several=True, cores=1),
    "cxr_gan, one device": Entry("ours", "jax", {"devices": 1}, of_several=True),
    "PyTorch": Entry("torch_rival", "torch", {"tuned": False}),
    "PyTorch, tuned": Entry("torch_rival", "torch"),
    "PyTorch, compiled": Entry("torch_rival", "torch", {"compiled": True}),
    "PyTorch, bfloat16": Entry("torch_rival", "torch", {"bfloat16": True}),
    "Keras, tf.function": Entry("keras_rival", "keras"),
    "Keras, train_on_batch": Entry("stacked", "keras"),
    "public ACGAN": Entry("public_acgan", "keras", only_at=64),
}
