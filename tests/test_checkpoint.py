import errno
import os
import pathlib
import shutil
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cxr_gan.storage import checkpoint, checksums, damage
from cxr_gan.training import data_parallel
from cxr_gan.training.train_state import NetworkState, TrainState

on_linux = pytest.mark.skipif(
    not pathlib.Path("/proc/self/mem").exists(), reason="needs /proc of Linux"
)
METADATA = {
    "generator": {"resolution": 32},
    "kimg": 1.5,
    "config": {"betas": [0.0, 0.99]},
}


def small_state(step: int) -> TrainState:
    """A NumPy state with every kind of leaf and different values at every step."""
    rng = np.random.default_rng(step)
    optimizer = optax.adam(1e-3)

    def network():
        params = {"conv": {"kernel": rng.normal(size=(3, 3, 2, 4)).astype(np.float32)}}
        opt_state = optimizer.init(params)
        opt_state = jax.tree.map(
            lambda x: np.asarray(rng.normal(size=x.shape) + 1, x.dtype), opt_state
        )
        return NetworkState(params, opt_state)

    return TrainState(
        step=np.array(step, np.int32),
        discriminator=network(),
        generator=network(),
        ema={"conv": {"kernel": rng.normal(size=(64, 64)).astype(np.float32)}},
        score_gap=np.array(rng.normal(), np.float32),
    )


def save(folder, *steps, scores=None):
    with checkpoint.Checkpoints(folder) as checkpoints:
        for step in steps:
            score = scores[step] if scores else None
            checkpoints.save(step, small_state(step).to_items(), METADATA, score)
        checkpoints.wait()


def restore(folder):
    with checkpoint.Checkpoints(folder) as checkpoints:
        found = checkpoints.restore(small_state(0).to_items())
        return found and (TrainState.from_items(found[0]), found[1])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run with checkpoints of steps 10 and 20; tests must not change it."""
    folder = tmp_path_factory.mktemp("written")
    save(folder, 10, 20)
    return folder


@pytest.fixture
def two(written, tmp_path):
    """A copy of `written`, which tests may damage."""
    shutil.copytree(written, tmp_path / "run")
    return tmp_path / "run"


def largest_file(folder: pathlib.Path) -> pathlib.Path:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path: pathlib.Path):
    """Inverts four bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4] = bytes(255 - b for b in content[middle : middle + 4])
    path.write_bytes(content)


def flip_state(step):
    flip(largest_file(step / "state"))


def flip_ema(step):
    flip(largest_file(step / "ema"))


def truncate(step):
    path = largest_file(step / "ema")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_file(step):
    largest_file(step / "state").unlink()


def remove_item(step):
    shutil.rmtree(step / "ema")


def remove_everything(step):
    for path in step.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def edit_meta(step, edit):
    (path,) = (p for p in (step / "meta").rglob("*") if p.name == "metadata")
    before = path.read_text()
    path.write_text(edit(before))
    assert path.read_text() != before


def change_meta(step):
    edit_meta(step, lambda text: text.replace('"kimg": 1.5', '"kimg": 7.5'))


def break_meta(step):
    edit_meta(step, lambda text: text[:-20])


DAMAGES = [
    *(flip_state, flip_ema, truncate, remove_file, remove_item, remove_everything),
    *(change_meta, break_meta),
]


def name(damage):
    return damage.__name__


def test_saved_state_is_restored_bit_for_bit(written):
    state, metadata = restore(written)
    chex.assert_trees_all_equal(state, small_state(20))
    chex.assert_trees_all_equal_dtypes(state, small_state(20))
    chex.assert_trees_all_equal_structs(state, small_state(20))
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(state))
    assert metadata == {**METADATA, "step": 20, "score": None}


