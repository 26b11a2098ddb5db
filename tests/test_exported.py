"""benchmarks.exported: which programs it times."""

import benchmark_command
import numpy as np
import pytest
import tiny_generator

from benchmarks import exported


def test_all_programs_make_the_same_images():
    params = tiny_generator.params()
    found = exported.programs(params)
    z = np.random.default_rng(0).standard_normal((3, 8), np.float32)
    label = np.array([0, 1, 1], np.int32)
    (_, first), *others = found.values()
    expected = np.asarray(first(z, label))
    for size, program in others:
        assert size > 0
        np.testing.assert_allclose(program(z, label), expected, atol=1e-2)


def test_several_cores_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(exported.cpu, "available_cpus", lambda: 2)
    assert benchmark_command.run(exported) == 1
    assert "give the process one core" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cxr_gan.sample", "ONNX Runtime"])
def test_table_has_a_row_for_each_program(name, monkeypatch, capsys):
    monkeypatch.setattr(exported.cpu, "available_cpus", lambda: 1)
    monkeypatch.setattr(exported.cxr_gan, "load", lambda _: tiny_generator.params())
    assert benchmark_command.run(exported, "--repeats=1") == 0
    assert f"| {name} |" in capsys.readouterr().out
