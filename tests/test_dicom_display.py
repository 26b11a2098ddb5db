"""Grey levels of DICOM files, against the formulas of PS3.3 worked out by hand."""

import numpy as np
import pydicom
import pytest
from dicom_files import image, item, lookup_table, public_file, save

from cxr_gan.data.formats import dicom


def grey(tmp_path, words, **elements):
    """Grey levels of the words [n], stored as an image of one row."""
    words = np.asarray(words)
    words = words if words.dtype in (np.uint8, np.uint16) else words.astype(np.uint16)
    pixels, _ = dicom.read_pixels(save(image(words[None], **elements), tmp_path / "x"))
    assert pixels.dtype == np.uint8
    return pixels[0].tolist()


def window(center, width, **elements):
    return {"WindowCenter": center, "WindowWidth": width, **elements}


def test_values_without_window_fill_the_range_of_the_bits_stored(tmp_path):
    # 255 * x / 4095
    assert grey(tmp_path, [0, 1000, 2048, 4095]) == [0, 62, 128, 255]
    assert grey(tmp_path, [0, 1000, 2048, 4095], bits=15) == [0, 8, 16, 32]
    assert grey(tmp_path, np.array([0, 7, 255], np.uint8)) == [0, 7, 255]


def test_16_bits_without_window_are_scaled_by_the_depth_that_holds_the_values(tmp_path):
    # 12 bits hold 99.9 % of them: 255 * x / 4095. One bright pixel does not count.
    words = np.full(2000, 2000)
    words[:3] = [0, 4095, 60000]
    assert grey(tmp_path, words, bits=16)[:4] == [0, 255, 255, 125]
    assert grey(tmp_path, [0, 2000, 60000], bits=16) == [0, 8, 233]


def test_padding_does_not_count_for_the_depth(tmp_path):
    words = [0, 4095, 65535, 65535]
    shown = grey(tmp_path, words, bits=16, PixelPaddingValue=65535)
    assert shown == [0, 255, 0, 0]


def test_signed_16_bits_without_window(tmp_path):
    # 11 bits and a sign: 255 * (x + 1024) / 2047 for 10 bits of magnitude
    words = np.array([-1000, 0, 1000], np.int16).view(np.uint16)
    shown = grey(tmp_path, words, bits=16, PixelRepresentation=1)
    assert shown == [3, 128, 252]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        # C.11.2.1.2: (x - (c - 0.5)) / (w - 1) + 0.5, here (x - 1999.5) / 999 + 0.5
        (window(2000, 1000), [0, 0, 126, 128, 254, 255, 255]),
        (window(2000, 1000, VOILUTFunction="LINEAR"), [0, 0, 126, 128, 254, 255, 255]),
        (window(2000, 1000, VOILUTFunction=""), [0, 0, 126, 128, 254, 255, 255]),
        # C.11.2.1.3.2: (x - c) / w + 0.5
        (
            window(2000, 1000, VOILUTFunction="LINEAR_EXACT"),
            [0, 0, 126, 128, 254, 255, 255],
        ),
        # C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w))
        (
            window(2000, 1000, VOILUTFunction="SIGMOID"),
            [0, 30, 126, 128, 224, 225, 255],
        ),
        (window([2000, 100], [1000, 50]), [0, 0, 126, 128, 254, 255, 255]),
        (window([2000, 100], 1000), [0, 0, 126, 128, 254, 255, 255]),
        (window(2000, 1), [0, 0, 0, 255, 255, 255, 255]),  # a threshold at 1999.5
    ],
)
def test_window(tmp_path, elements, expected):
    words = [0, 1500, 1995, 2000, 2495, 2500, 4095]
    assert grey(tmp_path, words, **elements) == expected


def test_linear_and_linear_exact_windows_differ(tmp_path):
    words = [5, 9, 10, 14]
    # width 10: (x - 9.5) / 9 + 0.5 and (x - 10) / 10 + 0.5
    assert grey(tmp_path, words, **window(10, 10)) == [0, 113, 142, 255]
    exact = window(10, 10, VOILUTFunction="LINEAR_EXACT")
    assert grey(tmp_path, words, **exact) == [0, 102, 128, 230]


@pytest.mark.parametrize(
    "elements",
    [
        window(None, None),
        window("", ""),
        window(2000, None),
        window(None, 1000),
        window(0, 0),
    ],
)
def test_incomplete_window_and_width_0_are_no_window(tmp_path, elements):
    assert grey(tmp_path, [0, 2048, 4095], **elements) == [0, 128, 255]


