"""The operations of a training step, one by one, with their number of calls per step.

D's update processes real and generated images in one batch, G's update only generated
images. A step therefore runs D forward, and backward to its images, one and a half
times on the batch of D's update. The R1 penalty is not included.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

from benchmarks.timing import Operation, compiled_call, noise
from cxr_gan.models.conv import Conv1x1, Conv3x3
from cxr_gan.models.cpu import bfloat16, convolution
from cxr_gan.models.cpu.convolution import convolve
from cxr_gan.models.layers import AdaptiveLayerNorm, LayerNorm, downsample, upsample
from cxr_gan.runtime.cpu import has_fast_bfloat16
from cxr_gan.training.augmentation import augment
from cxr_gan.training.gan import GanDefinition
from cxr_gan.training.train_state import TrainState

FORWARD, TO_IMAGE, TO_WEIGHTS = (
    f"convolutions, {way}" for way in ("forward", "to the image", "to the weights")
)


def stock(x: jax.Array, w: jax.Array) -> jax.Array:
    """A 3 x 3 convolution with the gradients of JAX and XLA."""
    pad = [(1, 1), (1, 1)]
    return lax.conv_general_dilated(
        x, w, (1, 1), pad, dimension_numbers=convolution.LAYOUT
    )


def ours(x: jax.Array, w: jax.Array) -> jax.Array:
    """The same convolution as the networks compute it."""
    return convolve(x, w, 1)


def alternatives() -> dict[str, Callable[[jax.Array, jax.Array], jax.Array]]:
    """Other implementations: XLA's own, and bfloat16 products if the CPU has them."""
    fast = has_fast_bfloat16()
    return {"stock": stock} | ({"bfloat16": bfloat16.convolve} if fast else {})


def input_gradient(conv: Callable[..., Any], x: Any, w: Any, dy: Any) -> Any:
    """The gradient of x."""
    return jax.vjp(lambda x: conv(x, w), x)[1](dy)[0]


def weight_gradient(conv: Callable[..., Any], x: Any, w: Any, dy: Any) -> Any:
    """The gradient of w."""
    return jax.vjp(lambda w: conv(x, w), w)[1](dy)[0]


def _unchunked_weight_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """The gradient of w, of all examples at once."""
    return convolution._correlate(x, dy, 1)


# Kind -> function of a convolution, x, w and the gradient of its output.
CONVOLUTION_PASSES: dict[str, Callable[..., Any]] = {
    FORWARD: lambda conv, x, w, dy: conv(x, w),
    TO_IMAGE: input_gradient,
    TO_WEIGHTS: weight_gradient,
}


def find_calls(network: nn.Module, kinds: tuple[type, ...], *inputs: Any) -> list[Any]:
    """(module, input shape) of each call of a module of these types, in order."""
    calls = []

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, kinds) and context.method_name == "__call__":
            calls.append((context.module, args[0].shape))
        return call(*args, **kwargs)

    def forward(rng: jax.Array) -> Any:
        with nn.intercept_methods(record):
            return network.init(rng, *inputs)

    jax.eval_shape(forward, jax.random.key(0))
    return calls


def convolutions(gan: GanDefinition, n: int) -> Iterator[Operation]:
    """Every distinct convolution of both networks, forward and both gradients."""
    z, label = noise(n, gan.latent_size), jnp.zeros(n, jnp.int32)
    image = noise(2 * n, gan.resolution, gan.resolution, 1)
    calls_g = find_calls(gan.generator, (Conv3x3,), z, label)
    calls_d = find_calls(gan.discriminator, (Conv3x3,), image)
    counts: dict[tuple[str, tuple[int, ...], int], list[float]] = {}
    for network, calls in (("G", calls_g), ("D", calls_d)):
        for index, (module, shape) in enumerate(calls):
            per_step = counts.setdefault((network, shape, module.features), [0, 0, 0])
            forward = 1.5 if network == "D" else 1.0
            # Only G's update needs the gradient of the pixels.
            to_image = 0.5 if network == "D" and index == 0 else forward
            for i, times in enumerate((forward, to_image, 1.0)):
                per_step[i] += times
    for (network, shape, features), per_step in counts.items():
        batch, side, _, c = shape
        x, w = noise(*shape), noise(3, 3, c, features)
        dy = noise(batch, side, side, features)
        name = f"{network}, {side} px, {c} to {features}"
        taps = (3 * side - 2) ** 2  # of all pixels, without those on the padding
        flops = 2.0 * taps * c * features * batch
        for (kind, compute), times in zip(
            CONVOLUTION_PASSES.items(), per_step, strict=True
        ):
            run = compiled_call(functools.partial(compute, ours), x, w, dy)
            others = {
                other: compiled_call(functools.partial(compute, conv), x, w, dy)
                for other, conv in alternatives().items()
            }
            if kind == TO_WEIGHTS:
                others["in one go"] = compiled_call(_unchunked_weight_gradient, x, dy)
            yield Operation(kind, name, times, run, flops, others)


def forward_and_backward(
    kind: str,
    name: str,
    function: Callable[..., Any],
    *inputs: Any,
    per_step: float = 1.0,
) -> Iterator[Operation]:
    """A function of arrays, and its vector-Jacobian product."""
    out = jax.eval_shape(function, *inputs)
    gradients = jax.tree.map(lambda x: noise(*x.shape), out)
    yield Operation(
        kind, f"{name}, forward", per_step, compiled_call(function, *inputs)
    )
    yield Operation(
        kind,
        f"{name}, back",
        per_step,
        compiled_call(
            lambda dy, *xs: jax.vjp(function, *xs)[1](dy), gradients, *inputs
        ),
    )


