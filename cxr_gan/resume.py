"""Where a run goes on: at its last good checkpoint, or at its beginning.

A run whose figures became NaN or infinite can be rolled back there. The noise after
the k-th rollback is a pure function of (seed, k), and k is written into each
checkpoint, so a run that is rolled back, killed and resumed ends as one that was only
rolled back: what was not saved is played again, and meets the same fault again.
"""

from typing import NamedTuple

import jax
import numpy as np

from cxr_gan import hosts, report
from cxr_gan.checkpoint import CheckpointError, Checkpoints
from cxr_gan.run import RECORD, Run, difference
from cxr_gan.state import TrainState


class Start(NamedTuple):
    """Where a run goes on from."""

    state: TrainState  # on the host
    rollbacks: int  # that led there, since the run began

    @property
    def step(self) -> int:
        """Rounds played."""
        return int(self.state.step)


def latest(run: Run, checkpoints: Checkpoints | None, fresh: TrainState) -> Start:
    """The newest whole checkpoint of this very run; the fresh state if there is none.

    Of several processes the first alone has checkpoints; all go on from what it found.

    Raises:
        CheckpointError: every checkpoint is damaged, or the newest is of another run.
        hosts.PeerError: so the first process says.
    """
    with hosts.together():
        start = _read(run, checkpoints, fresh) if checkpoints else Start(fresh, 0)
    state, rollbacks = hosts.from_first((start.state, np.int32(start.rollbacks)))
    return Start(state, int(rollbacks))


def _read(run: Run, checkpoints: Checkpoints, fresh: TrainState) -> Start:
    found = checkpoints.restore(fresh)
    if found is None:
        return Start(fresh, 0)
    state, meta = found
    complaint = difference(meta, run.record())
    if complaint:
        raise CheckpointError(
            f"checkpoint {meta['step']} of {run.folder} {complaint}; if {RECORD} was "
            "edited, bring it back as it was"
        )
    # Checkpoints that were written before there were rollbacks say nothing of them.
    return Start(state, meta.get("rollbacks", 0))


def keys(seed: int, rollbacks: int) -> tuple[jax.Array, jax.Array]:
    """Of the first weights, and of all noise after so many rollbacks."""
    of_weights, of_noise = jax.random.split(jax.random.key(seed))
    if rollbacks:
        of_noise = jax.random.fold_in(of_noise, rollbacks)
    return of_weights, of_noise


def roll_back(
    run: Run,
    start: Start,
    checkpoints: Checkpoints | None,
    fresh: TrainState,
    error: report.NonFiniteError,
) -> Start:
    """The last good checkpoint, from where other noise is played.

    Raises:
        report.NonFiniteError: the one given, if no rollback is wanted or left.
    """
    rollbacks, most = start.rollbacks + 1, run.config.rollbacks
    if run.config.on_nan == "stop":
        raise error
    if rollbacks > most:
        raise report.NonFiniteError(f"{error}, after {most} rollbacks") from error
    if checkpoints:
        checkpoints.wait()
    state = latest(run, checkpoints, fresh).state
    if hosts.first():
        report.ProgressLine().say(
            f"{error}; rolled back to step {int(state.step)}, from where it goes on "
            f"with other noise (rollback {rollbacks} of {most})"
        )
    return Start(state, rollbacks)
