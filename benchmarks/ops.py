"""XLA's count of the operations of a training step."""

import contextlib
import functools
from collections.abc import Iterator
from unittest import mock

import jax
from ml_collections import ConfigDict

from benchmarks.baselines.published import CLASS_NAMES
from cxr_gan import config as configs
from cxr_gan.models.cpu import convolution, winograd
from cxr_gan.training import data_parallel
from cxr_gan.training.gan import GanDefinition, build_gan
from cxr_gan.training.train_state import TrainState, create_train_state


def shapes(config: ConfigDict) -> tuple[GanDefinition, TrainState]:
    """The GAN of a configuration, and the shapes of its training state."""
    gan = build_gan(configs.freeze(config), CLASS_NAMES)
    create = functools.partial(create_train_state, gan)
    return gan, jax.eval_shape(create, jax.random.key(0))


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Replaces the CPU kernels, so XLA counts the operations of plain convolutions.

    XLA counts the body of a loop once; within this context, weight gradients are
    computed without a loop, Winograd's algorithm is off, and channels are not padded.
    """
    with (
        mock.patch.object(winograd, "THRESHOLDS", {}),
        mock.patch.object(convolution, "FEW_CHANNELS", 0),
        mock.patch.object(
            convolution, "_weight_gradient_chunk_size", lambda x, _: len(x)
        ),
    ):
        yield


def cost(config: ConfigDict) -> dict[str, float]:
    """XLA's count of FLOPs and bytes of a compiled step, per image of the batch.

    XLA counts the more expensive side of a branch, so a step with R1 and a step without
    are counted separately.
    """
    counted = {}
    for weight in (config.loss.r1_weight, 0.0):
        changed = config.copy_and_resolve_references()
        changed.loss.r1_weight = weight
        gan, state = shapes(changed)
        with plain_convolutions():
            step = data_parallel.compile_step(gan, state, config.batch_size)
        counted[bool(weight)] = step.cost_analysis()
    interval = config.loss.r1_interval
    return {
        key: (counted[True][key] + (interval - 1) * counted[False][key])
        / (interval * config.batch_size)
        for key in ("flops", "bytes accessed")
    }
