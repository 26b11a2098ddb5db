import os
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan.models import backend

EXTRA = "--xla_backend_extra_options"
ASKED = "xla_cpu_disable_loop_unrolling,xla_cpu_disable_new_fusion_emitters"


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


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """Where Linux would tell of the processor; nothing is there yet."""
    told = tmp_path / "cpuinfo"
    monkeypatch.setattr(backend, "CPU", told)
    backend._instructions.cache_clear()
    yield told
    backend._instructions.cache_clear()


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
def test_a_cpu_s_instructions_are_known(cpuinfo, flags, name, bfloat16):
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    assert backend.vectors() == name
    assert backend.multiplies_bfloat16() == bfloat16


def test_of_a_system_that_does_not_tell_its_cpu_nothing_is_assumed(cpuinfo):
    assert not cpuinfo.exists()
    assert backend.vectors() == ""
    assert not backend.multiplies_bfloat16()


@pytest.mark.parametrize(
    ("name", "kept"), [("cpu", "float32"), ("tpu", "bfloat16"), ("gpu", "bfloat16")]
)
def test_between_layers_arrays_are_float32_on_cpus(monkeypatch, name, kept):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    assert jnp.dtype(backend.stored(jnp.bfloat16)) == kept
    assert jnp.dtype(backend.stored(jnp.float32)) == "float32"


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("", f"{EXTRA}={ASKED}"),
        ("--a=1", f"--a=1 {EXTRA}={ASKED}"),
        (f"{EXTRA}=b", f"{EXTRA}=b"),
    ],
)
def test_the_compiler_is_asked_where_nobody_else_asked_it(monkeypatch, given, asked):
    monkeypatch.setenv("XLA_FLAGS", given)
    for _ in range(2):
        backend.ask_compiler()
        assert os.environ["XLA_FLAGS"] == asked


A_LOOP = """
import sys
from cxr_gan.models import backend
if sys.argv[1] == "asked":
    backend.ask_compiler()
import jax, jax.numpy as jnp

def leaky(x):
    return jnp.where(x > 0, x, 0.2 * x)

jax.jit(leaky).lower(jnp.ones((999, 32))).compile()
"""


def dumped(code, folder, word, program):
    """The LLVM code that XLA makes of a program, in a process that is told the word."""
    flags = {"XLA_FLAGS": f"--xla_dump_to={folder}", "JAX_PLATFORMS": "cpu"}
    environment = {**os.environ, **flags, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    subprocess.run([sys.executable, "-c", code, word], env=environment, check=True)
    (made,) = folder.glob(f"*jit_{program}*with-opt.ll")
    return made.read_text()


def test_llvm_does_as_it_is_asked(tmp_path):
    """A loop over 32 numbers is written out in hundreds of lines, if it may be."""
    lines = {}
    for word in ("asked", "unasked"):
        code = dumped(A_LOOP, tmp_path / word, word, "leaky")
        lines[word] = len(code.splitlines())
    assert lines["asked"] < lines["unasked"] / 2, lines


A_BIAS = """
import sys
from cxr_gan.models import backend
backend.ask_compiler()
import jax, jax.numpy as jnp
kept = backend.apart if sys.argv[1] == "apart" else lambda x: x

def between_two(x, w, b):
    layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    convolve = lambda x: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", **layout)
    return x * convolve(jnp.maximum(kept(convolve(x)) + b, 0))

shapes = (8, 16, 16, 32), (3, 3, 32, 32), 32
jax.jit(between_two).lower(*map(jnp.ones, shapes)).compile()
"""


def test_what_is_made_of_numbers_kept_apart_is_not_written_over_them(tmp_path):
    """Or LLVM's code asks whether it may take several at a time, and may not."""
    asks = {}
    for word in ("apart", "near"):
        code = dumped(A_BIAS, tmp_path / word, word, "between_two.part")
        asks[word] = "diff.check" in code
    assert asks == {"apart": False, "near": True}


@pytest.mark.parametrize(("name", "rows"), [("cpu", 1), ("tpu", 0), ("gpu", 0)])
def test_only_on_cpus_numbers_are_kept_apart(monkeypatch, name, rows):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    traced = str(jax.make_jaxpr(lambda x: backend.apart(x))(jnp.ones((2, 4, 2, 3))))
    assert traced.count("optimization_barrier") == rows
    assert ("f32[2,8,3]" in traced) == bool(rows)


def test_what_is_kept_apart_is_unchanged_there_and_on_the_way_back():
    x = jnp.arange(48.0).reshape(2, 4, 2, 3)
    np.testing.assert_array_equal(backend.apart(x), x)
    slope = jax.grad(lambda x: (backend.apart(x) ** 2).sum())(x)
    np.testing.assert_array_equal(slope, 2 * x)


def mixed(x, dy):
    return jnp.einsum("nhwc,nhwd->cd", x, dy)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_a_sum_of_chunks_is_the_sum(n):
    x, dy = jax.random.normal(jax.random.key(n), (2, n, 4, 4, 3))
    summed = backend.sum_chunks(mixed, x, dy, 2)
    np.testing.assert_allclose(summed, mixed(x, dy), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_answers_of_chunks_are_those_of_all(n):
    x = jnp.arange(3.0 * n).reshape(n, 3)
    answers = backend.map_chunks(lambda x: x[:, 1:] ** 2, x, 2)
    np.testing.assert_array_equal(answers, x[:, 1:] ** 2)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: backend.sum_chunks(mixed, x, x, 2),
        lambda x: backend.map_chunks(jnp.sin, x, 2),
    ],
)
def test_chunks_are_taken_one_after_the_other_where_they_divide_the_examples(work):
    def loops(n):
        return str(jax.make_jaxpr(work)(jnp.ones((n, 4, 4, 3)))).count("scan[")

    assert [loops(n) for n in (1, 2, 3, 4)] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("n", "side", "few"),
    [(16, 32, 2), (16, 16, 4), (32, 8, 32), (64, 8, 16), (128, 4, 128), (256, 4, 64)],
)
def test_weights_learn_from_as_many_images_at_once_as_a_cache_holds(n, side, few):
    assert backend.learn_at_once(n, side) == few


