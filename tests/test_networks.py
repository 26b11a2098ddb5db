import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cxr_gan.config import RESOLUTIONS
from cxr_gan.gan import DISCRIMINATORS, GENERATORS, build, examples, spec_of, widths
from cxr_gan.losses import gradient_penalty
from cxr_gan.models.convolution import Conv3x3
from cxr_gan.models.discriminator import DownBlock
from cxr_gan.models.generator import UpBlock
from cxr_gan.models.layers import pixel_unshuffle, upsample
from cxr_gan.terms import lazy_penalty

LABEL = jnp.array([0, 1, 0, 1])


@pytest.fixture(scope="module")
def small():
    """A game at 16 x 16, its params, and both networks compiled."""
    game = build(tiny.tiny_config(16), tiny.CLASS_NAMES)
    state = tiny.fresh_state(game)

    @jax.jit
    def generate(z, label, params=state.generator.params):
        return game.generator.apply({"params": params}, z, label)

    @jax.jit
    def judge(image, params=state.discriminator.params):
        return game.discriminator.apply({"params": params}, image)

    return game, state, generate, judge


@pytest.fixture(scope="module")
def z(small):
    return jax.random.normal(tiny.key(3), (4, small[0].latent_size))


@pytest.fixture(scope="module")
def image():
    return jax.random.uniform(tiny.key(4), (8, 16, 16, 1), minval=-1, maxval=1)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
def test_networks_fit_every_resolution_and_number_of_classes(resolution, names):
    game = build(tiny.tiny_config(resolution), names)

    def both(rng):
        z, label, image = examples(game)
        fake, of_g = game.generator.init_with_output(rng, z, label)
        judgement, of_d = game.discriminator.init_with_output(rng, image)
        return fake, judgement, of_g, of_d

    fake, judgement, of_g, of_d = jax.eval_shape(both, tiny.key(0))
    n = 2 * len(names)
    assert fake.shape == (n, resolution, resolution, 1)
    assert judgement.realness.shape == (n,)
    assert judgement.pathology.shape == (n, len(names))
    assert judgement.features.shape[0] == n
    # Nothing is remembered between batches, as BatchNorm would.
    assert set(of_g) == set(of_d) == {"params"}
    leaves = jax.tree.leaves((fake, judgement, of_g, of_d))
    assert {x.dtype for x in leaves} == {jnp.dtype("float32")}


def test_every_network_of_the_tables_can_be_asked_for_by_name():
    for player, table in (("generator", GENERATORS), ("discriminator", DISCRIMINATORS)):
        for name in table:
            config = tiny.tiny_config()
            config[player].name = name
            assert isinstance(getattr(build(config, ("a", "b")), player), table[name])


def test_widths_halve_as_the_side_doubles_up_to_the_maximum():
    assert widths(32, 64, 128) == (128, 128, 128)
    assert widths(64, 64, 128) == (128, 128, 128, 64)
    assert widths(256, 64, 512) == (512, 256, 128, 64, 32, 16)


def test_a_spec_builds_the_generator_of_its_run_and_may_be_a_key(config, gan):
    spec = spec_of(config, tiny.CLASS_NAMES)
    assert {spec: 1}[spec_of(config, tiny.CLASS_NAMES)] == 1
    assert spec.build() == gan.generator


def test_generated_images_lie_between_minus_one_and_one(small, z):
    image = small[2](100 * z, LABEL)
    assert jnp.abs(image).max() <= 1
    assert image.std() > 0.01


def test_a_generated_image_does_not_depend_on_its_batch(small, z):
    together = small[2](z, LABEL)
    others = small[2](z.at[1:].set(5.0), LABEL.at[1:].set(0))
    np.testing.assert_array_equal(others[0], together[0])
    assert (others[1] != together[1]).any()


def test_label_and_noise_both_change_what_is_generated(small, z):
    image = small[2](z, LABEL)
    assert (image != small[2](z, 1 - LABEL)).any((1, 2, 3)).all()
    assert (image != small[2](-z, LABEL)).any((1, 2, 3)).all()


def test_a_label_that_is_no_class_is_not_taken_for_another(small, z):
    image = small[2](z, jnp.array([0, 1, 2, 7]))
    np.testing.assert_array_equal(jnp.isnan(image).any((1, 2, 3)), [0, 0, 1, 1])


def test_an_up_block_adds_to_its_projected_and_resized_input():
    x = jax.random.normal(tiny.key(0), (2, 4, 4, 3))
    condition = jax.random.normal(tiny.key(1), (2, 5))
    params = UpBlock(6).init(tiny.key(2), x, condition)["params"]
    params["conv_out"] = jax.tree.map(jnp.zeros_like, params["conv_out"])
    y = UpBlock(6).apply({"params": params}, x, condition)
    np.testing.assert_allclose(y, upsample(x @ params["skip"]["kernel"]), atol=1e-6)


def test_a_down_block_without_norm_answers_in_proportion_to_its_input():
    x = jax.random.normal(tiny.key(0), (2, 4, 4, 3))
    for norm in (False, True):
        y, variables = DownBlock(6, norm).init_with_output(tiny.key(1), x)
        assert y.shape == (2, 2, 2, 6)
        thrice = DownBlock(6, norm).apply(variables, 3 * x)
        assert np.allclose(thrice, 3 * y, rtol=1e-4, atol=1e-4) != norm


