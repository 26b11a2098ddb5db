"""The operations a training step is made of, each by itself, as often as a step has it.

D's turn sees real and generated images in one batch, G's turn generated ones alone, so
what D does forward, and backward to its images, is worth one and a half calls of the
first. The R1 penalty, in one of eight steps, is in none of these.
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

from benchmarks.timing import Operation, noise, ready
from cxr_gan.augment import augment
from cxr_gan.gan import Gan
from cxr_gan.models import bfloat16, convolution
from cxr_gan.models.backend import multiplies_bfloat16
from cxr_gan.models.convolution import Conv1x1, Conv3x3, convolve
from cxr_gan.models.layers import AdaptiveLayerNorm, LayerNorm, downsample, upsample
from cxr_gan.state import TrainState

FORWARD, TO_IMAGE, TO_WEIGHTS = (
    f"convolutions, {way}" for way in ("forward", "to the image", "to the weights")
)


def plain(x: jax.Array, w: jax.Array) -> jax.Array:
    """A 3 x 3 convolution whose gradients are left to XLA."""
    pad = [(1, 1), (1, 1)]
    return lax.conv_general_dilated(
        x, w, (1, 1), pad, dimension_numbers=convolution.LAYOUT
    )


def ours(x: jax.Array, w: jax.Array) -> jax.Array:
    """The same, as our networks do it."""
    return convolve(x, w, 1)


def others() -> dict[str, Callable[[jax.Array, jax.Array], jax.Array]]:
    """What it is compared with: XLA's own, and products of bfloat16 if the CPU can."""
    fast = multiplies_bfloat16()
    return {"stock": plain} | ({"bfloat16": bfloat16.convolve} if fast else {})


def of_image(conv: Callable[..., Any], x: Any, w: Any, dy: Any) -> Any:
    """The slope in x."""
    return jax.vjp(lambda x: conv(x, w), x)[1](dy)[0]


def of_weights(conv: Callable[..., Any], x: Any, w: Any, dy: Any) -> Any:
    """The slope in w."""
    return jax.vjp(lambda w: conv(x, w), w)[1](dy)[0]


def _in_one_go(x: jax.Array, dy: jax.Array) -> jax.Array:
    """The slope in w of all examples at once."""
    return convolution._correlate(x, dy, 1)


# By kind: functions of a convolution, x, w and the slope of its answer.
WAYS: dict[str, Callable[..., Any]] = {
    FORWARD: lambda conv, x, w, dy: conv(x, w),
    TO_IMAGE: of_image,
    TO_WEIGHTS: of_weights,
}


def calls(network: nn.Module, kinds: tuple[type, ...], *inputs: Any) -> list[Any]:
    """(module, shape of its input) of each call of such modules, in order."""
    found = []

    def note(proceed: Any, arguments: Any, named: Any, context: Any) -> Any:
        if isinstance(context.module, kinds) and context.method_name == "__call__":
            found.append((context.module, arguments[0].shape))
        return proceed(*arguments, **named)

    def forward(rng: jax.Array) -> Any:
        with nn.intercept_methods(note):
            return network.init(rng, *inputs)

    jax.eval_shape(forward, jax.random.key(0))
    return found


def convolutions(game: Gan, n: int) -> Iterator[Operation]:
    """Every distinct one of both networks, forward and in both slopes."""
    z, label = noise(n, game.latent_size), jnp.zeros(n, jnp.int32)
    image = noise(2 * n, game.resolution, game.resolution, 1)
    of_g = calls(game.generator, (Conv3x3,), z, label)
    of_d = calls(game.discriminator, (Conv3x3,), image)
    counts: dict[tuple[str, tuple[int, ...], int], list[float]] = {}
    for place, (player, found) in enumerate((("G", of_g), ("D", of_d))):
        for first, (module, shape) in enumerate(found):
            often = counts.setdefault((player, shape, module.features), [0, 0, 0])
            turns = 1.5 if place else 1.0
            to_image = 0.5 if place and not first else turns  # no further than pixels
            for i, times in enumerate((turns, to_image, 1.0)):
                often[i] += times
    for (player, shape, features), often in counts.items():
        batch, side, _, c = shape
        x, w = noise(*shape), noise(3, 3, c, features)
        dy = noise(batch, side, side, features)
        name = f"{player}, {side} px, {c} to {features}"
        taps = (3 * side - 2) ** 2  # of all places together; none on the zeros around
        flops = 2.0 * taps * c * features * batch
        for (kind, way), times in zip(WAYS.items(), often, strict=True):
            run = ready(functools.partial(way, ours), x, w, dy)
            beside = {
                named: ready(functools.partial(way, conv), x, w, dy)
                for named, conv in others().items()
            }
            if kind == TO_WEIGHTS:
                beside["in one go"] = ready(_in_one_go, x, dy)
            yield Operation(kind, name, times, run, flops, beside)


