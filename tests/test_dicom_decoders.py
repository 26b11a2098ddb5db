"""DICOM transfer syntaxes: the same image comes out of each, or a sentence."""

import subprocess
import sys

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_files import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    compressed,
    header,
    image,
    public_file,
    save,
)
from pydicom.encaps import encapsulate

from cxr_gan.data.formats import dicom

JPEG = "1.2.840.10008.1.2.4"
RLE = "1.2.840.10008.1.2.5"


def smooth(bits):
    """An image of 24 x 32 pixels with an edge, as a radiograph has it."""
    y, x = np.mgrid[:24, :32]
    values = (y * 3 + x * 5 + 40 * (x > 16)) / 280 * (2**bits - 1)
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def lossless_jpeg(predictor):
    return lambda words: imagecodecs.jpeg_encode(
        words, lossless=True, predictor=predictor, bitspersample=16
    )


def lossy_jpeg(words):
    bits = 8 if words.dtype == np.uint8 else 12
    return imagecodecs.jpeg_encode(words, level=97, bitspersample=bits)


def jpeg2000(words):
    return imagecodecs.jpeg2k_encode(words, codecformat="j2k", reversible=True, level=0)


def run_length(words):
    dataset = image(words)
    dataset.compress(RLE, encoding_plugin="pydicom", generate_instance_uid=False)
    return next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))


LOSSLESS = {
    f"{JPEG}.57": lossless_jpeg(4),
    f"{JPEG}.70": lossless_jpeg(1),
    f"{JPEG}.80": imagecodecs.jpegls_encode,
    f"{JPEG}.90": jpeg2000,
    f"{JPEG}.91": jpeg2000,
    f"{JPEG}.201": imagecodecs.htj2k_encode,
    f"{JPEG}.203": imagecodecs.htj2k_encode,
    RLE: run_length,
}


ENCODERS = {
    **LOSSLESS,
    f"{JPEG}.50": lossy_jpeg,
    f"{JPEG}.51": lossy_jpeg,
    f"{JPEG}.81": lambda words: imagecodecs.jpegls_encode(words, level=2),
}


def read(dataset, path):
    return dicom.read_pixels(save(dataset, path))[0]


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("bits", [12, 16])
def test_lossless_frame_equals_the_native_one(tmp_path, syntax, bits):
    words = smooth(bits)
    elements = {"bits": bits, "WindowCenter": 1500, "WindowWidth": 2500}
    native = read(image(words, **elements), tmp_path / "native")
    encoded = compressed(LOSSLESS[syntax](words), syntax, words, **elements)
    np.testing.assert_array_equal(read(encoded, tmp_path / "encoded"), native)
    assert dicom.inspect(tmp_path / "encoded").bits == bits


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_frame_of_signed_values(tmp_path, syntax):
    words = (smooth(12).astype(np.int16) - 2048).view(np.uint16)
    elements = {"bits": 16, "PixelRepresentation": 1}
    elements |= {"WindowCenter": 0, "WindowWidth": 4096}
    native = read(image(words, **elements), tmp_path / "native")
    assert native.min() < 10 and native.max() > 230
    encoded = compressed(LOSSLESS[syntax](words), syntax, words, **elements)
    np.testing.assert_array_equal(read(encoded, tmp_path / "encoded"), native)


@pytest.mark.parametrize(
    ("number", "bits", "largest"), [(50, 8, 4), (51, 8, 4), (51, 12, 2), (81, 8, 2)]
)
def test_lossy_frame_is_near_the_original(tmp_path, number, bits, largest):
    words, syntax = smooth(bits), f"{JPEG}.{number}"
    pixels = read(compressed(ENCODERS[syntax](words), syntax, words), tmp_path / "x")
    difference = np.abs(pixels - words * (255 / (2**bits - 1)))
    assert 0 < difference.max() <= largest


