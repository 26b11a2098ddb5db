import io
import struct
from pathlib import Path

import numpy as np
import pytest
from picture_files import png16, tiff
from PIL import Image

from cxr_gan.data.formats import deep_jpeg, raster
from cxr_gan.data.listing import Header, LeftOutError

SHAPE = (5, 7)


def grey16(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, shape or SHAPE).astype(np.uint16)


def grey8(*shape: int) -> np.ndarray:
    return (grey16(*shape) >> 8).astype(np.uint8)


def save(path: Path, image: Image.Image | np.ndarray, **options) -> Path:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def pixels_of(path: Path) -> np.ndarray:
    pixels, is_inverted = raster.read_pixels(path)
    assert not is_inverted
    return pixels


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_is_read_by_its_samples_without_alpha(
    tmp_path, channels, interlaced
):
    samples = grey16(*SHAPE, channels)
    path = png16(tmp_path / "a.png", samples, interlaced)
    expected = samples[..., 0] if channels < 3 else samples[..., :3]
    np.testing.assert_array_equal(pixels_of(path), expected)
    assert raster.inspect(path) == Header("PNG", 5, 7, 16)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(
    "type_", ["<u2", ">u2", "<i2", ">i2", "<u4", "<i4", ">i4", "<f4", ">f4"]
)
def test_grey_tiff_of_any_type_is_read_by_its_values(tmp_path, type_, compression):
    values = (grey16() // 2).astype(type_)
    path = tiff(tmp_path / "a.tif", values, compression=compression)
    found = pixels_of(path)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, values)
    assert raster.inspect(path) == Header("TIFF", 5, 7, 8 * values.dtype.itemsize)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colour_tiff_is_read_by_its_samples(tmp_path, order, compression):
    samples = grey16(*SHAPE, 3).astype(f"{order}u2")
    path = tiff(tmp_path / "a.tif", samples, compression=compression)
    np.testing.assert_array_equal(pixels_of(path), samples)


def test_floats_from_0_to_1_keep_their_range(tmp_path):
    values = np.linspace(0, 0.5, 35, dtype=np.float32).reshape(SHAPE)
    found = pixels_of(tiff(tmp_path / "a.tif", values))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


def test_tiff_with_white_as_zero_is_inverted_or_marked(tmp_path):
    path = tmp_path / "a.tif"
    eight = pixels_of(tiff(path, grey8(), photometric=0))
    np.testing.assert_array_equal(eight, 255 - grey8())
    values, is_inverted = raster.read_pixels(tiff(path, grey16(), photometric=0))
    np.testing.assert_array_equal(values, grey16())
    assert is_inverted
    floats = (grey16() / 65535).astype(np.float32)
    np.testing.assert_array_equal(
        pixels_of(tiff(path, floats, photometric=0)), 1 - floats
    )


def test_12_bit_tiff_states_its_range(tmp_path):
    path = tiff(tmp_path / "a.tif", np.array([[0xAB, 0xC1, 0x23]], np.uint8))
    contents = path.read_bytes()  # [0xABC, 0x123], as two pixels of 12 bits
    for tag, old, new in [(256, 3, 2), (258, 8, 12)]:
        entry = struct.pack("<HHI", tag, 4, 1)
        assert entry + struct.pack("<I", old) in contents
        contents = contents.replace(
            entry + struct.pack("<I", old), entry + struct.pack("<I", new)
        )
    path.write_bytes(contents)
    np.testing.assert_allclose(pixels_of(path), [[0xABC / 4095, 0x123 / 4095]])
    assert raster.inspect(path).bits == 12


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0, np.nan]], np.float32), "values are NaN or infinite"),
        (np.array([[0.0, np.inf]], np.float32), "values are NaN or infinite"),
        (np.array([[-1.0, 1.0]], np.float32), r"values are from -1\.0 to 1\.0"),
        (np.array([[0.0, 70000.0]], np.float32), "must be from 0 to 65535"),
        (np.array([[-1024, 3071]], np.int16), "from -1024 to 3071"),
        (np.array([[0, 65536]], np.int32), "from 0 to 65536"),
        (np.zeros((2, 2), np.float64), "or of a kind that Pillow cannot open"),
    ],
)
def test_values_that_are_no_grey_values_are_refused(tmp_path, values, message):
    path = tiff(tmp_path / "a.tif", values)
    with pytest.raises(ValueError, match=rf"a\.tif: .*{message}"):
        raster.read_pixels(path)


