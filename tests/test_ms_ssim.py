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


@pytest.mark.parametrize(
    ("size", "scales"), [(64, 3), (64, 1), (32, 2), (128, 4), (176, 5), (8, 1)]
)
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


def test_window_is_no_larger_than_the_image_at_coarse_scales():
    # Structure of 32 x 32 and 16 x 16 images with the window of 11, of 8 x 8 images
    # with a window of 8; structure and luminance of 4 x 4 images with a window of 4,
    # whose sigma is 1.5 * 4 / 11.
    a, b = similar_images(32)
    quarters = [x.reshape(-1, 8, 4, 8, 4, 1).mean((2, 4)) for x in (a, b)]
    halves = [x.reshape(-1, 16, 2, 16, 2, 1).mean((2, 4)) for x in (a, b)]
    eighths = [x.reshape(-1, 4, 8, 4, 8, 1).mean((2, 4)) for x in (a, b)]

    def reference_terms(pair, window):
        offset = np.arange(window) - (window - 1) / 2
        line = np.exp(-0.5 * (offset * 11 / 1.5 / window) ** 2)
        kernel = np.outer(line, line) / line.sum() ** 2
        x, y = (
            np.lib.stride_tricks.sliding_window_view(
                image[..., 0].astype(np.float64), (window, window), (1, 2)
            )
            for image in pair
        )
        mean_x, mean_y, xx, yy, xy = (
            (kernel * z).sum((-2, -1)) for z in (x, y, x * x, y * y, x * y)
        )
        structure = (2 * (xy - mean_x * mean_y) + 9e-4) / (
            xx - mean_x**2 + yy - mean_y**2 + 9e-4
        )
        luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
        return structure.mean((1, 2)), (structure * luminance).mean((1, 2))

    weights = np.array(ms_ssim.WEIGHTS[:4]) / sum(ms_ssim.WEIGHTS[:4])
    factors = [
        reference_terms((a, b), 11)[0],
        reference_terms(halves, 11)[0],
        reference_terms(quarters, 8)[0],
        reference_terms(eighths, 4)[1],
    ]
    expected = np.prod([f**w for f, w in zip(factors, weights, strict=True)], 0)
    np.testing.assert_allclose(ms_ssim.ms_ssim(a, b, 4), expected, atol=1e-5)


def test_ms_ssim_of_an_image_with_itself_is_1():
    images = noise(3, 64, 64, 1)
    np.testing.assert_allclose(ms_ssim.ms_ssim(images, images), 1, atol=1e-6)


def test_ms_ssim_is_symmetric():
    a, b = similar_images(64)
    np.testing.assert_allclose(ms_ssim.ms_ssim(a, b), ms_ssim.ms_ssim(b, a), atol=1e-6)


def test_constant_images_differ_in_luminance_only():
    # (2ab + C1) / (a^2 + b^2 + C1), to the power of the coarsest scale's weight: for
    # three scales 0.3001 / (0.0448 + 0.2856 + 0.3001).
    a, b = (np.full((1, 64, 64, 1), value, np.float32) for value in (0.2, 0.8))
    luminance = (2 * 0.2 * 0.8 + 0.0001) / (0.04 + 0.64 + 0.0001)
    expected = luminance ** (0.3001 / 0.6305)
    np.testing.assert_allclose(ms_ssim.ms_ssim(a, b), expected, atol=1e-5)


def test_ms_ssim_of_an_inverted_image_is_0_and_not_nan():
    images = noise(2, 64, 64, 1)
    np.testing.assert_array_equal(ms_ssim.ms_ssim(images, 1 - images), 0)


@pytest.mark.parametrize("n", [2, 3, 6, 7])
def test_draw_pairs_gives_each_of_all_pairs_once(n):
    pairs = zip(*ms_ssim.draw_pairs(n, seed=0, pairs=1000), strict=True)
    pairs = sorted(tuple(sorted((int(i), int(j)))) for i, j in pairs)
    assert pairs == list(itertools.combinations(range(n), 2))


