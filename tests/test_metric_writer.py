import json
import math

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cxr_gan.training import metric_writer

NAMES = ("NORMAL", "PNEUMONIA")


def step_metrics(loss, by_class=(0.0, 1.0), non_finite=0.0):
    """The metrics of one step, as the devices return them."""
    return {
        "d/adversarial": np.float32(loss),
        "d/score_gap_by_class": np.asarray(by_class, np.float32),
        "state/non_finite": np.float32(non_finite),
    }


def report(**changes):
    """All metrics that the progress line shows."""
    names = ["d/adversarial", "g/adversarial", "d/class", "g/class", "d/score_gap"]
    return {**dict.fromkeys(names, 0.5), "time/images_per_second": 100.0, **changes}


def scalars(folder, tag="d/adversarial"):
    """[(step, value), ...] as TensorBoard itself reads them."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def lines(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def write(folder, first, *steps):
    """Writes a report of each step, as a run that continues after step `first`."""
    with metric_writer.MetricWriter(folder, first) as writer:
        for step in steps:
            writer.write(step, step / 10, {"d/adversarial": step + first / 100})


def test_mean_metrics_averages_over_steps_and_splits_vectors_by_class():
    steps = [step_metrics(1, (1, 2)), step_metrics(2, (3, 6))]
    metrics = metric_writer.mean_metrics(steps, 2, NAMES)
    assert metrics == {
        "d/adversarial": 1.5,
        "d/score_gap/NORMAL": 2,
        "d/score_gap/PNEUMONIA": 4,
        "state/non_finite": 0,
    }
    assert all(type(value) is float for value in metrics.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("index", "step"), [(0, 8), (1, 9), (2, 10)])
def test_first_non_finite_metric_is_named_with_its_step(bad, index, step):
    steps = [step_metrics(1), step_metrics(1), step_metrics(1)]
    for later in range(index, 3):  # all steps after it are non-finite as well
        steps[later] = step_metrics(bad)
    with pytest.raises(
        metric_writer.NonFiniteError, match=rf"^d/adversarial .* step {step}$"
    ):
        metric_writer.mean_metrics(steps, 10, NAMES)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (step_metrics(1, (0, math.nan)), r"^d/score_gap/PNEUMONIA became"),
        (step_metrics(1, non_finite=3), r"a parameter .* step 10"),
    ],
)
def test_class_or_parameter_that_is_non_finite_is_named(step, words):
    with pytest.raises(metric_writer.NonFiniteError, match=words):
        metric_writer.mean_metrics([step_metrics(1), step], 10, NAMES)


def test_reports_are_in_both_files_while_the_writer_is_open(tmp_path):
    with metric_writer.MetricWriter(tmp_path, 0) as writer:
        writer.write(5, 0.5, {"d/adversarial": 5.0})
        writer.write(10, 1.0, {"d/adversarial": 10.0})
        assert lines(tmp_path) == [
            {"step": 5, "kimg": 0.5, "d/adversarial": 5.0},
            {"step": 10, "kimg": 1.0, "d/adversarial": 10.0},
        ]
        assert scalars(tmp_path) == [(5, 5.0), (10, 10.0)]


def test_resume_replaces_later_steps_in_both_files(tmp_path):
    write(tmp_path, 0, 5, 10, 15)
    write(tmp_path, 10, 15, 20)
    assert [line["step"] for line in lines(tmp_path)] == [5, 10, 15, 20]
    assert lines(tmp_path)[2]["d/adversarial"] == 15.1
    events = scalars(tmp_path)
    assert [step for step, _ in events] == [5, 10, 15, 20]
    assert events[2][1] == pytest.approx(15.1)


def test_kill_within_an_event_loses_only_that_event(tmp_path):
    write(tmp_path, 0, 5, 10)
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    write(tmp_path, 5, 10, 15)
    assert [step for step, _ in scalars(tmp_path)] == [5, 10, 15]


@pytest.mark.parametrize("end", [b'{"step": 1', b"\x00\x00\x00", b"\xff{", b"3", b"{}"])
def test_incomplete_last_line_is_removed(tmp_path, end):
    path = tmp_path / "metrics.jsonl"
    complete = b'{"step": 5, "a": 1.0}\n'
    path.write_bytes(complete + end)
    metric_writer.truncate_after(path, 10)
    assert path.read_bytes() == complete


def test_lines_up_to_the_step_are_kept_byte_for_byte(tmp_path):
    path = tmp_path / "metrics.jsonl"
    text = [f'{{"step": {step}, "x":   {step / 3}}}\n' for step in range(1, 6)]
    path.write_text("".join(text))
    metric_writer.truncate_after(path, 3)
    assert path.read_text() == "".join(text[:3])
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("kimg", "speed", "words"),
    [
        (2.0, 40.0, ("2.0/10 kimg", "40 img/s", "ETA 03:20", "D 0.500", "G 0.500")),
        (
            10.016,
            0.01,
            ("10.0/10 kimg", "ETA 00:00"),
        ),  # the last step exceeds the total
    ],
)
def test_progress_line_shows_kimg_speed_time_left_and_losses(
    capsys, kimg, speed, words
):
    metrics = report(**{"time/images_per_second": speed})
    metric_writer.ProgressLine().update(kimg, 10, metrics)
    (line,) = capsys.readouterr().err.splitlines()
    for word in words:
        assert word in line


def test_progress_line_is_rewritten_in_place_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(metric_writer.sys.stderr, "isatty", lambda: True)
    progress = metric_writer.ProgressLine()
    progress.update(2.0, 10, report())
    progress.update(3.0, 10, report())
    progress.write("saved")
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1
    assert stderr.endswith("saved\n")
    assert stderr.count("\r") == 3
