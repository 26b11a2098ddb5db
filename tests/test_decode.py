import numpy as np
import pytest
from PIL import Image

from cxr_gan.data.formats import decode
from cxr_gan.data.listing import LeftOutError


def ramp(high: int, *shape: int) -> np.ndarray:
    """Values from 0 to high, int64."""
    return np.linspace(0, high, int(np.prod(shape))).round().astype(int).reshape(shape)


def square(pixels: np.ndarray, resolution: int = 0, **options) -> decode.DecodedImage:
    return decode.to_square(pixels, resolution or min(pixels.shape[:2]), "a", **options)


def eight_bit(pictures: list[np.ndarray]) -> np.ndarray:
    """All pictures of a source, uint8 [n, s, s]."""
    return decode.stack([square(pixels) for pixels in pictures])[0][..., 0]


def test_8_bit_pixels_are_cropped_and_resized_as_pillow_does():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 47), np.uint8)
    image = Image.fromarray(pixels[:, 8:38]).resize((16, 16), Image.Resampling.LANCZOS)
    found = square(pixels, 16)
    np.testing.assert_array_equal(decode.to_uint8(found, 8), np.asarray(image))
    assert (found.level, found.side) == (0, 30)


@pytest.mark.parametrize(
    ("shape", "aspect", "box"),
    [
        ((40, 40), 0.5, np.s_[:, 10:30]),  # 40 x 40 px of 1 x 2: 40 high, 80 wide
        ((40, 40), 2.0, np.s_[10:30, :]),
        ((20, 40), 2.0, np.s_[:, :]),
        ((30, 40), 1.0, np.s_[:, 5:35]),
    ],
)
def test_crop_is_square_on_the_detector(shape, aspect, box):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels[box]))
    expected = image.resize((8, 8), Image.Resampling.LANCZOS)
    found = square(pixels, 8, aspect=aspect)
    np.testing.assert_array_equal(found.pixels, np.asarray(expected))
    assert found.side == min(pixels[box].shape)


@pytest.mark.parametrize("type_", [np.uint16, np.int32, np.float32, np.uint8])
def test_grey_in_three_channels_is_grey_despite_small_differences(type_):
    high = 1 if type_ == np.float32 else np.iinfo(type_).max & 0xFFFF
    grey = np.linspace(0, high, 4096).reshape(64, 64).astype(type_)
    colours = np.stack([grey] * 3, axis=2)
    colours[..., 2] = grey * 0.95
    expected = decode.stack([square(grey)])[0]
    found = decode.stack([square(colours)])[0]
    np.testing.assert_allclose(found.astype(int), expected, atol=2)
    colours[..., 2] = grey * 0.8
    with pytest.raises(LeftOutError, match="^in colour$"):
        square(colours)


def test_colour_of_12_bits_in_16_is_seen():
    grey = ramp(4095, 64, 64).astype(np.uint16)
    with pytest.raises(LeftOutError):
        square(np.stack([grey, grey, grey // 2], axis=2))


def test_floats_are_scaled_from_0_to_1_and_need_no_depth():
    pixels = np.array([[0, 0.25], [0.5, 1]], np.float32)
    found = square(pixels)
    np.testing.assert_array_equal(found.pixels, [[0, 64], [128, 255]])
    assert found.pixels.dtype == np.uint8
    assert found.level == 0


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([[-1, 5]]), "a: has values from -1 to 5; int64 must be from 0 to 6"),
        (np.array([[0, 65536]]), "a: has values from 0 to 65536"),
        (np.array([[0.0, 255.0]]), r"from 0\.0 to 255\.0; float64 must be from 0 to 1"),
        (np.array([[0.0, np.nan]]), "without NaN"),
        (np.zeros((0, 3)), r"a: has no pixels, \[0, 3\]"),
    ],
)
def test_values_beyond_the_range_are_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        decode.to_square(pixels, 1, "a")


