"""TFRecord files that are mapped, not read: sets larger than memory.

FOLDER/train.tfrecord and FOLDER/val.tfrecord hold a `tf.train.Example` an image: `id`
(bytes, zeros up to 64), `image` (its pixels, uint8, row by row) and `label` (int64).
FOLDER/classes.txt has the name of a class in each line. Whatever reads TFRecord reads
them, as tf.data.TFRecordDataset and tf.io.parse_single_example do.

As `write` writes them all records of a file are of one size, and so the file is an
array: an image is read from disk when it is shown, in any order, and from any step on.
"""

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from cxr_gan import disk
from cxr_gan.data.sets import ImageSet, Source, Splits
from cxr_gan.data.splits import MIN_VAL_PER_CLASS

SPLITS, CLASSES = ("train.tfrecord", "val.tfrecord"), "classes.txt"
ID_BYTES = 64
MOST_CLASSES = 128  # a label is one byte of a varint
HEAD, FOOT = 12, 4  # bytes around an example: its length and a CRC-32C; its own CRC
CHUNK = 4096  # records looked at together
ANEW = "write it anew with cxr_gan.data.tfrecord.write"

Example = tuple[np.ndarray, int, str]  # uint8 [s, s, 1], label, id


def examples(images: ImageSet) -> Iterator[Example]:
    """What `write` takes, of a set that is in memory."""
    return zip(images.images, images.labels.tolist(), images.ids, strict=True)


def write(
    folder: str | os.PathLike[str],
    class_names: tuple[str, ...],
    train: Iterable[Example],
    val: Iterable[Example],
) -> None:
    """Writes a set into a new folder; only one example is in memory at a time.

    Args:
        folder: new, or empty.
        class_names: index = label.
        train: uint8 [s, s, 1], a label of 0..K-1 and an id each. Ids are different,
            and have up to 64 bytes of UTF-8.
        val: likewise, of other patients; at least 50 of each class.

    Raises:
        FileExistsError: there is something in the folder.
        ValueError: an example is not as stated; names it.
        disk.DiskError: a file cannot be written.
    """
    from cxr_gan.data import pipeline  # noqa: F401, keeps TensorFlow quiet
    import tensorflow as tf  # isort: skip

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, given in zip(SPLITS, (train, val), strict=True):
        with (
            disk.whole(folder / name) as unfinished,
            tf.io.TFRecordWriter(str(unfinished)) as writer,
        ):
            for image, label, id_ in given:
                writer.write(_filled(image, label, id_, len(class_names)))
    with disk.whole(folder / CLASSES) as unfinished:
        unfinished.write_text("".join(f"{name}\n" for name in class_names), "utf-8")


def _filled(image: np.ndarray, label: int, id_: str, num_classes: int) -> bytes:
    """One example, serialized."""
    name = id_.encode()
    if image.dtype != np.uint8 or image.shape != (len(image), len(image), 1):
        raise ValueError(
            f"{id_!r}: the image is {image.dtype} {list(image.shape)}; must be uint8 "
            "[s, s, 1]"
        )
    if not 0 < len(name) <= ID_BYTES or b"\0" in name:
        raise ValueError(
            f"{id_!r}: an id has 1 to {ID_BYTES} bytes, none of them zero; shorten it"
        )
    if not 0 <= label < min(num_classes, MOST_CLASSES):
        raise ValueError(
            f"{id_!r}: the label {label} is none of {num_classes} classes (at most "
            f"{MOST_CLASSES} can be written)"
        )
    template, layout = _layout(len(image))
    record = np.frombuffer(bytearray(template), layout)
    record["id"], record["image"], record["label"] = name, image, label
    return record.tobytes()[HEAD:-FOOT]


@functools.cache
def _layout(side: int) -> tuple[bytes, np.dtype[np.void]]:
    """A record of zeros, without its CRCs, and where in it things stand.

    Source: the guide "TFRecord and tf.train.Example" of TensorFlow, "TFRecords format
    details": uint64 length, CRC of it, the bytes, CRC of them.
    """
    from cxr_gan.data import pipeline  # noqa: F401, keeps TensorFlow quiet
    import tensorflow as tf  # isort: skip

    def example(of_id: bytes, of_image: bytes) -> bytes:
        parts = {
            "id": {"bytes_list": {"value": [of_id * ID_BYTES]}},
            "image": {"bytes_list": {"value": [of_image * side**2]}},
            "label": {"int64_list": {"value": [0]}},
        }
        features = tf.train.Features(feature=parts)
        # Sorted by name: the label's only byte is the last.
        whole = tf.train.Example(features=features)
        return bytes(whole.SerializeToString(deterministic=True))

    marked = example(b"\xfe", b"\xff")  # no length before them ends so
    places = {
        "length": ("<u8", 0),
        "id": (f"S{ID_BYTES}", HEAD + marked.index(b"\xfe" * ID_BYTES)),
        "image": (("u1", (side, side, 1)), HEAD + marked.index(b"\xff" * side**2)),
        "label": ("u1", HEAD + len(marked) - 1),
    }
    formats, offsets = zip(*places.values(), strict=True)
    layout = np.dtype(
        {
            "names": [*places],
            "formats": [*formats],
            "offsets": [*offsets],
            "itemsize": HEAD + len(marked) + FOOT,
        }
    )
    head = len(marked).to_bytes(8, "little").ljust(HEAD, b"\0")
    return head + example(b"\0", b"\0") + bytes(FOOT), layout


