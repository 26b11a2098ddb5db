"""Intervals of 95 %, from drawing patients again rather than images.

Images of one patient are alike, so n of them say less than n patients would; drawn one
by one they give intervals that are too narrow. Here a patient's images come together
(Field & Welsh 2007, "Bootstrapping clustered data"). Images without a patient, as
generated ones, are each a group of its own.

Which one to use: `bootstrap` for what is a mean, share or median over images (accuracy,
`spectrum`, the figures of `neighbours.audit`); `share_interval` where it is a share;
`subsample` for what compares images of the set with one another, or takes their
covariance (FID, KID, precision to coverage, MS-SSIM). A bootstrap draws some images
twice and about a third never: copies are pairs with nothing between them, they shrink
the radii of balls, and a covariance has fewer images to rest on. A bootstrapped FID is
biased upward for that reason, and its interval may lie wholly above the figure.

An interval is of the set whose images are drawn: whatever else `statistic` compares
them with is taken as it is.
"""

from collections.abc import Callable, Iterable

import numpy as np

TAIL = 0.025  # of draws beyond either end
LEAST_DRAWS = 40  # one beyond either end

Statistic = Callable[[np.ndarray], float]


def bootstrap(
    statistic: Statistic, groups: np.ndarray, *, draws: int, seed: int
) -> tuple[float, float]:
    """From the 2.5th to the 97.5th percentile over draws of patients with replacement.

    Each draw has as many patients as there are, some more than once, and all images of
    each. Not for FID and its like: see above. Nor for a share of 0 or 1, of which every
    draw is the same: see `share_interval`.

    Args:
        statistic: int64 indices into the images, with repeats -> a figure.
        groups: [n], the patient of each image, as whatever can be sorted.
        draws: how many, at least 40; 1000 for ends one can quote.
        seed: which; the same seed and groups give the same.

    Raises:
        ValueError: if there are fewer than 2 groups or 40 draws, or a figure is not
            finite.

    Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", section 13.3.
    """
    members = _members(groups, draws)
    rng = np.random.default_rng(seed)
    count = len(members)
    drawn = (rng.integers(count, size=count) for _ in range(draws))
    low, high = np.quantile(_figures(statistic, members, drawn), (TAIL, 1 - TAIL))
    return float(low), float(high)


def share_interval(
    hits: np.ndarray, groups: np.ndarray, *, draws: int, seed: int
) -> tuple[float, float]:
    """`bootstrap` of the share of images that are hits.

    Of none, or all, the interval ends where g patients without a hit would be seen in
    2.5 % of cases, 1 - 0.025^(1/g): as if a patient's images were all hits or none
    (Clopper & Pearson 1934, "The use of confidence or fiducial limits").

    Args:
        hits: bool [n].
        groups: [n], the patient of each image.
        draws: as in `bootstrap`.
        seed: as in `bootstrap`.

    Raises:
        ValueError: as `bootstrap`; hits are not bool [n].
    """
    if hits.dtype != bool or hits.shape != np.shape(groups):
        raise ValueError(
            f"hits are {hits.dtype} {list(hits.shape)}, for groups "
            f"{list(np.shape(groups))}; must be bool, and as many"
        )
    members = _members(groups, draws)
    margin = 1 - TAIL ** (1 / len(members))
    if not hits.any():
        return 0.0, margin
    if hits.all():
        return 1 - margin, 1.0
    return bootstrap(lambda i: hits[i].mean(), groups, draws=draws, seed=seed)


def subsample(
    statistic: Statistic,
    groups: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    share: float = 0.5,
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """An interval about the figure of all images, from draws without replacement.

    Each draw has b of the g patients, once. Draws of so large a share vary less than
    independent ones would, in variance by 1 - b/g, and more than samples of g by g/b:
    the spread about their mean is multiplied by (b / (g - b))^(1/2), which is 1 for
    half of them. With t of all images and t_1, t_2, ... of the draws, mean t_0, the
    ends are t - (b / (g - b))^(1/2) (q - t_0), q the 97.5th and 2.5th percentile.

    The rule is exact for variances of means, and good for smooth figures whose error
    falls as g^(-1/2). It leaves out that a figure like FID is larger for fewer images:
    the interval is that of the FID of g patients, and holds what bias that has.

    Args:
        statistic: sorted int64 indices into the images, none twice -> a figure.
        groups: [n], the patient of each image, as whatever can be sorted.
        strata: [n], what has the same share in every draw, such as the two sets that
            are compared, and their classes; None where all images are of one kind. A
            patient with images in two counts as two.
        share: b / g, more than 0 and less than 1; b is rounded, and at least 1. Large
            enough for the figure to make sense of it: see `frechet.enough`.
        draws: how many, at least 40.
        seed: which; the same seed and groups give the same.

    Raises:
        ValueError: as `bootstrap`, also where a stratum has fewer than 2 groups; share
            is not between 0 and 1.

    Source: Politis & Romano 1994, "Large sample confidence regions based on subsamples
    under minimal assumptions"; the factor is that of the delete-d jackknife, d = g - b
    (Shao & Wu 1989, "A general theory for jackknife variance estimation").
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share}; must be between 0 and 1, as 0.5 is")
    groups = np.asarray(groups)
    kinds = np.zeros(len(groups), np.int64) if strata is None else np.asarray(strata)
    rows = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    lots = [[of[i] for i in _members(groups[of], draws)] for of in rows]
    members = [of for lot in lots for of in lot]
    counts = np.array([len(lot) for lot in lots])
    sizes = np.clip(np.rint(share * counts).astype(int), 1, counts - 1)
    first = np.cumsum(counts) - counts
    rng = np.random.default_rng(seed)

    def draw() -> np.ndarray:
        places = zip(first, counts, sizes, strict=True)
        return np.concatenate(
            [at + rng.choice(count, size, replace=False) for at, count, size in places]
        )

    everyone = [np.arange(len(members))]
    (whole,) = _figures(statistic, members, everyone, ordered=True)
    drawn = (draw() for _ in range(draws))
    figures = _figures(statistic, members, drawn, ordered=True)
    factor = np.sqrt(sizes.sum() / (counts - sizes).sum())
    ends = np.quantile(figures, (1 - TAIL, TAIL)) - figures.mean()
    low, high = whole - factor * ends
    return float(low), float(high)


def _members(groups: np.ndarray, draws: int) -> list[np.ndarray]:
    """The indices of each group's images."""
    groups = np.asarray(groups)
    if groups.ndim != 1:
        raise ValueError(f"groups are {list(groups.shape)}; must be [n], one an image")
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2 or draws < LEAST_DRAWS:
        raise ValueError(
            f"{draws} draws of {len(sizes)} groups; give at least {LEAST_DRAWS} draws "
            "and 2 groups"
        )
    order = np.argsort(number, kind="stable")
    return np.split(order, np.cumsum(sizes)[:-1])


def _figures(
    statistic: Statistic,
    members: list[np.ndarray],
    drawn: Iterable[np.ndarray],
    ordered: bool = False,
) -> np.ndarray:
    """float64 [draws]: the statistic of the images of each lot of groups."""
    lots = (np.concatenate([members[i] for i in groups]) for groups in drawn)
    figures = [statistic(np.sort(lot) if ordered else lot) for lot in lots]
    if not np.isfinite(figures).all():
        raise ValueError(
            "the statistic of some draw is not finite; it must be, whichever groups "
            "are drawn"
        )
    return np.array(figures, np.float64)
