r"""A baseline generator: one Gaussian distribution of pixels for each class.

    python -m benchmarks.gaussian --dataset=path/to/chest_xray --out=runs/gaussian.npz
    python -m cxr_gan.evaluate --images=runs/gaussian.npz \
      --dataset=path/to/chest_xray --out=runs/report_gaussian

Each Gaussian is fitted to the training images in the space of their first principal
components; its samples are clipped to grey levels. A generator that learns more than
means and covariances must be better than this baseline.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from cxr_gan import data
from cxr_gan.storage import files


def sample(
    images: np.ndarray, components: int, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Samples of a Gaussian fitted to the images of one class.

    Args:
        images: uint8 [n, s, s, 1].
        components: number of principal components.
        count: number of samples.
        rng: source of the samples.

    Returns:
        uint8 [count, s, s, 1].

    Raises:
        ValueError: there are not more images than components.
    """
    if len(images) <= components:
        raise ValueError(
            f"{len(images)} images of a class have fewer than {components} principal "
            f"components; give --components={max(1, len(images) - 1)} or fewer"
        )
    pixels = images.reshape(len(images), -1).astype(np.float64)
    mean = pixels.mean(0)
    _, singular_values, axes = np.linalg.svd(pixels - mean, full_matrices=False)
    deviations = singular_values[:components] / np.sqrt(len(images) - 1)
    z = rng.standard_normal((count, components))
    samples = mean + (z * deviations) @ axes[:components]
    samples = np.clip(np.round(samples), 0, 255).astype(np.uint8)
    return samples.reshape(count, *images.shape[1:])


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """Writes the images; returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"unexpected argument {argv[1]!r}; see --help")
        out = pathlib.Path(values.out)
        if out.suffix != ".npz":
            raise ValueError(f"--out={out}: give a name that ends in .npz")
        if out.exists():
            raise FileExistsError(f"{out} exists already; give another name")
        dataset = data.load(values.dataset, values.resolution, split_seed=0)
        train, rng = dataset.train, np.random.default_rng(values.seed)
        by_class = [
            sample(
                train.images[train.labels == c], values.components, values.count, rng
            )
            for c in range(len(dataset.class_names))
        ]
        labels = np.repeat(np.arange(len(by_class), dtype=np.int32), values.count)
        with files.atomic_write(out) as path, path.open("wb") as file:
            np.savez_compressed(file, images=np.concatenate(by_class), labels=labels)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(labels)} images to {out}")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """A function, so that tests can define the flags on their own FlagValues."""
    own = {"flag_values": values}
    flags.DEFINE_string(
        "dataset", None, "Real images, written as config.dataset.", **own
    )
    flags.DEFINE_string("out", None, ".npz to write; must not exist.", **own)
    flags.DEFINE_integer("resolution", 64, "Pixels per side.", 32, **own)
    flags.DEFINE_integer("components", 200, "Principal components.", 1, **own)
    flags.DEFINE_integer("count", 1_000, "Images of each class.", 1, **own)
    flags.DEFINE_integer("seed", 0, "Seed of the samples.", 0, **own)
    flags.mark_flags_as_required(["dataset", "out"], **own)


def cli() -> None:
    """Entry point of the command line."""
    define_flags()
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
