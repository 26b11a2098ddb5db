import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cxr_gan import losses

# realness of a real and of a generated image, then D's loss and G's, by hand
BY_HAND = {
    "least_squares": (2.0, 0.5, 0.5 * 1**2 + 0.5 * 0.5**2, 0.5 * 0.5**2),
    "hinge": (0.5, -0.25, 0.5 + 0.75, 0.25),
    "logistic": (2.0, -1.0, 0.126928 + 0.313262, 1.313262),  # ln(1 + e^-2) + ...
    "relativistic": (2.0, -1.0, 0.048587, 3.048587),  # ln(1 + e^-3), ln(1 + e^3)
}


@pytest.fixture(params=losses.ADVERSARIAL.items(), ids=lambda item: item[0])
def pair(request) -> losses.Adversarial:
    """Each of the adversarial losses in turn."""
    return request.param[1]


@pytest.mark.parametrize("name", BY_HAND)
def test_adversarial_losses_equal_those_worked_out_by_hand(name):
    real, fake, d, g = (jnp.array([x]) for x in BY_HAND[name])
    pair = losses.ADVERSARIAL[name]
    np.testing.assert_allclose(pair.discriminator(real, fake), d, rtol=1e-5)
    np.testing.assert_allclose(pair.generator(real, fake), g, rtol=1e-5)


def test_adversarial_losses_are_one_number_per_example(pair):
    real, fake = jnp.linspace(-1, 1, 5), jnp.zeros(5)
    assert pair.discriminator(real, fake).shape == (5,)
    assert pair.generator(real, fake).shape == (5,)


def test_adversarial_losses_and_slopes_are_finite_however_sure_d_is(pair):
    for real in (-1e4, 0.0, 1e4):
        for fake in (-1e4, 0.0, 1e4):
            d = jax.value_and_grad(pair.discriminator, (0, 1))(real, fake)
            g = jax.value_and_grad(pair.generator, (0, 1))(real, fake)
            chex.assert_tree_all_finite((d, g))


def test_d_pays_less_for_being_right_than_for_being_wrong(pair):
    middle = pair.middle or 0.0
    high, low = middle + 0.25, middle - 0.25
    right, wrong = pair.discriminator(high, low), pair.discriminator(low, high)
    assert right < pair.discriminator(middle, middle) < wrong


def test_g_pays_less_where_d_calls_its_images_real(pair):
    middle = pair.middle or 0.0
    assert pair.generator(middle, middle + 0.25) < pair.generator(middle, middle - 0.25)


def test_real_and_fake_pull_on_d_alike_where_it_is_undecided(pair):
    middle = pair.middle or 0.0
    on_real, on_fake = jax.grad(pair.discriminator, (0, 1))(middle, middle)
    assert on_real < 0
    np.testing.assert_allclose(on_real, -on_fake)


def test_cross_entropy_is_minus_the_log_of_what_the_right_class_was_given():
    logits = jnp.log(jnp.array([[1.0, 3.0], [1.0, 3.0], [0.2, 0.8]]))
    label = jnp.array([1, 0, 0])
    expected = -np.log([0.75, 0.25, 0.2])
    np.testing.assert_allclose(losses.cross_entropy(logits, label), expected, rtol=1e-5)


def test_cross_entropy_is_finite_for_the_surest_error():
    def total(logits):
        return losses.cross_entropy(logits, jnp.array([1])).sum()

    loss, slope = jax.value_and_grad(total)(jnp.array([[1e4, -1e4]]))
    assert loss == 2e4
    np.testing.assert_allclose(slope, [[1, -1]])


def test_feature_matching_is_the_squared_distance_of_class_means():
    real = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 4.0]])
    label = jnp.array([0, 1, 0, 1])  # means (2, 0) and (0, 3)
    distance = losses.feature_matching(real, jnp.zeros((4, 2)), label, 2)
    np.testing.assert_allclose(distance, [(4 + 0) / 2, (0 + 9) / 2])


def test_feature_matching_is_zero_for_other_examples_with_the_same_class_means():
    real = jnp.array([[1.0], [5.0], [3.0], [7.0]])
    fake = jnp.array([[2.0], [12.0], [2.0], [0.0]])
    distance = losses.feature_matching(real, fake, jnp.array([0, 1, 0, 1]), 2)
    np.testing.assert_allclose(distance, [0])


