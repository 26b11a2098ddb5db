r"""Pneumonia has two looks, the bacterial and the viral: does a generator draw both?

    python -m benchmarks.germs --model=pediatric64 --dataset=path/to/chest_xray \
      --out=docs/quality.md

Labels do not tell them apart, but file names of the data set do. A judge is taught on
half B of the patients which is which, and asked of generated pneumonias beside the
real ones of half A, equally many; a judge errs, so what it says of real images is what
to compare with. And of B's images of each germ, how many have a generated one near
them (coverage)? A picture beside the page shows generated images, those the judge is
surest of.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging
from PIL import Image

from benchmarks import pages
from benchmarks.encoder import GERMS
from cxr_gan import data, evaluation, grids, images, sampling
from cxr_gan.data import splits
from cxr_gan.evaluation.sides import Side
from cxr_gan.metrics import features, fidelity, intervals
from cxr_gan.metrics.prdc import prdc

MARK = "germs"
SPACES = ("cxr", "texture")
DRAWS = 1000  # of patients, for an interval
SURE = 16  # generated images of each germ in the picture, in two rows


def germs_of(real: data.ImageSet) -> tuple[data.ImageSet, np.ndarray]:
    """The images whose names tell a germ, and which: int32 [n], as in `GERMS`.

    Raises:
        ValueError: there is no image of one of them.
    """
    patients = [splits.patient_of(name) for name in real.ids]
    told = [patient[1] if patient else "" for patient in patients]
    known = np.isin(told, GERMS)
    germs = np.array([GERMS.index(germ) for germ in told if germ in GERMS], np.int32)
    for index, name in enumerate(GERMS):
        if index not in germs:
            raise ValueError(
                f"--dataset: no image of half A or B is named after {name}, as "
                f"person1_{name}_1.jpeg; only the paediatric set's names tell germs"
            )
    return real.take(known), germs


def measure(
    drawn: np.ndarray, divided: evaluation.Real, steps: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Figures of generated pneumonias, uint8 [n, s, s, 1], and how viral each is, [n].

    n images of A, drawn by chance, stand beside them where n matters; see `text`.

    Raises:
        ValueError: a half has no image of a germ; A has fewer than n.
    """
    train = divided.train
    half_a, germs_a = germs_of(train.take(divided.in_a))
    half_b, germs_b = germs_of(train.take(~divided.in_a))
    if len(half_a) < len(drawn):
        raise ValueError(
            f"half A has {len(half_a)} images of either germ, fewer than the "
            f"{len(drawn)} drawn; give --num={len(half_a)} or fewer"
        )
    beside = np.random.default_rng(0).permutation(len(half_a))[: len(drawn)]
    judge = fidelity.fit(half_b.images, germs_b, len(GERMS), 0, steps=steps)
    of_a = fidelity.classify(judge, half_a.images)[:, 1]
    of_drawn = fidelity.classify(judge, drawn)[:, 1]
    right = (of_a > 0.5) == germs_a
    patients = Side.of_real(half_a).patients
    alone = np.arange(len(drawn))
    return {
        "images": len(drawn),
        "viral": {
            "generated": share(of_drawn > 0.5, alone),
            "real": share(of_a > 0.5, patients),
        },
        "right": {
            name: share(right[germs_a == germ], patients[germs_a == germ])
            for germ, name in enumerate(GERMS)
        },
        "coverage": {
            space: coverage(space, drawn, half_a.images[beside], half_b.images, germs_b)
            for space in SPACES
        },
    }, of_drawn


def share(hits: np.ndarray, patients: np.ndarray) -> list[float]:
    """Of bool [n]: the share, and its interval of 95 % from drawing patients again."""
    ends = intervals.share_interval(hits, patients, draws=DRAWS, seed=0)
    return [float(hits.mean()), *ends]


