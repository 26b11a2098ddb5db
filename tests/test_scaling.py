"""benchmarks.scaling and its parts: what they count, compute and report."""

import json
import pathlib

import numpy as np
import pytest
from absl import app, flags

from benchmarks import devices, extrapolation, precision, scaling, streams

PARTS = ("cost", "devices", "data", "precision", "model")

# Per second 100 FLOP, 10 bytes of memory traffic and 8 of exchange, all at full speed.
CHIP = extrapolation.Chip(flops=100, memory_speed=10, links=8, on_host=8)
FULL = extrapolation.Assumed(arithmetic=1, memory=1, links=1, hop=0.25, dispatch=1)
WORK = extrapolation.Work(flops=50, moved=2, gradients=16, fed=32, save=5)


def test_parts_of_a_step_equal_hand_computed_values():
    one = extrapolation.step(WORK, (2, 4), 4, CHIP, FULL)
    assert one.batch == 32
    assert one.arithmetic == 4 * 50 / 100
    assert one.memory == 4 * 2 / 10
    # 7 / 4 of 16 bytes at 8 per second; hops along both sides and back, twice.
    assert one.exchange == 7 / 4 * 16 / 8 + 2 * 2 * (1 + 3) * 0.25
    assert one.feed == 32 / 32
    assert one.seconds == 2 + 3.5 + 4
    assert one.limit == "exchange"
    alone = extrapolation.step(WORK, (1, 1), 4, CHIP, FULL)
    assert (alone.exchange, alone.seconds, alone.limit) == (0, 2, "arithmetic")
    assert extrapolation.step(WORK, (16, 16), 4, CHIP, FULL).feed == one.feed
    # A step of 2 s for 4 images; a checkpoint of 5 s every 20 images.
    assert extrapolation.saving(WORK, alone, interval=20) == 5 / (5 + 20 / 4 * 2)


@pytest.mark.parametrize(
    ("changes", "limit", "seconds"),
    [
        ({"flops": 5.0, "moved": 20.0}, "memory", 8),
        ({"fed": 1.0}, "feed", 4),
        ({"flops": 5.0}, "dispatch", 1),
    ],
)
def test_step_takes_as_long_as_its_longest_part(changes, limit, seconds):
    work = extrapolation.Work(**{**vars(WORK), **changes})
    one = extrapolation.step(work, (1, 1), 4, CHIP, FULL)
    assert (one.limit, one.seconds) == (limit, seconds)


def test_table_has_a_row_for_each_slice_resolution_and_number_of_images():
    table = extrapolation.table({"64": WORK, "128": WORK}, (8, 64), 10.0)
    lines = table.splitlines()[2:]
    assert len(lines) == len(extrapolation.SLICES) * 2 * 2
    assert lines[0].startswith("| v5e-8, 64 px | 64 |")
    assert lines[-1].startswith("| v5e-256, 128 px | 16,384 |")


def rows(pooled_value, ms_ssim):
    """Rows of a report: the value of all pooled metrics, MS-SSIM of each class."""

    def row(metric, space, group, sets, value):
        keys = ("metric", "space", "group", "sets", "value")
        return dict(zip(keys, (metric, space, group, sets, value), strict=True))

    pooled = [
        row(metric, space, group, sets, value)
        for metric, space, sets in precision.METRICS.values()
        if metric != "ms_ssim"
        for group, value in (("all classes", pooled_value), ("NORMAL", 99.0))
    ]
    return pooled + [
        row("ms_ssim", "pairs", f"class {i}", "generated~A+B", value)
        for i, value in enumerate(ms_ssim)
    ]


def test_finished_trainings_and_evaluations_are_not_repeated(tmp_path, monkeypatch):
    done = []

    def run(module, *arguments):
        done.append(module)
        values = dict(a.removeprefix("--").partition("=")[::2] for a in arguments)
        if module == "cxr_gan.evaluate":
            folder = pathlib.Path(values["out"])
            folder.mkdir(parents=True)
            report = {"metrics": rows(len(done), (0.0,))}
            (folder / "report.json").write_text(json.dumps(report))

    monkeypatch.setattr(precision, "run", run)
    first = precision.measure(tmp_path, 3)
    assert done == ["cxr_gan.main", "cxr_gan.evaluate"] * 6
    assert precision.measure(tmp_path, 1)["found"] == first["found"]
    assert len(done) == 12
    fids = [metrics["FID, `cxr`"] for metrics in first["found"]["bfloat16"]]
    assert fids == [4, 8, 12]
    assert "| 6.000 (2.000 6.000 10.000) | 8.000 (4.000 8.000 12.000) | yes |" in (
        precision.text(first)
    )


