"""JAX settings on which results depend, and checks before JAX is used.

JAX reads its settings from environment variables and from `jax.config`, where the
calling program may have changed them. Within `pinned` they have the values below, in
this thread only; afterwards those of the caller apply again.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import jax

# Settings that change numbers. A run records them.
NUMERICS = {
    "default_matmul_precision": None,
    "default_prng_impl": "threefry2x32",
    "disable_jit": False,
    "enable_x64": False,
    "threefry_partitionable": True,
}
# Checks that make JAX reject correct code; these values disable them.
STRICTNESS = {
    "debug_infs": False,
    "debug_key_reuse": False,
    "debug_nans": False,
    "legacy_prng_key": "allow",
    "numpy_dtype_promotion": "standard",
    "numpy_rank_promotion": "allow",
    "transfer_guard": "allow",
}
# Id of the process that used JAX first. Global, because a fork inherits only memory.
_first_process: list[int] = []


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Runs a block, or a decorated function, with the settings above.

    Raises:
        ValueError: JAX_PLATFORMS names a platform that JAX does not find.
        RuntimeError: this process is a fork of one that used JAX before.
    """
    _first_process[:] = _first_process or [os.getpid()]
    if _first_process != [os.getpid()]:
        raise RuntimeError(
            f"this process is a fork of process {_first_process[0]}, which used JAX: "
            'JAX cannot be used in a fork; use the start method "spawn", such as '
            'multiprocessing.get_context("spawn") or '
            'DataLoader(multiprocessing_context="spawn")'
        )
    require_platform()
    with contextlib.ExitStack() as stack:
        for name, value in {**NUMERICS, **STRICTNESS}.items():
            setting: Any = getattr(jax, name)
            stack.enter_context(setting(value))
        yield


@functools.cache
def require_platform() -> None:
    """Raises ValueError if JAX_PLATFORMS names a platform that JAX does not find.

    If JAX_PLATFORMS is unset or "cpu", JAX is not initialised, so that the number of
    CPU devices can still be set.
    """
    platforms = jax.config.values["jax_platforms"]
    if platforms in (None, "", "cpu"):
        return
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"JAX_PLATFORMS={platforms}: JAX finds no such platform on this machine; "
            "leave the variable unset, or set JAX_PLATFORMS=cpu"
        ) from error
