import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxr_gan.config import OptimizerConfig
from cxr_gan.training import gan


def test_updates_are_in_units_of_a_layers_initial_weights():
    """Adam's first update is the learning rate in every weight, for any gradient."""
    adam = gan.make_optimizer(OptimizerConfig(learning_rate=0.12, beta1=0, beta2=0.99))
    params = {"kernel": jnp.ones((3, 3, 4, 8)), "bias": jnp.ones(8)}
    grads = jax.tree.map(lambda x: 1e3 * x, params)
    updates, _ = adam.update(grads, adam.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.12 / 6, rtol=1e-5)  # fan-in 36
    np.testing.assert_allclose(updates["bias"], -0.12, rtol=1e-5)


@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_updates_equal_adam_with_and_without_a_first_moment(beta1):
    """With beta1 = 0 no first moment is stored; the updates are Adam's."""
    ours = gan.make_optimizer(OptimizerConfig(0.12, beta1, 0.99))
    adam = optax.adam(0.12, b1=beta1, b2=0.99)
    params = {"bias": jnp.ones(64)}
    state, adam_state = ours.init(params), adam.init(params)
    sizes = [x.size for x in jax.tree.leaves(state) if x.ndim]
    assert sizes == ([64] if beta1 == 0 else [64, 64])
    for i in range(3):
        grads = {"bias": jax.random.normal(jax.random.key(i), (64,)) * 10.0**-i}
        updates, state = ours.update(grads, state, params)
        expected, adam_state = adam.update(grads, adam_state, params)
        np.testing.assert_allclose(updates["bias"], expected["bias"], rtol=1e-5)