def test_pairs_are_distinct_and_determined_by_the_seed():
    i, j = ms_ssim.draw_pairs(500, seed=3, pairs=400)
    assert len({frozenset(pair) for pair in zip(i, j, strict=True)}) == 400
    assert not (i == j).any()
    same, other = (ms_ssim.draw_pairs(500, seed=seed, pairs=400) for seed in (3, 4))
    np.testing.assert_array_equal(same, (i, j))
    assert (np.stack(other) != (i, j)).any()


def test_mean_pairwise_is_the_mean_over_drawn_pairs():
    images = np.concatenate(similar_images(16, n=6))
    i, j = np.triu_indices(12, 1)
    mean, _ = ms_ssim.mean_pairwise(images, 0, pairs=1000, scales=1)
    assert mean == pytest.approx(float(ms_ssim.ms_ssim(images[i], images[j], 1).mean()))

    i, j = ms_ssim.draw_pairs(12, 5, 8)
    mean, _ = ms_ssim.mean_pairwise(images, 5, pairs=8, scales=1)
    assert mean == pytest.approx(float(ms_ssim.ms_ssim(images[i], images[j], 1).mean()))


def test_mean_pairwise_of_one_repeated_image_is_1():
    images = np.repeat(noise(1, 64, 64, 1), 5, 0)
    mean, error = ms_ssim.mean_pairwise(images, 0, pairs=10)
    assert mean == pytest.approx(1, abs=1e-6)
    assert error == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("pairs", [40, 190])
def test_standard_error_is_the_standard_deviation_over_independent_sets(pairs):
    # 200 sets of 20 constant images of random grey; all or some of their 190 pairs.
    rng = np.random.default_rng(0)
    sets = rng.uniform(0, 0.5, (200, 20, 1, 1, 1)) + np.zeros((8, 8, 1))
    results = [
        ms_ssim.mean_pairwise(images.astype(np.float32), seed, pairs, scales=1)
        for seed, images in enumerate(sets)
    ]
    means, errors = np.transpose(results)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(means.std(), rel=0.25)


@pytest.mark.parametrize(
    ("images", "pairs", "error", "message"),
    [
        (
            np.zeros((4, 16, 16, 1), np.uint8),
            3,
            TypeError,
            "divide uint8 images by 255",
        ),
        (np.zeros((4, 16, 16), np.float32), 3, ValueError, r"the same \[n, s, s, 1\]"),
        (
            np.zeros((4, 16, 8, 1), np.float32),
            3,
            ValueError,
            r"the same \[n, s, s, 1\]",
        ),
        (np.zeros((4, 18, 18, 1), np.float32), 3, ValueError, "use fewer scales"),
        (np.full((4, 16, 16, 1), 2, np.float32), 3, ValueError, "must be from 0 to 1"),
        (np.full((4, 16, 16, 1), np.nan, np.float32), 3, ValueError, "from nan"),
        (np.zeros((1, 16, 16, 1), np.float32), 3, ValueError, "at least 2 of each"),
        (np.zeros((4, 16, 16, 1), np.float32), 1, ValueError, "at least 2 of each"),
    ],
)
def test_invalid_arguments_are_refused(images, pairs, error, message):
    with pytest.raises(error, match=message):
        ms_ssim.mean_pairwise(images, 0, pairs)


def test_more_than_five_scales_are_refused():
    images = noise(2, 64, 64, 1)
    with pytest.raises(ValueError, match="use 1 to 5"):
        ms_ssim.ms_ssim(images, images, 6)


@pytest.mark.parametrize(
    ("size", "scales"), [(16, 1), (32, 2), (64, 3), (128, 4), (256, 5), (512, 5)]
)
def test_scales_for_leaves_16_px_at_the_coarsest_scale(size, scales):
    assert ms_ssim.scales_for(size) == scales
