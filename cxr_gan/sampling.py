"""From a trained generator to images: `load` it, then `sample` from it."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from cxr_gan import disk, images, request, shelf
from cxr_gan.gan import GeneratorSpec
from cxr_gan.models.backend import cores, on_cpu, side_by_side
from cxr_gan.request import Labels, Rng


class GeneratorParams(struct.PyTreeNode):
    """A generator's weights, and beside them what it takes to build it.

    A pytree: jit, vmap and tree.map see the weights alone; the spec is static.
    """

    params: Any
    spec: GeneratorSpec = struct.field(pytree_node=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels stand for; index = label."""
        return self.spec.class_names


def sample(
    params: GeneratorParams,
    labels: Labels,
    rng: Rng,
    *,
    start: int | jax.Array = 0,
    truncation: float | jax.Array = 1.0,
) -> jax.Array:
    """Draws one image for each label.

    Image i depends on (rng, start + i, labels[i]) alone: any division of a request into
    calls gives the same images, and another label is answered from the same noise.
    Outside jit all divisions run one compiled program and agree bit for bit; but an
    image asked for alone has a program of its own, as it has within jit, vmap or grad:
    these agree with the others up to rounding, 1e-5.

    Args:
        params: what `load` returns.
        labels: integers [n], 0..K-1; outside of jit also n class names, as they are
            spelt in `params.class_names`. Within jit, where values cannot be looked at,
            a label out of range gives an image of NaN.
        rng: an int from 0 to 2**32 - 1, a typed key (`jax.random.key`), or an old-style
            one (`jax.random.PRNGKey`); an int and the keys made of it mean the same.
        start: index of the first image: the last n - m of n images are those of
            labels[m:] with start=m.
        truncation: factor of the noise. 1 draws as trained; towards 0 images become
            more typical and less varied, and at 0 each class has but one; above 1 more
            varied and less like radiographs. For a normal latent, scaling stands in
            for the resampling of outliers in Brock et al. 2019, "Large Scale GAN
            Training", section 3.1 (after Marchesi 2017).

    Returns:
        float32 [n, s, s, 1] in [0, 1].

    Raises:
        TypeError, ValueError: an argument is of another type or out of its range.
    """
    if not isinstance(params, GeneratorParams):
        raise TypeError(
            f"params is a {type(params).__name__}; pass what cxr_gan.load(...) returns"
        )
    label = request.as_labels(labels, params.class_names)
    key = request.as_key(rng)
    first = request.as_start(start, len(label))
    factor = request.as_truncation(truncation)
    if not len(label):
        return jnp.zeros((0, params.spec.resolution, params.spec.resolution, 1))
    in_trace = request.traced((params, label, key, first, factor))
    draw = _sample_in_trace if in_trace else _sample_in_chunks
    return draw(params, label, key, first, factor)


def load(model: str | os.PathLike[str]) -> GeneratorParams:
    """The averaged (EMA) generator of a run, or of a published model.

    Args:
        model: the --workdir of a training, for its newest checkpoint. With "@best"
            after it, that which was nearest to val (lowest `eval/kid`) when the run
            looked; with "@STEP", as "@12500", that of a step; "@latest" is the newest.
            Or a published model: the path of its .npz, or the name of one that came
            with the package. A folder of that very name is a run, and comes first.

    Raises:
        FileNotFoundError: no such run or model, or no such checkpoint in it.
        ValueError: it is damaged, or of another version of cxr_gan; what follows the @
            is none of these; a published model is asked for its checkpoint; it is an
            address, as gs://bucket/runs/a.
    """
    return load_with_meta(model)[0]


def load_with_meta(
    model: str | os.PathLike[str],
) -> tuple[GeneratorParams, dict[str, Any]]:
    """As `load`, and what is known of it.

    {"step", "kimg", "config", "dataset", "figures", "score"}: figures are those of val
    at that step, none where the run did not look, and score is the one of @best. Of a
    published model, its card (see `cxr_gan.publish`), which has these as well.
    """
    name = os.fspath(model)
    disk.local(name, "model")
    published = shelf.find(name)
    if published is not None:
        params, meta = shelf.read(published)
    else:
        from cxr_gan import checkpoint  # Orbax takes a while; sampling needs it not

        params, meta = checkpoint.load_ema(*_split(name))
    spec = GeneratorSpec.from_json(meta["spec"], name)
    return GeneratorParams(jax.tree.map(jnp.asarray, params), spec), meta


