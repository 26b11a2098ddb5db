"""Memory-mapped TFRecord files, for datasets larger than memory.

FOLDER/train.tfrecord and FOLDER/val.tfrecord have one `tf.train.Example` per image:
`id` (bytes, padded with zeros to 64), `image` (its pixels, uint8, row by row) and
`label` (int64). FOLDER/classes.txt has one class name per line. Any TFRecord reader can
read the files, e.g. tf.data.TFRecordDataset with tf.io.parse_single_example.

All records that `write` writes to a file have the same size, so the file can be mapped
as an array: each image is read from disk when it is needed, in any order.
"""

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from cxr_gan.data.dataset import ImageSet, RawSplits, Source
from cxr_gan.data.splits import MIN_VAL_PER_CLASS
from cxr_gan.storage import files

SPLITS, CLASSES = ("train.tfrecord", "val.tfrecord"), "classes.txt"
ID_BYTES = 64
MAX_CLASSES = 128  # a label is stored as one byte of a varint
HEADER_BYTES, FOOTER_BYTES = 12, 4  # length and its CRC-32C; CRC-32C of the example
CHUNK = 4096  # records checked at a time
REWRITE = "write it again with cxr_gan.data.formats.tfrecord.write"

Example = tuple[np.ndarray, int, str]  # uint8 [s, s, 1], label, id


def examples(images: ImageSet) -> Iterator[Example]:
    """The examples of an image set, as `write` takes them."""
    return zip(images.images, images.labels.tolist(), images.ids, strict=True)


def write(
    folder: str | os.PathLike[str],
    class_names: tuple[str, ...],
    train: Iterable[Example],
    val: Iterable[Example],
) -> None:
    """Writes a dataset to a new folder, with one example in memory at a time.

    Args:
        folder: new, or empty.
        class_names: index = label.
        train: (pixels uint8 [s, s, 1], label in 0..K-1, id) of each image. Ids are
            different and have 1 to 64 bytes of UTF-8.
        val: the same, of other patients; at least 50 images of each class.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: an example is not as stated; names it.
        files.DiskError: a file cannot be written.
    """
    from cxr_gan.data import pipeline  # noqa: F401, silences TensorFlow's log
    import tensorflow as tf  # isort: skip

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in zip(SPLITS, (train, val), strict=True):
        with (
            files.atomic_write(folder / name) as unfinished,
            tf.io.TFRecordWriter(str(unfinished)) as writer,
        ):
            for image, label, id_ in split:
                writer.write(_serialize(image, label, id_, len(class_names)))
    with files.atomic_write(folder / CLASSES) as unfinished:
        unfinished.write_text("".join(f"{name}\n" for name in class_names), "utf-8")


def _serialize(image: np.ndarray, label: int, id_: str, num_classes: int) -> bytes:
    """One serialized tf.train.Example."""
    name = id_.encode()
    if image.dtype != np.uint8 or image.shape != (len(image), len(image), 1):
        raise ValueError(
            f"{id_!r}: the image is {image.dtype} {list(image.shape)}; must be uint8 "
            "[s, s, 1]"
        )
    if not 0 < len(name) <= ID_BYTES or b"\0" in name:
        raise ValueError(
            f"{id_!r}: an id must have 1 to {ID_BYTES} bytes, none zero; change it"
        )
    if not 0 <= label < min(num_classes, MAX_CLASSES):
        raise ValueError(
            f"{id_!r}: the label {label} is not one of {num_classes} classes (at most "
            f"{MAX_CLASSES} can be written)"
        )
    template, dtype = _record_layout(len(image))
    record = np.frombuffer(bytearray(template), dtype)
    record["id"], record["image"], record["label"] = name, image, label
    return record.tobytes()[HEADER_BYTES:-FOOTER_BYTES]


@functools.cache
def _record_layout(side: int) -> tuple[bytes, np.dtype[np.void]]:
    """A record of zeros (its CRCs too), and the structured dtype of a record.

    Source: TensorFlow's guide "TFRecord and tf.train.Example", "TFRecords format
    details": uint64 length, CRC of the length, the bytes, CRC of the bytes.
    """
    from cxr_gan.data import pipeline  # noqa: F401, silences TensorFlow's log
    import tensorflow as tf  # isort: skip

    def example(id_byte: bytes, image_byte: bytes) -> bytes:
        values = {
            "id": {"bytes_list": {"value": [id_byte * ID_BYTES]}},
            "image": {"bytes_list": {"value": [image_byte * side**2]}},
            "label": {"int64_list": {"value": [0]}},
        }
        features = tf.train.Features(feature=values)
        # Deterministic serialization sorts the names, so the last byte is the label.
        message = tf.train.Example(features=features)
        return bytes(message.SerializeToString(deterministic=True))

    # The length before each run ends with a byte below 0x80, so `index` finds the run.
    marked = example(b"\xfe", b"\xff")
    fields = {
        "length": ("<u8", 0),
        "id": (f"S{ID_BYTES}", HEADER_BYTES + marked.index(b"\xfe" * ID_BYTES)),
        "image": (
            ("u1", (side, side, 1)),
            HEADER_BYTES + marked.index(b"\xff" * side**2),
        ),
        "label": ("u1", HEADER_BYTES + len(marked) - 1),
    }
    formats, offsets = zip(*fields.values(), strict=True)
    dtype = np.dtype(
        {
            "names": [*fields],
            "formats": [*formats],
            "offsets": [*offsets],
            "itemsize": HEADER_BYTES + len(marked) + FOOTER_BYTES,
        }
    )
    header = len(marked).to_bytes(8, "little").ljust(HEADER_BYTES, b"\0")
    return header + example(b"\0", b"\0") + bytes(FOOTER_BYTES), dtype