def there_and_back(
    kind: str, name: str, function: Callable[..., Any], *inputs: Any, worth: float = 1.0
) -> Iterator[Operation]:
    """A function of arrays alone, and what leads its slope back to them."""
    out = jax.eval_shape(function, *inputs)
    slopes = jax.tree.map(lambda x: noise(*x.shape), out)
    yield Operation(kind, f"{name}, forward", worth, ready(function, *inputs))
    yield Operation(
        kind,
        f"{name}, back",
        worth,
        ready(lambda dy, *xs: jax.vjp(function, *xs)[1](dy), slopes, *inputs),
    )


def norms(game: Gan, n: int) -> Iterator[Operation]:
    """All LayerNorms of each network together."""
    z, label = noise(n, game.latent_size), jnp.zeros(n, jnp.int32)
    condition = noise(n, game.latent_size + game.generator.embedding)
    image = noise(2 * n, game.resolution, game.resolution, 1)
    players = (
        (
            "G",
            1.0,
            AdaptiveLayerNorm,
            calls(game.generator, (AdaptiveLayerNorm,), z, label),
        ),
        ("D", 1.5, LayerNorm, calls(game.discriminator, (LayerNorm,), image)),
    )
    for name, worth, kind, found in players:
        also = (condition,) if kind is AdaptiveLayerNorm else ()
        xs = [noise(*shape) for _, shape in found]
        weights = [kind().init(jax.random.key(0), x, *also) for x in xs]

        def every(weights: Any, xs: Any, kind: Any = kind, also: Any = also) -> Any:
            pairs = zip(weights, xs, strict=True)
            return [kind().apply(w, x, *also) for w, x in pairs]

        yield from there_and_back(
            "LayerNorm", f"{len(xs)} of {name}", every, weights, xs, worth=worth
        )


def skips(game: Gan, n: int) -> Iterator[Operation]:
    """The 1 x 1 convolutions beside each block, of each network together."""
    z, label = noise(n, game.latent_size), jnp.zeros(n, jnp.int32)
    image = noise(2 * n, game.resolution, game.resolution, 1)
    players = (
        ("G", 1.0, calls(game.generator, (Conv1x1,), z, label)),
        ("D", 1.5, calls(game.discriminator, (Conv1x1,), image)),
    )
    for name, worth, found in players:
        xs = [noise(*shape) for _, shape in found]
        ws = [noise(shape[-1], module.features) for module, shape in found]
        flops = sum(2.0 * x.size * w.shape[1] for x, w in zip(xs, ws, strict=True))

        def multiply(ws: Any, xs: Any) -> Any:
            pairs = zip(ws, xs, strict=True)
            return [
                Conv1x1(w.shape[1]).apply({"params": {"kernel": w}}, x)
                for w, x in pairs
            ]

        forward, back = there_and_back(
            "skips", f"{len(xs)} of {name}", multiply, ws, xs, worth=worth
        )
        yield dataclasses.replace(forward, flops=flops)
        yield dataclasses.replace(back, flops=2 * flops)


def resamplings(game: Gan, n: int) -> Iterator[Operation]:
    """Doublings of G and halvings of D: two in each block."""
    wide, narrow = game.generator.widths, game.discriminator.widths
    small = [noise(n, 4 * 2**i, 4 * 2**i, c) for i, c in enumerate(wide[1:])]
    half = game.resolution // 2
    large = [noise(2 * n, half >> i, half >> i, c) for i, c in enumerate(narrow[:-1])]

    def each(function: Any) -> Any:
        return lambda xs: [function(x) for x in xs]

    yield from there_and_back(
        "upsample", f"{2 * len(small)} of G", each(upsample), small, worth=2.0
    )
    yield from there_and_back(
        "downsample", f"{2 * len(large)} of D", each(downsample), large, worth=3.0
    )


def bookkeeping(game: Gan, state: TrainState, n: int) -> Iterator[Operation]:
    """What a step does beside both networks."""
    image = noise(n, game.resolution, game.resolution, 1)
    keys = jax.random.split(jax.random.key(0), n)
    forward, back = there_and_back(
        "augmentation",
        f"{n} images",
        lambda x: augment(x, keys, game.policies),
        image,
    )
    yield dataclasses.replace(forward, per_step=3.0)  # real, generated for D and for G
    yield back
    players = (
        ("D", state.discriminator, game.optimizer_d),
        ("G", state.generator, game.optimizer_g),
    )
    for name, player, optimizer in players:

        def learn(player: Any, optimizer: Any = optimizer) -> Any:
            updates, memory = optimizer.update(
                player.params, player.opt_state, player.params
            )
            return optax.apply_updates(player.params, updates), memory

        yield Operation("Adam", name, 1.0, ready(learn, player))
    average = functools.partial(optax.incremental_update, step_size=0.001)
    yield Operation("EMA", "G", 1.0, ready(average, state.generator.params, state.ema))


def of_a_step(game: Gan, state: TrainState, n: int) -> Sequence[Operation]:
    """All of them, n images a step."""
    return [
        *convolutions(game, n),
        *skips(game, n),
        *norms(game, n),
        *resamplings(game, n),
        *bookkeeping(game, state, n),
    ]
