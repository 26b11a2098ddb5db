import numpy as np
import pytest

from cxr_gan.storage import image_grid


def tiles(rows, columns, size, value=100):
    return np.full((rows, columns, size, size, 1), value, np.uint8)


def test_images_are_placed_unchanged_in_their_row_and_column():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 1), np.uint8)
    grid = image_grid.make_grid(images, ["", ""])
    assert grid.dtype == np.uint8
    assert grid.shape == (2 * 66 + 2, 3 * 66 + 2)
    for row in range(2):
        for column in range(3):
            y, x = 2 + 66 * row, 2 + 66 * column
            tile = grid[y : y + 64, x : x + 64]
            np.testing.assert_array_equal(tile, images[row, column, ..., 0])
    assert (grid[:2] == 0).all() and (grid[:, 66:68] == 0).all()  # gaps are black


@pytest.mark.parametrize(("size", "shown"), [(8, 64), (28, 84), (64, 64), (256, 256)])
def test_small_images_are_enlarged_by_integer_factors(size, shown):
    image = np.random.default_rng(0).integers(0, 256, (1, 1, size, size, 1), np.uint8)
    tile = image_grid.make_grid(image, [""])[2:-2, 2:-2]
    assert tile.shape == (shown, shown)
    step = shown // size
    np.testing.assert_array_equal(tile[::step, ::step], image[0, 0, ..., 0])


def test_row_names_are_drawn_left_of_their_rows():
    named = image_grid.make_grid(tiles(2, 2, 64), ["NORMAL", ""])
    margin = named.shape[1] - (2 * 66 + 2)
    upper, lower = named[:67, :margin], named[67:, :margin]
    assert (upper > 200).sum() > 50
    assert not lower.any()
    without = image_grid.make_grid(tiles(2, 2, 64), ["", ""])
    np.testing.assert_array_equal(named[:, margin:], without)
    long = ["A class with quite a long name", "Pneumonie bactérienne, œdème"]
    grid = image_grid.make_grid(tiles(2, 1, 64), long)
    margin = grid.shape[1] - 68
    assert (grid[:, margin - 2 : margin] == 0).all()  # they fit


@pytest.mark.parametrize(
    ("images", "names", "words"),
    [
        (tiles(1, 1, 8).astype(float), [""], "float64"),
        (tiles(1, 1, 8)[0], [""], r"\[rows, columns, s, s, 1\]"),
        (tiles(2, 1, 8), ["one"], "1 row_names for 2 rows"),
    ],
)
def test_wrong_images_or_number_of_names_are_refused(images, names, words):
    with pytest.raises(ValueError, match=words):
        image_grid.make_grid(images, names)