@pytest.mark.parametrize("damage", DAMAGES, ids=name)
def test_damaged_checkpoint_is_skipped_and_moved_aside(two, damage, caplog):
    damage(two / "checkpoints" / "20")
    with checkpoint.Checkpoints(two) as checkpoints:
        items, metadata = checkpoints.restore(small_state(0).to_items())
        state = TrainState.from_items(items)
        assert "checkpoint 20 is damaged" in caplog.text
        assert (two / "damaged" / "20-0").is_dir()
        assert checkpoints.steps() == [10]
        chex.assert_trees_all_equal(state, small_state(10))
        assert metadata["step"] == 10
        checkpoints.save(20, small_state(20).to_items(), METADATA)  # trained again
        checkpoints.wait()
    state, _ = restore(two)
    chex.assert_trees_all_equal(state, small_state(20))


def test_damaged_checkpoints_are_never_overwritten(two):
    for i in range(2):
        flip_state(two / "checkpoints" / "20")
        restore(two)
        assert (two / "damaged" / f"20-{i}").is_dir()
        save(two, 20)


def test_all_damaged_raises_advice_and_moves_nothing(two):
    for step in ("10", "20"):
        flip_state(two / "checkpoints" / step)
    with pytest.raises(
        checkpoint.CheckpointError,
        match=r"\[20, 10\].* restore a copy, use that version, or",
    ):
        restore(two)
    assert not (two / "damaged").exists()
    assert {"10", "20"} <= {p.name for p in (two / "checkpoints").iterdir()}


@pytest.mark.parametrize(
    "kernel", [np.zeros((32, 128), np.float32), np.zeros((64, 64), np.float64)]
)
def test_state_of_another_shape_or_dtype_is_refused_and_not_called_damaged(
    two, caplog, kernel
):
    flip_state(two / "checkpoints" / "20")
    other = small_state(0).replace(ema={"conv": {"kernel": kernel}})
    with (
        checkpoint.Checkpoints(two) as checkpoints,
        pytest.raises(
            damage.IntactError,
            match=r"10 is intact, but was not read .* or dtypes than",
        ),
    ):
        checkpoints.restore(other.to_items())
    assert "checkpoint 20 is damaged" in caplog.text
    assert "checkpoint 10" not in caplog.text
    assert not (two / "damaged").exists()


def raise_error(error):
    def fail(*_, **__):
        raise error

    return fail


UNREADABLE = {
    "permission": PermissionError(errno.EACCES, "Permission denied"),
    "disk": OSError(errno.EIO, "Input/output error"),
    "memory": MemoryError("Unable to allocate 9 GiB"),
}


