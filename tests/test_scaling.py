"""benchmarks.scaling and its parts: what they count, compute and report."""

import pathlib
import re
import types

import numpy as np
import pytest
import tiny
from absl import flags
from PIL import Image

from benchmarks import command_line, devices, scaling, streams
from cxr_gan import data
from cxr_gan.data.phantom import renderer

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "benchmarks/reports/2026-11-scaling.md"


def test_phantoms_of_a_set_have_different_shifts():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1), np.uint8)
    labels = np.array([0, 1, 1])
    shifted = list(streams.shifted(images, labels, 200))
    assert len({pixels.tobytes() for pixels, _, _ in shifted}) == 200
    assert len({name for _, _, name in shifted}) == 200
    for index in (0, 7, 199):
        pixels, label, _ = shifted[index]
        assert label == labels[index % 3]
        np.testing.assert_array_equal(
            np.sort(pixels, None), np.sort(images[index % 3], None)
        )


@pytest.mark.slow
def test_set_is_written_and_measured_in_its_own_process(monkeypatch):
    monkeypatch.setattr(streams, "COUNTS", (150, 300))
    monkeypatch.setattr(streams, "RENDERED", 160)
    monkeypatch.setattr(streams, "VAL", 120)
    results = streams.measure()
    few, many = results["sets"].values()
    assert many["size"] - few["size"] == 150 * (few["size"] // 270)
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


def test_table_of_devices_shows_the_faster_repetition():
    result = {
        "steps": [timing(0.3), timing(0.2)],
        "memory": 5e8,
        "save": {"returns": timing(0.25), "on disk": timing(0.5), "bytes": 3e6},
    }
    text = devices.text(
        {"about": {}, "own cores": 1, "batch": 64, "devices": {"8": result}}
    )
    assert "| 8 | 200 | 400 | 500 | 0.50 | 1.50 |" in text


def test_parts_of_the_command_are_measured_and_printed(monkeypatch, capsys):
    fake = (lambda: {"a": 1}, lambda results: f"a is {results['a']}\n")
    monkeypatch.setattr(scaling, "PARTS", {"cost": fake, "data": fake})
    values = flags.FlagValues()
    command_line.define(scaling.define_flags, values)
    values(["scaling", "--only=data"])
    assert command_line.main(scaling.measure, [""], values) == 0
    assert capsys.readouterr().out == "### data\n\na is 1\n\n"
    values(["scaling", "--only=costs"])
    assert command_line.main(scaling.measure, [""], values) == 1
    message = "--only=costs: no such part; parts are cost, data"
    assert message in capsys.readouterr().err


def test_cost_per_image_has_the_penalty_once_in_its_interval(monkeypatch):
    costs = iter([24.0, 8.0])  # with R1, without

    def compile_step(gan, state, batch_size):
        cost = next(costs)
        analysis = {"flops": cost, "bytes accessed": 2 * cost}
        return types.SimpleNamespace(cost_analysis=lambda: analysis)

    monkeypatch.setattr(scaling.data_parallel, "compile_step", compile_step)
    config = tiny.tiny_config(16)
    config.batch_size, config.loss.r1_interval = 4, 2
    expected = {"flops": (24 + 8) / 2 / 4, "bytes accessed": (48 + 16) / 2 / 4}
    assert scaling.step_cost(config) == expected


def test_code_on_the_page_writes_a_folder_that_can_be_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 50)):
        for name in renderer.CLASS_NAMES:
            folder = tmp_path / "path/to/chest_xray" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (8, 8), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(code, {})
    written, original = (
        data.load(spec, 64, split_seed=0)
        for spec in ("tfrecord:path/to/records", "path/to/chest_xray")
    )
    assert written.identity == original.identity
