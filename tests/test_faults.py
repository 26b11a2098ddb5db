"""Training under faults: non-finite values, full disks, damaged files, other processes.

The order is that of docs/troubleshooting.md.
"""

import errno
import pathlib
import shutil
from unittest import mock

import chex
import jax
import numpy as np
import pytest
from tiny_runs import STEP_KIMG, checkpoint_steps, metric_lines, without_times

from cxr_gan.storage import checkpoint, files, lock
from cxr_gan.training import data_parallel, diagnostics, loop, restore
from cxr_gan.training.metric_writer import NonFiniteError

FULL = pathlib.Path("/dev/full")  # every write to it fails with ENOSPC
on_linux = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full of Linux")


def state_corrupter(patch, training):
    """corrupt_state(at_step, change, rollbacks): changes the state before that step.

    Only after one of these numbers of rollbacks, which the noise key identifies.
    """
    original = training.step(jax.local_device_count())

    def install(at_step, change, rollbacks=range(10)):
        keys = [
            jax.random.key_data(restore.make_keys(0, k)[1]).tolist() for k in rollbacks
        ]

        def step(state, batch, key):
            noise_key = np.asarray(jax.random.key_data(key))[0].tolist()
            next_step = int(data_parallel.unreplicate(state.step)) + 1
            if next_step == at_step and noise_key in keys:
                state = change(state)
            return original(state, batch, key)

        patch.setattr(loop.data_parallel, "compile_step", lambda *_: step)

    return install


@pytest.fixture
def corrupt_state(monkeypatch, training):
    return state_corrupter(monkeypatch, training)


def explode_weights(state):
    """D's weights as after a few steps with much too high a learning rate."""
    params = jax.tree.map(lambda w: w * 1e25, state.discriminator.params)
    return state.replace(discriminator=state.discriminator.replace(params=params))


def overflow_optimizer(state):
    """Adam's moments become infinite; no metric shows it."""
    is_adam, adam = state.discriminator.opt_state
    adam = jax.tree.map(lambda m: m * np.inf if m.dtype == np.float32 else m, adam)
    network = state.discriminator.replace(opt_state=(is_adam, adam))
    return state.replace(discriminator=network)


def spy_on_data(monkeypatch):
    """A mock that records calls of (run, step after which the iterator starts)."""
    spy = mock.Mock(wraps=loop.make_train_iterator)
    monkeypatch.setattr(loop, "make_train_iterator", spy)
    return spy


def assert_same_run(final_checkpoint, run, other):
    """Checks that final state, metadata and metrics of two runs agree bit for bit."""
    state, metadata = final_checkpoint(run)
    expected_state, expected_metadata = final_checkpoint(other)
    chex.assert_trees_all_equal(state, expected_state)
    assert metadata == expected_metadata
    lines, expected = (without_times(metric_lines(r.folder)) for r in (run, other))
    assert lines == expected


@pytest.fixture(scope="module")
def uninterrupted(open_run, tmp_path_factory):
    run = open_run(tmp_path_factory.mktemp("uninterrupted") / "run")
    loop.train(run)
    return run


@pytest.fixture
def half_trained(open_run, tmp_path, half_trained_folder):
    """A run with checkpoints of steps 2 and 4 of 6."""
    shutil.copytree(half_trained_folder, tmp_path / "run")
    return open_run(tmp_path / "run")


@pytest.fixture(scope="module")
def half_trained_folder(open_run, tmp_path_factory):
    run = open_run(tmp_path_factory.mktemp("half") / "run", total_kimg=4 * STEP_KIMG)
    loop.train(run)
    return run.folder


# Non-finite values


def test_invalid_label_ends_the_run_and_the_error_names_the_step(
    open_run, tmp_path, monkeypatch
):
    original = loop.make_train_iterator

    def make_train_iterator(run, first):
        for step, batch in enumerate(original(run, first), start=first + 1):
            label = batch["label"] + 9 * (step == 5)
            yield {**batch, "label": label}

    monkeypatch.setattr(loop, "make_train_iterator", make_train_iterator)
    run = open_run(tmp_path / "run", log_kimg=6 * STEP_KIMG)
    with pytest.raises(NonFiniteError, match=r"g/adversarial.* step 5$"):
        loop.train(run)
    assert checkpoint_steps(run) == [2, 4]


