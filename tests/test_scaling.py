"""benchmarks.scaling and its parts: what they count, compute and tell."""

import json
import pathlib
import re

import numpy as np
import pytest
from absl import app, flags
from PIL import Image

from benchmarks import devices, extrapolation, pages, precision, scaling, streams
from cxr_gan import data
from cxr_gan.data import phantom

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs/scaling.md"
PARTS = ("cost", "devices", "data", "precision", "model")

# A chip that computes 100 a second, reads 10 and exchanges 8, all at full speed.
CHIP = extrapolation.Chip(flops=100, memory_speed=10, links=8, on_host=8)
FULL = extrapolation.Assumed(arithmetic=1, memory=1, links=1, hop=0.25, dispatch=1)
WORK = extrapolation.Work(flops=50, moved=2, gradients=16, fed=32, save=5)


def test_the_parts_of_a_step_are_as_computed_by_hand():
    one = extrapolation.step(WORK, (2, 4), 4, CHIP, FULL)
    assert one.batch == 32
    assert one.arithmetic == 4 * 50 / 100
    assert one.memory == 4 * 2 / 10
    # 7 / 4 of 16 bytes at 8 a second; along and across, there and back, twice.
    assert one.exchange == 7 / 4 * 16 / 8 + 2 * 2 * (1 + 3) * 0.25
    assert one.feed == 32 / 32
    assert one.seconds == 2 + 3.5 + 4
    assert one.limit == "exchange"


def test_one_chip_exchanges_nothing():
    one = extrapolation.step(WORK, (1, 1), 4, CHIP, FULL)
    assert one.exchange == 0
    assert (one.seconds, one.limit) == (2, "arithmetic")


@pytest.mark.parametrize(
    ("changes", "limit", "seconds"),
    [
        ({"flops": 5.0, "moved": 20.0}, "memory", 8),
        ({"fed": 1.0}, "feed", 4),
        ({"flops": 5.0}, "dispatch", 1),
    ],
)
def test_a_step_takes_as_long_as_what_it_waits_for(changes, limit, seconds):
    work = extrapolation.Work(**{**vars(WORK), **changes})
    one = extrapolation.step(work, (1, 1), 4, CHIP, FULL)
    assert (one.limit, one.seconds) == (limit, seconds)


def test_a_host_feeds_its_own_chips_alone():
    few = extrapolation.step(WORK, (2, 4), 4, CHIP, FULL)
    many = extrapolation.step(WORK, (16, 16), 4, CHIP, FULL)
    assert many.feed == few.feed
    assert many.batch == 32 * few.batch


def test_the_share_of_saves_is_that_of_an_interval():
    one = extrapolation.step(WORK, (1, 1), 4, CHIP, FULL)  # 2 s for 4 images
    assert extrapolation.saving(WORK, one, every=20) == 5 / (5 + 20 / 4 * 2)


def test_the_table_has_a_row_for_each_slice_resolution_and_number_of_images():
    table = extrapolation.table({"64": WORK, "128": WORK}, (8, 64), 10.0)
    lines = table.splitlines()[2:]
    assert len(lines) == len(extrapolation.SLICES) * 2 * 2
    assert lines[0].startswith("| v5e-8, 64 px | 64 |")
    assert lines[-1].startswith("| v5e-256, 128 px | 16,384 |")


def rows(fid, likeness):
    """Of a report: FID of all classes, and the likeness of each."""

    def row(metric, space, group, sets, value):
        keys = ("metric", "space", "group", "sets", "value")
        return dict(zip(keys, (metric, space, group, sets, value), strict=True))

    pooled = [
        row(metric, space, group, sets, value)
        for metric, space, sets in precision.FIGURES.values()
        if metric != "ms_ssim"
        for group, value in (("all classes", fid), ("NORMAL", 99.0))
    ]
    return pooled + [
        row("ms_ssim", "pairs", f"class {i}", "generated~A+B", value)
        for i, value in enumerate(likeness)
    ]


def test_figures_are_of_all_classes_and_else_the_mean_of_them():
    found = precision.of_report(rows(3.0, (0.1, 0.3)))
    assert found["FID, `cxr`"] == 3.0
    assert found["likeness (MS-SSIM) above real"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ([1.0, 2.0], [2.1, 3.0], "no"),
        ([2.1, 3.0], [1.0, 2.0], "no"),
        ([1.0, 2.5], [2.1, 3.0], "yes"),
        ([1.0, 2.5], [2.1], "too few seeds"),
    ],
)
def test_seeds_overlap_where_one_of_them_reaches_those_of_the_other(one, other, words):
    assert precision.overlap(one, other) == words


def test_what_was_trained_and_evaluated_is_not_done_again(tmp_path, monkeypatch):
    done = []

    def run(*words):
        done.append(words[0])
        out = dict(word.removeprefix("--").partition("=")[::2] for word in words[1:])
        if words[0] == "cxr_gan.evaluate":
            folder = pathlib.Path(out["out"])
            folder.mkdir(parents=True)
            report = {"figures": rows(len(done), (0.0,))}
            (folder / "report.json").write_text(json.dumps(report))

    monkeypatch.setattr(precision, "run", run)
    first = precision.measure(tmp_path, 3)
    assert done == ["cxr_gan.main", "cxr_gan.evaluate"] * 6
    assert precision.measure(tmp_path, 1)["found"] == first["found"]
    assert len(done) == 12
    fids = [found["FID, `cxr`"] for found in first["found"]["bfloat16"]]
    assert fids == [4, 8, 12]
    assert "| 6.000 (2.000 6.000 10.000) | 8.000 (4.000 8.000 12.000) | yes |" in (
        precision.text(first)
    )


