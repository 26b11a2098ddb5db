"""benchmarks.film: frames, captions and size of the film, and its command."""

import json

import benchmark_command
import numpy as np
import pytest
from PIL import Image

from benchmarks import film


@pytest.fixture
def run(tmp_path):
    """A run of batch size 16 with sample grids of steps 0, 625 and 12500."""
    (tmp_path / "run.json").write_text(json.dumps({"config": {"batch_size": 16}}))
    (tmp_path / "grids").mkdir()
    for step in (625, 12_500, 0):
        grid = np.full((40, 120), step % 251, np.uint8)
        Image.fromarray(grid).save(tmp_path / "grids" / f"{step:08d}.png")
    return tmp_path


def test_frames_are_the_grids_in_order_with_their_kimg(run):
    frames = film.frames_of(run)
    assert [frame[0, 0] for frame in frames] == [0, 625 % 251, 12_500 % 251]
    for frame, text in zip(frames, ("0 kimg", "10 kimg", "200 kimg"), strict=True):
        blank = film.with_caption(np.zeros((40, 120), np.uint8), text)
        np.testing.assert_array_equal(frame[40:], blank[40:])
        assert frame[40:].any()
        assert not frame[40:, :30].any()


def test_film_loops_and_shows_the_last_frame_longer(run, capsys):
    command = (film, f"--run={run}", f"--film={run}/film.webp")
    assert benchmark_command.run(*command) == 0
    assert "3 frames" in capsys.readouterr().out
    with Image.open(run / "film.webp") as image:
        assert (image.format, image.n_frames, image.size) == ("WEBP", 3, (120, 64))
        assert image.info["loop"] == 0
        durations, levels = [], []
        for frame in range(3):
            image.seek(frame)
            levels.append(np.asarray(image.convert("L"))[:30].mean())
            durations.append(image.info["duration"])
    np.testing.assert_allclose(levels, [0, 625 % 251, 12_500 % 251], atol=3)
    assert durations == [200, 200, 2_000]
    assert benchmark_command.run(*command) == 1
    assert "exists already" in capsys.readouterr().err


def test_quality_is_lowered_until_the_film_fits():
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 64), dtype=np.uint8) for _ in range(4)]
    best = film.film(frames)
    assert len(film.film(frames, max_bytes=len(best) - 1)) < len(best)
    with pytest.raises(ValueError, match=r"4 frames take .* at quality 30, more than"):
        film.film(frames, max_bytes=100)
