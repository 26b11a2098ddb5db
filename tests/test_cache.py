import logging as python_logging

import numpy as np
import pytest

from cxr_gan.data import cache
from cxr_gan.data.dataset import ImageSet, RawSplits


class Reader:
    """A `read` function that counts its calls."""

    def __init__(self, with_val: bool = True):
        self.reads = 0
        self.with_val = with_val

    def __call__(self, resolution: int) -> RawSplits:
        self.reads += 1
        images = np.full((2, resolution, resolution, 1), 7, np.uint8)
        labels = np.array([0, 1], np.int32)
        train = ImageSet(images, labels, ("train/å", "train/b"))
        val = ImageSet(images + 1, labels, ("val/a", "val/b"))
        return RawSplits(train, val if self.with_val else None, ("A", "B"), ("note",))


def assert_equal(a: ImageSet, b: ImageSet):
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.ids == b.ids


@pytest.mark.parametrize("with_val", [True, False])
def test_second_read_comes_from_the_cache_and_is_equal(tmp_path, with_val):
    read = Reader(with_val)
    first = cache.fetch("here", 4, read, tmp_path)
    second = cache.fetch("here", 4, read, tmp_path)
    assert read.reads == 1
    assert_equal(first.train, second.train)
    assert (second.val is not None) == with_val
    if with_val:
        assert_equal(first.val, second.val)
    assert (second.class_names, second.notes) == (("A", "B"), ("note",))


def test_new_fingerprint_or_resolution_is_read_again(tmp_path):
    read = Reader()
    for fingerprint, resolution in (("here", 4), ("there", 4), ("here", 8)):
        splits = cache.fetch(fingerprint, resolution, read, tmp_path)
        assert splits.train.images.shape == (2, resolution, resolution, 1)
    assert read.reads == 3


def flip(contents: bytes) -> bytes:
    middle = contents.index(b"\7\7\7\7")
    return contents[:middle] + b"\6" + contents[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [flip, lambda b: b[:-9], lambda b: b"", lambda b: b"no archive" * 99]
)
def test_damaged_file_is_rebuilt_with_a_warning(tmp_path, caplog, damage):
    read = Reader()
    cache.fetch("here", 4, read, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level(python_logging.WARNING, logger="absl"):
        splits = cache.fetch("here", 4, read, tmp_path)
    assert_equal(splits.train, Reader()(4).train)
    assert f"{file}: damaged cache file" in caplog.text
    cache.fetch("here", 4, read, tmp_path)
    assert read.reads == 2


def test_failed_write_leaves_no_file(tmp_path, monkeypatch, caplog):
    def fail(stream, **arrays):
        stream.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(cache.np, "savez", fail)
    with caplog.at_level(python_logging.WARNING, logger="absl"):
        splits = cache.fetch("here", 4, Reader(), tmp_path)
    assert len(splits.train) == 2
    assert "No space left on device" in caplog.text
    assert not list(tmp_path.iterdir())


def test_directory_is_the_argument_or_follows_xdg(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.directory(None) == tmp_path / "cxr_gan"
    assert cache.directory("elsewhere").name == "elsewhere"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.directory(None) == tmp_path / "home/.cache/cxr_gan"