def test_grey_rgb_frames_are_read(tmp_path):
    grey = np.repeat(smooth(8)[..., None], 3, axis=2)
    for syntax, frame in {
        f"{JPEG}.70": imagecodecs.jpeg_encode(grey, lossless=True, colorspace="rgb"),
        f"{JPEG}.80": imagecodecs.jpegls_encode(grey),
        f"{JPEG}.90": jpeg2000(grey),
        RLE: run_length(grey),
    }.items():
        pixels = read(compressed(frame, syntax, grey), tmp_path / syntax)
        np.testing.assert_array_equal(pixels, grey, err_msg=syntax)
    frame = lossy_jpeg(grey)
    elements = {"PhotometricInterpretation": "YBR_FULL_422"}
    pixels = read(compressed(frame, f"{JPEG}.50", grey, **elements), tmp_path / "50")
    assert np.abs(pixels.astype(int) - grey).max() <= 4


def test_ybr_full_frame_becomes_rgb(tmp_path):
    ybr = np.array([[[100, 128, 128], [100, 128, 228]]], np.uint8)
    elements = {"PhotometricInterpretation": "YBR_FULL"}
    # PS3.3 C.7.6.3.1.2: R = Y + 1.402 (Cr - 128), G = Y - 0.714 (Cr - 128), B = Y here
    expected = [[[100, 100, 100], [240, 29, 100]]]
    assert read(image(ybr, **elements), tmp_path / "native").tolist() == expected
    frame = imagecodecs.jpegls_encode(ybr)
    encoded = compressed(frame, f"{JPEG}.80", ybr, **elements)
    assert read(encoded, tmp_path / "encoded").tolist() == expected


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("syntax", [IMPLICIT, DEFLATED, BIG_ENDIAN])
def test_native_encodings(tmp_path, syntax, bits):
    words = smooth(bits)[:23, :31]  # an odd number of pixels
    expected = read(image(words), tmp_path / "explicit")
    dataset = image(words)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == BIG_ENDIAN and bits == 12:
        dataset.PixelData = words.astype(">u2").tobytes()
    np.testing.assert_array_equal(read(dataset, tmp_path / "x"), expected)


def test_big_endian_words_that_hold_two_pixels(tmp_path):
    words = smooth(8)
    dataset = image(words)
    dataset.file_meta.TransferSyntaxUID = BIG_ENDIAN
    dataset["PixelData"].VR = "OW"
    dataset.PixelData = words.reshape(-1, 2)[:, ::-1].tobytes()
    np.testing.assert_array_equal(read(dataset, tmp_path / "x"), words)


@pytest.mark.parametrize("implicit", [True, False])
def test_missing_transfer_syntax_is_found_from_the_encoding(tmp_path, implicit):
    words = smooth(12)
    expected = read(image(words), tmp_path / "whole")
    dataset = image(words)
    del dataset.file_meta
    body = pydicom.filebase.DicomBytesIO()
    body.is_little_endian, body.is_implicit_VR = True, implicit
    pydicom.filewriter.write_dataset(body, dataset)
    meta = b"\x02\0\0\0UL\x04\0\0\0\0\0"  # a group of length 0
    path = tmp_path / "x"
    path.write_bytes(b"\0" * 128 + b"DICM" + meta + body.getvalue())
    np.testing.assert_array_equal(dicom.read_pixels(path)[0], expected)


def test_native_pixels_that_are_too_long_are_read(tmp_path):
    words = smooth(12)
    dataset = image(words)
    expected = read(dataset, tmp_path / "exact")
    dataset.PixelData += b"\xff" * 100
    np.testing.assert_array_equal(read(dataset, tmp_path / "long"), expected)


def test_frame_in_several_fragments_and_padded_frames_are_read(tmp_path):
    words = smooth(12)
    expected = read(image(words), tmp_path / "native")
    frame = LOSSLESS[f"{JPEG}.80"](words)
    dataset = compressed(frame, f"{JPEG}.80", words)
    dataset.PixelData = encapsulate([frame], fragments_per_frame=3, has_bot=False)
    np.testing.assert_array_equal(read(dataset, tmp_path / "x"), expected)
    for padding in (b"\0\0", b"\xff", b"\xff\0"):
        dataset = compressed(frame + padding, f"{JPEG}.80", words)
        np.testing.assert_array_equal(read(dataset, tmp_path / "x"), expected)


@pytest.mark.parametrize("part", [0.5, 0.9])
@pytest.mark.parametrize("syntax", ENCODERS)
def test_frame_cut_short_is_refused(tmp_path, syntax, part):
    words = smooth(8 if syntax == f"{JPEG}.50" else 12)
    frame = ENCODERS[syntax](words)
    dataset = compressed(frame[: int(len(frame) * part)], syntax, words)
    path = save(dataset, tmp_path / "scan")
    with pytest.raises(ValueError, match=r"scan: (cut short|damaged Pixel Data)"):
        dicom.read_pixels(path)


