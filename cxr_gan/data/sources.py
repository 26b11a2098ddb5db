"""Finds a dataset by its spec, such as "phantom:60" or the path of a folder."""

import dataclasses
import difflib
from collections.abc import Callable, Iterator
from pathlib import Path

from cxr_gan.data import progress
from cxr_gan.data.dataset import ImageSet, RawSplits, Source
from cxr_gan.data.formats import (
    file_tree,
    image_folder,
    manifest,
    manifest_table,
    npz,
    prepared,
    tfds,
)
from cxr_gan.data.listing import Listing, ManifestOptions, ReadOptions
from cxr_gan.data.phantom import renderer
from cxr_gan.storage import files

PHANTOM_COUNT = 3_000  # images of "phantom" without a number
PHANTOM_SEED = 0  # fixed, so that runs on the phantom are comparable

ACCEPTED = (
    "accepted are 'phantom' or 'phantom:N' (N rendered images), a folder "
    f"({image_folder.LAYOUT}), a manifest ({', '.join(manifest_table.SUFFIXES)}), a "
    "prepared set (a folder that cxr_gan.prepare wrote), a file ending in .npz "
    "(MedMNIST layout), and 'tfds:NAME'"
)


def open_source(spec: str, options: ReadOptions) -> Listing | Source:
    """Finds a dataset and checks its layout, without decoding any image.

    Raises:
        FileNotFoundError: spec names no existing dataset; lists what is accepted.
        ValueError: its layout is none that is accepted, or an option has no effect on
            it; says what to type.
    """
    kind, location = _parse_spec(spec)
    _check_options(kind, spec, options)
    return SOURCES[kind](location, options)


def _check_options(kind: str, spec: str, options: ReadOptions) -> None:
    """Raises ValueError for an option that this kind of dataset does not use."""
    used = options if kind in ("folder", "manifest") else ReadOptions()
    if kind != "manifest":
        used = dataclasses.replace(used, manifest=ManifestOptions())
    for (name, value), (_, default) in zip(_items(options), _items(used), strict=True):
        if value != default:
            raise ValueError(
                f"{name}={value!r} has no effect on {spec!r}, which is read as "
                f"{kind}; leave it out"
            )


def _items(options: ReadOptions) -> Iterator[tuple[str, str]]:
    """("manifest.file", ""), ..., ("views", "frontal"), ..."""
    for name, value in dataclasses.asdict(options).items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", text) for inner, text in value.items())
        else:
            yield name, value


def _parse_spec(spec: str) -> tuple[str, str]:
    """(key of SOURCES, location)."""
    kind, colon, location = spec.partition(":")
    if kind == "tfrecord" and colon:
        raise ValueError(
            f"dataset {spec!r}: version 0.2 replaced TFRecord files by prepared "
            "sets; write one with python -m cxr_gan.prepare, and give its folder"
        )
    try:
        path = files.require_local_path(spec, "dataset")
    except FileNotFoundError as error:  # ~name of nobody
        raise FileNotFoundError(f"{error}; {ACCEPTED}") from error
    if (
        kind in ("folder", "manifest", "npz", "prepared")
        and not location
        and not path.is_dir()
    ):
        raise FileNotFoundError(f"dataset {spec!r} has no path; {ACCEPTED}")
    if kind in SOURCES and (colon or kind == "phantom" or not path.is_dir()):
        return kind, location
    if spec and path.is_dir():
        markers = path / prepared.DATASET, path / prepared.IMAGES
        if any(map(Path.is_file, markers)):
            return "prepared", spec
        return "manifest" if manifest.is_metadata_folder(path) else "folder", spec
    ending = path.suffix.lower()
    if path.is_file() and ending in (".npz", *manifest_table.SUFFIXES):
        return "npz" if ending == ".npz" else "manifest", spec
    if path.is_file():
        command = file_tree.unpack_command(path)
        advice = f"unpack it first: {command}" if command else ACCEPTED
        raise ValueError(
            f"dataset {spec!r} is a file that is read as no data set; {advice}"
        )
    raise FileNotFoundError(
        f"dataset {spec!r}: there is no such file or folder{_suggest(spec, path)}; "
        f"{ACCEPTED}"
    )


def _suggest(spec: str, path: Path) -> str:
    """'; did you mean X?' for a misspelt kind or part of the path, else ''."""
    kind, colon, location = spec.partition(":")
    matches = difflib.get_close_matches(kind.lower(), list(SOURCES), n=1)
    if matches:
        return f"; did you mean {matches[0] + colon + location!r}?"
    missing = path
    while missing.parent != missing and not missing.parent.is_dir():
        missing = missing.parent
    if missing.parent.is_dir():
        existing = [entry.name for entry in missing.parent.iterdir()]
        matches = difflib.get_close_matches(missing.name, existing, n=1)
        if matches:
            corrected = missing.parent / matches[0] / path.relative_to(missing)
            return f"; did you mean {str(corrected)!r}?"
    return ""


def _open_phantom(location: str) -> Source:
    count = PHANTOM_COUNT
    if location:
        if not location.isdecimal() or int(location) < 4:
            raise ValueError(
                f"phantom:{location} must name a number of images, 4 or more, such as "
                f"phantom:{PHANTOM_COUNT}"
            )
        count = int(location)

    def read(resolution: int) -> RawSplits:
        indices = progress.track(
            ((1, index) for index in range(count)), count, "Rendering phantoms"
        )
        images, labels = renderer.render_many(PHANTOM_SEED, indices, resolution)
        ids = tuple(f"phantom/{PHANTOM_SEED}/{index}" for index in range(count))
        return RawSplits(ImageSet(images, labels, ids), None, renderer.CLASS_NAMES)

    # The fingerprint is hashed into the cache key: keep its format.
    return Source(f"phantom {renderer.VERSION} {PHANTOM_SEED} {count}", read)


def _without_options(
    open_location: Callable[[str], Source],
) -> Callable[[str, ReadOptions], Source]:
    return lambda location, options: open_location(location)


# Kind -> function that opens the location after the colon, without decoding it. A spec
# is KIND:LOCATION; paths need no kind. To add a source, add it here.
SOURCES: dict[str, Callable[[str, ReadOptions], Listing | Source]] = {
    "phantom": _without_options(_open_phantom),
    "folder": image_folder.open_folder,
    "manifest": manifest.open_manifest,
    "npz": _without_options(npz.open_npz),
    "tfds": _without_options(tfds.open_tfds),
    "prepared": _without_options(prepared.open_prepared),
}
