"""From what is counted and measured here to slices of TPU v5e: arithmetic, no TPU.

Every number is either counted by XLA, measured by benchmarks.scaling, published, or a
field of `Assumed`, which nobody has checked on a TPU.
"""

import dataclasses
import math

from benchmarks import pages


@dataclasses.dataclass(frozen=True)
class Chip:
    """What is published of one."""

    flops: float  # bfloat16, a second, at most
    memory_speed: float  # bytes a second
    links: float  # bytes a second between chips, in and out together
    on_host: int  # chips a host has


# docs.cloud.google.com/tpu/docs/v5e, "System architecture".
V5E = Chip(flops=197e12, memory_speed=819e9, links=400e9, on_host=8)
SLICES = {"v5e-8": (2, 4), "v5e-256": (16, 16)}  # chips along and across the torus


@dataclasses.dataclass(frozen=True)
class Assumed:
    """What nobody has measured: guesses, each in one place."""

    arithmetic: float = 0.25  # share of the chip's peak that convolutions reach
    memory: float = 0.7  # share of its memory's speed that is reached
    links: float = 0.25  # share of the links: a ring sends through two of four ports
    hop: float = 1e-6  # s from a chip to the next, beside the bytes
    dispatch: float = 1e-3  # s of the host's Python and runtime a step


@dataclasses.dataclass(frozen=True)
class Work:
    """What is asked of a step, counted and measured here."""

    flops: float  # an image, forward and back of both players, R1's share included
    moved: float  # bytes an image, read and written
    gradients: float  # bytes, of both players
    fed: float  # images a second that one core of a host prepares
    save: float  # s that a save keeps the loop waiting


@dataclasses.dataclass(frozen=True)
class Step:
    """Seconds that each part of a step takes; the device waits for the slower side."""

    batch: int
    arithmetic: float
    memory: float
    exchange: float
    feed: float
    dispatch: float

    @property
    def parts(self) -> dict[str, float]:
        """What may be the limit: each part that others can hide behind."""
        exchange = self.exchange
        return {
            "arithmetic": self.arithmetic + exchange,
            "memory": self.memory + exchange,
            "feed": self.feed,
            "dispatch": self.dispatch,
        }

    @property
    def seconds(self) -> float:
        """Of the whole step: arithmetic and memory overlap, and so does the host."""
        return max(self.parts.values())

    @property
    def limit(self) -> str:
        """What the step waits for; the exchange where it is most of that."""
        longest = max(self.parts, key=self.parts.__getitem__)
        own = max(self.arithmetic, self.memory)
        on_device = longest in ("arithmetic", "memory")
        return "exchange" if on_device and self.exchange > own else longest


def step(
    work: Work, torus: tuple[int, int], per_chip: int, chip: Chip, assumed: Assumed
) -> Step:
    """One step of `per_chip` images on every chip of a slice.

    The exchange is that of a ring all-reduce, in which each chip sends and receives
    2 (n - 1) / n of the bytes (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce
    algorithms"), and of two of them, D's gradients and G's; hops are those along and
    across the torus, there and back.
    """
    chips = math.prod(torus)
    hops = 2 * 2 * sum(side - 1 for side in torus)
    carried = 2 * (chips - 1) / chips * work.gradients
    hosted = min(chips, chip.on_host) * per_chip
    return Step(
        batch=chips * per_chip,
        arithmetic=per_chip * work.flops / (chip.flops * assumed.arithmetic),
        memory=per_chip * work.moved / (chip.memory_speed * assumed.memory),
        exchange=carried / (chip.links * assumed.links) + hops * assumed.hop,
        feed=hosted / work.fed,
        dispatch=assumed.dispatch,
    )


def saving(work: Work, one: Step, every: float) -> float:
    """Share of the time that goes into saving, once in so many images."""
    training = every / one.batch * one.seconds
    return work.save / (work.save + training)


def assumptions(chip: Chip, assumed: Assumed) -> str:
    """Markdown: every number that was not measured here, and where it is from."""
    google, ours = "Google, of v5e", "a guess"
    rows = [
        ["a chip's peak, bfloat16", f"{chip.flops / 1e12:g} TFLOP/s", google],
        ["its memory", f"{chip.memory_speed / 1e9:g} GB/s", google],
        ["its four links, in and out", f"{chip.links / 1e9:g} GB/s", google],
        ["chips of a host", f"{chip.on_host}", google],
        *(
            [f"the torus of {name}", " x ".join(map(str, torus)), google]
            for name, torus in SLICES.items()
        ),
        ["share of the peak reached", f"{assumed.arithmetic:.0%}", ours],
        ["share of the memory's speed reached", f"{assumed.memory:.0%}", ours],
        ["share of the links a ring uses", f"{assumed.links:.0%}", ours],
        ["from a chip to the next", f"{1e6 * assumed.hop:g} µs", ours],
        ["Python and runtime, a step", f"{1e3 * assumed.dispatch:g} ms", ours],
    ]
    return pages.table(["", "value", "from"], rows)


def table(works: dict[str, Work], counts: tuple[int, ...], save_kimg: float) -> str:
    """Markdown: every slice, resolution and number of images a chip."""
    rows = []
    for name, torus in SLICES.items():
        for side, work in works.items():
            for count in counts:
                one = step(work, torus, count, V5E, Assumed())
                taken = (one.arithmetic, one.memory, one.exchange, one.feed)
                rows.append(
                    [
                        f"{name}, {side} px",
                        f"{one.batch:,}",
                        *(f"{1e3 * seconds:.3g}" for seconds in taken),
                        f"{one.batch / one.seconds:,.0f}",
                        f"{100 * saving(work, one, 1000 * save_kimg):.0f} %",
                        one.limit,
                    ]
                )
    head = ["", "batch", "arithmetic, ms", "memory, ms", "exchange, ms", "feed, ms"]
    return pages.table([*head, "images/s", "time in saves", "limit"], rows)
