"""Which DICOM files are left out: those that are no frontal chest radiograph."""

import re
from typing import TYPE_CHECKING

from cxr_gan.data.formats.dicom.dataset import load_pydicom, text, values, word
from cxr_gan.data.listing import LeftOutError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Computed, digital and other radiography; secondary captures are often OT.
MODALITIES = ("", "CR", "DX", "RG", "OT")
DICOM_ROOT = "1.2.840.10008."
STORAGE = "1.2.840.10008.5.1.4.1.1"
PICTURE_CLASSES = (  # computed radiography, digital for presentation and processing,
    *(f"{STORAGE}.1", f"{STORAGE}.1.1", f"{STORAGE}.1.1.1"),
    f"{STORAGE}.7",  # secondary capture
)
UNKNOWN_PARTS = ("", "NONE", "OTHER", "UNKNOWN")
CHEST_PARTS = ("CHEST", "THORAX", "LUNG")
# L, LL, RL: laterals. LLD, RLD: decubitus, on the side. The rest: obliques.
NOT_FRONTAL = re.compile(
    r"\bLAT(ERAL)?\b|\b[LR]LAT\b|\b[LR]L\b|\b[LR]L[DO]\b|\b[LR][AP]O\b"
    r"|\bDECUB|\bOBL|^[LR]$"
)
# PS3.16 CID 4010 "DX View"; other codes are known by their meaning.
VIEW_CODES = {
    "399348003": "AP",
    "272479007": "PA",
    "399033003": "FRONTAL",
    "399067008": "LATERAL",
    "399173006": "LL",
    "399198007": "RL",
}


def is_lateral(view: str) -> bool:
    """Whether a view is lateral, decubitus or oblique; False if it is not known.

    Args:
        view: a word of a header or manifest, in any case: "LL", "Lateral", "AP LLD".
    """
    return bool(NOT_FRONTAL.search(view.upper().replace("_", " ").strip()))


def view_of(dataset: "Dataset") -> str:
    """The view in upper case: ViewPosition, ViewCodeSequence or PatientOrientation.

    "" if none of them tells it.
    """
    view = text(dataset, "ViewPosition").upper()
    for item in values(dataset, "ViewCodeSequence"):
        code = VIEW_CODES.get(text(item, "CodeValue"))
        view = view or code or text(item, "CodeMeaning").upper()
    if view:
        return view
    # The directions of rows and of columns. Those of a frontal view are left or right,
    # and head or feet; anterior or posterior is seen from the side only.
    directions = text(dataset, "PatientOrientation").upper().split("\\")
    return "LATERAL" if any(name[:1] in ("A", "P") for name in directions) else ""


def check_is_chest_radiograph(dataset: "Dataset", has_pixels: bool, views: str) -> None:
    """Raises LeftOutError if a file is no chest radiograph of the views wanted.

    Args:
        dataset: a header.
        has_pixels: whether pixels follow it.
        views: one of `listing.VIEWS`.
    """
    modality = word(dataset, "Modality")
    if modality not in MODALITIES:
        raise LeftOutError(f"modality {modality[:40]}, not a radiograph")
    if not has_pixels and not _should_have_pixels(dataset):
        raise LeftOutError("a DICOM object without a picture, such as a report")
    part = text(dataset, "BodyPartExamined").upper()
    if part not in UNKNOWN_PARTS and not any(chest in part for chest in CHEST_PARTS):
        raise LeftOutError(f"body part {part[:40]}, not a chest")
    if views == "frontal" and is_lateral(view_of(dataset)):
        raise LeftOutError("a lateral, decubitus or oblique view")


def _should_have_pixels(dataset: "Dataset") -> bool:
    """Whether a header without pixels is that of a picture, cut short."""
    sop_class = text(dataset, "SOPClassUID") or text(
        dataset.file_meta, "MediaStorageSOPClassUID"
    )
    uid = load_pydicom().uid.UID(sop_class)
    shared = min(len(uid), len(DICOM_ROOT))
    is_cut_short = uid.name == uid and uid[:shared] == DICOM_ROOT[:shared]
    return "Rows" in dataset or uid in PICTURE_CLASSES or is_cut_short
