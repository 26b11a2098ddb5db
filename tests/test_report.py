import json
import math

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cxr_gan import report

NAMES = ("NORMAL", "PNEUMONIA")


def round_of(loss, per_class=(0.0, 1.0), non_finite=0.0):
    """The metrics of one step, as they come from the devices."""
    return {
        "d/adversarial": np.float32(loss),
        "d/lead_by_class": np.asarray(per_class, np.float32),
        "state/non_finite": np.float32(non_finite),
    }


def figures(**changes):
    """What a report shows, complete."""
    names = ["d/adversarial", "g/adversarial", "d/class", "g/class", "d/lead"]
    return {**dict.fromkeys(names, 0.5), "time/img_per_sec": 100.0, **changes}


def scalars(folder, tag="d/adversarial"):
    """[(step, value), ...] as TensorBoard itself reads them."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def lines(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def write(folder, first, *steps):
    with report.Reporter(folder, first) as reporter:
        for step in steps:
            reporter.write(step, step / 10, {"d/adversarial": step + first / 100})


def test_a_summary_is_the_mean_of_its_rounds():
    found = report.summarize([round_of(1), round_of(2)], 2, NAMES)
    assert found["d/adversarial"] == 1.5
    assert all(type(value) is float for value in found.values())


def test_an_array_becomes_a_figure_of_each_class():
    rounds = [round_of(1, (1, 2)), round_of(1, (3, 6))]
    found = report.summarize(rounds, 2, NAMES)
    assert found["d/lead/NORMAL"] == 2
    assert found["d/lead/PNEUMONIA"] == 4
    assert not [key for key in found if "by_class" in key]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("place", "step"), [(0, 8), (1, 9), (2, 10)])
def test_the_first_figure_that_is_no_number_is_named_with_its_step(bad, place, step):
    rounds = [round_of(1), round_of(1), round_of(1)]
    for broken in range(place, 3):  # all after it are as bad
        rounds[broken] = round_of(bad)
    with pytest.raises(report.NonFiniteError, match=rf"^d/adversarial .* step {step}$"):
        report.summarize(rounds, 10, NAMES)


def test_a_figure_of_one_class_that_is_no_number_is_named_with_the_class():
    rounds = [round_of(1, (0, math.nan))]
    with pytest.raises(report.NonFiniteError, match=r"^d/lead/PNEUMONIA became"):
        report.summarize(rounds, 10, NAMES)


def test_a_parameter_that_is_no_number_stops_as_well():
    with pytest.raises(report.NonFiniteError, match=r"a parameter .* step 10"):
        report.summarize([round_of(1), round_of(1, non_finite=3)], 10, NAMES)


def test_what_is_reported_stands_in_both_files(tmp_path):
    write(tmp_path, 0, 5, 10)
    assert lines(tmp_path) == [
        {"step": 5, "kimg": 0.5, "d/adversarial": 5.0},
        {"step": 10, "kimg": 1.0, "d/adversarial": 10.0},
    ]
    assert scalars(tmp_path) == [(5, 5.0), (10, 10.0)]


def test_a_report_can_be_read_while_the_run_goes_on(tmp_path):
    with report.Reporter(tmp_path, 0) as reporter:
        reporter.write(5, 0.5, {"d/adversarial": 5.0})
        assert len(lines(tmp_path)) == 1
        assert scalars(tmp_path) == [(5, 5.0)]


def test_going_on_replaces_later_steps_in_both_files(tmp_path):
    write(tmp_path, 0, 5, 10, 15)
    write(tmp_path, 10, 15, 20)
    assert [line["step"] for line in lines(tmp_path)] == [5, 10, 15, 20]
    assert lines(tmp_path)[2]["d/adversarial"] == 15.1
    found = scalars(tmp_path)
    assert [step for step, _ in found] == [5, 10, 15, 20]
    assert found[2][1] == pytest.approx(15.1)


def test_beginning_afresh_forgets_what_was_reported(tmp_path):
    write(tmp_path, 0, 5, 10)
    write(tmp_path, 0, 5)
    assert [line["step"] for line in lines(tmp_path)] == [5]
    assert scalars(tmp_path) == [(5, 5.0)]


def test_a_kill_within_an_event_loses_that_event_alone(tmp_path):
    write(tmp_path, 0, 5, 10)
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    write(tmp_path, 5, 10, 15)
    assert [step for step, _ in scalars(tmp_path)] == [5, 10, 15]


@pytest.mark.parametrize("end", [b'{"step": 1', b"\x00\x00\x00", b"\xff{", b"3", b"{}"])
def test_half_a_line_is_dropped(tmp_path, end):
    path = tmp_path / "metrics.jsonl"
    whole = b'{"step": 5, "a": 1.0}\n'
    path.write_bytes(whole + end)
    report.cut_back(path, 10)
    assert path.read_bytes() == whole


def test_lines_up_to_the_step_are_kept_byte_for_byte(tmp_path):
    path = tmp_path / "metrics.jsonl"
    text = [f'{{"step": {step}, "x":   {step / 3}}}\n' for step in range(1, 6)]
    path.write_text("".join(text))
    report.cut_back(path, 3)
    assert path.read_text() == "".join(text[:3])
    assert [*tmp_path.iterdir()] == [path]


def test_without_metrics_there_is_nothing_to_cut(tmp_path):
    report.cut_back(tmp_path / "metrics.jsonl", 3)
    assert not [*tmp_path.iterdir()]


def test_progress_is_one_line_with_all_that_one_asks_for(capsys):
    report.ProgressLine().show(2.0, 10, figures(**{"time/img_per_sec": 40.0}))
    (line,) = capsys.readouterr().err.splitlines()
    for words in ("2.0/10 kimg", "40 img/s", "ETA 0:03:20", "D 0.500", "G 0.500"):
        assert words in line


def test_no_time_is_left_where_the_last_step_went_beyond_the_total(capsys):
    report.ProgressLine().show(10.016, 10, figures(**{"time/img_per_sec": 0.01}))
    assert "10.0/10 kimg" in (said := capsys.readouterr().err) and "ETA 0:00:00" in said


def test_progress_is_rewritten_in_place_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(report.sys.stderr, "isatty", lambda: True)
    line = report.ProgressLine()
    line.show(2.0, 10, figures())
    line.show(3.0, 10, figures())
    line.say("saved")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith("saved\n")
    assert said.count("\r") == 3


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00:00"), (59, "0:00:59"), (3725, "1:02:05"), (360_000, "100:00:00")],
)
def test_the_clock_shows_hours_minutes_and_seconds(seconds, shown):
    assert report.clock(seconds) == shown
