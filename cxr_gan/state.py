"""All that changes in a run, as arrays."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from cxr_gan.gan import Gan, examples


class Player(struct.PyTreeNode):
    """One network in training: its weights and its own optimizer's memory."""

    params: optax.Params
    opt_state: optax.OptState


class TrainState(struct.PyTreeNode):
    """Both players, the averaged generator, and D's remembered lead."""

    step: jax.Array  # int32 []; rounds played
    discriminator: Player
    generator: Player
    ema: optax.Params  # running mean of the generator's params: what is sampled
    lead: jax.Array  # float32 []; see cxr_gan.balance


def create_state(gan: Gan, rng: jax.Array) -> TrainState:
    """Fresh players; the mean begins as a copy, for a donated buffer has one owner."""
    key_d, key_g = jax.random.split(rng)
    z, label, image = examples(gan)
    params_d = gan.discriminator.init(key_d, image)["params"]
    params_g = gan.generator.init(key_g, z, label)["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        discriminator=Player(params_d, gan.optimizer_d.init(params_d)),
        generator=Player(params_g, gan.optimizer_g.init(params_g)),
        ema=jax.tree.map(jnp.copy, params_g),
        lead=jnp.asarray(0.5 * (gan.balance.low + gan.balance.high), jnp.float32),
    )
