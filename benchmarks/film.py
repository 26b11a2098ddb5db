"""Makes a film of the grids a run drew, each with its kimg in the corner.

    python -m benchmarks.film --run=runs/kermany64 --out=docs/film.webp

An animated WebP of at most 2 MB: the best quality that fits.
"""

import io
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from PIL import Image, ImageDraw, ImageFont

MOST = 2_000_000  # bytes
QUALITIES = (90, 80, 70, 60, 50, 40, 30)  # of WebP
FRAME_MS, LAST_MS = 200, 2_000  # on the screen: a frame, the last one
LETTERS = 16  # px; the strip below the grid is half as high again


def frames_of(run: pathlib.Path) -> list[np.ndarray]:
    """RUN/grids/*.png in order, uint8 [h, w] each, kimg in the lower right corner.

    Raises:
        ValueError: there are not two of them, one is damaged or of another size.
        OSError: the run cannot be read.
    """
    config = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    files = sorted((run / "grids").glob("*.png"))
    if len(files) < 2:
        raise ValueError(f"{run / 'grids'} holds {len(files)} grids; two make a film")
    frames = []
    for file in files:
        try:
            with Image.open(file) as image:
                grid = np.asarray(image.convert("L"))
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{file}: not an image, or damaged ({error})") from error
        kimg = int(file.stem) * config["batch_size"] / 1000
        frames.append(lettered(grid, f"{kimg:.0f} kimg"))
        if frames[-1].shape != frames[0].shape:
            raise ValueError(f"{file} is of another size than {files[0].name}")
    return frames


def lettered(grid: np.ndarray, text: str) -> np.ndarray:
    """uint8 [h, w] -> the same above a black strip with the text at its right."""
    height, width = grid.shape
    strip = LETTERS * 3 // 2
    canvas = Image.fromarray(np.pad(grid, [(0, strip), (0, 0)]))
    corner = width - LETTERS // 2, height + strip // 2
    font = ImageFont.load_default(size=LETTERS)
    ImageDraw.Draw(canvas).text(corner, text, fill=255, font=font, anchor="rm")
    return np.asarray(canvas)


def film(frames: Sequence[np.ndarray], most: int = MOST) -> bytes:
    """An animated WebP that repeats for ever, of at most so many bytes.

    Raises:
        ValueError: not even the lowest of `QUALITIES` fits.
    """
    first, *rest = [Image.fromarray(frame).convert("RGB") for frame in frames]
    times = [FRAME_MS] * len(rest) + [LAST_MS]
    for quality in QUALITIES:
        stream = io.BytesIO()
        first.save(
            stream,
            "WEBP",
            save_all=True,
            append_images=rest,
            duration=times,
            loop=0,
            quality=quality,
        )
        if stream.tell() <= most:
            return stream.getvalue()
    raise ValueError(
        f"{len(frames)} frames take {stream.tell() / 1e6:.1f} MB at quality "
        f"{quality}, more than {most / 1e6:g}; move some grids elsewhere"
    )


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        out = pathlib.Path(values.out)
        if out.suffix != ".webp":
            raise ValueError(f"--out={out}: give a name that ends in .webp")
        if out.exists():
            raise FileExistsError(f"{out} is there already; give another name")
        frames = frames_of(pathlib.Path(values.run))
        out.write_bytes(film(frames))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {out}: {len(frames)} frames, {out.stat().st_size / 1e6:.2f} MB")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """In a function, so that tests can give their own."""
    flags.DEFINE_string("run", None, "Workdir of a training.", flag_values=values)
    flags.DEFINE_string("out", None, "WebP to write.", flag_values=values)
    flags.mark_flags_as_required(["run", "out"], flag_values=values)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
