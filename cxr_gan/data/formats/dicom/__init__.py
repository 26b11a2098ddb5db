"""DICOM chest radiographs: what a header says, and pixels as a viewer shows them.

pydicom and the decoders come with the extra `dicom`. They are imported when the first
DICOM file is opened.
"""

from cxr_gan.data.formats.dicom.reader import inspect, is_dicom, read_pixels
from cxr_gan.data.formats.dicom.selection import is_lateral

__all__ = ["inspect", "is_dicom", "is_lateral", "read_pixels"]
