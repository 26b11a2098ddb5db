import builtins
import dataclasses
import shutil
import subprocess
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image

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


# Programs of others


@pytest.fixture(params=[8, 16], ids=["8 bit", "16 bit"])
def square(request, tmp_path):
    """A written image of every eighth grey value, and its pixels."""
    largest = 2**request.param - 1
    values = np.linspace(0, largest, 32**2).reshape(32, 32)
    pixels = values.round().astype(f"uint{request.param}")
    secondary_capture.save(tmp_path / "a.dcm", pixels, ORIGIN)
    return tmp_path / "a.dcm", pixels


def debian_program(name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed; .ci/run names its Debian package")
    return name


@pytest.mark.slow
def test_simpleitk_reads_the_same_pixels(square):
    import SimpleITK

    path, pixels = square
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels[None])


@pytest.mark.system
def test_dcmtk_reads_the_same_pixels(square, tmp_path):
    path, pixels = square
    depth = "+opb" if pixels.dtype == np.uint8 else "+opw"
    command = [debian_program("dcmj2pnm"), depth, path, tmp_path / "a.pgm"]
    subprocess.run(command, check=True)
    with Image.open(tmp_path / "a.pgm") as read:
        np.testing.assert_array_equal(np.asarray(read), pixels)


@pytest.mark.system
def test_dciodvfy_reports_only_an_attribute_unknown_to_it_and_the_missing_date(square):
    command = [debian_program("dciodvfy"), "-new", square[0]]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line != "SCImage"]
    synthetic, undated = "</(0008,001c)>", "needed to build DICOMDIR"
    errors = [line for line in lines if not line.startswith("Warning - ")]
    assert errors == [
        f"Error - {synthetic} - Attribute with an even group number is not a "
        "recognized standard attribute"
    ]
    assert not [x for x in lines if synthetic not in x and undated not in x]
