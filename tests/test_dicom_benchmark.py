import sys

import benchmark_command
import numpy as np
import pytest

from benchmarks import preparation
from cxr_gan.data.formats import dicom


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    monkeypatch.setattr(preparation, "HEIGHT", 96)
    monkeypatch.setattr(preparation, "WIDTH", 80)
    monkeypatch.setattr(preparation, "RENDERED", 32)


@pytest.mark.parametrize("kind", preparation.SYNTAXES)
def test_files_hold_the_image(tmp_path, kind):
    image = preparation.make_image(0)
    assert image.shape == (96, 80)
    preparation.write_file(tmp_path / "x", image, kind, 0)
    assert dicom.inspect(tmp_path / "x").bits == 12
    pixels, _ = dicom.read_pixels(tmp_path / "x")
    # The window's center is 2048 and its width 4096: (x - 2047.5) / 4095 + 0.5
    np.testing.assert_array_equal(pixels, np.rint(image * (255 / 4095)))


def test_both_kinds_are_timed_without_monai(capsys):
    assert benchmark_command.run(preparation, "--count=20", "--repeats=1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["native", "lossless"]


def test_interpreter_without_monai_is_named(capsys):
    arguments = ("--count=20", "--repeats=1", f"--monai={sys.executable}")
    assert benchmark_command.run(preparation, *arguments) == 1
    assert "No module named 'monai'" in capsys.readouterr().err
