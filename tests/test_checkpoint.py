import json
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

from cxr_gan import checkpoint, checksums, parallel, report
from cxr_gan.state import Player, TrainState

META = {"spec": {"resolution": 32}, "kimg": 1.5, "config": {"betas": [0.0, 0.99]}}


def small_state(step: int) -> TrainState:
    """A state with all kinds of leaves, and other numbers at every step; NumPy."""
    rng = np.random.default_rng(step)
    optimizer = optax.adam(1e-3)

    def player():
        params = {"conv": {"kernel": rng.normal(size=(3, 3, 2, 4)).astype(np.float32)}}
        memory = optimizer.init(params)
        memory = jax.tree.map(
            lambda x: np.asarray(rng.normal(size=x.shape) + 1, x.dtype), memory
        )
        return Player(params, memory)

    return TrainState(
        step=np.array(step, np.int32),
        discriminator=player(),
        generator=player(),
        ema={"conv": {"kernel": rng.normal(size=(64, 64)).astype(np.float32)}},
        lead=np.array(rng.normal(), np.float32),
    )


def save(folder, *steps, scores=None):
    with checkpoint.Checkpoints(folder) as checkpoints:
        for step in steps:
            score = scores[step] if scores else None
            checkpoints.save(small_state(step), META, score)
        checkpoints.wait()


def restore(folder):
    with checkpoint.Checkpoints(folder) as checkpoints:
        return checkpoints.restore(small_state(0))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run with checkpoints of steps 10 and 20; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("written")
    save(folder, 10, 20)
    return folder


@pytest.fixture
def two(written, tmp_path):
    """A copy of that run, to be damaged."""
    shutil.copytree(written, tmp_path / "run")
    return tmp_path / "run"


def largest_file(folder: pathlib.Path) -> pathlib.Path:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path: pathlib.Path):
    """Four bytes in the middle, inverted."""
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


def empty(step):
    largest_file(step / "state").write_bytes(b"")


def remove_file(step):
    largest_file(step / "state").unlink()


def remove_item(step):
    shutil.rmtree(step / "ema")


def remove_meta(step):
    shutil.rmtree(step / "meta")


def remove_everything(step):
    for path in step.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def meta_file(step):
    (path,) = (p for p in (step / "meta").rglob("*") if p.name == "metadata")
    return path


def change_meta(step):
    path = meta_file(step)
    text = path.read_text()
    assert '"kimg": 1.5' in text
    path.write_text(text.replace('"kimg": 1.5', '"kimg": 7.5'))


def break_meta(step):
    path = meta_file(step)
    path.write_text(path.read_text()[:-20])


DAMAGES = [
    flip_state,
    flip_ema,
    truncate,
    empty,
    remove_file,
    remove_item,
    remove_meta,
    remove_everything,
    change_meta,
    break_meta,
]
SEEN_IN_EMA = [d for d in DAMAGES if d not in (flip_state, empty, remove_file)]


def name(damage):
    return damage.__name__


def test_what_is_saved_is_restored_bit_for_bit(written):
    state, meta = restore(written)
    chex.assert_trees_all_equal(state, small_state(20))
    chex.assert_trees_all_equal_dtypes(state, small_state(20))
    chex.assert_trees_all_equal_structs(state, small_state(20))
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(state))
    assert meta == {**META, "step": 20, "score": None}


def test_a_run_without_checkpoints_restores_nothing(tmp_path):
    assert restore(tmp_path) is None


def test_the_two_newest_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 5)
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [3, 5]


@pytest.mark.parametrize("damage", DAMAGES, ids=name)
def test_a_damaged_checkpoint_is_passed_over_and_moved_aside(two, damage, caplog):
    damage(two / "checkpoints" / "20")
    with checkpoint.Checkpoints(two) as checkpoints:
        state, meta = checkpoints.restore(small_state(0))
        assert "checkpoint 20 is damaged" in caplog.text
        assert (two / "damaged" / "20-0").is_dir()
        assert checkpoints.steps() == [10]
        chex.assert_trees_all_equal(state, small_state(10))
        assert meta["step"] == 10
        checkpoints.save(small_state(20), META)  # trained anew
        checkpoints.wait()
    state, _ = restore(two)
    chex.assert_trees_all_equal(state, small_state(20))


def test_damaged_ones_are_never_written_over(two):
    for i in range(2):
        flip_state(two / "checkpoints" / "20")
        restore(two)
        assert (two / "damaged" / f"20-{i}").is_dir()
        save(two, 20)


