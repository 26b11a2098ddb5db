r"""Publishes a trained generator as an npz file with a card that documents it.

    python -m cxr_gan.evaluate --model=runs/acgan@best --dataset=DATA --out=report
    python -m cxr_gan.publish --model=runs/acgan@best --report=report --out=NAME.npz \
      --card=NAME.md --people="children, one hospital" --licence="CC BY 4.0, A. Author"

NAME.npz holds the weights of the averaged (EMA) generator. NAME.json beside it, the
card, holds everything known about the model, and NAME.md is the same card for people.
NAME.state.npz holds the trained generator and discriminator, without optimizers, and
the SHA-256 of the pixels of each training image. A run starts from it by
--config.init=NAME.npz. `cxr_gan.load("NAME.npz")` loads the model and
does not need the state. The report must evaluate this model against
the data it was trained on. To publish the metrics of the rounded weights, evaluate
NAME.npz and publish the run again with that report. Existing files are never
overwritten, and of the paths of folders only the last component is published.
"""

import json
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags

from cxr_gan.evaluation.report import model_card
from cxr_gan.runtime import cli
from cxr_gan.sampling import pretrained, sampler, trained_networks, training_images
from cxr_gan.storage import files, weights_file
from cxr_gan.version import __version__

WHAT = (
    "The averaged (EMA) generator of a conditional GAN, made by cxr_gan. It draws "
    "synthetic frontal chest radiographs, which show no patient and are not for "
    "clinical use."
)
# Keys of report.json that are published: all but the names of training images.
REPORT_KEYS = (
    *("verdict", "faults", "notes", "images", "dataset", "resolution", "class_names"),
    *("pooled", "seed", "spaces", "method", "metrics", "software"),
)
RUN_KEYS = ("step", "kimg", "config", "dataset", "generator", "metrics", "score")
PATH_KEYS = ("path", "name", "dataset", "images")  # their texts may be paths of folders
# Required flag -> example of a value, and help.
REQUIRED_FLAGS = {
    "model": ("runs/acgan@best", "Training run."),
    "report": ("report", "Folder of its evaluation."),
    "out": ("NAME.npz", "NAME.npz to write, with its NAME.json."),
    "card": ("NAME.md", "NAME.md to write: the model card."),
    "people": (
        '"children, one hospital"',
        "Whom the training images show: age, place, views.",
    ),
    "licence": (
        '"CC BY 4.0, A. Author"',
        "Licence of the training images, and whom to attribute them to.",
    ),
}


@cli.command(example="--model=runs/acgan@best")
def main(values: flags.FlagValues) -> int:
    """Checks the flags and writes the files. Returns the exit code."""
    check_flags(values)
    out, markdown = output_paths(values.out, values.card)
    packed, state, card = pack_run(values, out)
    weights_file.write(markdown, model_card(card).encode())
    pretrained.save(out, packed, state, card)
    print(
        f"wrote {out} ({len(packed) / 1e6:.1f} MB), {out.with_suffix('.json').name}, "
        f"{pretrained.state_path(out).name} ({len(state) / 1e6:.1f} MB), {markdown}"
    )
    return 0


def check_flags(values: flags.FlagValues) -> None:
    """Raises ValueError, with an example of each, if required flags are missing."""
    missing = [name for name in REQUIRED_FLAGS if not values[name].value]
    if missing:
        raise ValueError(
            f"--{', --'.join(missing)} not given: publishing a run needs all of "
            f"--{', --'.join(REQUIRED_FLAGS)}; add "
            f"{' '.join(f'--{name}={REQUIRED_FLAGS[name][0]}' for name in missing)}"
        )


def pack_run(
    values: flags.FlagValues, out: pathlib.Path
) -> tuple[bytes, bytes, dict[str, Any]]:
    """The npz, the training state and the card; `pretrained.save` adds checksums.

    Raises:
        FileNotFoundError: there is no such run, checkpoint or report.
        ValueError: one of them is damaged, the report does not fit the model, the model
            is published already, or the weights do not fit into --dtype.
    """
    report = read_report(pathlib.Path(values.report))
    params, meta = sampler.load_with_meta(values.model)
    if "sha256" in meta:
        raise ValueError(
            f"--model={values.model} is published already; copy its files instead"
        )
    networks = trained_networks.load(values.model, meta)
    images = training_images.to_arrays(training_images.read(values.model))
    state = {**networks, training_images.KEY: images}
    packed = weights_file.pack(params.params, values.dtype)
    rounded = weights_file.unpack(
        packed, pretrained.param_shapes(params.config), str(out)
    )
    hashes = {
        "model_hash": sampler.fingerprint(params.replace(params=rounded)),
        "trained_hash": sampler.fingerprint(params),
    }
    check_report(report, list(hashes.values()), meta["dataset"]["identity"])
    card = {
        "what": WHAT,
        "name": out.stem,
        "people": values.people,
        "licence": values.licence,
        **{key: meta[key] for key in RUN_KEYS},
        "ancestors": meta.get("ancestors", []),
        "dtype": values.dtype,
        **hashes,
        "report": report,
        "software": {
            "cxr_gan": __version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
        },
    }
    return packed, weights_file.pack(state, values.dtype), without_folders(card)


