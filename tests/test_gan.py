import jax
import jax.numpy as jnp
import numpy as np
from tiny import load_config

from cxr_gan import gan


def test_steps_are_in_units_of_a_layers_initial_weights():
    """Adam's first step is the learning rate in every weight, whatever the slope."""
    rules = load_config("acgan").optimizer_d
    rules.learning_rate = 0.12
    adam = gan.optimizer(rules)
    params = {"kernel": jnp.ones((3, 3, 4, 8)), "bias": jnp.ones(8)}
    slope = jax.tree.map(lambda x: 1e3 * x, params)
    updates, _ = adam.update(slope, adam.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.12 / 6, rtol=1e-5)  # fan-in 36
    np.testing.assert_allclose(updates["bias"], -0.12, rtol=1e-5)