@pytest.mark.parametrize(("side", "few"), [(4, 64), (8, 16), (16, 4), (32, 2), (64, 2)])
def test_as_many_images_are_worked_on_at_once_as_a_cache_holds(side, few):
    assert backend.at_once(side) == few


@pytest.fixture
def meeting(monkeypatch):
    """A program that waits for three threads to run it; and the threads that did."""
    met, threads = threading.Barrier(3), []

    def program(number):
        met.wait(timeout=10)
        threads.append(threading.current_thread())
        return jnp.array(number)

    monkeypatch.setattr(backend, "cores", lambda: 3)
    return program, threads


def test_programs_run_side_by_side_a_thread_of_each_core(meeting):
    program, threads = meeting
    answers = backend.side_by_side(program, range(6))
    assert [int(answer) for answer in answers] == [*range(6)]
    assert len(set(threads)) == 3 and threading.main_thread() not in threads


@pytest.mark.parametrize(
    ("name", "cores", "items"), [("cpu", 1, 4), ("cpu", 4, 1), ("tpu", 4, 4)]
)
def test_one_core_one_program_or_a_tpu_takes_no_threads(
    monkeypatch, name, cores, items
):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    monkeypatch.setattr(backend, "cores", lambda: cores)
    found = backend.side_by_side(lambda _: threading.current_thread(), range(items))
    assert found == items * [threading.main_thread()]


def test_the_callers_device_is_that_of_its_threads(monkeypatch):
    monkeypatch.setattr(backend, "cores", lambda: 2)
    for device in (jax.devices()[3], jax.devices()[0]):
        with jax.default_device(device):
            made = backend.side_by_side(jnp.zeros, [(2,), (3,)])
        assert [x.devices() for x in made] == 2 * [{device}]


def test_when_one_program_fails_those_that_wait_are_not_begun(monkeypatch):
    monkeypatch.setattr(backend, "cores", lambda: 2)
    begun, failed = [], threading.Event()

    def program(number):
        begun.append(number)
        if number == 0:
            failed.set()
            raise KeyboardInterrupt
        failed.wait(10)
        time.sleep(0.01)
        return jnp.zeros(())

    with pytest.raises(KeyboardInterrupt):
        backend.side_by_side(program, range(1000))
    assert len(begun) < 1000


def test_a_process_knows_the_cores_it_may_use(monkeypatch):
    assert backend.cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert backend.cores() == 5
