import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest

from cxr_gan.data import pipeline
from cxr_gan.data.dataset import ImageSet


def image_set(*counts: int) -> ImageSet:
    """counts[c] images of class c; every pixel of an image is its row index."""
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    labels = np.random.default_rng(0).permutation(labels)
    rows = np.arange(len(labels), dtype=np.uint8)
    images = np.broadcast_to(rows[:, None, None, None], (len(labels), 32, 32, 1))
    return ImageSet(images.copy(), labels, tuple(f"train/{i}" for i in rows))


@pytest.fixture(params=["in memory", "memory-mapped"])
def images(request, tmp_path) -> ImageSet:
    """7 images of class 0 and 20 of class 1."""
    images = image_set(7, 20)
    if request.param == "memory-mapped":
        np.save(tmp_path / "images.npy", images.images)
        mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
        images = dataclasses.replace(images, images=mapped)
    return images


def take(images: ImageSet, steps: int, **changes):
    settings = {
        "num_classes": len(set(images.labels)),
        "batch_size": 6,
        "samples_per_class": (0,),
        "seed": 3,
    }
    settings.update(changes)
    return list(itertools.islice(pipeline.batches(images, **settings), steps))


def rows_of(batches) -> np.ndarray:
    """Row index of every image of the batches."""
    return np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches])


# Runs of every version show the images in this order.
FIRST = [25, 26, 13, 9, 1, 20, 10, 11, 5, 22, 7, 23, 19, 18, 25, 14, 19, 4]
MILLIONTH = [25, 24, 19, 26, 13, 18, 1, 6, 25, 12, 10, 3]


def test_order_is_the_same_function_of_seed_and_step_in_every_version(images):
    np.testing.assert_array_equal(rows_of(take(images, 3)), FIRST)
    late = take(images, 2, seed=11, start=10**6)
    np.testing.assert_array_equal(rows_of(late), MILLIONTH)


def test_every_batch_interleaves_the_classes_equally():
    images = image_set(7, 20, 11)
    for batch in take(images, 9):
        np.testing.assert_array_equal(batch["label"], [0, 1, 2, 0, 1, 2])
        np.testing.assert_array_equal(images.labels[rows_of([batch])], batch["label"])
        assert batch["label"].dtype == np.int32
        assert batch["image"].dtype == np.uint8
        assert batch["image"].shape == (6, 32, 32, 1)


def traced(images: ImageSet):
    """The traced function from a step to its batch."""
    rows = [np.arange(len(images))]
    make_batch = pipeline._batch_function(images.images, rows, np.arange(4), 4, 0)
    step = pipeline.tf.TensorSpec([], pipeline.tf.int64)
    return pipeline.tf.function(make_batch).get_concrete_function(step)


def test_graph_does_not_contain_the_pixels(images):
    function = traced(images)
    graph = function.graph.as_graph_def()
    assert graph.ByteSize() < images.images.nbytes / 2
    reads = [node.op for node in graph.node].count("PyFuncStateless")
    captured = [tuple(t.shape) for t in function.captured_inputs if t.dtype == "uint8"]
    if isinstance(images.images, np.memmap):
        assert (reads, captured) == (1, [])
    else:
        assert (reads, captured) == (0, [images.images.shape])


def test_every_epoch_of_a_class_contains_each_image_once_in_a_new_order():
    images = image_set(7, 20)
    batches = take(images, 40)
    labels = np.concatenate([batch["label"] for batch in batches])
    for label, count in ((0, 7), (1, 20)):
        of_class = rows_of(batches)[labels == label]
        epochs = of_class[: len(of_class) // count * count].reshape(-1, count)
        expected = np.flatnonzero(images.labels == label)
        for epoch in epochs:
            np.testing.assert_array_equal(np.sort(epoch), expected)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


@pytest.mark.parametrize("start", [1, 17])
def test_start_equals_skipping_to_that_step(start, images):
    skipped = take(images, start + 4)[start:]
    np.testing.assert_array_equal(
        rows_of(take(images, 4, start=start)), rows_of(skipped)
    )


@pytest.mark.parametrize("process_count", [2, 4])
def test_slices_of_all_processes_form_the_global_batch(process_count):
    images = image_set(7, 20, 11)
    global_batches = take(images, 5, batch_size=24)
    slices = [
        take(images, 5, batch_size=24, process_index=p, process_count=process_count)
        for p in range(process_count)
    ]
    for step, batch in enumerate(global_batches):
        for key in ("image", "label"):
            joined = np.concatenate([part[step][key] for part in slices])
            np.testing.assert_array_equal(joined, batch[key])


@pytest.mark.parametrize(
    ("samples_per_class", "used"),
    [((5,), (5, 5)), ((5, 12), (5, 12)), ((0, 3), (7, 3))],
)
def test_samples_per_class_limits_the_images_of_each_class(samples_per_class, used):
    images = image_set(7, 20)
    rows = set(rows_of(take(images, 40, samples_per_class=samples_per_class)))
    labels = images.labels[sorted(rows)]
    np.testing.assert_array_equal(np.bincount(labels), used)


def test_subset_does_not_depend_on_the_seed_and_contains_smaller_subsets():
    images = image_set(7, 20)
    few = set(rows_of(take(images, 20, samples_per_class=(4,))))
    assert few == set(rows_of(take(images, 20, samples_per_class=(4,), seed=9)))
    assert few < set(rows_of(take(images, 20, samples_per_class=(6,))))


def test_subset_depends_on_the_ids_not_on_their_order():
    images = image_set(7, 20)
    reverse = ImageSet(images.images[::-1], images.labels[::-1], images.ids[::-1])
    np.testing.assert_array_equal(
        rows_of(take(images, 5, samples_per_class=(4,))),
        rows_of(take(reverse, 5, samples_per_class=(4,))),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 7}, "batch_size=7 .* 1 processes .* 2 classes.* multiple of 2"),
        ({"batch_size": 6, "process_count": 2}, "multiple of 4"),
        ({"batch_size": 0}, "multiple of 2"),
        ({"process_index": 1}, r"process_index=1 must lie in 0\.\.0"),
        ({"start": -1}, "start=-1"),
        ({"samples_per_class": (8,)}, "asks for 8 of class 0 .*which has 7 images"),
        ({"samples_per_class": (0, 21)}, "asks for 21 of class 1 .*has 20 images"),
        ({"samples_per_class": (-1,)}, "asks for -1"),
        ({"samples_per_class": (1, 2, 3)}, "3 numbers for 2 classes; give 1 or 2"),
        ({"num_classes": 3}, "class 2 has no images"),
        ({"num_classes": 1}, "labels go up to 1, so num_classes=1 must be greater"),
    ],
)
def test_invalid_arguments_are_rejected_before_the_first_batch(changes, message):
    settings = {
        "num_classes": 2,
        "batch_size": 6,
        "samples_per_class": (0,),
        "seed": 0,
    }
    with pytest.raises(ValueError, match=message):
        pipeline.batches(image_set(7, 20), **{**settings, **changes})


def test_keras_is_imported_only_when_used():
    code = """
import os, sys
from cxr_gan.data import pipeline
assert "keras" not in sys.modules
assert pipeline.LEGACY_KERAS not in os.environ
from tensorflow.keras import layers
assert layers.Dense(2).units == 2
assert pipeline.tf.keras.layers.Dense is layers.Dense
"""
    subprocess.run([sys.executable, "-c", code], check=True)
