import functools

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cxr_gan import config as configs
from cxr_gan.losses import gradient_penalty
from cxr_gan.models.conv import Conv3x3
from cxr_gan.models.discriminator import STEM_CHANNELS
from cxr_gan.models.generator import UpBlock
from cxr_gan.models.layers import emphasize, upsample
from cxr_gan.models.registry import DISCRIMINATORS, GENERATORS, channels_per_stage
from cxr_gan.training.gan import build_gan, dummy_inputs, generator_config
from cxr_gan.training.loss_terms import lazy_gradient_penalty

LABEL = jnp.array([0, 1, 0, 1])
RESOLUTIONS = [n for n in range(1, 1025) if configs.RULES["resolution"][0](n)]


@pytest.fixture(scope="module")
def small():
    """A GAN at 16 x 16, a state with noise, and both networks compiled."""
    gan = tiny.build(tiny.tiny_config(16))
    state = tiny.with_noise(tiny.initial_state(gan))

    @jax.jit
    def generate(z, label, params=state.generator.params):
        return gan.generator.apply({"params": params}, z, label)

    @jax.jit
    def discriminate(image, params=state.discriminator.params):
        return gan.discriminator.apply({"params": params}, image)

    return gan, state, generate, discriminate


@pytest.fixture(scope="module")
def z(small):
    return jax.random.normal(tiny.key(3), (4, small[0].latent_size))


@pytest.fixture(scope="module")
def image():
    return jax.random.uniform(tiny.key(4), (8, 16, 16, 1), minval=-1, maxval=1)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
def test_networks_support_every_resolution_and_number_of_classes(resolution, names):
    gan = build_gan(configs.freeze(tiny.tiny_config(resolution)), names)

    def init_both(rng):
        z, label, image = dummy_inputs(gan)
        fake, g_variables = gan.generator.init_with_output(rng, z, label)
        output, d_variables = gan.discriminator.init_with_output(rng, image)
        return fake, output, g_variables, d_variables

    fake, output, g_variables, d_variables = jax.eval_shape(init_both, tiny.key(0))
    n = 2 * len(names)
    assert fake.shape == (n, resolution, resolution, 1)
    assert output.score.shape == (n,)
    assert output.class_logits.shape == (n, len(names))
    # No running statistics, as BatchNorm would have.
    assert set(g_variables) == set(d_variables) == {"params"}
    leaves = jax.tree.leaves((fake, output, g_variables, d_variables))
    assert {x.dtype for x in leaves} == {jnp.dtype("float32")}


def test_every_registered_network_is_built_by_its_name():
    tables = (("generator", GENERATORS), ("discriminator", DISCRIMINATORS))
    for network, table in tables:
        for name in table:
            config = tiny.tiny_config()
            config[network].name = name
            assert isinstance(getattr(tiny.build(config), network), table[name])


def test_channels_halve_as_the_resolution_doubles_up_to_the_maximum():
    assert channels_per_stage(32, 64, 128) == (128, 128, 128)
    assert channels_per_stage(64, 64, 128) == (128, 128, 128, 64)
    assert channels_per_stage(256, 64, 512) == (512, 256, 128, 64, 32, 16)


def test_generator_config_builds_the_generator_of_its_run_and_is_hashable(config, gan):
    generator = generator_config(config, tiny.CLASS_NAMES)
    assert {generator: 1}[generator_config(config, tiny.CLASS_NAMES)] == 1
    assert generator.build() == gan.generator


def test_generated_pixels_lie_between_minus_one_and_one(small, z):
    image = small[2](100 * z, LABEL)
    assert jnp.abs(image).max() <= 1
    assert image.std() > 0.01


def test_generated_image_does_not_depend_on_its_batch(small, z):
    together = small[2](z, LABEL)
    others = small[2](z.at[1:].set(5.0), LABEL.at[1:].set(0))
    np.testing.assert_array_equal(others[0], together[0])
    assert (others[1] != together[1]).any()


def test_label_and_latent_both_change_the_generated_image(small, z):
    image = small[2](z, LABEL)
    assert (image != small[2](z, 1 - LABEL)).any((1, 2, 3)).all()
    assert (image != small[2](-z, LABEL)).any((1, 2, 3)).all()


def test_label_above_the_number_of_classes_gives_nan(small, z):
    image = small[2](z, jnp.array([0, 1, 2, 7]))
    np.testing.assert_array_equal(jnp.isnan(image).any((1, 2, 3)), [0, 0, 1, 1])


def test_up_block_with_zero_residual_projects_and_upsamples_its_input():
    x = jax.random.normal(tiny.key(0), (2, 4, 4, 3))
    condition = jax.random.normal(tiny.key(1), (2, 5))
    params = jax.jit(UpBlock(6).init)(tiny.key(2), x, condition)["params"]
    params["conv_out"] = jax.tree.map(jnp.zeros_like, params["conv_out"])
    y = jax.jit(UpBlock(6).apply)({"params": params}, x, condition)
    np.testing.assert_allclose(y, upsample(x @ params["skip"]["kernel"]), atol=1e-6)


@pytest.fixture(scope="module")
def initial(small):
    return tiny.initial_state(small[0])


def test_new_generator_generates_grey_images(small, initial, z):
    np.testing.assert_array_equal(small[2](z, LABEL, initial.generator.params), 0)


@pytest.fixture(scope="module")
def layers_of(small):
    """layers_of(network, params, *inputs): the outputs of its layers."""

    @functools.partial(jax.jit, static_argnums=0)
    def outputs(network, params, *inputs):
        module = getattr(small[0], network)
        _, variables = module.apply(
            {"params": params}, *inputs, capture_intermediates=True
        )
        return variables["intermediates"]

    return outputs