@pytest.mark.parametrize("error", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("within", [checkpoint.ocp.CheckpointManager, pathlib.Path])
def test_checkpoint_that_cannot_be_read_now_is_refused_and_not_called_damaged(
    two, monkeypatch, caplog, error, within
):
    """As Orbax raises it, or as a plain read does after an error of another type."""
    orbax = within is checkpoint.ocp.CheckpointManager
    reason = error if orbax else ValueError("PERMISSION_DENIED")
    monkeypatch.setattr(
        checkpoint.ocp.CheckpointManager, "restore", raise_error(reason)
    )
    if not orbax:
        monkeypatch.setattr(pathlib.Path, "read_bytes", raise_error(error))
    words = (
        rf"20 cannot be read \({type(error).__name__}: .*not moved: remove the cause"
    )
    with (
        checkpoint.Checkpoints(two) as checkpoints,
        pytest.raises(damage.IntactError, match=words),
    ):
        checkpoints.restore(small_state(0).to_items())
    with pytest.raises(damage.IntactError, match=words):
        checkpoint.load_item(two, "ema")
    monkeypatch.undo()
    assert "damaged" not in caplog.text and not (two / "damaged").exists()
    chex.assert_trees_all_equal(restore(two)[0], small_state(20))


@on_linux
def test_file_of_a_checkpoint_on_a_failing_disk_is_not_called_damaged(two, caplog):
    path = largest_file(two / "checkpoints" / "20" / "state")
    path.rename(path.with_suffix(".intact"))
    path.symlink_to("/proc/self/mem")  # reading it is an input/output error
    with (
        checkpoint.Checkpoints(two) as checkpoints,
        pytest.raises(damage.IntactError, match=r"20 cannot be read \(OSError: .*"),
    ):
        checkpoints.restore(small_state(0).to_items())
    path.with_suffix(".intact").replace(path)
    assert "damaged" not in caplog.text and not (two / "damaged").exists()
    chex.assert_trees_all_equal(restore(two)[0], small_state(20))


def test_unreadable_score_does_not_make_another_checkpoint_the_best(
    scored, monkeypatch
):
    error = UNREADABLE["permission"]
    monkeypatch.setattr(checkpoint.Checkpoints, "_read", raise_error(error))
    with pytest.raises(damage.IntactError, match="Permission denied"):
        checkpoint.load_item(scored, "ema", "best")


def test_folder_of_checkpoints_that_cannot_be_opened_is_named(two, monkeypatch):
    opened = raise_error(UNREADABLE["permission"])
    monkeypatch.setattr(checkpoint.ocp, "CheckpointManager", opened)
    with pytest.raises(damage.IntactError, match=r"s cannot be read .*Permission"):
        checkpoint.Checkpoints(two)


def test_partial_checkpoint_of_a_killed_save_is_ignored_and_replaced(two):
    partial = two / "checkpoints" / "30.orbax-checkpoint-tmp"
    shutil.copytree(two / "checkpoints" / "20", partial)
    remove_item(partial)
    state, _ = restore(two)
    assert int(state.step) == 20
    save(two, 30)
    state, _ = restore(two)
    chex.assert_trees_all_equal(state, small_state(30))


def test_state_of_eight_devices_is_restored_as_of_one(tmp_path):
    overwrite = jax.pmap(lambda t: jax.tree.map(lambda x: x * 0, t), donate_argnums=0)
    state = data_parallel.replicate(small_state(7))
    assert state.generator.params["conv"]["kernel"].shape == (8, 3, 3, 2, 4)
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, data_parallel.unreplicate(state).to_items(), METADATA)
        jax.block_until_ready(overwrite(state))  # does not reach the saved arrays
        checkpoints.wait()
    restored, _ = restore(tmp_path)
    chex.assert_trees_all_equal(restored, small_state(7))


@pytest.mark.parametrize("step", [10, 20])
def test_save_refuses_a_step_that_is_not_the_newest(two, step):
    with (
        checkpoint.Checkpoints(two) as checkpoints,
        pytest.raises(checkpoint.CheckpointError, match=f"step {step}.*10, 20"),
    ):
        checkpoints.save(step, small_state(step).to_items(), METADATA)
    state, _ = restore(two)
    chex.assert_trees_all_equal(state, small_state(20))


