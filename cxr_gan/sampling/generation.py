"""A request for generated images: what they are, what they are called, their pixels."""

import dataclasses
import re
from collections.abc import Iterator

import numpy as np

from cxr_gan.sampling import arguments, sampler
from cxr_gan.version import __version__

ALL = "all"
NOTE = (
    "Drawn by a generative model. It shows no patient and is not for clinical use: "
    "neither for diagnosis nor for teaching it."
)


@dataclasses.dataclass(frozen=True)
class Generation:
    """A checked request: the model, and which images it generates."""

    params: sampler.GeneratorParams
    model_hash: str
    labels: np.ndarray  # int32 [num], one per image
    seed: int
    truncation: float

    def class_name(self, index: int) -> str:
        """The class name of an image."""
        return self.params.class_names[self.labels[index]]

    def file(self, index: int, suffix: str) -> str:
        """NORMAL/NORMAL_00000.png; unsafe characters of the class name become "_"."""
        folder = folder_names(self.params.class_names)[self.labels[index]]
        digits = max(5, len(str(len(self.labels) - 1)))
        return f"{folder}/{folder}_{index:0{digits}}{suffix}"

    def origin(self, label: str) -> dict[str, str]:
        """How images of these classes were generated, for the metadata of a file."""
        return {
            "Synthetic": "true",
            "Description": f"Synthetic chest radiograph. {NOTE}",
            "Label": label,
            "Model": self.model_hash,
            "Seed": str(self.seed),
            "Truncation": str(self.truncation),
            "Software": f"cxr_gan {__version__}",
        }


def make_labels(label: str, num: int, class_names: tuple[str, ...]) -> np.ndarray:
    """The labels of all images; int32 [num].

    Args:
        label: a class name; or `ALL`, which takes the classes in turn, so that their
            counts differ by at most 1.
        num: number of images.
        class_names: index = label.

    Raises:
        ValueError: no class has this name.
    """
    if label == ALL:
        return np.arange(num, dtype=np.int32) % len(class_names)
    return np.full(num, arguments.label_index(label, class_names), np.int32)


def folder_names(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """A folder name for each class, different also where case does not count."""
    names = tuple(re.sub(r"[^\w-]+", "_", name) for name in class_names)
    if len({name.casefold() for name in names}) == len(names):
        return names
    return tuple(f"{label}_{name}" for label, name in enumerate(names))


def sample_images(job: Generation) -> Iterator[np.ndarray]:
    """Yields the images in order, float32 [s, s] in [0, 1].

    At most `sampler.images_in_flight()` images are held in memory.
    """
    size = sampler.images_in_flight()
    for start in range(0, len(job.labels), size):
        labels = job.labels[start : start + size]
        # `sample` rounds a single image differently, so it never gets just one label.
        padded = np.resize(labels, max(2, len(labels)))
        batch = sampler.sample(
            job.params, padded, job.seed, start=start, truncation=job.truncation
        )
        yield from np.asarray(batch)[: len(labels), ..., 0]
