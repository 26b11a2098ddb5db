"""What the header of a DICOM file decides: left out, refused, or read."""

import numpy as np
import pytest
from dicom_files import (
    EXPLICIT,
    STORAGE,
    compressed,
    header,
    image,
    item,
    lookup_table,
    public_file,
    save,
)

from cxr_gan.data.formats import dicom
from cxr_gan.data.listing import Header, LeftOutError

JPEG_LS = "1.2.840.10008.1.2.4.80"
WORDS = np.arange(12, dtype=np.uint16).reshape(3, 4)


def inspect(tmp_path, views="frontal", **elements):
    return dicom.inspect(save(image(WORDS, **elements), tmp_path / "scan"), views)


def test_dicom_is_known_by_its_preamble(tmp_path):
    assert dicom.is_dicom(save(image(WORDS), tmp_path / "no_suffix"))
    for content in (b"", b"DICM", b"\x89PNG\r\n" + b"\0" * 200, b"\0" * 128 + b"DIC"):
        (tmp_path / "x.dcm").write_bytes(content)
        assert not dicom.is_dicom(tmp_path / "x.dcm")


def test_header_of_a_radiograph(tmp_path):
    elements = {"PatientID": "0012 ", "Manufacturer": "Maker", "Modality": "DX"}
    assert inspect(tmp_path, **elements) == Header(
        kind="DICOM",
        height=3,
        width=4,
        bits=12,
        patient_id="0012",
        study="1.2.3",
        view="PA",
        modality="DX",
        manufacturer="Maker",
        inverted=False,
    )


@pytest.mark.parametrize(
    ("elements", "patient_id", "study"),
    [
        ({"PatientID": b" A7\0"}, "A7", "1.2.3"),
        ({"PatientID": None, "StudyInstanceUID": None}, "", ""),
        (
            {"PatientID": "", "StudyInstanceUID": "", "SeriesInstanceUID": "9.8"},
            "",
            "9.8",
        ),
        ({"PatientID": b"A\\B "}, "A\\B", "1.2.3"),
    ],
)
def test_patient_and_study_are_text(tmp_path, elements, patient_id, study):
    found = inspect(tmp_path, **elements)
    assert (found.patient_id, found.study) == (patient_id, study)


FRONTAL = [
    "PA",
    "AP",
    "pa",
    "Frontal",
    "AP SUPINE",
    "AP_horizontal",
    "POSTERO_ANTERIOR",
]
LATERAL = ["LL", "RL", "LAT", "Lateral", "L", "r", "LLD", "RLD", "AP LLD", "LLO", "RAO"]
LATERAL += ["LEFT LATERAL", "AP_LATERAL", "Lateral decubitus", "OBLIQUE", "LLAT", "LPO"]


@pytest.mark.parametrize("view", ["", *FRONTAL])
def test_frontal_and_unknown_views_are_not_lateral(view):
    assert not dicom.is_lateral(view)


@pytest.mark.parametrize("view", LATERAL)
def test_lateral_views_are_known(view):
    assert dicom.is_lateral(view)


