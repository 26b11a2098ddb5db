"""The loop: restore, step, report, draw, save. No maths.

Of several processes all play, and end with the same round; the first writes.
"""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from cxr_gan import health, hosts, lock, looks, monitor, parallel, report, resume
from cxr_gan.checkpoint import Checkpoints
from cxr_gan.run import Run
from cxr_gan.state import TrainState, create_state
from cxr_gan.stop import StopSignals
from cxr_gan.terms import Metrics

LATE, HURRY = 1, 2  # wishes to end: time is up; a signal, which leaves no time to look
Batch = dict[str, np.ndarray]


def train(run: Run) -> str:
    """Plays a run to its end or to a signal; returns how it ended and how to go on.

    Raises:
        lock.InUseError: another process trains in its folder.
        report.NonFiniteError: a figure became NaN, and config.on_nan is "stop" or all
            rollbacks are used up; the last good checkpoint stays.
        CheckpointError: every checkpoint is damaged or another run's, or none can be
            written.
        disk.DiskError: something else cannot be written.
        hosts.PeerError: another process cannot go on.
    """
    begun = time.monotonic()
    with (
        alone(run),
        StopSignals() as stop,
        open_checkpoints(run) as checkpoints,
    ):
        fresh = fresh_state(run, resume.keys(run.config.seed, 0)[0])
        start = resume.latest(run, checkpoints, fresh)
        if start.step >= run.total_steps:
            return f"{run.folder} is finished; to go on, raise --config.total_kimg"
        step, feed = open_step_and_feed(run, start.state, start.step)
        vote = parallel.Vote()
        done = None
        while done is None:
            try:
                done = play(run, start, step, feed, checkpoints, stop, vote, begun)
            except report.NonFiniteError as error:
                start = resume.roll_back(run, start, checkpoints, fresh, error)
                feed = open_feed(run, start.step)
        with hosts.together():
            if checkpoints:
                checkpoints.wait()
    return farewell(run, done, early=done < run.total_steps)


def play(
    run: Run,
    start: resume.Start,
    step: parallel.Step,
    feed: Iterator[Batch],
    checkpoints: Checkpoints | None,
    stop: StopSignals,
    vote: parallel.Vote,
    begun: float,
) -> int:
    """Rounds from a start to the end, a signal or the last minute; how many are done.

    Raises:
        report.NonFiniteError: a figure became NaN.
    """
    config = run.config
    _, key = resume.keys(config.seed, start.rollbacks)
    state, key = parallel.replicate((start.state, key))
    with open_report(run, start.step) as reporter:
        window, exam = Window(run, reporter, start), looks.Exam(run)
        for done in range(start.step + 1, run.total_steps + 1):
            state, metrics = step(state, window.wait_for(feed), key)
            window.add(metrics)
            late = 0 < config.max_minutes < (time.monotonic() - begun) / 60
            wish = vote(HURRY if stop.asked else LATE * late)
            last = wish > 0 or done == run.total_steps
            look = exam.due(done, last) and wish < HURRY
            save = last or look or run.due(done, config.save_kimg)
            draw = last or run.due(done, config.draw_kimg)
            if save or draw or run.due(done, config.report_kimg):
                window.report(done)  # nothing is kept that was not looked at
            if draw and reporter:
                looks.draw_grid(run, parallel.unreplicate(state.ema), done)
            if save:
                host: TrainState = parallel.unreplicate(state)
                report.require_finite(host, done)
                if checkpoints and reporter:
                    figures = {}
                    if look:
                        parallel.give_back_memory()  # or the look's comes on top
                        figures = exam.figures(host.ema)
                    parallel.give_back_memory()
                    if figures:
                        reporter.write(done, run.kimg(done), figures)
                        window.warn(figures)
                    score = figures.get(monitor.BEST)
                    meta = run.meta(done, start.rollbacks, figures)
                    checkpoints.save(host, meta, score)
            if last:
                break
    return done


@contextlib.contextmanager
def alone(run: Run) -> Iterator[None]:
    """The lock on the run's folder, which the first process holds for all."""
    with contextlib.ExitStack() as stack:
        with hosts.together():
            if hosts.first():
                stack.enter_context(lock.held(run.folder))
        yield


def open_checkpoints(run: Run) -> contextlib.AbstractContextManager[Checkpoints | None]:
    """For the first process; none for the others."""
    return Checkpoints(run.folder) if hosts.first() else contextlib.nullcontext()