def test_when_all_are_damaged_nothing_is_moved_and_it_is_said_what_to_do(two):
    for step in ("10", "20"):
        flip_state(two / "checkpoints" / step)
    with pytest.raises(
        checkpoint.CheckpointError,
        match=r"\[20, 10\].* copy back, go on with that version, or",
    ):
        restore(two)
    assert not (two / "damaged").exists()
    assert {"10", "20"} <= {p.name for p in (two / "checkpoints").iterdir()}


def test_a_state_of_another_shape_is_not_restored(two, caplog):
    other = small_state(0)
    other = other.replace(ema={"conv": {"kernel": np.zeros((32, 128), np.float32)}})
    with (
        checkpoint.Checkpoints(two) as checkpoints,
        pytest.raises(checkpoint.CheckpointError),
    ):
        checkpoints.restore(other)
    assert "other shapes" in caplog.text


def test_what_a_kill_left_of_a_save_is_ignored_and_replaced(two):
    half = two / "checkpoints" / "30.orbax-checkpoint-tmp"
    shutil.copytree(two / "checkpoints" / "20", half)
    remove_item(half)
    state, _ = restore(two)
    assert int(state.step) == 20
    save(two, 30)
    state, _ = restore(two)
    chex.assert_trees_all_equal(state, small_state(30))


def test_a_state_of_eight_devices_is_restored_as_that_of_one(tmp_path):
    state = parallel.replicate(small_state(7))
    assert state.generator.params["conv"]["kernel"].shape == (8, 3, 3, 2, 4)
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(parallel.unreplicate(state), META)
        checkpoints.wait()
    restored, _ = restore(tmp_path)
    chex.assert_trees_all_equal(restored, small_state(7))


def test_saving_does_not_depend_on_what_becomes_of_the_devices_arrays(tmp_path):
    spoil = jax.pmap(lambda t: jax.tree.map(lambda x: x * 0, t), donate_argnums=0)
    state = parallel.replicate(small_state(7))
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        host = parallel.unreplicate(state)
        checkpoints.save(host, META)
        jax.block_until_ready(spoil(state))
        checkpoints.wait()
    restored, _ = restore(tmp_path)
    chex.assert_trees_all_equal(restored, small_state(7))


@pytest.mark.parametrize("step", [10, 20])
def test_a_step_is_not_saved_over_its_like_or_a_later_one(two, step):
    with (
        checkpoint.Checkpoints(two) as checkpoints,
        pytest.raises(checkpoint.CheckpointError, match=f"step {step}.*10, 20"),
    ):
        checkpoints.save(small_state(step), META)
    state, _ = restore(two)
    chex.assert_trees_all_equal(state, small_state(20))


def test_an_error_of_the_background_comes_to_the_surface(two, monkeypatch):
    handler = checkpoint.ocp.JsonCheckpointHandler

    def full(*_, **__):
        raise OSError("No space left on device")

    with checkpoint.Checkpoints(two) as checkpoints:
        monkeypatch.setattr(handler, "_save_fn", full)
        with pytest.raises(checkpoint.CheckpointError, match=r"No space left.*room"):
            checkpoints.save(small_state(30), META)
            checkpoints.wait()
        monkeypatch.undo()
    state, _ = restore(two)
    chex.assert_trees_all_equal(state, small_state(20))


