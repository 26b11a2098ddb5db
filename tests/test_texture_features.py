import numpy as np
import pytest
from scipy import ndimage

from cxr_gan.data.phantom import renderer
from cxr_gan.evaluation.metrics import texture_features

FIRST_ORDER, UNEVENNESS = slice(0, 16), slice(16, 20)
SECOND_ORDER, ALTERNATING = slice(20, 44), slice(44, 47)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return renderer.render_many(0, range(48), 64)[0]


@pytest.fixture(scope="module")
def features(images) -> np.ndarray:
    return texture_features.features(images)


def uint8(images) -> np.ndarray:
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def wave(angle: int, period: float, size: int = 128) -> np.ndarray:
    """A cosine of amplitude 50: uint8 [1, s, s, 1].

    `angle` is its direction in degrees, 0 from left to right; `period` is in pixels.
    """
    y, x = np.mgrid[:size, :size]
    along = x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))
    return uint8(128 + 50 * np.cos(2 * np.pi * along / period))[None, :, :, None]


def test_each_image_has_47_finite_features(features):
    assert features.shape == (48, 47)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    constant = np.full((1, 32, 32, 1), 77, np.uint8)
    assert np.isfinite(texture_features.features(constant)).all()


@pytest.mark.parametrize(
    "degrade",
    [
        lambda x, rng: x + 3 * rng.standard_normal(x.shape),
        lambda x, rng: ndimage.gaussian_filter(x, (0, 0.7, 0.7, 0)),
        lambda x, rng: x + 2 * (np.indices((64, 64)).sum(0) % 2 * 2 - 1)[..., None],
        lambda x, rng: x + 6 * (np.indices((64, 64)).sum(0) // 2 % 2)[..., None],
    ],
    ids=["noise of 3 grey levels", "blur of 0.7 px", "checkerboard", "diagonal lines"],
)
def test_typical_generator_faults_change_features(images, features, degrade):
    degraded = uint8(degrade(images.astype(float), np.random.default_rng(0)))
    shift = (texture_features.features(degraded) - features).mean(0) / features.std(0)
    assert np.abs(shift).max() > 1


def test_features_do_not_depend_on_brightness(images, features):
    dark = (images // 2).astype(np.uint8)
    of_bright = texture_features.features(dark + 100)
    np.testing.assert_allclose(of_bright, texture_features.features(dark), atol=1e-3)


def test_modulus_of_a_wave_is_largest_at_its_scale_and_orientation():
    waves = [wave(angle, p) for p in (2.7, 6, 12, 24) for angle in (0, 45, 90, 135)]
    features = texture_features.features(np.concatenate(waves))
    np.testing.assert_array_equal(features[:, FIRST_ORDER].argmax(1), np.arange(16))


def test_twice_the_noise_doubles_first_order_moduli_only():
    noise = np.random.default_rng(0).standard_normal((1, 128, 128, 1))
    small, large = (texture_features.features(uint8(128 + a * noise)) for a in (15, 30))
    change = (large - small)[0]
    np.testing.assert_allclose(change[FIRST_ORDER], np.log(2), atol=0.03)
    for part in (UNEVENNESS, SECOND_ORDER):
        np.testing.assert_allclose(change[part], 0, atol=0.03)


def test_rotation_by_90_degrees_permutes_orientations_only(images, features):
    rotated = texture_features.features(np.rot90(images, axes=(1, 2)).copy())
    before, after = (x[:, FIRST_ORDER].reshape(-1, 4, 4) for x in (features, rotated))
    np.testing.assert_allclose(after, np.roll(before, 2, 2), atol=1e-3)
    for part in (UNEVENNESS, SECOND_ORDER):
        np.testing.assert_allclose(rotated[:, part], features[:, part], atol=1e-3)
    swapped = features[:, ALTERNATING][:, [0, 2, 1]]
    np.testing.assert_allclose(rotated[:, ALTERNATING], swapped, atol=1e-3)


def test_alternating_patterns_are_separated_by_direction():
    y, x = np.indices((64, 64))
    images = uint8(128 + 20 * (np.stack([x + y, y, x]) % 2))[..., None]
    alternating = texture_features.features(images)[:, ALTERNATING]
    np.testing.assert_allclose(alternating.diagonal(), np.log(10), atol=0.02)
    np.testing.assert_array_equal(alternating.argmax(1), [0, 1, 2])


def test_noise_in_a_part_of_the_image_is_more_uneven():
    everywhere = 128 + 20 * np.random.default_rng(0).standard_normal((1, 64, 64, 1))
    part = np.where(np.indices((64, 64))[0, ..., None] < 16, everywhere, 128)
    both = texture_features.features(np.concatenate([uint8(everywhere), uint8(part)]))
    assert (both[1, UNEVENNESS] - both[0, UNEVENNESS] > 0.2).all()