@pytest.mark.parametrize("block", ["stem_16", "block_8"])
def test_first_blocks_of_discriminator_keep_brightness_and_contrast(
    layers_of, initial, image, block
):
    params = initial.discriminator.params
    y, twice, brighter = (
        layers_of("discriminator", params, x)[block]["__call__"][0]
        for x in (image, 2 * image, image + 0.5)
    )
    np.testing.assert_allclose(twice, 2 * y, rtol=1e-4, atol=1e-4)
    assert jnp.abs(brighter - y).max() > 0.1


@pytest.mark.parametrize(("across", "gain"), [(-1, 4), (1, 2)])
def test_discriminator_sees_checkerboards_and_stripes_emphasized(
    layers_of, initial, across, gain
):
    pattern = jnp.tile(jnp.array([[1.0, across], [-1, -across]]), (8, 8))
    pattern = jnp.broadcast_to(pattern[..., None], (4, 16, 16, 1))
    params = initial.discriminator.params
    conv = Conv3x3(STEM_CHANNELS)
    plain = conv.apply({"params": params["stem_16"]["image"]}, pattern)
    (y,) = layers_of("discriminator", params, pattern)["stem_16"]["image"]["__call__"]
    inside = np.s_[:, 2:-2, 2:-2]  # edge padding breaks the pattern at the border
    np.testing.assert_allclose(y[inside], gain * plain[inside], atol=1e-4)


def test_noise_changes_the_image_in_proportion_to_the_gains(small, layers_of, z):
    params = small[1].generator.params
    head = params["head_16"]

    def change(gain):
        changed = {**params, "head_16": {**head, "noise_gain": gain}}
        image = layers_of("generator", changed, z, LABEL)["head_16"]["image"]
        return image["__call__"][0] - silent

    zero = jnp.zeros_like(head["noise_gain"])
    silent = 0.0
    silent = change(zero)
    once, twice = change(zero.at[3].set(0.1)), change(zero.at[3].set(0.2))
    assert jnp.abs(once).max() > 1e-3
    np.testing.assert_allclose(twice, 2 * once, atol=1e-4)


def test_generated_image_is_the_deemphasized_output_of_the_head(small, layers_of, z):
    params = small[1].generator.params
    head = layers_of("generator", params, z, LABEL)["head_16"]
    found = emphasize(jnp.arctanh(small[2](z, LABEL)))
    np.testing.assert_allclose(found, head["image"]["__call__"][0], atol=1e-4)


def test_discriminator_compares_images_only_within_class_and_group(small, image):
    gan, _, _, discriminate = small
    assert gan.group_size == 4
    before, after = discriminate(image), discriminate(image.at[7].set(0))
    first_group = jax.tree.map(lambda x: x[:4], (before, after))
    chex.assert_trees_all_equal(*first_group)
    different = before.score != after.score
    np.testing.assert_array_equal(jnp.nonzero(different)[0], [5, 7])  # of one class


@pytest.fixture(scope="module")
def gan_bfloat16():
    """The GAN of `small` with bfloat16 as its compute dtype."""
    config = tiny.tiny_config(16)
    config.compute_dtype = "bfloat16"
    return tiny.build(config)


def test_bfloat16_networks_return_float32_close_to_float32_networks(
    small, gan_bfloat16, z, image
):
    _, state, generate, discriminate = small
    g, d = {"params": state.generator.params}, {"params": state.discriminator.params}
    fake = jax.jit(gan_bfloat16.generator.apply)(g, z, LABEL)
    output = jax.jit(gan_bfloat16.discriminator.apply)(d, image)
    pairs = ((fake, generate(z, LABEL)), (output, discriminate(image)))
    for rounded, exact in pairs:
        chex.assert_trees_all_equal_dtypes(rounded, exact)
        chex.assert_trees_all_close(rounded, exact, atol=0.05)
        assert any((a != b).any() for a, b in zip(rounded, exact, strict=True))


def test_bfloat16_networks_have_float32_weights_and_gradients(gan_bfloat16, small):
    params = small[1].discriminator.params
    image = jnp.linspace(-1, 1, 4 * 16 * 16).reshape(4, 16, 16, 1)

    def gradient(gan):
        def total_score(params):
            return gan.discriminator.apply({"params": params}, image).score.sum()

        return jax.jit(jax.grad(total_score))(params)

    exact, rounded = gradient(small[0]), gradient(gan_bfloat16)
    initial = tiny.initial_state(gan_bfloat16).discriminator.params
    for tree in (rounded, initial):
        assert {x.dtype for x in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    a, b = (jax.flatten_util.ravel_pytree(tree)[0] for tree in (exact, rounded))
    assert a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b) > 0.99


def test_gradient_penalty_is_float32_in_bfloat16_networks(gan_bfloat16, small, image):
    params, step = small[1].discriminator.params, jnp.zeros((), jnp.int32)
    zeros = jax.tree.map(jnp.zeros_like, params)

    @functools.partial(jax.jit, static_argnums=0)
    def penalty(gan, params, image):
        return lazy_gradient_penalty(gan, params, image, image, step, zeros)

    exact, rounded = (penalty(g, params, image) for g in (small[0], gan_bfloat16))
    chex.assert_trees_all_equal(exact, rounded)


def test_gradient_of_the_penalty_is_finite_for_blank_images(small):
    gan, state, _, _ = small

    @jax.jit
    @jax.grad
    def gradient(params, image):
        def score(x):
            return gan.discriminator.apply({"params": params}, x).score

        return gradient_penalty(score, image).mean()

    for grey in (-1.0, 0.0):
        image = jnp.full((4, 16, 16, 1), grey)
        chex.assert_tree_all_finite(gradient(state.discriminator.params, image))
