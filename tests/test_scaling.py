"""benchmarks.scaling: what it counts, measures and reports."""

import os
import types

import benchmark_command
import numpy as np
import pytest
import tiny

from benchmarks import scaling


def test_images_of_a_measured_set_are_different_shifts_of_phantoms(monkeypatch):
    monkeypatch.setattr(scaling, "VAL", 2)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 1), np.uint8)
    labels = np.array([0, 1, 1, 0, 1], np.int32)
    chunks = list(scaling.chunks(images, labels, 200))
    assert [split for split, _ in chunks] == ["train"] * 67 + ["val"]
    train = [image for _, chunk in chunks[:-1] for image in chunk.images]
    assert len({image.tobytes() for image in train}) == len(train) == 200
    assert len({id_ for _, chunk in chunks for id_ in chunk.ids}) == 202
    np.testing.assert_array_equal(np.sort(train[199], None), np.sort(images[1], None))
    assert chunks[-2][1].labels.tolist() == [0, 1]


@pytest.mark.slow
def test_sets_and_devices_are_measured_in_their_own_processes(monkeypatch):
    monkeypatch.setattr(scaling, "COUNTS", (150, 300))
    monkeypatch.setattr(scaling, "RENDERED", 160)
    monkeypatch.setattr(scaling, "VAL", 120)
    monkeypatch.setattr(scaling, "DEVICES", (2,))
    results, text = scaling.measure(
        benchmark_command.parse(scaling, "--only=data", "--only=devices")
    )
    few, many = results["data"].values()
    assert many["size"] > few["size"] + 150 * 64 * 64
    for result in (few, many):
        assert min(result[part] for part in ("first", "batch", "read_memory")) > 0
    (split,) = results["devices"].values()
    assert split["devices"] == 2 and len(split["steps"]) == scaling.REPEATS
    assert all(row in text for row in ("| 150 images ", "| 2 virtual devices "))
    assert "JAX_NUM_CPU_DEVICES" not in os.environ


def test_table_has_a_row_for_each_result(monkeypatch, capsys):
    fake = (lambda: {"64 px": {"a": 1}}, lambda result: {"letter": str(result["a"])})
    monkeypatch.setattr(scaling, "PARTS", {"cost": fake, "data": fake})
    assert benchmark_command.run(scaling, "--only=data") == 0
    expected = "### data\n\n|  | letter |\n| --- | --: |\n| 64 px | 1 |\n\n"
    assert capsys.readouterr().out == expected


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