def view_code(value, meaning):
    code = item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)
    return [code]


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": "LL"}, "LL"),
        ({"ViewPosition": "", "PatientOrientation": ["A", "F"]}, "LATERAL"),
        ({"ViewPosition": "", "PatientOrientation": ["P", "F"]}, "LATERAL"),
        ({"ViewPosition": "", "ViewCodeSequence": view_code("399173006", "x")}, "LL"),
        (
            {"ViewPosition": None, "ViewCodeSequence": view_code("1", "left oblique")},
            "LEFT OBLIQUE",
        ),
    ],
)
def test_lateral_views_are_left_out_unless_all_are_asked_for(tmp_path, elements, view):
    with pytest.raises(LeftOutError, match=r"^a lateral, decubitus or oblique view$"):
        inspect(tmp_path, **elements)
    assert inspect(tmp_path, views="all", **elements).view == view


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": ""}, ""),
        ({"ViewPosition": "", "PatientOrientation": ["L", "F"]}, ""),
        ({"ViewPosition": "PA", "PatientOrientation": ["A", "F"]}, "PA"),
        ({"ViewPosition": "", "ViewCodeSequence": view_code("399348003", "x")}, "AP"),
    ],
)
def test_frontal_and_unknown_views_are_read(tmp_path, elements, view):
    assert inspect(tmp_path, **elements).view == view


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "OT", "", None])
@pytest.mark.parametrize("part", ["CHEST", "chest", "THORAX", "PORT CHEST", "", None])
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_radiographs_of_the_chest_are_read(tmp_path, modality, part):
    inspect(tmp_path, Modality=modality, BodyPartExamined=part)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Modality": "CT"}, "modality CT, not a radiograph"),
        ({"Modality": "MG"}, "modality MG, not a radiograph"),
        ({"BodyPartExamined": "HAND"}, "body part HAND, not a chest"),
        ({"NumberOfFrames": 3}, "an image of several frames"),
    ],
)
def test_other_images_are_left_out(tmp_path, elements, reason):
    with pytest.raises(LeftOutError, match=f"^{reason}$"):
        inspect(tmp_path, views="all", **elements)


@pytest.mark.parametrize(
    ("sop_class", "modality", "reason"),
    [
        (f"{STORAGE}.88.11", "SR", "modality SR, not a radiograph"),
        (f"{STORAGE}.88.11", None, "a DICOM object without a picture"),
        (f"{STORAGE}.104.1", None, "a DICOM object without a picture"),
        (f"{STORAGE}.11.1", None, "a DICOM object without a picture"),
        ("1.2.840.10008.1.3.10", None, "a DICOM object without a picture"),
    ],
)
def test_reports_are_left_out(tmp_path, sop_class, modality, reason):
    dataset = header(SOPClassUID=sop_class, Modality=modality, BodyPartExamined=None)
    dataset.add_new("DataSetTrailingPadding", "OB", b"\0" * 8)
    with pytest.raises(LeftOutError, match=f"^{reason}"):
        dicom.inspect(save(dataset, tmp_path / "scan"))


@pytest.mark.parametrize("name", ["DICOMDIR", "test-SR.dcm", "reportsi.dcm"])
def test_public_reports_are_left_out(name):
    with pytest.raises(LeftOutError):
        dicom.inspect(public_file(name))


def test_public_headers_without_their_pixels_are_refused():
    with pytest.raises(ValueError, match=r"chrJapMulti.dcm: cut short: no Pixel Data"):
        dicom.inspect(public_file("chrJapMulti.dcm"), "all")


