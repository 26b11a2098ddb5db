"""Infinite class-balanced batches; each is a pure function of (seed, step).

This is the only module that imports TensorFlow at its top. Other modules import this
one before they import TensorFlow, which silences its log and leaves the accelerators
to JAX.
"""

import os
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN logs a notice to stderr, and none of its kernels are used here.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np

from cxr_gan.data.dataset import ImageSet
from cxr_gan.data.splits import select_subset

# With this environment variable set, TensorFlow looks for the package tf_keras, which
# is not installed, and does not import Keras, which takes a quarter of its import time.
# Keras is still imported when it is first used afterwards.
LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
_was_set = LEGACY_KERAS in os.environ
os.environ.setdefault(LEGACY_KERAS, "1")
import tensorflow as tf  # noqa: E402

if not _was_set:
    del os.environ[LEGACY_KERAS]
tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")

PREFETCH = 4  # batches read ahead


def batches(
    images: ImageSet,
    *,
    num_classes: int,
    batch_size: int,
    samples_per_class: tuple[int, ...],
    seed: int,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields one process's slice of batch start, start + 1, ... without end.

    A global batch has equally many images of each class, interleaved: labels 0, 1, ..,
    K-1, 0, 1, and so on. Each class has its own epochs: all images of a class occur
    once in a random order, then once in another. Process p gets the p-th contiguous
    slice. No state is kept between batches: start=k is exact and as fast as start=0.

    Args:
        images: one split; memory-mapped images are read only as they are needed.
        num_classes: K.
        batch_size: images in a global batch; a multiple of K * process_count.
        samples_per_class: number of images of each class to use, 0 = all; one number
            for all classes or one per class.
        seed: seed of the order. The subset of samples_per_class does not depend on it.
        start: first step.
        process_index: index of this process, 0..process_count-1.
        process_count: number of processes.

    Returns:
        An iterator over {"image": uint8 [batch_size // process_count, s, s, 1],
        "label": int32 [batch_size // process_count]}.

    Raises:
        ValueError: an argument is not as stated; raised before the first batch.
    """
    unit = num_classes * process_count
    if batch_size < 1 or batch_size % unit:
        raise ValueError(
            f"batch_size={batch_size} cannot give each of {process_count} processes "
            f"equally many of {num_classes} classes; use a multiple of {unit}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index={process_index} must lie in 0..{process_count - 1}, as "
            f"process_count={process_count}"
        )
    if start < 0:
        raise ValueError(f"start={start} must be a step, 0 or more")
    subset = select_subset(images, num_classes, samples_per_class)
    local_size = batch_size // process_count
    slots = np.arange(process_index * local_size, (process_index + 1) * local_size)
    make_batch = _batch_function(
        images.images, subset, slots, batch_size // num_classes, seed
    )
    options = tf.data.Options()
    options.deterministic = True
    # One thread: the work is small, and training needs the cores.
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    steps = tf.data.Dataset.range(start, 2**62)
    dataset = steps.map(make_batch).prefetch(PREFETCH).with_options(options)
    iterator: Iterator[dict[str, np.ndarray]] = dataset.as_numpy_iterator()
    return iterator


def _batch_function(
    pixels: np.ndarray,
    subset: list[np.ndarray],
    slots: np.ndarray,
    per_class: int,
    seed: int,
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """The function from a step, int64 [], to its batch, {"image", "label"}.

    Args:
        pixels: uint8 [n, s, s, 1], may be memory-mapped.
        subset: row indices of each class, from `select_subset`.
        slots: this process's positions in the global batch, int [m].
        per_class: images of each class in the global batch.
        seed: seed of the order.
    """
    num_classes = len(subset)
    label = tf.constant(slots % num_classes)
    rank = tf.constant(slots // num_classes)  # among the batch's images of its class
    sizes = np.array([len(rows) for rows in subset])
    size = tf.gather(tf.constant(sizes), label)
    offset = tf.gather(tf.constant(np.cumsum(sizes) - sizes), label)
    read = _pixel_reader(pixels, np.concatenate(subset))

    def make_batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        seen = step * per_class + rank  # images of the same class before this one
        epoch = seen // size
        key = tf.stack(
            [tf.fill(tf.shape(label), tf.cast(seed, tf.int64)), label, epoch], 1
        )
        shuffled = tf.raw_ops.RandomIndexShuffle(
            index=seen % size, seed=key, max_index=size - 1, rounds=4
        )
        return {"image": read(offset + shuffled), "label": tf.cast(label, tf.int32)}

    return make_batch


def _pixel_reader(
    pixels: np.ndarray, rows: np.ndarray
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function from indices into `rows`, int64 [m], to uint8 [m, s, s, 1].

    Memory-mapped pixels stay on disk: NumPy reads those of a batch in one call. Others
    are copied into one tensor, only the given rows. A graph captures it as an input; as
    a constant it would count towards the 2 GB that a graph may have.
    """
    shape = [None, *pixels.shape[1:]]

    def read(indices: np.ndarray) -> np.ndarray:
        return pixels[rows[indices]]

    if isinstance(pixels, np.memmap):
        return lambda indices: tf.ensure_shape(
            tf.numpy_function(read, [indices], tf.uint8, stateful=False), shape
        )

    @tf.function(autograph=False)
    def copy() -> tf.Tensor:
        return tf.numpy_function(read, [tf.range(len(rows))], tf.uint8)

    tensor = copy()  # tf.constant would keep two copies
    return lambda indices: tf.gather(tensor, indices)
