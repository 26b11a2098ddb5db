"""Batches for ever, each a pure function of (seed, step).

The only module that imports TensorFlow at its top; who needs TensorFlow takes it from
here, so that it is quiet and leaves accelerators to JAX wherever it is first imported.
"""

import collections
import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN would announce itself on stderr, and has nothing to do here.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np

from cxr_gan.data.sets import ImageSet
from cxr_gan.data.splits import ranked

OLDER_KERAS = "TF_USE_LEGACY_KERAS"


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Within, TensorFlow is imported in three quarters of the time.

    It would import Keras before anyone uses it; told to, it looks for an older one in
    its place, which is not there. Who uses Keras afterwards gets it as ever.
    """
    told = OLDER_KERAS in os.environ
    os.environ.setdefault(OLDER_KERAS, "1")
    try:
        yield
    finally:
        if not told:
            del os.environ[OLDER_KERAS]


with _without_keras():
    import tensorflow as tf

tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")

SUBSET_SEED = 0  # of the choice of samples_per_class: the same images in every run
AHEAD = 4  # batches whose images are read before they are asked for


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
    """Yields one process's share of batch start, start + 1, ... without end.

    A global batch holds equally many images of each class, labels 0, 1, .., K-1, 0, 1,
    .. Each class goes through all its images in an order of its own, a new one each
    epoch, before any comes again. Process p gets the p-th contiguous slice. Nothing is
    remembered from batch to batch: start=k is as fast as start=0 and exact.

    Args:
        images: one split; where it is mapped, images are read as they are shown.
        num_classes: K.
        batch_size: images in a global batch; a multiple of K * process_count.
        samples_per_class: how many images of each class to use, 0 = all; one number for
            all classes or one for each.
        seed: of the order. The choice of images does not depend on it.
        start: first step.
        process_index: which share, 0..process_count-1.
        process_count: number of shares.

    Returns:
        An iterator over {"image": uint8 [batch_size // process_count, s, s, 1],
        "label": int32 [batch_size // process_count]}.

    Raises:
        ValueError: before the first batch, if an argument is not as stated.
    """
    share = num_classes * process_count
    if batch_size < 1 or batch_size % share:
        raise ValueError(
            f"batch_size={batch_size} cannot give each of {process_count} processes "
            f"equally many of {num_classes} classes; use a multiple of {share}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index={process_index} must lie in 0..{process_count - 1}, as "
            f"process_count={process_count}"
        )
    if start < 0:
        raise ValueError(f"start={start} must be a step, 0 or more")
    chosen = members(images, num_classes, samples_per_class)
    local = batch_size // process_count
    places = np.arange(process_index * local, (process_index + 1) * local)
    drawn = _drawn(chosen, places, batch_size // num_classes, seed, start)
    return _read(images.images, drawn.as_numpy_iterator())


def members(
    images: ImageSet, num_classes: int, samples_per_class: tuple[int, ...]
) -> list[np.ndarray]:
    """Which images of each class are used: int64 [n] positions, in a fixed order.

    A smaller number chooses a subset of what a larger one does. The choice depends on
    the images' ids only.

    Raises:
        ValueError: naming the class, if it has fewer images than asked for, or none.
    """
    if len(samples_per_class) not in (1, num_classes):
        raise ValueError(
            f"samples_per_class={samples_per_class} has {len(samples_per_class)} "
            f"numbers for {num_classes} classes; give 1 or {num_classes}"
        )
    if images.labels.max(initial=0) >= num_classes:
        raise ValueError(
            f"labels go up to {images.labels.max()}, so num_classes={num_classes} must "
            "be greater"
        )
    limits = np.broadcast_to(samples_per_class, num_classes).tolist()
    chosen = []
    for label, limit in enumerate(limits):
        positions = {images.ids[i]: i for i in np.flatnonzero(images.labels == label)}
        if not positions:
            raise ValueError(f"class {label} has no images; num_classes={num_classes}")
        if not 0 <= limit <= len(positions):
            raise ValueError(
                f"samples_per_class={samples_per_class} asks for {limit} of class "
                f"{label} (that of {next(iter(positions))!r}), which has "
                f"{len(positions)} images; use at most {len(positions)}, or 0 for all"
            )
        order = ranked(list(positions), SUBSET_SEED)[: limit or None]
        chosen.append(np.array([positions[name] for name in order], np.int64))
    return chosen


def _read(
    pixels: np.ndarray, drawn: Iterator[dict[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    """The images of the rows, some batches ahead, for a map may have to ask the disk.

    Not by TensorFlow, which would want a copy of all pixels.
    """

    def read() -> dict[str, np.ndarray]:
        batch = next(drawn)
        return {"image": pixels[batch["row"]], "label": batch["label"]}

    with ThreadPoolExecutor(1, "batches") as pool:
        ahead = collections.deque(pool.submit(read) for _ in range(AHEAD))
        while True:
            ahead.append(pool.submit(read))
            yield ahead.popleft().result()


def _drawn(
    chosen: list[np.ndarray],
    places: np.ndarray,
    per_class: int,
    seed: int,
    start: int,
) -> tf.data.Dataset:
    """Which images batch start, start + 1, .. shows: {"row", "label"}, each [n].

    places: this process's positions in the global batch, int [n].
    """
    num_classes = len(chosen)
    label = tf.constant(places % num_classes)
    rank = tf.constant(places // num_classes)  # among those of its class in the batch
    sizes = np.array([len(positions) for positions in chosen])
    size = tf.gather(tf.constant(sizes), label)
    offset = tf.gather(tf.constant(np.cumsum(sizes) - sizes), label)
    position = tf.constant(np.concatenate(chosen))

    def batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        shown = step * per_class + rank  # images of the same class shown before
        epoch = shown // size
        key = tf.stack(
            [tf.fill(tf.shape(label), tf.cast(seed, tf.int64)), label, epoch], 1
        )
        drawn = tf.raw_ops.RandomIndexShuffle(
            index=shown % size, seed=key, max_index=size - 1, rounds=4
        )
        rows = tf.gather(position, offset + drawn)
        return {"row": rows, "label": tf.cast(label, tf.int32)}

    options = tf.data.Options()
    options.deterministic = True
    # Training needs the cores, and there is little to do.
    options.threading.private_threadpool_size = 2
    options.threading.max_intra_op_parallelism = 1
    steps = tf.data.Dataset.range(start, 2**62)
    mapped = steps.map(batch, num_parallel_calls=2, deterministic=True)
    return mapped.prefetch(4).with_options(options)
