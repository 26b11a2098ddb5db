"""Conditional GANs for chest radiographs, normal and pneumonia, in JAX.

    params = cxr_gan.load("runs/acgan")
    images = cxr_gan.sample(params, labels, rng)  # float32 [n, s, s, 1] in [0, 1]
    z = cxr_gan.latents(params, n, rng)  # float32 [n, d]
    folder = cxr_gan.train("configs/quick.py", "runs/quick")

JAX and Flax are imported when one of the public names is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cxr_gan.version import __version__

if TYPE_CHECKING:
    from cxr_gan.sampling.sampler import (
        GeneratorParams,
        interpolate,
        latents,
        load,
        sample,
    )
    from cxr_gan.training.train import train

__all__ = [
    "GeneratorParams",
    "__version__",
    "interpolate",
    "latents",
    "load",
    "sample",
    "train",
]


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "training.train" if name == "train" else "sampling.sampler"
    return getattr(importlib.import_module(f"cxr_gan.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
