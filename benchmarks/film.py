"""Makes a film of the sample grids of a run, each with its kimg in the corner.

    python -m benchmarks.film --run=runs/kermany64 --film=docs/film.webp

The film is an animated WebP of at most 2 MB, in the best quality that fits.
"""

import io
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import flags
from PIL import Image, ImageDraw, ImageFont

from benchmarks import command_line

MAX_BYTES = 2_000_000
QUALITIES = (90, 80, 70, 60, 50, 40, 30)  # of WebP
FRAME_MS, LAST_MS = 200, 2_000  # duration of a frame, of the last frame
FONT_SIZE = 16  # px; the strip below the grid is 1.5 times as high


def frames_of(run: pathlib.Path) -> list[np.ndarray]:
    """RUN/grids/*.png in order, uint8 [h, w] each, with kimg at the lower right.

    Raises:
        ValueError: there are fewer than two.
        OSError: the run or a grid cannot be read.
    """
    config = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    files = sorted((run / "grids").glob("*.png"))
    if len(files) < 2:
        raise ValueError(
            f"{run / 'grids'} holds {len(files)} grids; a film needs two or more"
        )
    frames = []
    for file in files:
        kimg = int(file.stem) * config["batch_size"] / 1000
        with Image.open(file) as image:
            grid = np.asarray(image.convert("L"))
        frames.append(with_caption(grid, f"{kimg:.0f} kimg"))
    return frames


def with_caption(grid: np.ndarray, text: str) -> np.ndarray:
    """Adds a black strip with right-aligned text below a grid, uint8 [h, w]."""
    height, width = grid.shape
    strip = FONT_SIZE * 3 // 2
    canvas = Image.fromarray(np.pad(grid, [(0, strip), (0, 0)]))
    corner = width - FONT_SIZE // 2, height + strip // 2
    font = ImageFont.load_default(size=FONT_SIZE)
    ImageDraw.Draw(canvas).text(corner, text, fill=255, font=font, anchor="rm")
    return np.asarray(canvas)


def film(frames: Sequence[np.ndarray], max_bytes: int = MAX_BYTES) -> bytes:
    """An animated WebP of at most `max_bytes` bytes that repeats without end.

    Raises:
        ValueError: even the lowest of `QUALITIES` is too large.
    """
    first, *rest = [Image.fromarray(frame).convert("RGB") for frame in frames]
    durations = [FRAME_MS] * len(rest) + [LAST_MS]
    for quality in QUALITIES:
        stream = io.BytesIO()
        first.save(
            stream,
            "WEBP",
            save_all=True,
            append_images=rest,
            duration=durations,
            loop=0,
            quality=quality,
        )
        if stream.tell() <= max_bytes:
            return stream.getvalue()
    raise ValueError(
        f"{len(frames)} frames take {stream.tell() / 1e6:.1f} MB at quality "
        f"{quality}, more than {max_bytes / 1e6:g}; move some grids elsewhere"
    )


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Writes the film."""
    path = pathlib.Path(values.film)
    if path.exists():
        raise FileExistsError(f"{path} exists already; give another name")
    frames = frames_of(pathlib.Path(values.run))
    content = film(frames)
    path.write_bytes(content)
    size = {"frames": len(frames), "bytes": len(content)}
    return size, f"wrote {path}: {len(frames)} frames, {len(content) / 1e6:.2f} MB"


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_string("run", None, "Workdir of a run.", flag_values=values)
    flags.DEFINE_string("film", None, "WebP to write.", flag_values=values)
    flags.mark_flags_as_required(["run", "film"], flag_values=values)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
