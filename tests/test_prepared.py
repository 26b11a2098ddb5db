"""Prepared sets, written by users and by the cache of decoded images."""

import contextlib
import csv
import dataclasses
import hashlib
import itertools
import json
import logging as python_logging
import shutil

import numpy as np
import pytest
from PIL import Image

from cxr_gan import data
from cxr_gan.data import pipeline, splits
from cxr_gan.data.dataset import ImageSet, RawSplits, identity
from cxr_gan.data.formats import prepared, prepared_writer

NAMES = ("NORMAL", "PNEUMONIA")
SIDE = 8


def image_set(count: int, split: str) -> ImageSet:
    """Noise images of two classes in random order; ids that CSV has to quote."""
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, SIDE, SIDE, 1), np.uint8)
    labels = rng.permutation(np.arange(count, dtype=np.int32) % 2)
    ids = [f'{split}/å, "{i}"/person{i}_virus_1.png' for i in range(count - 1)]
    ids.append(f"{split}/unknown.png")
    return ImageSet(images, labels, tuple(ids), tuple(f"file/{id_}" for id_ in ids))


TRAIN, VAL = image_set(130, "train"), image_set(100, "val")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "set"
    chunks = [("train", TRAIN.take(np.arange(130) < 70))]
    chunks += [("train", TRAIN.take(np.arange(130) >= 70)), ("val", VAL)]
    prepared_writer.write(folder, NAMES, iter(chunks))
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / "copy")


@pytest.fixture
def warnings(caplog):
    with caplog.at_level(python_logging.WARNING, logger="absl"):
        yield lambda: caplog.text


def load(spec, resolution=SIDE, cache_dir="unused"):
    return data.load(str(spec), resolution, split_seed=0, cache_dir=cache_dir)


def index_of(folder) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def assert_equal(a: ImageSet, b: ImageSet):
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert (a.ids, a.files) == (b.ids, b.files)


def test_written_set_is_read_back_with_its_pixels_on_disk(written):
    dataset = load(written)
    for split, expected in ((dataset.train, TRAIN), (dataset.val, VAL)):
        assert_equal(split, expected)
        assert isinstance(split.images, np.memmap)
        assert not split.images.flags.writeable
    assert dataset.class_names == NAMES
    assert dataset.identity == identity(TRAIN, VAL, NAMES)


def test_files_are_as_documented(written):
    assert sorted(path.name for path in written.iterdir()) == [
        *(".gitignore", "dataset.json", "images.npy", "index.csv")
    ]
    comment, pattern = (written / ".gitignore").read_text("utf-8").splitlines()
    assert comment.startswith("# ")
    assert pattern == "*"
    images = np.load(written / "images.npy")
    np.testing.assert_array_equal(images, np.concatenate([TRAIN.images, VAL.images]))
    rows = index_of(written)
    assert list(rows[0]) == [
        *("id", "label", "class_name", "patient", "split", "half", "file", "sha256"),
        *("kind", "height", "width", "bits", "view", "modality", "manufacturer"),
    ]
    no_header = dict.fromkeys(list(rows[0])[8:], "")
    both = TRAIN.join(VAL)
    in_a = splits.in_half_a(both)
    for i, row in enumerate(rows):
        assert row == {
            "patient": row["patient"],  # see the next test
            "id": both.ids[i],
            "label": str(both.labels[i]),
            "class_name": NAMES[both.labels[i]],
            "split": "train" if i < len(TRAIN) else "val",
            "half": "A" if in_a[i] else "B",
            "file": both.files[i],
            "sha256": hashlib.sha256(images[i].tobytes()).hexdigest(),
            **no_header,
        }
    content = json.loads((written / "dataset.json").read_text("utf-8"))
    index = (written / "index.csv").read_bytes()
    assert content == {
        "version": 2,
        "classes": list(NAMES),
        "resolution": SIDE,
        "identity": identity(TRAIN, VAL, NAMES),
        "index_sha256": hashlib.sha256(index).hexdigest(),
        "notes": [],
        "source": "",
        "summary": {},
    }


