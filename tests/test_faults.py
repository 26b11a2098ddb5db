"""What a run does when something breaks under it: numbers, disks, files, neighbours."""

import errno
import pathlib

import chex
import jax
import numpy as np
import pytest
from rounds import ROUND, lines, steps_of, without_time

from cxr_gan import checkpoint, disk, health, lock, parallel, report, resume, train

FULL = pathlib.Path("/dev/full")  # takes nothing: the kernel's own ENOSPC
on_linux = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full of Linux")


def spoiling(patch, table):
    """The fixture `spoil`, in whatever scope."""
    whole = table.step(jax.local_device_count())

    def install(at, change, noises=range(10)):
        keys = [jax.random.key_data(resume.keys(0, k)[1]).tolist() for k in noises]

        def step(state, batch, key):
            noise = np.asarray(jax.random.key_data(key))[0].tolist()
            if int(parallel.unreplicate(state.step)) + 1 == at and noise in keys:
                state = change(state)
            return whole(state, batch, key)

        patch.setattr(train.parallel, "compile_step", lambda *_: step)

    return install


@pytest.fixture
def spoil(monkeypatch, table):
    """spoil(at, change, noises): the state is changed before that round, wherever one
    of these noises is played."""
    return spoiling(monkeypatch, table)


def exploding(state):
    """D's weights as after a few steps of much too high a learning rate."""
    params = jax.tree.map(lambda w: w * 1e25, state.discriminator.params)
    return state.replace(discriminator=state.discriminator.replace(params=params))


def overflowing(state):
    """Adam's memory too large to be told; no figure shows it."""
    is_adam, adam = state.discriminator.opt_state
    adam = jax.tree.map(lambda m: m * np.inf if m.dtype == np.float32 else m, adam)
    player = state.discriminator.replace(opt_state=(is_adam, adam))
    return state.replace(discriminator=player)


def opened(monkeypatch):
    """From which rounds batches were asked for, as they are asked."""
    whole, starts = train.open_feed, []

    def open_feed(run, first):
        starts.append(first)
        return whole(run, first)

    monkeypatch.setattr(train, "open_feed", open_feed)
    return starts


def assert_same_end(end_of, run, other):
    (state, meta), (expected, of_other) = end_of(run), end_of(other)
    chex.assert_trees_all_equal(state, expected)
    assert meta == of_other
    assert without_time(lines(run.folder)) == without_time(lines(other.folder))


@pytest.fixture(scope="module")
def unbroken(open_run, tmp_path_factory):
    run = open_run(tmp_path_factory.mktemp("unbroken") / "run")
    train.train(run)
    return run


# Numbers


def test_weights_that_explode_end_the_run_within_the_interval(
    open_run, tmp_path, spoil
):
    spoil(3, exploding)
    run = open_run(tmp_path / "run", save_kimg=1.0, draw_kimg=1.0)
    with pytest.raises(report.NonFiniteError, match=r"became non-finite in step 3$"):
        train.train(run)
    assert [line["step"] for line in lines(run.folder)] == [2]
    assert steps_of(run) == []


def test_nothing_is_saved_with_an_optimizer_that_overflowed(open_run, tmp_path, spoil):
    spoil(3, overflowing)
    run = open_run(tmp_path / "run")
    with pytest.raises(report.NonFiniteError, match=r"state is non-finite by step 4$"):
        train.train(run)
    assert steps_of(run) == [2]


@pytest.fixture(scope="module")
def rolled_back(open_run, table, tmp_path_factory):
    """Weights explode in round 3, with the first noise alone; back to step 2."""
    with pytest.MonkeyPatch.context() as patch:
        spoiling(patch, table)(3, exploding, noises=[0])
        run = open_run(tmp_path_factory.mktemp("back") / "run", on_nan="rollback")
        train.train(run)
    return run


