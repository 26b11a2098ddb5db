"""Datasets of TensorFlow Datasets, by name; it downloads and prepares them."""

import functools
from typing import Any

import numpy as np
import tqdm

from cxr_gan.data.dataset import ImageSet, RawSplits, Source
from cxr_gan.data.formats import decode

VAL_NAMES = ("val", "validation")


def open_tfds(location: str) -> Source:
    """Finds the builder, without downloading; a cached dataset is never downloaded.

    Raises:
        ValueError: there is no dataset of that name, or its features are not an `image`
            and a `label` with named classes.
    """
    import tensorflow_datasets as tfds

    # Importing it before TensorFlow silences its log and hides the accelerators.
    from cxr_gan.data import pipeline  # noqa: F401

    if not location:
        raise ValueError("tfds: needs a name, such as tfds:pneumonia_mnist")
    try:
        builder = tfds.builder(location)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"tfds:{location}: TensorFlow Datasets has no dataset of that name; see "
            f"tfds.list_builders() ({error})"
        ) from error
    features = builder.info.features
    names = getattr(features["label"], "names", None) if "label" in features else None
    if "image" not in features or not names:
        raise ValueError(
            f"tfds:{location}: has the features {', '.join(features)}; must have an "
            "image and a label that is a ClassLabel"
        )
    # The fingerprint is hashed into the cache key: keep its format.
    fingerprint = f"tfds {builder.info.full_name} {builder.data_dir}"
    return Source(
        fingerprint, functools.partial(_read, builder, location, tuple(names))
    )


def _read(
    builder: Any, name: str, class_names: tuple[str, ...], resolution: int
) -> RawSplits:
    """Decodes both splits together, so that 16-bit images share one scale."""
    import tensorflow_datasets as tfds

    builder.download_and_prepare()
    splits = builder.info.splits
    if "train" not in splits:
        raise ValueError(f"tfds:{name}: has no split train, only {', '.join(splits)}")
    val_name = next((split for split in VAL_NAMES if split in splits), None)
    decoded: list[decode.DecodedImage] = []
    labels: list[int] = []
    ids: list[str] = []
    for split in ("train", val_name) if val_name else ("train",):
        examples = tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))
        bar = tqdm.tqdm(examples, f"Reading {name}", unit="img", disable=None, delay=2)
        for index, example in enumerate(bar):
            where = f"tfds:{name}: {split}[{index}]"
            decoded.append(decode.to_square(example["image"], resolution, where))
            labels.append(int(example["label"]))
            ids.append(f"{split}/{index}")
    if not decoded:
        raise ValueError(f"tfds:{name}: its split train has no images")
    images, notes = decode.to_uint8(decoded)
    both = ImageSet(images, np.array(labels, np.int32), tuple(ids))
    is_train = np.array([id_.startswith("train/") for id_ in ids])
    val = both.take(~is_train) if val_name else None
    return RawSplits(
        both.take(is_train),
        val,
        class_names,
        tuple(f"tfds:{name}: {note}" for note in notes),
    )
