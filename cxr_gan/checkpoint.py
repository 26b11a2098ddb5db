"""The only file with Orbax: what a run writes down, and trusts only if it is whole."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from cxr_gan import disk
from cxr_gan.checksums import crc_of_json, crcs
from cxr_gan.state import TrainState

FOLDER = "checkpoints"
DAMAGED = "damaged"
KEEP = 2  # newest checkpoints on disk; the best joins them
BEST, LATEST = "best", "latest"


class CheckpointError(ValueError):
    """A checkpoint cannot be written, or none can be read; says what to do."""


class Checkpoints:
    """The checkpoints of one run: saved in the background, checked when read.

    Orbax gives back flipped bytes without a word, so the CRC-32 of every array, and of
    what is said of them, is written beside them and compared on reading. Arrays are
    saved as NumPy, and so restored on any number of devices.
    """

    def __init__(self, workdir: str | os.PathLike[str], read_only: bool = False):
        self.folder = pathlib.Path(workdir).absolute() / FOLDER
        keep = AnyPreservationPolicy(
            [
                LatestN(KEEP),
                BestN(
                    get_metric_fn=lambda metrics: metrics["score"],
                    reverse=True,  # the lowest is the best
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        if not read_only:
            self.folder.mkdir(parents=True, exist_ok=True)
        own = jax.process_index()  # of several processes only this one comes here
        # Orbax's own read_only would warn of itself at each opening.
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if read_only else keep,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=own, active_processes={own}
            ),
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._writing():
            self._manager.close()

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self, state: TrainState, meta: dict[str, Any], score: float | None = None
    ) -> None:
        """Begins to write a host state (NumPy leaves) and what is known of it.

        The checkpoint of the lowest score stays, however old; None is of no account.

        Raises:
            CheckpointError: this or an earlier save failed, or there is a checkpoint
                of this or a later step already.
        """
        step = int(state.step)
        rest, ema = state.replace(ema=None), state.ema
        meta = {**meta, "step": step, "score": score}
        sums = {"state": crcs(rest), "ema": crcs(ema), "meta": crc_of_json(meta)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(rest),
            ema=ocp.args.StandardSave(ema),
            meta=ocp.args.JsonSave({**meta, "crc32": sums}),
        )
        metrics = None if score is None else {"score": score}
        with self._writing():
            self._manager.check_for_errors()
            saved = self._manager.save(step, args=args, metrics=metrics)
        if not saved:
            raise CheckpointError(
                f"{self.folder} did not take step {step}, for it holds {self.steps()}; "
                "is another training using it?"
            )

    def wait(self) -> None:
        """Returns when all that was saved is on disk.

        Raises:
            CheckpointError: a save failed.
        """
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # raised by Orbax's threads, of many kinds
            raise CheckpointError(
                f"{self.folder} could not be written: {first_line(error)}; make room "
                "or mend it, and the same command goes on from the last checkpoint"
            ) from error

    def restore(self, target: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest whole checkpoint, shaped as target (NumPy leaves); None if none.

        Damaged ones are passed over with a warning and moved aside, not deleted.

        Raises:
            CheckpointError: there are checkpoints, but each is damaged.
            disk.DiskError: a damaged one cannot be moved.
        """
        expected = target.replace(ema=None)
        found, damaged = self._newest_whole(
            lambda step: self._read(step, expected, target.ema)
        )
        if found is None:
            return None
        for step in damaged:
            self._set_aside(step)
        (rest, ema), meta = found
        return rest.replace(ema=ema), meta

    def restore_ema(self, which: int | str = LATEST) -> tuple[Any, dict[str, Any]]:
        """The averaged generator (NumPy leaves) and meta.

        The latest is the newest whole checkpoint; the best is that of the lowest score.

        Raises:
            FileNotFoundError: no checkpoint, none of this step, or none with a score.
            CheckpointError: what there is is damaged.
        """
        if not self.steps():
            raise FileNotFoundError(
                f"{self.folder} holds no checkpoint; train one with python -m "
                f"cxr_gan.main --workdir={self.folder.parent}"
            )
        if which == BEST:
            which = self._best()
        if which != LATEST and which not in self.steps():
            raise FileNotFoundError(
                f"{self.folder} holds no step {which}; it holds {self.steps()}"
            )
        steps = self.steps() if which == LATEST else [int(which)]
        found, _ = self._newest_whole(lambda s: self._read(s, None, None), steps)
        assert found is not None
        (_, ema), meta = found
        return ema, meta

    def _best(self) -> int:
        """The step of the lowest score; damaged ones are passed over with a warning."""
        scores = {}
        for step in self.steps():
            try:
                _, meta = self._read(step, None, None)
            except Exception as error:  # Orbax raises many kinds for damaged files
                logging.warning("checkpoint %d is damaged: %s", step, first_line(error))
                continue
            if meta["score"] is not None:
                scores[step] = meta["score"]
        if not scores:
            raise FileNotFoundError(
                f"{self.folder} holds no checkpoint with a score; ask for @latest, or "
                "train with --config.evaluate_kimg above 0"
            )
        return min(scores, key=lambda step: scores[step])

    def _newest_whole(
        self, read: Callable[[int], Any], steps: list[int] | None = None
    ) -> tuple[Any, list[int]]:
        """What `read` gives for the newest whole step, and the damaged newer ones."""
        damaged: list[int] = []
        steps = self.steps() if steps is None else steps
        for step in reversed(steps):
            try:
                return read(step), damaged
            except Exception as error:  # Orbax raises many kinds for damaged files
                logging.warning("checkpoint %d is damaged: %s", step, first_line(error))
                damaged.append(step)
        if damaged:
            raise CheckpointError(
                f"{self.folder}: every checkpoint looked at is damaged ({damaged} of "
                f"{self.steps()}), or of another version of cxr_gan; bring a copy "
                "back, go on with that version, or train from the beginning with "
                "another --workdir"
            )
        return None, damaged

    def _read(
        self, step: int, expected: TrainState | None, ema: Any
    ) -> tuple[tuple[Any, Any], dict[str, Any]]:
        """One checkpoint, verified; the state only where one is expected."""
        items = {"ema": ocp.args.StandardRestore(ema), "meta": ocp.args.JsonRestore()}
        if expected is not None:
            items["state"] = ocp.args.StandardRestore(expected)
        out = self._manager.restore(step, args=ocp.args.Composite(**items))
        rest = out["state"] if expected is not None else None
        meta = dict(out["meta"])
        sums = meta.pop("crc32")
        found = {"ema": crcs(out["ema"]), "meta": crc_of_json(meta)}
        if expected is not None:
            found["state"] = crcs(rest)
        wrong = [item for item, value in found.items() if value != sums[item]]
        if wrong:
            raise CheckpointError(f"changed on disk: {', '.join(wrong)}")
        read, asked = (rest, out["ema"]), (expected, ema)
        if expected is not None and _shapes(read) != _shapes(asked):
            raise CheckpointError("its networks have other shapes than this run's")
        return read, meta

    def _set_aside(self, step: int) -> None:
        """Moves a damaged step out of the way of the one that will be trained anew."""
        shelf = self.folder.parent / DAMAGED
        names = (shelf / f"{step}-{i}" for i in range(1_000))
        free = next(name for name in names if not name.exists())
        with disk.writing(free):
            shelf.mkdir(exist_ok=True)
            (self.folder / str(step)).rename(free)
        logging.warning("moved it to %s", free)
        self._manager.reload()


def _shapes(tree: Any) -> Any:
    """Of every array; Orbax does not compare them with those it was asked for."""
    return jax.tree.map(np.shape, tree)


def first_line(error: Exception) -> str:
    """'ValueError: what it says', at most 200 letters of the first line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def load_ema(
    workdir: str | os.PathLike[str], which: int | str = LATEST
) -> tuple[Any, dict[str, Any]]:
    """The averaged generator of a run and its meta; see `Checkpoints.restore_ema`.

    Raises:
        FileNotFoundError: no such run, or no such checkpoint in it.
        CheckpointError: all checkpoints, or the one asked for, are damaged.
    """
    if not (pathlib.Path(workdir) / FOLDER).is_dir():
        raise FileNotFoundError(
            f"{os.fspath(workdir)} is no run: it has no folder {FOLDER!r}; give the "
            "--workdir of a training"
        )
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.restore_ema(which)
