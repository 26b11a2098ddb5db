"""Whether generated features lie where real ones do, and the other way round."""

from typing import NamedTuple

import numpy as np

from cxr_gan.metrics.frechet import check_features

ROUNDING = 1e-12  # of squared distances, over squared lengths; float64 keeps to 1e-13


class Prdc(NamedTuple):
    """Four shares of images; 0 where the sets are apart.

    The ball of an image reaches to the k-th nearest other image of its own set; what is
    on its surface is in it.
    """

    precision: float  # of generated images in the ball of some real one
    recall: float  # of real images in the ball of some generated one
    density: float  # real balls a generated image is in, over k; may exceed 1
    coverage: float  # of real images with some generated one in their ball


def prdc(
    generated: np.ndarray, real: np.ndarray, *, k: int = 5, chunk: int = 1024
) -> Prdc:
    """Precision, recall, density and coverage; see `Prdc`.

    Precision and recall trust the largest ball of a set, that of an outlier; density
    and coverage were made to mind it less. Balls shrink as a set grows, so only figures
    of equal n and m compare; Naeem et al. take n = m. The best to hope for is what real
    images of other patients reach in place of generated ones.

    Args:
        generated: float [n, d]; exchanged with `real`, precision is recall.
        real: float [m, d].
        k: the neighbour a ball reaches to, from 1; an image is not its own neighbour.
        chunk: generated images, and real ones, looked at in one go: memory is that of
            chunk times the larger of n and m distances. No figure depends on it.

    Raises:
        ValueError: if a set has not more than k rows, d differs, a value is not finite,
            or k or chunk is below 1.

    Source: Kynkaanniemi et al. 2019, "Improved precision and recall metric for
    assessing generative models", eqs. 1 and 2; Naeem et al. 2020, "Reliable fidelity
    and diversity metrics for generative models", section 3 (density, coverage).
    """
    if k < 1 or chunk < 1:
        raise ValueError(f"k={k}, chunk={chunk}; both must be at least 1")
    generated, real = check_features(generated, real, least=k + 1)
    # So that rounding does not decide what is on a surface: each is some pair's tie.
    slack = ROUNDING * max(np.max(_squares(x)) for x in (generated, real))
    reach_generated = _squared_radii(generated, k, chunk) + slack
    reach_real = _squared_radii(real, k, chunk) + slack
    precise = balls = 0
    recalled, covered = np.zeros((2, len(real)), bool)
    for at in range(0, len(generated), chunk):
        some = slice(at, at + chunk)
        squared = squared_distances(generated[some], real)
        inside = squared <= reach_real
        precise += inside.any(1).sum()
        balls += inside.sum()
        covered |= inside.any(0)
        recalled |= (squared <= reach_generated[some, None]).any(0)
    n = len(generated)
    return Prdc(
        precision=float(precise / n),
        recall=float(recalled.mean()),
        density=float(balls / (k * n)),
        coverage=float(covered.mean()),
    )


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a [n, d], b [m, d] -> float64 [n, m], by one product of matrices.

    Off by up to `ROUNDING` of the longest vector's squared length: equal vectors can be
    a little apart, and equal distances can differ.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    result = a @ b.T
    result *= -2
    result += np.sum(a * a, 1)[:, None]
    result += np.sum(b * b, 1)
    return np.maximum(result, 0, out=result)


def _squares(x: np.ndarray) -> np.ndarray:
    """x [n, d] -> float64 [n], squared lengths."""
    return np.einsum("nd,nd->n", x, x, dtype=np.float64)


def _squared_radii(x: np.ndarray, k: int, chunk: int) -> np.ndarray:
    """float64 [n]: squared distance of each row to the k-th nearest other row."""
    radii = np.empty(len(x))
    for at in range(0, len(x), chunk):
        squared = squared_distances(x[at : at + chunk], x)
        rows = np.arange(len(squared))
        squared[rows, at + rows] = np.inf
        radii[at : at + chunk] = np.partition(squared, k - 1)[:, k - 1]
    return radii
