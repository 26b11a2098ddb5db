"""Several processes that act as one, on a host each or beside each other.

The first writes, reads checkpoints and speaks; the others only compute. With one
process, which is the first, nothing here does anything.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

FLAG = (
    "Act as one with other processes. TPU pods and Slurm say themselves who is who; "
    "elsewhere set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID."
)
ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
TO_SET = (
    f"set {ADDRESS}=HOST:PORT of the first process, {COUNT}=2 for two of them, and "
    f"{INDEX}=0 for the first, 1 for the second"
)
PATIENCE = 15  # seconds without a sign of life until a process is taken for dead
LAST_WORDS = 3  # seconds
PAGE = 2000  # bytes of a complaint that reach the others


class PeerError(ValueError):
    """Another process cannot go on; in its words."""


def join() -> None:
    """Meets the other processes; to be called before JAX is used.

    Raises:
        ValueError: who is who is not said, or wrong, or somebody did not come.
    """
    given = _given()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM away from the loop, which asks all processes itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **given,
            cluster_detection_method="deactivate" if given else None,
            heartbeat_timeout_seconds=PATIENCE,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--multihost: the processes did not meet ({_first_line(error)}); outside "
            f"of TPU pods and Slurm {TO_SET}"
        ) from error
    devices = Counter(device.process_index for device in jax.devices())
    if len({*devices.values()}) > 1:
        raise ValueError(
            f"--multihost: the processes have {[*devices.values()]} devices; give each "
            "equally many"
        )


def _given() -> dict[str, Any]:
    """Who is who by the environment, as `initialize` takes it: all or nothing."""
    given = {
        key: os.environ[key] for key in (ADDRESS, COUNT, INDEX) if key in os.environ
    }
    if not given:
        return {}
    numbers = [given.get(key, "") for key in (COUNT, INDEX)]
    address, port = given.get(ADDRESS, "").rpartition(":")[::2]
    if not (
        address
        and port.isdecimal()
        and all(number.isdecimal() for number in numbers)
        and int(numbers[1]) < int(numbers[0])
    ):
        raise ValueError(f"--multihost: the environment says {given}; {TO_SET}")
    return {
        "coordinator_address": given[ADDRESS],
        "num_processes": int(numbers[0]),
        "process_id": int(numbers[1]),
    }


def first() -> bool:
    """Whether this process writes and speaks; alone, it needs no device to know."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block that is done by all processes or by none.

    Raises:
        PeerError: this one did its part, another complained (ValueError, OSError).
    """
    try:
        yield
    except (ValueError, OSError) as error:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # nobody is left to hear
            _exchange(str(error) or type(error).__name__)
        raise
    for process, words in enumerate(_exchange("")):
        if words:
            raise PeerError(f"process {process}: {words}")


def require_same(**given: Any) -> None:
    """Refuses, in every process, what is not the same in all; anything JSON can hold.

    Raises:
        ValueError: naming what differs, and where.
    """
    for name, content in given.items():
        text = json.dumps(content, sort_keys=True)
        digests = _exchange(hashlib.sha256(text.encode()).hexdigest())
        others = [i for i, digest in enumerate(digests) if digest != digests[0]]
        if others:
            raise ValueError(
                f"process {others[0]} was given another {name} than process 0; type "
                "the same command, and keep the same files, for each"
            )


def _exchange(words: str) -> list[str]:
    """What each process says, in their order; a long speech is cut."""
    if not jax.distributed.is_initialized():
        return [words]
    page = words.encode()[:PAGE].ljust(PAGE, b"\0")
    pages = multihost_utils.process_allgather(np.frombuffer(page, np.uint8))
    return [bytes(page).rstrip(b"\0").decode(errors="ignore") for page in pages]


def from_first(tree: Any) -> Any:
    """The first process's NumPy arrays, bit for bit; all give arrays of its shapes."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    leaves = [np.asarray(leaf) for leaf in leaves]
    # As words, for they are sent by adding zeros to them, which -0.0 would not survive.
    sent = b"".join(leaf.tobytes() for leaf in leaves)
    words = np.frombuffer(sent.ljust(-len(sent) % 4 + len(sent), b"\0"), np.uint32)
    got = multihost_utils.broadcast_one_to_all(words).tobytes()
    ends = np.cumsum([leaf.nbytes for leaf in leaves])
    parts = [
        np.frombuffer(got[end - leaf.nbytes : end], leaf.dtype).reshape(leaf.shape)
        for leaf, end in zip(leaves, ends, strict=True)
    ]
    return jax.tree.unflatten(structure, parts)


def by_first(command: Callable[[], int], multihost: bool) -> int:
    """The exit code of a command that the first process does alone, with one device.

    The others wait, and end as it ends: a slice of several hosts starts on all or none.
    """
    if not multihost:
        return command()
    try:
        join()
    except ValueError as error:
        sys.exit(f"error: {error}")
    code = command() if first() else 0
    return int(from_first(np.int32(code)))


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Around a whole command: where it fails, the process leaves without the others.

    Else it would wait for them, and they for it; so they end, too. The first, through
    which they hear of each other, gives them a moment to say what they have to.
    """
    try:
        yield
    except BaseException as error:
        done = isinstance(error, SystemExit) and not error.code
        if done or not jax.distributed.is_initialized():
            raise
        code = _say(error)
        time.sleep(LAST_WORDS if first() else 0)
        os._exit(code)


def _say(error: BaseException) -> int:
    """What Python would say of it on leaving, and the exit code."""
    code: Any = 1
    if isinstance(error, SystemExit):
        if isinstance(error.code, int):
            code = error.code
        else:
            sys.stderr.write(f"{error.code}\n")
    elif isinstance(error, jax.errors.JaxRuntimeError):
        sys.stderr.write(
            f"error: process {jax.process_index()} cannot go on without the others "
            f"({_first_line(error)}); see what they say. The same command, typed for "
            "each, goes on from the last checkpoint\n"
        )
    else:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
