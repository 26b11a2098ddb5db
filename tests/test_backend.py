import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.models import backend

EXTRA = "--xla_backend_extra_options"


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


@pytest.mark.parametrize(
    ("flags", "narrow"),
    [("fma avx avx2 bmi2", True), ("avx2 avx512f", False), ("asimd fp", False)],
)
def test_a_narrow_cpu_has_avx2_alone(tmp_path, monkeypatch, flags, narrow):
    told = tmp_path / "cpuinfo"
    told.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(backend, "CPU", told)
    assert backend.narrow.__wrapped__() is narrow


def test_of_a_system_that_does_not_tell_its_cpu_nothing_is_assumed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(backend, "CPU", tmp_path / "none")
    assert backend.narrow.__wrapped__() is False


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("name", ["cpu", "gpu", "tpu"])
def test_only_narrow_cpus_ask_something_of_the_compiler(monkeypatch, name, narrow):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    monkeypatch.setattr(backend, "narrow", lambda: narrow)
    assert bool(backend.compiler_options()) == (narrow and name == "cpu")


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("", f"{EXTRA}=xla_cpu_disable_loop_unrolling"),
        ("--a=1", f"--a=1 {EXTRA}=xla_cpu_disable_loop_unrolling"),
        (f"{EXTRA}=b", f"{EXTRA}=b"),
    ],
)
def test_loops_are_kept_on_narrow_cpus_where_nothing_else_was_asked(
    monkeypatch, given, asked
):
    for narrow, wanted in ((True, asked), (False, given)):
        monkeypatch.setenv("XLA_FLAGS", given)
        monkeypatch.setattr(backend, "narrow", lambda narrow=narrow: narrow)
        backend.keep_loops()
        assert os.environ["XLA_FLAGS"] == wanted


A_LOOP = """
import sys
from cxr_gan.models import backend
backend.narrow = lambda: True
if sys.argv[1] == "kept":
    backend.keep_loops()
import jax, jax.numpy as jnp
lowered = jax.jit(lambda x: jnp.where(x > 0, x, 0.2 * x)).lower(jnp.ones((999, 32)))
lowered.compile(compiler_options=backend.compiler_options())
"""


@pytest.mark.skipif(not backend.narrow(), reason="of others it was not looked at")
def test_llvm_does_as_it_is_asked(tmp_path):
    """A loop over 32 numbers is written out in hundreds of lines, if it may be."""
    lines = {}
    for loops in ("kept", "written out"):
        dump = tmp_path / loops.split()[0]
        environment = {
            **os.environ,
            "JAX_ENABLE_COMPILATION_CACHE": "0",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_dump_to={dump}",
        }
        code = [sys.executable, "-c", A_LOOP, loops]
        subprocess.run(code, env=environment, check=True)
        (dumped,) = dump.glob("*lambda*with-opt.ll")
        lines[loops] = len(dumped.read_text().splitlines())
    assert lines["kept"] < lines["written out"] / 2, lines


def test_xla_knows_what_it_is_asked(monkeypatch):
    monkeypatch.setattr(backend, "narrow", lambda: True)
    lowered = jax.jit(lambda x: x + 1).lower(1.0)
    assert lowered.compile(compiler_options=backend.compiler_options())(1.0) == 2


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("side", [4, 16])
def test_a_sum_in_pairs_is_the_sum(n, side):
    x, dy = jax.random.normal(jax.random.key(n), (2, n, side, side, 3))

    def slope(x, dy):
        return jnp.einsum("nhwc,nhwd->cd", x, dy)

    paired = backend.in_pairs(slope, x, dy)
    np.testing.assert_allclose(paired, slope(x, dy), rtol=1e-4, atol=1e-4)
