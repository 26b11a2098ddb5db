import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import chex
import numpy as np
import pytest
from PIL import Image
from tiny_runs import (
    STEP_KIMG,
    assert_same_result,
    checkpoint_steps,
    metric_lines,
    without_times,
)

from cxr_gan.runtime import signals
from cxr_gan.sampling import sampler
from cxr_gan.storage import checkpoint, lock
from cxr_gan.training import loop, metric_writer, validation


@pytest.fixture(scope="module")
def uninterrupted(open_run, tmp_path_factory):
    """A finished run of six steps and its summary; tests must not change it."""
    run = open_run(tmp_path_factory.mktemp("uninterrupted") / "run")
    message = loop.train(run)
    return run, message


@pytest.fixture
def assert_same_state(uninterrupted, final_checkpoint):
    """assert_same_state(run): it ends in the state of `uninterrupted`, bit for bit."""
    return lambda run: chex.assert_trees_all_equal(
        final_checkpoint(run)[0], final_checkpoint(uninterrupted[0])[0]
    )


def test_finished_run_has_written_what_was_due_and_gives_the_next_command(
    uninterrupted, final_checkpoint
):
    run, message = uninterrupted
    lines = metric_lines(run.folder)
    assert [line["step"] for line in lines] == [2, 3, 4, 6]
    for line in lines:
        assert line["kimg"] == pytest.approx(line["step"] * STEP_KIMG, abs=1e-3)
        assert all(np.isfinite(value) for value in line.values())
        assert {"d/adversarial", "g/adversarial", "d/score_gap/NORMAL"} <= line.keys()
    assert checkpoint_steps(run) == [4, 6]
    _, metadata = final_checkpoint(run)
    assert metadata == {**run.metadata(6, 0, {}), "step": 6, "score": None}
    grids = sorted(path.name for path in (run.folder / "grids").iterdir())
    assert grids == ["00000003.png", "00000006.png"]
    assert [*(run.folder / "tensorboard").iterdir()]
    command = f"python -m cxr_gan.generate --model={run.folder} --out=DIR"
    assert message.endswith(f"finished; {command}")


def test_grid_shows_two_rows_of_each_class_from_the_averaged_generator(uninterrupted):
    run, _ = uninterrupted
    with Image.open(run.folder / "grids" / "00000006.png") as grid:
        assert grid.mode == "L"
        pixels = np.asarray(grid)
    tile = 64 + 2  # 16 pixels enlarged four times, and a gap
    assert pixels.shape[0] == 4 * tile + 2
    labels = [0] * 16 + [1] * 16
    params = sampler.load(run.folder)
    samples = sampler.sample(params, labels, run.config.seed)
    first = np.round(np.asarray(samples[0, ..., 0]) * 255)
    column = pixels.shape[1] - 8 * tile
    np.testing.assert_array_equal(pixels[2:66:4, column : column + 64 : 4], first)


def test_validated_run_keeps_the_checkpoint_of_lowest_kid_that_does_not_copy(
    open_run, tmp_path, monkeypatch, assert_same_state, capsys
):
    kid = {1: 5.0, 2: 2.0, 3: 4.0, 4: 3.0, 5: 1.5, 6: 1.0}
    copied = {5: 0.7, 6: 0.8}  # above the limit for the 6 images of val

    def validation_metrics(_, images, labels):
        assert images.dtype == np.uint8 and images.shape[0] == len(labels)
        assert np.bincount(labels).tolist() == [validation.IMAGES_PER_CLASS] * 2
        validated.append(images)
        step = len(validated)
        near = copied.get(step, 0.01)
        return {validation.KID: kid[step], validation.NEAR_TRAINING: near}

    validated = []
    monkeypatch.setattr(validation, "make_reference", lambda *_: True)
    monkeypatch.setattr(validation, "validation_metrics", validation_metrics)
    run = open_run(tmp_path / "run", eval_kimg=STEP_KIMG)
    loop.train(run)
    assert checkpoint_steps(run) == [2, 5, 6]
    _, metadata = checkpoint.load_item(run.folder, "ema", "best")
    assert metadata["metrics"][validation.KID] == 2.0
    lines = [x for x in metric_lines(run.folder) if validation.KID in x]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line[validation.KID] for line in lines] == [*kid.values()]
    assert (validated[0] != validated[-1]).any()
    assert "the run begins to copy" in capsys.readouterr().err
    assert_same_state(run)


def test_run_trains_without_validation_where_val_has_too_few_images(
    open_run, tmp_path, caplog
):
    run = open_run(tmp_path / "run", eval_kimg=2 * STEP_KIMG)
    loop.train(run)
    assert "only 3 images of a class: with fewer than 20 of each" in caplog.text
    assert checkpoint_steps(run) == [4, 6]


