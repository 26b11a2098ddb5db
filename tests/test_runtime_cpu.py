import os
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from cxr_gan.runtime import cpu

EXTRA = "--xla_backend_extra_options"
OPTIONS = ",".join(cpu.XLA_OPTIONS)


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
        ("avx2 avx512f avx512_bf16", "avx512", False),
        ("avx2 avx512f avx512_bf16 amx_bf16", "avx512", True),
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


def test_threaded_map_uses_one_thread_per_core(monkeypatch):
    barrier, threads = threading.Barrier(3), set()

    def program(number):
        barrier.wait(timeout=10)  # until three threads run it
        threads.add(threading.current_thread())
        return jnp.array(number)

    monkeypatch.setattr(cpu, "available_cpus", lambda: 3)
    results = cpu.threaded_map(program, range(6))
    assert [int(result) for result in results] == [*range(6)]
    assert len(threads) == 3 and threading.main_thread() not in threads


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
