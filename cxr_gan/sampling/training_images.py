"""Which images a model, and the models that it started from, were trained on.

Images are known by digests: the SHA-256 of the pixels, as decoded for the training.
Whoever has an image can tell by its digest whether it was in the training, but no
image can be derived from a digest. Images of different sizes have different digests,
so the digests of each size are kept apart.
"""

import hashlib
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from cxr_gan.sampling import pretrained
from cxr_gan.storage import files, weights_file

FILE = "training_images.npz"  # in the folder of a run
KEY = "training_images"  # in the training state of a published model
Digests = dict[int, np.ndarray]  # px a side -> sorted SHA-256 digests, uint8 [m, 32]


def digests(images: np.ndarray, rows: Iterable[int] | None = None) -> Digests:
    """Digests of images uint8 [n, s, s, 1]; equal images have one digest.

    Args:
        images: may be memory-mapped; one image at a time is read.
        rows: of the images that are used; None for all.
    """
    used = images if rows is None else (images[row] for row in rows)
    return {images.shape[1]: _sorted(map(_digest, used))}


def merge(*parts: Digests) -> Digests:
    """The digests of all parts, each once."""
    sizes = sorted({size for part in parts for size in part})
    return {
        size: _sorted(row.tobytes() for part in parts for row in part.get(size, ()))
        for size in sizes
    }


def contains(known: Digests, images: np.ndarray) -> np.ndarray:
    """Whether each of images uint8 [n, s, s, 1] has a known digest; bool [n]."""
    rows = {row.tobytes() for row in known.get(images.shape[1], ())}
    return np.array([_digest(image) in rows for image in images], bool)


def count_others(rows: np.ndarray, *sets: np.ndarray) -> int:
    """Number of digests, uint8 [m, 32], of none of the images, uint8 [n, s, s, 1]."""
    found = {_digest(image) for images in sets for image in images}
    return len({row.tobytes() for row in rows} - found)


def to_arrays(known: Digests) -> dict[str, np.ndarray]:
    """{"64": digests}: arrays as `weights_file` stores them."""
    return {str(size): rows for size, rows in known.items()}


def write(folder: pathlib.Path, known: Digests) -> None:
    """Writes FILE into the folder of a run.

    Raises:
        DiskError: it cannot be written.
    """
    with files.translate_os_errors(folder):
        weights_file.write(folder / FILE, weights_file.pack(to_arrays(known)))


def read(model: str) -> Digests:
    """The digests of all images that a model and its ancestors were trained on.

    Args:
        model: as in `cxr_gan.load`.

    Raises:
        FileNotFoundError: the file with the digests is missing.
        ValueError: it is damaged, or belongs to another model.
    """
    source = pretrained.resolve(model)
    if isinstance(source, tuple):
        path = pathlib.Path(source[0]) / FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: there is no such file; copy it from where the run was "
                "trained, or repeat its training command, which writes it if the run "
                "did not start from another model"
            )
        arrays: Any = weights_file.unpack(path.read_bytes(), None, str(path))
    else:
        card, path = pretrained.load_card(source.with_suffix(".json")), source
        arrays = pretrained.load_state(source, card).get(KEY)
    if not isinstance(arrays, dict) or not all(
        _is_valid(size, rows) for size, rows in arrays.items()
    ):
        raise ValueError(
            f"{path}: its digests of training images are missing or are not as this "
            "version of cxr_gan writes them; publish or train the model again"
        )
    return {int(size): np.asarray(rows) for size, rows in arrays.items()}


def _is_valid(size: str, rows: Any) -> bool:
    is_bytes = getattr(rows, "dtype", None) == np.uint8
    return size.isdecimal() and is_bytes and rows.shape == (len(rows), 32)


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


def _sorted(rows: Any) -> np.ndarray:
    """Distinct digests as uint8 [m, 32]."""
    joined = b"".join(sorted(set(rows)))
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)
