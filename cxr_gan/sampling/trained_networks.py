"""The networks of a run or of a published model as they were trained, not averaged."""

from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np

from cxr_gan.models import pixel_range
from cxr_gan.models.registry import build_discriminator
from cxr_gan.sampling import pretrained


def load(name: str, meta: dict[str, Any]) -> dict[str, Any]:
    """{"generator": parameters, "discriminator": parameters}.

    With "training_images" for a published model.

    Args:
        name: as in `cxr_gan.load`, such as "mine64.npz" or "runs/acgan@best".
        meta: of `sampler.load_with_meta`.

    Raises:
        FileNotFoundError: there is no such model or run, or it has no training state.
        ValueError: a file is damaged, or was written by another version.
    """
    source = pretrained.resolve(name)
    if not isinstance(source, tuple):
        return pretrained.load_state(source, meta)
    from cxr_gan.storage import checkpoint  # Orbax is slow to import

    state, _ = checkpoint.load_item(source[0], "state", meta["step"])
    return {key: state[key]["params"] for key in ("generator", "discriminator")}


def open_discriminator(
    name: str, meta: dict[str, Any]
) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """The scores of the discriminator of a model, and its group size.

    The function maps uint8 [n, s, s, 1] to float32 [n]; n is a multiple of the group
    size, and classes are interleaved.

    Args:
        name: as in `load`.
        meta: as in `load`.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    config, classes = meta["config"], len(meta["generator"]["class_names"])
    group_size = classes * config["stddev_group_per_class"]
    params = load(name, meta)["discriminator"]
    module = build_discriminator(
        **config["discriminator"],
        resolution=config["resolution"],
        base_resolution=config["base_resolution"],
        num_classes=classes,
        group_size=group_size,
    )

    @jax.jit
    def score(images: jax.Array) -> jax.Array:
        x = pixel_range.from_uint8(images)
        output: Any = module.apply({"params": params}, x)
        return cast(jax.Array, output.score)

    def score_in_groups(images: np.ndarray) -> np.ndarray:
        parts = np.split(images, range(group_size, len(images), group_size))
        return np.concatenate([np.asarray(score(part)) for part in parts])

    return score_in_groups, group_size
