"""Compiles the training step for TPUs, on any machine, and shows what it costs there.

    pip install -e ".[tpu]"
    python -m benchmarks.tpu --topology=v5e:2x4 --resolution=64 --out=tpu.json
    python -m benchmarks.tpu --topology=v5e:2x4 --resolution=64 --before=tpu.json

The TPU compiler runs on the host, so no TPU is needed. Compiling takes one core several
minutes. The step is that of the published configuration of the resolution, with the
batch divided among all chips of the topology.

Cycles are the compiler's estimates of each instruction; nothing is measured. The mean
counts the R1 penalty once in its interval. Time between chips and waiting for memory
are not in it. An instruction belongs to the function of cxr_gan whose line it comes
from, in the forward or the backward pass.
"""

import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import re
import time
from collections import Counter
from typing import Any

import jax
from absl import flags
from jax.experimental import topologies
from ml_collections import ConfigDict

import cxr_gan
from benchmarks import command_line
from benchmarks.baselines.published import build_shapes
from benchmarks.command_line import Results
from cxr_gan import config as configs
from cxr_gan.runtime import config_files, cpu
from cxr_gan.training import data_parallel

CONFIGS = {"64": "acgan.py", "128": "acgan_128.py", "256": "acgan_256.py"}
DEAREST = 10  # instructions in the table
NO_TPU = {  # without them, libtpu searches for a TPU, and warns that there is none
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
PACKAGE = str(pathlib.Path(cxr_gan.__file__).parent) + os.sep
ELSEWHERE = "elsewhere"  # instructions without a source line in cxr_gan
SAME = ("topology", "resolution", "batch", "compute_dtype")  # in a comparison
TOTALS = {
    "cycles": "estimated cycles of a step, without R1",
    "cycles_r1": "of the R1 penalty",
    "cycles_mean": "of a step, mean",
    "arguments": "memory of the arguments, MB a chip",
    "temporary": "temporary memory, MB a chip",
    "program": "memory of the program, MB a chip",
    "all_reduces": "all-reduces",
    "copies": "copies",
    "seconds": "seconds to compile",
}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a compiled program."""

    name: str
    opcode: str
    cycles: int  # estimated; 0 where the compiler gives none
    branches: tuple[str, ...]  # computations of which one is run
    function: str  # "models/layers.py: upsample", or ELSEWHERE
    line: str  # "models/layers.py:26", or ELSEWHERE
    layer: str  # path of JAX and Flax, such as "Generator/block_8/conv_in"


Program = dict[str, list[Instruction]]  # computation: its instructions; "" = entry


def parse(text: str) -> Program:
    """The instructions of a compiled program of the TPU compiler, by computation."""
    places = _Places(text)
    program: Program = {}
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%([\w.-]+) .*\{$", line):
            program["" if head[1] else head[2]] = current = []
        elif found := re.match(
            r"  (?:ROOT )?%([\w.-]+) = .*?(?<=\s)([a-z][\w-]*)\(", line
        ):
            cycles = re.search(r'"estimated_cycles":"(\d+)"', line)
            branches = re.search(r"branch_computations=\{([^}]*)\}", line)
            layer = re.search(r'op_name="([^"]*)"', line)
            function, place = places.of(line)
            current.append(
                Instruction(
                    name=found[1],
                    opcode=found[2],
                    cycles=int(cycles[1]) if cycles else 0,
                    branches=tuple(re.findall(r"%([\w.-]+)", branches[1]))
                    if branches
                    else (),
                    function=function,
                    line=place,
                    layer=layer[1].removeprefix("jit(_fun)/shard_map/")
                    if layer
                    else "",
                )
            )
    return program


class _Places:
    """The tables of a program that lead from an instruction to its source line."""

    def __init__(self, text: str):
        def table(title: str, row: str) -> dict[int, tuple[str, ...]]:
            start = text.find(f"\n{title}\n")
            end = text.find("\n\n", start)
            rows = re.findall(rf"^(\d+) {row}", text[start:end], re.MULTILINE)
            return {int(number): tuple(values) for number, *values in rows}

        self._files = table("FileNames", '"(.*)"')
        self._functions = table("FunctionNames", '"(.*)"')
        location = r"\{file_name_id=(\d+) function_name_id=(\d+) line=(\d+)"
        self._locations = table("FileLocations", location)
        frame = r"\{file_location_id=(\d+) parent_frame_id=(\d+)"
        self._frames = table("StackFrames", frame)

    def of(self, line: str) -> tuple[str, str]:
        """Function and line of the innermost frame inside of cxr_gan."""
        found = re.search(r"stack_frame_id=(\d+)", line)
        frame = int(found[1]) if found else 0
        while frame:
            location, parent = map(int, self._frames[frame])
            file_id, function_id, number = map(int, self._locations[location])
            path = self._files[file_id][0]
            if path.startswith(PACKAGE):
                name = path.removeprefix(PACKAGE)
                function = self._functions[function_id][0].split(".<locals>")[0]
                return f"{name}: {function}", f"{name}:{number}"
            frame = parent - 1  # the table counts parents from 1, and has 1 for none
        return ELSEWHERE, ELSEWHERE


def cost(program: Program, interval: int) -> Results:
    """Cycles in all, by function and of the dearest instructions.

    Of two branches the dearer, R1, counts once in `interval` steps.
    """
    entry = [(1.0, instruction) for instruction in program[""]]
    penalty = []
    for _, instruction in entry:
        sides = [program[name] for name in instruction.branches]
        if sides:
            dearer = max(sides, key=lambda side: sum(one.cycles for one in side))
            penalty += [(1 / interval, one) for one in dearer]
    functions: Counter[str] = Counter()
    for weight, one in entry + penalty:
        functions[one.function] += weight * one.cycles
    dearest = sorted(entry, key=lambda pair: -pair[1].cycles)[:DEAREST]
    step, r1 = (sum(one.cycles for _, one in part) for part in (entry, penalty))
    opcodes = Counter(one.opcode for part in program.values() for one in part)
    return {
        "cycles": step,
        "cycles_r1": r1,
        "cycles_mean": round(step + r1 / interval),
        "all_reduces": opcodes["all-reduce"] + opcodes["all-reduce-start"],
        "copies": sum(one.opcode in ("copy", "copy-start") for _, one in entry),
        "functions": {name: round(n) for name, n in functions.most_common() if n >= 1},
        "dearest": [dataclasses.asdict(one) for _, one in dearest],
    }


def compile_step(config: ConfigDict, topology: str) -> Results:
    """Compiles the training step for the chips of a topology, and counts.

    Raises:
        ValueError: the topology has no such name, or the batch cannot be split.
    """
    gan, state = build_shapes(config)
    devices = describe(topology).devices
    share = gan.group_size * len(devices)
    if config.batch_size % share:
        raise ValueError(
            f"--batch={config.batch_size} on {len(devices)} chips: give a multiple of "
            f"{share}, so that each chip gets whole groups of {gan.group_size}"
        )
    start = time.monotonic()
    with cpu.portable_programs():
        step: Any = data_parallel.compile_step(gan, state, config.batch_size, devices)
    memory = step.memory_analysis()
    return {
        "chips": len(devices),
        **cost(parse(step.as_text()), config.loss.r1_interval),
        "arguments": memory.argument_size_in_bytes / 1e6,
        "temporary": memory.temp_size_in_bytes / 1e6,
        "program": memory.generated_code_size_in_bytes / 1e6,
        "seconds": round(time.monotonic() - start),
    }


@functools.cache
def describe(topology: str) -> topologies.TopologyDescription:
    """The chips of a topology, such as "v5e:2x4".

    Raises:
        ValueError: libtpu is not installed, or it has no such topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("this needs the TPU compiler: pip install -e '.[tpu]'")
    os.environ |= NO_TPU
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except RuntimeError as error:
        raise ValueError(
            f"--topology={topology}: the TPU compiler refuses it ({error}); give one "
            "such as v4:2x2x1, v5e:2x4, v5p:2x2x1 or v6e:2x4"
        ) from error


def text(results: Results, before: Results | None) -> str:
    """Markdown of the results, beside those of an earlier run."""

    def rows(own: dict[str, float], other: dict[str, float], names: dict[str, str]):
        for key, name in names.items():
            row = [name, f"{own.get(key, 0):,.0f}"]
            if before is not None:
                past = other.get(key, 0)
                row += [f"{past:,.0f}", f"{own.get(key, 0) / past:.2f}" if past else ""]
            yield row

    columns = ["now"] if before is None else ["now", "before", "ratio"]
    past = before or {"functions": {}}
    functions = results["functions"] | past["functions"]
    by_function = rows(
        results["functions"], past["functions"], {f: f for f in functions}
    )
    dearest = [
        [f"{one['cycles']:,}", one["line"], one["opcode"], one["layer"]]
        for one in results["dearest"]
    ]
    return "\n".join(
        (
            command_line.table(["", *columns], rows(results, past, TOTALS)),
            command_line.table(["cycles of a step, mean", *columns], by_function),
            command_line.table(["cycles", "line", "instruction", "layer"], dearest),
        )
    )


def measure(values: flags.FlagValues) -> tuple[Results, str]:
    """Compiles for the flags, and compares with the results in --before."""
    jax.config.update("jax_platforms", "cpu")
    before = None
    if values.before:
        before = json.loads(pathlib.Path(values.before).read_text(encoding="utf-8"))
        if not isinstance(before, dict) or not {*TOTALS, *SAME} <= before.keys():
            raise ValueError(
                f"--before={values.before} is not a result of this program"
            )
    config = config_files.read(config_files.shipped(CONFIGS[values.resolution]))
    config.batch_size, config.compute_dtype = values.batch, values.compute_dtype
    what = {name: values[name].value for name in SAME}
    past = {name: before[name] for name in SAME} if before else what
    if past != what:
        raise ValueError(
            f"--before={values.before} has {past}; give the same flags as there"
        )
    results = {**what, **compile_step(config, values.topology)}
    return results, text(results, before)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("topology", "v5e:2x4", "Kind and arrangement of chips.", **own)
    flags.DEFINE_enum("resolution", "64", [*CONFIGS], "Pixels per side.", **own)
    flags.DEFINE_integer("batch", 64, "Images per step, on all chips.", 1, **own)
    flags.DEFINE_enum(
        "compute_dtype",
        "bfloat16",
        [*configs.COMPUTE_DTYPES],
        "As in configurations.",
        **own,
    )
    flags.DEFINE_string("before", None, "JSON file of --out to compare with.", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
