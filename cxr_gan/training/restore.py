"""Where a run continues: at its newest intact checkpoint, or at its beginning.

A run whose metrics became NaN or infinite can be rolled back to that checkpoint. The
noise after the k-th rollback is a pure function of (seed, k), and k is stored in each
checkpoint. So a run that is rolled back, killed and resumed ends as one that was
only rolled back: steps that were not saved are repeated, and fail in the same way.
"""

from typing import NamedTuple

import jax
import numpy as np

from cxr_gan.runtime import multihost
from cxr_gan.sampling import arguments
from cxr_gan.storage.checkpoint import CheckpointError, Checkpoints
from cxr_gan.training import metric_writer
from cxr_gan.training.experiment import Run
from cxr_gan.training.run_record import (
    RECORD,
    SCHEMA,
    describe_difference,
    read_difference,
)
from cxr_gan.training.train_state import TrainState


class RestoredState(NamedTuple):
    """The state a run continues from."""

    state: TrainState  # on the host
    rollbacks: int  # before this state, since the beginning of the run

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.state.step)


def restore_latest(
    run: Run, checkpoints: Checkpoints | None, initial: TrainState
) -> RestoredState:
    """The newest intact checkpoint of this run; the initial state if there is none.

    Only the primary process opens checkpoints; it broadcasts what it restored.

    Raises:
        CheckpointError: every checkpoint is damaged, or the newest is of another run.
        multihost.PeerError: the primary process raised one of these.
    """
    with multihost.sync_errors():
        restored = RestoredState(initial, 0)
        if checkpoints:
            restored = _read(run, checkpoints, initial)
    state, rollbacks = multihost.broadcast_from_primary(
        (restored.state, np.int32(restored.rollbacks))
    )
    return RestoredState(state, int(rollbacks))


def _read(run: Run, checkpoints: Checkpoints, initial: TrainState) -> RestoredState:
    difference = read_difference(run.folder, run.record())
    if difference:  # claimed by another run just before this one locked the folder
        raise CheckpointError(f"{run.folder} {difference}")
    found = checkpoints.restore(initial.to_items())
    if found is None:
        return RestoredState(initial, 0)
    items, metadata = found
    difference = describe_difference(metadata, run.record())
    if difference:
        hint = f"; if {RECORD} was edited, restore its old content"
        raise CheckpointError(
            f"checkpoint {metadata['step']} of {run.folder} {difference}"
            + (hint if metadata.get("schema") == SCHEMA else "")
        )
    return RestoredState(TrainState.from_items(items), metadata["rollbacks"])


def make_keys(seed: int, rollbacks: int) -> tuple[jax.Array, jax.Array]:
    """The key of the initial parameters, and that of all noise after the rollbacks."""
    init_key, noise_key = jax.random.split(arguments.as_key(seed))
    if rollbacks:
        noise_key = jax.random.fold_in(noise_key, rollbacks)
    return init_key, noise_key


def roll_back(
    run: Run,
    restored: RestoredState,
    checkpoints: Checkpoints | None,
    initial: TrainState,
    error: metric_writer.NonFiniteError,
) -> RestoredState:
    """The newest intact checkpoint, to continue from with other noise.

    Raises:
        metric_writer.NonFiniteError: the given one, if rollbacks are off or used up.
    """
    rollbacks, limit = restored.rollbacks + 1, run.config.max_rollbacks
    if run.config.on_nan == "stop":
        raise error
    if rollbacks > limit:
        raise metric_writer.NonFiniteError(f"{error}, after {limit} rollbacks") from (
            error
        )
    if checkpoints:
        checkpoints.wait()
    state = restore_latest(run, checkpoints, initial).state
    if multihost.is_primary():
        metric_writer.ProgressLine().write(
            f"{error}; rolled back to step {int(state.step)}, training continues with "
            f"other noise (rollback {rollbacks} of {limit})"
        )
    return RestoredState(state, rollbacks)
