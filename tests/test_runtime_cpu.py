import os
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.models.cpu import layout
from cxr_gan.runtime import cpu

EXTRA = "--xla_backend_extra_options"
OPTIONS = "xla_cpu_disable_loop_unrolling,xla_cpu_disable_new_fusion_emitters"


def test_materialize_changes_neither_values_nor_derivatives():
    x = jnp.arange(6.0).reshape(2, 3)

    def cubes(x):
        return (layout.materialize(x) ** 3).sum()

    assert cubes(x) == (x**3).sum()
    np.testing.assert_array_equal(jax.grad(cubes)(x), 3 * x**2)
    second = jax.vmap(jax.grad(lambda x: jax.grad(cubes)(x).sum()))(x)
    np.testing.assert_array_equal(second, 6 * x)


@pytest.mark.parametrize(("name", "barriers"), [("cpu", 1), ("tpu", 0), ("gpu", 0)])
def test_materialize_adds_a_barrier_only_on_cpus(monkeypatch, name, barriers):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    jaxpr = str(jax.make_jaxpr(lambda x: layout.materialize(x))(jnp.ones(2)))
    assert jaxpr.count("optimization_barrier") == barriers


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """Path of a substitute for /proc/cpuinfo; the file does not exist yet."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(cpu, "CPUINFO", path)
    cpu._cpuinfo_words.cache_clear()
    yield path
    cpu._cpuinfo_words.cache_clear()


@pytest.mark.parametrize(
    ("flags", "name", "bfloat16"),
    [
        ("fma avx avx2 bmi2", "avx2", False),
        ("avx2 avx512f", "avx512", False),
        ("avx2 avx512f avx512_bf16 amx_bf16", "avx512", True),
        ("avx2 avx512f avx512_bf16", "avx512", False),
        ("asimd fp", "", False),
        ("avx", "", False),
    ],
)
def test_instruction_sets_are_read_from_cpuinfo(cpuinfo, flags, name, bfloat16):
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    assert cpu.simd_level() == name
    assert cpu.has_fast_bfloat16() == bfloat16


def test_no_instruction_set_is_assumed_without_cpuinfo(cpuinfo):
    assert not cpuinfo.exists()
    assert cpu.simd_level() == ""
    assert not cpu.has_fast_bfloat16()


@pytest.mark.parametrize(
    ("name", "dtype"), [("cpu", "float32"), ("tpu", "bfloat16"), ("gpu", "bfloat16")]
)
def test_activations_are_float32_on_cpus(monkeypatch, name, dtype):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    assert jnp.dtype(layout.activation_dtype(jnp.bfloat16)) == dtype
    assert jnp.dtype(layout.activation_dtype(jnp.float32)) == "float32"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{EXTRA}={OPTIONS}"),
        ("--a=1", f"--a=1 {EXTRA}={OPTIONS}"),
        (f"{EXTRA}=b", f"{EXTRA}=b"),
    ],
)
def test_xla_options_are_added_unless_the_flag_is_set(monkeypatch, before, after):
    monkeypatch.setenv("XLA_FLAGS", before)
    for _ in range(2):
        cpu.set_xla_cpu_flags()
        assert os.environ["XLA_FLAGS"] == after


ELEMENTWISE = """
import sys
from cxr_gan.runtime import cpu
if sys.argv[1] == "with_flags":
    cpu.set_xla_cpu_flags()
import jax, jax.numpy as jnp

def leaky(x):
    return jnp.where(x > 0, x, 0.2 * x)

jax.jit(leaky).lower(jnp.ones((999, 32))).compile()
"""


def llvm_code(code, folder, variant, program):
    """The LLVM code XLA emits for a program; a process runs `code` with sys.argv[1]."""
    flags = {"XLA_FLAGS": f"--xla_dump_to={folder}", "JAX_PLATFORMS": "cpu"}
    environment = {**os.environ, **flags, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    subprocess.run([sys.executable, "-c", code, variant], env=environment, check=True)
    (dump,) = folder.glob(f"*jit_{program}*with-opt.ll")
    return dump.read_text()


def test_xla_options_disable_loop_unrolling(tmp_path):
    """An unrolled loop over 32 channels takes hundreds of lines of LLVM code."""
    lines = {}
    for variant in ("with_flags", "without_flags"):
        code = llvm_code(ELEMENTWISE, tmp_path / variant, variant, "leaky")
        lines[variant] = len(code.splitlines())
    assert lines["with_flags"] < lines["without_flags"] / 2, lines


BETWEEN_CONVOLUTIONS = """
import sys
from cxr_gan.models.cpu import layout
from cxr_gan.runtime import cpu
cpu.set_xla_cpu_flags()
import jax, jax.numpy as jnp
wrap = layout.prevent_inplace if sys.argv[1] == "separate" else lambda x: x

def between_two(x, w, b):
    layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    convolve = lambda x: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", **layout)
    return x * convolve(jnp.maximum(wrap(convolve(x)) + b, 0))

