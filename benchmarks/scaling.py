"""Cost of training as resolution, devices and data sets grow.

    python -m benchmarks.scaling --out=scaling.json
    python -m benchmarks.scaling --only=cost

`cost` counts the operations of a step at each resolution. `devices` times a step whose
batch is split over virtual devices; it is that of configs/quick.py, whose small
networks make the cost of splitting and of averaging gradients visible. `data` reads
prepared sets of up to a million images. Each takes minutes.
"""

import concurrent.futures
import itertools
import multiprocessing
import os
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np
import tqdm
from absl import flags
from ml_collections import ConfigDict

from benchmarks import command_line
from benchmarks.baselines.ours import Ours
from benchmarks.baselines.published import benchmark_config, build_shapes, settings_of
from benchmarks.command_line import Results
from cxr_gan import data
from cxr_gan.data import pipeline
from cxr_gan.data.dataset import ImageSet
from cxr_gan.data.formats import prepared_writer
from cxr_gan.data.phantom import renderer
from cxr_gan.models.cpu import convolution
from cxr_gan.runtime import config_files
from cxr_gan.training import data_parallel

RESOLUTIONS = (64, 128, 256, 512)
COUNTED_BATCH = 16  # as in configs/acgan.py
DEVICES = (1, 2, 4, 8)
SPLIT_BATCH = 64  # eight groups, so that eight devices get one each
REPEATS = 2
COUNTS = (10**3, 10**4, 10**5, 10**6)  # images of the prepared sets
RENDERED, VAL = 1000, 200  # phantoms; the last VAL of them are val
SIDE = 64  # px
READ_BATCH, BATCHES = 64, 200


def in_new_process(
    function: Callable[..., Results], *arguments: Any, **environment: str
) -> Results:
    """function(*arguments) in a process which nothing earlier has influenced."""
    context = multiprocessing.get_context("spawn")
    with (
        mock.patch.dict(os.environ, {"JAX_PLATFORMS": "cpu", **environment}),
        concurrent.futures.ProcessPoolExecutor(1, context) as pool,
    ):
        return pool.submit(function, *arguments).result()


# The operations of a step


def step_cost(config: ConfigDict) -> dict[str, float]:
    """XLA's count of FLOPs and bytes of a compiled step, per image of the batch.

    The CPU kernels are off, because XLA counts the body of a loop once. XLA counts the
    more expensive side of a branch, so a step with R1 and a step without are counted
    separately.
    """
    counted = {}
    for weight in (config.loss.r1_weight, 0.0):
        changed = config.copy_and_resolve_references()
        changed.loss.r1_weight = weight
        gan, state = build_shapes(changed)
        with mock.patch.object(convolution, "on_cpu", lambda: False):
            step = data_parallel.compile_step(gan, state, config.batch_size)
        counted[bool(weight)] = step.cost_analysis()
    interval = config.loss.r1_interval
    return {
        key: (counted[True][key] + (interval - 1) * counted[False][key])
        / (interval * config.batch_size)
        for key in ("flops", "bytes accessed")
    }


def count() -> Results:
    """Cost of a step per image at each resolution; numbers of weights."""
    # The passes this disables come after fusion, which determines the bytes.
    jax.config.update("jax_disable_most_optimizations", True)
    config, results = benchmark_config(COUNTED_BATCH), {}
    for side in RESOLUTIONS:
        config.resolution = side
        _, state = build_shapes(config)
        weights = {
            name: sum(leaf.size for leaf in jax.tree.leaves(network.params))
            for name, network in (("G", state.generator), ("D", state.discriminator))
        }
        results[f"{side} px"] = {**step_cost(config), "weights": weights}
    return results


def cost_row(result: Results) -> dict[str, str]:
    """Columns of the table for one resolution."""
    return {
        "GFLOP per image": f"{result['flops'] / 1e9:.2f}",
        "MB moved per image": f"{result['bytes accessed'] / 1e6:.0f}",
        "FLOP per byte": f"{result['flops'] / result['bytes accessed']:.1f}",
        "weights of G, millions": f"{result['weights']['G'] / 1e6:.2f}",
        "weights of D, millions": f"{result['weights']['D'] / 1e6:.2f}",
    }


# A batch split over devices


def split_batches() -> Results:
    """Duration and memory of a step for each number of devices."""
    return {
        f"{n} virtual devices": in_new_process(time_steps, JAX_NUM_CPU_DEVICES=str(n))
        for n in DEVICES
    }


def time_steps() -> Results:
    """Seconds of a step, and peak bytes of this process with mapped files."""
    config = config_files.read(config_files.shipped("quick.py"))
    config.batch_size = SPLIT_BATCH
    ours = Ours(config, *settings_of(config).batch())
    interval = config.loss.r1_interval
    ours.train(interval)
    steps = []
    for _ in range(REPEATS):
        cpu, wall = time.process_time(), time.monotonic()
        ours.train(interval)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        steps.append({"cpu": cpu / interval, "wall": wall / interval})
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"devices": jax.local_device_count(), "steps": steps, "memory": memory}