def test_finished_run_says_so_and_changes_no_file(uninterrupted):
    run, _ = uninterrupted

    def modification_times():
        files = [path for path in run.folder.rglob("*") if path.is_file()]
        return {p: p.stat().st_mtime_ns for p in files if p.name != lock.LOCK_NAME}

    before = modification_times()
    assert "is finished; to continue, raise --config.total_kimg" in loop.train(run)
    assert modification_times() == before


def test_resume_after_a_crash_reproduces_uninterrupted_run_bit_for_bit(
    open_run, tmp_path, assert_same_state, on_batch, monkeypatch
):
    def crash(step):
        if step == 6:
            raise KeyboardInterrupt

    on_batch(crash)
    run = open_run(tmp_path / "run", log_kimg=STEP_KIMG, sample_kimg=STEP_KIMG)
    with pytest.raises(KeyboardInterrupt):
        loop.train(run)
    assert checkpoint_steps(run) == [2, 4]
    assert [line["step"] for line in metric_lines(run.folder)] == [1, 2, 3, 4, 5]
    monkeypatch.undo()
    writer, restored_steps = metric_writer.MetricWriter, []

    def open_writer(folder, step):
        restored_steps.append(step)
        return writer(folder, step)

    monkeypatch.setattr(loop.metric_writer, "MetricWriter", open_writer)
    loop.train(run)
    assert restored_steps == [4]
    assert [line["step"] for line in metric_lines(run.folder)] == [1, 2, 3, 4, 5, 6]
    assert len([*(run.folder / "grids").iterdir()]) == 6
    assert_same_state(run)  # which reports and samples less often


def test_damaged_checkpoint_is_set_aside_and_its_steps_are_repeated(
    open_run, tmp_path, uninterrupted, assert_same_state
):
    shutil.copytree(uninterrupted[0].folder, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints" / "6" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    run = open_run(tmp_path / "run")
    assert "finished" in loop.train(run)
    assert (run.folder / "damaged" / "6-0").is_dir()
    assert_same_state(run)


def test_run_limited_in_minutes_and_kimg_continues_to_the_same_state(
    open_run, tmp_path, assert_same_state
):
    run = open_run(tmp_path / "run", max_minutes=1e-6)
    message = loop.train(run)
    assert message.endswith("at 0.1 of 0.384 kimg; the same command continues")
    assert checkpoint_steps(run) == [1]
    assert (run.folder / "grids" / "00000001.png").exists()
    loop.train(run)
    assert checkpoint_steps(run) == [1, 2]
    loop.train(open_run(tmp_path / "run", total_kimg=3 * STEP_KIMG))
    assert checkpoint_steps(run) == [2, 3]
    loop.train(open_run(tmp_path / "run"))
    assert_same_state(run)


def test_signal_saves_and_stops_after_the_current_step(open_run, tmp_path, on_batch):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(n) for n in numbers]
    on_batch(lambda step: step == 3 and os.kill(os.getpid(), signal.SIGTERM))
    run = open_run(tmp_path / "run")
    message = loop.train(run)
    assert message.endswith("; the same command continues")
    assert checkpoint_steps(run) == [2, 3]
    assert metric_lines(run.folder)[-1]["step"] == 3
    assert [signal.getsignal(n) for n in numbers] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_requests_a_stop_and_later_ones_act_as_usual(number, monkeypatch):
    monkeypatch.setattr(signals, "REPEAT", 0)
    handled = []
    before = signal.signal(number, lambda *_: handled.append(number))
    try:
        with loop.StopSignals() as stop:
            assert not stop.requested
            os.kill(os.getpid(), number)
            assert stop.requested
            assert not handled
            os.kill(os.getpid(), number)
            assert handled == [number]
        os.kill(os.getpid(), number)
        assert handled == [number, number]
        with ThreadPoolExecutor(1) as pool:  # only the main thread may handle signals
            assert not pool.submit(loop.StopSignals().__enter__).result().requested
        os.kill(os.getpid(), number)
        assert handled == [number] * 3
    finally:
        signal.signal(number, before)


def test_signals_sent_together_are_one_request():
    """As a shell sends SIGHUP twice, and systemd SIGTERM and SIGHUP."""
    with loop.StopSignals() as stop:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop.requested


def test_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with loop.StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_data_wait_is_the_fraction_of_time_spent_waiting_for_batches(
    open_run, tmp_path, on_batch
):
    on_batch(lambda step: time.sleep(0.05))
    run = open_run(tmp_path / "run", total_kimg=4 * STEP_KIMG, log_kimg=4 * STEP_KIMG)
    loop.train(run)
    for line, steps in zip(metric_lines(run.folder), (2, 1, 1), strict=True):
        seconds = 64 * steps / line["time/images_per_second"]
        assert 0.05 * steps <= line["time/data_wait"] * seconds < seconds


