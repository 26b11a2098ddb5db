"""Digests of training images, in the folder of a run and in a training state."""

import dataclasses

import numpy as np
import pytest

from cxr_gan import data
from cxr_gan.evaluation import inputs
from cxr_gan.sampling import training_images
from cxr_gan.storage import weights_file
from cxr_gan.training import experiment


def images(n, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 1), np.uint8)


def test_digests_find_equal_images_of_the_same_size_only():
    known = training_images.digests(images(5))
    queries = np.concatenate([images(5)[[3, 0]], images(2, seed=1)])
    assert training_images.contains(known, queries).tolist() == [True, True, 0, 0]
    assert not training_images.contains(known, images(5, size=64)).any()
    changed = images(5)
    changed[2, 7, 7, 0] ^= 1
    assert training_images.contains(known, changed).tolist() == [1, 1, False, 1, 1]
    assert training_images.count_others(known[32], changed) == 1


def test_order_and_copies_of_images_change_nothing():
    some = images(6)
    (one,) = training_images.digests(some).values()
    (other,) = training_images.digests(some[[5, 1, 1, 0, 2, 3, 4]]).values()
    np.testing.assert_array_equal(one, other)
    assert one.shape == (6, 32)


def test_merged_digests_are_kept_by_size_and_each_once():
    a, b = training_images.digests(images(4)), training_images.digests(images(6))
    large = training_images.digests(images(2, size=64))
    merged = training_images.merge(a, large, b)
    assert {size: len(rows) for size, rows in merged.items()} == {32: 6, 64: 2}


def test_file_in_the_folder_of_a_run_is_read_back_and_checked(tmp_path):
    known = training_images.merge(
        training_images.digests(images(3)), training_images.digests(images(2, 64))
    )
    with pytest.raises(FileNotFoundError, match="repeat its training command"):
        training_images.read(str(tmp_path))
    training_images.write(tmp_path, known)
    found = training_images.read(str(tmp_path))
    assert found.keys() == known.keys()
    for size, rows in known.items():
        np.testing.assert_array_equal(found[size], rows)
    path = tmp_path / training_images.FILE
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"training_images\.npz: damaged"):
        training_images.read(str(tmp_path))


@pytest.mark.parametrize(
    "content", [{"stem": np.ones(3)}, {"64": np.ones((2, 32))}, {"64": images(2)}]
)
def test_file_with_other_content_is_refused(tmp_path, content):
    path = tmp_path / training_images.FILE
    path.write_bytes(weights_file.pack(content))
    with pytest.raises(ValueError, match="are not as this version of cxr_gan writes"):
        training_images.read(str(tmp_path))


def test_run_writes_only_the_images_that_it_uses(open_run, tmp_path):
    run = open_run(tmp_path / "run", samples_per_class=(3, 4))
    experiment.write_training_images(run)
    known = training_images.read(str(run.folder))
    assert training_images.contains(known, run.dataset.train.images).sum() == 7


def test_run_that_continues_keeps_its_file_and_replaces_a_missing_one(
    open_run, tmp_path
):
    run = open_run(tmp_path / "run")
    (run.folder / "checkpoints/1").mkdir(parents=True)
    training_images.write(run.folder, training_images.digests(images(1)))
    experiment.write_training_images(run)
    assert len(training_images.read(str(run.folder))[32]) == 1
    path = run.folder / training_images.FILE
    path.unlink()
    descendant = dataclasses.replace(run, ancestors=("0123",))
    experiment.write_training_images(descendant)
    assert not path.exists()  # the ancestor's images are not known any more
    experiment.write_training_images(run)
    known = training_images.read(str(run.folder))
    assert training_images.contains(known, run.dataset.train.images).all()


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """60 phantoms of 32 px, 30 of them in val."""
    cache = tmp_path_factory.mktemp("cache")
    full = data.load("phantom:60", 32, split_seed=0, cache_dir=cache)
    joined = full.train.join(full.val)
    is_val = np.isin(np.arange(len(joined)) % 4, (0, 1))
    return dataclasses.replace(
        full, train=joined.take(~is_val), val=joined.take(is_val)
    )


def refuse(size):
    raise ValueError(f"the images have 32 px, but {size} px are needed")


def test_images_of_val_that_an_ancestor_was_trained_on_are_left_out(real, tmp_path):
    seen = training_images.digests(real.val.images[:5])
    own = training_images.digests(real.train.images)
    other = training_images.digests(images(3))
    training_images.write(tmp_path, training_images.merge(seen, own, other))
    found, notes = inputs.without_training_images(str(tmp_path), real, refuse)
    assert found.val.ids == real.val.ids[5:]
    assert (found.train, found.identity) == (real.train, real.identity)
    assert f"their 5 of {len(real.val)} images are left out of val" in notes[1]
    assert "on 3 images of 32 px that this data set does not contain" in notes[0]


def test_other_images_of_a_patient_of_an_ancestor_are_left_out_too(real, tmp_path):
    patients = tuple(str(i // 3) for i in range(len(real.val)))
    val = dataclasses.replace(real.val, patients=patients)
    train = dataclasses.replace(real.train, patients=("t",) * len(real.train))
    real = dataclasses.replace(real, train=train, val=val)
    training_images.write(tmp_path, training_images.digests(val.images[:1]))
    found, (note,) = inputs.without_training_images(str(tmp_path), real, refuse)
    assert found.val.ids == val.ids[3:]
    assert f"their 3 of {len(val)} images" in note


def test_images_of_an_ancestor_of_another_size_are_found_at_that_size(real, tmp_path):
    small = dataclasses.replace(
        real,
        train=dataclasses.replace(real.train, images=real.train.images[:, ::2, ::2]),
        val=dataclasses.replace(real.val, images=real.val.images[:, ::2, ::2]),
    )
    training_images.write(tmp_path, training_images.digests(small.val.images[:4]))
    found, notes = inputs.without_training_images(
        str(tmp_path), real, {16: small}.__getitem__
    )
    assert found.val.ids == real.val.ids[4:] and len(notes) == 1
    found, notes = inputs.without_training_images(str(tmp_path), real, refuse)
    assert found is real
    assert notes[0].startswith("the images of 16 px that the model")


def test_val_without_enough_other_images_is_refused(real, tmp_path):
    known = training_images.digests(real.val.images[real.val.labels == 1])
    training_images.write(tmp_path, known)
    with pytest.raises(ValueError, match="give a data set with a val of at least 10"):
        inputs.without_training_images(str(tmp_path), real, refuse)


def test_model_without_the_file_is_noted(real, tmp_path):
    found, notes = inputs.without_training_images(str(tmp_path), real, refuse)
    assert found is real
    assert notes == (inputs.UNKNOWN_TRAINING_IMAGES,)