def devices_row(result: Results) -> dict[str, str]:
    """Columns of the table for one number of devices; the faster repetition."""
    step = min(result["steps"], key=lambda seconds: seconds["cpu"])
    return {
        "CPU ms per step": f"{1e3 * step['cpu']:.0f}",
        "wall ms per step": f"{1e3 * step['wall']:.0f}",
        "peak memory, MB": f"{result['memory'] / 1e6:.0f}",
    }


# Prepared sets


def read_sets() -> Results:
    """CPU time and memory of prepared sets of each size; deletes them.

    RENDERED phantoms are rendered; the others are shifted copies of them.
    """
    phantoms = renderer.render_many(0, range(RENDERED), SIDE)
    sets = {}
    for number in tqdm.tqdm(COUNTS, "sets", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            written = write_set(folder, *phantoms, number)
            sets[f"{number:,} images"] = written | in_new_process(read_set, folder)
    return sets


def write_set(
    folder: str, images: np.ndarray, labels: np.ndarray, count: int
) -> Results:
    """CPU time and memory of writing a set, and its size."""
    start, memory = time.process_time(), [own_memory()]

    def watched() -> Iterator[tuple[str, ImageSet]]:
        for chunk in chunks(images, labels, count):
            yield chunk
            memory.append(own_memory())

    prepared_writer.write(folder, renderer.CLASS_NAMES, watched())
    return {
        "write": time.process_time() - start,
        "write_memory": max(memory) - memory[0],
        "size": sum(path.stat().st_size for path in pathlib.Path(folder).iterdir()),
    }


def chunks(
    images: np.ndarray, labels: np.ndarray, count: int
) -> Iterator[tuple[str, ImageSet]]:
    """Yields `count` images of train, all different, then VAL images of val."""
    num_train = len(images) - VAL
    for shift in range(-(-count // num_train)):
        first = shift * num_train
        n = min(num_train, count - first)
        shifted = np.roll(images[:n], divmod(shift, SIDE), (1, 2))
        ids = tuple(f"train/{first + i}" for i in range(n))
        yield "train", ImageSet(shifted, labels[:n], ids)
    ids = tuple(f"val/{i}" for i in range(VAL))
    yield "val", ImageSet(images[num_train:], labels[num_train:], ids)


def own_memory() -> int:
    """Bytes of anonymous memory of this process now: RssAnon in Linux."""
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return 1024 * int(line.split()[1])


def read_set(folder: str) -> Results:
    """CPU time and memory of opening a set and of its batches, in this process."""
    before, start = own_memory(), time.process_time()
    dataset = data.load(folder, SIDE, split_seed=0)
    iterator = pipeline.batches(
        dataset.train,
        num_classes=len(dataset.class_names),
        batch_size=READ_BATCH,
        samples_per_class=(0,),
        seed=0,
    )
    next(iterator)
    first = time.process_time()
    most = max(own_memory() for _ in itertools.islice(iterator, BATCHES))
    batch = (time.process_time() - first) / BATCHES
    return {"first": first - start, "batch": batch, "read_memory": most - before}


def data_row(result: Results) -> dict[str, str]:
    """Columns of the table for one size."""
    return {
        "size on disk, MB": f"{result['size'] / 1e6:,.0f}",
        "CPU s to write": f"{result['write']:.1f}",
        "memory to write, MB": f"{result['write_memory'] / 1e6:.0f}",
        "CPU s to the first batch": f"{result['first']:.1f}",
        "images per CPU second": f"{READ_BATCH / result['batch']:,.0f}",
        "memory to read, MB": f"{result['read_memory'] / 1e6:.0f}",
    }


Part = tuple[Callable[[], Results], Callable[[Results], dict[str, str]]]
# Part -> the function that measures {name of a row: result}, and that of its columns.
PARTS: dict[str, Part] = {
    "cost": (count, cost_row),
    "devices": (split_batches, devices_row),
    "data": (read_sets, data_row),
}


def measure(values: flags.FlagValues) -> tuple[Results, str]:
    """Measures the parts of --only."""
    jax.config.update("jax_platforms", "cpu")
    results: Results = {}
    texts = []
    for part in values.only:
        measure_part, columns = PARTS[part]
        results[part] = measure_part()
        rows = {name: columns(result) for name, result in results[part].items()}
        head = ["", *next(iter(rows.values()))]
        lines = [[name, *row.values()] for name, row in rows.items()]
        texts.append(f"### {part}\n\n{command_line.table(head, lines)}")
    return results, "\n".join(texts)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_multi_enum(
        "only", [*PARTS], [*PARTS], "Part; may be repeated.", flag_values=values
    )


if __name__ == "__main__":
    command_line.run(measure, define_flags)