def test_window_applies_to_rescaled_values(tmp_path):
    elements = {"RescaleSlope": 0.5, "RescaleIntercept": -1024, **window(0, 1001)}
    # x = 0.5 * stored - 1024; (x + 0.5) / 1000 + 0.5
    assert grey(tmp_path, [1048, 2048, 3046, 3048], **elements) == [0, 128, 255, 255]


def test_negative_slope_turns_the_picture_once(tmp_path):
    elements = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    assert grey(tmp_path, [0, 1000, 4095], **elements) == [255, 193, 0]
    # x = 4095 - stored; (x - 1999.5) / 999 + 0.5
    elements |= window(2000, 1000)
    assert grey(tmp_path, [1600, 2095, 2590], **elements) == [254, 128, 1]


@pytest.mark.parametrize(
    ("photometric", "shape", "is_inverted"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", False),
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        (b"monochrome1 ", None, True),
    ],
)
def test_polarity(tmp_path, photometric, shape, is_inverted):
    elements = {
        "PhotometricInterpretation": photometric,
        "PresentationLUTShape": shape,
        **window(1000, 1001),
    }
    path = tmp_path / "x"
    dataset = image(np.array([[500, 700, 1500]], np.uint16), **elements)
    pixels, _ = dicom.read_pixels(save(dataset, path))
    # (x - 999.5) / 1000 + 0.5, then inverted: the window is not turned.
    straight = np.array([[0, 51, 255]])
    assert pixels.tolist() == (255 - straight if is_inverted else straight).tolist()
    assert dicom.inspect(path).inverted == is_inverted


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_whatever_the_polarity(tmp_path, photometric):
    shown = grey(
        tmp_path,
        [0, 10, 11, 2048, 4095],
        PhotometricInterpretation=photometric,
        PixelPaddingValue=0,
        PixelPaddingRangeLimit=10,
    )
    inner = [11, 2048, 4095]
    expected = [round(255 * x / 4095) for x in inner]
    if photometric == "MONOCHROME1":
        expected = [round(255 - 255 * x / 4095) for x in inner]
    assert shown == [0, 0, *expected]


def test_negative_padding_written_as_unsigned(tmp_path):
    words = np.array([-2048, -2047, 2047], np.int16).view(np.uint16)
    dataset = image(
        words[None],
        PixelRepresentation=1,
        PhotometricInterpretation="MONOCHROME1",
    )
    dataset.add_new("PixelPaddingValue", "US", 63488)
    pixels, _ = dicom.read_pixels(save(dataset, tmp_path / "x"))
    assert pixels.tolist() == [[0, 255, 0]]


def test_padding_beyond_the_bits_stored_blackens_nothing(tmp_path):
    assert grey(tmp_path, [0, 4095], PixelPaddingValue=65535) == [0, 255]


def test_12_bits_in_16_are_sign_extended_and_foreign_bits_ignored(tmp_path):
    # -2048, -1, 0 and 2047 in 12 bits, with an overlay in the bits above them
    words = [0x0800, 0x0FFF, 0xF000, 0x57FF]
    shown = grey(tmp_path, words, PixelRepresentation=1)
    assert shown == [0, 127, 128, 255]  # 255 * (x + 2048) / 4095


def test_high_bit_shifts_values_down(tmp_path):
    words = [0x000F, 0x0010, 0x8000, 0xFFFF]  # 0, 1, 2048 and 4095 above 4 other bits
    assert grey(tmp_path, words, HighBit=15) == [0, 0, 128, 255]
    signed = grey(tmp_path, words, HighBit=15, PixelRepresentation=1)
    assert signed == [128, 128, 0, 127]


def test_modality_lut(tmp_path):
    table = lookup_table(np.array([100, 200, 4095]), first=10, bits=12)
    shown = grey(tmp_path, [0, 10, 11, 12, 4095], ModalityLUTSequence=[table])
    # 255 * entry / 4095; values beyond its ends take the nearest entry
    assert shown == [6, 6, 12, 255, 255]


def test_window_applies_to_the_values_of_a_modality_lut(tmp_path):
    table = lookup_table(np.array([100, 200, 300]), first=0, bits=12)
    elements = {"ModalityLUTSequence": [table], **window(200.5, 201)}
    # (x - 200) / 200 + 0.5
    assert grey(tmp_path, [0, 1, 2], **elements) == [0, 128, 255]