def coverage(
    space: str,
    drawn: np.ndarray,
    beside: np.ndarray,
    real: np.ndarray,
    germs: np.ndarray,
) -> dict[str, dict[str, float]]:
    """{"bacteria": {"generated": .., "real": ..}}: coverage from 0 to 1, see `prdc`.

    By drawn and by beside, as many, both uint8 [n, s, s, 1], of real [m, s, s, 1],
    whose germs are int32 [m].
    """
    extract = features.space(space).extract
    seen, as_many, there = (extract(some) for some in (drawn, beside, real))
    found = {}
    for germ, name in enumerate(GERMS):
        of_germ = there[germs == germ]
        found[name] = {
            "generated": prdc(seen, of_germ).coverage,
            "real": prdc(as_many, of_germ).coverage,
        }
    return found


def picture(drawn: np.ndarray, viral: np.ndarray) -> np.ndarray:
    """Those the judge is surest of, two rows of each germ: uint8 [h, w].

    drawn uint8 [n, s, s, 1]; viral float [n], the judge's probability.
    """
    order = np.argsort(viral, kind="stable")
    chosen = np.concatenate([order[:SURE], order[::-1][:SURE]])
    rows = drawn[chosen].reshape(4, SURE // 2, *drawn.shape[1:])
    return grids.grid(rows, [name for name in GERMS for _ in range(2)])


def text(figures: dict[str, Any]) -> str:
    """Markdown."""

    def told(of: list[float]) -> str:
        value, low, high = (f"{100 * x:.0f}" for x in of)
        return f"{value} % ({low} to {high})"

    viral, right = figures["viral"], figures["right"]
    rows = [
        ["called viral by the judge", told(viral["generated"]), told(viral["real"])]
    ]
    for space, of_germ in figures["coverage"].items():
        for name, found in of_germ.items():
            pair = [f"{found[key]:.3f}" for key in ("generated", "real")]
            rows.append([f"coverage of B's images of {name}, {space}", *pair])
    head = ["", "generated", "real images of other patients (A)"]
    errs = " and of ".join(f"{name} {told(right[name])}" for name in GERMS)
    return (
        f"{pages.table(head, rows)}\n{figures['images']:,} images of pneumonia; of A's "
        f"images of {errs} are called what they are.\n"
    )


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        page = pathlib.Path(values.out)
        pages.earlier(page, MARK)
        params = sampling.load(values.model)
        if values.label not in params.class_names:
            names = ", ".join(params.class_names)
            raise ValueError(f"--label={values.label}: give a class of it, {names}")
        dataset = data.load(values.dataset, params.spec.resolution, split_seed=0)
        divided = evaluation.divide(dataset)
        asked = [values.label] * values.num
        drawn = images.to_uint8(sampling.sample(params, asked, values.seed))
        figures, viral = measure(drawn, divided, values.steps)
        pages.write(page, figures, MARK, text)
        shown = page.with_name(f"{MARK}.png")
        Image.fromarray(picture(drawn, viral)).save(shown)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {page}, {pages.file_of(page, MARK)} and {shown}")
    return 0


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """In a function, so that tests can give their own."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", None, "As of cxr_gan.generate.", **own)
    flags.DEFINE_string("dataset", None, "Real images, as config.dataset.", **own)
    flags.DEFINE_string("out", None, "Page with the marks, Markdown.", **own)
    flags.DEFINE_string("label", "PNEUMONIA", "The class that has two looks.", **own)
    flags.DEFINE_integer("num", 1_000, "Images drawn.", SURE, **own)
    flags.DEFINE_integer("seed", 0, "Of the noise.", 0, 2**32 - 1, **own)
    flags.DEFINE_integer("steps", fidelity.STEPS, "The judge is taught in.", 1, **own)
    flags.mark_flags_as_required(["model", "dataset", "out"], **own)


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    logging.set_verbosity(logging.WARNING)
    app.run(main)


if __name__ == "__main__":
    sys.exit(cli())