REFUSED = [
    ({"Rows": None}, "its header has no Rows; copy it again or delete it"),
    ({"Columns": 0}, "its header has no Columns"),
    ({"BitsAllocated": None}, "its header has no BitsAllocated"),
    ({"PhotometricInterpretation": None}, "its header has no PhotometricInterp"),
    ({"PhotometricInterpretation": "CMYK"}, "PhotometricInterpretation is 'CMYK'"),
    ({"PhotometricInterpretation": "RGB"}, "SamplesPerPixel is 1, which contradicts"),
    ({"BitsStored": 17}, "BitsStored is 17 and BitsAllocated is 16"),
    ({"BitsAllocated": 32, "Rows": 1}, "BitsStored is 12 and BitsAllocated is 32"),
    ({"HighBit": 10}, "HighBit is 10, which contradicts BitsStored 12"),
    ({"HighBit": 16}, "HighBit is 16, which contradicts BitsStored 12"),
    ({"Rows": 4}, "cut short: 24 of 32 bytes of Pixel Data"),
    ({"Rows": 65535, "Columns": 65535}, "too large: 65535 x 65535 pixels"),
    ({"NumberOfFrames": b"1A"}, "NumberOfFrames .*correct the header"),
    ({"RescaleSlope": 0}, "RescaleSlope is 0, which leaves no picture"),
    ({"RescaleSlope": b"one "}, "RescaleSlope is 'one', not a number"),
    ({"RescaleIntercept": b"NaN "}, "RescaleIntercept is 'NaN', not a number"),
    ({"WindowCenter": b"abc ", "WindowWidth": "9"}, "WindowCenter is 'abc', not a n"),
    ({"WindowCenter": b"2048,5", "WindowWidth": "9"}, "WindowCenter is '2048,5', not"),
    ({"WindowCenter": b"NaN ", "WindowWidth": "9"}, "WindowCenter is 'NaN', not a n"),
    ({"WindowCenter": "1", "WindowWidth": b"inf "}, "WindowWidth is 'inf', not a n"),
    ({"WindowCenter": "1", "WindowWidth": "-5"}, "WindowWidth is -5 and VOILUTFuncti"),
    ({"WindowCenter": "1", "WindowWidth": "0.5"}, "WindowWidth is 0.5 and VOILUTFun"),
    (
        {"WindowCenter": "1", "WindowWidth": "9", "VOILUTFunction": "LOG"},
        "VOILUTFunction is LOG, which is no window",
    ),
    (
        {"VOILUTSequence": [lookup_table(np.array([1, 2]), 0, bits=16, count=4)]},
        "VOILUTSequence has 2 entries of up to 2, which contradicts",
    ),
    (
        {"VOILUTSequence": [lookup_table(np.array([1, 256]), first=0, bits=8)]},
        "VOILUTSequence has 2 entries of up to 256, which contradicts",
    ),
    (
        {"ModalityLUTSequence": [lookup_table(np.array([1, 2]), 0, bits=99)]},
        r"ModalityLUTSequence has the LUT Descriptor \[2, 0, 99\]",
    ),
    ({"ModalityLUTSequence": [item()]}, r"has the LUT Descriptor \[\]"),
]


@pytest.mark.parametrize(("elements", "words"), REFUSED)
def test_unusable_header_is_refused_in_one_sentence(tmp_path, elements, words):
    with pytest.raises(ValueError, match=f"scan: .*{words}") as caught:
        inspect(tmp_path, **elements)
    assert not isinstance(caught.value, LeftOutError)
    assert str(caught.value).endswith(("delete it", "delete the file", "smaller"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=f"scan: .*{words}"):
        dicom.read_pixels(tmp_path / "scan")


def test_pixels_that_contradict_the_transfer_syntax_are_refused(tmp_path):
    path = save(compressed(b"\xff\xd9", JPEG_LS, WORDS), tmp_path / "scan")
    content = path.read_bytes()
    explicit = EXPLICIT.encode().ljust(len(JPEG_LS), b"\0")
    path.write_bytes(content.replace(JPEG_LS.encode(), explicit))
    with pytest.raises(ValueError, match="scan: its Pixel Data contradict"):
        dicom.inspect(path)


def test_file_cut_within_its_header_is_refused_wherever_it_ends(tmp_path):
    path = save(image(WORDS, WindowCenter=5, WindowWidth=9), tmp_path / "scan")
    content = path.read_bytes()
    dicom.read_pixels(path)
    for length in range(132, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="scan: ") as caught:
            dicom.inspect(path)
        assert not isinstance(caught.value, LeftOutError)


def test_damaged_bytes_never_raise_anything_but_a_sentence(tmp_path):
    dataset = image(WORDS, VOILUTSequence=[lookup_table(np.arange(9), 0, 4)])
    path = save(dataset, tmp_path / "scan")
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        for place in rng.integers(132, len(content), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            dicom.inspect(path)
            dicom.read_pixels(path)
        except (ValueError, ImportError):
            refused += 1
    assert 0 < refused < 500


def test_headers_with_private_elements_and_unknown_character_sets_are_read(tmp_path):
    dataset = image(WORDS, SpecificCharacterSet=b"MARTIAN", PatientID=b"\xff\xfe7 ")
    dataset.add_new((0x0009, 0x0010), "LO", "MAKER")
    dataset.add_new((0x0009, 0x1001), "UN", b"\0\1\2\3")
    assert dicom.inspect(save(dataset, tmp_path / "scan")).patient_id.endswith("7")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"scan: cannot be read .* check its path"):
        dicom.inspect(tmp_path / "scan")
