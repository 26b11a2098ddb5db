import numpy as np
import pytest
from picture_files import tiff
from PIL import Image

from cxr_gan.data.formats import decode, image_file
from cxr_gan.data.listing import Header, LeftOutError


def test_content_decides_how_a_file_is_read_not_its_name(tmp_path, monkeypatch):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(pixels).save(tmp_path / "a.dcm", format="PNG")
    assert image_file.inspect(tmp_path / "a.dcm") == Header("PNG", 8, 8)
    found = image_file.read(tmp_path / "a.dcm", 8)
    np.testing.assert_array_equal(decode.to_uint8(found, 8), pixels)

    (tmp_path / "b.png").write_bytes(bytes(128) + b"DICM")
    header = Header("DICOM", 8, 4, 12)
    monkeypatch.setattr(image_file.dicom, "inspect", lambda _, views: (header, views))
    assert image_file.inspect(tmp_path / "b.png", "all") == (header, "all")
    # Pixels half as high as wide: the central 8 x 4 of 8 x 8 px are a square.
    monkeypatch.setattr(image_file.dicom, "read_pixels", lambda _: (pixels, 0.5))
    found = image_file.read(tmp_path / "b.png", 8)
    expected = Image.fromarray(np.ascontiguousarray(pixels[:, 2:6]))
    expected = expected.resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(decode.to_uint8(found, 8), np.asarray(expected))


def test_16_bit_tiff_with_white_as_zero_is_inverted_in_its_depth(tmp_path):
    stored = np.linspace(0, 4095, 64).round().astype(np.uint16).reshape(8, 8)
    path = tiff(tmp_path / "a.tif", stored, photometric=0)
    found = decode.to_uint8(image_file.read(path, 8), 12)
    np.testing.assert_allclose(found, 255 - stored / 4095 * 255, atol=0.5)


def test_colour_picture_is_left_out(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(LeftOutError, match=r"^in colour$"):
        image_file.read(tmp_path / "a.png", 8)


@pytest.mark.parametrize("read", [image_file.inspect, lambda p: image_file.read(p, 8)])
def test_empty_and_missing_files_are_named(tmp_path, read):
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"a\.png: the file is empty \(0 bytes\)"):
        read(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"b\.png: cannot be read \(No such file"):
        read(tmp_path / "b.png")