def test_voi_lut_goes_before_the_window(tmp_path):
    table = lookup_table(np.array([0, 1023, 512]), first=100, bits=10)
    elements = {"VOILUTSequence": [table], **window(2000, 1000)}
    assert grey(tmp_path, [0, 100, 101, 102, 4095], **elements) == [0, 0, 255, 128, 128]


def test_voi_lut_of_8_bits_for_values_of_12(tmp_path):
    entries = np.arange(4096) // 16
    table = lookup_table(entries, first=0, bits=8)
    words = [0, 255, 256, 2048, 4095]
    expected = [0, 15, 16, 128, 255]
    assert grey(tmp_path, words, VOILUTSequence=[table]) == expected
    packed = item(LUTDescriptor=[4096, 0, 8])
    packed.add_new("LUTData", "OW", entries.astype(np.uint8).tobytes())
    assert grey(tmp_path, words, VOILUTSequence=[packed]) == expected


def test_voi_lut_with_negative_first_value(tmp_path):
    entries = np.array([0, 1, 2, 3]) * 1000
    table = lookup_table(entries, first=-2, bits=12)
    elements = {"RescaleIntercept": -2, "RescaleSlope": 1}
    expected = [round(255 * value / 4095) for value in entries]
    assert grey(tmp_path, [0, 1, 2, 3], VOILUTSequence=[table], **elements) == expected
    table = lookup_table(entries, first=65534, bits=12)  # -2 as an unsigned number
    assert grey(tmp_path, [0, 1, 2, 3], VOILUTSequence=[table], **elements) == expected


def test_lut_of_65536_entries(tmp_path):
    table = lookup_table(np.arange(65536), first=0, bits=16)
    words = [0, 32768, 65535]
    assert grey(tmp_path, words, bits=16, VOILUTSequence=[table]) == [0, 128, 255]


def test_constant_image_is_read(tmp_path):
    assert grey(tmp_path, [7, 7, 7]) == [0, 0, 0]
    assert grey(tmp_path, [7, 7], bits=16) == [7, 7]


def test_palette(tmp_path):
    def palette(scale):
        return (np.array([0, 1, 2, 255]) * scale).astype("<u2").tobytes()

    elements = {
        "PhotometricInterpretation": "PALETTE COLOR",
        "RedPaletteColorLookupTableDescriptor": [4, 0, 16],
        "GreenPaletteColorLookupTableDescriptor": [4, 0, 16],
        "BluePaletteColorLookupTableDescriptor": [4, 0, 16],
        "RedPaletteColorLookupTableData": palette(256),
        "GreenPaletteColorLookupTableData": palette(128),
        "BluePaletteColorLookupTableData": palette(257),
    }
    words = np.array([0, 1, 2, 3, 200], np.uint8)
    shown = grey(tmp_path, words, **elements)
    last = [255, 127, 255]
    assert shown == [[0, 0, 0], [1, 0, 1], [2, 1, 2], last, last]


def test_grey_rgb_in_both_planar_configurations(tmp_path):
    words = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    by_pixel = save(image(words), tmp_path / "pixel")
    dataset = image(words, PlanarConfiguration=1, **window(100, 20))
    dataset.PixelData = words.transpose(2, 0, 1).tobytes()
    by_plane = save(dataset, tmp_path / "plane")
    np.testing.assert_array_equal(dicom.read_pixels(by_pixel)[0], words)
    np.testing.assert_array_equal(dicom.read_pixels(by_plane)[0], words)


def test_rgb_of_16_bits(tmp_path):
    words = np.array([[[0, 2048, 4095]]], np.uint16)
    pixels, _ = dicom.read_pixels(save(image(words), tmp_path / "x"))
    assert pixels.tolist() == [[[0, 128, 255]]]


