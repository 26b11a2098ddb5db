r"""Packs a trained generator into one file that says what it is and how good it is.

    python -m cxr_gan.evaluate --model=runs/acgan@best --dataset=DATA --out=report
    python -m cxr_gan.publish --model=runs/acgan@best --report=report --out=NAME.npz \
      --card=NAME.md --people="children, one hospital" --licence="CC BY 4.0, A. Author"

NAME.npz holds the averaged (EMA) generator alone, NAME.json, beside it, all that is
known of it, NAME.md the same for people. `cxr_gan.load("NAME.npz")` reads it. The
report must be of this model and of the data it was trained on; to publish figures of
the weights as they were rounded, evaluate NAME.npz and publish once more with that
report. Nothing is overwritten, and of folders only their last names are told.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from cxr_gan import page, sampling, shelf, terminal
from cxr_gan.metrics import stored
from cxr_gan.version import __version__

WHAT = (
    "The averaged (EMA) generator of a conditional GAN, made by cxr_gan. It draws "
    "synthetic frontal chest radiographs, which show no patient and are not for "
    "clinical use."
)
# Of report.json, all but the names of training images.
TOLD = (
    *("verdict", "faults", "notes", "images", "dataset", "resolution", "class_names"),
    *("pooled", "seed", "spaces", "method", "figures", "software"),
)
OF_RUN = ("step", "kimg", "config", "dataset", "spec", "figures", "score")
PATHS = ("path", "name", "dataset")  # keys of texts that may be places on a disk


def main(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> int:
    """The command: flags -> check -> write. Returns the exit code."""
    try:
        if argv[1:]:
            raise ValueError(f"{argv[1]!r} is no flag; see --help")
        out, readme = places(values.out, values.card)
        report = read_report(pathlib.Path(values.report))
        params, meta = sampling.load_with_meta(values.model)
        if "sha256" in meta:
            raise ValueError(f"{values.model} is published already; copy its files")
        packed = stored.pack(params.params, values.dtype)
        weights = stored.unpack(packed, shelf.shapes(params.spec), str(out))
        hashes = {
            "model_hash": sampling.fingerprint(params.replace(params=weights)),
            "trained_hash": sampling.fingerprint(params),
        }
        check_report(report, list(hashes.values()), meta["dataset"]["identity"])
        card = describe(values, meta, hashes, report)
        stored.write(readme, page.model_card(card).encode())
        shelf.write(out, packed, card)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = len(packed) / 1e6
    print(f"wrote {out} ({size:.1f} MB), {out.with_suffix('.json').name}, {readme}")
    return 0


def places(out: str, card: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Where the npz and the model card go.

    Raises:
        ValueError: a name that could not be loaded by, or of another kind of file.
        FileExistsError: one of the files is there already.
    """
    npz, readme = pathlib.Path(out), pathlib.Path(card)
    if npz.suffix != shelf.SUFFIX or "@" in npz.name:
        raise ValueError(f"--out={out}: give NAME.npz, with no @ in it")
    if readme.suffix != ".md":
        raise ValueError(f"--card={card}: give a name that ends in .md")
    shelf.refuse_to_overwrite(npz, npz.with_suffix(".json"), readme)
    return npz, readme


def read_report(folder: pathlib.Path) -> dict[str, Any]:
    """What `cxr_gan.evaluate --out=FOLDER` wrote, as far as a card tells of it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or no report.
    """
    path = folder / "report.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file; --report is the --out of python -m "
            "cxr_gan.evaluate"
        )
    try:
        report = json.loads(path.read_bytes())
        return {key: report[key] for key in TOLD}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: damaged, or no report of this version of cxr_gan ({error!r})"
        ) from error


def check_report(report: dict[str, Any], hashes: list[str], identity: str) -> None:
    """Whether a report is of a model and of the images it was trained on.

    Args:
        report: of `read_report`.
        hashes: `sampling.fingerprint` of the weights, rounded or not.
        identity: of the data the model was trained on.

    Raises:
        ValueError: it is of another model, of images, or compares with other data.
    """
    images = report["images"]
    if "model_hash" not in images:
        raise ValueError(
            f"the report is of the images in {images['path']}; give one that "
            "evaluated this model: python -m cxr_gan.evaluate --model=..."
        )
    if images["model_hash"] not in hashes:
        raise ValueError(
            f"the report is of another model ({images['path']}, "
            f"{images['model_hash']}) than this, {' or '.join(hashes)}; evaluate this "
            "one, and mind what follows the @"
        )
    if report["dataset"]["identity"] != identity:
        raise ValueError(
            f"the report compares with other images ({report['dataset']['name']}) than "
            "the model was trained on, so it knows nothing of copies; evaluate with "
            "the --dataset of the training"
        )


def describe(
    values: flags.FlagValues,
    meta: dict[str, Any],
    hashes: dict[str, str],
    report: dict[str, Any],
) -> dict[str, Any]:
    """The card, for JSON; `shelf.write` adds the checksums."""
    card = {
        "what": WHAT,
        "name": pathlib.Path(values.out).stem,
        "people": values.people,
        "licence": values.licence,
        **{key: meta[key] for key in OF_RUN},
        "dtype": values.dtype,
        **hashes,
        "report": report,
        "software": {
            "cxr_gan": __version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
        },
    }
    told: dict[str, Any] = without_folders(card)
    return told


def without_folders(content: Any) -> Any:
    """The same, of places on a disk but their last names: the rest is private."""
    if isinstance(content, list):
        return [without_folders(part) for part in content]
    if not isinstance(content, dict):
        return content
    return {
        key: pathlib.PurePath(part).name
        if key in PATHS and isinstance(part, str)
        else without_folders(part)
        for key, part in content.items()
    }


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """In a function, since another command may call its flags the same."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", None, "Workdir of a training, as runs/a@best.", **own)
    flags.DEFINE_string("report", None, "Folder of its evaluation.", **own)
    flags.DEFINE_string("out", None, "NAME.npz to write; NAME.json beside it.", **own)
    flags.DEFINE_string("card", None, "Markdown to write: the model card.", **own)
    flags.DEFINE_string(
        "people", None, "Whom the training images show: age, place, views.", **own
    )
    flags.DEFINE_string(
        "licence", None, "Of the training images, and whom to attribute them to.", **own
    )
    kinds = ["float16", "float32"]
    flags.DEFINE_enum("dtype", kinds[0], kinds, "How weights are stored.", **own)
    required = ["model", "report", "out", "card", "people", "licence"]
    flags.mark_flags_as_required(required, **own)
    for name in required:
        flags.register_validator(
            name, lambda text: text is None or text.strip(), "must not be empty", **own
        )


def cli() -> None:
    """The command as typed in a terminal."""
    define_flags()
    app.call_after_init(terminal.hush)
    app.run(main)


if __name__ == "__main__":
    cli()
