import itertools

import numpy as np
import pytest
import tensorflow as tf

from cxr_gan import data
from cxr_gan.data import pipeline, tfrecord
from cxr_gan.data.sets import ImageSet

NAMES = ("NORMAL", "PNEUMONIA")
SIDE = 8
RECORD = 190  # bytes


def image_set(count: int, split: str) -> ImageSet:
    """Noise of two classes, in an order of its own."""
    draw = np.random.default_rng(count)
    images = draw.integers(0, 256, (count, SIDE, SIDE, 1), np.uint8)
    labels = draw.permutation(np.arange(count, dtype=np.int32) % 2)
    return ImageSet(images, labels, tuple(f"{split}/å/{i}.png" for i in range(count)))


TRAIN, VAL = image_set(130, "train"), image_set(100, "val")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "set"
    tfrecord.write(folder, NAMES, tfrecord.examples(TRAIN), tfrecord.examples(VAL))
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy to do damage to."""
    for path in written.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def load(folder, resolution=SIDE):
    return data.load(f"tfrecord:{folder}", resolution, split_seed=0, cache_dir=None)


def test_what_is_written_is_read_again(written):
    found = load(written)
    assert found.class_names == NAMES
    for ours, given in ((found.train, TRAIN), (found.val, VAL)):
        np.testing.assert_array_equal(ours.images, given.images)
        np.testing.assert_array_equal(ours.labels, given.labels)
        assert ours.ids == given.ids
    assert found.identity == data.sets.identity(TRAIN, VAL, NAMES)


def test_the_pixels_stay_on_disk_and_nothing_is_cached(written, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = load(written).train.images
    base = images
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not images.flags.writeable
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("start", [0, 40])
def test_batches_of_the_map_are_those_of_memory(written, start):
    settings = {"num_classes": 2, "batch_size": 8, "samples_per_class": (0,), "seed": 3}
    feeds = (
        itertools.islice(pipeline.batches(images, **settings, start=start), 20)
        for images in (load(written).train, TRAIN)
    )
    for ours, wanted in zip(*feeds, strict=True):
        for key in ("image", "label"):
            np.testing.assert_array_equal(ours[key], wanted[key])


def test_tensorflow_reads_what_is_written(written):
    features = {
        "id": tf.io.FixedLenFeature([], tf.string),
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    records = tf.data.TFRecordDataset(str(written / "train.tfrecord"))
    found = [tf.io.parse_single_example(record, features) for record in records]
    assert [int(one["label"]) for one in found] == TRAIN.labels.tolist()
    names = [one["id"].numpy().rstrip(b"\0").decode() for one in found]
    assert tuple(names) == TRAIN.ids
    pixels = [np.frombuffer(one["image"].numpy(), np.uint8) for one in found]
    np.testing.assert_array_equal(
        np.stack(pixels).reshape(TRAIN.images.shape), TRAIN.images
    )


def test_a_folder_with_something_in_it_is_not_written_to(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty"):
        tfrecord.write(tmp_path, NAMES, [], [])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


GREY = np.zeros((SIDE, SIDE, 1), np.uint8)


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ((GREY[..., 0], 0, "a"), r"'a': the image is uint8 \[8, 8\]"),
        ((GREY.astype(np.int16), 0, "a"), "'a': the image is int16"),
        ((GREY, 2, "a"), "'a': the label 2 is none of 2"),
        ((GREY, -1, "a"), "the label -1"),
        ((GREY, 0, ""), "'': an id has 1 to 64 bytes"),
        ((GREY, 0, "å" * 33), "shorten it"),
    ],
)
def test_what_cannot_be_written_is_named_and_no_file_is_left(tmp_path, example, words):
    with pytest.raises(ValueError, match=words):
        tfrecord.write(tmp_path / "set", NAMES, [(GREY, 0, "b"), example], [])
    assert not [*(tmp_path / "set").iterdir()]


def damage(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


def flip(at):
    return lambda whole: whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("train.tfrecord", lambda b: b[:-9], "train.tfrecord: truncated: 129 whole"),
        ("val.tfrecord", lambda b: b[:5], "val.tfrecord: truncated: 0 whole"),
        ("val.tfrecord", lambda b: b"", "its first record has 0 bytes"),
        ("train.tfrecord", flip(200), "train.tfrecord: damaged .*copy it again"),
        ("train.tfrecord", flip(-3), "train.tfrecord: damaged"),
        ("train.tfrecord", lambda b: b + b[:RECORD], "an id comes twice"),
        ("classes.txt", lambda b: b"NORMAL\n", "labels go up to 1, but classes.txt"),
        ("classes.txt", lambda b: b"A\nA\n", "must have the name of a class in each"),
        ("classes.txt", lambda b: b"A\nB\nC\n", "has only 0 images of a class"),
    ],
)
def test_what_was_damaged_is_refused_by_name(folder, name, change, words):
    size = (folder / "train.tfrecord").stat().st_size
    assert size == 130 * RECORD
    damage(folder, name, change)
    with pytest.raises(ValueError, match=words):
        load(folder)


def test_another_resolution_is_refused(written):
    with pytest.raises(ValueError, match=r"one of 16 px has .*--config.resolution"):
        load(written, 16)


def test_a_val_that_says_little_is_refused_for_a_map_is_not_divided(tmp_path):
    few = tfrecord.examples(image_set(98, "val"))
    tfrecord.write(tmp_path, NAMES, tfrecord.examples(TRAIN), few)
    with pytest.raises(ValueError, match="has only 49 images of a class; at least 50"):
        load(tmp_path)


def test_records_of_one_size_that_are_laid_out_otherwise_are_refused(folder):
    path = folder / "train.tfrecord"
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    records[7] = records[7].replace(b"image", b"imaGe")
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    with pytest.raises(ValueError, match="record 7 is laid out otherwise"):
        load(folder)


@pytest.mark.parametrize("name", ["train.tfrecord", "val.tfrecord", "classes.txt"])
def test_a_file_that_is_missing_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
        load(folder)
