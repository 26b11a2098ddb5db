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
that `statistic` compares them with counts as fixed. A statistic of k values is computed
once per draw for all k intervals.
"""

import itertools
from collections.abc import Callable, Iterable

import numpy as np

TAIL = 0.025  # probability of each tail
LEAST_DRAWS = 40  # 1 / TAIL: one draw in each tail

# Indices into the images -> a value, or a tuple or array of k values.
Statistic = Callable[[np.ndarray], float | tuple[float, ...] | np.ndarray]


def bootstrap(
    statistic: Statistic, groups: np.ndarray, *, draws: int, seed: int
) -> np.ndarray:
    """Percentile bootstrap interval: 2.5th and 97.5th percentile over resamples.

    Each draw samples as many patients as there are, with replacement, and takes all
    images of each. A proportion of 0 or 1 is equal in all draws: see `share_interval`.

    Args:
        statistic: maps indices into the images, int64, with repeats, to one value or k.
        groups: [n], the patient of each image; any sortable dtype.
        draws: number of resamples, at least 40; use 1000 for limits that are quoted.
        seed: of the resampling; the same seed and groups give the same resamples.

    Returns:
        float64 [3], or [3, k] for k values: the value of all images, the lower and the
        upper limit.

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

    value, drawn = _evaluate(statistic, len(groups), (draw() for _ in range(draws)))
    return np.stack([value, *np.quantile(drawn, (TAIL, 1 - TAIL), axis=-1)])


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
        ValueError: as `bootstrap`.
    """
    margin = 1 - TAIL ** (1 / len(_group_members(groups, draws)))
    if not hits.any():
        return 0.0, margin
    if hits.all():
        return 1 - margin, 1.0
    _, low, high = bootstrap(
        lambda i: hits[i].mean(), groups, draws=draws, seed=seed
    ).tolist()
    return low, high


def subsample(
    statistic: Statistic,
    groups: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    draws: int,
    seed: int,
) -> np.ndarray:
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
        statistic: maps sorted indices into the images, int64, without repeats, to one
            value or k.
        groups: [n], the patient of each image; any sortable dtype.
        strata: [n], the stratum of each image, such as its set and class; all draws
            have the same proportions of strata. A patient with images in two strata
            counts as two. None for a single stratum.
        draws: number of subsamples, at least 40.
        seed: of the subsampling; the same seed and groups give the same subsamples.

    Returns:
        As `bootstrap`.

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

    value, drawn = _evaluate(statistic, len(groups), (draw() for _ in range(draws)))
    factor = np.sqrt(sizes.sum() / (counts - sizes).sum())
    deviations = np.quantile(drawn, (1 - TAIL, TAIL), axis=-1) - drawn.mean(-1)
    return np.stack([value, *(value - factor * deviations)])


def _group_members(groups: np.ndarray, draws: int) -> list[np.ndarray]:
    """Indices of the images of each group; also checks the number of draws."""
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2 or draws < LEAST_DRAWS:
        raise ValueError(
            f"{draws} draws of {len(sizes)} groups; give at least {LEAST_DRAWS} draws "
            "and 2 groups"
        )
    order = np.argsort(number, kind="stable")
    return np.split(order, np.cumsum(sizes)[:-1])


def _evaluate(
    statistic: Statistic, n: int, samples: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The statistic of all n images, and of each sample of image indices.

    float64 [] and [draws], or [k] and [k, draws] for a statistic of k values.
    """
    values = np.array(
        [statistic(rows) for rows in itertools.chain([np.arange(n)], samples)],
        np.float64,
    )
    if not np.isfinite(values).all():
        raise ValueError(
            "the statistic is not finite for some draw; it must be finite for any "
            "choice of groups"
        )
    # Contiguous, so that a sum over draws has the same rounding for one value as for k.
    return values[0], np.ascontiguousarray(values[1:].T)