def test_rolled_back_a_run_goes_on_with_other_noise_and_tells_of_it(
    rolled_back, unbroken, end_of
):
    state, meta = end_of(rolled_back)
    assert (int(state.step), meta["rollbacks"]) == (6, 1)
    told = {line["step"]: line["state/rollbacks"] for line in lines(rolled_back.folder)}
    assert told == {2: 0, 3: 1, 4: 1, 6: 1}
    assert len(lines(rolled_back.folder)) == 4  # those beyond step 2 were cut back
    of_both = [lines(run.folder) for run in (rolled_back, unbroken)]
    first, third = (without_time([a[i] for a in of_both]) for i in (0, 1))
    assert first[0] == first[1]
    assert third[0]["g/adversarial"] != third[1]["g/adversarial"]


@pytest.mark.parametrize("died_in", [4, 6])
def test_rolled_back_killed_and_resumed_a_run_ends_as_if_only_rolled_back(
    open_run, tmp_path, spoil, feed, rolled_back, end_of, died_in
):
    def die(done):
        if done == died_in and not met:
            met.append(done)
            raise KeyboardInterrupt

    met = []
    feed(die)
    spoil(3, exploding, noises=[0])
    run = open_run(tmp_path / "run", on_nan="rollback")
    with pytest.raises(KeyboardInterrupt):
        train.train(run)
    assert steps_of(run) == ([2] if died_in == 4 else [2, 4])
    train.train(run)
    assert_same_end(end_of, run, rolled_back)


def test_a_fault_that_stays_ends_the_run_when_its_rollbacks_are_used_up(
    open_run, tmp_path, spoil, monkeypatch, capsys
):
    spoil(5, exploding)
    starts = opened(monkeypatch)
    run = open_run(tmp_path / "run", on_nan="rollback", rollbacks=2)
    with pytest.raises(report.NonFiniteError, match=r"in step 5, after 2 rollbacks$"):
        train.train(run)
    assert starts == [0, 4, 4]
    assert steps_of(run) == [2, 4]
    said = capsys.readouterr().err
    for count in (1, 2):
        assert "in step 5; rolled back to step 4, " in said
        assert f"other noise (rollback {count} of 2)" in said


def test_without_a_checkpoint_a_run_is_rolled_back_to_its_beginning(
    open_run, tmp_path, spoil, monkeypatch, end_of
):
    spoil(1, exploding, noises=[0, 1])
    starts = opened(monkeypatch)
    run = open_run(tmp_path / "run", on_nan="rollback", total_kimg=2 * ROUND)
    train.train(run)
    assert starts == [0, 0, 0]
    assert end_of(run)[1]["rollbacks"] == 2


def test_the_noise_after_a_rollback_depends_on_seed_and_count_alone():
    def data(seed, rollbacks):
        weights, noise = resume.keys(seed, rollbacks)
        return jax.random.key_data(weights).tolist(), jax.random.key_data(
            noise
        ).tolist()

    first = jax.random.key_data(jax.random.split(jax.random.key(3))).tolist()
    assert [*data(3, 0)] == first  # a run without rollbacks is what it always was
    assert data(3, 2) == data(3, 2)
    drawn = [data(seed, count) for seed in (3, 4) for count in range(4)]
    assert len({tuple(noise) for _, noise in drawn}) == 8
    assert len({tuple(weights) for weights, _ in drawn}) == 2


def test_a_checkpoint_from_before_there_were_rollbacks_is_gone_on_from(
    open_run, tmp_path, monkeypatch, unbroken, end_of
):
    whole = train.Run.meta

    def meta(*arguments):
        return {k: v for k, v in whole(*arguments).items() if k != "rollbacks"}

    with monkeypatch.context() as patch:
        patch.setattr(train.Run, "meta", meta)
        train.train(open_run(tmp_path / "run", total_kimg=4 * ROUND))
    run = open_run(tmp_path / "run")
    train.train(run)
    assert_same_end(end_of, run, unbroken)


