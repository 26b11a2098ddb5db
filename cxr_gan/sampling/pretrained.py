"""Published models: one generator in an npz file, described by a card in JSON.

The models shipped with the package are the files in `FOLDER`. Loading one does not
import Orbax and needs no network connection.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from cxr_gan.models.registry import GENERATORS, GeneratorConfig
from cxr_gan.storage import files, weights_file
from cxr_gan.storage.checksums import json_crc32

FOLDER = pathlib.Path(__file__).with_name("weights")  # NAME.npz and NAME.json of each
SUFFIX = ".npz"
SCHEMA = 2  # of cards


def bundled() -> list[str]:
    """Names of the models shipped with the package, sorted."""
    names = (path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))
    return sorted(name for name in names if not name.endswith(".state"))


def resolve(model: str) -> pathlib.Path | tuple[str, int | str]:
    """The npz file of a published model, or the --workdir and checkpoint of a run.

    An existing folder is a run, even if a shipped model has the same name or its name
    has an @ in it. A path with a slash that does not end in .npz is a run as well.

    Args:
        model: a --workdir, the path of an npz file, or the name of a shipped model;
            "@best", "@latest" or "@STEP" may follow a --workdir.

    Raises:
        ValueError: a checkpoint is requested (as in "@best") of a published model,
            which has only one set of weights; or the suffix is none of these.
        FileNotFoundError: a bare name is neither a folder nor a shipped model.
    """
    if model.startswith("~"):
        model = str(files.expand_user(model, "model"))
    workdir, at, checkpoint = model.rpartition("@")
    if not at or pathlib.Path(model).is_dir() or model.endswith(SUFFIX):
        workdir, at, checkpoint = model, "", "latest"
    if not pathlib.Path(workdir).is_dir():
        if workdir.endswith(SUFFIX) or workdir in bundled():
            if at:
                raise ValueError(
                    f"{model!r}: {workdir} is a published model, which has no "
                    f"checkpoints; leave off @{checkpoint}"
                )
            is_path = workdir.endswith(SUFFIX)
            return pathlib.Path(workdir) if is_path else FOLDER / (workdir + SUFFIX)
        if pathlib.Path(workdir).name == workdir:
            raise FileNotFoundError(
                f"{workdir!r} is neither a folder here nor a model shipped with "
                f"cxr_gan (these are: {', '.join(bundled()) or 'none'}); give the "
                "--workdir of a training run, or the .npz of a published model"
            )
    if checkpoint in ("best", "latest"):
        return workdir, checkpoint
    if checkpoint.isdecimal():
        return workdir, int(checkpoint)
    raise ValueError(
        f"{model!r}: {checkpoint!r} does not name a checkpoint; after the @ write "
        "best, latest or a step, such as 12500"
    )


def load(path: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """The weights of a published generator, float32, and its card.

    Raises:
        FileNotFoundError: the npz, or the card beside it, does not exist.
        ValueError: a file is damaged or was changed, the two do not belong together,
            or they were written by another version of cxr_gan.
    """
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: there is no such file; a published model is NAME.npz and, "
                "beside it, its card NAME.json"
            )
    card, data = load_card(path.with_suffix(".json")), path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != card["sha256"]:
        raise ValueError(
            f"{path}: damaged, or not the file described by its card: its sha256 is "
            f"{sha256[:16]}..., the card says {card['sha256'][:16]}...; restore both "
            "files"
        )
    config = generator_config(card["generator"], str(path))
    return weights_file.unpack(data, param_shapes(config), str(path)), card


def generator_config(content: dict[str, Any], where: str) -> GeneratorConfig:
    """A generator's configuration from the JSON of `dataclasses.asdict`.

    Raises:
        ValueError: naming `where`: another version of cxr_gan wrote it.
    """
    fields = {field.name for field in dataclasses.fields(GeneratorConfig)}
    if set(content) != fields or content["name"] not in GENERATORS:
        raise ValueError(
            f"{where} describes its generator by {content}; this version of cxr_gan "
            f"reads {sorted(fields)}, name one of {sorted(GENERATORS)}. Use the "
            "version that trained it"
        )
    return GeneratorConfig(**{**content, "class_names": tuple(content["class_names"])})


def state_path(path: pathlib.Path) -> pathlib.Path:
    """NAME.state.npz, the training state beside NAME.npz."""
    return path.with_suffix(f".state{SUFFIX}")


def load_state(path: pathlib.Path, card: dict[str, Any]) -> dict[str, Any]:
    """The training state that `save` wrote; floats are float32.

    Training continues with the networks in it, not with the averaged generator that
    `load` returns.

    Args:
        path: NAME.npz.
        card: from `load`.

    Raises:
        FileNotFoundError: the model was published without a training state.
        ValueError: it is damaged, or belongs to another model.
    """
    state = state_path(path)
    if not state.is_file():
        raise FileNotFoundError(
            f"{state}: there is no such file; a training starts from the training "
            "state of a model: copy it there, or give a run, such as "
            "--config.init=runs/acgan"
        )
    data = state.read_bytes()
    if hashlib.sha256(data).hexdigest() != card.get("state_sha256"):
        raise ValueError(
            f"{state}: damaged, or of another model than {path.name}; copy all of its "
            "files again"
        )
    content: dict[str, Any] = weights_file.unpack(data, None, str(state))
    return content


def load_card(path: pathlib.Path) -> dict[str, Any]:
    """The card written by `save`, verified against its crc32, which is left out.

    Raises:
        ValueError: it is damaged or was changed, or has another schema than `SCHEMA`.
    """
    try:
        card: dict[str, Any] = json.loads(path.read_bytes())
        crc32 = card.pop("crc32")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: damaged, or not the card of a published model ({error!r}); "
            "restore it"
        ) from error
    if crc32 != json_crc32(card):
        raise ValueError(
            f"{path}: damaged or changed: it does not match its checksum; restore it"
        )
    if card.get("schema") != SCHEMA:
        raise ValueError(
            f"{path}: the card has schema {card.get('schema')!r}, and this version of "
            f"cxr_gan reads schema {SCHEMA}; use the version that published the model"
        )
    return card


def save(path: pathlib.Path, packed: bytes, state: bytes, card: dict[str, Any]) -> None:
    """Writes the card and the state, then the npz: if it exists, all are complete.

    Args:
        path: NAME.npz; NAME.json and NAME.state.npz are written beside it.
        packed: the averaged generator, as `weights_file.pack` returns it.
        state: {"generator": parameters, "discriminator": parameters,
            "training_images": `training_images.to_arrays`}, packed.
        card: JSON-serialisable, with "generator"; the schema number and the checksums
            of both files are added.

    Raises:
        FileExistsError: one of the files exists already.
        OSError: the files cannot be written.
    """
    require_new_paths(path, path.with_suffix(".json"), state_path(path))
    card = {
        "schema": SCHEMA,
        **card,
        "sha256": hashlib.sha256(packed).hexdigest(),
        "state_sha256": hashlib.sha256(state).hexdigest(),
    }
    # The checksum is of the card as it is read back: tuples as lists, keys as text.
    card = json.loads(json.dumps(card, allow_nan=False))
    card["crc32"] = json_crc32(card)
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    weights_file.write(path.with_suffix(".json"), text.encode())
    weights_file.write(state_path(path), state)
    weights_file.write(path, packed)


def require_new_paths(*paths: str | os.PathLike[str]) -> None:
    """Raises FileExistsError if one of the paths exists as a file, folder or link."""
    for path in paths:
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists already; give another name")


def param_shapes(config: GeneratorConfig) -> Any:
    """Shapes of the generator's weights: a nested dict of `jax.ShapeDtypeStruct`."""
    z = jnp.zeros((1, config.latent_size))
    init = config.build().init
    return jax.eval_shape(init, jax.random.key(0), z, jnp.zeros(1, jnp.int32))["params"]
