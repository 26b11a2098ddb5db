import builtins
import dataclasses
import warnings

import numpy as np
import pydicom
import pytest

from cxr_gan.data.formats import image_file
from cxr_gan.data.formats.dicom import dataset, secondary_capture
from cxr_gan.data.formats.dicom.secondary_capture import Origin

ORIGIN = Origin("Synthetic.", "ab" * 8, 3, 1.0, "Pneumonie, d'été", 4)
GREY = np.array([[0, 1, 127], [128, 254, 255]], np.uint8)
DEEP = np.array([[0, 1, 257], [32767, 65534, 65535]], np.uint16)


@pytest.fixture
def saved(tmp_path):
    """saved(pixels, seed=1, ...) -> the data set that pydicom reads."""

    def saved(pixels=GREY, **changes):
        path = tmp_path / "a.dcm"
        origin = dataclasses.replace(ORIGIN, **changes)
        secondary_capture.save(path, pixels, origin)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return pydicom.dcmread(path)

    return saved


@pytest.mark.parametrize("pixels", [GREY, DEEP, GREY[:1], DEEP.T])
def test_pydicom_reads_the_same_pixels(saved, pixels):
    read = saved(pixels).pixel_array
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)


def test_window_shows_0_as_black_and_the_largest_value_as_white(tmp_path):
    for pixels, scale in ((GREY, 1), (DEEP, 257)):
        square = np.resize(pixels, (32, 32))
        path = tmp_path / "a"  # no ending
        secondary_capture.save(path, square, ORIGIN)
        shown = image_file.read(path, 32).pixels
        np.testing.assert_allclose(shown, square / scale, atol=0.51)


def test_header_says_synthetic_and_names_no_patient(saved):
    header = saved()
    assert header.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert (header.SyntheticData, header.ConversionType) == ("YES", "SYN")
    assert (header.Modality, header.PhotometricInterpretation) == ("OT", "MONOCHROME2")
    assert (header.PatientName, header.PatientID) == (
        "SYNTHETIC^NO PATIENT",
        "SYNTHETIC",
    )
    empty = ("PatientBirthDate", "PatientSex", "StudyDate", "ReferringPhysicianName")
    assert not any(header[keyword].value for keyword in empty)
    equipment = header.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    assert equipment.ManufacturerModelName == ORIGIN.model_hash
    assert "label Pneumonie, d'été, model abab" in header.ImageComments
    assert header.InstanceNumber == 5


CHANGES = [
    {"pixels": GREY + np.uint8(1)},
    {"pixels": GREY.astype(np.uint16)},
    {"pixels": GREY.T},
    *({"model_hash": "cd" * 8}, {"seed": 4}, {"truncation": 0.5}),
    *({"label": "NORMAL"}, {"index": 5}),
]


def uids(header):
    names = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    return {header[name].value for name in names}


def test_uids_are_valid_and_equal_only_for_equal_images(saved):
    all_uids = [uids(saved(**change)) for change in [{}, *CHANGES]]
    assert len(set.union(*all_uids)) == 3 * len(all_uids)
    assert all(pydicom.uid.UID(uid).is_valid for uid in set.union(*all_uids))
    assert uids(saved()) == all_uids[0]
    header = saved()
    assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID


def test_same_image_is_written_in_the_same_bytes_without_those_of_pydicom(tmp_path):
    for name in "ab":
        secondary_capture.save(tmp_path / name, DEEP, ORIGIN)
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    assert b"PYDICOM" not in content
    assert pydicom.uid.PYDICOM_IMPLEMENTATION_UID.encode() not in content


def test_without_pydicom_the_error_names_the_extra(monkeypatch):
    import_module = builtins.__import__

    def without_pydicom(name, *rest):
        if name.startswith("pydicom"):
            raise ImportError("No module named 'pydicom'")
        return import_module(name, *rest)

    dataset.load_pydicom.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without_pydicom)
    with pytest.raises(ImportError, match=r"pip install 'cxr-gan\[dicom\]'"):
        secondary_capture.require_pydicom()