def test_on_a_disk_that_is_really_full_the_checkpoint_before_is_kept(tmp_path):
    """A file system of 4 MB in a mount namespace: the kernel's own answers."""
    script = pathlib.Path(__file__).with_name("full_disk.py")
    inside = ["unshare", "--mount", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"]).returncode:
        pytest.skip("no mount namespaces here")
    done = subprocess.run(
        [*inside, sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": str(script.parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    full, kept, anew = done.stdout.splitlines()
    assert "checkpoints could not be written: " in full
    assert "make room or mend it, and the same command goes on" in full
    assert (kept, anew) == ("whole: 10", "whole: 20")


def test_the_averaged_generator_is_read_alone(written):
    ema, meta = checkpoint.load_ema(written)
    chex.assert_trees_all_equal(ema, small_state(20).ema)
    assert meta == {**META, "step": 20, "score": None}
    ema, meta = checkpoint.load_ema(str(written), 10)
    chex.assert_trees_all_equal(ema, small_state(10).ema)
    assert meta["step"] == 10


@pytest.mark.parametrize("damage", SEEN_IN_EMA, ids=name)
def test_reading_passes_over_damage_and_changes_nothing_on_disk(two, damage, caplog):
    damage(two / "checkpoints" / "20")
    before = sorted(two.rglob("*"))
    ema, meta = checkpoint.load_ema(two)
    chex.assert_trees_all_equal(ema, small_state(10).ema)
    assert meta["step"] == 10
    assert "checkpoint 20 is damaged" in caplog.text
    assert sorted(two.rglob("*")) == before


def test_a_damaged_step_that_was_asked_for_is_not_replaced_by_another(two):
    flip_ema(two / "checkpoints" / "20")
    with pytest.raises(checkpoint.CheckpointError, match=r"\[20\] of \[10, 20\]"):
        checkpoint.load_ema(two, 20)


def test_reading_a_whole_run_changes_and_says_nothing(two, caplog):
    def on_disk():
        return {path: path.stat().st_mtime_ns for path in two.rglob("*")}

    before = on_disk()
    checkpoint.load_ema(two)
    assert on_disk() == before
    assert not [r for r in caplog.records if r.levelname != "INFO"]


def test_a_step_there_is_not_is_answered_with_those_there_are(written):
    with pytest.raises(FileNotFoundError, match=r"no step 15; .*\[10, 20\]"):
        checkpoint.load_ema(written, 15)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no run.*--workdir"):
        checkpoint.load_ema(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_run_without_checkpoints_is_answered_with_the_way_to_train_it(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no checkpoint; train one"):
        checkpoint.load_ema(tmp_path)


SCORES = {10: 3.0, 20: 1.0, 30: 2.0, 40: None, 50: 2.5}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    save(folder, *SCORES, scores=SCORES)
    return folder


def test_the_newest_two_and_the_one_of_the_lowest_score_stay(scored):
    with checkpoint.Checkpoints(scored, read_only=True) as checkpoints:
        assert checkpoints.steps() == [20, 40, 50]


def test_the_best_stays_when_a_run_goes_on_and_gives_way_to_a_better_one(
    scored, tmp_path
):
    shutil.copytree(scored, tmp_path / "run")
    save(tmp_path / "run", 60, 70, scores={60: 1.5, 70: None})
    save(tmp_path / "run", 80, 90, 100, scores={80: 0.5, 90: 0.6, 100: 0.7})
    with checkpoint.Checkpoints(tmp_path / "run", read_only=True) as checkpoints:
        assert checkpoints.steps() == [80, 90, 100]
    assert checkpoint.load_ema(tmp_path / "run", "best")[1]["step"] == 80


def test_the_best_is_read_by_name(scored):
    ema, meta = checkpoint.load_ema(scored, "best")
    assert (meta["step"], meta["score"]) == (20, 1.0)
    chex.assert_trees_all_equal(ema, small_state(20).ema)
    assert checkpoint.load_ema(scored, "latest")[1]["step"] == 50


def test_of_the_whole_ones_the_best_is_read(scored, tmp_path, caplog):
    shutil.copytree(scored, tmp_path / "run")
    flip_ema(tmp_path / "run" / "checkpoints" / "20")
    assert checkpoint.load_ema(tmp_path / "run", "best")[1]["step"] == 50
    assert "checkpoint 20 is damaged" in caplog.text


def test_a_run_that_was_never_evaluated_has_no_best(written):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint with a score.*@latest"):
        checkpoint.load_ema(written, "best")


def test_a_relative_folder_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("runs/a", 3)
    assert (tmp_path / "runs" / "a" / "checkpoints" / "3").is_dir()
    assert checkpoint.load_ema("runs/a")[1]["step"] == 3


def test_sums_tell_bits_shapes_and_types_apart():
    zeros = np.zeros((2, 3), np.float32)
    trees = [zeros, -zeros, zeros.T, zeros.astype(np.int32), zeros[:1]]
    sums = [checksums.crcs({"a": tree})["a"] for tree in trees]
    assert len({*sums}) == len(trees)
    assert checksums.crcs({"a": jnp.asarray(zeros)}) == {"a": sums[0]}
    assert checksums.crcs({"a": np.float32(3)}) == checksums.crcs(
        {"a": np.array(3, np.float32)}
    )


def test_sums_do_not_depend_on_the_container():
    x = np.arange(3.0)
    assert checksums.crcs({"a": (x, x)}) == checksums.crcs({"a": [x, x]})
    player = Player(params={"w": x}, opt_state=())
    assert checksums.crcs(player) == checksums.crcs({"params": {"w": x}})


def test_meta_is_json_that_anyone_can_read(written):
    text = meta_file(written / "checkpoints" / "20").read_text()
    assert json.loads(text)["kimg"] == 1.5


def test_an_error_without_words_is_named_by_its_kind():
    assert checkpoint.first_line(AssertionError()).startswith("AssertionError")
    assert len(checkpoint.first_line(ValueError("x" * 999 + "\ny"))) == 200
    assert not isinstance(checkpoint.CheckpointError(), report.NonFiniteError)
