"""The training state: all arrays that change during a run."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import optax
from flax import struct

from cxr_gan.training.gan import GanDefinition, dummy_inputs


class NetworkState(struct.PyTreeNode):
    """One network in training: its parameters and its own optimizer state."""

    params: optax.Params
    opt_state: optax.OptState


class TrainState(struct.PyTreeNode):
    """Both networks, the averaged generator, and the averaged score gap."""

    step: jax.Array  # int32 []; steps done
    discriminator: NetworkState
    generator: NetworkState
    ema: optax.Params  # exponential moving average of G's params; used for sampling
    score_gap: jax.Array  # float32 []; moving average, see gd_balance

    def to_items(self) -> dict[str, Any]:
        """What a checkpoint stores: {"state": all but the EMA, "ema": the EMA}."""
        return {"state": self.replace(ema=None), "ema": self.ema}

    @classmethod
    def from_items(cls, items: dict[str, Any]) -> Self:
        """The inverse of `to_items`."""
        state: Self = items["state"].replace(ema=items["ema"])
        return state


def create_train_state(gan: GanDefinition, rng: jax.Array) -> TrainState:
    """An initialised state; the EMA is a copy, so that buffers can be donated."""
    key_d, key_g = jax.random.split(rng)
    z, label, image = dummy_inputs(gan)
    params_d = gan.discriminator.init(key_d, image)["params"]
    params_g = gan.generator.init(key_g, z, label)["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        discriminator=NetworkState(params_d, gan.optimizer_d.init(params_d)),
        generator=NetworkState(params_g, gan.optimizer_g.init(params_g)),
        ema=jax.tree.map(jnp.copy, params_g),
        score_gap=jnp.asarray(
            0.5 * (gan.config.balance.low + gan.config.balance.high), jnp.float32
        ),
    )