def test_patients_are_hashed_with_a_key_of_their_set(written, tmp_path):
    def patients(folder):
        return [row["patient"] for row in index_of(folder)]

    # Train and val number the same patients, except for their last image.
    here = patients(written)
    assert here[:99] == here[130:229]
    assert len(set(here[:129])) == 129
    assert here[129] == here[229] == ""
    prepared_writer.write(tmp_path / "set", NAMES, [("train", TRAIN)])
    assert not set(here[:129]) & set(patients(tmp_path / "set"))


# Three patients of two images each, whose names show no patient.
IDS = tuple(f"train/{i}.png" for i in range(6))
PATIENTS = ("p", "q", "q", IDS[3], "p", IDS[5])
OF_PATIENTS = ImageSet(
    *(TRAIN.images[:6], TRAIN.labels[:6], IDS, (), PATIENTS, tuple("AABABB"))
)


def test_patients_and_halves_of_the_set_are_stored_and_read_back(tmp_path):
    def written(number, images):
        prepared_writer.write(tmp_path / str(number), NAMES, [("train", images)])
        raw = prepared.open_prepared(str(tmp_path / str(number))).read(SIDE)
        return raw.train, [row["patient"] for row in index_of(tmp_path / str(number))]

    first, hashes = written(1, OF_PATIENTS)
    assert hashes[0] == hashes[4] != hashes[1] == hashes[2]
    assert hashes[3] == hashes[5] == ""
    assert first.halves == OF_PATIENTS.halves
    p, q = first.patients[:2]
    assert first.patients == (p, q, q, IDS[3], p, IDS[5])
    assert p not in IDS
    # The keys do not depend on the set's secret, nor on how often it was copied.
    assert written(2, OF_PATIENTS)[0].patients == first.patients
    again, hashes = written(3, first)
    assert again.patients == first.patients
    assert hashes[3] == hashes[5] == ""
    assert again.halves == first.halves


def test_small_val_of_a_prepared_set_is_used_as_it_is(tmp_path):
    small = VAL.take(np.arange(100) < 20)
    prepared_writer.write(tmp_path / "set", NAMES, [("train", TRAIN), ("val", small)])
    dataset = load(tmp_path / "set")
    assert dataset.val.ids == small.ids
    assert dataset.identity == identity(TRAIN, small, NAMES)


def test_prepared_set_without_val_is_split_as_its_images_in_memory(tmp_path):
    prepared_writer.write(tmp_path / "set", NAMES, [("train", TRAIN)])
    train, val, _ = splits.split_train_val(RawSplits(TRAIN, None, NAMES), 0)
    dataset = load(tmp_path / "set")
    assert (dataset.train.ids, dataset.val.ids) == (train.ids, val.ids)


GREY = ImageSet(np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, np.int32), ("a",))
OTHER = dataclasses.replace(GREY, ids=("b",))


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([("test", GREY)], "chunk of 'test'; give train or val"),
        ([("val", GREY), ("train", OTHER)], "chunk of 'train'; give val"),
        ([("train", GREY), ("val", GREY)], "the id 'a' occurs twice"),
        ([("train", dataclasses.replace(GREY, labels=GREY.labels + 2))], "label 2 is"),
        ([("train", dataclasses.replace(GREY, labels=GREY.labels - 1))], "label -1 is"),
        (
            [
                ("train", GREY),
                ("val", dataclasses.replace(OTHER, images=GREY.images[:, :4, :4])),
            ],
            "a chunk of val has images of 4 px, earlier ones of 8",
        ),
        ([], "there are no images"),
    ],
)
def test_invalid_chunk_is_named_and_nothing_is_left(tmp_path, chunks, message):
    with pytest.raises(ValueError, match=message):
        prepared_writer.write(tmp_path / "set", NAMES, chunks)
    assert not [*tmp_path.iterdir()]


