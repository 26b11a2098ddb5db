import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import chex
import numpy as np
import pytest
from PIL import Image
from rounds import ROUND, assert_same_end, lines, steps_of, without_time

from cxr_gan import checkpoint, lock, monitor, report, sampling, train


@pytest.fixture(scope="module")
def unbroken(open_run, tmp_path_factory):
    """A whole run of six rounds, and what it said at the end; not to be changed."""
    run = open_run(tmp_path_factory.mktemp("unbroken") / "run")
    message = train.train(run)
    return run, message


@pytest.fixture
def assert_as_unbroken(unbroken, end_of):
    """assert_as_unbroken(run): params, memories, mean, lead, each bit."""
    return lambda run: chex.assert_trees_all_equal(
        end_of(run)[0], end_of(unbroken[0])[0]
    )


def test_a_run_reports_draws_and_saves_when_due_and_at_its_end(unbroken):
    run, _ = unbroken
    assert [line["step"] for line in lines(run.folder)] == [2, 3, 4, 6]
    assert steps_of(run) == [4, 6]
    drawn = sorted(path.name for path in (run.folder / "grids").iterdir())
    assert drawn == ["00000003.png", "00000006.png"]
    assert [*(run.folder / "tensorboard").iterdir()]


def test_a_report_holds_finite_figures_of_both_players_and_classes(unbroken):
    run, _ = unbroken
    for line in lines(run.folder):
        assert all(np.isfinite(value) for value in line.values())
        assert {"d/adversarial", "g/adversarial", "time/img_per_sec"} <= line.keys()
        assert {"d/lead/NORMAL", "d/lead/PNEUMONIA"} <= line.keys()
        assert line["kimg"] == pytest.approx(line["step"] * ROUND, abs=1e-3)


def test_a_grid_shows_two_rows_of_each_class_from_the_averaged_generator(unbroken):
    run, _ = unbroken
    with Image.open(run.folder / "grids" / "00000006.png") as grid:
        assert grid.mode == "L"
        shown = np.asarray(grid)
    tile = 64 + 2  # 16 pixels enlarged four times, and a gap
    assert shown.shape[0] == 4 * tile + 2
    labels = [0] * 16 + [1] * 16
    params = sampling.load(run.folder)
    wanted = sampling.sample(params, labels, run.config.seed)
    first = np.round(np.asarray(wanted[0, ..., 0]) * 255)
    column = shown.shape[1] - 8 * tile
    np.testing.assert_array_equal(shown[2:66:4, column : column + 64 : 4], first)


def test_the_end_says_what_to_type_next(unbroken):
    run, message = unbroken
    assert "finished" in message
    assert f"python -m cxr_gan.generate --model={run.folder}" in message


def test_a_checkpoint_says_what_it_is(unbroken, end_of):
    run, _ = unbroken
    _, meta = end_of(run)
    assert meta == {**run.meta(6, 0, {}), "step": 6, "score": None}


def test_a_run_that_looks_at_val_keeps_the_checkpoint_nearest_to_it(
    open_run, tmp_path, monkeypatch, assert_as_unbroken
):
    found = {1: 5.0, 2: 2.0, 3: 4.0, 4: 3.0, 5: 3.5, 6: 2.5}

    def figures(_, images, labels):
        assert images.dtype == np.uint8 and images.shape[0] == len(labels)
        assert np.bincount(labels).tolist() == [monitor.PER_CLASS] * 2
        looks.append(images)
        return {monitor.BEST: found[len(looks)], "eval/fidelity": 0.5}

    looks = []
    monkeypatch.setattr(monitor, "reference_of", lambda dataset: dataset)
    monkeypatch.setattr(monitor, "figures", figures)
    run = open_run(tmp_path / "run", evaluate_kimg=ROUND)
    train.train(run)
    assert steps_of(run) == [2, 5, 6]
    assert checkpoint.load_ema(run.folder, "best")[1]["figures"][monitor.BEST] == 2.0
    of_val = [line for line in lines(run.folder) if monitor.BEST in line]
    assert [line["step"] for line in of_val] == [1, 2, 3, 4, 5, 6]
    assert [line[monitor.BEST] for line in of_val] == [*found.values()]
    assert (looks[0] != looks[-1]).any()
    assert_as_unbroken(run)


def test_a_run_whose_val_says_nothing_trains_all_the_same(open_run, tmp_path, caplog):
    run = open_run(tmp_path / "run", evaluate_kimg=2 * ROUND)
    train.train(run)
    assert "only 3 images of a class: without 20 of each" in caplog.text
    assert steps_of(run) == [4, 6]


def test_a_finished_run_says_so_and_changes_nothing(unbroken):
    run, _ = unbroken

    def written():
        files = [path for path in run.folder.rglob("*") if path.is_file()]
        return {p: p.stat().st_mtime_ns for p in files if p.name != lock.NAME}

    before = written()
    assert "is finished; to go on, raise --config.total_kimg" in train.train(run)
    assert written() == before


