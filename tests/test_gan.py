import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
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


@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_descends_as_adam_does_whatever_it_keeps(beta1):
    """Without a first moment to remember none is kept; the steps are Adam's."""
    rules = load_config("acgan").optimizer_d
    rules.learning_rate, rules.beta1 = 0.12, beta1
    ours, adam = gan.optimizer(rules), optax.adam(0.12, b1=beta1, b2=rules.beta2)
    params = {"bias": jnp.ones(64)}
    memory, of_adam = ours.init(params), adam.init(params)
    numbers = [x.size for x in jax.tree.leaves(memory) if x.ndim]
    assert numbers == ([64] if beta1 == 0 else [64, 64])
    for i in range(3):
        slope = {"bias": jax.random.normal(jax.random.key(i), (64,)) * 10.0**-i}
        updates, memory = ours.update(slope, memory, params)
        expected, of_adam = adam.update(slope, of_adam, params)
        np.testing.assert_allclose(updates["bias"], expected["bias"], rtol=1e-5)