def test_folder_that_is_not_empty_is_not_written_to(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(FileExistsError, match="is not empty"):
        prepared_writer.write(tmp_path, NAMES, [("train", TRAIN)])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def flip(at):
    return lambda b: b[:at] + bytes([b[at] ^ 1]) + b[at + 1 :]


def edit(**changes):
    return lambda b: json.dumps({**json.loads(b), **changes}).encode()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("images.npy", lambda b: b[:-9], "images.npy: truncated or damaged .*copy the"),
        ("images.npy", flip(40), "images.npy: truncated or damaged"),
        ("images.npy", flip(-1), r"image 229, 'val/unknown.png', changed .*copy the"),
        ("images.npy", flip(128), "image 0, 'train/å.*changed since it was written"),
        ("index.csv", flip(200), "index.csv: changed since it was written; copy the"),
        ("index.csv", lambda b: b[:-99], "index.csv: changed since"),
        ("dataset.json", lambda b: b[:-9], "dataset.json: damaged, or not of a prep"),
        ("dataset.json", lambda b: b"[]", "dataset.json: damaged.*give folder:"),
        ("dataset.json", edit(version=3), "has version 3, .* reads version 2"),
        ("dataset.json", edit(classes=["B", "A"]), "classes or identity changed"),
        ("dataset.json", edit(identity="0"), "classes or identity changed"),
    ],
)
def test_damage_is_named_before_training(folder, name, change, message):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load(folder)


@pytest.mark.parametrize("name", ["images.npy", "index.csv", "dataset.json"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
        load(folder)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{written}", "the images have 8 px, but 16 px are needed; prepare"),
        ("tfrecord:a", r"TFRecord files by prepared sets; write one with"),
    ],
)
def test_other_resolution_and_tfrecord_are_answered(written, spec, message):
    with pytest.raises(ValueError, match=message):
        load(spec.format(written=written), 16)


def test_folder_named_as_a_kind_is_read(written, tmp_path, monkeypatch):
    shutil.copytree(written, tmp_path / "prepared")
    monkeypatch.chdir(tmp_path)
    assert load("prepared").identity == load("prepared:prepared").identity


# The cache


@pytest.fixture
def raw(tmp_path):
    """A folder of images whose val is large enough to be mapped from the cache."""
    rng = np.random.default_rng(0)
    for split, name in itertools.product(("train", "val"), NAMES):
        folder = tmp_path / "raw" / split / name
        folder.mkdir(parents=True)
        for i in range(60 if split == "train" else 50):
            pixels = rng.integers(0, 256, (SIDE, SIDE), np.uint8)
            Image.fromarray(pixels).save(folder / f"å{i}.png")
    return tmp_path / "raw"


@pytest.fixture
def cached(tmp_path):
    return lambda spec, resolution=SIDE: load(spec, resolution, tmp_path / "cache")


def forbid_decoding(monkeypatch):
    monkeypatch.setattr("PIL.Image.open", None)


def test_raw_folder_cache_and_prepared_set_train_on_the_same_images_in_the_same_order(
    raw, cached, tmp_path, monkeypatch
):
    decoded = cached(raw)
    chunks = [("train", decoded.train), ("val", decoded.val)]
    prepared_writer.write(tmp_path / "set", decoded.class_names, chunks)
    assert decoded.train.files[0] == "train/NORMAL/å0.png"
    forbid_decoding(monkeypatch)
    for other in (cached(raw), load(tmp_path / "set")):
        assert other.identity == decoded.identity
        assert_equal(other.train, decoded.train)
        assert_equal(other.val, decoded.val)
        assert isinstance(other.train.images, np.memmap)
        iterators = (
            pipeline.batches(
                images, num_classes=2, batch_size=8, samples_per_class=(20,), seed=1
            )
            for images in (other.train, decoded.train)
        )
        for batch, expected in itertools.islice(zip(*iterators, strict=True), 9):
            np.testing.assert_array_equal(batch["image"], expected["image"])


