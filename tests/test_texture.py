import numpy as np
import pytest
from scipy import ndimage

from cxr_gan.data import phantom
from cxr_gan.metrics import texture

FIRST, PATCHY = slice(0, 16), slice(16, 20)
SECOND, ALTERNATING = slice(20, 44), slice(44, 47)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return phantom.render_many(0, range(48), 64)[0]


@pytest.fixture(scope="module")
def features(images) -> np.ndarray:
    return texture.features(images)


def uint8(images) -> np.ndarray:
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def wave(angle: int, period: float, size: int = 128) -> np.ndarray:
    """uint8 [1, s, s, 1], of amplitude 50; angle in degrees, 0 from left to right."""
    y, x = np.mgrid[:size, :size]
    along = x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))
    return uint8(128 + 50 * np.cos(2 * np.pi * along / period))[None, :, :, None]


def test_each_image_has_as_many_finite_features_as_promised(features):
    assert features.shape == (48, texture.DIMENSION) == (48, 47)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_few_enough_features_for_a_covariance_of_320_images():
    assert 5 * texture.DIMENSION <= 320


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, rng: x + 3 * rng.standard_normal(x.shape),
        lambda x, rng: ndimage.gaussian_filter(x, (0, 0.7, 0.7, 0)),
        lambda x, rng: x + 2 * (np.indices((64, 64)).sum(0) % 2 * 2 - 1)[..., None],
        lambda x, rng: x + 6 * (np.indices((64, 64)).sum(0) // 2 % 2)[..., None],
    ],
    ids=["noise of 3 grey levels", "blur of 0.7 px", "checkerboard", "diagonal lines"],
)
def test_what_generators_get_wrong_moves_features(images, features, spoil):
    spoilt = uint8(spoil(images.astype(float), np.random.default_rng(0)))
    shift = (texture.features(spoilt) - features).mean(0) / features.std(0)
    assert np.abs(shift).max() > 1


def test_brightness_alone_moves_nothing(images, features):
    dark = (images // 2).astype(np.uint8)
    light = texture.features(dark + 100)
    np.testing.assert_allclose(light, texture.features(dark), atol=1e-3)


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize(("scale", "period"), [(0, 2.7), (1, 6), (2, 12), (3, 24)])
def test_a_wave_is_found_at_its_scale_and_orientation(scale, period, at):
    (found,) = texture.features(wave(45 * at, period))
    assert found[FIRST].argmax() == 4 * scale + at


def test_twice_the_noise_is_twice_the_modulus():
    noise = np.random.default_rng(0).standard_normal((1, 128, 128, 1))
    small, large = (texture.features(uint8(128 + a * noise)) for a in (15, 30))
    np.testing.assert_allclose((large - small)[0, FIRST], np.log(2), atol=0.03)
    np.testing.assert_allclose((large - small)[0, PATCHY], 0, atol=0.03)
    np.testing.assert_allclose((large - small)[0, SECOND], 0, atol=0.03)


def test_a_quarter_turn_moves_orientations_and_nothing_else(images, features):
    turned = texture.features(np.rot90(images, axes=(1, 2)).copy())
    first, before = turned[:, FIRST].reshape(-1, 4, 4), features[:, FIRST]
    np.testing.assert_allclose(
        first, np.roll(before.reshape(-1, 4, 4), 2, 2), atol=1e-3
    )
    np.testing.assert_allclose(turned[:, PATCHY], features[:, PATCHY], atol=1e-3)
    np.testing.assert_allclose(turned[:, SECOND], features[:, SECOND], atol=1e-3)
    swapped = features[:, ALTERNATING][:, [0, 2, 1]]
    np.testing.assert_allclose(turned[:, ALTERNATING], swapped, atol=1e-3)


def test_what_alternates_is_found_where_it_does():
    y, x = np.indices((64, 64))
    for at, pattern in enumerate((x + y, y, x)):
        image = uint8(128 + 20 * (pattern % 2))[None, :, :, None]
        (found,) = texture.features(image)
        np.testing.assert_allclose(found[ALTERNATING][at], np.log(10), atol=0.02)
        assert found[ALTERNATING].argmax() == at


def test_a_noisy_patch_is_patchier_than_noise_everywhere():
    even = 128 + 20 * np.random.default_rng(0).standard_normal((1, 64, 64, 1))
    patch = np.where(np.indices((64, 64))[0, ..., None] < 16, even, 128)
    flat = texture.features(np.concatenate([uint8(even), uint8(patch)]))
    assert (flat[1, PATCHY] - flat[0, PATCHY] > 0.2).all()


def test_a_blank_image_has_finite_features():
    blank = np.full((1, 32, 32, 1), 77, np.uint8)
    assert np.isfinite(texture.features(blank)).all()


def test_an_image_has_the_same_features_in_any_set(images, features):
    again = texture.features(np.concatenate([images[40:], images]))
    np.testing.assert_allclose(again[:8], features[40:], atol=1e-4)
    np.testing.assert_allclose(again[8:], features, atol=1e-4)


def test_what_cannot_be_read_is_refused(images):
    with pytest.raises(ValueError, match="31 px; texture at 4 scales needs 32"):
        texture.features(np.zeros((1, 31, 31, 1), np.uint8))
    with pytest.raises(TypeError, match="float32; use uint8"):
        texture.features(images.astype(np.float32))
