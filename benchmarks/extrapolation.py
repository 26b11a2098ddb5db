"""Estimated duration of a step on slices of TPU v5e, computed without a TPU.

Every number is counted by XLA, measured by benchmarks.scaling, published, or a field
of `Assumed`, which was not checked on a TPU.
"""

import dataclasses
import math

from benchmarks import pages


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published properties of a chip."""

    flops: float  # peak per second, in bfloat16
    memory_speed: float  # bytes per second
    links: float  # bytes per second between chips, sum of both directions
    on_host: int  # chips per host


# docs.cloud.google.com/tpu/docs/v5e, "System architecture".
V5E = Chip(flops=197e12, memory_speed=819e9, links=400e9, on_host=8)
SLICES = {"v5e-8": (2, 4), "v5e-256": (16, 16)}  # sides of the torus, in chips


@dataclasses.dataclass(frozen=True)
class Assumed:
    """Assumptions, none of them measured."""

    arithmetic: float = 0.25  # fraction of the peak that convolutions reach
    memory: float = 0.7  # fraction of the memory speed that is reached
    links: float = 0.25  # fraction of the links: a ring uses two of four ports
    hop: float = 1e-6  # s of latency from a chip to the next
    dispatch: float = 1e-3  # s of Python and runtime on the host, per step


@dataclasses.dataclass(frozen=True)
class Work:
    """Counted and measured cost of a step."""

    flops: float  # per image, forward and backward of both networks, with R1
    moved: float  # bytes read and written, per image
    gradients: float  # bytes, of both networks
    fed: float  # images per second that one core of a host prepares
    save: float  # s for which a save blocks the training loop


@dataclasses.dataclass(frozen=True)
class Step:
    """Seconds of each part of a step; parts of the host and the device overlap."""

    batch: int
    arithmetic: float
    memory: float
    exchange: float
    feed: float
    dispatch: float

    @property
    def parts(self) -> dict[str, float]:
        """The parts that overlap; the longest one is the limit."""
        exchange = self.exchange
        return {
            "arithmetic": self.arithmetic + exchange,
            "memory": self.memory + exchange,
            "feed": self.feed,
            "dispatch": self.dispatch,
        }

    @property
    def seconds(self) -> float:
        """Seconds of the step, which is as long as its longest part."""
        return max(self.parts.values())

    @property
    def limit(self) -> str:
        """The longest part; "exchange" if gradient exchange is most of it."""
        longest = max(self.parts, key=self.parts.__getitem__)
        without_exchange = max(self.arithmetic, self.memory)
        on_device = longest in ("arithmetic", "memory")
        return "exchange" if on_device and self.exchange > without_exchange else longest


def step(
    work: Work, torus: tuple[int, int], per_chip: int, chip: Chip, assumed: Assumed
) -> Step:
    """One step with `per_chip` images on every chip of a slice.

    The exchange is a ring all-reduce, in which each chip sends and receives
    2 (n - 1) / n of the bytes (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce
    algorithms"); D's and G's gradients are exchanged separately. Each crosses the
    torus along both sides and back.
    """
    chips = math.prod(torus)
    hops = 2 * 2 * sum(side - 1 for side in torus)
    sent = 2 * (chips - 1) / chips * work.gradients
    on_host = min(chips, chip.on_host) * per_chip
    return Step(
        batch=chips * per_chip,
        arithmetic=per_chip * work.flops / (chip.flops * assumed.arithmetic),
        memory=per_chip * work.moved / (chip.memory_speed * assumed.memory),
        exchange=sent / (chip.links * assumed.links) + hops * assumed.hop,
        feed=on_host / work.fed,
        dispatch=assumed.dispatch,
    )


def saving(work: Work, one: Step, interval: float) -> float:
    """Fraction of the time spent on one save per `interval` images."""
    training = interval / one.batch * one.seconds
    return work.save / (work.save + training)


def assumptions(chip: Chip, assumed: Assumed) -> str:
    """Markdown: every number that was not measured, and its source."""
    google, assumption = "Google, TPU v5e", "assumption"
    rows = [
        ["peak of a chip, bfloat16", f"{chip.flops / 1e12:g} TFLOP/s", google],
        ["memory bandwidth", f"{chip.memory_speed / 1e9:g} GB/s", google],
        ["four links, both directions", f"{chip.links / 1e9:g} GB/s", google],
        ["chips per host", f"{chip.on_host}", google],
        *(
            [f"torus of {name}", " x ".join(map(str, torus)), google]
            for name, torus in SLICES.items()
        ),
        ["fraction of the peak reached", f"{assumed.arithmetic:.0%}", assumption],
        [
            "fraction of the memory bandwidth reached",
            f"{assumed.memory:.0%}",
            assumption,
        ],
        ["fraction of the links a ring uses", f"{assumed.links:.0%}", assumption],
        ["latency from a chip to the next", f"{1e6 * assumed.hop:g} µs", assumption],
        ["Python and runtime, per step", f"{1e3 * assumed.dispatch:g} ms", assumption],
    ]
    return pages.table(["", "value", "source"], rows)


def table(
    works: dict[str, Work], counts: tuple[int, ...], checkpoint_kimg: float
) -> str:
    """Markdown: every slice, resolution and number of images per chip."""
    rows = []
    for name, torus in SLICES.items():
        for side, work in works.items():
            for count in counts:
                one = step(work, torus, count, V5E, Assumed())
                times = (one.arithmetic, one.memory, one.exchange, one.feed)
                rows.append(
                    [
                        f"{name}, {side} px",
                        f"{one.batch:,}",
                        *(f"{1e3 * seconds:.3g}" for seconds in times),
                        f"{one.batch / one.seconds:,.0f}",
                        f"{100 * saving(work, one, 1000 * checkpoint_kimg):.0f} %",
                        one.limit,
                    ]
                )
    head = ["", "batch", "arithmetic, ms", "memory, ms", "exchange, ms", "feed, ms"]
    return pages.table([*head, "images/s", "time in saves", "limit"], rows)
