"""Orbax checkpoints with checksums; the only module that imports Orbax.

A checkpoint holds named items (trees of NumPy arrays) and JSON metadata. Orbax restores
flipped bytes without an error, so the CRC-32 of every array and of the metadata is
stored beside them and verified on every read. Arrays are saved as NumPy arrays and can
be restored on any number of devices.
"""

import contextlib
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from cxr_gan.storage import damage, files
from cxr_gan.storage.checksums import json_crc32, tree_crc32
from cxr_gan.storage.damage import CheckpointError as CheckpointError
from cxr_gan.storage.damage import IntactError, first_line

FOLDER = "checkpoints"
DAMAGED = "damaged"  # damaged checkpoints are moved to this folder
NUM_LATEST = 2  # newest checkpoints kept; the best one is kept as well
BEST, LATEST = "best", "latest"
ItemsAndMetadata = tuple[dict[str, Any], dict[str, Any]]


class Checkpoints:
    """The checkpoints of one run: saved in the background, verified when read."""

    def __init__(self, workdir: str | os.PathLike[str], read_only: bool = False):
        self.folder = pathlib.Path(workdir).absolute() / FOLDER
        keep = AnyPreservationPolicy(
            [
                LatestN(NUM_LATEST),
                BestN(
                    get_metric_fn=lambda metrics: metrics["score"],
                    reverse=True,  # the lowest score is the best
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        if not read_only:
            with files.translate_os_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
        own = jax.process_index()  # only the primary process opens checkpoints
        # Orbax's own read_only option logs a warning each time it is opened.
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if read_only else keep,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=own, active_processes={own}
            ),
        )
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise IntactError(
                f"{self.folder} cannot be read ({first_line(error)}); make it "
                "readable, then repeat the command"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._translate_errors():
            self._manager.close()

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        items: Mapping[str, Any],
        metadata: dict[str, Any],
        score: float | None = None,
    ) -> None:
        """Starts to write a checkpoint in the background.

        Args:
            step: training step; must be above every step saved before.
            items: {name: tree of NumPy arrays}.
            metadata: JSON-serialisable.
            score: the checkpoint of the lowest score is kept however old it is; None
                leaves it out of the comparison.

        Raises:
            CheckpointError: this or an earlier save failed, or a checkpoint of this or
                a later step exists.
        """
        metadata = {**metadata, "step": step, "score": score}
        sums = {name: tree_crc32(tree) for name, tree in items.items()}
        args = ocp.args.Composite(
            **{name: ocp.args.StandardSave(tree) for name, tree in items.items()},
            meta=ocp.args.JsonSave(
                {**metadata, "crc32": {**sums, "meta": json_crc32(metadata)}}
            ),
        )
        metrics = None if score is None else {"score": score}
        with self._translate_errors():
            self._manager.check_for_errors()
            saved = self._manager.save(step, args=args, metrics=metrics)
        if not saved:
            raise CheckpointError(
                f"{self.folder} refused step {step}: it holds steps {self.steps()}; "
                "check that no other training uses this --workdir"
            )

    def wait(self) -> None:
        """Blocks until everything saved so far is on disk.

        Raises:
            CheckpointError: a save failed.
        """
        with self._translate_errors():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax's threads raise many types
            raise CheckpointError(
                f"{self.folder} cannot be written: {first_line(error)}; free disk "
                "space or repair the disk, then repeat the command: it continues from "
                "the last checkpoint"
            ) from error

    def restore(self, targets: Mapping[str, Any]) -> ItemsAndMetadata | None:
        """The newest intact checkpoint; None if there are no checkpoints.

        Damaged checkpoints are skipped with a warning and moved to the folder DAMAGED;
        nothing is deleted. Those that may be intact stay where they are.

        Args:
            targets: {name: tree with the structure, shapes and dtypes to restore}.

        Returns:
            {name: tree of NumPy arrays}, and the metadata.

        Raises:
            CheckpointError: every checkpoint is damaged.
            IntactError: as `last_intact`.
            files.DiskError: a damaged checkpoint cannot be moved.
        """
        if not self.steps():
            return None
        found, damaged = self.last_intact(self.steps(), targets)
        for step in damaged:
            self._set_aside(step)
        return found

    def steps_by_score(self) -> list[int]:
        """Steps with a score, that of the lowest score last.

        Raises:
            FileNotFoundError: there is none.
        """
        scores = {}
        for step in self.steps():
            try:
                (_, metadata), _ = self.last_intact([step], {})
            except IntactError:
                raise
            except CheckpointError:  # damaged
                continue
            if metadata["score"] is not None:
                scores[step] = metadata["score"]
        if not scores:
            raise FileNotFoundError(
                f"{self.folder} holds no checkpoint with a score; use @latest, or "
                "train with --config.eval_kimg above 0"
            )
        return sorted(scores, key=lambda step: (-scores[step], -step))

    def last_intact(
        self, steps: Sequence[int], targets: Mapping[str, Any]
    ) -> tuple[ItemsAndMetadata, list[int]]:
        """`_read` of the last intact step, and the damaged steps after it.

        Raises:
            CheckpointError: all are damaged.
            IntactError: one that may be intact cannot be read, or does not fit the
                targets.
        """
        damaged: list[int] = []
        for step in reversed(steps):
            try:
                return self._read(step, targets), damaged
            except Exception as error:  # Orbax raises many types for damaged files
                damage.require_damaged(
                    self.folder / str(step),
                    error,
                    functools.partial(self._read, step, dict.fromkeys(targets)),
                )
                logging.warning("checkpoint %d is damaged: %s", step, first_line(error))
                damaged.append(step)
        raise CheckpointError(
            f"{self.folder}: every checkpoint read is damaged ({damaged} of "
            f"{self.steps()}), or was written by another version of cxr_gan; restore a "
            "copy, use that version, or train from the beginning in another --workdir"
        )

    def _read(self, step: int, targets: Mapping[str, Any]) -> ItemsAndMetadata:
        """Items and metadata of one checkpoint, verified; a target of None fits any."""
        out = self._manager.restore(
            step,
            args=ocp.args.Composite(
                **{k: ocp.args.StandardRestore(tree) for k, tree in targets.items()},
                meta=ocp.args.JsonRestore(),
            ),
        )
        items = {name: out[name] for name in targets}
        metadata = dict(out["meta"])
        sums = metadata.pop("crc32")
        found: dict[str, Any] = {k: tree_crc32(tree) for k, tree in items.items()}
        found["meta"] = json_crc32(metadata)
        changed = [name for name, value in found.items() if value != sums[name]]
        if changed:
            raise CheckpointError(f"other checksums: {', '.join(changed)}")
        for name, target in targets.items():
            # Orbax does not compare the stored shapes with the requested ones.
            if target is not None and _shapes(items[name]) != _shapes(target):
                raise CheckpointError("its networks have other shapes than this run's")
        return items, metadata

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint away, so that its step can be saved again."""
        folder = self.folder.parent / DAMAGED
        names = (folder / f"{step}-{i}" for i in range(1_000))
        free = next(name for name in names if not name.exists())
        with files.translate_os_errors(free):
            folder.mkdir(exist_ok=True)
            (self.folder / str(step)).rename(free)
        logging.warning("moved the damaged checkpoint to %s", free)
        self._manager.reload()


def _shapes(tree: Any) -> Any:
    return jax.tree.map(np.shape, tree)


def load_item(
    workdir: str | os.PathLike[str], item: str, which: int | str = LATEST
) -> tuple[Any, dict[str, Any]]:
    """One item of one checkpoint, and the metadata; changes nothing on disk.

    Args:
        workdir: folder of the run.
        item: name of the item.
        which: a step; LATEST, the newest intact one; or BEST, the one of the lowest
            score.

    Raises:
        FileNotFoundError: there is no such run, no checkpoint, none of this step, or
            none with a score.
        CheckpointError: every checkpoint, or the requested one, is damaged.
    """
    if not (pathlib.Path(workdir) / FOLDER).is_dir():
        raise FileNotFoundError(
            f"{os.fspath(workdir)} is not a run: it has no folder {FOLDER!r}; give the "
            "--workdir of a training run"
        )
    with Checkpoints(workdir, read_only=True) as checkpoints:
        folder, steps = checkpoints.folder, checkpoints.steps()
        if not steps:
            raise FileNotFoundError(
                f"{folder} holds no checkpoint; train one with python -m cxr_gan.main "
                f"--workdir={folder.parent}"
            )
        if which == BEST:
            steps = checkpoints.steps_by_score()
        elif which in steps:
            steps = [int(which)]
        elif which != LATEST:
            raise FileNotFoundError(
                f"{folder} holds no step {which}; use one of {steps}"
            )
        (items, metadata), _ = checkpoints.last_intact(steps, {item: None})
    return items[item], metadata