@pytest.mark.parametrize("syntax", [f"{JPEG}.70", f"{JPEG}.90"])
def test_compressed_file_cut_short_is_refused(tmp_path, syntax):
    words = smooth(12)
    path = save(compressed(LOSSLESS[syntax](words), syntax, words), tmp_path / "scan")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"scan: (cut short|damaged)"):
        dicom.read_pixels(path)


@pytest.mark.parametrize("syntax", [EXPLICIT, DEFLATED])
def test_native_file_cut_short_is_refused(tmp_path, syntax):
    dataset = image(np.random.default_rng(0).integers(0, 4096, (64, 64), np.uint16))
    dataset.file_meta.TransferSyntaxUID = syntax
    path = save(dataset, tmp_path / "scan")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"scan: (cut short|damaged)"):
        dicom.inspect(path)


@pytest.mark.parametrize(
    ("place", "value"), [(0, 1), (0, 3), (1, 0), (2, 64), (2, 2**24), (2, 2**32 - 1)]
)
def test_run_length_segments_outside_of_the_frame_are_refused(tmp_path, place, value):
    words = smooth(12)
    start = np.frombuffer(run_length(words)[:64], "<u4").copy()
    assert start[:2].tolist() == [2, 64]
    start[place] = value
    dataset = compressed(start.tobytes() + run_length(words)[64:], RLE, words)
    with pytest.raises(ValueError, match="scan: damaged Pixel Data"):
        read(dataset, tmp_path / "scan")


def test_frame_that_contradicts_the_header_is_refused(tmp_path):
    words = smooth(12)
    frame = LOSSLESS[f"{JPEG}.80"](words[:-1])
    path = save(compressed(frame, f"{JPEG}.80", words), tmp_path / "scan")
    with pytest.raises(ValueError, match=r"scan: its frame is uint16 \(23, 32\)"):
        dicom.read_pixels(path)
    frame = LOSSLESS[f"{JPEG}.80"](words)
    path = save(compressed(frame, f"{JPEG}.80", smooth(8)), tmp_path / "scan")
    with pytest.raises(ValueError, match=r"scan: its frame is uint16 .* of 8 bits"):
        dicom.read_pixels(path)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        (f"{JPEG}.92", "JPEG 2000 Part 2"),
        (f"{JPEG}.100", "MPEG2"),
        ("1.2.826.0.1.3680043.9.9", "1.2.826.0.1.3680043.9.9"),
    ],
)
def test_transfer_syntax_without_decoder_is_named_in_the_header_already(
    tmp_path, syntax, name
):
    path = save(compressed(b"\0" * 8, syntax, smooth(8)), tmp_path / "scan")
    with pytest.raises(ValueError, match=f"scan: its transfer syntax {name}.* convert"):
        dicom.inspect(path)