def test_the_first_block_of_d_sees_how_bright_and_contrasty_an_image_is(small, image):
    game, state, _, _ = small
    params = state.discriminator.params

    def first_block(image):
        _, seen = game.discriminator.apply(
            {"params": params}, image, capture_intermediates=True
        )
        return seen["intermediates"]["DownBlock_0"]["__call__"][0]

    y = first_block(image)
    np.testing.assert_allclose(first_block(2 * image), 2 * y, rtol=1e-4, atol=1e-4)
    assert jnp.abs(first_block(image + 0.5) - y).max() > 0.1


@pytest.mark.parametrize(
    ("across", "sharpness", "times"),
    [(-1, 1, 16 / 8), (-1, 0.5, 1.5), (-1, 0, 1), (1, 1, 1)],
)
def test_d_sees_a_checkerboard_stronger_and_stripes_as_they_are(
    small, across, sharpness, times
):
    game, state, _, _ = small
    params = state.discriminator.params
    pattern = jnp.tile(jnp.array([[1.0, across], [-1, -across]]), (8, 8))
    pattern = jnp.broadcast_to(pattern[..., None], (4, 16, 16, 1))
    stem = Conv3x3(game.discriminator.widths[0])
    plain = stem.apply({"params": params["stem"]}, pixel_unshuffle(pattern))
    _, seen = game.discriminator.apply(
        {"params": params}, pattern, sharpness, capture_intermediates=True
    )
    (y,) = seen["intermediates"]["stem"]["__call__"]
    inside = np.s_[:, 2:-2, 2:-2]  # the border repeats itself, which no pattern does
    np.testing.assert_allclose(y[inside], times * plain[inside], atol=1e-5)


def test_d_sees_other_images_through_class_mates_of_their_group_alone(small, image):
    game, _, _, judge = small
    assert game.group == 4
    here, changed = judge(image), judge(image.at[7].set(0))
    same = jax.tree.map(lambda x: x[:4], (here, changed))
    chex.assert_trees_all_equal(*same)
    different = here.realness != changed.realness
    np.testing.assert_array_equal(jnp.nonzero(different)[0], [5, 7])  # class-mates


def test_d_tells_a_collapsed_group_from_a_varied_one(small, image):
    equal = jnp.broadcast_to(image[:1], image.shape)
    assert small[3](equal).realness[0] != small[3](image).realness[0]


@pytest.fixture(scope="module")
def coarse():
    """The game of `small` in bfloat16 arithmetic."""
    config = tiny.tiny_config(16)
    config.precision = "bfloat16"
    return build(config, tiny.CLASS_NAMES)


def test_coarse_arithmetic_gives_nearly_the_same_in_float32(small, coarse, z, image):
    _, state, generate, judge = small
    label = jnp.array([0, 1, 0, 1])
    g, d = {"params": state.generator.params}, {"params": state.discriminator.params}
    fake = jax.jit(coarse.generator.apply)(g, z, label)
    judgement = jax.jit(coarse.discriminator.apply)(d, image)
    pairs = ((fake, generate(z, label)), (judgement, judge(image)))
    for ours, exact in pairs:
        chex.assert_trees_all_equal_dtypes(ours, exact)
        chex.assert_trees_all_close(ours, exact, atol=0.05)
        assert any((a != b).any() for a, b in zip(ours, exact, strict=True))


def test_weights_and_their_slopes_are_float32_in_coarse_arithmetic(coarse, small):
    params = small[1].discriminator.params
    image = jnp.linspace(-1, 1, 4 * 16 * 16).reshape(4, 16, 16, 1)

    def slope(game):
        def realness(params):
            return game.discriminator.apply({"params": params}, image).realness.sum()

        return jax.jit(jax.grad(realness))(params)

    exact, ours = slope(small[0]), slope(coarse)
    fresh = tiny.fresh_state(coarse).discriminator.params
    for tree in (ours, fresh):
        assert {x.dtype for x in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    flat = [
        jnp.concatenate([x.ravel() for x in jax.tree.leaves(t)]) for t in (exact, ours)
    ]
    cosine = flat[0] @ flat[1] / jnp.linalg.norm(flat[0]) / jnp.linalg.norm(flat[1])
    assert cosine > 0.99


def test_the_penalty_is_exact_in_coarse_arithmetic(coarse, small, image):
    params = small[1].discriminator.params
    penalty = jax.jit(lazy_penalty, static_argnums=0)
    first, none = jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params)
    exact, ours = (
        penalty(g, params, image, image, first, none) for g in (small[0], coarse)
    )
    chex.assert_trees_all_equal(exact, ours)


def test_the_penalty_adds_to_the_slope_it_is_given_every_few_steps(small, image):
    game, params = small[0], small[1].discriminator.params
    penalty = jax.jit(lazy_penalty, static_argnums=0)
    none = jax.tree.map(jnp.zeros_like, params)
    given = jax.tree.map(jnp.ones_like, params)
    (alone, own), skipped, (again, added) = (
        penalty(game, params, image, image, jnp.array(step), slope)
        for step, slope in ((0, none), (1, given), (0, given))
    )
    assert alone > 0 and alone == again
    chex.assert_trees_all_close(added, jax.tree.map(jnp.add, own, given), rtol=1e-6)
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(own)) > 1e-6
    chex.assert_trees_all_equal(skipped, (jnp.zeros(()), given))


def test_slopes_of_the_penalty_are_finite_even_for_blank_images(small):
    game, state, _, _ = small

    @jax.jit
    @jax.grad
    def slope(params, image):
        def realness(x):
            return game.discriminator.apply({"params": params}, x).realness

        return gradient_penalty(realness, image).mean()

    for grey in (-1.0, 0.0):
        image = jnp.full((4, 16, 16, 1), grey)
        chex.assert_tree_all_finite(slope(state.discriminator.params, image))
