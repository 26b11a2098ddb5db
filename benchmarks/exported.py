r"""Times exported programs beside `cxr_gan.sample`, on one core, in interleaved runs.

    taskset -c 0 python -m benchmarks.exported --model=pediatric64 --out=exported.json

"JAX, any platform" is the program that --format=stablehlo exports: without the kernels
that `cxr_gan.sample` uses on CPUs.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import onnxruntime
from absl import flags

import cxr_gan
from benchmarks import command_line
from cxr_gan.runtime import cpu
from cxr_gan.sampling import exporting

COUNTS = (1, 16)  # images a call
SESSION = onnxruntime.InferenceSession
Program = Callable[[np.ndarray, np.ndarray], Any]  # z, int32 label -> images


def one_thread(content: bytes, **_: Any) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime that computes in the calling thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return SESSION(content, options, providers=["CPUExecutionProvider"])


def programs(params: cxr_gan.GeneratorParams) -> dict[str, tuple[float, Program]]:
    """Name -> size of its file in MB, 0 without a file, and the program."""
    found: dict[str, tuple[float, Program]] = {
        "cxr_gan.sample": (
            0.0,
            lambda z, label: cxr_gan.sample(params, label, latents=z),
        )
    }
    for name, make, dtype in (
        ("JAX, any platform", exporting.export_stablehlo, "float32"),
        ("ONNX Runtime", exporting.export_onnx, "float32"),
        ("ONNX Runtime, float16 weights", exporting.export_onnx, "float16"),
    ):
        with mock.patch.object(onnxruntime, "InferenceSession", one_thread):
            content, program = make(params, dtype, {})
        found[name] = len(content) / 1e6, program
    return found


def milliseconds(program: Program, z: np.ndarray, label: np.ndarray) -> float:
    """Time of one call."""
    start = time.perf_counter()
    np.asarray(program(z, label))
    return 1000 * (time.perf_counter() - start)


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Times all programs, in the order A B C A B C."""
    if cpu.available_cpus() > 1:
        raise ValueError("give the process one core: taskset -c 0 python -m ...")
    params = cxr_gan.load(values.model)
    found, times = programs(params), {}
    for count in COUNTS:
        z = np.asarray(cxr_gan.latents(params, count, 0))
        label = np.arange(count, dtype=np.int32) % len(params.class_names)
        for _ in range(2):  # the first calls compile
            for _, program in found.values():
                program(z, label)
        repeats = [
            [milliseconds(program, z, label) for _, program in found.values()]
            for _ in range(values.repeats)
        ]
        times[count] = [
            statistics.median(column) for column in zip(*repeats, strict=True)
        ]
    rows = [
        [name, f"{size:.1f}" if size else "", *(f"{times[n][i]:.1f}" for n in COUNTS)]
        for i, (name, (size, _)) in enumerate(found.items())
    ]
    head = ["program", "file, MB", *(f"ms for {n} images" for n in COUNTS)]
    return {"programs": [*found], "milliseconds": times}, command_line.table(head, rows)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", "pediatric64", "As in cxr_gan.load.", **own)
    flags.DEFINE_integer("repeats", 15, "Calls of each program.", 1, **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
