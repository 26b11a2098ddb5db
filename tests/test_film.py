"""benchmarks.film: frames, captions and size of the film, and its command."""

import json

import numpy as np
import pytest
from absl import flags
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


def command(*arguments):
    values = flags.FlagValues()
    film.define_flags(values)
    values(["film", *arguments])
    return film.main(["film"], values)


def noise(frames):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 64), dtype=np.uint8) for _ in range(frames)]


def test_frames_are_the_grids_in_order_with_their_kimg(run):
    frames = film.frames_of(run)
    assert [frame[0, 0] for frame in frames] == [0, 625 % 251, 12_500 % 251]
    strips = [frame[40:] for frame in frames]
    for strip, text in zip(strips, ("0 kimg", "10 kimg", "200 kimg"), strict=True):
        blank = film.with_caption(np.zeros((40, 120), np.uint8), text)
        np.testing.assert_array_equal(strip, blank[40:])
        assert strip.any()
    assert not strips[0][:, :60].any()


def test_film_loops_and_shows_the_last_frame_longer(run, capsys):
    assert command(f"--run={run}", f"--out={run}/film.webp") == 0
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


def test_quality_is_lowered_until_the_film_fits():
    frames = noise(4)
    best = film.film(frames)
    smaller = film.film(frames, max_bytes=len(best) - 1)
    assert len(smaller) < len(best)


def test_film_that_cannot_fit_is_refused():
    with pytest.raises(ValueError, match=r"4 frames take .* at quality 30, more than"):
        film.film(noise(4), max_bytes=100)


def test_existing_film_is_not_overwritten(run, capsys):
    (run / "film.webp").write_text("mine")
    assert command(f"--run={run}", f"--out={run}/film.webp") == 1
    assert "exists already" in capsys.readouterr().err
    assert (run / "film.webp").read_text() == "mine"


def test_other_suffix_is_refused(run, capsys):
    assert command(f"--run={run}", f"--out={run}/film.gif") == 1
    assert "ends in .webp" in capsys.readouterr().err


def test_truncated_grid_is_named(run):
    path = run / "grids" / "00000625.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"00000625.png: not an image, or damaged"):
        film.frames_of(run)


def test_grid_of_another_size_is_named(run):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(run / "grids" / "00000700.png")
    with pytest.raises(ValueError, match=r"00000700.png is of another size"):
        film.frames_of(run)


def test_run_with_one_grid_is_refused(run):
    for step in (0, 625):
        (run / "grids" / f"{step:08d}.png").unlink()
    with pytest.raises(ValueError, match="holds 1 grids; a film needs two or more"):
        film.frames_of(run)


def test_folder_without_a_run_is_refused(tmp_path, capsys):
    assert command(f"--run={tmp_path}", f"--out={tmp_path}/a.webp") == 1
    assert "run.json" in capsys.readouterr().err
