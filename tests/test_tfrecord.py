import itertools

import numpy as np
import pytest
import tensorflow as tf

from cxr_gan import data
from cxr_gan.data import pipeline
from cxr_gan.data.dataset import ImageSet, identity
from cxr_gan.data.formats import tfrecord

NAMES = ("NORMAL", "PNEUMONIA")
SIDE = 8
RECORD = 190  # bytes


def image_set(count: int, split: str) -> ImageSet:
    """Noise images of two classes in random order."""
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, SIDE, SIDE, 1), np.uint8)
    labels = rng.permutation(np.arange(count, dtype=np.int32) % 2)
    return ImageSet(images, labels, tuple(f"{split}/å/{i}.png" for i in range(count)))


TRAIN, VAL = image_set(130, "train"), image_set(100, "val")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "set"
    tfrecord.write(folder, NAMES, tfrecord.examples(TRAIN), tfrecord.examples(VAL))
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may damage."""
    for path in written.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def load(folder, resolution=SIDE):
    return data.load(f"tfrecord:{folder}", resolution, split_seed=0, cache_dir=None)


def test_written_dataset_is_read_back(written):
    dataset = load(written)
    assert dataset.class_names == NAMES
    for split, expected in ((dataset.train, TRAIN), (dataset.val, VAL)):
        np.testing.assert_array_equal(split.images, expected.images)
        np.testing.assert_array_equal(split.labels, expected.labels)
        assert split.ids == expected.ids
    assert dataset.identity == identity(TRAIN, VAL, NAMES)


def test_pixels_stay_on_disk_and_nothing_is_cached(written, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = load(written).train.images
    base = images
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not images.flags.writeable
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("start", [0, 40])
def test_batches_of_mapped_images_equal_those_of_images_in_memory(written, start):
    settings = {"num_classes": 2, "batch_size": 8, "samples_per_class": (0,), "seed": 3}
    iterators = (
        itertools.islice(pipeline.batches(images, **settings, start=start), 20)
        for images in (load(written).train, TRAIN)
    )
    for batch, expected in zip(*iterators, strict=True):
        for key in ("image", "label"):
            np.testing.assert_array_equal(batch[key], expected[key])


def test_tensorflow_reads_the_written_files(written):
    features = {
        "id": tf.io.FixedLenFeature([], tf.string),
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    records = tf.data.TFRecordDataset(str(written / "train.tfrecord"))
    parsed = [tf.io.parse_single_example(record, features) for record in records]
    assert [int(example["label"]) for example in parsed] == TRAIN.labels.tolist()
    names = [example["id"].numpy().rstrip(b"\0").decode() for example in parsed]
    assert tuple(names) == TRAIN.ids
    pixels = [np.frombuffer(example["image"].numpy(), np.uint8) for example in parsed]
    np.testing.assert_array_equal(
        np.stack(pixels).reshape(TRAIN.images.shape), TRAIN.images
    )


def test_folder_that_is_not_empty_is_not_written_to(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(FileExistsError, match="is not empty"):
        tfrecord.write(tmp_path, NAMES, [], [])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


GREY = np.zeros((SIDE, SIDE, 1), np.uint8)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ((GREY[..., 0], 0, "a"), r"'a': the image is uint8 \[8, 8\]"),
        ((GREY.astype(np.int16), 0, "a"), "'a': the image is int16"),
        ((GREY, 2, "a"), "'a': the label 2 is not one of 2"),
        ((GREY, -1, "a"), "the label -1"),
        ((GREY, 0, ""), "'': an id must have 1 to 64 bytes"),
        ((GREY, 0, "å" * 33), "change it"),
    ],
)
def test_invalid_example_is_named_and_no_file_is_left(tmp_path, example, message):
    with pytest.raises(ValueError, match=message):
        tfrecord.write(tmp_path / "set", NAMES, [(GREY, 0, "b"), example], [])
    assert not [*(tmp_path / "set").iterdir()]


def damage(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


def flip(at):
    return lambda b: b[:at] + bytes([b[at] ^ 1]) + b[at + 1 :]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train.tfrecord", lambda b: b[:-9], "train.tfrecord: truncated: 129 complete"),
        ("val.tfrecord", lambda b: b[:5], "val.tfrecord: truncated: 0 complete"),
        ("val.tfrecord", lambda b: b"", "its first record has 0 bytes"),
        ("train.tfrecord", flip(200), "train.tfrecord: damaged .*copy it again"),
        ("train.tfrecord", flip(-3), "train.tfrecord: damaged"),
        ("train.tfrecord", lambda b: b + b[:RECORD], "an id occurs twice"),
        ("classes.txt", lambda b: b"NORMAL\n", "labels go up to 1, but classes.txt"),
        ("classes.txt", lambda b: b"A\nA\n", "must have the name of a class in each"),
        ("classes.txt", lambda b: b"A\nB\nC\n", "has only 0 images of a class"),
    ],
)
def test_damaged_file_is_rejected_and_named(folder, name, change, message):
    size = (folder / "train.tfrecord").stat().st_size
    assert size == 130 * RECORD
    damage(folder, name, change)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_other_resolution_is_rejected(written):
    with pytest.raises(ValueError, match=r"one of 16 px has .*--config.resolution"):
        load(written, 16)


def test_val_with_too_few_images_is_rejected(tmp_path):
    few = tfrecord.examples(image_set(98, "val"))
    tfrecord.write(tmp_path, NAMES, tfrecord.examples(TRAIN), few)
    with pytest.raises(ValueError, match="has only 49 images of a class; at least 50"):
        load(tmp_path)


def test_records_of_equal_size_but_another_layout_are_rejected(folder):
    path = folder / "train.tfrecord"
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    records[7] = records[7].replace(b"image", b"imaGe")
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    with pytest.raises(ValueError, match="record 7 has another layout"):
        load(folder)


@pytest.mark.parametrize("name", ["train.tfrecord", "val.tfrecord", "classes.txt"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
        load(folder)