shapes = (8, 16, 16, 32), (3, 3, 32, 32), 32
jax.jit(between_two).lower(*map(jnp.ones, shapes)).compile()
"""


def test_prevent_inplace_removes_the_run_time_overlap_check(tmp_path):
    """LLVM emits the check where input and output may be one buffer."""
    has_check = {}
    for variant in ("separate", "inplace"):
        folder = tmp_path / variant
        code = llvm_code(BETWEEN_CONVOLUTIONS, folder, variant, "between_two.part")
        has_check[variant] = "diff.check" in code
    assert has_check == {"separate": False, "inplace": True}


@pytest.mark.parametrize(("name", "barriers"), [("cpu", 1), ("tpu", 0), ("gpu", 0)])
def test_prevent_inplace_reshapes_only_on_cpus(monkeypatch, name, barriers):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    x = jnp.ones((2, 4, 2, 3))
    jaxpr = str(jax.make_jaxpr(lambda x: layout.prevent_inplace(x))(x))
    assert jaxpr.count("optimization_barrier") == barriers
    assert ("f32[2,8,3]" in jaxpr) == bool(barriers)


def test_prevent_inplace_changes_neither_values_nor_gradients():
    x = jnp.arange(48.0).reshape(2, 4, 2, 3)
    np.testing.assert_array_equal(layout.prevent_inplace(x), x)
    gradient = jax.grad(lambda x: (layout.prevent_inplace(x) ** 2).sum())(x)
    np.testing.assert_array_equal(gradient, 2 * x)


def channel_products(x, dy):
    return jnp.einsum("nhwc,nhwd->cd", x, dy)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_sum_chunks_equals_the_sum_over_all_examples(n):
    x, dy = jax.random.normal(jax.random.key(n), (2, n, 4, 4, 3))
    total = layout.sum_chunks(channel_products, x, dy, 2)
    np.testing.assert_allclose(total, channel_products(x, dy), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_map_chunks_equals_the_function_of_all_examples(n):
    x = jnp.arange(3.0 * n).reshape(n, 3)
    y = layout.map_chunks(lambda x: x[:, 1:] ** 2, x, 2)
    np.testing.assert_array_equal(y, x[:, 1:] ** 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: layout.sum_chunks(channel_products, x, x, 2),
        lambda x: layout.map_chunks(jnp.sin, x, 2),
    ],
)
def test_chunks_are_a_loop_where_their_size_divides_the_examples(function):
    def loops(n):
        return str(jax.make_jaxpr(function)(jnp.ones((n, 4, 4, 3)))).count("scan[")

    assert [loops(n) for n in (1, 2, 3, 4)] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("n", "side", "size"),
    [(16, 32, 2), (16, 16, 4), (32, 8, 32), (64, 8, 16), (128, 4, 128), (256, 4, 64)],
)
def test_gradient_chunk_holds_at_most_2048_pixels_of_images(n, side, size):
    assert layout.gradient_chunk_size(n, side) == size


@pytest.mark.parametrize(
    ("side", "size"), [(4, 64), (8, 16), (16, 4), (32, 2), (64, 2)]
)
def test_chunk_holds_1024_pixels_of_images_or_two_images(side, size):
    assert layout.chunk_size(side) == size


@pytest.fixture
def three_at_once(monkeypatch):
    """A program that waits until three threads run it, and the threads that ran it."""
    barrier, threads = threading.Barrier(3), []

    def program(number):
        barrier.wait(timeout=10)
        threads.append(threading.current_thread())
        return jnp.array(number)

    monkeypatch.setattr(cpu, "available_cpus", lambda: 3)
    return program, threads


def test_threaded_map_uses_one_thread_per_core(three_at_once):
    program, threads = three_at_once
    results = cpu.threaded_map(program, range(6))
    assert [int(result) for result in results] == [*range(6)]
    assert len(set(threads)) == 3 and threading.main_thread() not in threads


@pytest.mark.parametrize(
    ("name", "cores", "items"), [("cpu", 1, 4), ("cpu", 4, 1), ("tpu", 4, 4)]
)
def test_threaded_map_uses_no_threads_for_one_core_one_item_or_a_tpu(
    monkeypatch, name, cores, items
):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    monkeypatch.setattr(cpu, "available_cpus", lambda: cores)
    threads = cpu.threaded_map(lambda _: threading.current_thread(), range(items))
    assert threads == items * [threading.main_thread()]


def test_threaded_map_keeps_the_default_device_of_the_caller(monkeypatch):
    monkeypatch.setattr(cpu, "available_cpus", lambda: 2)
    for device in (jax.devices()[3], jax.devices()[0]):
        with jax.default_device(device):
            arrays = cpu.threaded_map(jnp.zeros, [(2,), (3,)])
        assert [x.devices() for x in arrays] == 2 * [{device}]


def test_threaded_map_starts_no_waiting_item_after_an_error(monkeypatch):
    monkeypatch.setattr(cpu, "available_cpus", lambda: 2)
    started, failed = [], threading.Event()

    def program(number):
        started.append(number)
        if number == 0:
            failed.set()
            raise KeyboardInterrupt
        failed.wait(10)
        time.sleep(0.01)
        return jnp.zeros(())

    with pytest.raises(KeyboardInterrupt):
        cpu.threaded_map(program, range(1000))
    assert len(started) < 1000


def test_available_cpus_respects_the_affinity_of_the_process(monkeypatch):
    assert cpu.available_cpus() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cpu.available_cpus() == 5