def open_tfrecord(location: str) -> Source:
    """Finds the files; looks into none yet.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    folder = Path(location).expanduser()
    for name in (*SPLITS, CLASSES):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name}: no such file; tfrecord:FOLDER needs "
                f"{', '.join((*SPLITS, CLASSES))}, as cxr_gan.data.tfrecord.write "
                "makes them"
            )
    return Source(None, functools.partial(_read, folder))


def _read(folder: Path, resolution: int) -> Splits:
    names = tuple((folder / CLASSES).read_text("utf-8").split("\n")[:-1])
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(
            f"{folder / CLASSES}: must have the name of a class in each line, all "
            f"different; it has {list(names)}"
        )
    train, val = (_map(folder / name, resolution, len(names)) for name in SPLITS)
    least = int(val.counts(len(names)).min())
    if least < MIN_VAL_PER_CLASS:
        raise ValueError(
            f"{folder / SPLITS[1]}: has only {least} images of a class; at least "
            f"{MIN_VAL_PER_CLASS} of each are needed, for what is mapped is not "
            f"divided again; {ANEW}"
        )
    return Splits(train, val, names)


def _map(path: Path, resolution: int, num_classes: int) -> ImageSet:
    """The file as arrays; the pixels stay on disk.

    Every record is looked at once, and its CRC compared.

    Raises:
        ValueError: naming the file, if it is not what `write` wrote.
    """
    template, layout = _layout(resolution)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length != layout.itemsize - HEAD - FOOT:
        raise ValueError(
            f"{path}: its first record has {length} bytes; one of {resolution} px has "
            f"{layout.itemsize - HEAD - FOOT}; give the --config.resolution it was "
            f"written with, or {ANEW}"
        )
    count, more = divmod(path.stat().st_size, layout.itemsize)
    if more:
        raise ValueError(
            f"{path}: truncated: {count} whole records and {more} bytes of another; "
            "copy it again"
        )
    _check_sums(path)
    records = np.memmap(path, layout, mode="r").view(np.ndarray)
    for start in range(0, count, CHUNK):
        _check_frames(path, records[start : start + CHUNK], start, template)
    labels = records["label"].astype(np.int32)
    if labels.max() >= num_classes:
        raise ValueError(
            f"{path}: labels go up to {labels.max()}, but {CLASSES} names "
            f"{num_classes} classes; bring the right one back"
        )
    ids = tuple(str(name, "utf-8") for name in records["id"])
    if len(set(ids)) < count:
        raise ValueError(f"{path}: an id comes twice; {ANEW}")
    return ImageSet(records["image"], labels, ids)


def _check_sums(path: Path) -> None:
    from cxr_gan.data import pipeline  # noqa: F401, keeps TensorFlow quiet
    import tensorflow as tf  # isort: skip

    records = tf.data.TFRecordDataset(str(path), buffer_size=1 << 20)
    try:
        records.reduce(np.int64(0), lambda count, _: count + 1)
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"{path}: damaged ({error.message.splitlines()[0]}); copy it again"
        ) from error


def _check_frames(path: Path, records: np.ndarray, start: int, template: bytes) -> None:
    """Whether all but pixels, ids, labels and CRCs is as in the template."""
    size = records.dtype.itemsize
    ours = np.ones(size, bool)
    ours[8:HEAD] = ours[-FOOT:] = False
    fields = records.dtype.fields
    assert fields is not None
    for name in ("id", "image", "label"):
        kind, offset = fields[name][:2]
        ours[offset : offset + kind.itemsize] = False
    columns = np.flatnonzero(ours)
    found = records.view(np.uint8).reshape(-1, size)[:, columns]
    wrong = (found != np.frombuffer(template, np.uint8)[columns]).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"{path}: record {start + int(wrong.argmax())} is laid out otherwise than "
            f"the first; {ANEW}"
        )
