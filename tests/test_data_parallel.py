import gc
import os
import pathlib
import platform
import resource
import types

import chex
import jax
import numpy as np
import pytest

from cxr_gan.runtime import process
from cxr_gan.training import data_parallel


@pytest.mark.parametrize(("optimizer", "tolerance"), [("sgd", 1e-5), ("adam", 1e-3)])
def test_eight_devices_compute_the_same_training_as_one(training, optimizer, tolerance):
    one, metrics_one = training.train(1, optimizer, 2)
    eight, metrics_eight = training.train(8, optimizer, 2)
    before, metrics_before = training.train(8, optimizer, 1)
    penalties = [metrics["d/r1"] for metrics in (metrics_before, metrics_eight)]
    assert penalties[0] > 0 and penalties[1] == 0  # the two steps cover both branches
    assert metrics_eight["g/spectrum"] != 0
    for params in ("discriminator", "generator"):
        weights = [getattr(x, params).params for x in (one, eight, before)]
        chex.assert_trees_all_close(*weights[:2], rtol=tolerance, atol=tolerance)
        moved = jax.tree.map(lambda a, b: abs(a - b).max(), *weights[1:])
        assert max(jax.tree.leaves(moved)) > 1e-3
    chex.assert_trees_all_close(one.ema, eight.ema, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(one.score_gap, eight.score_gap, atol=tolerance)
    # Accuracies are step functions of the scores, so rounding can change them.
    continuous = {k for k in metrics_one if "accuracy" not in k}
    assert {"d/adversarial", "g/diversity", "d/score_gap_by_class"} <= continuous
    for name in continuous:
        pair = metrics_one[name], metrics_eight[name]
        np.testing.assert_allclose(*pair, atol=10 * tolerance, err_msg=name)


@pytest.mark.parametrize(("backend", "donated"), [("tpu", (0,)), ("cpu", ())])
def test_state_is_donated_except_on_cpus(training, backend, donated, monkeypatch):
    class Mapped(Exception):
        pass

    def pmap(step, *, donate_argnums, **_):
        raise Mapped(donate_argnums)

    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "pmap", pmap)
    with pytest.raises(Mapped) as mapped:
        data_parallel.compile_step(training.gan, training.initial, 64)
    assert mapped.value.args == (donated,)


def test_compiled_step_accepts_its_own_output_and_keeps_devices_equal(training):
    first, rng = data_parallel.replicate((training.initial, training.rng))
    state = first
    for _ in range(3):
        state, metrics = training.step(8)(
            state, data_parallel.shard(training.batch), rng
        )
    for before, after in zip(*map(jax.tree.leaves, (first, state)), strict=True):
        assert before.sharding == after.sharding  # else pmap compiles twice
    for leaf in jax.tree.leaves((state, metrics)):
        copies = np.asarray(leaf)
        assert len(copies) == 8
        assert (copies == copies[:1]).all()
    new, metrics = data_parallel.unreplicate((state, metrics))
    assert new.step == 3
    chex.assert_tree_all_finite((new, metrics))
    chex.assert_trees_all_equal_shapes_and_dtypes(new, training.initial)
    same = jax.tree.map(np.array_equal, training.initial.ema, new.ema)
    assert not any(jax.tree.leaves(same))


def test_shards_are_the_slices_of_the_devices_in_order():
    batch = {"image": np.arange(48).reshape(16, 3), "label": np.arange(16)}
    shards = data_parallel.shard(batch)
    np.testing.assert_array_equal(shards["label"][3], [6, 7])
    np.testing.assert_array_equal(np.concatenate(shards["image"]), batch["image"])


def test_unreplicate_inverts_replicate():
    tree = {"a": np.arange(3.0), "b": np.int32(4)}
    replicas = data_parallel.replicate(tree)
    assert replicas["a"].shape == (8, 3)
    restored = data_parallel.unreplicate(replicas)
    chex.assert_trees_all_equal(restored, tree)
    assert isinstance(restored["a"], np.ndarray)


@pytest.fixture
def jax_updates(monkeypatch):
    """The JAX options that are set, in a process that has set none yet."""
    jax_updates = {}
    config = types.SimpleNamespace(
        values={"jax_num_cpu_devices": -1}, update=jax_updates.__setitem__
    )
    single = types.SimpleNamespace(is_initialized=lambda: False)
    fake = types.SimpleNamespace(config=config, distributed=single)
    monkeypatch.setattr(process, "jax", fake)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setenv("XLA_FLAGS", "")
    return jax_updates


@pytest.mark.parametrize(("groups", "devices"), [(8, 4), (6, 6), (7, 1)])
def test_cpu_devices_divide_the_number_of_groups(jax_updates, groups, devices):
    process.set_cpu_device_count(groups)
    assert jax_updates == {"jax_num_cpu_devices": devices}


def test_an_explicit_device_count_is_kept(jax_updates, monkeypatch):
    with monkeypatch.context() as flags:
        flags.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
        process.set_cpu_device_count(4)
    process.jax.config.values["jax_num_cpu_devices"] = 2
    process.set_cpu_device_count(4)
    assert jax_updates == {}


def test_device_count_stays_where_jax_was_used_before(jax_updates):
    def refuse(*_):
        raise RuntimeError("should be updated before backends are initialized")

    process.jax.config.update = refuse
    process.set_cpu_device_count(4)
    assert jax_updates == {}


def test_distributed_processes_do_not_take_all_cores(jax_updates):
    process.jax.distributed.is_initialized = lambda: True
    process.set_cpu_device_count(6)
    assert jax_updates == {}


def resident() -> int:
    """Resident memory of this process, bytes."""
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone")
def test_release_memory_returns_freed_blocks_to_the_system():
    blocks = [bytes(1_000) for _ in range(200_000)]
    kept = blocks[::1000]
    del blocks
    before = resident()
    assert process.release_memory()
    assert resident() < before - 100_000_000
    assert len(kept) == 200


def test_garbage_collection_is_restored_after_tracing():
    with pytest.raises(KeyError), data_parallel.gc_disabled():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with data_parallel.gc_disabled():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_stop_level_of_a_single_process_takes_effect_at_once():
    consensus = data_parallel.StopConsensus()
    assert [consensus(level) for level in (0, 2, 1)] == [0, 2, 1]


def test_highest_stop_level_of_all_processes_takes_effect_one_step_later(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    consensus = data_parallel.StopConsensus()
    assert [consensus(level) for level in (0, 2, 1, 0)] == [0, 0, 2, 1]