# The command as a user types it: in its own process, with real flags and no mocks.

COMMAND = [
    *("-m", "cxr_gan.main", "--config=configs/quick.py"),
    *("--config.dataset=phantom:60", "--config.latent_size=8"),
    *("--config.batch_size=8", "--config.stddev_group_per_class=2"),
    *("--config.generator.features_at_32=8", "--config.generator.max_features=8"),
    "--config.discriminator.features_at_32=8",
    "--config.discriminator.max_features=8",
    *("--config.loss.r1_weight=0", "--config.total_kimg=0.48"),
    *("--config.log_kimg=0.016", "--config.checkpoint_kimg=0.032"),
]
STEPS = 60  # a report every 2, a checkpoint every 4
OTHER_SETTINGS = {
    "JAX_ENABLE_X64": "1",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_RANDOM_SEED_OFFSET": "7",
}


@pytest.fixture(scope="module")
def start_training(tmp_path_factory):
    """start_training(workdir, **env): starts the command; all calls share caches."""
    cache = tmp_path_factory.mktemp("cache")
    root = pathlib.Path(__file__).parents[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    env = {
        **kept,
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(cache / "bytecode"),
        "XDG_CACHE_HOME": str(cache),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    processes = []
    # Child processes would ignore SIGHUP as this one does under nohup.
    handler = signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def start(workdir, **variables):
        processes.append(
            subprocess.Popen(
                [sys.executable, *COMMAND, f"--workdir={workdir}"],
                cwd=tmp_path_factory.getbasetemp(),
                env={**env, **variables},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start
    signal.signal(signal.SIGHUP, handler)
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def reference(start_training, tmp_path_factory):
    """The folder of a run of 60 uninterrupted steps."""
    workdir = tmp_path_factory.mktemp("reference") / "run"
    assert "finished" in wait(start_training(workdir)).splitlines()[-1]
    return workdir


def wait(process):
    """Waits until a command ends with code 0; returns its stderr."""
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    return stderr


def wait_for_report(workdir, step, process):
    """Waits until this step or a later one has been reported."""
    path = workdir / "metrics.jsonl"
    while not path.exists() or path.read_text().count("\n") < step / 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


@pytest.mark.slow
def test_resume_after_sigkill_reproduces_uninterrupted_run_bit_for_bit(
    start_training, reference, tmp_path
):
    """Whatever JAX's settings are; tests/test_kill.py kills a run many times."""
    random_moment = random.Random(0)
    process = start_training(tmp_path / "run")
    wait_for_report(tmp_path / "run", 2, process)
    process.stderr.close()  # nobody reads on
    wait_for_report(tmp_path / "run", random_moment.randrange(6, STEPS - 10), process)
    time.sleep(random_moment.uniform(0, 0.1))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert "finished" in wait(start_training(tmp_path / "run", **OTHER_SETTINGS))
    assert_same_result(tmp_path / "run", reference, STEPS)


@pytest.mark.slow
def test_run_stopped_by_signals_resumes_with_the_same_metrics(
    start_training, reference, tmp_path
):
    workdir = tmp_path / "run"
    expected = {line["step"]: line for line in without_times(metric_lines(reference))}
    last = 0
    together = (signal.SIGINT, signal.SIGTERM, signal.SIGINT)
    for numbers in (together, (signal.SIGHUP,)):
        process = start_training(workdir)
        wait_for_report(workdir, last + 6, process)
        for number in numbers:
            process.send_signal(number)
        *lines, end = wait(process).splitlines()
        # The first lines warn of the few images of the data set.
        first = next(line for line in lines if line.startswith(str(workdir)))
        assert first.startswith(f"{workdir}: step {last + 1} of {STEPS}, ")
        assert end.startswith(f"saved {workdir} at 0.")
        assert end.endswith(" of 0.48 kimg; the same command continues")
        last = metric_lines(workdir)[-1]["step"]
        assert (workdir / "checkpoints" / str(last)).is_dir()
    assert "finished" in wait(start_training(workdir)).splitlines()[-1]
    # Metrics are means since the last report: those of full intervals must agree.
    lines = without_times(metric_lines(workdir))
    pairs = zip([{"step": 0}, *lines], lines, strict=False)
    full = [line for before, line in pairs if line["step"] - before["step"] == 2]
    equal = [line for line in full if line == expected[line["step"]]]
    assert len(equal) == len(full) > 10
