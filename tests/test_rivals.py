"""The rivals of benchmarks.speed do what we do: same networks, losses, augmentation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from tiny import CLASS_NAMES, fresh_state, key, tiny_config

from benchmarks.rivals import published as configs
from cxr_gan import augment, gan, step

LIBRARIES = ("torch", "keras")
RATE = 1e-3


class InTorch:
    """`torch_rival`, spoken to in NumPy and in our layout."""

    def __init__(self, rules, **options):
        torch = pytest.importorskip(
            "torch", reason="PyTorch is not installed: pip install -e '.[bench]'"
        )
        from benchmarks.rivals import torch_rival

        torch.manual_seed(0)
        self.rival = torch_rival.TorchRival(rules, **options)
        self.tensor = torch.from_numpy
        self.augmented = torch_rival.augment

    def take(self, params_d, params_g):
        """Our weights."""
        for network, params in ((self.rival.d, params_d), (self.rival.g, params_g)):
            named = dict(network.named_parameters())
            for path, value in traverse_util.flatten_dict(params).items():
                words = [w for w in map(torch_word, path) if w]
                weight = named.pop(".".join(words))
                value = in_torch_layout(np.array(value), path).reshape(weight.shape)
                weight.data.copy_(self.tensor(value))
            assert not named

    def count(self):
        return [
            sum(p.numel() for p in network.parameters())
            for network in (self.rival.d, self.rival.g)
        ]

    def draw(self, z, label):
        image = self.rival.g(self.tensor(z), self.tensor(label.astype(np.int64)))
        return image.detach().permute(0, 2, 3, 1).numpy()

    def judge(self, image):
        image = self.tensor(image).permute(0, 3, 1, 2)
        return [x.detach().numpy() for x in self.rival.d(image)]

    def round(self, z):
        return [x.item() for x in self.rival.round(self.tensor(z))]

    def augment(self, image, rules):
        image = self.augmented(self.tensor(image).permute(0, 3, 1, 2), rules)
        return image.permute(0, 2, 3, 1).numpy()


def torch_word(word: str) -> str:
    """DownBlock_1 -> blocks.1; kernel -> weight; "" where PyTorch has no such level."""
    renamed = {"Embed_0": "pathology", "embedding": "weight", "kernel": "weight"}
    renamed |= {"scale": "weight", "conv": ""}
    if "Block_" in word:
        return f"blocks.{word.split('_')[1]}"
    return renamed.get(word, word)


def in_torch_layout(value: np.ndarray, path: tuple[str, ...]) -> np.ndarray:
    if path[-1] != "kernel":
        return value
    return np.moveaxis(value, (-1, -2), (0, 1)).copy()


class InKeras:
    """`keras_rival`, the same way."""

    def __init__(self, rules):
        keras = pytest.importorskip("keras", reason="Keras is not installed")
        from benchmarks.rivals import keras_rival

        keras.utils.set_random_seed(0)
        self.rules, self.gan = rules, keras_rival.KerasGan(rules)
        self.augmented = keras_rival.augment

    def take(self, params_d, params_g):
        """Our weights."""
        for network, params in ((self.gan.d, params_d), (self.gan.g, params_g)):
            named = {w.path: w for w in network.weights}
            for path, value in traverse_util.flatten_dict(params).items():
                words = [w for w in map(keras_word, path[:-1]) if w]
                names = {"scale": "gamma", "embedding": "embeddings"}
                last = names.get(path[-1], path[-1])
                if "norm" in words[-1] and last == "bias":
                    last = "beta"
                weight = named.pop(f"{'_'.join(words)}/{last}")
                weight.assign(np.array(value).reshape(weight.shape))
            assert not named

    def count(self):
        return [self.gan.d.count_params(), self.gan.g.count_params()]

    def draw(self, z, label):
        return self.gan.g([z, label]).numpy()

    def judge(self, image):
        realness, logits = self.gan.d(image)
        return [realness.numpy()[:, 0], logits.numpy()]

    def round(self, z):
        losses = self.gan.round(*map(np.asarray, self.rules.batch()), z)
        return [x.numpy() for x in losses.values()]

    def augment(self, image, rules):
        return self.augmented(image, rules).numpy()


def keras_word(word: str) -> str:
    renamed = {"Embed_0": "pathology", "conv": ""}
    if "Block_" in word:
        return f"block{word.split('_')[1]}"
    return renamed.get(word, word)


RIVALS = {
    "torch": InTorch,
    "torch, as tutorials write it": functools.partial(InTorch, tuned=False),
    "keras": InKeras,
}


@pytest.fixture(scope="module")
def published():
    """The published game and weights, moved off their zeros and ones."""
    config = configs.measured(8)
    game = gan.build(config, CLASS_NAMES)
    draw = np.random.default_rng(0)
    start = jax.tree.map(
        lambda x: x + 0.05 * draw.standard_normal(x.shape, np.float32),
        fresh_state(game),
    )
    return configs.rules_of(config), game, start


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_networks_are_ours_in_size_and_in_what_they_compute(library, published):
    rules, game, start = published
    rival = RIVALS[library](rules)
    params = start.discriminator.params, start.generator.params
    sizes = [sum(x.size for x in jax.tree.leaves(p)) for p in params]
    assert rival.count() == sizes
    rival.take(*params)
    draw = np.random.default_rng(1)
    z = draw.standard_normal((8, rules.latent_size), np.float32)
    label = np.arange(8, dtype=np.int32) % 2
    image = jax.jit(game.generator.apply)({"params": params[1]}, z, label)
    np.testing.assert_allclose(rival.draw(z, label), image, atol=1e-4)
    assert np.std(image) > 0.1
    shown = draw.uniform(-1, 1, (8, 64, 64, 1)).astype(np.float32)
    seen = jax.jit(game.discriminator.apply)({"params": params[0]}, shown)
    realness, logits = rival.judge(shown)
    np.testing.assert_allclose(realness, seen.realness, atol=1e-4)
    np.testing.assert_allclose(logits, seen.pathology, atol=1e-4)
    assert np.std(realness) > 1e-3


@pytest.fixture(scope="module")
def rounds():
    """Rules, weights, and of two rounds without augmentation: noise, and losses."""
    config = tiny_config(16)
    config.batch_size = 8
    config.balance.enabled, config.sharpen = False, 0.0
    config.augment = dict.fromkeys(config.augment, 0.0)
    rules = dataclasses.replace(configs.rules_of(config), learning_rate=RATE)
    adam = optax.adam(RATE, b1=rules.beta1, b2=rules.beta2)
    game = gan.build(config, CLASS_NAMES)
    game = dataclasses.replace(game, optimizer_d=adam, optimizer_g=adam)
    image, label = rules.batch()
    start, batch = fresh_state(game), {"image": image[None], "label": label[None]}

    @functools.partial(jax.vmap, axis_name=step.AXIS, in_axes=(None, 0))
    def play(state, share):
        dealt = step.deal(game, share, jax.random.fold_in(key(1), state.step))
        return step.train_step(game, state, share, key(1)), dealt.z

    played, state = [], start
    names = ("d/adversarial", "d/class", "d/penalty")
    names += ("g/adversarial", "g/class", "g/repetition")
    for _ in range(2):
        ((state, metrics), z) = jax.tree.map(
            lambda x: x[0], jax.jit(play)(state, batch)
        )
        played.append((np.array(z), [float(metrics[name]) for name in names]))
    return rules, start, played


@pytest.mark.parametrize("library", RIVALS)
def test_two_rounds_have_our_losses(library, rounds):
    rules, start, played = rounds
    rival = RIVALS[library](rules)
    rival.take(start.discriminator.params, start.generator.params)
    for z, losses in played:
        np.testing.assert_allclose(rival.round(z), losses, rtol=1e-3, atol=1e-6)
    (_, first), (_, second) = played
    assert first[2] > 0 == second[2]  # the penalty was due once
    assert first[3] != second[3]


@pytest.mark.parametrize("policy", augment.POLICIES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_rival_augments_as_strongly_as_we_do(library, policy, rounds):
    rules = dataclasses.replace(rounds[0], **{policy: 0.3})
    image = np.random.default_rng(0).uniform(-1, 1, (8000, 16, 16, 1)) + 0.5
    image = image.astype(np.float32)
    keys = jax.random.split(key(0), len(image))
    own = jax.jit(augment.augment, static_argnums=2)(image, keys, ((policy, 0.3),))
    theirs = RIVALS[library](rules).augment(image, rules)
    change, expected = (jnp.abs(x - image).mean((1, 2, 3)) for x in (theirs, own))
    for share in (0.25, 0.5, 0.75):
        near = functools.partial(jnp.quantile, q=share)
        np.testing.assert_allclose(near(change), near(expected), rtol=0.15)
