import numpy as np
import pytest

from cxr_gan import grids


def tiles(rows, columns, size, value=100):
    return np.full((rows, columns, size, size, 1), value, np.uint8)


def test_images_stand_in_their_row_and_column_untouched():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 1), np.uint8)
    picture = grids.grid(images, ["", ""])
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * 66 + 2, 3 * 66 + 2)
    for row in range(2):
        for column in range(3):
            y, x = 2 + 66 * row, 2 + 66 * column
            tile = picture[y : y + 64, x : x + 64]
            np.testing.assert_array_equal(tile, images[row, column, ..., 0])


def test_nothing_is_drawn_between_images():
    picture = grids.grid(tiles(2, 2, 64), ["", ""])
    assert (picture[:2] == 0).all()
    assert (picture[:, 66:68] == 0).all()
    assert (picture == 100).sum() == 4 * 64 * 64


@pytest.mark.parametrize(("size", "shown"), [(8, 64), (28, 84), (64, 64), (256, 256)])
def test_tiny_images_are_enlarged_by_whole_factors(size, shown):
    image = np.random.default_rng(0).integers(0, 256, (1, 1, size, size, 1), np.uint8)
    tile = grids.grid(image, [""])[2:-2, 2:-2]
    assert tile.shape == (shown, shown)
    step = shown // size
    np.testing.assert_array_equal(tile[::step, ::step], image[0, 0, ..., 0])


def test_names_are_lettered_left_of_the_row_they_name():
    named = grids.grid(tiles(2, 2, 64), ["NORMAL", ""])
    margin = named.shape[1] - (2 * 66 + 2)
    upper, lower = named[:67, :margin], named[67:, :margin]
    assert (upper > 200).sum() > 50
    assert not lower.any()
    without = grids.grid(tiles(2, 2, 64), ["", ""])
    np.testing.assert_array_equal(named[:, margin:], without)


def test_long_and_foreign_names_fit():
    names = ["A class with quite a long name", "Pneumonie bactérienne, œdème"]
    picture = grids.grid(tiles(2, 1, 64), names)
    margin = picture.shape[1] - 68
    assert (picture[:, margin - 2 : margin] == 0).all()


@pytest.mark.parametrize(
    ("images", "names", "words"),
    [
        (tiles(1, 1, 8).astype(float), [""], "float64"),
        (tiles(1, 1, 8)[0], [""], r"\[rows, columns, s, s, 1\]"),
        (tiles(2, 1, 8), ["one"], "1 row_names for 2 rows"),
    ],
)
def test_other_images_or_names_are_refused(images, names, words):
    with pytest.raises(ValueError, match=words):
        grids.grid(images, names)