def norms(gan: GanDefinition, n: int) -> Iterator[Operation]:
    """All LayerNorms of each network, timed together."""
    z, label = noise(n, gan.latent_size), jnp.zeros(n, jnp.int32)
    condition = noise(n, gan.latent_size + gan.generator.class_embedding_dim)
    image = noise(2 * n, gan.resolution, gan.resolution, 1)
    networks = (
        (
            "G",
            1.0,
            AdaptiveLayerNorm,
            find_calls(gan.generator, (AdaptiveLayerNorm,), z, label),
        ),
        ("D", 1.5, LayerNorm, find_calls(gan.discriminator, (LayerNorm,), image)),
    )
    for name, per_step, kind, calls in networks:
        extra = (condition,) if kind is AdaptiveLayerNorm else ()
        xs = [noise(*shape) for _, shape in calls]
        weights = [kind().init(jax.random.key(0), x, *extra) for x in xs]

        def apply_all(
            weights: Any, xs: Any, kind: Any = kind, extra: Any = extra
        ) -> Any:
            pairs = zip(weights, xs, strict=True)
            return [kind().apply(w, x, *extra) for w, x in pairs]

        yield from forward_and_backward(
            "LayerNorm",
            f"{len(xs)} of {name}",
            apply_all,
            weights,
            xs,
            per_step=per_step,
        )


def skips(gan: GanDefinition, n: int) -> Iterator[Operation]:
    """The 1 x 1 convolutions of the skip connections of each network, together."""
    z, label = noise(n, gan.latent_size), jnp.zeros(n, jnp.int32)
    image = noise(2 * n, gan.resolution, gan.resolution, 1)
    networks = (
        ("G", 1.0, find_calls(gan.generator, (Conv1x1,), z, label)),
        ("D", 1.5, find_calls(gan.discriminator, (Conv1x1,), image)),
    )
    for name, per_step, calls in networks:
        xs = [noise(*shape) for _, shape in calls]
        ws = [noise(shape[-1], module.features) for module, shape in calls]
        flops = sum(2.0 * x.size * w.shape[1] for x, w in zip(xs, ws, strict=True))

        def convolve_all(ws: Any, xs: Any) -> Any:
            pairs = zip(ws, xs, strict=True)
            return [
                Conv1x1(w.shape[1]).apply({"params": {"kernel": w}}, x)
                for w, x in pairs
            ]

        forward, backward = forward_and_backward(
            "skips", f"{len(xs)} of {name}", convolve_all, ws, xs, per_step=per_step
        )
        yield dataclasses.replace(forward, flops=flops)
        yield dataclasses.replace(backward, flops=2 * flops)


def resamplings(gan: GanDefinition, n: int) -> Iterator[Operation]:
    """Upsampling in G and downsampling in D: two in each block."""
    channels_g = gan.generator.channels
    channels_d = gan.discriminator.channels
    small = [noise(n, 4 * 2**i, 4 * 2**i, c) for i, c in enumerate(channels_g[1:])]
    half = gan.resolution // 2
    large = [
        noise(2 * n, half >> i, half >> i, c) for i, c in enumerate(channels_d[:-1])
    ]

    def each(function: Any) -> Any:
        return lambda xs: [function(x) for x in xs]

    yield from forward_and_backward(
        "upsample", f"{2 * len(small)} of G", each(upsample), small, per_step=2.0
    )
    yield from forward_and_backward(
        "downsample", f"{2 * len(large)} of D", each(downsample), large, per_step=3.0
    )


def updates(gan: GanDefinition, state: TrainState, n: int) -> Iterator[Operation]:
    """Augmentation, optimizers and EMA."""
    image = noise(n, gan.resolution, gan.resolution, 1)
    keys = jax.random.split(jax.random.key(0), n)
    forward, backward = forward_and_backward(
        "augmentation",
        f"{n} images",
        lambda x: augment(x, keys, gan.augment_policies),
        image,
    )
    # A step augments real images, and generated ones for D and for G.
    yield dataclasses.replace(forward, per_step=3.0)
    yield backward
    networks = (
        ("D", state.discriminator, gan.optimizer_d),
        ("G", state.generator, gan.optimizer_g),
    )
    for name, network, optimizer in networks:

        def step(network: Any, optimizer: Any = optimizer) -> Any:
            changes, opt_state = optimizer.update(
                network.params, network.opt_state, network.params
            )
            return optax.apply_updates(network.params, changes), opt_state

        yield Operation("Adam", name, 1.0, compiled_call(step, network))
    update_ema = functools.partial(optax.incremental_update, step_size=0.001)
    yield Operation(
        "EMA", "G", 1.0, compiled_call(update_ema, state.generator.params, state.ema)
    )


def step_operations(
    gan: GanDefinition, state: TrainState, n: int
) -> Sequence[Operation]:
    """All operations of a step of n images."""
    return [
        *convolutions(gan, n),
        *skips(gan, n),
        *norms(gan, n),
        *resamplings(gan, n),
        *updates(gan, state, n),
    ]
