"""Writes a generated image as a DICOM Secondary Capture (PS3.3 A.8.1).

The file says that it is synthetic, and of no patient: Synthetic Data (0008,001C) is
YES, Conversion Type is SYN. Each image is a study of its own, since no two show the
same person; grouping by study does not join them.
"""

import dataclasses
import hashlib
import uuid
from pathlib import Path

import numpy as np

from cxr_gan.data.formats.dicom.dataset import load_pydicom
from cxr_gan.storage import files
from cxr_gan.version import __version__

STORAGE = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture Image Storage
EXPLICIT = "1.2.840.10008.1.2.1"  # Explicit VR Little Endian
MAX_LO, MAX_ST = 64, 1024  # characters of a Long String and of a Short Text
NO_VALUE = (
    *("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"),
    *("StudyID", "StudyDate", "StudyTime", "PatientOrientation", "Manufacturer"),
)


@dataclasses.dataclass(frozen=True)
class Origin:
    """How an image was generated."""

    description: str
    model_hash: str
    seed: int
    truncation: float
    label: str
    index: int


def uid(*parts: object) -> str:
    """A UID of at most 44 characters that depends on the parts only (PS3.5 B.2)."""
    name = "/".join(map(str, parts))
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, name).int}"


def require_pydicom() -> None:
    """Checks that DICOM files can be written, before anything is generated.

    Raises:
        ImportError: pydicom is not installed; names the extra that installs it.
    """
    try:
        load_pydicom()
    except ImportError as error:
        raise ImportError(
            f"{error}, or: pip install 'cxr-gan[dicom]', the extra that has both"
        ) from error


def save(path: Path, pixels: np.ndarray, origin: Origin) -> None:
    """Writes one image.

    The UIDs are hashes of the pixels and of the origin: the same image has the same
    UIDs, and no two different ones share any.

    Args:
        path: of the file.
        pixels: uint8 or uint16 [h, w]; 0 is black, the largest value is white.
        origin: how they were generated.

    Raises:
        ImportError: pydicom is not installed.
        files.DiskError: the file cannot be written.
    """
    pydicom = load_pydicom()
    bits = 8 * pixels.dtype.itemsize
    content = hashlib.sha256(_even(pixels)).hexdigest()
    image = ("cxr_gan", *dataclasses.astuple(origin), pixels.shape, bits, content)

    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    # pydicom's own would change the bytes with its version.
    ds.file_meta.ImplementationClassUID = uid("cxr_gan", "implementation")
    ds.file_meta.ImplementationVersionName = f"CXR_GAN {__version__}"[:16]
    ds.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, for names of classes
    ds.SOPClassUID = STORAGE
    ds.SOPInstanceUID = uid(*image, "instance")
    ds.StudyInstanceUID = uid(*image, "study")
    ds.SeriesInstanceUID = uid(*image, "series")
    ds.SeriesNumber, ds.InstanceNumber = 1, origin.index + 1
    ds.ConversionType, ds.Modality = "SYN", "OT"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.SyntheticData = "YES"
    ds.PatientName, ds.PatientID = "SYNTHETIC^NO PATIENT", "SYNTHETIC"
    for keyword in NO_VALUE:
        setattr(ds, keyword, "")
    ds.BodyPartExamined = "CHEST"
    ds.BurnedInAnnotation = ds.RecognizableVisualFeatures = "NO"
    ds.LossyImageCompression = "00"
    ds.DerivationDescription = origin.description[:MAX_ST]
    ds.ImageComments = (
        f"label {origin.label}, model {origin.model_hash}, seed {origin.seed}, "
        f"truncation {origin.truncation}, index {origin.index}"
    )
    ds.ContributingEquipmentSequence = [_equipment(origin)]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit, ds.PixelRepresentation = bits - 1, 0
    ds.WindowCenter, ds.WindowWidth = str(2 ** (bits - 1)), str(2**bits)
    ds.add_new("PixelData", "OB" if bits == 8 else "OW", _even(pixels))
    with files.atomic_write(path) as unfinished:
        ds.save_as(unfinished, enforce_file_format=True)


def _equipment(origin: Origin) -> object:
    """The program that made the image, as an item of the sequence (PS3.3 C.12.1)."""
    pydicom = load_pydicom()
    purpose = pydicom.Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109100", "DCM"
    purpose.CodeMeaning = "Synthesizing Equipment"
    item = pydicom.Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = "cxr_gan"
    item.ManufacturerModelName = origin.model_hash[:MAX_LO]
    item.SoftwareVersions = __version__[:MAX_LO]
    return item


def _even(pixels: np.ndarray) -> bytes:
    """Little-endian bytes, padded to an even number (PS3.5 8.1.1)."""
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    return content + b"\0" * (len(content) % 2)