def test_feature_matching_sees_classes_that_were_swapped():
    real, swapped = jnp.array([[0.0], [1.0]]), jnp.array([[1.0], [0.0]])
    distance = losses.feature_matching(real, swapped, jnp.array([0, 1]), 2)
    np.testing.assert_allclose(distance, [1])


def test_gradient_penalty_of_a_linear_function_is_half_its_squared_weights():
    weights = jax.random.normal(jax.random.key(0), (4, 4, 1))
    image = jax.random.normal(jax.random.key(1), (3, 4, 4, 1))
    penalty = losses.gradient_penalty(lambda x: (x * weights).sum((1, 2, 3)), image)
    np.testing.assert_allclose(penalty, [0.5 * (weights**2).sum()] * 3, rtol=1e-5)


def test_gradient_penalty_is_each_image_s_own():
    image = jnp.array([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1)
    penalty = losses.gradient_penalty(lambda x: (x**2).sum((1, 2, 3)), image)
    np.testing.assert_allclose(penalty, [0, 2, 8])  # (2x)^2 / 2


def column(*values):
    """One pixel an image: [n, 1, 1, 1]."""
    return jnp.array(values, jnp.float32).reshape(-1, 1, 1, 1)


def test_sameness_is_how_far_class_mates_are_from_the_real_difference():
    # Classes 0 1 0 1: real mates differ by 4 and 2, generated ones by 1 and 3.
    found = losses.sameness(column(0, 0, 4, 2), column(5, 0, 6, 3), num_classes=2)
    np.testing.assert_allclose(found, [(6 / 5) ** 2, (2 / 5) ** 2], rtol=1e-5)


def test_sameness_is_four_where_a_generator_repeats_itself_within_each_class():
    found = losses.sameness(column(0, 1, 4, 2), column(5, 9, 5, 9), num_classes=2)
    np.testing.assert_allclose(found, [4, 4], atol=1e-4)


def test_sameness_drives_images_that_differ_as_real_ones_nowhere():
    """Of many small batches; a bound from one side would drive them apart."""
    real, fake = jax.random.normal(jax.random.key(0), (2, 4000, 8, 4, 4, 1))

    def mean(scale):
        of_batches = jax.vmap(lambda r, f: losses.sameness(r, scale * f, 2))
        return of_batches(real, fake).mean()

    wider, narrower = mean(1.1), mean(1 / 1.1)
    np.testing.assert_allclose(wider, narrower, rtol=0.02)
    assert abs(jax.grad(mean)(1.0)) < 0.02 * wider / 0.1


# Real of class 0 and 1, generated of class 0 and 1.
LOGITS = jnp.log(jnp.array([[0.1, 0.2, 0.3, 0.4]]))
CLASSES_BY_HAND = {  # D's loss where it says LOGITS of both images, label 1; then G's
    "real": (-np.log(2 / 3), -np.log(2 / 3)),
    "both": (-2 * np.log(2 / 3), -np.log(2 / 3)),
    "discriminating": (-np.log(0.2) - np.log(0.4), np.log(0.4 / 0.2)),
}


@pytest.mark.parametrize("name", losses.CLASSES)
def test_class_losses_equal_those_worked_out_by_hand(name):
    pair, label = losses.CLASSES[name], jnp.array([1])
    logits = LOGITS[:, : 2 * pair.answers]
    d, g = CLASSES_BY_HAND[name]
    found = pair.discriminator(logits, logits, label), pair.generator(logits, label)
    np.testing.assert_allclose(found, [[d], [g]], rtol=1e-5)


@pytest.mark.parametrize("name", losses.CLASSES)
def test_g_pays_less_where_d_sees_the_class_it_was_asked_for(name):
    pair, surer = losses.CLASSES[name], jnp.array([[0.0, 1, 0, 0]])
    logits, more = (x[:, : 2 * pair.answers] for x in (LOGITS, LOGITS + surer))
    label = jnp.array([1])
    assert pair.generator(more, label) < pair.generator(logits, label)
