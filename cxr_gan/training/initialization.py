"""Starts a run from trained networks: for other classes, or for larger images.

Blocks, heads and stems are named by the size of their images, so parameters keep their
names in networks of larger images.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from cxr_gan import config as configs
from cxr_gan.data.formats.manifest_labels import parse_map
from cxr_gan.models.registry import GeneratorConfig
from cxr_gan.sampling import sampler, trained_networks, training_images
from cxr_gan.sampling.training_images import Digests
from cxr_gan.training.gan import GanDefinition
from cxr_gan.training.train_state import TrainState, create_train_state

Flat = dict[str, np.ndarray]  # path such as "stem/bias" -> parameter
# Parameters with an entry for each class: path -> axis of the classes.
CLASS_AXES = {"Embed_0/embedding": 0, "pathology/kernel": 1, "pathology/bias": 0}


@dataclasses.dataclass(frozen=True, eq=False)
class Ancestor:
    """The trained networks that a run starts from; parameters are float32."""

    name: str  # as it was given
    generator: Any
    ema: Any  # the averaged generator
    discriminator: Any
    config: GeneratorConfig
    discriminator_settings: dict[str, Any]
    ancestors: tuple[str, ...]  # fingerprints, the oldest first, its own last
    training_images: Digests  # that it and its ancestors were trained on


def load(name: str) -> Ancestor:
    """Reads a published model with its training state, or a checkpoint of a run.

    Args:
        name: as in `cxr_gan.load`, such as "mine64.npz" or "runs/acgan@best".

    Raises:
        FileNotFoundError: there is no such model or run, or it has no training state
            or no digests of its training images.
        ValueError: a file is damaged, or was written by another version.
    """
    params, meta = sampler.load_with_meta(name)
    networks = trained_networks.load(name, meta)
    return Ancestor(
        name=name,
        generator=networks["generator"],
        ema=params.params,
        discriminator=networks["discriminator"],
        config=params.config,
        discriminator_settings=meta["config"]["discriminator"],
        ancestors=(*meta.get("ancestors", ()), sampler.fingerprint(params)),
        training_images=training_images.read(name),
    )


def check(ancestor: Ancestor, gan: GanDefinition, class_names: Sequence[str]) -> None:
    """Checks that a run can start from trained networks, before anything is compiled.

    Raises:
        ValueError: the networks have other sizes, their images are larger, or
            config.init_classes names a class that there is not; says what to type.
    """
    config = gan.config
    init = f"init={ancestor.name!r}"
    theirs, size = ancestor.config, ancestor.config.resolution
    if size > config.resolution:
        raise ValueError(
            f"{init} generates images of {size} px, which is more than "
            f"resolution={config.resolution}; type --config.resolution={size}"
        )
    base = theirs.base_resolution or (size if size < config.resolution else 0)
    pairs = {
        "base_resolution": (base, config.base_resolution),
        "latent_size": (theirs.latent_size, config.latent_size),
    }
    for key, value in dataclasses.asdict(config.generator).items():
        pairs[f"generator.{key}"] = getattr(theirs, key), value
    for key, value in dataclasses.asdict(config.discriminator).items():
        pairs[f"discriminator.{key}"] = ancestor.discriminator_settings[key], value
    other = [f"--config.{key}={x}" for key, (x, own) in pairs.items() if x != own]
    if other:
        raise ValueError(
            f"{init} has networks of another size than this configuration; type "
            f"{' '.join(other)}"
        )
    named = parse_map(config.init_classes, "init_classes")
    for new, old in named.items():
        for name, names in ((new, class_names), (old, theirs.class_names)):
            if name not in names:
                raise ValueError(
                    f"init_classes={config.init_classes!r}: {name!r} is not one of "
                    f"{', '.join(names)}; give NEW=OLD, a class of the data set and "
                    f"one of {ancestor.name!r}"
                )
    shapes = jax.eval_shape(lambda: create_train_state(gan, jax.random.key(0)))
    transfer(ancestor, config, class_names, shapes)


def describe(
    ancestor: Ancestor, config: configs.Config, class_names: Sequence[str]
) -> str:
    """One line: what a run starts from, and each class that is not matched by name."""
    of_class = parse_map(config.init_classes, "init_classes")
    known = ancestor.config.class_names
    listed = "".join(
        f"; class {name} from {of_class.get(name, 'the mean of all classes')}"
        for name in class_names
        if name in of_class or name not in known
    )
    return f"starts from the networks of {ancestor.name}{listed}"


def transfer(
    ancestor: Ancestor,
    config: configs.Config,
    class_names: Sequence[str],
    fresh: TrainState,
) -> TrainState:
    """The initial state of a run that starts from trained networks.

    Classes are matched by name. A new class starts from the class that
    config.init_classes names for it, or else from the mean of all classes. If the
    images are larger, the generator first upsamples the images of the trained one, and
    the discriminator first downsamples its input (see `Generator`, `Discriminator`).

    Args:
        ancestor: the trained networks.
        config: of the run.
        class_names: of the run.
        fresh: the state of a run that starts from random networks.

    Raises:
        ValueError: a parameter has another shape than in `fresh`, or is not in it.
    """
    of_class = parse_map(config.init_classes, "init_classes")
    weights = _class_weights(ancestor.config.class_names, class_names, of_class)

    def moved(params: Any, fresh: Any) -> Any:
        flat = traverse_util.flatten_dict(params, sep="/")
        return _replaced(
            fresh,
            {
                path: _reclassed(np.asarray(leaf), CLASS_AXES.get(path), weights)
                for path, leaf in flat.items()
            },
        )

    g, d = fresh.generator, fresh.discriminator
    return fresh.replace(
        generator=g.replace(params=moved(ancestor.generator, g.params)),
        discriminator=d.replace(params=moved(ancestor.discriminator, d.params)),
        ema=moved(ancestor.ema, fresh.ema),
    )


def _class_weights(
    old: Sequence[str], new: Sequence[str], of_class: dict[str, str]
) -> np.ndarray:
    """float32 [new, old]; each row sums to 1."""
    weights = np.full((len(new), len(old)), 1 / len(old), np.float32)
    for row, name in enumerate(new):
        source = of_class.get(name, name)
        if source in old:
            weights[row] = np.eye(len(old))[list(old).index(source)]
    return weights


def _reclassed(leaf: np.ndarray, axis: int | None, weights: np.ndarray) -> np.ndarray:
    if axis is None:
        return leaf
    moved = np.tensordot(weights, leaf, (1, axis))
    return np.moveaxis(moved, 0, axis).astype(leaf.dtype)


def _replaced(params: Any, moved: Flat) -> Any:
    """The parameters, those at the paths of `moved` replaced."""
    flat: Flat = traverse_util.flatten_dict(params, sep="/")
    shapes = {path: np.shape(leaf) for path, leaf in flat.items()}
    for path, leaf in moved.items():
        if shapes.get(path) != leaf.shape:
            raise ValueError(
                f"init: {path} has the shape {leaf.shape}, this run expects "
                f"{shapes.get(path)}; use the version of cxr_gan that trained it, or "
                "give another --config.init"
            )
    return traverse_util.unflatten_dict(flat | moved, "/")