def open_tfrecord(location: str) -> Source:
    """Checks that the files exist, without reading them.

    Raises:
        FileNotFoundError: one of them does not exist.
    """
    folder = Path(location).expanduser()
    for name in (*SPLITS, CLASSES):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name}: no such file; tfrecord:FOLDER needs "
                f"{', '.join((*SPLITS, CLASSES))}, as written by "
                "cxr_gan.data.formats.tfrecord.write"
            )
    return Source(None, functools.partial(_read, folder))


def _read(folder: Path, resolution: int) -> RawSplits:
    names = tuple((folder / CLASSES).read_text("utf-8").split("\n")[:-1])
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(
            f"{folder / CLASSES}: must have the name of a class in each line, all "
            f"different; it has {list(names)}"
        )
    train, val = (_map(folder / name, resolution, len(names)) for name in SPLITS)
    smallest = int(val.counts(len(names)).min())
    if smallest < MIN_VAL_PER_CLASS:
        raise ValueError(
            f"{folder / SPLITS[1]}: has only {smallest} images of a class; at least "
            f"{MIN_VAL_PER_CLASS} of each are needed, because no images of train are "
            f"held out in this format; {REWRITE}"
        )
    return RawSplits(train, val, names)


def _map(path: Path, resolution: int, num_classes: int) -> ImageSet:
    """The file as memory-mapped arrays; the pixels stay on disk.

    Checks the layout and the CRC of every record.

    Raises:
        ValueError: the file is not as `write` writes it; names the file.
    """
    template, dtype = _record_layout(resolution)
    record_length = dtype.itemsize - HEADER_BYTES - FOOTER_BYTES
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length != record_length:
        raise ValueError(
            f"{path}: its first record has {length} bytes; one of {resolution} px has "
            f"{record_length}; give the --config.resolution it was written with, or "
            f"{REWRITE}"
        )
    count, remainder = divmod(path.stat().st_size, dtype.itemsize)
    if remainder:
        raise ValueError(
            f"{path}: truncated: {count} complete records and {remainder} bytes of "
            "another; copy it again"
        )
    _check_crcs(path)
    records = np.memmap(path, dtype, mode="r").view(np.ndarray)
    for start in range(0, count, CHUNK):
        _check_layout(path, records[start : start + CHUNK], start, template)
    labels = records["label"].astype(np.int32)
    if labels.max() >= num_classes:
        raise ValueError(
            f"{path}: labels go up to {labels.max()}, but {CLASSES} names "
            f"{num_classes} classes; restore the {CLASSES} it was written with"
        )
    ids = tuple(str(name, "utf-8") for name in records["id"])
    if len(set(ids)) < count:
        raise ValueError(f"{path}: an id occurs twice; {REWRITE}")
    return ImageSet(records["image"], labels, ids)


def _check_crcs(path: Path) -> None:
    from cxr_gan.data import pipeline  # noqa: F401, silences TensorFlow's log
    import tensorflow as tf  # isort: skip

    records = tf.data.TFRecordDataset(str(path), buffer_size=1 << 20)
    try:
        # TensorFlow compares the CRCs of every record that it reads.
        records.reduce(np.int64(0), lambda count, _: count + 1)
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"{path}: damaged ({error.message.splitlines()[0]}); copy it again"
        ) from error


def _check_layout(path: Path, records: np.ndarray, start: int, template: bytes) -> None:
    """Raises ValueError if a record differs from `template` outside values and CRCs."""
    size = records.dtype.itemsize
    fixed = np.ones(size, bool)  # bytes that are the same in every record
    fixed[8:HEADER_BYTES] = fixed[-FOOTER_BYTES:] = False
    fields = records.dtype.fields
    assert fields is not None
    for name in ("id", "image", "label"):
        kind, offset = fields[name][:2]
        fixed[offset : offset + kind.itemsize] = False
    columns = np.flatnonzero(fixed)
    values = records.view(np.uint8).reshape(-1, size)[:, columns]
    wrong = (values != np.frombuffer(template, np.uint8)[columns]).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"{path}: record {start + int(wrong.argmax())} has another layout than "
            f"`write` gives it; {REWRITE}"
        )
