r"""Writes a generator for other programs, as ONNX or StableHLO.

    python -m cxr_gan.export --model=pediatric64 --format=onnx --out=generator.onnx

The inputs are z, float32 [n, latent] from a standard normal distribution, and label,
int64 [n] (ONNX) or int32 [n] (StableHLO). The output is float32 [n, s, s, 1] in [0, 1].
n may change from call to call. The images equal those of `cxr_gan.sample`, which is
checked before the file is written. The weights are in the file.

ONNX files run in ONNX Runtime, which on CPUs raises an error for a label out of range.
StableHLO is read by `jax.export.deserialize`, for CPUs, GPUs and TPUs, of a JAX at most
six months newer than this one; a label out of range gives NaN.
"""

from typing import Any

from absl import flags

from cxr_gan.runtime import cli
from cxr_gan.sampling import exporting, pretrained, sampler
from cxr_gan.storage import files, weights_file


@cli.command(example="--model=pediatric64")
def main(values: flags.FlagValues) -> int:
    """Checks the flags, exports, compares and writes. Returns the exit code."""
    out = files.require_local_path(values.out, "--out")
    export, suffix = exporting.FORMATS[values.format]
    if out.suffix != suffix:
        raise ValueError(f"--out={out}: give a file name that ends in {suffix}")
    pretrained.require_new_paths(out)
    params, meta = sampler.load_with_meta(values.model)
    stored = exporting.as_stored(params.params, values.weights)
    rounded = params.replace(params=stored)
    metadata = exporting.describe(rounded, meta) | {
        "trained_hash": sampler.fingerprint(params)
    }
    content, run = export(rounded, values.weights, metadata)
    difference = exporting.compare(rounded, run)
    weights_file.write(out, content)
    print(
        f"wrote {out} ({len(content) / 1e6:.1f} MB); images differ from those of "
        f"cxr_gan.sample by at most {difference:.1e}, of a range of 1"
    )
    return 0


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", None, "Run or published model.", **own)
    flags.DEFINE_string(
        "out", None, "File to write: NAME.onnx or NAME.stablehlo.", **own
    )
    flags.DEFINE_enum(
        "format", "onnx", [*exporting.FORMATS], "Format of the file.", **own
    )
    dtypes = ["float32", "float16"]
    flags.DEFINE_enum("weights", dtypes[0], dtypes, "How weights are stored.", **own)
    flags.mark_flags_as_required(["model", "out"], **own)


if __name__ == "__main__":
    cli.run(main, define_flags)
