"""Makes a film of the sample grids of a run, each with its kimg in the corner.

    python -m benchmarks.film --run=runs/kermany64 --out=docs/film.webp

The film is an animated WebP of at most 2 MB, in the best quality that fits.
"""

import io
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from PIL import Image, ImageDraw, ImageFont

MAX_BYTES = 2_000_000
QUALITIES = (90, 80, 70, 60, 50, 40, 30)  # of WebP
FRAME_MS, LAST_MS = 200, 2_000  # duration of a frame, of the last frame
FONT_SIZE = 16  # px; the strip below the grid is 1.5 times as high


def frames_of(run: pathlib.Path) -> list[np.ndarray]:
    """RUN/grids/*.png in order, uint8 [h, w] each, with kimg at the lower right.

    Raises:
        ValueError: there are fewer than two, or one is damaged or of another size.
        OSError: the run cannot be read.
    """
    config = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    files = sorted((run / "grids").glob("*.png"))
    if len(files) < 2:
        raise ValueError(
            f"{run / 'grids'} holds {len(files)} grids; a film needs two or more"
        )
    frames = []
    for file in files:
        try:
            with Image.open(file) as image:
                grid = np.asarray(image.convert("L"))
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{file}: not an image, or damaged ({error})") from error
        kimg = int(file.stem) * config["batch_size"] / 1000
        frames.append(with_caption(grid, f"{kimg:.0f} kimg"))
        if frames[-1].shape != frames[0].shape:
            raise ValueError(f"{file} is of another size than {files[0].name}")
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


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Writes the film; returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"unexpected argument {argv[1]!r}; see --help")
        out = pathlib.Path(values.out)
        if out.suffix != ".webp":
            raise ValueError(f"--out={out}: give a name that ends in .webp")
        if out.exists():
            raise FileExistsError(f"{out} exists already; give another name")
        frames = frames_of(pathlib.Path(values.run))
        out.write_bytes(film(frames))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {out}: {len(frames)} frames, {out.stat().st_size / 1e6:.2f} MB")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """A function, so that tests can define the flags on their own FlagValues."""
    flags.DEFINE_string("run", None, "Workdir of a run.", flag_values=values)
    flags.DEFINE_string("out", None, "WebP to write.", flag_values=values)
    flags.mark_flags_as_required(["run", "out"], flag_values=values)


def cli() -> None:
    """Entry point of the command line."""
    define_flags()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
