"""The loop: restore, step, report, draw, save. No maths.

Of several processes all play, and end with the same round; the first writes.
"""

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import jax
import numpy as np
from PIL import Image

from cxr_gan import grids, hosts, monitor, parallel, report, sampling
from cxr_gan.checkpoint import Checkpoints
from cxr_gan.images import to_uint8
from cxr_gan.run import Run
from cxr_gan.state import TrainState, create_state
from cxr_gan.step import Metrics

GRID_COLUMNS = 8
GRID_ROWS = 2  # of each class
LATE, HURRY = 1, 2  # wishes to end: time is up; a signal, which leaves no time to look
Batch = dict[str, np.ndarray]


def train(run: Run) -> str:
    """Plays a run to its end or to a signal; returns how it ended and how to go on.

    Raises:
        report.NonFiniteError: a figure became NaN; the last good checkpoint stays.
        ValueError: every checkpoint is damaged.
        hosts.PeerError: another process cannot go on.
    """
    begun = time.monotonic()
    config = run.config
    opened = Checkpoints(run.folder) if hosts.first() else contextlib.nullcontext()
    with StopSignals() as stop, opened as checkpoints:
        key_init, key = jax.random.split(jax.random.key(config.seed))
        state = begin(run, checkpoints, key_init)
        first = int(state.step)
        if first >= run.total_steps:
            return f"{run.folder} is finished; to go on, raise --config.total_kimg"
        vote = parallel.Vote()
        step, feed = open_step_and_feed(run, state, first)
        state, key = parallel.replicate((state, key))
        with open_report(run, first) as reporter:
            window, exam = Window(run, reporter, first), Exam(run)
            for done in range(first + 1, run.total_steps + 1):
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
                    draw_grid(run, parallel.unreplicate(state.ema), done)
                if save and checkpoints and reporter:
                    host: TrainState = parallel.unreplicate(state)
                    figures = exam.figures(host.ema) if look else {}
                    if figures:
                        reporter.write(done, run.kimg(done), figures)
                    score = figures.get(monitor.BEST)
                    checkpoints.save(host, run.meta(done, figures), score)
                if last:
                    break
        with hosts.together():
            if checkpoints:
                checkpoints.wait()
    return farewell(run, done, early=done < run.total_steps)


def begin(run: Run, checkpoints: Checkpoints | None, key: jax.Array) -> TrainState:
    """The newest state on the first process's disk, else a fresh one; on the host."""
    state = fresh_state(run, key)
    with hosts.together():
        restored = checkpoints.restore(state) if checkpoints else None
    found: TrainState = hosts.from_first(state if restored is None else restored[0])
    return found


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

    TensorFlow is imported and takes the images while XLA compiles.
    """
    with ThreadPoolExecutor(1) as pool:
        feed = pool.submit(open_feed, run, first)
        step = parallel.compile_step(run.gan, state, run.config.batch_size)
        return step, feed.result()


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

    def __init__(self, run: Run, reporter: report.Reporter | None, first: int):
        self._run, self._reporter = run, reporter
        self._progress = report.ProgressLine()
        self._pending: list[Metrics] = []
        self._waited, self._begun = 0.0, time.monotonic()
        if reporter:
            self._progress.say(
                f"{run.folder}: round {first + 1} of {run.total_steps}, "
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
        figures["time/img_per_sec"] = shown / seconds
        figures["time/data_wait"] = self._waited / seconds
        kimg = self._run.kimg(done)
        if self._reporter:
            self._reporter.write(done, kimg, figures)
            self._progress.show(kimg, self._run.config.total_kimg, figures)
        self._pending, self._waited, self._begun = [], 0.0, time.monotonic()


class Exam:
    """Looks how near the averaged generator is to val; fetches val when first asked."""

    def __init__(self, run: Run):
        self._run = run

    @functools.cached_property
    def _reference(self) -> monitor.Reference | None:
        return monitor.reference_of(self._run.dataset)

    def due(self, done: int, last: bool) -> bool:
        """Whether to look after this step: every evaluate_kimg, and at the end."""
        every = self._run.config.evaluate_kimg
        return bool(every) and (last or self._run.due(done, every))

    def figures(self, ema: Any) -> report.Figures:
        """`monitor.figures` of the same latents each time; none without enough val."""
        if self._reference is None:
            return {}
        params = sampling.GeneratorParams(params=ema, spec=self._run.spec)
        labels = np.repeat(np.arange(len(params.class_names)), monitor.PER_CLASS)
        images = sampling.sample(params, labels, self._run.config.seed)
        return monitor.figures(self._reference, to_uint8(images), labels)


def draw_grid(run: Run, ema: Any, done: int) -> None:
    """grids/DONE.png: the same latents at every kimg, so that the PNGs form a film."""
    names = run.spec.class_names
    params = sampling.GeneratorParams(params=ema, spec=run.spec)
    labels = np.repeat(np.arange(len(names)), GRID_ROWS * GRID_COLUMNS)
    images = sampling.sample(params, labels, run.config.seed)
    folder = run.folder / "grids"
    folder.mkdir(exist_ok=True)
    rows = to_uint8(images).reshape(-1, GRID_COLUMNS, *images.shape[1:])
    grid = grids.grid(rows, [name for name in names for _ in range(GRID_ROWS)])
    Image.fromarray(grid).save(folder / f"{done:08d}.png")


class StopSignals:
    """Turns the first Ctrl-C or SIGTERM into a wish; the second acts as ever."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: object) -> None:
        self.asked = True
        for which, handler in self._before.items():
            signal.signal(which, handler)
