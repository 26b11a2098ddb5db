"""Precision, recall, density and coverage of generated features.

They measure whether generated features lie within the manifold of real features, and
the reverse.
"""

from typing import NamedTuple

import numpy as np

from cxr_gan.evaluation.metrics.batching import blocks
from cxr_gan.evaluation.metrics.frechet import check_features

# Error bound of squared distances, relative to squared lengths; float64 keeps to 1e-13.
ROUNDING = 1e-12

# Peak memory is this times the larger of n and m distances.
ROWS_PER_BLOCK = 1024


class Prdc(NamedTuple):
    """Precision, recall, density and coverage; all 0 where the sets do not overlap.

    The ball of an image is centred on it and reaches to its k-th nearest neighbour in
    its own set. A point on the surface of a ball is inside it.
    """

    precision: float  # fraction of generated images inside the ball of any real image
    recall: float  # fraction of real images inside the ball of any generated image
    density: float  # mean number of real balls around a generated image, / k; can be >1
    coverage: float  # fraction of real images with a generated image in their ball


def prdc(generated: np.ndarray, real: np.ndarray, *, k: int = 5) -> Prdc:
    """Precision, recall, density and coverage; see `Prdc`.

    Precision and recall are sensitive to the largest ball of a set, that of an outlier;
    density and coverage were designed to be more robust. Balls shrink as a set grows,
    so compare results of equal n and m only; Naeem et al. use n = m. The best values to
    expect are those of real images of other patients in place of generated ones.

    Args:
        generated: float [n, d]; exchanging it with `real` exchanges precision and
            recall.
        real: float [m, d].
        k: which neighbour is the radius of a ball, from 1; an image is not its own
            neighbour.

    Raises:
        ValueError: if a set has k rows or fewer, d differs, a value is not finite, or k
            is below 1.

    Source: Kynkaanniemi et al. 2019, "Improved precision and recall metric for
    assessing generative models", eqs. 1 and 2; Naeem et al. 2020, "Reliable fidelity
    and diversity metrics for generative models", section 3 (density, coverage).
    """
    if k < 1:
        raise ValueError(f"k={k}; must be at least 1")
    generated, real = check_features(generated, real, min_rows=k + 1)
    # Each ball has an image exactly on its surface (its k-th neighbour). The tolerance
    # keeps rounding from deciding whether such an image is inside.
    tolerance = rounding_error(generated, real)
    radii_generated = _squared_radii(generated, k) + tolerance
    radii_real = _squared_radii(real, k) + tolerance
    num_precise = num_balls = 0
    recalled, covered = np.zeros((2, len(real)), bool)
    for block in blocks(len(generated), ROWS_PER_BLOCK):
        squared = squared_distances(generated[block], real)
        inside = squared <= radii_real
        num_precise += inside.any(1).sum()
        num_balls += inside.sum()
        covered |= inside.any(0)
        recalled |= (squared <= radii_generated[block, None]).any(0)
    n = len(generated)
    return Prdc(
        precision=float(num_precise / n),
        recall=float(recalled.mean()),
        density=float(num_balls / (k * n)),
        coverage=float(covered.mean()),
    )


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances: a [n, d], b [m, d] -> float64 [n, m].

    Computed by one matrix product. The error is up to `rounding_error`: equal vectors
    can have a small distance, and equal distances can differ.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    result = a @ b.T
    result *= -2
    result += np.sum(a * a, 1)[:, None]
    result += np.sum(b * b, 1)
    return np.maximum(result, 0, out=result)


def rounding_error(a: np.ndarray, b: np.ndarray) -> float:
    """Bound of the error of `squared_distances` of a [n, d] and b [m, d]."""
    squares = [np.einsum("nd,nd->n", x, x, dtype=np.float64).max() for x in (a, b)]
    return float(ROUNDING * max(squares))


def _squared_radii(x: np.ndarray, k: int) -> np.ndarray:
    """float64 [n]: squared distance of each row to its k-th nearest other row."""
    radii = np.empty(len(x))
    for block in blocks(len(x), ROWS_PER_BLOCK):
        squared = squared_distances(x[block], x)
        rows = np.arange(len(squared))
        squared[rows, block.start + rows] = np.inf
        radii[block] = np.partition(squared, k - 1)[:, k - 1]
    return radii
