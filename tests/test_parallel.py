import gc
import os
import pathlib
import platform
import resource
import subprocess
import sys
import types

import chex
import jax
import numpy as np
import pytest

from cxr_gan import parallel


@pytest.mark.parametrize(("optimizer", "tolerance"), [("sgd", 1e-5), ("adam", 1e-3)])
def test_one_device_and_eight_play_the_same_game(table, optimizer, tolerance):
    # Two rounds: one with the gradient penalty and one without.
    alone, metrics_alone = table.play(1, optimizer, 2)
    together, metrics_together = table.play(8, optimizer, 2)
    before, _ = table.play(8, optimizer, 1)
    for params in ("discriminator", "generator"):
        weights = [getattr(x, params).params for x in (alone, together, before)]
        chex.assert_trees_all_close(*weights[:2], rtol=tolerance, atol=tolerance)
        moved = jax.tree.map(lambda a, b: abs(a - b).max(), *weights[1:])
        assert max(jax.tree.leaves(moved)) > 1e-3
    chex.assert_trees_all_close(alone.ema, together.ema, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(alone.lead, together.lead, atol=tolerance)
    scores = {k for k in metrics_alone if "accuracy" not in k}  # those are steps
    assert {"d/adversarial", "g/matching", "d/lead_by_class"} <= scores
    for name in scores:
        ours, theirs = metrics_alone[name], metrics_together[name]
        np.testing.assert_allclose(ours, theirs, atol=10 * tolerance, err_msg=name)


def test_the_two_rounds_compared_hold_the_penalty_once(table):
    penalties = [table.play(8, "sgd", rounds)[1]["d/penalty"] for rounds in (1, 2)]
    assert penalties[0] > 0
    assert penalties[1] == 0


@pytest.mark.parametrize(("backend", "donated"), [("tpu", (0,)), ("cpu", ())])
def test_state_is_donated_but_on_cpus(table, backend, donated, monkeypatch):
    class Mapped(Exception):
        pass

    def pmap(step, *, donate_argnums, **_):
        raise Mapped(donate_argnums)

    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "pmap", pmap)
    with pytest.raises(Mapped) as mapped:
        parallel.compile_step(table.game, table.start, 64)
    assert mapped.value.args == (donated,)


def test_the_compiled_step_takes_its_own_state(table):
    given, rng = parallel.replicate((table.start, table.rng))
    state = given
    for _ in range(3):  # what comes out goes in again: nothing is compiled or moved
        state, metrics = table.step(8)(state, parallel.shard(table.batch), rng)
    for before, after in zip(*map(jax.tree.leaves, (given, state)), strict=True):
        assert before.sharding == after.sharding  # or pmap would compile twice
    new, metrics = parallel.unreplicate((state, metrics))
    assert new.step == 3
    chex.assert_tree_all_finite((new, metrics))
    chex.assert_trees_all_equal_shapes_and_dtypes(new, table.start)
    for before, after in zip(
        *map(jax.tree.leaves, (table.start.ema, new.ema)), strict=True
    ):
        assert not np.array_equal(before, after)


def test_every_device_ends_a_round_with_the_same_state(table):
    state, rng = parallel.replicate((table.start, table.rng))
    result = table.step(8)(state, parallel.shard(table.batch), rng)
    for leaf in jax.tree.leaves(result):
        copies = np.asarray(leaf)
        assert len(copies) == 8
        assert (copies == copies[:1]).all()


def test_a_shard_is_each_device_s_slice_in_order():
    batch = {"image": np.arange(48).reshape(16, 3), "label": np.arange(16)}
    shares = parallel.shard(batch)
    np.testing.assert_array_equal(shares["label"][3], [6, 7])
    np.testing.assert_array_equal(np.concatenate(shares["image"]), batch["image"])


def test_a_replica_comes_back_as_it_went():
    tree = {"a": np.arange(3.0), "b": np.int32(4)}
    replicas = parallel.replicate(tree)
    assert replicas["a"].shape == (8, 3)
    back = parallel.unreplicate(replicas)
    chex.assert_trees_all_equal(back, tree)
    assert isinstance(back["a"], np.ndarray)


