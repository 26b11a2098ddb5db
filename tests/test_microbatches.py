import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.microbatches import in_parts

X = np.arange(12.0, dtype=np.float32).reshape(6, 2)
W = np.array([2.0, 3.0], np.float32)


def slope_and_each(x, tag):
    """The gradient of a mean over examples, and something said of each."""
    slope = jax.grad(lambda w: ((x @ w) ** 2).mean())(W)
    return {"slope": slope, "mean": x.mean(0)}, (x @ W + tag)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_parts_give_the_means_of_the_whole_and_each_example_in_its_place(count):
    tag = np.arange(6.0, dtype=np.float32) * 100
    means, each = in_parts(count, slope_and_each, X, tag)
    # d mean((x w)^2) / dw = 2 mean(x (x w)), by hand
    by_hand = (2 * X * (X @ W)[:, None]).mean(0)
    np.testing.assert_allclose(means["slope"], by_hand, rtol=1e-6)
    np.testing.assert_allclose(means["mean"], [5, 6], rtol=1e-6)
    np.testing.assert_allclose(each, X @ W + tag, rtol=1e-6)


def test_only_one_part_is_looked_at_at_a_time():
    seen = []

    def look(x):
        seen.append(x.shape)
        return jnp.zeros(()), x

    in_parts(3, look, X)
    assert set(seen) == {(2, 2)}