def test_exploding_weights_end_the_run_within_the_log_interval(
    open_run, tmp_path, corrupt_state
):
    corrupt_state(3, explode_weights)
    run = open_run(tmp_path / "run", checkpoint_kimg=1.0, sample_kimg=1.0)
    with pytest.raises(NonFiniteError, match=r"became non-finite in step 3$"):
        loop.train(run)
    assert [line["step"] for line in metric_lines(run.folder)] == [2]
    assert checkpoint_steps(run) == []


def test_overflowed_optimizer_state_is_not_saved(open_run, tmp_path, corrupt_state):
    corrupt_state(3, overflow_optimizer)
    run = open_run(tmp_path / "run")
    with pytest.raises(NonFiniteError, match=r"state is non-finite at step 4$"):
        loop.train(run)
    assert checkpoint_steps(run) == [2]


@pytest.fixture(scope="module")
def rolled_back(open_run, training, tmp_path_factory):
    """A run whose weights explode in step 3 and which is rolled back to step 2 once."""
    with pytest.MonkeyPatch.context() as patch:
        state_corrupter(patch, training)(3, explode_weights, rollbacks=[0])
        run = open_run(tmp_path_factory.mktemp("back") / "run", on_nan="rollback")
        loop.train(run)
    return run


def test_rollback_continues_with_other_noise_and_is_recorded(
    rolled_back, uninterrupted, final_checkpoint
):
    state, metadata = final_checkpoint(rolled_back)
    assert (int(state.step), metadata["rollbacks"]) == (6, 1)
    lines = metric_lines(rolled_back.folder)
    rollbacks = {line["step"]: line["state/rollbacks"] for line in lines}
    assert rollbacks == {2: 0, 3: 1, 4: 1, 6: 1}
    assert len(lines) == 4  # the lines after step 2 were removed by the rollback
    expected = without_times(metric_lines(uninterrupted.folder))
    lines = without_times(lines)
    assert lines[0] == expected[0]
    assert lines[1]["g/adversarial"] != expected[1]["g/adversarial"]


@pytest.mark.parametrize("crash_step", [4, 6])
def test_run_rolled_back_killed_and_resumed_equals_run_only_rolled_back(
    open_run,
    tmp_path,
    corrupt_state,
    on_batch,
    rolled_back,
    final_checkpoint,
    crash_step,
):
    def crash_once(step):
        if step == crash_step and not crashed:
            crashed.append(step)
            raise KeyboardInterrupt

    crashed = []
    on_batch(crash_once)
    corrupt_state(3, explode_weights, rollbacks=[0])
    run = open_run(tmp_path / "run", on_nan="rollback")
    with pytest.raises(KeyboardInterrupt):
        loop.train(run)
    assert checkpoint_steps(run) == ([2] if crash_step == 4 else [2, 4])
    loop.train(run)
    assert_same_run(final_checkpoint, run, rolled_back)


def test_persistent_fault_ends_the_run_when_all_rollbacks_are_used_up(
    open_run, tmp_path, corrupt_state, monkeypatch, capsys
):
    corrupt_state(5, explode_weights)
    spy = spy_on_data(monkeypatch)
    run = open_run(tmp_path / "run", on_nan="rollback", max_rollbacks=2)
    with pytest.raises(NonFiniteError, match=r"in step 5, after 2 rollbacks$"):
        loop.train(run)
    assert [call.args[1] for call in spy.mock_calls] == [0, 4, 4]
    assert checkpoint_steps(run) == [2, 4]
    stderr = capsys.readouterr().err
    for count in (1, 2):
        assert "in step 5; rolled back to step 4, " in stderr
        assert f"other noise (rollback {count} of 2)" in stderr


def test_run_without_a_checkpoint_is_rolled_back_to_its_beginning(
    open_run, tmp_path, corrupt_state, monkeypatch, final_checkpoint
):
    corrupt_state(1, explode_weights, rollbacks=[0, 1])
    spy = spy_on_data(monkeypatch)
    run = open_run(tmp_path / "run", on_nan="rollback", total_kimg=2 * STEP_KIMG)
    loop.train(run)
    assert [call.args[1] for call in spy.mock_calls] == [0, 0, 0]
    assert final_checkpoint(run)[1]["rollbacks"] == 2


