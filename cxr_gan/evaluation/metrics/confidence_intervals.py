"""95 % confidence intervals from resampling patients rather than images.

Images of one patient are similar, so n of them carry less information than images of n
patients. Intervals from resampling single images are therefore too narrow. All
functions here resample patients, each with all of its images (Field & Welsh 2007,
"Bootstrapping clustered data"). Where images have no patient, such as generated
ones, each image is a group of its own.

Which function to use:

- `bootstrap`: means, proportions and medians over images (label accuracy, power
  spectra, results of `nearest_neighbours.audit`).
- `share_interval`: a proportion, also where it is 0 or 1.
- `subsample`: statistics that compare images of the set with each other, or use their
  covariance (FID, KID, precision, recall, density, coverage, MS-SSIM). A bootstrap
  sample contains some images twice and leaves out about a third. Repeated images form
  pairs at distance 0, shrink the radii of balls, and leave fewer distinct images for a
  covariance. A bootstrapped FID is biased upward for this reason; its interval can lie
  entirely above the estimate.

An interval reflects only the sampling of the images that are resampled. Anything else
that `statistic` compares them with counts as fixed.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

TAIL = 0.025  # probability of each tail
LEAST_DRAWS = 40  # 1 / TAIL: one draw in each tail

Statistic = Callable[[np.ndarray], float]


def bootstrap(
    statistic: Statistic, groups: np.ndarray, *, draws: int, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap interval: 2.5th and 97.5th percentile over resamples.

    Each draw samples as many patients as there are, with replacement, and takes all
    images of each. A proportion of 0 or 1 is equal in all draws: see `share_interval`.

    Args:
        statistic: maps indices into the images, int64, with repeats, to a value.
        groups: [n], the patient of each image; any sortable dtype.
        draws: number of resamples, at least 40; use 1000 for limits that are quoted.
        seed: of the resampling; the same seed and groups give the same resamples.

    Raises:
        ValueError: if there are fewer than 2 groups or 40 draws, or a value is not
            finite.

    Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", section 13.3.
    """
    members = _group_members(groups, draws)
    rng = np.random.default_rng(seed)
    count = len(members)

    def draw() -> np.ndarray:
        return np.concatenate([members[i] for i in rng.integers(count, size=count)])

    values = _evaluate(statistic, (draw() for _ in range(draws)))
    low, high = np.quantile(values, (TAIL, 1 - TAIL))
    return float(low), float(high)