RECTANGLE = {
    "ShutterUpperHorizontalEdge": 3,
    "ShutterLowerHorizontalEdge": 8,
    "ShutterLeftVerticalEdge": 5,
    "ShutterRightVerticalEdge": 9,
}
CIRCLE = {"CenterOfCircularShutter": [5, 6], "RadiusOfCircularShutter": 3}
POLYGON = {"VerticesOfThePolygonalShutter": [2, 2, 2, 9, 9, 9]}  # row, column, ...


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("elements", "shown", "hidden"),
    [
        ({"ShutterShape": "RECTANGULAR", **RECTANGLE}, (3, 5), (3, 3)),
        ({"ShutterShape": "RECTANGULAR", **RECTANGLE}, (6, 7), (8, 6)),
        ({"ShutterShape": "CIRCULAR", **CIRCLE}, (4, 7), (7, 8)),
        ({"ShutterShape": "CIRCULAR", **CIRCLE}, (4, 3), (1, 3)),
        ({"ShutterShape": "POLYGONAL", **POLYGON}, (3, 6), (6, 3)),
        (
            {"ShutterShape": ["RECTANGULAR", "CIRCULAR"], **RECTANGLE, **CIRCLE},
            (4, 6),
            (6, 8),
        ),
    ],
)
def test_outside_of_the_display_shutter_is_black(
    tmp_path, photometric, elements, shown, hidden
):
    words = np.full((10, 12), 1000, np.uint16)
    elements = {**elements, "PhotometricInterpretation": photometric}
    pixels, _ = dicom.read_pixels(save(image(words, **elements), tmp_path / "x"))
    grey_level = 62 if photometric == "MONOCHROME2" else 193
    assert (pixels[shown], pixels[hidden]) == (grey_level, 0)


@pytest.mark.parametrize(
    "elements",
    [
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "CIRCULAR", "RadiusOfCircularShutter": 3},
        {"ShutterShape": "BITMAP"},
        {"ShutterShape": "RECTANGULAR", **dict.fromkeys(RECTANGLE, 0)},
        RECTANGLE,
    ],
)
def test_incomplete_shutter_and_one_that_hides_all_are_passed_over(tmp_path, elements):
    assert grey(tmp_path, [1000] * 12, **elements) == [62] * 12


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, 1),
        ({"PixelSpacing": [0.2, 0.1]}, 2),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, 0.5),
        ({"PixelSpacing": [0.3, 0.1], "ImagerPixelSpacing": [0.1, 0.1]}, 3),
        ({"PixelSpacing": [0, 0], "PixelAspectRatio": [4, 5]}, 0.8),
        ({"PixelAspectRatio": [1, 2]}, 0.5),
        ({"PixelAspectRatio": [0, 0]}, 1),
        ({"PixelSpacing": 0.2}, 1),
        ({"PixelSpacing": b"a\\b"}, 1),
    ],
)
def test_pixel_aspect_is_height_by_width(tmp_path, elements, expected):
    dataset = image(np.zeros((2, 2), np.uint16), **elements)
    _, aspect = dicom.read_pixels(save(dataset, tmp_path / "x"))
    assert aspect == pytest.approx(expected)


@pytest.mark.parametrize(
    "name", ["RG1_UNCR.dcm", "RG1_UNCI.dcm", "RG1_J2KR.dcm", "RG3_UNCR.dcm"]
)
def test_public_radiographs_match_the_formulas(name):
    path = public_file(name)
    pixels, _ = dicom.read_pixels(path)
    dataset = pydicom.dcmread(path)
    x = dataset.pixel_array.astype(np.float64)
    y = (x - (dataset.WindowCenter - 0.5)) / (dataset.WindowWidth - 1) + 0.5
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    expected = 255 * (1 - np.clip(y, 0, 1))
    assert np.abs(pixels - expected).max() <= 0.5 + 1e-6


def test_public_file_with_voi_lut():
    path = public_file("vlut_04.dcm")
    dataset = pydicom.dcmread(path)
    table = dataset.VOILUTSequence[0]
    count, first, bits = table.LUTDescriptor
    index = dataset.pixel_array.astype(int) - first
    entries = np.array(table.LUTData)[np.clip(index, 0, count - 1)]
    expected = 255 * entries / (2**bits - 1)
    assert np.abs(dicom.read_pixels(path)[0] - expected).max() <= 0.5 + 1e-6


def test_public_file_with_modality_lut():
    path = public_file("mlut_18.dcm")
    dataset = pydicom.dcmread(path)
    table = dataset.ModalityLUTSequence[0]
    count, first, bits = table.LUTDescriptor
    index = dataset.pixel_array.astype(int) - first
    entries = np.array(table.LUTData)[np.clip(index, 0, count - 1)]
    assert "VOILUTSequence" not in dataset and "WindowCenter" not in dataset
    expected = 255 * entries / (2**bits - 1)
    assert np.abs(dicom.read_pixels(path)[0] - expected).max() <= 0.5 + 1e-6


def test_sigmoid_far_from_its_center_has_no_overflow(tmp_path):
    elements = window(0, 1e-3, VOILUTFunction="SIGMOID")
    with np.errstate(all="raise"):
        assert grey(tmp_path, [0, 1, 4095], **elements) == [128, 255, 255]
