"""Look-up tables of DICOM: Modality LUT and VOI LUT (PS3.3 C.11.1 and C.11.2)."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cxr_gan.data.formats.dicom.dataset import WRONG, numbers, values

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class LookupTable:
    """A table of grey values. Inputs beyond either end map to the nearest entry."""

    first: int  # input of the first entry
    entries: np.ndarray  # int64 [n]
    bits: int  # the entries are in [0, 2^bits - 1]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x [n], any numbers -> int64 [n]."""
        first = self.first
        if first > max(0, x.max()):  # a negative number, read as unsigned
            first -= 65536
        index = np.rint(x).astype(np.int64) - first
        return self.entries[np.clip(index, 0, len(self.entries) - 1)]


def parse_lookup_table(dataset: "Dataset", keyword: str) -> LookupTable | None:
    """The first table of a sequence; None if there is none.

    Entries of 8 bits may be stored one a word, or packed two a word.

    Raises:
        ValueError: the descriptor and the data contradict each other.
    """
    items = values(dataset, keyword)
    if not items:
        return None
    descriptor = [int(value) for value in numbers(items[0], "LUTDescriptor")]
    data = values(items[0], "LUTData")
    if len(descriptor) != 3 or not 1 <= descriptor[2] <= 16:
        raise ValueError(f"{keyword} has the LUT Descriptor {descriptor}; {WRONG}")
    count = descriptor[0] % 65536 or 65536
    if len(data) == 1 and isinstance(data[0], bytes):
        order = "<" if dataset.original_encoding[1] else ">"
        raw, whole = data[0], len(data[0]) // 2 * 2
        words = np.frombuffer(raw[:whole], f"{order}u2").astype("<u2")
    else:
        words = (np.array(data, np.int64) & 0xFFFF).astype("<u2")
        raw = words.tobytes()
    entries = words
    if len(words) < count and descriptor[2] <= 8:
        entries = np.frombuffer(raw, np.uint8)
    if len(entries) < count or entries[:count].max() >= 2 ** descriptor[2]:
        raise ValueError(
            f"{keyword} has {len(entries)} entries of up to "
            f"{entries.max(initial=0)}, which contradicts its LUT Descriptor "
            f"{descriptor}; {WRONG}"
        )
    entries = entries[:count].astype(np.int64)
    return LookupTable(descriptor[1], entries, descriptor[2])