def share_interval(
    hits: np.ndarray, groups: np.ndarray, *, draws: int, seed: int
) -> tuple[float, float]:
    """`bootstrap` interval of the proportion of images that are hits.

    With g patients and no hits, the upper limit is 1 - 0.025^(1/g): the proportion at
    which g patients without a hit have a probability of 2.5 %, if all images of a
    patient are hits or none is. If all images are hits, the lower limit follows by
    symmetry (Clopper & Pearson 1934, "The use of confidence or fiducial limits").

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
            f"hits are {hits.dtype} {list(hits.shape)}, groups have shape "
            f"{list(np.shape(groups))}; hits must be bool, with the shape of groups"
        )
    members = _group_members(groups, draws)
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
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """Interval around the value of all images, from subsamples without replacement.

    Each draw takes b of the g patients, each at most once; b is g / 2, rounded in each
    stratum. The variance over draws is that over independent samples of g patients,
    times g/b because the draws are smaller, times 1 - b/g because they overlap. The
    deviations from the mean over draws are therefore multiplied by (b / (g - b))^(1/2),
    which is 1 for even g. With t the value of all images and t_0 the mean over draws,
    the limits are t - (b / (g - b))^(1/2) (q - t_0), where q is the 97.5th and the
    2.5th percentile over draws.

    The factor is exact for variances of means, and a good approximation for smooth
    statistics whose error falls as g^(-1/2). It ignores that the expectation of a
    statistic such as FID is larger for fewer images: the interval is that of the FID of
    g patients, including its bias.

    Args:
        statistic: maps sorted indices into the images, int64, without repeats, to a
            value.
        groups: [n], the patient of each image; any sortable dtype.
        strata: [n], the stratum of each image, such as its set and class; all draws
            have the same proportions of strata. A patient with images in two strata
            counts as two. None for a single stratum.
        draws: number of subsamples, at least 40.
        seed: of the subsampling; the same seed and groups give the same subsamples.

    Raises:
        ValueError: as `bootstrap`, also where a stratum has fewer than 2 groups.

    Source: Politis & Romano 1994, "Large sample confidence regions based on subsamples
    under minimal assumptions"; the factor is that of the delete-d jackknife, d = g - b
    (Shao & Wu 1989, "A general theory for jackknife variance estimation").
    """
    groups = np.asarray(groups)
    strata = np.zeros(len(groups), np.int64) if strata is None else np.asarray(strata)
    stratum_rows = [np.flatnonzero(strata == one) for one in np.unique(strata)]
    members_by_stratum = [
        [rows[i] for i in _group_members(groups[rows], draws)] for rows in stratum_rows
    ]
    counts = np.array([len(members) for members in members_by_stratum])
    sizes = np.rint(counts / 2).astype(int)
    rng = np.random.default_rng(seed)

    def draw() -> np.ndarray:
        rows: list[np.ndarray] = []
        for members, size in zip(members_by_stratum, sizes, strict=True):
            chosen = rng.choice(len(members), size, replace=False)
            rows += [members[i] for i in chosen]
        return np.sort(np.concatenate(rows))

    (estimate,) = _evaluate(statistic, [np.arange(len(groups))])
    values = _evaluate(statistic, (draw() for _ in range(draws)))
    factor = np.sqrt(sizes.sum() / (counts - sizes).sum())
    deviations = np.quantile(values, (1 - TAIL, TAIL)) - values.mean()
    low, high = estimate - factor * deviations
    return float(low), float(high)


def _group_members(groups: np.ndarray, draws: int) -> list[np.ndarray]:
    """Indices of the images of each group; also checks the number of draws."""
    groups = np.asarray(groups)
    if groups.ndim != 1:
        raise ValueError(
            f"groups have shape {list(groups.shape)}; must be [n], one entry per image"
        )
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2 or draws < LEAST_DRAWS:
        raise ValueError(
            f"{draws} draws of {len(sizes)} groups; give at least {LEAST_DRAWS} draws "
            "and 2 groups"
        )
    order = np.argsort(number, kind="stable")
    return np.split(order, np.cumsum(sizes)[:-1])


def _evaluate(statistic: Statistic, samples: Iterable[np.ndarray]) -> np.ndarray:
    """float64 [draws]: the statistic of each sample of image indices."""
    values = [statistic(rows) for rows in samples]
    if not np.isfinite(values).all():
        raise ValueError(
            "the statistic is not finite for some draw; it must be finite for any "
            "choice of groups"
        )
    return np.array(values, np.float64)


ValueWithInterval = tuple[float, float, float]  # value, lower limit, upper limit


def joint_intervals(
    function: Callable[[np.ndarray], Sequence[float]],
    total: int,
    interval: Callable[[Statistic], tuple[float, float]],
) -> list[ValueWithInterval]:
    """Intervals of several statistics that are computed together.

    Args:
        function: maps indices of images, int64, to a fixed number of values.
        total: number of images.
        interval: computes the interval of one statistic, such as a partial `bootstrap`.
            It must draw the same indices in each call, so that `function` runs only
            once per draw.

    Returns:
        For each value: the value of all images, the lower and the upper limit.
    """

    @functools.cache
    def cached(indices: bytes) -> tuple[float, ...]:
        return tuple(float(x) for x in function(np.frombuffer(indices, np.int64)))

    def component(position: int) -> Statistic:
        return lambda indices: cached(indices.astype(np.int64).tobytes())[position]

    values = cached(np.arange(total).tobytes())
    return [(value, *interval(component(i))) for i, value in enumerate(values)]