@pytest.mark.system
def test_full_file_system_keeps_the_previous_checkpoint(tmp_path):
    """Uses a real file system of 4 MB in a mount namespace."""
    script = pathlib.Path(__file__).with_name("full_disk.py")
    namespace = ["unshare", "--mount", "--map-root-user"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*namespace, "true"]).returncode
    ):
        pytest.skip("mount namespaces are not available")
    done = subprocess.run(
        [*namespace, sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": str(script.parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    error, after_failure, after_retry = done.stdout.splitlines()
    assert "checkpoints cannot be written: " in error
    assert "repeat the command: it continues from" in error
    assert (after_failure, after_retry) == ("intact: 10", "intact: 20")


def test_ema_is_read_without_the_rest_of_the_state(written):
    ema, metadata = checkpoint.load_item(written, "ema")
    chex.assert_trees_all_equal(ema, small_state(20).ema)
    assert metadata == {**METADATA, "step": 20, "score": None}
    ema, metadata = checkpoint.load_item(str(written), "ema", 10)
    chex.assert_trees_all_equal(ema, small_state(10).ema)
    assert metadata["step"] == 10


@pytest.mark.parametrize("damage", [None, flip_ema, remove_everything])
def test_reading_skips_damage_and_changes_nothing_on_disk(two, damage, caplog):
    def on_disk():
        return {path: path.stat().st_mtime_ns for path in two.rglob("*")}

    if damage:
        damage(two / "checkpoints" / "20")
    before, newest = on_disk(), 10 if damage else 20
    ema, metadata = checkpoint.load_item(two, "ema")
    chex.assert_trees_all_equal(ema, small_state(newest).ema)
    assert metadata["step"] == newest
    assert on_disk() == before
    warnings = [r.getMessage() for r in caplog.records if r.levelname != "INFO"]
    assert bool(warnings) == bool(damage)
    assert ("checkpoint 20 is damaged" in " ".join(warnings)) == bool(damage)


def test_damaged_step_read_by_number_is_not_replaced_by_another(two):
    flip_ema(two / "checkpoints" / "20")
    with pytest.raises(checkpoint.CheckpointError, match=r"\[20\] of \[10, 20\]"):
        checkpoint.load_item(two, "ema", 20)


@pytest.mark.parametrize(
    ("folders", "which", "words"),
    [
        ([], "latest", r"is not a run.*--workdir"),
        (["checkpoints"], "latest", "holds no checkpoint; train one"),
        (
            ["checkpoints/10", "checkpoints/20"],
            15,
            r"no step 15; use one of \[10, 20\]",
        ),
    ],
)
def test_reading_what_is_absent_says_what_to_give(tmp_path, folders, which, words):
    for folder in folders:
        (tmp_path / "run" / folder).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=words):
        checkpoint.load_item(tmp_path / "run", "ema", which)


SCORES = {10: 3.0, 20: 1.0, 30: 2.0, 40: None, 50: 2.5}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    save(folder, *SCORES, scores=SCORES)
    return folder


def test_two_newest_and_the_lowest_score_are_kept_also_after_a_resume(
    scored, tmp_path, monkeypatch
):
    with checkpoint.Checkpoints(scored, read_only=True) as checkpoints:
        assert checkpoints.steps() == [20, 40, 50]
    shutil.copytree(scored, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    save("run", 60, 70, scores={60: 1.5, 70: None})
    save("run", 80, 90, 100, scores={80: 0.5, 90: 0.6, 100: 0.7})
    with checkpoint.Checkpoints("run", read_only=True) as checkpoints:
        assert checkpoints.steps() == [80, 90, 100]
    assert checkpoint.load_item("run", "ema", "best")[1]["step"] == 80


def test_best_intact_checkpoint_is_read_by_name(scored, written, tmp_path, caplog):
    ema, metadata = checkpoint.load_item(scored, "ema", "best")
    assert (metadata["step"], metadata["score"]) == (20, 1.0)
    chex.assert_trees_all_equal(ema, small_state(20).ema)
    assert checkpoint.load_item(scored, "ema", "latest")[1]["step"] == 50
    shutil.copytree(scored, tmp_path / "run")
    flip_ema(tmp_path / "run" / "checkpoints" / "20")
    assert checkpoint.load_item(tmp_path / "run", "ema", "best")[1]["step"] == 50
    assert "checkpoint 20 is damaged" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"no checkpoint with a score.*@latest"):
        checkpoint.load_item(written, "ema", "best")


def test_checksums_differ_by_bits_shapes_and_dtypes_but_not_by_container():
    zeros = np.zeros((2, 3), np.float32)
    arrays = [zeros, -zeros, zeros.T, zeros.astype(np.int32), zeros[:1]]
    sums = [checksums.tree_crc32({"a": array})["a"] for array in arrays]
    assert len({*sums}) == len(arrays)
    assert checksums.tree_crc32({"a": jnp.asarray(zeros)}) == {"a": sums[0]}
    assert checksums.tree_crc32({"a": np.float32(3)}) == checksums.tree_crc32(
        {"a": np.array(3, np.float32)}
    )
    assert checksums.tree_crc32(
        NetworkState(params={"w": zeros}, opt_state=(zeros,))
    ) == (checksums.tree_crc32({"params": {"w": zeros}, "opt_state": [zeros]}))