def test_images_of_a_measured_set_are_different_shifts_of_phantoms(monkeypatch):
    monkeypatch.setattr(streams, "VAL", 2)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 1), np.uint8)
    labels = np.array([0, 1, 1, 0, 1], np.int32)
    chunks = list(streams.chunks(images, labels, 200))
    assert [split for split, _ in chunks] == ["train"] * 67 + ["val"]
    train = [image for _, chunk in chunks[:-1] for image in chunk.images]
    assert len({image.tobytes() for image in train}) == len(train) == 200
    assert len({id_ for _, chunk in chunks for id_ in chunk.ids}) == 202
    np.testing.assert_array_equal(np.sort(train[199], None), np.sort(images[1], None))
    assert chunks[-2][1].labels.tolist() == [0, 1]


@pytest.mark.slow
def test_set_is_written_and_measured_in_its_own_process(monkeypatch):
    monkeypatch.setattr(streams, "COUNTS", (150, 300))
    monkeypatch.setattr(streams, "RENDERED", 160)
    monkeypatch.setattr(streams, "VAL", 120)
    results = streams.measure()
    few, many = results["sets"].values()
    assert many["size"] > few["size"] + 150 * 64 * 64
    for result in (few, many):
        memory = result["memory"]
        assert 0 < memory["before"] < memory["after"] <= memory["most"]
        assert min(result[part]["cpu"] for part in ("open", "first", "batch")) > 0
    lines = streams.text(results).splitlines()
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| 150", "| 300"]


def test_save_is_timed_until_it_is_on_disk(state):
    result = devices.save(state)
    assert result["bytes"] > 1e4
    assert min(result[part]["wall"] for part in ("returns", "on disk")) > 0


def timing(seconds):
    return {"cpu": seconds, "wall": 2 * seconds}


def command(*arguments):
    values = flags.FlagValues()
    scaling.define(values)
    values(["scaling", *arguments])
    return scaling.main([""], values)


@pytest.fixture
def page(tmp_path):
    """A page with all marks and no results."""
    path = tmp_path / "page.md"
    marks = (f"<!-- {part} -->\nold\n<!-- end of {part} -->\n" for part in PARTS)
    path.write_text("".join(marks))
    return path


def test_model_is_computed_from_the_other_parts(page, monkeypatch, capsys):
    assert command(f"--out={page}", "--only=model") == 1
    assert "model needs --only=cost,devices,data first" in capsys.readouterr().err
    save = {"returns": timing(0.25), "on disk": timing(0.5), "bytes": 3e6}
    result = {"steps": [timing(0.2)], "memory": 5e8, "save": save}
    about = {"about": {}, "own cores": 1, "batch": 64}
    memory = {"before": 1e6, "most": 3e6, "after": 2e6}
    of_set = {
        "size": 1e6,
        "write": {**timing(1), "memory": 1e6},
        "open": timing(1),
        "first": timing(1),
        "batch": timing(0.001),
    }
    step = {"flops": 1e9, "bytes accessed": 1e8, "weights": {"G": 1e6, "D": 1e6}}
    results = {
        "devices": {**about, "devices": {"1": result}},
        "data": {**about, "sets": {"1000": {**of_set, "memory": memory}}},
    }
    for part, part_results in results.items():
        monkeypatch.setattr(
            {"devices": devices, "data": streams}[part],
            "measure",
            lambda r=part_results: r,
        )
    count = {"about": {"jax": "1"}, "batch": 16, "steps": {"64": step, "128": step}}
    monkeypatch.setattr(scaling, "count", lambda: count)
    assert command(f"--out={page}", "--only=cost,devices,data,model") == 0
    works = scaling.works(page)
    assert works["64"].gradients == 8e6
    assert works["64"].save == 0.5
    assert works["128"].fed == works["64"].fed / 4 == 64 / 0.001 / 4
    text = page.read_text()
    assert "| v5e-256, 128 px |" in text
    assert text.count("\nold\n") == 1  # precision is not in --only


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out=nowhere.md"], "nowhere.md: no such page"),
        (
            ["--out=PAGE", "--only=costs"],
            "--only=costs: no such part; parts are cost, devices",
        ),
    ],
)
def test_invalid_command_is_refused(page, arguments, message):
    with pytest.raises(app.UsageError, match=message):
        command(*(argument.replace("PAGE", str(page)) for argument in arguments))
