"""The training loop: restore, step, log, validate, checkpoint. No mathematics.

With several processes all run the same loop and stop after the same step; only the
primary process writes.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax

from cxr_gan.runtime import multihost, process
from cxr_gan.runtime.signals import StopSignals
from cxr_gan.storage import lock
from cxr_gan.storage.checkpoint import Checkpoints
from cxr_gan.training import (
    data_parallel,
    diagnostics,
    initialization,
    metric_writer,
    restore,
    snapshots,
    validation,
)
from cxr_gan.training.experiment import Run
from cxr_gan.training.loss_terms import Metrics
from cxr_gan.training.train_state import TrainState, create_train_state

# Stop levels: max_minutes has passed; a signal arrived, which leaves no time to
# validate.
TIME_IS_UP, SIGNAL = 1, 2


def train(run: Run) -> str:
    """Trains to the end, a time limit or a signal; returns a summary for the terminal.

    Raises:
        lock.InUseError: another process trains in the folder.
        metric_writer.NonFiniteError: a metric became NaN or infinite, and
            config.on_nan is "stop" or all rollbacks are used up. The checkpoints before
            it are intact.
        CheckpointError: every checkpoint is damaged or of another run, or none can be
            written.
        files.DiskError: a file other than a checkpoint cannot be written.
        multihost.PeerError: another process failed.
    """
    start_time = time.monotonic()
    with (
        multihost.on_primary(lambda: lock.acquire(run.folder)),
        StopSignals() as signals,
        multihost.on_primary(lambda: Checkpoints(run.folder)) as checkpoints,
    ):
        init_key, _ = restore.make_keys(run.config.seed, 0)
        initial = init_train_state(run, init_key)
        if run.ancestor:
            names = run.dataset.class_names
            metric_writer.ProgressLine().write(
                initialization.describe(run.ancestor, run.config, names)
            )
            initial = initialization.transfer(run.ancestor, run.config, names, initial)
        restored = restore.restore_latest(run, checkpoints, initial)
        if restored.step >= run.total_steps:
            return f"{run.folder} is finished; to continue, raise --config.total_kimg"
        step_fn, data = compile_step_and_open_data(run, restored.state, restored.step)
        consensus = data_parallel.StopConsensus()

        def stop_level() -> int:
            minutes = (time.monotonic() - start_time) / 60
            time_is_up = 0 < run.config.max_minutes < minutes
            return consensus(SIGNAL if signals.requested else TIME_IS_UP * time_is_up)

        done = None
        while done is None:
            try:
                done = train_loop(run, restored, step_fn, data, checkpoints, stop_level)
            except metric_writer.NonFiniteError as error:
                restored = restore.roll_back(run, restored, checkpoints, initial, error)
                data = make_train_iterator(run, restored.step)
        with multihost.sync_errors():
            if checkpoints:
                checkpoints.wait()
    return summary_line(run, done)


def train_loop(
    run: Run,
    restored: restore.RestoredState,
    step_fn: data_parallel.Step,
    data: Iterator[data_parallel.Batch],
    checkpoints: Checkpoints | None,
    stop_level: Callable[[], int],
) -> int:
    """Trains from a restored state; returns the number of steps done.

    `stop_level` is called once a step and agrees in all processes; 0 continues.

    Raises:
        metric_writer.NonFiniteError: a metric became NaN or infinite.
    """
    config = run.config
    _, key = restore.make_keys(config.seed, restored.rollbacks)
    state, key = data_parallel.replicate((restored.state, key))
    with multihost.on_primary(
        lambda: metric_writer.MetricWriter(run.folder, restored.step)
    ) as writer:
        accumulator = MetricAccumulator(run, writer, restored)
        validator = snapshots.Validator(run)
        for step in range(restored.step + 1, run.total_steps + 1):
            state, metrics = step_fn(state, accumulator.next_batch(data), key)
            accumulator.add(metrics)
            stop = stop_level()
            last = stop > 0 or step == run.total_steps
            validate = run.due(step, config.eval_kimg, last) and stop < SIGNAL
            save = validate or run.due(step, config.checkpoint_kimg, last)
            sample = run.due(step, config.sample_kimg, last)
            if save or sample or run.due(step, config.log_kimg):
                # Raises on a non-finite metric, before anything is saved.
                accumulator.flush(step)
            if sample and writer:
                ema = data_parallel.unreplicate(state.ema)
                snapshots.save_sample_grid(run, ema, step)
            if save:
                host_state: TrainState = data_parallel.unreplicate(state)
                metric_writer.require_finite(host_state, step)
                if checkpoints and writer:
                    val_metrics = {}
                    if validate:
                        process.release_memory()  # else validation adds to the peak
                        val_metrics = validator.metrics(host_state.ema)
                    process.release_memory()
                    if val_metrics:
                        writer.write(step, run.kimg(step), val_metrics)
                        accumulator.warn(val_metrics)
                    checkpoints.save(
                        step,
                        host_state.to_items(),
                        run.metadata(step, restored.rollbacks, val_metrics),
                        score=validation.score(
                            val_metrics, validation.near_training_limit(run.dataset)
                        ),
                    )
            if last:
                break
    return step


def init_train_state(run: Run, key: jax.Array) -> TrainState:
    """The initial state, on the host; compiled unoptimized, since it runs once."""
    options: dict[str, str | bool] = {
        "xla_backend_optimization_level": "0",
        "xla_llvm_disable_expensive_passes": True,
    }
    create = jax.jit(create_train_state, static_argnums=0).lower(run.gan, key)
    compiled = create.compile(compiler_options=options)
    state: TrainState = jax.device_get(compiled(key))
    return state


def summary_line(run: Run, step: int) -> str:
    """One line: how far the run is and what to type next."""
    total = run.config.total_kimg
    saved = f"saved {run.folder} at {run.kimg(step):.1f} of {total:g} kimg"
    if step < run.total_steps:
        return f"{saved}; the same command continues"
    return (
        f"{saved}: finished; python -m cxr_gan.generate --model={run.folder} --out=DIR"
    )


def compile_step_and_open_data(
    run: Run, state: TrainState, step: int
) -> tuple[data_parallel.Step, Iterator[data_parallel.Batch]]:
    """The compiled step, and the batches after `step` steps.

    TensorFlow is imported and the data order computed while XLA compiles.
    """
    with ThreadPoolExecutor(1) as pool:
        data = pool.submit(make_train_iterator, run, step)
        step_fn = data_parallel.compile_step(run.gan, state, run.config.batch_size)
        batches = data.result()
    process.release_memory()
    return step_fn, batches


def make_train_iterator(run: Run, step: int) -> Iterator[data_parallel.Batch]:
    """Batches of the training split, from the one after `step` steps on."""
    from cxr_gan.data import pipeline

    return pipeline.batches(
        run.dataset.train,
        num_classes=len(run.dataset.class_names),
        batch_size=run.config.batch_size,
        samples_per_class=run.config.samples_per_class,
        seed=run.config.seed,
        start=step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


class MetricAccumulator:
    """Metrics of the steps since the last report, kept on the devices until then."""

    def __init__(
        self,
        run: Run,
        writer: metric_writer.MetricWriter | None,
        restored: restore.RestoredState,
    ):
        self._run, self._writer = run, writer
        self._rollbacks = restored.rollbacks
        self._monitor = diagnostics.DiagnosticMonitor(
            diagnostics.make_checks(
                run.dataset.class_names,
                run.gan.adversarial.target_distance,
                run.config.loss.diversity_weight,
                validation.near_training_limit(run.dataset),
            )
        )
        self._progress = metric_writer.ProgressLine()
        self._pending: list[Metrics] = []
        self._waited, self._start_time = 0.0, time.monotonic()
        if writer:
            self._progress.write(
                f"{run.folder}: step {restored.step + 1} of {run.total_steps}, "
                f"{jax.device_count()} devices, {len(run.dataset.train)} images"
            )

    def next_batch(self, data: Iterator[data_parallel.Batch]) -> data_parallel.Batch:
        """The next batch, sharded; the time it takes counts as time/data_wait."""
        start = time.monotonic()
        batch = data_parallel.shard(next(data))
        self._waited += time.monotonic() - start
        return batch

    def add(self, metrics: Metrics) -> None:
        """Adds the metrics of a step, and waits for the step before it.

        So at most two steps are in flight when a signal arrives.
        """
        if self._pending:
            jax.block_until_ready(self._pending[-1])
        self._pending.append(metrics)

    def flush(self, step: int) -> None:
        """Writes means since the last report: progress line, metrics.jsonl, events.

        Raises:
            metric_writer.NonFiniteError: one of them is NaN or infinite.
        """
        if not self._pending:
            return
        steps = [data_parallel.unreplicate(metrics) for metrics in self._pending]
        class_names = self._run.dataset.class_names
        metrics = metric_writer.mean_metrics(steps, step, class_names)
        seconds = time.monotonic() - self._start_time
        images = len(steps) * self._run.config.batch_size
        metrics["state/rollbacks"] = float(self._rollbacks)
        metrics["time/images_per_second"] = images / seconds
        metrics["time/data_wait"] = self._waited / seconds  # fraction of the time
        kimg = self._run.kimg(step)
        if self._writer:
            self._writer.write(step, kimg, metrics)
            self._progress.update(kimg, self._run.config.total_kimg, metrics)
            self.warn(metrics)
        self._pending, self._waited, self._start_time = [], 0.0, time.monotonic()

    def warn(self, metrics: dict[str, float]) -> None:
        """Writes the warnings of `diagnostics`, a line each."""
        for warning in self._monitor.update(metrics):
            self._progress.write(f"warning: {warning}")