def test_what_ails_a_run_is_told_beside_its_progress_and_does_not_end_it(
    open_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(health, "EXPLODED", 1e-9)
    train.train(open_run(tmp_path / "run", total_kimg=4 * ROUND))
    said = capsys.readouterr().err
    assert said.count("warning: d/adversarial is ") == 1
    assert said.index("warning: ") < said.index("0.3/")


# Disks


@pytest.fixture
def full(monkeypatch):
    """full(name): files so called are written to a device that is full."""
    whole = pathlib.Path.open

    def install(name):
        def open_(path, mode="r", **rest):
            lacking = path.name.startswith(name) and mode[0] in "aw"
            return whole(FULL if lacking else path, mode, **rest)

        monkeypatch.setattr(pathlib.Path, "open", open_)

    return install


@on_linux
@pytest.mark.parametrize("name", ["metrics.jsonl", "events.out"])
def test_a_disk_that_is_full_for_figures_ends_the_run_and_loses_no_bit(
    open_run, tmp_path, full, monkeypatch, unbroken, end_of, name
):
    train.train(open_run(tmp_path / "run", total_kimg=4 * ROUND))
    run = open_run(tmp_path / "run")
    full(name)
    words = rf"{name}.* cannot be written \(No space left on device\); make room"
    with pytest.raises(disk.DiskError, match=words):
        train.train(run)
    monkeypatch.undo()
    assert steps_of(run) == [2, 4]
    train.train(run)
    assert_same_end(end_of, run, unbroken)


@on_linux
@pytest.mark.parametrize("name", ["metrics", "grids/00000006"])
def test_a_disk_that_is_full_for_a_whole_file_leaves_the_one_before(
    open_run, tmp_path, unbroken, end_of, name
):
    train.train(open_run(tmp_path / "run", total_kimg=4 * ROUND))
    run = open_run(tmp_path / "run")
    before = lines(run.folder)
    (run.folder / name).with_suffix(".unfinished").symlink_to(FULL)
    with pytest.raises(disk.DiskError, match=rf"{name}\S* cannot be written \(No sp"):
        train.train(run)
    assert lines(run.folder)[: len(before)] == before
    assert not (run.folder / "grids" / "00000006.png").exists()
    train.train(run)
    assert_same_end(end_of, run, unbroken)


def test_a_disk_that_is_full_for_a_checkpoint_keeps_the_one_before(
    open_run, tmp_path, monkeypatch, unbroken, end_of
):
    train.train(open_run(tmp_path / "run", total_kimg=4 * ROUND))
    run = open_run(tmp_path / "run")

    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp.JsonCheckpointHandler, "_save_fn", no_room)
        with pytest.raises(checkpoint.CheckpointError, match=r"No space.*make room"):
            train.train(run)
    assert steps_of(run) == [2, 4]
    train.train(run)
    assert_same_end(end_of, run, unbroken)


# Files and neighbours


def test_a_second_training_in_the_folder_is_refused_and_the_first_goes_on(
    open_run, tmp_path, feed, unbroken, end_of
):
    def intrude(done):
        if done == 3:
            with pytest.raises(lock.InUseError, match="is in use by process"):
                train.train(run)
            refused.append(done)

    refused = []
    feed(intrude)
    run = open_run(tmp_path / "run")
    train.train(run)
    assert refused == [3]
    assert_same_end(end_of, run, unbroken)


def test_checkpoints_of_another_configuration_are_not_gone_on_from(open_run, tmp_path):
    """As where run.json and the command were changed alike, by hand."""
    train.train(open_run(tmp_path / "run", total_kimg=2 * ROUND))
    run = open_run(tmp_path / "run")
    run.config.loss.r1_weight = 3.0
    with pytest.raises(checkpoint.CheckpointError) as caught:
        train.train(run)
    complaint = str(caught.value)
    assert f"checkpoint 2 of {run.folder} was trained with another conf" in complaint
    assert "loss.r1_weight: 0.5 -> 3.0" in complaint
    assert "if run.json was edited, bring it back" in complaint
    assert steps_of(run) == [2]