def output_paths(out: str, card: str) -> tuple[pathlib.Path, pathlib.Path]:
    """The paths of the npz and of the Markdown card.

    Raises:
        ValueError: --out is not NAME.npz without an @, or --card not NAME.md.
        FileExistsError: a file to be written exists already.
    """
    npz = files.require_local_path(out, "--out")
    markdown = files.require_local_path(card, "--card")
    if npz.suffix != pretrained.SUFFIX or "@" in npz.name:
        raise ValueError(
            f"--out={out} could not be loaded under this name; give NAME.npz, with no "
            "@ in it"
        )
    if markdown.suffix != ".md":
        raise ValueError(
            f"--card={card} is not a Markdown file; give a name that ends in .md"
        )
    pretrained.require_new_paths(
        npz, npz.with_suffix(".json"), pretrained.state_path(npz), markdown
    )
    return npz, markdown


def read_report(folder: pathlib.Path) -> dict[str, Any]:
    """The publishable part of the report that `cxr_gan.evaluate --out=FOLDER` wrote.

    Raises:
        FileNotFoundError: there is no report in the folder.
        ValueError: it is damaged, or not a report of this version.
    """
    path = folder / "report.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file; --report is the --out of python -m "
            "cxr_gan.evaluate"
        )
    try:
        report = json.loads(path.read_bytes())
        return {key: report[key] for key in REPORT_KEYS}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: damaged, or not a report of this version of cxr_gan ({error!r}); "
            "evaluate the model again with python -m cxr_gan.evaluate"
        ) from error


def check_report(report: dict[str, Any], hashes: list[str], identity: str) -> None:
    """Checks that a report evaluates this model against its training data.

    Args:
        report: return value of `read_report`.
        hashes: `sampler.fingerprint` of the rounded and of the trained weights.
        identity: identity of the data set the model was trained on.

    Raises:
        ValueError: the report evaluates another model or a set of images, or compares
            with another data set.
    """
    images = report["images"]
    if "model_hash" not in images:
        raise ValueError(
            f"the report evaluates the images in {images['path']}, not a model; give "
            "one of this model: python -m cxr_gan.evaluate --model=..."
        )
    if images["model_hash"] not in hashes:
        raise ValueError(
            f"the report evaluates another model ({images['path']}, "
            f"{images['model_hash']}) than this one ({' or '.join(hashes)}); evaluate "
            "this one, with the same suffix @best, @latest or @STEP"
        )
    if report["dataset"]["identity"] != identity:
        raise ValueError(
            f"the report compares with another data set ({report['dataset']['name']}) "
            "than the model was trained on, so it cannot detect copies of training "
            "images; evaluate with the --dataset of the training"
        )


def without_folders(content: Any) -> Any:
    """The same content with paths cut to their last component: the rest is private."""
    if isinstance(content, list):
        return [without_folders(part) for part in content]
    if not isinstance(content, dict):
        return content
    return {
        key: files.last_name(part)
        if key in PATH_KEYS and isinstance(part, str)
        else without_folders(part)
        for key, part in content.items()
    }


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags; not at import, because other commands share flag names."""
    own: dict[str, Any] = {"flag_values": values}
    for name, (example, text) in REQUIRED_FLAGS.items():
        flags.DEFINE_string(name, None, f"{text} Example: {example}", **own)
        flags.register_validator(
            name, lambda text: text is None or text.strip(), "must not be empty", **own
        )
    dtypes = ["float16", "float32"]
    flags.DEFINE_enum("dtype", dtypes[0], dtypes, "How weights are stored.", **own)


if __name__ == "__main__":
    cli.run(main, define_flags)