def test_16_bit_planes_are_refused(tmp_path):
    path = tiff(tmp_path / "a.tif", grey16(*SHAPE, 3), planar=True, compression=8)
    with pytest.raises(ValueError, match=r"a\.tif: .*separate planes"):
        raster.read_pixels(path)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
def test_transparency_does_not_change_pixels(tmp_path, mode):
    grey = Image.fromarray(grey8() & 0xFE)
    image = grey.convert("RGBA") if mode == "RGBA" else grey.convert("LA")
    image.putalpha(0)
    if mode == "PA":
        palette = grey.convert("P")
        image = palette
        options = {"transparency": bytes(256)}
    else:
        options = {}
    found = pixels_of(save(tmp_path / "a.png", image, **options))
    np.testing.assert_array_equal(np.atleast_3d(found)[..., 0], grey)


def test_palette_and_two_level_images_are_read_by_their_colours(tmp_path):
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([200, 200, 200, 10, 10, 10])
    found = pixels_of(save(tmp_path / "a.png", palette))
    np.testing.assert_array_equal(found[..., 0], [[200, 10]])
    two = Image.fromarray(np.array([[False, True]]))
    assert two.mode == "1"
    np.testing.assert_array_equal(pixels_of(save(tmp_path / "b.png", two)), [[0, 255]])


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_jpeg_of_any_colour_space_is_read_as_grey(tmp_path, mode):
    grey = np.full((16, 16), 77, np.uint8)
    image = Image.merge("RGB", [Image.fromarray(grey)] * 3).convert(mode)
    found = pixels_of(save(tmp_path / "a.jpeg", image))
    np.testing.assert_allclose(found, 77, atol=1)


# What a viewer does with each orientation: EXIF 2.3, section 4.6.4.A.
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("ending", ["jpeg", "png", "tif", "webp"])
def test_exif_orientation_is_applied_and_reported(tmp_path, ending, orientation):
    stored = np.kron([[1, 2, 3], [4, 5, 6]], np.full((8, 8), 40)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"a.{ending}", stored, exif=exif, **options)
    expected = np.kron(UPRIGHT[orientation], np.full((8, 8), 40))
    found = np.atleast_3d(pixels_of(path))[..., 0]
    np.testing.assert_allclose(found, expected, atol=2)
    header = raster.inspect(path)
    assert header.turned == (orientation != 1)
    assert (header.height, header.width) == stored.shape


def test_16_bit_images_are_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", grey16(), exif=exif)
    np.testing.assert_array_equal(pixels_of(path), np.rot90(grey16(), -1))
    path = tiff(tmp_path / "a.tif", grey16(*SHAPE, 3), orientation=6)
    np.testing.assert_array_equal(pixels_of(path), np.rot90(grey16(*SHAPE, 3), -1))


@pytest.mark.parametrize("ending", ["tif", "png", "gif"])
def test_several_pages_are_left_out(tmp_path, ending):
    pages = [Image.fromarray(grey8()), Image.fromarray(255 - grey8())]
    path = save(
        tmp_path / f"a.{ending}", pages[0], save_all=True, append_images=pages[1:]
    )
    for read in (raster.inspect, raster.read_pixels):
        with pytest.raises(
            LeftOutError, match=r"^several pages or frames in one file$"
        ):
            read(path)


@pytest.mark.parametrize("ending", ["bmp", "webp", "jp2", "gif", "pgm"])
def test_other_formats_are_read(tmp_path, ending):
    options = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"a.{ending}", grey8(32, 32), **options)
    found = np.atleast_3d(pixels_of(path))[..., 0]
    np.testing.assert_array_equal(found, grey8(32, 32))


