"""Loads a trained generator with `load` and generates images with `sample`."""

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

from cxr_gan.models import pixel_range
from cxr_gan.models.registry import GeneratorConfig
from cxr_gan.runtime import jax_config
from cxr_gan.runtime.cpu import available_cpus, on_cpu, threaded_map
from cxr_gan.sampling import arguments, pretrained
from cxr_gan.sampling.arguments import Labels, Rng
from cxr_gan.sampling.latents import chunk_size, draw, draw_block, on_arc
from cxr_gan.storage import files

# Fields of GeneratorConfig that version 0.1 named differently. `fingerprint` hashes the
# names of 0.1, so that published fingerprints stay valid.
NAMES_IN_FINGERPRINT = {"class_embedding_dim": "embedding"}


class GeneratorParams(struct.PyTreeNode):
    """A generator's weights and the configuration that builds its network.

    A pytree whose leaves are the weights; under jit, vmap and tree.map `config` is
    static.
    """

    params: Any
    config: GeneratorConfig = struct.field(pytree_node=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; index = label."""
        return self.config.class_names


@jax_config.pinned()
def sample(
    params: GeneratorParams,
    labels: Labels,
    rng: Rng | None = None,
    *,
    latents: jax.Array | np.ndarray | None = None,
    start: int | jax.Array = 0,
    truncation: float | jax.Array = 1.0,
) -> jax.Array:
    """Generates one image per label.

    Image i depends only on (rng, start + i, labels[i]), or on (latents[i], labels[i]):
    any division of a request into calls gives the same images, and changing a label
    keeps the image's latent. Outside jit, all divisions run one compiled program and
    agree bit for bit. A call with a single label, and a call within jit, vmap or grad,
    compiles its own program; these agree with the others up to rounding, 1e-5. The
    settings of `jax.config`, such as jax_threefry_partitionable and jax_enable_x64, do
    not change the images.

    Args:
        params: return value of `load`.
        labels: integers [n] from 0 to K-1; outside jit also n class names, spelt as in
            `params.class_names`. Within jit, where values cannot be checked, a label
            out of range gives an image of NaN.
        rng: an int from 0 to 2**32 - 1, a typed key (`jax.random.key`) or an old-style
            key (`jax.random.PRNGKey`). An int and the keys made from it are equivalent.
        latents: float [n, d], instead of rng; `latents(params, n, rng)` returns those
            of rng, with which the images are the same, bit for bit.
        start: index of the first image. The last n - m of n images are those of
            labels[m:] with start=m.
        truncation: factor of the latents. 1 is as in training. Towards 0, images become
            more typical and less varied, and at 0 all images of a class are equal.
            Above 1, they become more varied and less like radiographs. For a normal
            latent, scaling replaces the resampling of outliers in Brock et al. 2019,
            "Large Scale GAN Training", section 3.1 (after Marchesi 2017).

    Returns:
        float32 [n, s, s, 1] in [0, 1].

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        RuntimeError: the process is a fork of one that used JAX; see `load`.
    """
    if not isinstance(params, GeneratorParams):
        raise TypeError(
            f"params is a {type(params).__name__}; pass what cxr_gan.load(...) returns"
        )
    label = arguments.as_labels(labels, params.class_names)
    first = arguments.as_start(start, len(label))
    factor = arguments.as_truncation(truncation)
    source = _source_of_latents(params.config, rng, latents, len(label))
    if not len(label):
        return jnp.zeros((0, params.config.resolution, params.config.resolution, 1))
    traced = arguments.is_traced((params, label, source, first, factor))
    generate = _sample_traced if traced else _sample_in_chunks
    return generate(params, label, source, first, factor)


@jax_config.pinned()
def latents(
    params: GeneratorParams, n: int, rng: Rng, *, start: int | jax.Array = 0
) -> jax.Array:
    """The latents of the images that `sample` generates from rng.

    Args:
        params: return value of `load`.
        n: number of latents.
        rng: as in `sample`.
        start: index of the first latent.

    Returns:
        float32 [n, d]; latent i depends only on (rng, start + i).

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
    """
    return draw(params.config, n, rng, start)


@jax_config.pinned()
def interpolate(
    params: GeneratorParams,
    a: jax.Array | np.ndarray,
    b: jax.Array | np.ndarray,
    labels: Labels,
    steps: int,
) -> jax.Array:
    """Images between pairs of latents, at equal angles; see `latents.on_arc`.

    Args:
        params: return value of `load`.
        a: float [n, d], latents of the first images.
        b: float [n, d], latents of the last images.
        labels: of the n pairs, as in `sample`.
        steps: number of images of each pair, at least 2.

    Returns:
        float32 [n, steps, s, s, 1] in [0, 1].

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or value.
    """
    label = arguments.as_labels(labels, params.class_names)
    if steps < 2:
        raise ValueError(f"steps={steps} is less than 2: the first and the last image")
    first, last = (arguments.as_latents(z, len(label), params.config) for z in (a, b))
    z = on_arc(first, last, steps)
    images = sample(params, label.repeat(steps), latents=z.reshape(-1, z.shape[-1]))
    return images.reshape(len(label), steps, *images.shape[1:])


def load(model: str | os.PathLike[str]) -> GeneratorParams:
    """The averaged (EMA) generator of a training run or of a published model.

    Args:
        model: the --workdir of a training run, or a published model. The newest
            checkpoint of a run is loaded. A suffix selects another one: "@best" the one
            with the lowest `eval/kid` among those that do not copy training images;
            "@STEP", such as "@12500", the one of a step; "@latest" is the newest. For a
            published model, give the path of its .npz, or the name of one shipped with
            the package. An existing folder of that name is a run and takes precedence.

    Raises:
        FileNotFoundError: there is no such run or model, or no such checkpoint in it.
        ValueError: the files are damaged or were written by another version of cxr_gan;
            the suffix is none of these; a published model is given with a suffix; the
            model is a URL, such as gs://bucket/runs/a; JAX_PLATFORMS names a platform
            that JAX does not find.
        RuntimeError: the process is a fork of one that called `load` or `sample`; start
            it by "spawn".
    """
    return load_with_meta(model)[0]


@jax_config.pinned()
def load_with_meta(
    model: str | os.PathLike[str],
) -> tuple[GeneratorParams, dict[str, Any]]:
    """The generator, as `load` returns it, and its metadata.

    The metadata has the keys "step", "kimg", "config", "dataset", "generator",
    "metrics" and "score". "metrics" are those on the validation split at this step,
    empty if the run did not evaluate there. "score" is the value that "@best"
    minimises, or None. The metadata of a published model is its card (see
    `cxr_gan.publish`), which has all of these keys and more.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    name = os.fspath(model)
    files.require_local_path(name, "model")
    source = pretrained.resolve(name)
    if isinstance(source, pathlib.Path):
        params, meta = pretrained.load(source)
    else:
        # Imported here because Orbax is slow to import and only needed for runs.
        from cxr_gan.storage import checkpoint

        workdir, which = source
        params, meta = checkpoint.load_item(workdir, "ema", which)
        if "generator" not in meta:
            raise ValueError(
                f"{name}: another version of cxr_gan wrote the checkpoint, whose "
                'metadata has no "generator"; use the version that trained it'
            )
    config = pretrained.generator_config(meta["generator"], name)
    return GeneratorParams(jax.tree.map(jnp.asarray, params), config), meta


def fingerprint(params: GeneratorParams) -> str:
    """Identifies a model: 16 hex digits of the sha256 of its weights and config.

    The digest covers the config as JSON, and the path, dtype, shape and values of
    every weight.
    """
    config = {
        NAMES_IN_FINGERPRINT.get(key, key): value
        for key, value in dataclasses.asdict(params.config).items()
        if key != "base_resolution" or value  # if 0, left out as in old fingerprints
    }
    digest = hashlib.sha256(json.dumps(config).encode())
    for path, leaf in jax.tree_util.tree_flatten_with_path(params.params)[0]:
        leaf = np.ascontiguousarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()[:16]


def images_in_flight() -> int:
    """Images generated at the same time: one chunk per core on CPUs, else one chunk."""
    return chunk_size() * (available_cpus() if on_cpu() else 1)


def _source_of_latents(
    config: GeneratorConfig, rng: Rng | None, given: Any, n: int
) -> Any:
    """The key that latents are drawn with, or the given latents, float32 [n, d]."""
    if rng is not None and given is None:
        return arguments.as_key(rng)
    if rng is None and given is not None:
        return arguments.as_latents(given, n, config)
    raise TypeError("give either rng, such as 0, or latents=..., not both")


def _is_key(source: jax.Array) -> bool:
    return bool(jnp.issubdtype(source.dtype, jax.dtypes.prng_key))


@functools.partial(jax.jit, static_argnums=0)
def _generate(
    config: GeneratorConfig,
    params: Any,
    label: jax.Array,
    z: jax.Array,
    truncation: jax.Array,
) -> jax.Array:
    """Label int32 [n], z float32 [n, d] -> float32 [n, s, s, 1] in [0, 1]."""
    images: Any = config.build().apply({"params": params}, truncation * z, label)
    return pixel_range.to_unit(images)


def _sample_in_chunks(
    params: GeneratorParams,
    label: np.ndarray,
    source: jax.Array,
    start: int,
    truncation: float,
) -> jax.Array:
    """Generates full chunks and keeps the requested images; for concrete arguments.

    Chunks begin where the index is a multiple of `chunk_size()`, so the index alone
    decides an image's position in its chunk, and not even the order of a sum differs
    between two requests. A single image is generated without the rest of its chunk.
    """
    size = chunk_size() if len(label) > 1 else 1
    before = start % size
    after = -(before + len(label)) % size
    padded = np.pad(label, (before, after)) if before or after else label
    chunks = padded.reshape(-1, size)
    first_indices = range(start - before, start + len(label) + after, size)
    given: Any = None
    if not _is_key(source):
        given = np.pad(np.asarray(source), [(before, after), (0, 0)])
        given = given.reshape(len(chunks), size, -1)
    weights = params.params
    if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(weights)):
        weights = jax.device_put(weights)

    def generate(number: int) -> jax.Array:
        if given is None:
            first = np.uint32(first_indices[number])
            z = draw_block(params.config.latent_size, size, source, first)
        else:
            z = given[number]
        factor = np.float32(truncation)
        return _generate(params.config, weights, chunks[number], z, factor)

    parts = threaded_map(generate, range(len(chunks)))
    images = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
    return images[before : before + len(label)] if before or after else images


def _sample_traced(
    params: GeneratorParams,
    label: jax.Array | np.ndarray,
    source: jax.Array,
    start: int | jax.Array,
    truncation: float | jax.Array,
) -> jax.Array:
    """Generates the same images within jit, vmap or grad.

    It loops over chunks, so that activations take the memory of one chunk only.
    """
    n, size = len(label), min(len(label), chunk_size())
    # A label of -1 would select the last class; K is out of range and gives NaN.
    label = jnp.where(label < 0, len(params.class_names), label)
    z = source
    if _is_key(source):
        z = draw_block(params.config.latent_size, n, source, jnp.uint32(start))
    z = jnp.pad(z, [(0, -n % size), (0, 0)]).reshape(-1, size, z.shape[-1])
    chunks = jnp.pad(label, (0, -n % size)).reshape(-1, size)
    images = jax.lax.map(
        lambda chunk: _generate(params.config, params.params, *chunk, truncation),
        (chunks, z),
    )
    return images.reshape(-1, *images.shape[2:])[:n]