def test_the_last_round_is_saved_wherever_it_falls(open_run, tmp_path):
    run = open_run(tmp_path / "run", total_kimg=3 * ROUND)
    train.train(run)
    assert steps_of(run) == [2, 3]


def test_a_longer_run_goes_on_as_if_it_had_never_stopped(
    open_run, tmp_path, unbroken, assert_as_unbroken
):
    train.train(open_run(tmp_path / "run", total_kimg=4 * ROUND))
    run = open_run(tmp_path / "run")
    train.train(run)
    assert_as_unbroken(run)
    of_both = [without_time(lines(r.folder)) for r in (run, unbroken[0])]
    assert of_both[0] == of_both[1]


def test_a_run_that_died_goes_on_from_its_checkpoint(
    open_run, tmp_path, assert_as_unbroken, feed, monkeypatch
):
    def die(done):
        if done == 6:
            raise KeyboardInterrupt

    feed(die)
    run = open_run(tmp_path / "run", report_kimg=ROUND)
    with pytest.raises(KeyboardInterrupt):
        train.train(run)
    assert steps_of(run) == [2, 4]
    assert [line["step"] for line in lines(run.folder)] == [1, 2, 3, 4, 5]
    monkeypatch.undo()
    monkeypatch.setattr(
        train.report, "Reporter", _seeing_first := _Watched(train.report.Reporter)
    )
    train.train(run)
    assert _seeing_first.first == 4
    assert [line["step"] for line in lines(run.folder)] == [1, 2, 3, 4, 5, 6]
    assert_as_unbroken(run)


class _Watched:
    """A class that remembers the round it was made for."""

    def __init__(self, kind):
        self._kind, self.first = kind, None

    def __call__(self, folder, first):
        self.first = first
        return self._kind(folder, first)


def test_drawing_and_reporting_do_not_change_training(
    open_run, tmp_path, assert_as_unbroken
):
    run = open_run(tmp_path / "run", draw_kimg=ROUND, report_kimg=6 * ROUND)
    train.train(run)
    assert len([*(run.folder / "grids").iterdir()]) == 6
    assert_as_unbroken(run)


