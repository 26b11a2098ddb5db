"""Exports a generator as ONNX or StableHLO, and compares it with `sample`."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cxr_gan.models import pixel_range
from cxr_gan.runtime import cpu
from cxr_gan.sampling import generation, sampler
from cxr_gan.sampling.sampler import GeneratorParams
from cxr_gan.version import __version__

BATCHES = (1, 3, 16)  # images that are compared, and one of each class
TOLERANCE = 1e-4  # largest difference, of a range of 1
PLATFORMS = ("cpu", "cuda", "tpu")  # of StableHLO
Exported = tuple[bytes, Callable[[np.ndarray, np.ndarray], Any]]  # content, its program


def export_onnx(
    params: GeneratorParams, dtype: str, metadata: dict[str, str]
) -> Exported:
    """An ONNX file, and a function (z, label) -> images that runs it.

    Arguments as `onnx_graph.build`.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
        ValueError: as `onnx_graph.build`.
    """
    try:
        import onnxruntime

        from cxr_gan.sampling import onnx_graph
    except ImportError as error:
        raise ImportError(
            f"ONNX files need onnx and onnxruntime ({error}); type: pip install "
            "'cxr-gan[onnx]'"
        ) from error
    content = onnx_graph.build(params, dtype, metadata)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda z, label: session.run(
        None, {"z": z, "label": label.astype(np.int64)}
    )[0]


def export_stablehlo(
    params: GeneratorParams, dtype: str, metadata: dict[str, str]
) -> Exported:
    """A serialized `jax.export.Exported`, and a function (z, label) that runs it.

    The metadata is not stored.

    Raises:
        ImportError: flatbuffers is not installed.
        ValueError: dtype is not float32.
    """
    from jax import export

    if dtype != "float32":
        raise ValueError(
            f"--weights={dtype} with --format=stablehlo: only ONNX files store other "
            "weights than float32; leave out --weights"
        )
    config = params.config

    def generate(z: jax.Array, label: jax.Array) -> jax.Array:
        # A label of -1 would select the last class; K is out of range and gives NaN.
        label = jnp.where(label < 0, len(config.class_names), label)
        images: Any = config.build().apply({"params": params.params}, z, label)
        return pixel_range.to_unit(images)

    (n,) = export.symbolic_shape("n")
    shapes = (
        jax.ShapeDtypeStruct((n, config.latent_size), jnp.float32),
        jax.ShapeDtypeStruct((n,), jnp.int32),
    )
    with cpu.portable_programs():
        exported = export.export(jax.jit(generate), platforms=PLATFORMS)(*shapes)
    try:
        content = bytes(exported.serialize())
    except ImportError as error:
        raise ImportError(
            f"--format=stablehlo needs flatbuffers ({error}); type: pip install "
            "flatbuffers"
        ) from error
    return content, export.deserialize(bytearray(content)).call


# --format -> function, and the suffix of --out. To add a format, add one entry.
FORMATS = {
    "onnx": (export_onnx, ".onnx"),
    "stablehlo": (export_stablehlo, ".stablehlo"),
}


def describe(params: GeneratorParams, meta: dict[str, Any]) -> dict[str, str]:
    """Metadata of the exported file, as text.

    Args:
        params: the generator.
        meta: of `sampler.load_with_meta`.
    """
    return {
        "class_names": json.dumps(params.class_names),
        "resolution": str(params.config.resolution),
        "model_hash": sampler.fingerprint(params),
        "note": generation.NOTE,
        "licence": meta.get("licence", ""),
        "people": meta.get("people", ""),
        "software": f"cxr_gan {__version__}",
    }


def as_stored(weights: Any, dtype: str) -> Any:
    """The weights, rounded to the dtype that they are stored as; float32.

    Raises:
        ValueError: a weight is too large for it.
    """
    with np.errstate(over="ignore"):  # overflow raises the ValueError below
        rounded = jax.tree.map(
            lambda w: np.asarray(w).astype(dtype).astype(np.float32), weights
        )
    if not all(np.isfinite(w).all() for w in jax.tree.leaves(rounded)):
        raise ValueError(
            f"a weight of the model is too large for --weights={dtype}; leave out "
            "--weights"
        )
    return rounded


def compare(
    params: GeneratorParams, run: Callable[[np.ndarray, np.ndarray], Any]
) -> float:
    """The largest difference of the exported program's images from those of `sample`.

    Args:
        params: the generator.
        run: the program: z float32 [n, latent], label int32 [n] -> images.

    Raises:
        ValueError: it exceeds TOLERANCE.
    """
    differences = []
    for n in (*BATCHES, len(params.class_names)):
        z = np.asarray(sampler.latents(params, n, rng=n))
        label = np.arange(n, dtype=np.int32) % len(params.class_names)
        expected = sampler.sample(params, label, latents=z)
        found = np.asarray(run(z, label))
        differences.append(np.abs(found - np.asarray(expected)).max())
    largest = float(np.max(differences))  # NaN if one is
    if not largest <= TOLERANCE:
        raise ValueError(
            f"the exported program's images differ from those of cxr_gan.sample by "
            f"{largest:.1e}, more than {TOLERANCE}; nothing was written. GPUs and TPUs "
            "round products: repeat the command with JAX_PLATFORMS=cpu. On a CPU, "
            "please report this with the versions of the libraries"
        )
    return largest
