"""Published models: a generator in one npz, and a card in JSON that vouches for it.

Those shipped with the package are what lies in `FOLDER`. Reading one takes neither
Orbax nor a network.
"""

import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from cxr_gan.checksums import crc_of_json
from cxr_gan.gan import GeneratorSpec
from cxr_gan.metrics import stored

FOLDER = pathlib.Path(__file__).with_name("weights")  # NAME.npz and NAME.json of each
SUFFIX = ".npz"


def shipped() -> list[str]:
    """Names of the models that came with the package."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def find(model: str) -> pathlib.Path | None:
    """The npz of a published model; None if the words name a run.

    A folder is a run, and comes before a shipped model of its name; so is whatever has
    a slash and does not end in .npz.

    Raises:
        ValueError: a checkpoint is asked for, as with "@best", where there is but one.
        FileNotFoundError: a bare name is neither a folder nor a shipped model.
    """
    before, at, word = model.rpartition("@")
    whole = not at or model.endswith(SUFFIX)
    name = model if whole else before
    if pathlib.Path(model).is_dir() or pathlib.Path(name).is_dir():
        return None
    published = name.endswith(SUFFIX) or name in shipped()
    if published and not whole:
        raise ValueError(
            f"{model!r}: {name} is a published model, which has but one state; leave "
            f"off @{word}"
        )
    if published:
        return pathlib.Path(name) if name.endswith(SUFFIX) else FOLDER / (name + SUFFIX)
    if pathlib.Path(name).name != name:
        return None
    raise FileNotFoundError(
        f"{name!r} is no folder here, and no model that came with cxr_gan (those are: "
        f"{', '.join(shipped()) or 'none'}); give the --workdir of a training, or the "
        ".npz of a published model"
    )


def read(path: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """A generator's weights, float32, and its card.

    Raises:
        FileNotFoundError: the npz, or the card beside it, is not there.
        ValueError: one of them is damaged or changed, they do not belong together, or
            they are of another version of cxr_gan.
    """
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: there is no such file; a published model is NAME.npz and, "
                "beside it, its card NAME.json"
            )
    card = read_card(path.with_suffix(".json"))
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != card["sha256"]:
        raise ValueError(
            f"{path}: damaged, or not the file its card is of: its sha256 is "
            f"{found[:16]}..., the card says {card['sha256'][:16]}...; bring both back"
        )
    spec = GeneratorSpec.from_json(card["spec"], str(path))
    return stored.unpack(data, shapes(spec), str(path)), card


def read_card(path: pathlib.Path) -> dict[str, Any]:
    """What `write` wrote beside the npz, without its checksum.

    Raises:
        ValueError: it is damaged or changed.
    """
    try:
        card: dict[str, Any] = json.loads(path.read_bytes())
        told = card.pop("crc32")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: damaged, or no card of a published model ({error!r})"
        ) from error
    if told != crc_of_json(card):
        raise ValueError(
            f"{path}: damaged or changed: it does not match its checksum; bring it back"
        )
    return card


def write(path: pathlib.Path, packed: bytes, card: dict[str, Any]) -> None:
    """Writes the npz and, before it, its card: where there is an npz, it is whole.

    Args:
        path: NAME.npz; NAME.json stands beside it.
        packed: what `stored.pack` returned.
        card: for JSON, with "spec"; the checksums of both files are added.

    Raises:
        FileExistsError: one of them is there already.
        OSError: they cannot be written.
    """
    refuse_to_overwrite(path, path.with_suffix(".json"))
    card = {**card, "sha256": hashlib.sha256(packed).hexdigest()}
    # Tuples are lists, and keys are text, before as after.
    card = json.loads(json.dumps(card, allow_nan=False))
    card["crc32"] = crc_of_json(card)
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    stored.write(path.with_suffix(".json"), text.encode())
    stored.write(path, packed)


def refuse_to_overwrite(*paths: str | os.PathLike[str]) -> None:
    """Raises FileExistsError if there is such a file or folder."""
    for path in paths:
        if os.path.lexists(path):
            raise FileExistsError(f"{path} is there already; give another name")


def shapes(spec: GeneratorSpec) -> Any:
    """Of the generator's weights: a nested dict of `jax.ShapeDtypeStruct`."""
    z = jnp.zeros((1, spec.latent_size))
    init = spec.build().init
    return jax.eval_shape(init, jax.random.key(0), z, jnp.zeros(1, jnp.int32))["params"]