def open_report(
    run: Run, first: int
) -> contextlib.AbstractContextManager[report.Reporter | None]:
    """For the first process; none for the others."""
    if not hosts.first():
        return contextlib.nullcontext()
    return report.Reporter(run.folder, first)


def fresh_state(run: Run, key: jax.Array) -> TrainState:
    """Untrained players, on the host; compiled in haste, for it runs but once."""
    haste: dict[str, str | bool] = {
        "xla_backend_optimization_level": "0",
        "xla_llvm_disable_expensive_passes": True,
    }
    create = jax.jit(create_state, static_argnums=0).lower(run.gan, key)
    state: TrainState = jax.device_get(create.compile(compiler_options=haste)(key))
    return state


def farewell(run: Run, done: int, early: bool) -> str:
    """One line: where the run stands and what to type."""
    where = (
        f"saved {run.folder} at {run.kimg(done):.1f} of {run.config.total_kimg:g} kimg"
    )
    if early:
        return f"{where}; the same command goes on"
    return (
        f"{where}: finished; python -m cxr_gan.generate --model={run.folder} --out=DIR"
    )


def open_step_and_feed(
    run: Run, state: TrainState, first: int
) -> tuple[parallel.Step, Iterator[Batch]]:
    """The compiled step, and batches from round `first` on.

    TensorFlow is imported, and the order drawn, while XLA compiles.
    """
    with ThreadPoolExecutor(1) as pool:
        feed = pool.submit(open_feed, run, first)
        step = parallel.compile_step(run.gan, state, run.config.batch_size)
        batches = feed.result()
    parallel.give_back_memory()
    return step, batches


def open_feed(run: Run, first: int) -> Iterator[Batch]:
    """Batches of the training split, from round `first` on."""
    from cxr_gan.data import pipeline

    return pipeline.batches(
        run.dataset.train,
        num_classes=len(run.dataset.class_names),
        batch_size=run.config.batch_size,
        samples_per_class=run.config.samples_per_class,
        seed=run.config.seed,
        start=first,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


class Window:
    """The rounds since the last report: their figures, still on the devices."""

    def __init__(self, run: Run, reporter: report.Reporter | None, start: resume.Start):
        self._run, self._reporter, self._rollbacks = run, reporter, start.rollbacks
        names, loss = run.dataset.class_names, run.config.loss
        span = run.gan.adversarial.span
        self._watch = health.Watch(health.signs(names, span, loss.sameness_weight))
        self._progress = report.ProgressLine()
        self._pending: list[Metrics] = []
        self._waited, self._begun = 0.0, time.monotonic()
        if reporter:
            self._progress.say(
                f"{run.folder}: round {start.step + 1} of {run.total_steps}, "
                f"{jax.device_count()} devices, {len(run.dataset.train)} images"
            )

    def wait_for(self, feed: Iterator[Batch]) -> Batch:
        """The next batch, sharded; what it took counts as time/data_wait."""
        begun = time.monotonic()
        batch = parallel.shard(next(feed))
        self._waited += time.monotonic() - begun
        return batch

    def add(self, metrics: Metrics) -> None:
        """Remembers a round, and waits for the one before.

        So a signal finds at most two rounds to wait for.
        """
        if self._pending:
            jax.block_until_ready(self._pending[-1])
        self._pending.append(metrics)

    def report(self, done: int) -> None:
        """Means since the last report, to the line, metrics.jsonl and TensorBoard.

        Raises:
            report.NonFiniteError: one of them is none.
        """
        if not self._pending:
            return
        rounds = [parallel.unreplicate(metrics) for metrics in self._pending]
        names = self._run.dataset.class_names
        figures = report.summarize(rounds, done, names)
        seconds = time.monotonic() - self._begun
        shown = len(rounds) * self._run.config.batch_size
        figures["state/rollbacks"] = float(self._rollbacks)
        figures["time/img_per_sec"] = shown / seconds
        figures["time/data_wait"] = self._waited / seconds
        kimg = self._run.kimg(done)
        if self._reporter:
            self._reporter.write(done, kimg, figures)
            self._progress.show(kimg, self._run.config.total_kimg, figures)
            self.warn(figures)
        self._pending, self._waited, self._begun = [], 0.0, time.monotonic()

    def warn(self, figures: dict[str, float]) -> None:
        """What `health` finds in them, each a line of its own."""
        for warning in self._watch.look(figures):
            self._progress.say(f"warning: {warning}")
