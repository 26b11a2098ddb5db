import itertools

import numpy as np
import pytest

from cxr_gan.metrics import ssim


def noise(*shape, seed=0):
    """float32 images of independent pixels, uniform in [0, 1)."""
    return np.random.default_rng(seed).random(shape, np.float32)


def alike(size, n=4):
    """Two lots of n images of one smooth pattern, each with some noise of its own."""
    wave = np.sin(np.arange(size) / 5)
    pattern = 0.5 + 0.2 * wave[:, None, None] * wave[None, :, None]
    share = np.linspace(0.05, 0.6, n)[:, None, None, None]
    a, b = (
        (1 - share) * pattern + share * noise(n, size, size, 1, seed=i) for i in (1, 2)
    )
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize(
    ("size", "scales"), [(64, 3), (64, 1), (32, 2), (128, 4), (176, 5), (8, 1)]
)
def test_ms_ssim_agrees_with_tensorflow(size, scales):
    import tensorflow as tf

    a, b = alike(size)
    weights = np.array(ssim.WEIGHTS[:scales])
    window = min(11, size)
    theirs = tf.image.ssim_multiscale(
        *(a, b, 1.0),
        power_factors=tuple(weights / weights.sum()),
        filter_size=window,
        filter_sigma=1.5 * window / 11,
    ).numpy()
    assert np.ptp(theirs) > 0.1  # else this says little
    np.testing.assert_allclose(ssim.ms_ssim(a, b, scales), theirs, atol=1e-4)


def test_window_shrinks_with_the_image_at_coarse_scales():
    # Structure of 32 x 32 images with the whole window, then all of it of 4 x 4 ones,
    # where one window, of deviation 1.5 * 4 / 11, is the whole image.
    a, b = alike(32)
    quarters = [x.reshape(-1, 8, 4, 8, 4, 1).mean((2, 4)) for x in (a, b)]
    halves = [x.reshape(-1, 16, 2, 16, 2, 1).mean((2, 4)) for x in (a, b)]
    eighths = [x.reshape(-1, 4, 8, 4, 8, 1).mean((2, 4)) for x in (a, b)]

    def of(pair, window):
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

    weights = np.array(ssim.WEIGHTS[:4]) / sum(ssim.WEIGHTS[:4])
    factors = [of((a, b), 11)[0], of(halves, 11)[0], of(quarters, 8)[0]]
    factors.append(of(eighths, 4)[1])
    expected = np.prod([f**w for f, w in zip(factors, weights, strict=True)], 0)
    np.testing.assert_allclose(ssim.ms_ssim(a, b, 4), expected, atol=1e-5)


def test_an_image_is_wholly_like_itself():
    images = noise(3, 64, 64, 1)
    np.testing.assert_allclose(ssim.ms_ssim(images, images), 1, atol=1e-6)


def test_likeness_is_mutual():
    a, b = alike(64)
    np.testing.assert_allclose(ssim.ms_ssim(a, b), ssim.ms_ssim(b, a), atol=1e-6)


def test_flat_images_differ_in_luminance_alone():
    # (2ab + C1) / (a^2 + b^2 + C1), to the power of the coarsest scale's weight: for
    # three scales 0.3001 / (0.0448 + 0.2856 + 0.3001).
    a, b = (np.full((1, 64, 64, 1), value, np.float32) for value in (0.2, 0.8))
    luminance = (2 * 0.2 * 0.8 + 0.0001) / (0.04 + 0.64 + 0.0001)
    expected = luminance ** (0.3001 / 0.6305)
    np.testing.assert_allclose(ssim.ms_ssim(a, b), expected, atol=1e-5)


def test_a_negative_has_nothing_in_common_rather_than_not_a_number():
    images = noise(2, 64, 64, 1)
    np.testing.assert_array_equal(ssim.ms_ssim(images, 1 - images), 0)