def test_each_resolution_is_decoded_and_cached(cached, tmp_path):
    assert cached("phantom:40", 32).train.images.shape[1:] == (32, 32, 1)
    assert cached("phantom:40", 16).train.images.shape[1:] == (16, 16, 1)
    assert len([*(tmp_path / "cache").iterdir()]) == 2


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images.npy", flip(-1)),
        ("images.npy", lambda b: b[:-9]),
        ("index.csv", lambda b: b""),
        ("dataset.json", lambda b: b"text"),
        ("dataset.json", None),
    ],
)
def test_damaged_cache_is_replaced_with_a_warning(
    raw, cached, tmp_path, warnings, monkeypatch, name, change
):
    expected = cached(raw)
    (folder,) = (tmp_path / "cache").iterdir()
    if change is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(change((folder / name).read_bytes()))
    assert cached(raw).identity == expected.identity
    assert "decoding the dataset again" in warnings()
    assert str(folder / name) in warnings()
    forbid_decoding(monkeypatch)
    assert cached(raw).identity == expected.identity


def test_full_disk_leaves_no_file_and_the_images_are_not_cached(
    raw, cached, tmp_path, monkeypatch, warnings
):
    write_images = prepared_writer._write_images

    def fail_in_cache(folder, *arguments):
        if (tmp_path / "cache") in folder.parents:
            raise OSError(28, "No space left on device")
        return write_images(folder, *arguments)

    monkeypatch.setattr(prepared_writer, "_write_images", fail_in_cache)
    assert len(cached(raw).train) == 120
    assert "cannot be written (No space left on device)" in warnings()
    assert "the decoded dataset is not cached" in warnings()
    assert not [*(tmp_path / "cache").iterdir()]


def test_set_that_another_process_caches_meanwhile_is_kept(
    raw, cached, tmp_path, monkeypatch, warnings
):
    write = prepared_writer.write

    def write_twice(*arguments, **more):
        write(*arguments, **more)
        write(*arguments, **more)

    monkeypatch.setattr(prepared_writer, "write", write_twice)
    first = cached(raw)
    assert "cache" not in warnings()
    forbid_decoding(monkeypatch)
    assert cached(raw).identity == first.identity


def test_cache_is_in_the_user_s_cache_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load("phantom:40", 16, cache_dir=None)
    assert len([*(tmp_path / "cxr_gan").iterdir()]) == 1


def test_class_names_of_any_sequence_of_strings_can_be_read_back(tmp_path):
    for i, names in enumerate((list(NAMES), np.array(NAMES))):
        prepared_writer.write(
            tmp_path / str(i), names, [("train", TRAIN), ("val", VAL)]
        )
        assert load(tmp_path / str(i)).class_names == NAMES


def test_error_of_the_chunks_is_not_blamed_on_the_folder(tmp_path):
    def chunks():
        yield "train", TRAIN
        (tmp_path / "missing.png").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        prepared_writer.write(tmp_path / "set", NAMES, chunks())
    assert not list(tmp_path.iterdir())


def test_any_changed_byte_of_the_header_is_an_error_that_names_the_file(folder):
    path = folder / prepared.IMAGES
    content = path.read_bytes()
    for place in range(128):
        for value in (b"-", b"\0", b"("):
            path.write_bytes(content[:place] + value + content[place + 1 :])
            with contextlib.suppress(ValueError):
                loaded = load(folder)
                np.testing.assert_array_equal(loaded.train.images, TRAIN.images)


def test_arrays_of_an_npz_in_place_of_the_images_are_refused(folder):
    with (folder / prepared.IMAGES).open("wb") as file:
        np.savez(file, TRAIN.images)
    with pytest.raises(ValueError, match=r"images\.npy: truncated or damaged"):
        load(folder)
