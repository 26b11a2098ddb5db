import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cxr_gan.training import augmentation

KEYS = jax.random.split(jax.random.key(0), 200)


def apply(name: str, image: np.ndarray, strength: float) -> np.ndarray:
    """One image [s, s, 1] under each of KEYS."""
    images = jnp.broadcast_to(image, (len(KEYS), *image.shape))
    return np.asarray(augmentation.augment(images, KEYS, ((name, strength),)))


@pytest.fixture(params=augmentation.POLICIES)
def name(request) -> str:
    """Each of the policies in turn."""
    return request.param


@pytest.fixture(scope="module")
def images() -> jax.Array:
    return jax.random.uniform(jax.random.key(1), (4, 8, 8, 1), minval=-1, maxval=1)


def test_every_policy_has_a_strength_in_the_configuration():
    strengths = set(tiny.tiny_config().augment) - {"adaptive"}
    assert strengths == set(augmentation.POLICIES)


def test_a_policy_of_strength_above_zero_changes_images_but_not_their_shape(
    name, images
):
    changed = augmentation.augment(images, KEYS[:4], ((name, 0.5),))
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert (changed != images).any()
    same = augmentation.augment(images, KEYS[:4], ((name, 0.0),))
    np.testing.assert_array_equal(same, images)


def test_a_probability_changes_a_fraction_of_the_images():
    images, policies = jnp.zeros((200, 2, 2, 1)), (("brightness", 1.0),)

    def changed(probability):
        result = augmentation.augment(images, KEYS, policies, probability)
        return (result != 0).any((1, 2, 3))

    assert not changed(0).any()
    assert changed(1).all()
    assert 70 < changed(0.5).sum() < 130  # four standard deviations of 7 either side
    assert (changed(0.3) <= changed(0.6)).all()


def test_augmentation_depends_on_the_key_of_the_image_alone(name, images):
    policies = ((name, 0.5),)
    order = jnp.array([2, 0, 3, 1])
    batch = augmentation.augment(images, KEYS[:4], policies)
    shuffled = augmentation.augment(images[order], KEYS[:4][order], policies)
    np.testing.assert_array_equal(shuffled, batch[order])
    alone = augmentation.augment(images[2:3], KEYS[2:3], policies)
    np.testing.assert_array_equal(alone, batch[2:3])


def test_two_policies_draw_independent_numbers(images):
    twice = (("brightness", 1.0), ("brightness", 1.0))
    shift = (augmentation.augment(images, KEYS[:4], twice) - images)[:, 0, 0, 0]
    first = (augmentation.augment(images, KEYS[:4], twice[:1]) - images)[:, 0, 0, 0]
    assert not np.allclose(shift, 2 * first, atol=1e-3)


def test_gradients_through_a_policy_equal_finite_differences(name, images):
    direction = jax.random.normal(jax.random.key(2), images.shape)

    def changed(step):
        return augmentation.augment(images + step * direction, KEYS[:4], ((name, 0.5),))

    derivative = jax.jvp(changed, (0.0,), (1.0,))[1]
    np.testing.assert_allclose(derivative, (changed(0.5) - changed(-0.5)), atol=1e-5)
    assert (jnp.abs(derivative).max((1, 2, 3)) > 0.1).all()


def test_no_policy_mirrors_an_image():
    ramp = np.tile(np.linspace(-1, 1, 16), (16, 1))[..., None]  # dark on the left
    policies = tuple((name, 0.2) for name in augmentation.POLICIES)
    images = jnp.broadcast_to(ramp, (len(KEYS), *ramp.shape))
    similarity = (augmentation.augment(images, KEYS, policies) * ramp).sum((1, 2, 3))
    assert (similarity > 0).all()  # below 0 for the mirror image


def test_brightness_adds_one_number_from_its_range(images):
    shift = apply("brightness", images[0], 0.5) - images[0]
    np.testing.assert_allclose(np.ptp(shift, axis=(1, 2, 3)), 0, atol=1e-6)
    assert -0.25 <= shift.min() < -0.2 and 0.2 < shift.max() <= 0.25


def test_contrast_scales_by_a_factor_from_its_range_and_keeps_the_mean(images):
    changed = apply("contrast", images[0], 0.3)
    np.testing.assert_allclose(changed.mean((1, 2, 3)), images[0].mean(), atol=1e-6)
    factor = changed.std((1, 2, 3)) / images[0].std()
    assert 0.7 <= factor.min() < 0.75 and 1.25 < factor.max() <= 1.3


def test_translation_shifts_by_whole_pixels_without_wrapping(images):
    image = np.asarray(images[0])
    framed = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    possible = {
        (2 - y, 2 - x): framed[y : y + 8, x : x + 8] for y in range(5) for x in range(5)
    }
    seen = set()
    for changed in apply("translation", image, 0.25):
        shifts = [by for by, shifted in possible.items() if (shifted == changed).all()]
        assert len(shifts) == 1
        seen |= set(shifts)
    assert seen == set(possible)  # up to two pixels each way, all of them occur


def test_cutout_greys_one_square_clipped_by_the_edge_at_most():
    changed = apply("cutout", np.ones((8, 8, 1), np.float32), 0.5)[..., 0]
    for image in changed:
        rows, columns = (np.flatnonzero((image == 0).any(axis)) for axis in (1, 0))
        hole = np.ones((8, 8))
        hole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 0
        np.testing.assert_array_equal(image, hole)
        for found in (rows, columns):
            assert len(found) == 4 or {0, 7} & set(found)
    areas = (changed == 0).sum((1, 2))
    assert areas.min() == 2 * 2 and areas.max() == 4 * 4
    assert (changed == 0).any(0).all()  # every pixel is hit