@pytest.mark.parametrize("n", [2, 3, 6, 7])
def test_all_pairs_are_each_pair_once(n):
    drawn = zip(*ssim.draw_pairs(n, seed=0, pairs=1000), strict=True)
    drawn = sorted(tuple(sorted((int(i), int(j)))) for i, j in drawn)
    assert drawn == list(itertools.combinations(range(n), 2))


def test_pairs_are_distinct_and_follow_the_seed():
    i, j = ssim.draw_pairs(500, seed=3, pairs=400)
    assert len({frozenset(pair) for pair in zip(i, j, strict=True)}) == 400
    assert not (i == j).any()
    again, other = (ssim.draw_pairs(500, seed=seed, pairs=400) for seed in (3, 4))
    np.testing.assert_array_equal(again, (i, j))
    assert (np.stack(other) != (i, j)).any()


def test_mean_pairwise_is_the_mean_over_its_pairs():
    images = np.concatenate(alike(16, n=6))
    i, j = np.triu_indices(12, 1)
    mean, _ = ssim.mean_pairwise(images, 0, pairs=1000, scales=1)
    assert mean == pytest.approx(float(ssim.ms_ssim(images[i], images[j], 1).mean()))

    i, j = ssim.draw_pairs(12, 5, 8)
    mean, _ = ssim.mean_pairwise(images, 5, pairs=8, scales=1)
    assert mean == pytest.approx(float(ssim.ms_ssim(images[i], images[j], 1).mean()))


def test_copies_of_one_image_are_wholly_alike():
    images = np.repeat(noise(1, 64, 64, 1), 5, 0)
    mean, error = ssim.mean_pairwise(images, 0, pairs=10)
    assert mean == pytest.approx(1, abs=1e-6)
    assert error == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("pairs", [40, 190])
def test_standard_error_is_how_much_the_mean_differs_from_set_to_set(pairs):
    # Flat images of random greys: many sets of 20, and all or some of their 190 pairs.
    rng = np.random.default_rng(0)
    sets = rng.uniform(0, 0.5, (200, 20, 1, 1, 1)) + np.zeros((8, 8, 1))
    found = [
        ssim.mean_pairwise(images.astype(np.float32), seed, pairs, scales=1)
        for seed, images in enumerate(sets)
    ]
    means, errors = np.transpose(found)
    spread = means.std()
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize(
    ("images", "pairs", "error", "words"),
    [
        (
            np.zeros((4, 16, 16, 1), np.uint8),
            3,
            TypeError,
            "divide uint8 images by 255",
        ),
        (np.zeros((4, 16, 16), np.float32), 3, ValueError, r"must be \[n, s, s, 1\]"),
        (np.zeros((4, 16, 8, 1), np.float32), 3, ValueError, r"must be \[n, s, s, 1\]"),
        (np.zeros((4, 18, 18, 1), np.float32), 3, ValueError, "use fewer scales"),
        (np.full((4, 16, 16, 1), 2, np.float32), 3, ValueError, "must be from 0 to 1"),
        (np.full((4, 16, 16, 1), np.nan, np.float32), 3, ValueError, "from nan"),
        (np.zeros((1, 16, 16, 1), np.float32), 3, ValueError, "at least 2 of each"),
        (np.zeros((4, 16, 16, 1), np.float32), 1, ValueError, "at least 2 of each"),
    ],
)
def test_what_cannot_be_measured_is_refused(images, pairs, error, words):
    with pytest.raises(error, match=words):
        ssim.mean_pairwise(images, 0, pairs)


def test_a_sixth_scale_is_refused():
    images = noise(2, 64, 64, 1)
    with pytest.raises(ValueError, match="use 1 to 5"):
        ssim.ms_ssim(images, images, 6)


@pytest.mark.parametrize(
    ("size", "scales"), [(16, 1), (32, 2), (64, 3), (128, 4), (256, 5), (512, 5)]
)
def test_scales_suit_the_size_of_images(size, scales):
    assert ssim.scales_for(size) == scales
