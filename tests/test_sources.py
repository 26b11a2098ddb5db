import logging as python_logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_gan import data
from cxr_gan.data.phantom import renderer

CLASSES = ("NORMAL", "PNEUMONIA")
SIZE = 8


def grey(seed: int = 0, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """A smooth image, which JPEG changes little."""
    y, x = np.mgrid[:height, :width]
    return (100 + 10 * seed % 90 + 2 * (x % 16) + (y % 16)).astype(np.uint8)


def write(path: Path, pixels: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey() if pixels is None else pixels).save(path)
    return path


def fill(folder: Path, count: int = 6, classes=CLASSES, suffix: str = "png") -> Path:
    for label, name in enumerate(classes):
        for i in range(count):
            write(folder / name / f"{i}.{suffix}", grey(10 * label + i))
    return folder


@pytest.fixture
def root(tmp_path) -> Path:
    """A correct folder, root/train/CLASS."""
    fill(tmp_path / "chest_xray/train")
    return tmp_path / "chest_xray"


@pytest.fixture
def load(tmp_path):
    def load(spec, resolution=SIZE):
        return data.load(
            str(spec), resolution, split_seed=0, cache_dir=tmp_path / "cache"
        )

    return load


@pytest.fixture
def warnings(caplog):
    with caplog.at_level(python_logging.WARNING, logger="absl"):
        yield lambda: caplog.text


# Folders


def test_folder_yields_images_labels_and_class_names(root, load):
    fill(root / "val", 50)
    dataset = load(root)
    assert dataset.class_names == CLASSES
    assert dataset.train.ids[0] == "train/NORMAL/0.png"
    np.testing.assert_array_equal(dataset.train.images[0, :, :, 0], grey(0))
    np.testing.assert_array_equal(dataset.train.labels, [0] * 6 + [1] * 6)
    assert dataset.val.counts(2).tolist() == [50, 50]


def test_folder_without_splits_gets_a_tenth_held_out(tmp_path, load):
    dataset = load(fill(tmp_path / "set", 20, ("A", "B", "C")))
    assert dataset.class_names == ("A", "B", "C")
    assert dataset.train.counts(3).tolist() == [18, 18, 18]
    assert dataset.val.counts(3).tolist() == [2, 2, 2]


def test_test_split_is_never_opened(root, load):
    write(root / "test/NORMAL/0.png").write_bytes(b"not an image")
    dataset = load(root)
    assert not [name for name in dataset.train.ids + dataset.val.ids if "test" in name]


@pytest.mark.parametrize(("height", "width"), [(32, 48), (48, 32), (32, 33)])
def test_images_are_cropped_to_the_central_square(root, load, height, width):
    pixels = np.zeros((height, width), np.uint8)
    top, left = (height - 32) // 2, (width - 32) // 2
    square = np.repeat(np.repeat(grey(), 4, 0), 4, 1)
    pixels[top : top + 32, left : left + 32] = square
    write(root / "train/NORMAL/0.png", pixels)
    write(root / "train/NORMAL/1.png", square)
    dataset = load(root)
    expected = image_named(dataset, "1.png")
    np.testing.assert_array_equal(image_named(dataset, "0.png"), expected)
    assert expected.min() > 90


def image_named(dataset: data.Dataset, name: str) -> np.ndarray:
    """The image of class NORMAL with that file name, in train or val."""
    for split in (dataset.train, dataset.val):
        for i, id_ in enumerate(split.ids):
            if id_.endswith(f"NORMAL/{name}"):
                return split.images[i, :, :, 0]
    raise AssertionError(name)


def test_downscaling_is_antialiased(root, load):
    stripes = np.zeros((80, 80), np.uint8)
    stripes[:40, ::2] = 200
    write(root / "train/NORMAL/0.png", stripes)
    found = image_named(load(root), "0.png")
    np.testing.assert_allclose(found[:2], 100, atol=6)
    assert found[6:].max() <= 1  # rounding


def test_images_smaller_than_resolution_are_enlarged_with_a_warning(
    root, load, warnings
):
    assert load(root, 16).train.images.shape[1:] == (16, 16, 1)
    load(root, 16)  # from the cache
    note = "12 of 12 images are smaller than 16 px (the smallest: 8 px)"
    assert warnings().count(note) == 2


def colours(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.stack([pixels] * 3, 2))


def with_red_mark(pixels: np.ndarray) -> Image.Image:
    image = colours(pixels)
    image.paste((255, 0, 0), (0, 0, 3, 3))
    return image


@pytest.mark.parametrize(
    ("convert", "name", "tolerance"),
    [
        (colours, "x.png", 0),
        (colours, "x.jpeg", 4),
        (with_red_mark, "x.png", 0),
        (lambda pixels: Image.fromarray(pixels).convert("LA"), "x.png", 0),
        (
            lambda pixels: colours(pixels).convert("P", palette=1, colors=64),
            "x.png",
            4,
        ),
    ],
)
def test_grey_content_of_any_mode_is_read_as_grey(root, load, convert, name, tolerance):
    pixels = grey(3, 32, 32)
    convert(pixels).save(root / "train/NORMAL" / name)
    found = image_named(load(root, 32), name).astype(int)
    np.testing.assert_allclose(found[3:], pixels[3:], atol=tolerance)


@pytest.mark.parametrize(("bits", "step"), [(12, 4095 // 255), (16, 257)])
def test_16_bit_images_share_one_scale_of_the_fewest_bits_that_hold_them(
    root, load, warnings, bits, step
):
    bright = np.full((SIZE, SIZE), 2**bits - 1, np.uint16)
    bright[0] = 0
    grey_levels = 3 * (grey() - 90)  # from 30 on
    dark = grey_levels.astype(np.uint16) * step
    write(root / "train/NORMAL/bright.png", bright)
    write(root / "train/NORMAL/dark.png", dark)
    dataset = load(root)
    assert (image_named(dataset, "bright.png")[1:] == 255).all()
    np.testing.assert_allclose(image_named(dataset, "dark.png"), grey_levels, atol=1)
    assert f"2 16-bit images hold {bits}-bit values" in warnings()


def test_files_that_are_left_out_are_counted_in_a_warning(root, load, warnings):
    for junk in ("train/NORMAL/._0.png", "train/NORMAL/notes.txt"):
        (root / junk).write_bytes(b"junk")
    dataset = load(root)
    assert len(dataset.train) + len(dataset.val) == 12
    for reason in ("left out 1: hidden", "left out 1: no image"):
        assert reason in warnings()
    assert "such as 'train/NORMAL/notes.txt'" in warnings()


def truncate(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    contents = write(path, noise).read_bytes()
    path.write_bytes(contents[: len(contents) * 2 // 3])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, "truncated or damaged image"),
        (lambda path: path.write_bytes(b""), r"the file is empty \(0 bytes\)"),
        (lambda path: path.write_text("Dear radiologist"), "not an image"),
    ],
)
@pytest.mark.parametrize("name", ["bad.jpeg", "bad.png"])
def test_bad_image_file_is_named(root, load, spoil, message, name):
    path = root / "train/NORMAL" / name
    spoil(path)
    with pytest.raises(ValueError, match=f"NORMAL/{name}: {message}"):
        load(root)


def test_picture_in_colour_is_left_out_and_counted(root, load, warnings):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 0] = 200
    write(root / "train/NORMAL/colour.png", pixels)
    dataset = load(root)
    assert len(dataset.train) + len(dataset.val) == 12
    assert "left out 1: in colour" in warnings()


def test_unreadable_file_is_named(root, load, monkeypatch):
    # Injected, because the user root can read every file.
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ValueError, match=r"NORMAL/0\.png: cannot be read \(Permission"):
        load(root)


def test_pillow_limit_against_decompression_bombs_applies(root, load, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match=r"NORMAL/0\.png: too large: .*exceeds limit"):
        load(root)


def test_changed_folder_is_decoded_again(root, load):
    before = load(root)
    path = write(root / "train/NORMAL/0.png", grey(8))
    os.utime(path, ns=(1, 1))
    after = load(root)
    np.testing.assert_array_equal(image_named(after, "0.png"), grey(8))
    assert before.identity != after.identity
    assert load(root.rename(root.with_name("moved"))).identity == after.identity


def test_identical_images_in_train_and_val_log_a_warning(root, load, warnings):
    fill(root / "val", 50)
    load(root)
    assert "images of val are identical, pixel by pixel, to images" in warnings()


# Specs


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{root}/chest_xary", "did you mean '{root}/chest_xray'"),
        ("{root}/chest_xary/train", "did you mean '{root}/chest_xray/train'"),
        ("phantoms", "did you mean 'phantom'"),
        ("fantom:300", "did you mean 'phantom:300'"),
        ("tfd:pneumonia_mnist", "did you mean 'tfds:pneumonia_mnist'"),
        ("{root}/chest_xray.npz", "no such file or folder"),
        ("", "no such file or folder"),
    ],
)
def test_missing_dataset_gets_a_suggestion_and_the_accepted_specs(
    root, load, spec, message
):
    spec, message = (text.format(root=root.parent) for text in (spec, message))
    with pytest.raises(FileNotFoundError) as caught:
        load(spec)
    assert message in str(caught.value)
    for kind in ("'phantom:N'", "root/CLASS/*", ".npz", "'tfds:NAME'"):
        assert kind in str(caught.value)


def test_file_of_unknown_format_is_rejected(tmp_path, load):
    (tmp_path / "archive.zip").write_bytes(b"PK")
    with pytest.raises(
        ValueError, match=r"archive.zip' is a file that is read as no data set; unpack"
    ):
        load(tmp_path / "archive.zip")


def test_every_source_can_be_given_by_its_kind(root, load):
    assert load(f"folder:{root}").identity == load(root).identity
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        load("folder:nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such .npz"):
        load("npz:nowhere")


# The built-in phantom


def test_phantom_is_split_without_a_warning(load, warnings):
    dataset = load("phantom:100", 32)
    assert dataset.class_names == CLASSES
    assert dataset.train.counts(2).tolist() == [45, 45]
    assert dataset.val.counts(2).tolist() == [5, 5]
    index = int(dataset.train.ids[5].split("/")[-1])
    np.testing.assert_array_equal(
        dataset.train.images[5], renderer.render(0, index, 32).image
    )
    assert not warnings()


@pytest.mark.parametrize("spec", ["phantom:many", "phantom:-4", "phantom:3"])
def test_phantom_with_invalid_number_is_rejected(load, spec):
    with pytest.raises(ValueError, match=f"{spec} must name a number of images"):
        load(spec)


@pytest.mark.parametrize(
    ("spec", "words"),
    [("~nobody-of-this-name/x", "home"), ("prepared:", "has no path")],
)
def test_spec_without_an_existing_place_lists_what_is_accepted(tmp_path, spec, words):
    with pytest.raises(FileNotFoundError, match=f"{words}.*; accepted are"):
        data.load(spec, 8, split_seed=0, cache_dir=tmp_path)
