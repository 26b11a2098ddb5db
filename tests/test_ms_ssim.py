import itertools

import numpy as np
import pytest

from cxr_gan.evaluation.metrics import ms_ssim


def noise(*shape, seed=0):
    """float32 images of independent pixels, uniform in [0, 1)."""
    return np.random.default_rng(seed).random(shape, np.float32)


def similar_images(size, n=4):
    """Two sets of n images: one smooth pattern, mixed with independent noise.

    float32 [n, size, size, 1] each; the fraction of noise increases with the index.
    """
    wave = np.sin(np.arange(size) / 5)
    pattern = 0.5 + 0.2 * wave[:, None, None] * wave[None, :, None]
    fraction = np.linspace(0.05, 0.6, n)[:, None, None, None]
    a, b = (
        (1 - fraction) * pattern + fraction * noise(n, size, size, 1, seed=seed)
        for seed in (1, 2)
    )
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize(("size", "scales"), [(64, 3), (32, 2), (176, 5), (8, 1)])
def test_ms_ssim_agrees_with_tensorflow(size, scales):
    import tensorflow as tf

    a, b = similar_images(size)
    weights = np.array(ms_ssim.WEIGHTS[:scales])
    window = min(11, size)
    expected = tf.image.ssim_multiscale(
        *(a, b, 1.0),
        power_factors=tuple(weights / weights.sum()),
        filter_size=window,
        filter_sigma=1.5 * window / 11,
    ).numpy()
    assert np.ptp(expected) > 0.1  # values must differ for the comparison to mean much
    np.testing.assert_allclose(ms_ssim.ms_ssim(a, b, scales), expected, atol=1e-4)


def test_ms_ssim_of_equal_images_is_1_and_of_inverted_ones_0_and_not_nan():
    images = noise(3, 64, 64, 1)
    np.testing.assert_allclose(ms_ssim.ms_ssim(images, images, 3), 1, atol=1e-6)
    np.testing.assert_array_equal(ms_ssim.ms_ssim(images, 1 - images, 3), 0)


@pytest.mark.parametrize("n", [2, 3, 6, 7])
def test_draw_pairs_gives_each_of_all_pairs_once(n):
    pairs = zip(*ms_ssim.draw_pairs(n, seed=0, pairs=1000), strict=True)
    pairs = sorted(tuple(sorted((int(i), int(j)))) for i, j in pairs)
    assert pairs == list(itertools.combinations(range(n), 2))


def test_pairs_are_distinct_and_determined_by_the_seed():
    i, j = ms_ssim.draw_pairs(500, seed=3, pairs=400)
    assert len({frozenset(pair) for pair in zip(i, j, strict=True)}) == 400
    same, other = (ms_ssim.draw_pairs(500, seed=seed, pairs=400) for seed in (3, 4))
    np.testing.assert_array_equal(same, (i, j))
    assert (np.stack(other) != (i, j)).any()


@pytest.mark.parametrize("pairs", [8, 66, 1000])
def test_mean_pairwise_is_the_mean_over_drawn_pairs(pairs):
    unit = np.concatenate(similar_images(16, n=6))
    images = np.rint(255 * unit).astype(np.uint8)
    i, j = ms_ssim.draw_pairs(12, 5, pairs)
    a, b = (images[rows].astype(np.float32) / 255 for rows in (i, j))
    expected = float(ms_ssim.ms_ssim(a, b, 1).mean())
    assert ms_ssim.mean_pairwise(images, 5, pairs) == pytest.approx(expected)


def test_pairs_of_a_single_image_are_refused():
    with pytest.raises(ValueError, match="pairs need at least 2"):
        ms_ssim.mean_pairwise(np.zeros((1, 16, 16, 1), np.uint8), 0, 3)


@pytest.mark.parametrize(
    ("size", "scales"),
    [(8, 1), (16, 1), (32, 2), (64, 3), (65, 1), (68, 3), (70, 2), (128, 4), (512, 5)],
)
def test_scales_for_leaves_16_px_at_the_coarsest_scale(size, scales):
    assert ms_ssim.scales_for(size) == scales