@pytest.mark.parametrize(
    ("beyond", "depth"), [(0, 10), (1, 10), (10, 10), (11, 12), (500, 12)]
)
def test_depth_ignores_a_thousandth_of_the_pixels(beyond, depth):
    pixels = ramp(1023, 100, 100)
    pixels.flat[:beyond] = 4000
    assert square(pixels).depth == depth


def test_a_single_bright_pixel_of_a_small_image_is_ignored():
    pixels = ramp(1023, 16, 16)
    pixels[0, 0] = 65535
    assert square(pixels).depth == 10


def test_inverted_values_are_inverted_in_their_range():
    image = square(np.array([[0, 1023], [4095, 4095]]), inverted=True)
    np.testing.assert_array_equal(decode.to_uint8(image, 12), [[255, 191], [0, 0]])


def test_a_dead_pixel_changes_nothing_else():
    pictures = [ramp(1023, 32, 32) for _ in range(60)]
    plain = eight_bit(pictures)
    pictures[0][0, 0] = 65535
    found = eight_bit(pictures)
    assert found[0, 0, 0] == 255
    found[0, 0, 0] = plain[0, 0, 0]
    np.testing.assert_array_equal(found, plain)


def test_a_dead_pixel_is_not_spread_by_the_resize():
    plain, dead = ramp(1023, 32, 32), ramp(1023, 32, 32)
    dead[16, 16] = 65535
    found, expected = (decode.to_uint8(square(x, 8), 10) for x in (dead, plain))
    np.testing.assert_allclose(found.astype(int), expected, atol=12)


def test_images_of_each_detector_keep_its_depth():
    expected = ramp(255, 32, 32)
    pictures = [ramp(4095, 32, 32) for _ in range(59)] + [ramp(65535, 32, 32)]
    for found in eight_bit(pictures):
        np.testing.assert_allclose(found.astype(int), expected, atol=1)
    pictures = [ramp(1023, 32, 32), ramp(16383, 32, 32)] * 5
    for found in eight_bit(pictures):
        np.testing.assert_allclose(found.astype(int), expected, atol=1)


def test_an_underexposed_image_stays_dark():
    pictures = [ramp(4095, 32, 32) for _ in range(9)] + [ramp(800, 32, 32)]
    np.testing.assert_allclose(eight_bit(pictures)[9], ramp(50, 32, 32), atol=1)


def test_levels_of_one_detector_across_a_power_of_two_have_one_depth():
    # A spread of exposures around 16384, as that of a detector of more than 14 bits.
    levels = np.geomspace(10000, 27000, 200).round().astype(int).tolist()
    assert set(decode.agree_depths(levels)) == {16}


def test_few_levels_just_beyond_a_detector_are_clipped():
    assert set(decode.agree_depths([16000] * 99 + [17000])) == {14}


def test_a_common_depth_below_a_few_dim_images_of_another_is_kept():
    levels = [1023] * 50 + [1100, 1200] + [4000] * 48
    assert decode.agree_depths(levels) == [10] * 50 + [12] * 50


def test_order_does_not_change_depths_and_final_pixels_have_8():
    levels = [0, 255, 1023, 1000, 4095, 300, 65535, 900, 0, 4000] * 3
    depths = dict(zip(levels, decode.agree_depths(levels), strict=True))
    shuffled = np.random.default_rng(0).permutation(levels).tolist()
    assert decode.agree_depths(shuffled) == [depths[level] for level in shuffled]
    assert depths[0] == 8
    assert decode.agree_depths([]) == []


def test_two_images_of_different_depth_have_the_higher_one():
    assert decode.agree_depths([3000, 0, 900]) == [12, 8, 12]


def test_user_is_told_the_depths_and_the_enlarged_images():
    assert decode.notes([8, 12, 12, 16], [64, 64, 40, 30], 64) == (
        "2 16-bit images hold 12-bit values and were divided by 4095 to become 8-bit",
        "1 16-bit images hold 16-bit values and were divided by 65535 to become 8-bit",
        "2 of 4 images are smaller than 64 px (the smallest: 30 px) and were enlarged; "
        "they have no detail at that size",
    )
