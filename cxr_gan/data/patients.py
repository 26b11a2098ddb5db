"""Which images are of one patient, as far as their names show it."""

import re
from collections.abc import Callable, Sequence

from cxr_gan.data.dataset import ImageSet

Patient = tuple[str | int, ...]


def patient_of(name: str) -> Patient | None:
    """The patient in an image's id, as (naming scheme, key...); None if unknown."""
    for scheme, parse in PATIENT_PARSERS.items():
        key = parse(name)
        if key is not None:
            return (scheme, *key)
    return None


def patient_keys(names: Sequence[str]) -> list[str]:
    """One key per image: its patient, or its id if that is unknown."""
    # Held-out splits and halves hash these keys: keep their format.
    return [str(patient_of(name) or name) for name in names]


def keys_of(images: ImageSet) -> list[str]:
    """The key of each image's patient; the image's id where that is unknown."""
    return list(images.patients) or patient_keys(images.ids)


def _kermany(name: str) -> Patient | None:
    """person1000_bacteria_2931.jpeg, IM-0115-0001.jpeg, NORMAL2-IM-1427-0001.jpeg.

    Bacteria, virus, IM and NORMAL2-IM each number their patients separately.
    """
    if match := re.search(r"(?:^|/)person(\d+)_(bacteria|virus)_", name):
        return match[2], int(match[1])
    if match := re.search(r"(?:^|/)(NORMAL2-)?IM-(\d+)-", name):
        return (match[1] or "") + "IM", int(match[2])
    return None


def _nih(name: str) -> Patient | None:
    """00000013_005.png: patient 13, sixth image."""
    match = re.search(r"(?:^|/)(\d{8})_\d{3}\.\w+$", name)
    return (int(match[1]),) if match else None


def _phantom(name: str) -> Patient | None:
    """phantom/0/17: every phantom is a patient of its own."""
    match = re.fullmatch(r"phantom/(\d+)/(\d+)", name)
    return (int(match[1]), int(match[2])) if match else None


# Naming scheme -> function from an image's id to the key of its patient, or None if
# the id does not match. To support another scheme, add its function here.
PATIENT_PARSERS: dict[str, Callable[[str], Patient | None]] = {
    # Kermany et al. 2018, doi:10.17632/rscbjbr9sj.
    "kermany": _kermany,
    # Wang et al. 2017, "ChestX-ray8".
    "nih": _nih,
    "phantom": _phantom,
}
