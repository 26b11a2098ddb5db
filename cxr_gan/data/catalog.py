"""Sets of tensorflow-datasets, by name, downloaded and prepared by it."""

import functools
from typing import Any

import numpy as np
import tqdm

from cxr_gan.data import decode
from cxr_gan.data.sets import ImageSet, Source, Splits

VAL_NAMES = ("val", "validation")


def open_tfds(location: str) -> Source:
    """Finds the builder; downloads nothing yet, and nothing at all if it is cached.

    Raises:
        ValueError: if there is no set of that name, or its features are not one `image`
            and one `label` of named classes.
    """
    import tensorflow_datasets as tfds

    # Imported first, it keeps TensorFlow quiet and off the accelerators.
    from cxr_gan.data import pipeline  # noqa: F401

    if not location:
        raise ValueError("tfds: needs a name, such as tfds:pneumonia_mnist")
    try:
        builder = tfds.builder(location)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"tfds:{location}: tensorflow-datasets has no set of that name; see "
            f"tfds.list_builders() ({error})"
        ) from error
    features = builder.info.features
    names = getattr(features["label"], "names", None) if "label" in features else None
    if "image" not in features or not names:
        raise ValueError(
            f"tfds:{location}: has the features {', '.join(features)}; must have an "
            "image and a label that is a ClassLabel"
        )
    fingerprint = f"tfds {builder.info.full_name} {builder.data_dir}"
    return Source(
        fingerprint, functools.partial(_read, builder, location, tuple(names))
    )


def _read(builder: Any, name: str, classes: tuple[str, ...], resolution: int) -> Splits:
    """Decodes both splits together, so that 16-bit images share one scale."""
    import tensorflow_datasets as tfds

    builder.download_and_prepare()
    splits = builder.info.splits
    if "train" not in splits:
        raise ValueError(f"tfds:{name}: has no split train, only {', '.join(splits)}")
    val_name = next((split for split in VAL_NAMES if split in splits), None)
    squares: list[decode.Square] = []
    labels: list[int] = []
    ids: list[str] = []
    for split in ("train", val_name) if val_name else ("train",):
        examples = tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))
        bar = tqdm.tqdm(examples, f"Reading {name}", unit="img", disable=None, delay=2)
        for index, example in enumerate(bar):
            where = f"tfds:{name}: {split}[{index}]"
            squares.append(decode.to_square(example["image"], resolution, where))
            labels.append(int(example["label"]))
            ids.append(f"{split}/{index}")
    if not squares:
        raise ValueError(f"tfds:{name}: its split train holds no images")
    images, notes = decode.to_uint8(squares)
    whole = ImageSet(images, np.array(labels, np.int32), tuple(ids))
    is_train = np.array([id_.startswith("train/") for id_ in ids])
    val = whole.take(~is_train) if val_name else None
    return Splits(
        whole.take(is_train), val, classes, tuple(f"tfds:{name}: {n}" for n in notes)
    )