def _split(model: str) -> tuple[str, int | str]:
    """Workdir and checkpoint of "runs/a@best"; a folder of that very name is itself."""
    workdir, at, word = model.rpartition("@")
    if not at or pathlib.Path(model).is_dir():
        return model, "latest"
    if word in ("best", "latest"):
        return workdir, word
    if word.isdecimal():
        return workdir, int(word)
    raise ValueError(
        f"{model!r}: {word!r} names no checkpoint; after the @ write best, latest or a "
        "step, as 12500"
    )


def fingerprint(params: GeneratorParams) -> str:
    """16 hex digits of the sha256 of every weight and of the spec: the model's name."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(params.spec)).encode())
    for path, leaf in jax.tree_util.tree_flatten_with_path(params.params)[0]:
        leaf = np.ascontiguousarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()[:16]


def chunk() -> int:
    """Images of one program; a request is cut at multiples of it. A power of two."""
    return 8 if on_cpu() else 128


def at_once() -> int:
    """Images that are drawn in the same time: on CPUs each core has a chunk."""
    return chunk() * (cores() if on_cpu() else 1)


@functools.partial(jax.jit, static_argnums=0)
def _draw(
    spec: GeneratorSpec,
    params: Any,
    label: jax.Array,
    key: jax.Array,
    first: jax.Array,
    truncation: jax.Array,
) -> jax.Array:
    """Images first, first + 1, ...; label int32 [n] -> float32 [n, s, s, 1]."""
    index = first + jnp.arange(len(label), dtype=jnp.uint32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    size = (spec.latent_size,)
    z = jax.vmap(lambda k: jax.random.normal(k, size, jnp.float32))(keys)
    drawn: Any = spec.build().apply({"params": params}, truncation * z, label)
    return images.to_unit(drawn)


def _sample_in_chunks(
    params: GeneratorParams,
    label: np.ndarray,
    key: jax.Array,
    start: int,
    truncation: float,
) -> jax.Array:
    """Whole chunks, cut where index is a multiple of `chunk()`, of which some is kept.

    So an image has its place in its chunk by its index, whatever is asked for around
    it, and not even the order of a sum can differ between two requests. One image alone
    is not worth a chunk.
    """
    size = chunk() if len(label) > 1 else 1
    before = start % size
    after = -(before + len(label)) % size
    asked = np.pad(label, (before, after)) if before or after else label
    places = asked.reshape(-1, size)
    firsts = range(start - before, start + len(label) + after, size)
    weights = params.params
    if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(weights)):
        weights = jax.device_put(weights)

    def draw(at: tuple[int, np.ndarray]) -> jax.Array:
        first, y = np.uint32(at[0]), at[1]
        return _draw(params.spec, weights, y, key, first, np.float32(truncation))

    drawn = side_by_side(draw, list(zip(firsts, places, strict=True)))
    whole = drawn[0] if len(drawn) == 1 else jnp.concatenate(drawn)
    return whole[before : before + len(label)] if before or after else whole


def _sample_in_trace(
    params: GeneratorParams,
    label: jax.Array | np.ndarray,
    key: jax.Array,
    start: int | jax.Array,
    truncation: float | jax.Array,
) -> jax.Array:
    """The same images within jit, vmap or grad; a loop, for a long request's memory."""
    n, size = len(label), min(len(label), chunk())
    label = jnp.where(label < 0, len(params.class_names), label)  # -1 is not the last
    places = jnp.pad(label, (0, -n % size)).reshape(-1, size)
    firsts = jnp.uint32(start) + jnp.arange(0, n, size, dtype=jnp.uint32)
    drawn = jax.lax.map(
        lambda at: _draw(params.spec, params.params, at[0], key, at[1], truncation),
        (places, firsts),
    )
    return drawn.reshape(-1, *drawn.shape[2:])[:n]