def without(modules, code, *paths):
    """Output of `code` in a process that cannot import `modules`."""
    block = f"import sys; sys.modules.update(dict.fromkeys({modules!r}))\n"
    start = "import pathlib; paths = [pathlib.Path(p) for p in sys.argv[1:]]\n"
    start += "from cxr_gan.data.formats import dicom\n"
    done = subprocess.run(
        [sys.executable, "-c", block + start + code, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


SAY_ERRORS = """
for path in paths:
    try:
        dicom.inspect(path)
    except ImportError as error:
        print(error)
"""
DECODERS = ["imagecodecs", "gdcm", "jpeg_ls", "openjpeg", "libjpeg", "pylibjpeg"]


def test_missing_pydicom_is_named(tmp_path):
    path = save(image(smooth(8)), tmp_path / "scan")
    assert without(["pydicom"], SAY_ERRORS, path) == (
        f"{path}: DICOM needs pydicom; type: pip install pydicom imagecodecs\n"
    )


def test_missing_decoder_is_named_before_any_decoding(tmp_path):
    words = smooth(12)
    paths = [
        save(compressed(LOSSLESS[syntax](words), syntax, words), tmp_path / syntax)
        for syntax in (f"{JPEG}.70", f"{JPEG}.80")
    ]
    names = [pydicom.uid.UID(path.name).name for path in paths]
    assert without(DECODERS, SAY_ERRORS, *paths).splitlines() == [
        f"{path}: no decoder for its transfer syntax {name}; type: pip install "
        "pydicom imagecodecs"
        for path, name in zip(paths, names, strict=True)
    ]


def test_other_decoders_are_used_where_imagecodecs_is_missing(tmp_path):
    words = smooth(12)
    expected = read(image(words), tmp_path / "native")
    frame = jpeg2000(words)
    whole = save(compressed(frame, f"{JPEG}.90", words), tmp_path / "whole")
    cut = compressed(frame[: len(frame) // 2], f"{JPEG}.90", words)
    code = """
import numpy as np
dicom.inspect(paths[0])
np.save(sys.argv[2], dicom.read_pixels(paths[0])[0])
try:
    dicom.read_pixels(paths[2])
except ValueError as error:
    print(error)
"""
    result, cut = tmp_path / "x.npy", save(cut, tmp_path / "cut")
    assert "cut: cut short" in without(DECODERS, code, whole, result, cut)
    np.testing.assert_array_equal(np.load(result), expected)


def test_header_warnings_of_pydicom_stay_off_the_terminal(tmp_path):
    dataset = image(smooth(8), Manufacturer=b"x" * 80, SpecificCharacterSet=b"NONE ")
    dataset.PixelData += b"\0\0"
    path = save(dataset, tmp_path / "scan")
    code = "from absl import logging; logging.use_absl_handler()\n"
    code += "print(dicom.inspect(paths[0]).height, dicom.read_pixels(paths[0])[1])"
    assert without(["gdcm"], code, path) == "24 1.0\n"


def test_public_files_match_pydicom():
    for name in (
        *("image_dfl.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"),
        *("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"),
        *("MR_small_jpeg_ls_lossless.dcm", "J2K_pixelrep_mismatch.dcm"),
    ):
        path = public_file(name)
        # pydicom alone reads no JPEG-LS; the same image is there without compression.
        is_ls = name == "MR_small_jpeg_ls_lossless.dcm"
        dataset = pydicom.dcmread(
            public_file("MR_small_implicit.dcm") if is_ls else path
        )
        x = dataset.pixel_array * float(dataset.get("RescaleSlope", 1))
        x += float(dataset.get("RescaleIntercept", 0))
        center, width = dataset.get("WindowCenter", 128), dataset.get("WindowWidth")
        if width is None:
            expected = x
        else:
            if isinstance(width, pydicom.multival.MultiValue):
                center, width = center[0], width[0]
            expected = 255 * np.clip((x - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
        padding = dataset.get("PixelPaddingValue")
        if padding is not None:
            expected[dataset.pixel_array == padding] = 0
        pixels, _ = dicom.read_pixels(path)
        assert np.abs(pixels - expected).max() <= 0.5 + 1e-6, name


def test_public_12_bit_jpeg_is_read():
    pixels, _ = dicom.read_pixels(public_file("JPGExtended.dcm"))
    frame = pydicom.dcmread(public_file("JPGExtended.dcm")).PixelData
    frame = next(pydicom.encaps.generate_frames(frame, number_of_frames=1))
    words = imagecodecs.jpeg_decode(frame)
    assert words.max() > 255
    assert np.abs(pixels - words * (255 / 4095)).max() <= 0.5 + 1e-6


def test_palette_of_a_public_file():
    path = public_file("examples_palette.dcm")
    dataset = pydicom.dcmread(path)
    colours = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
    np.testing.assert_array_equal(dicom.read_pixels(path)[0], colours >> 8)


def test_colour_jpeg_of_either_colour_space_is_read():
    uncompressed, _ = dicom.read_pixels(public_file("SC_rgb_jpeg_dcmd.dcm"))
    assert uncompressed.shape == (256, 256, 3)
    pixels, _ = dicom.read_pixels(public_file("SC_jpeg_no_color_transform.dcm"))
    np.testing.assert_array_equal(pixels, uncompressed)


def test_header_without_pixels_has_no_layout(tmp_path):
    path = save(header(), tmp_path / "scan")
    with pytest.raises(ValueError, match="scan: cut short: no Pixel Data"):
        dicom.read_pixels(path)
