"""Datasets of TensorFlow Datasets, by name; it downloads and prepares them."""

import functools
from typing import Any

import tqdm

from cxr_gan.data.dataset import RawSplits, Source
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
    import tensorflow_datasets as tfds

    builder.download_and_prepare()
    splits = builder.info.splits
    if "train" not in splits:
        raise ValueError(f"tfds:{name}: has no split train, only {', '.join(splits)}")
    val_names = [split for split in VAL_NAMES if split in splits]
    decoded: list[decode.DecodedImage] = []
    images: list[tuple[int, str]] = []
    num_train = 0
    for split in ("train", *val_names[:1]):
        examples = tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))
        bar = tqdm.tqdm(examples, f"Reading {name}", unit="img", disable=None, delay=2)
        for index, example in enumerate(bar):
            where = f"tfds:{name}: {split}[{index}]"
            with decode.none_left_out(where):
                decoded.append(decode.to_square(example["image"], resolution, where))
            images.append((int(example["label"]), f"{split}/{index}"))
        num_train = num_train or len(images)
    if not num_train:
        raise ValueError(f"tfds:{name}: its split train has no images")
    return decode.to_splits(decoded, images, num_train, class_names)