def test_diagnostic_warning_is_printed_once_and_does_not_end_the_run(
    open_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(diagnostics, "EXPLODED", 1e-9)
    loop.train(open_run(tmp_path / "run", total_kimg=4 * STEP_KIMG))
    stderr = capsys.readouterr().err
    assert stderr.count("warning: d/adversarial is ") == 1
    assert stderr.index("warning: ") < stderr.index("0.3/")


# Full disks


@pytest.fixture
def fill_disk(monkeypatch):
    """fill_disk(name): writes to files whose names start so fail with ENOSPC."""
    original = pathlib.Path.open

    def install(name):
        def open_(path, mode="r", **options):
            is_full = path.name.startswith(name) and mode[0] in "aw"
            return original(FULL if is_full else path, mode, **options)

        monkeypatch.setattr(pathlib.Path, "open", open_)

    return install


@on_linux
@pytest.mark.parametrize("name", ["metrics.jsonl", "events.out"])
def test_full_disk_for_metrics_ends_the_run_and_resume_is_bit_for_bit(
    half_trained, fill_disk, monkeypatch, uninterrupted, final_checkpoint, name
):
    run = half_trained
    fill_disk(name)
    words = rf"{name}.* cannot be written \(No space left on device\); free disk"
    with pytest.raises(files.DiskError, match=words):
        loop.train(run)
    monkeypatch.undo()
    assert checkpoint_steps(run) == [2, 4]
    loop.train(run)
    assert_same_run(final_checkpoint, run, uninterrupted)


@on_linux
@pytest.mark.parametrize("name", ["metrics", "grids/00000006"])
def test_full_disk_during_an_atomic_write_keeps_the_previous_file(
    half_trained, uninterrupted, final_checkpoint, name
):
    run = half_trained
    before = metric_lines(run.folder)
    (run.folder / name).with_suffix(".unfinished").symlink_to(FULL)
    with pytest.raises(files.DiskError, match=rf"{name}\S* cannot be written \(No sp"):
        loop.train(run)
    assert metric_lines(run.folder)[: len(before)] == before
    assert not (run.folder / "grids" / "00000006.png").exists()
    loop.train(run)
    assert_same_run(final_checkpoint, run, uninterrupted)


def test_full_disk_for_a_checkpoint_keeps_the_previous_checkpoints(
    half_trained, monkeypatch, uninterrupted, final_checkpoint
):
    run = half_trained
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp.JsonCheckpointHandler, "_save_fn", full)
        with pytest.raises(checkpoint.CheckpointError, match=r"No space.*free disk"):
            loop.train(run)
    assert checkpoint_steps(run) == [2, 4]
    loop.train(run)
    assert_same_run(final_checkpoint, run, uninterrupted)


# Other processes, and checkpoints of other runs


def test_second_training_in_the_folder_is_refused_and_the_first_continues(
    open_run, tmp_path, on_batch, uninterrupted, final_checkpoint
):
    def train_again(step):
        if step == 3:
            with pytest.raises(lock.InUseError, match="is in use by process"):
                loop.train(run)
            refused.append(step)

    refused = []
    on_batch(train_again)
    run = open_run(tmp_path / "run")
    loop.train(run)
    assert refused == [3]
    assert_same_run(final_checkpoint, run, uninterrupted)


def test_checkpoints_of_another_configuration_are_refused(
    open_run, half_trained_folder, tmp_path
):
    """As if run.json and the command had been changed alike, by hand."""
    shutil.copytree(half_trained_folder, tmp_path / "run")
    old = open_run(tmp_path / "run").config.loss.r1_weight
    run = open_run(tmp_path / "run", loss={"r1_weight": 3.0})
    with pytest.raises(checkpoint.CheckpointError) as caught:
        loop.train(run)
    message = str(caught.value)
    assert f"checkpoint 4 of {run.folder} was trained with another conf" in message
    assert f"loss.r1_weight: {old} -> 3.0" in message
    assert "if run.json was edited, restore its old content" in message
    assert checkpoint_steps(run) == [2, 4]


def test_checkpoint_of_another_version_is_refused(half_trained, monkeypatch):
    run = half_trained
    record = {**run.record(), "schema": 3}
    monkeypatch.setattr(loop.Run, "record", lambda _: record)
    words = f"checkpoint 4 of {run.folder} was trained by another version of cxr_gan"
    with pytest.raises(checkpoint.CheckpointError, match=words):
        loop.train(run)
    assert checkpoint_steps(run) == [2, 4]
