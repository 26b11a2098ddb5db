import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.models import backend


def test_what_is_written_out_is_unchanged_there_and_on_the_way_back():
    x = jnp.arange(6.0).reshape(2, 3)

    def cubes(x):
        return (backend.written(x) ** 3).sum()

    assert cubes(x) == (x**3).sum()
    np.testing.assert_array_equal(jax.grad(cubes)(x), 3 * x**2)
    twice = jax.vmap(jax.grad(lambda x: jax.grad(cubes)(x).sum()))(x)
    np.testing.assert_array_equal(twice, 6 * x)


@pytest.mark.parametrize(("name", "barriers"), [("cpu", 1), ("tpu", 0), ("gpu", 0)])
def test_only_cpus_are_told_to_write_out(monkeypatch, name, barriers):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    traced = str(jax.make_jaxpr(lambda x: backend.written(x))(jnp.ones(2)))
    assert traced.count("optimization_barrier") == barriers
