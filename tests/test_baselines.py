"""The baselines of benchmarks.speed: their networks, losses and augmentation."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from flax import traverse_util

from benchmarks.baselines import published
from cxr_gan.training import augmentation, train_step

LIBRARIES = ("torch", "keras")
LEARNING_RATE = 1e-3


class InTorch:
    """`torch_baseline`, with NumPy arrays in the layout of cxr_gan."""

    def __init__(self, settings, **options):
        torch = pytest.importorskip(
            "torch", reason="PyTorch is not installed: pip install -e '.[bench]'"
        )
        from benchmarks.baselines import torch_baseline

        torch.manual_seed(0)
        self.baseline = torch_baseline.TorchBaseline(settings, **options)
        self.tensor = torch.from_numpy
        self.augment_tensor = torch_baseline.augment

    def load(self, params_d, params_g):
        """Copies the parameters of cxr_gan."""
        for network, params in (
            (self.baseline.d, params_d),
            (self.baseline.g, params_g),
        ):
            unused = dict(network.named_parameters())
            for path, value in traverse_util.flatten_dict(params).items():
                name = ".".join(filter(None, map(torch_name, path)))
                weight = unused.pop(name)
                value = in_torch_layout(np.array(value), path).reshape(weight.shape)
                weight.data.copy_(self.tensor(value))
            assert not unused

    def train_step(self, z):
        return [x.item() for x in self.baseline.train_step(self.tensor(z))]

    def augment(self, image, settings):
        image = self.tensor(image).permute(0, 3, 1, 2)
        return self.augment_tensor(image, settings).permute(0, 2, 3, 1).numpy()


def torch_name(part: str) -> str:
    """kernel -> weight, head_32 -> head; "" where PyTorch has no such level."""
    renamed = {"Embed_0": "embed", "embedding": "weight", "kernel": "weight"}
    renamed |= {"scale": "weight", "conv": ""}
    if part.startswith("block_"):
        return f"blocks.{part}"
    return renamed.get(part, without_size(part))


def without_size(part: str) -> str:
    """head_32 -> head, stem_32 -> stem; others unchanged."""
    return re.sub(r"^(head|stem)_\d+$", r"\1", part)


def in_torch_layout(value: np.ndarray, path: tuple[str, ...]) -> np.ndarray:
    if path[-1] != "kernel":
        return value
    return np.moveaxis(value, (-1, -2), (0, 1)).copy()


class InKeras:
    """`keras_baseline`, with NumPy arrays in the layout of cxr_gan."""

    def __init__(self, settings):
        keras = pytest.importorskip("keras", reason="Keras is not installed")
        from benchmarks.baselines import keras_baseline

        keras.utils.set_random_seed(0)
        self.settings, self.gan = settings, keras_baseline.KerasBaseline(settings)
        self.augment_tensor = keras_baseline.augment

    def load(self, params_d, params_g):
        """Copies the parameters of cxr_gan."""
        for network, params in ((self.gan.d, params_d), (self.gan.g, params_g)):
            unused = {w.path: w for w in network.weights}
            for path, value in traverse_util.flatten_dict(params).items():
                parts = [*filter(None, map(keras_name, path[:-1]))]
                renamed = {"scale": "gamma", "embedding": "embeddings"}
                last = renamed.get(path[-1], path[-1])
                if "norm" in parts[-1] and last == "bias":
                    last = "beta"
                if last == "noise_gain":
                    parts[-1], last = "head_noise", "gain"
                weight = unused.pop(f"{'_'.join(parts)}/{last}")
                weight.assign(np.array(value).reshape(weight.shape))
            assert not unused

    def train_step(self, z):
        losses = self.gan.update(*map(np.asarray, self.settings.batch()), z)
        return [x.numpy() for x in losses.values()]

    def augment(self, image, settings):
        return self.augment_tensor(image, settings).numpy()


def keras_name(part: str) -> str:
    """head_32 -> head; "" where Keras has no such level."""
    renamed = {"Embed_0": "embed", "conv": ""}
    return renamed.get(part, without_size(part))


ADAPTERS = {
    "torch": InTorch,
    "torch, not tuned": functools.partial(InTorch, tuned=False),
    "keras": InKeras,
}


@pytest.fixture(scope="module")
def two_steps():
    """Settings, initial state, and latents and losses of two steps, not augmented."""
    config = tiny.tiny_config(32)  # the smallest with a norm in a block of D
    config.batch_size = 8
    config.balance.enabled = False
    config.lr_decay_fraction = config.loss.spectrum_weight = 0.0
    config.augment.update(dict.fromkeys(augmentation.POLICIES, 0.0))
    settings = published.settings_of(config)
    settings = dataclasses.replace(settings, learning_rate=LEARNING_RATE)
    adam = optax.adam(LEARNING_RATE, b1=settings.beta1, b2=settings.beta2)
    gan = dataclasses.replace(tiny.build(config), optimizer_d=adam, optimizer_g=adam)
    image, label = settings.batch()
    batch = {"image": image[None], "label": label[None]}
    rng = tiny.key(1)

    @functools.partial(jax.vmap, axis_name=train_step.AXIS, in_axes=(None, 0))
    def step(state, shard):
        step_rng = jax.random.fold_in(rng, state.step)
        inputs = train_step.prepare_inputs(gan, shard, step_rng)
        return train_step.train_step(gan, state, shard, rng), inputs.z

    initial = tiny.with_noise(tiny.initial_state(gan))
    steps, state = [], initial
    names = ("d/adversarial", "d/class", "d/r1")
    names += ("g/adversarial", "g/class", "g/diversity")
    for _ in range(2):
        ((state, metrics), z) = jax.tree.map(
            lambda x: x[0], jax.jit(step)(state, batch)
        )
        steps.append((np.array(z), [float(metrics[name]) for name in names]))
    return settings, initial, steps


@pytest.mark.parametrize("library", ADAPTERS)
def test_two_steps_have_the_same_losses(library, two_steps):
    settings, initial, steps = two_steps
    baseline = ADAPTERS[library](settings)
    baseline.load(initial.discriminator.params, initial.generator.params)
    for z, losses in steps:
        np.testing.assert_allclose(baseline.train_step(z), losses, rtol=1e-3, atol=1e-6)
    (_, first), (_, second) = steps
    assert first[2] > 0 == second[2]  # R1 was evaluated once
    assert first[3] != second[3]


@pytest.mark.parametrize("policy", augmentation.POLICIES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_augmentation_changes_images_as_strongly(library, policy, two_steps):
    settings = dataclasses.replace(two_steps[0], **{policy: 0.3})
    size = settings.resolution
    image = np.random.default_rng(0).uniform(-1, 1, (8000, size, size, 1)) + 0.5
    image = image.astype(np.float32)
    keys = jax.random.split(tiny.key(0), len(image))
    augment = jax.jit(augmentation.augment, static_argnums=2)
    expected = augment(image, keys, ((policy, 0.3),))
    actual = ADAPTERS[library](settings).augment(image, settings)
    changes = [jnp.abs(x - image).mean((1, 2, 3)) for x in (actual, expected)]
    for q in (0.25, 0.5, 0.75):
        np.testing.assert_allclose(
            *(jnp.quantile(change, q) for change in changes), rtol=0.15
        )