def test_jpeg_2000_with_more_than_8_bits_keeps_its_range(tmp_path):
    path = save(tmp_path / "a.jp2", grey16(32, 32))
    np.testing.assert_allclose(pixels_of(path), grey16(32, 32) / 65535, atol=1e-6)


@pytest.mark.parametrize(("bits", "lossless"), [(12, False), (12, True), (16, True)])
def test_deep_jpeg_is_read_with_imagecodecs(tmp_path, bits, lossless):
    codecs = pytest.importorskip("imagecodecs")
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    path = tmp_path / "a.jpeg"
    contents = codecs.jpeg_encode(ramp, level=97, bitspersample=bits, lossless=lossless)
    path.write_bytes(contents)
    expected = ramp if bits == 16 else ramp / 4095
    np.testing.assert_allclose(pixels_of(path), expected, atol=0.002)
    assert raster.inspect(path) == Header("JPEG", 64, 64, bits)
    path.write_bytes(contents[: len(contents) * 2 // 3])
    with pytest.raises(ValueError, match=r"a\.jpeg: truncated or damaged"):
        raster.read_pixels(path)


def test_exif_orientation_of_a_deep_jpeg_is_applied(tmp_path):
    codecs = pytest.importorskip("imagecodecs")
    ramp = np.arange(64 * 32, dtype=np.uint16).reshape(64, 32)
    exif = Image.Exif()
    exif[0x0112] = 8
    segment = exif.tobytes()
    marker = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    contents = codecs.jpeg_encode(ramp, level=99, bitspersample=12)
    path = tmp_path / "a.jpeg"
    path.write_bytes(contents[:2] + marker + contents[2:])
    expected = np.rot90(ramp) / 4095
    np.testing.assert_allclose(pixels_of(path), expected, atol=0.002)
    assert raster.inspect(path) == Header("JPEG", 64, 32, 12, turned=True)


# Header of a 12-bit JPEG file: start, frame of 2 x 3 px with one channel.
DEEP = b"\xff\xd8\xff\xc1\x00\x0b\x0c\x00\x02\x00\x03\x01\x01\x11\x00"


def test_missing_decoder_of_a_deep_jpeg_is_named_with_its_package(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(deep_jpeg.importlib.util, "find_spec", lambda _: None)
    (tmp_path / "a.jpeg").write_bytes(DEEP)
    message = r"a\.jpeg: a JPEG file of 12 bits.*pip install imagecodecs"
    for read in (raster.inspect, raster.read_pixels):
        with pytest.raises(ImportError, match=message):
            read(tmp_path / "a.jpeg")


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey8(64, 64)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"Dear radiologist", "not an image, despite its file name"),
        (b"<!DOCTYPE html><html>", "not an image but a web page or XML"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "not an image but a pointer of",
        ),
        (b"%PDF-1.4", "not an image but a PDF document"),
        (encoded("PNG")[:20], "truncated or damaged"),
        (encoded("PNG")[:2000], "truncated or damaged image"),
        (encoded("JPEG")[:20], "truncated or damaged"),
        (encoded("JPEG")[:900], "truncated or damaged image"),
        (encoded("TIFF")[:100], "truncated or damaged"),
        (encoded("PNG").replace(b"IHDR", b"IHDX"), "truncated or damaged"),
        (encoded("PCX"), "a file of the kind PCX, which is not read"),
    ],
)
def test_file_that_is_no_whole_image_is_named_with_the_reason(
    tmp_path, contents, message
):
    path = tmp_path / "a.png"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=rf"a\.png: {message}"):
        raster.read_pixels(path)


def test_file_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", grey8())

    def fail(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ValueError, match=r"a\.png: cannot be read \(Input/output"):
        raster.inspect(path)


def test_deep_jpeg_beyond_the_limit_against_decompression_bombs_is_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    (tmp_path / "a.jpeg").write_bytes(DEEP)
    with pytest.raises(ValueError, match=r"a\.jpeg: too large: 6 pixels"):
        raster.inspect(tmp_path / "a.jpeg")
