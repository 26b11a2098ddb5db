r"""The simplest generator there is: of each class one Gaussian of its pixels.

    python -m benchmarks.gaussian --dataset=path/to/chest_xray --out=runs/gaussian.npz
    python -m cxr_gan.evaluate --images=runs/gaussian.npz \
      --dataset=path/to/chest_xray --out=runs/report_gaussian

Fitted to the training images in the space of their first principal components, drawn
from, clipped. What learns more than means and covariances must be better than this.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from cxr_gan import data, disk


def draw(
    images: np.ndarray, components: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Of one class's images, uint8 [n, s, s, 1], a Gaussian: -> [count, s, s, 1].

    Raises:
        ValueError: there are not more images than components.
    """
    if len(images) <= components:
        raise ValueError(
            f"{len(images)} images of a class have no {components} principal "
            f"components; give --components={max(1, len(images) - 1)} or fewer"
        )
    pixels = images.reshape(len(images), -1).astype(np.float64)
    mean = pixels.mean(0)
    _, lengths, axes = np.linalg.svd(pixels - mean, full_matrices=False)
    deviations = lengths[:components] / np.sqrt(len(images) - 1)
    z = rng.standard_normal((count, components))
    drawn = mean + (z * deviations) @ axes[:components]
    grey = np.clip(np.round(drawn), 0, 255).astype(np.uint8)
    return grey.reshape(count, *images.shape[1:])


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        out = pathlib.Path(values.out)
        if out.suffix != ".npz":
            raise ValueError(f"--out={out}: give a name that ends in .npz")
        if out.exists():
            raise FileExistsError(f"{out} is there already; give another name")
        dataset = data.load(values.dataset, values.resolution, split_seed=0)
        train, rng = dataset.train, np.random.default_rng(values.seed)
        drawn = [
            draw(train.images[train.labels == c], values.components, values.count, rng)
            for c in range(len(dataset.class_names))
        ]
        labels = np.repeat(np.arange(len(drawn), dtype=np.int32), values.count)
        with disk.whole(out) as path, path.open("wb") as file:
            np.savez_compressed(file, images=np.concatenate(drawn), labels=labels)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(labels)} images to {out}")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """In a function, so that tests can give their own."""
    own = {"flag_values": values}
    flags.DEFINE_string("dataset", None, "Real images, as config.dataset.", **own)
    flags.DEFINE_string("out", None, "New .npz to write.", **own)
    flags.DEFINE_integer("resolution", 64, "Pixels a side.", 32, **own)
    flags.DEFINE_integer("components", 200, "Principal components.", 1, **own)
    flags.DEFINE_integer("count", 1_000, "Images of each class.", 1, **own)
    flags.DEFINE_integer("seed", 0, "Of what is drawn.", 0, **own)
    flags.mark_flags_as_required(["dataset", "out"], **own)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
