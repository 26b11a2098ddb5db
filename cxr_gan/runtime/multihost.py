"""Several processes that train as one, on one host each or on the same host.

Process 0 is the primary process: it reads checkpoints, writes files and logs messages.
The other processes only compute. A single process is the primary process, and the
functions here then do not communicate.
"""

import contextlib
import hashlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cxr_gan.runtime import jax_config

FLAG_HELP = (
    "Run as one of several processes that act as one. TPU pods and Slurm are detected "
    "automatically. On other clusters, set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES "
    "and JAX_PROCESS_ID first."
)
ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
SETUP_HELP = (
    f"set {ADDRESS}=HOST:PORT of the first process, {COUNT}=2 for two processes, and "
    f"{INDEX}=0 for the first, 1 for the second"
)
HEARTBEAT_TIMEOUT = 15  # seconds without a heartbeat until a process counts as dead
EXIT_DELAY = 3  # seconds; see `exit_all_on_error`
MAX_MESSAGE_BYTES = 2000  # longer error messages are cut before they are exchanged
Entered = TypeVar("Entered")


class PeerError(ValueError):
    """Another process failed; holds its number and its error message."""


def initialize() -> None:
    """Connects to the other processes; call it before the first use of JAX.

    Raises:
        ValueError: the environment variables are incomplete or wrong, a process did not
            connect, the numbers of devices differ, or a platform in JAX_PLATFORMS is
            not available.
    """
    settings = _from_environment()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # This service would catch SIGTERM; the training loop handles it in all processes.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **settings,
            cluster_detection_method="deactivate" if settings else None,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--multihost: the processes could not connect ({_first_line(error)}); "
            f"outside of TPU pods and Slurm, {SETUP_HELP}"
        ) from error
    jax_config.require_platform()
    devices = Counter(device.process_index for device in jax.devices())
    if len({*devices.values()}) > 1:
        raise ValueError(
            f"--multihost: the processes have {[*devices.values()]} devices; give each "
            "process the same number"
        )


def _from_environment() -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize` from the environment; {} if not set.

    Raises:
        ValueError: only some variables are set, or one is invalid.
    """
    names = (ADDRESS, COUNT, INDEX)
    given = {name: os.environ[name] for name in names if name in os.environ}
    if not given:
        return {}
    values = " ".join(given.get(name, "") for name in names)
    match = re.fullmatch(r"(.+:\d+) (\d+) (\d+)", values)
    if not match or int(match[3]) >= int(match[2]):
        raise ValueError(
            f"--multihost: the environment variables {given} are incomplete or "
            f"invalid; {SETUP_HELP}"
        )
    return {
        "coordinator_address": match[1],
        "num_processes": int(match[2]),
        "process_id": int(match[3]),
    }


def is_primary() -> bool:
    """Whether this process writes and logs; a single process initialises no device."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


@contextlib.contextmanager
def sync_errors() -> Iterator[None]:
    """A block that fails in all processes if it fails in one (ValueError, OSError).

    Raises:
        PeerError: the block succeeded here and failed in another process.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        # The other processes may be gone already.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            _gather_text(str(error) or type(error).__name__)
        raise
    for process, message in enumerate(_gather_text("")):
        if message:
            raise PeerError(f"process {process}: {message}")


@contextlib.contextmanager
def on_primary(
    open_context: Callable[[], contextlib.AbstractContextManager[Entered]],
) -> Iterator[Entered | None]:
    """Enters a context in the primary process only; yields None in the others.

    Raises:
        PeerError: entering it failed in the primary process.
    """
    with contextlib.ExitStack() as stack:
        with sync_errors():
            entered = stack.enter_context(open_context()) if is_primary() else None
        yield entered


def require_equal(**values: Any) -> None:
    """Raises in every process if a JSON-serialisable value differs between them.

    Raises:
        ValueError: names the value, and the first process that has another one.
    """
    for name, content in values.items():
        text = json.dumps(content, sort_keys=True)
        digests = _gather_text(hashlib.sha256(text.encode()).hexdigest())
        different = [i for i, digest in enumerate(digests) if digest != digests[0]]
        if different:
            raise ValueError(
                f"process {different[0]} has a different {name} than process 0; run "
                "the same command with the same files in every process"
            )


def _gather_text(text: str) -> list[str]:
    """The texts of all processes in their order, cut to MAX_MESSAGE_BYTES."""
    if not jax.distributed.is_initialized():
        return [text]
    padded = text.encode()[:MAX_MESSAGE_BYTES].ljust(MAX_MESSAGE_BYTES, b"\0")
    gathered = multihost_utils.process_allgather(np.frombuffer(padded, np.uint8))
    return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in gathered]


def broadcast_from_primary(tree: Any) -> Any:
    """The primary process's tree of NumPy arrays, bit for bit, in every process.

    Args:
        tree: same structure, shapes and dtypes in every process.
    """
    if jax.process_count() == 1:
        return tree
    # As bytes: JAX broadcasts by adding zeros, which would turn -0.0 into 0.0.
    raw = jax.tree.map(lambda x: np.frombuffer(np.asarray(x).tobytes(), np.uint8), tree)
    received = multihost_utils.broadcast_one_to_all(raw)
    return jax.tree.map(
        lambda x, data: np.frombuffer(data, np.asarray(x).dtype).reshape(np.shape(x)),
        tree,
        received,
    )


def run_on_primary(command: Callable[[], int], multihost: bool) -> int:
    """The exit code of a command that runs in the primary process only.

    The other processes wait and return the same exit code: a TPU slice of several hosts
    starts on all of them or on none.

    Args:
        command: returns an exit code; uses one device.
        multihost: False runs the command directly.

    Raises:
        SystemExit: the processes could not connect; see `initialize`.
    """
    if not multihost:
        return command()
    try:
        initialize()
    except ValueError as error:
        sys.exit(f"error: {error}")
    code = command() if is_primary() else 0
    return int(broadcast_from_primary(np.int32(code)))


@contextlib.contextmanager
def exit_all_on_error() -> Iterator[None]:
    """Around a whole command: ends the process at once if the command fails.

    A normal exit would wait for the other processes, and they for this one. An
    immediate exit makes them end too. The other processes learn of failures through the
    primary process, so it waits EXIT_DELAY seconds, in which they can report their own
    errors.
    """
    try:
        yield
    except BaseException as error:
        succeeded = isinstance(error, SystemExit) and not error.code
        if succeeded or not jax.distributed.is_initialized():
            raise
        code = _report_error(error)
        time.sleep(EXIT_DELAY if is_primary() else 0)
        os._exit(code)


def _report_error(error: BaseException) -> int:
    """Writes to stderr what Python would write at exit; returns the exit code."""
    code: Any = 1
    if isinstance(error, SystemExit):
        if isinstance(error.code, int):
            code = error.code
        else:
            sys.stderr.write(f"{error.code}\n")
    elif isinstance(error, jax.errors.JaxRuntimeError):
        sys.stderr.write(
            f"error: process {jax.process_index()} cannot continue without the other "
            f"processes ({_first_line(error)}); see their messages. The same command, "
            "run in every process, resumes from the last checkpoint\n"
        )
    else:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