@pytest.fixture
def asked(monkeypatch):
    """What parallel asks JAX for, in a process that has asked for nothing yet."""
    asked = {}
    config = types.SimpleNamespace(
        values={"jax_num_cpu_devices": -1}, update=asked.__setitem__
    )
    alone = types.SimpleNamespace(is_initialized=lambda: False)
    fake = types.SimpleNamespace(config=config, distributed=alone)
    monkeypatch.setattr(parallel, "jax", fake)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setenv("XLA_FLAGS", "")
    return asked


@pytest.mark.parametrize(("shares", "devices"), [(8, 4), (6, 6), (7, 1)])
def test_cores_are_used_as_far_as_a_batch_can_be_dealt_out(asked, shares, devices):
    parallel.use_cores(shares)
    assert asked == {"jax_num_cpu_devices": devices}


def test_devices_that_were_asked_for_are_kept(asked, monkeypatch):
    with monkeypatch.context() as flags:
        flags.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
        parallel.use_cores(4)
    parallel.jax.config.values["jax_num_cpu_devices"] = 2
    parallel.use_cores(4)
    assert asked == {}


def test_processes_that_share_the_cores_are_not_given_all_of_them(asked):
    parallel.jax.distributed.is_initialized = lambda: True
    parallel.use_cores(6)
    assert asked == {}


ROUNDS = """
import os, resource, sys, threading
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from cxr_gan import parallel
word, size = sys.argv[1], int(sys.argv[2])
if word.startswith("on two cores"):
    parallel._cores, parallel.vectors = lambda: 2, lambda: word.split()[-1]
assert word == "let go" or parallel.keep_memory()
def step():
    return b"x" * size
def work():
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone")
@pytest.mark.parametrize(
    ("kept", "size"),
    [
        ("on one core", 100_000_000),
        ("on two cores with avx2", 100_000_000),
        ("on two cores with avx512", 50_000_000),
    ],
)
def test_the_memory_of_a_step_is_kept(kept, size):
    """Counted in pages that the system had to clear anew for three more steps."""
    asked_for = {
        word: int(
            subprocess.check_output([sys.executable, "-c", ROUNDS, word, str(size)])
        )
        for word in ("let go", kept)
    }
    assert asked_for[kept] < 100 < 3 * size / 8192 < asked_for["let go"]


def resident() -> int:
    """Bytes of memory this process takes."""
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone")
def test_what_was_freed_between_what_is_in_use_is_given_back():
    blocks = [bytes(1_000) for _ in range(200_000)]
    kept = blocks[::1000]
    del blocks
    before = resident()
    assert parallel.give_back_memory()
    assert resident() < before - 100_000_000
    assert len(kept) == 200


def test_python_looks_for_dead_cycles_again_after_tracing():
    with pytest.raises(KeyError), parallel.uncollected():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with parallel.uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_step_is_traced_uncollected(table, monkeypatch):
    seen = []

    def step(gan, state, batch, rng):
        seen.append(gc.isenabled())
        return state, {}

    monkeypatch.setattr(parallel, "train_step", step)
    parallel.compile_step(table.game, table.start, 64)
    assert seen == [False]
    assert gc.isenabled()


def test_what_was_traced_is_forgotten_once_a_step_is_compiled(table):
    traced = []
    remembered = jax.jit(lambda x: traced.append(x) or x)
    for times in (1, 1):
        remembered(0.0)
        assert len(traced) == times
    parallel.compile_step(table.game, table.start, 64)
    remembered(0.0)
    assert len(traced) == 2


def test_the_wish_of_one_process_counts_at_once():
    vote = parallel.Vote()
    assert [vote(wish) for wish in (0, 2, 1)] == [0, 2, 1]


def test_of_several_processes_the_highest_wish_counts_a_round_later(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    vote = parallel.Vote()
    assert [vote(wish) for wish in (0, 2, 1, 0)] == [0, 0, 2, 1]
