"""Two halves of the patients, so that two judges never learn from the same one."""

import hashlib
from collections.abc import Sequence

import numpy as np

from cxr_gan.data import splits


def halves(ids: Sequence[str]) -> np.ndarray:
    """Which images belong to half A, bool [n]; the others are half B.

    A function of each image's patient alone (see `splits.PATIENT_PARSERS`): neither
    other images nor any seed change it, and all images of a patient fall together.
    About half of the patients are A. An id that tells no patient counts as its own.
    """
    return np.array([_in_a(name) for name in ids], bool)


def _in_a(name: str) -> bool:
    patient = splits.patient_of(name)
    key = name if patient is None else str(patient)
    return hashlib.sha256(f"half {key}".encode()).digest()[0] < 128