def test_the_phantoms_of_a_set_are_moved_each_by_others():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1), np.uint8)
    labels = np.array([0, 1, 1])
    moved = list(streams.moved(images, labels, 200))
    assert len({pixels.tobytes() for pixels, _, _ in moved}) == 200
    assert len({name for _, _, name in moved}) == 200
    for index in (0, 7, 199):
        pixels, label, _ = moved[index]
        assert label == labels[index % 3]
        np.testing.assert_array_equal(
            np.sort(pixels, None), np.sort(images[index % 3], None)
        )


@pytest.mark.slow
def test_a_set_is_written_opened_and_fed_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(streams, "COUNTS", (150, 300))
    monkeypatch.setattr(streams, "DRAWN", 160)
    monkeypatch.setattr(streams, "VAL", 120)
    figures = streams.measure()
    few, many = figures["sets"].values()
    assert many["size"] - few["size"] == 150 * (few["size"] // 270)
    for found in (few, many):
        memory = found["memory"]
        assert 0 < memory["before"] < memory["after"] <= memory["most"]
        assert min(found[part]["cpu"] for part in ("open", "first", "batch")) > 0
    told = streams.text(figures).splitlines()
    assert [line.split(" | ")[0] for line in told[-2:]] == ["| 150", "| 300"]


def test_a_save_is_timed_until_it_is_on_disk(state):
    taken = devices.save(state)
    assert taken["bytes"] > 1e4
    assert min(taken[part]["wall"] for part in ("returns", "on disk")) > 0


def taken(seconds):
    return {"cpu": seconds, "wall": 2 * seconds}


def test_devices_are_told_by_their_quicker_turn():
    found = {
        "steps": [taken(0.3), taken(0.2)],
        "memory": 5e8,
        "save": {"returns": taken(0.25), "on disk": taken(0.5), "bytes": 3e6},
    }
    told = devices.text(
        {"about": {}, "own cores": 1, "batch": 64, "devices": {"8": found}}
    )
    assert "| 8 | 200 | 400 | 500 | 0.50 | 1.50 |" in told


def command(*words):
    values = flags.FlagValues()
    scaling.define(values)
    values(["scaling", *words])
    return scaling.main([""], values)


@pytest.fixture
def page(tmp_path):
    """A page with all marks and no figures."""
    path = tmp_path / "page.md"
    marks = (f"<!-- {part} -->\nold\n<!-- end of {part} -->\n" for part in PARTS)
    path.write_text("".join(marks))
    return path


def test_parts_are_computed_from_those_before_them(page, monkeypatch, capsys):
    assert command(f"--out={page}", "--only=model") == 1
    assert "model needs --only=cost,devices,data first" in capsys.readouterr().err
    save = {"returns": taken(0.25), "on disk": taken(0.5), "bytes": 3e6}
    one = {"steps": [taken(0.2)], "memory": 5e8, "save": save}
    about = {"about": {}, "own cores": 1, "batch": 64}
    memory = {"before": 1e6, "most": 3e6, "after": 2e6}
    of = {"size": 1e6, "open": taken(1), "first": taken(1), "batch": taken(0.001)}
    step = {"flops": 1e9, "bytes accessed": 1e8, "weights": {"G": 1e6, "D": 1e6}}
    figures = {
        "devices": {**about, "devices": {"1": one}},
        "data": {**about, "sets": {"1000": {**of, "memory": memory}}},
    }
    for part, found in figures.items():
        monkeypatch.setattr(
            {"devices": devices, "data": streams}[part], "measure", lambda f=found: f
        )
    count = {"about": {"jax": "1"}, "batch": 16, "steps": {"64": step, "128": step}}
    monkeypatch.setattr(scaling, "count", lambda: count)
    assert command(f"--out={page}", "--only=cost,devices,data,model") == 0
    works = scaling.works(page)
    assert works["64"].gradients == 8e6
    assert works["64"].save == 0.5
    assert works["128"].fed == works["64"].fed / 4 == 64 / 0.001 / 4
    told = page.read_text()
    assert "| v5e-256, 128 px |" in told
    assert told.count("\nold\n") == 1  # precision was not asked for


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--out=nowhere.md"], "nowhere.md: no such page"),
        (["--out=PAGE", "--only=costs"], "--only=costs; parts are cost, devices"),
    ],
)
def test_a_command_that_cannot_be_followed_is_refused(page, words, complaint):
    with pytest.raises(app.UsageError, match=complaint):
        command(*(word.replace("PAGE", str(page)) for word in words))


@pytest.mark.parametrize("part", PARTS)
def test_the_page_has_the_tables_of_its_figures(part):
    figures = pages.earlier(PAGE, part)
    if not figures:
        pytest.skip(f"{pages.file_of(PAGE, part)}: not measured yet")
    _, text = scaling.parts(PAGE, ROOT, 1)[part]
    words = PAGE.read_text()
    assert pages.put(words, part, text(figures)) == words


def test_the_code_of_the_page_writes_a_folder_that_can_be_trained_on(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 50)):
        for name in phantom.CLASS_NAMES:
            folder = tmp_path / "path/to/chest_xray" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (8, 8), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(code, {})
    found, wanted = (
        data.load(spec, 64, split_seed=0)
        for spec in ("tfrecord:path/to/records", "path/to/chest_xray")
    )
    assert found.identity == wanted.identity