def test_a_damaged_checkpoint_costs_its_rounds_but_not_the_run(
    open_run, tmp_path, unbroken, assert_as_unbroken
):
    shutil.copytree(unbroken[0].folder, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints" / "6" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    run = open_run(tmp_path / "run")
    assert "finished" in train.train(run)
    assert (run.folder / "damaged" / "6-0").is_dir()
    assert_as_unbroken(run)


def spoil(monkeypatch, figure, round_spoilt):
    """Makes a figure of one round, and all later ones, no number."""
    whole = train.Window.add

    def add(window, metrics):
        window.rounds = getattr(window, "rounds", 0) + 1
        if window.rounds >= round_spoilt:
            metrics = {**metrics, figure: metrics[figure] * np.nan}
        whole(window, metrics)

    monkeypatch.setattr(train.Window, "add", add)


@pytest.mark.parametrize(("round_spoilt", "kept"), [(5, [2, 4]), (4, [2]), (1, [])])
def test_a_figure_that_is_no_number_stops_the_run_and_spares_the_checkpoints(
    open_run, tmp_path, monkeypatch, round_spoilt, kept
):
    spoil(monkeypatch, "d/class", round_spoilt)
    run = open_run(tmp_path / "run", report_kimg=6 * ROUND)
    with pytest.raises(report.NonFiniteError, match=f"d/class .* {round_spoilt}$"):
        train.train(run)
    assert steps_of(run) == kept
    assert [line["step"] for line in lines(run.folder)] == [
        step for step in (2, 3, 4) if step < round_spoilt
    ]
    assert not (run.folder / "grids" / "00000006.png").exists()


def test_time_is_limited_by_max_minutes(open_run, tmp_path, assert_as_unbroken):
    run = open_run(tmp_path / "run", max_minutes=1e-6)
    message = train.train(run)
    assert message.endswith("; the same command goes on")
    assert "at 0.1 of 0.384 kimg" in message
    assert steps_of(run) == [1]
    assert (run.folder / "grids" / "00000001.png").exists()
    train.train(run)
    assert steps_of(run) == [1, 2]
    run.config.max_minutes = 0.0
    train.train(run)
    assert_as_unbroken(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves(open_run, tmp_path, feed, number, capsys):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    feed(lambda done: done == 3 and os.kill(os.getpid(), number))
    run = open_run(tmp_path / "run")
    message = train.train(run)
    assert message.endswith("; the same command goes on")
    assert steps_of(run) == [2, 3]
    assert lines(run.folder)[-1]["step"] == 3
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish_and_the_second_acts_as_ever(number):
    acted = []
    before = signal.signal(number, lambda *_: acted.append(number))
    try:
        with train.StopSignals() as stop:
            assert not stop.asked
            os.kill(os.getpid(), number)
            assert stop.asked
            assert not acted
            os.kill(os.getpid(), number)
            assert acted == [number]
        os.kill(os.getpid(), number)
        assert acted == [number, number]
    finally:
        signal.signal(number, before)


def test_signals_are_left_alone_in_another_thread():
    asked = []

    def enter():
        with train.StopSignals() as stop:
            asked.append(stop.asked)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert asked == [False]


def test_waiting_for_data_is_told(open_run, tmp_path, feed):
    feed(lambda done: time.sleep(0.05))
    run = open_run(tmp_path / "run", total_kimg=4 * ROUND, report_kimg=4 * ROUND)
    train.train(run)
    for line, rounds in zip(lines(run.folder), (2, 1, 1), strict=True):
        seconds = 64 * rounds / line["time/img_per_sec"]
        assert 0.05 * rounds <= line["time/data_wait"] * seconds < seconds


def test_a_save_that_fails_ends_the_run_with_what_to_do(
    open_run, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint.ocp.JsonCheckpointHandler, "_save_fn", full)
    run = open_run(tmp_path / "run")
    with pytest.raises(checkpoint.CheckpointError, match="No space left on device"):
        train.train(run)


# What a person types, in a process of its own: real flags, nothing switched off.

COMMAND = [
    *("-m", "cxr_gan.main", "--config=configs/quick.py"),
    *("--config.dataset=phantom:60", "--config.latent_size=8"),
    *("--config.batch_size=8", "--config.group_per_class=2"),
    *("--config.generator.features_at_32=8", "--config.generator.max_features=8"),
    *(
        "--config.discriminator.features_at_32=8",
        "--config.discriminator.max_features=8",
    ),
    *("--config.loss.r1_weight=0", "--config.total_kimg=0.48"),
    *("--config.report_kimg=0.016", "--config.save_kimg=0.032"),
]
ROUNDS = 60  # a report every 2, a checkpoint every 4


@pytest.fixture(scope="module")
def begin(tmp_path_factory):
    """begin(workdir): starts the command; they share their caches."""
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
    started = []

    def begin(workdir):
        started.append(
            subprocess.Popen(
                [sys.executable, *COMMAND, f"--workdir={workdir}"],
                cwd=tmp_path_factory.getbasetemp(),
                env=env,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", autouse=True)
def begun(begin, tmp_path_factory):
    """60 rounds without a break; they are played while the tests above run."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return workdir, begin(workdir)


@pytest.fixture(scope="module")
def whole(begun):
    workdir, process = begun
    assert "finished" in finish(process).splitlines()[-1]
    return workdir


def finish(process):
    """What a command says until it ends, as it should, with code 0."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


def until(workdir, step, process):
    """Returns when that step, or a later one, has been reported."""
    path = workdir / "metrics.jsonl"
    while not path.exists() or path.read_text().count("\n") < step / 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 7))]
)
def test_killed_anywhere_a_run_ends_as_if_it_had_not_been(begin, whole, tmp_path, seed):
    chance = random.Random(seed)
    process = begin(tmp_path / "run")
    until(tmp_path / "run", chance.randrange(2, ROUNDS - 10), process)
    time.sleep(chance.uniform(0, 0.1))
    process.kill()
    assert "finished" not in process.communicate()[1]
    assert "finished" in finish(begin(tmp_path / "run"))
    assert_same_end(tmp_path / "run", whole, ROUNDS)


def test_stopped_by_a_person_and_by_a_machine_a_run_goes_on(begin, whole, tmp_path):
    workdir = tmp_path / "run"
    unbroken = {line["step"]: line for line in without_time(lines(whole))}
    last = 0
    for number, step in [(signal.SIGINT, 6), (signal.SIGTERM, 30)]:
        process = begin(workdir)
        until(workdir, step, process)
        process.send_signal(number)
        first, *_, end = finish(process).splitlines()
        assert first.startswith(f"{workdir}: round {last + 1} of {ROUNDS}, ")
        assert end.startswith(f"saved {workdir} at 0.")
        assert end.endswith(" of 0.48 kimg; the same command goes on")
        last = lines(workdir)[-1]["step"]
        assert (workdir / "checkpoints" / str(last)).is_dir()
    # Figures are means since the last report: those of whole intervals must agree.
    known = without_time(lines(workdir))
    pairs = zip([{"step": 0}, *known], known, strict=False)
    after_two = [new for old, new in pairs if new["step"] - old["step"] == 2]
    agreeing = [line for line in after_two if line == unbroken[line["step"]]]
    assert len(agreeing) == len(after_two) > 10


@pytest.mark.slow
def test_stopped_often_a_run_ends_with_the_same_parameters(begin, whole, tmp_path):
    workdir = tmp_path / "run"
    for step in range(10, ROUNDS, 10):
        process = begin(workdir)
        until(workdir, step, process)
        process.send_signal(signal.SIGTERM)
        finish(process)
    finish(begin(workdir))
    ends = [checkpoint.load_ema(folder)[0] for folder in (workdir, whole)]
    chex.assert_trees_all_equal(*ends)
