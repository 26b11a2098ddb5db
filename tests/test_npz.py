import numpy as np
import pytest

from cxr_gan import data

SPLITS = ("train", "val")


def arrays(count: int = 60, size: int = 8, **changes) -> dict[str, np.ndarray]:
    """A valid dataset in MedMNIST layout with some arrays replaced; None removes."""
    rng = np.random.default_rng(0)
    content = {}
    for split in ("train", "val", "test"):
        content[f"{split}_images"] = rng.integers(
            0, 255, (2 * count, size, size), np.uint8
        )
        content[f"{split}_labels"] = np.arange(2 * count, dtype=np.uint8)[:, None] % 2
    content.update(changes)
    return {key: value for key, value in content.items() if value is not None}


@pytest.fixture
def load(tmp_path):
    def load(content: dict[str, np.ndarray], resolution: int = 8):
        np.savez(tmp_path / "set.npz", **content)
        spec = str(tmp_path / "set.npz")
        return data.load(spec, resolution, split_seed=0, cache_dir=tmp_path / "cache")

    return load


def test_train_and_val_are_read_and_classes_are_named_by_number(load):
    source = arrays(test_images=np.zeros(3), test_labels=np.zeros(9))  # not read
    dataset = load(source)
    assert dataset.class_names == ("0", "1")
    np.testing.assert_array_equal(dataset.train.images[..., 0], source["train_images"])
    np.testing.assert_array_equal(dataset.val.images[..., 0], source["val_images"])
    np.testing.assert_array_equal(dataset.val.labels, source["val_labels"][:, 0])
    assert dataset.train.ids[3] == "train/3"


def test_flat_labels_three_channels_and_class_names_are_accepted(load):
    plain = arrays()
    source = dict(plain, class_names=np.array(["sound", "ill"]))
    for split in ("train", "val"):
        source[f"{split}_labels"] = plain[f"{split}_labels"][:, 0].astype(np.int64)
        source[f"{split}_images"] = np.stack([plain[f"{split}_images"]] * 3, 3)
    dataset = load(source)
    assert dataset.class_names == ("sound", "ill")
    np.testing.assert_array_equal(dataset.train.images[..., 0], plain["train_images"])
    np.testing.assert_array_equal(dataset.train.labels, plain["train_labels"][:, 0])


COLOUR = np.zeros((120, 8, 8, 3), np.uint8)
COLOUR[7, ..., 0] = 200
FLOATS = np.full((120, 8, 8), np.nan, np.float32)
MASKS = np.eye(8, dtype=np.uint8)[None].repeat(120, 0)
LABELS = np.arange(120) % 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None}, "lacks train_images; it contains train_labels, val"),
        ({"val_labels": None}, "lacks val_labels"),
        ({"train_images": FLOATS}, "train_images is float32 from nan .* without NaN"),
        ({"train_images": MASKS * 255.0}, r"from 0\.0 to 255\.0; .* divide a copy by"),
        ({"train_images": MASKS * 2.0 - 1}, r"float64 from -1\.0 to 1\.0"),
        (
            {"train_images": MASKS},
            "no values but 0 and 1, as floats .* cast to integers",
        ),
        ({"val_images": MASKS.astype(int) * -1}, r"val_images is int64 from -1 to 0"),
        (
            {"train_images": MASKS.astype(int) * 2**16},
            "from 0 to 65536; integers must be from 0 to",
        ),
        ({"train_images": MASKS > 0}, "train_images is bool"),
        ({"train_images": COLOUR}, r"train_images\[7\]: in colour; .* convert it"),
        ({"train_images": COLOUR[..., :2]}, r"shape \[120, 8, 8, 2\]"),
        ({"train_images": COLOUR[0, 0, 0]}, r"shape \[3\]"),
        ({"train_labels": LABELS[:5]}, "120 images in train_images but 5 labels"),
        ({"train_labels": np.eye(120)}, r"\[120, 120\].*one label for each image"),
        ({"train_labels": LABELS / 2}, "train_labels is float64; must be integers"),
        ({"train_labels": LABELS - 1}, "train_labels has the label -1; .* negative"),
        ({"train_labels": LABELS * 2}, "class '1' is in val but not in train"),
        ({"val_labels": LABELS * 0}, "class '1' is in train but not in val"),
        ({"train_labels": LABELS * 0, "val_labels": LABELS * 0}, "only one class, '0'"),
        ({"class_names": np.array(["a"])}, "labels go up to 1 but class_names has 1"),
        ({"class_names": np.array(["a", "a"])}, "must be K different strings"),
        ({"train_labels": np.array([None] * 120)}, "cannot read train_labels"),
    ],
)
def test_invalid_arrays_are_named_with_their_file(load, changes, message):
    with pytest.raises(ValueError, match=f"(?s)set.npz.*{message}"):
        load(arrays(**changes))


@pytest.mark.parametrize("type_", [np.uint8, np.int8, np.uint16, np.int64, bool])
def test_labels_of_any_integer_type_with_gaps_name_their_classes(load, type_):
    low, high = (0, 1) if type_ is bool else (1, 100)
    labels = np.where(LABELS, high, low).astype(type_)
    dataset = load(arrays(train_labels=labels, val_labels=labels[:, None]))
    assert dataset.class_names == (str(low), str(high))
    np.testing.assert_array_equal(dataset.train.labels, LABELS)


def test_class_names_are_indexed_by_the_labels_that_are_present(load):
    names = np.array(["none", "sound", "unused", "ill"])
    labels = np.where(LABELS, 3, 1)
    dataset = load(arrays(train_labels=labels, val_labels=labels, class_names=names))
    assert dataset.class_names == ("sound", "ill")


@pytest.mark.parametrize("type_", [np.int16, np.uint16, np.int64, np.uint64])
def test_integers_up_to_255_are_8_bit_whatever_their_type(load, type_):
    source = arrays()
    images = {f"{x}_images": source[f"{x}_images"].astype(type_) for x in SPLITS}
    dataset = load(arrays(**images), 4)
    assert dataset.identity == load(source, 4).identity


@pytest.mark.parametrize(("bits", "type_"), [(12, np.int32), (16, np.uint16)])
def test_integers_beyond_255_are_scaled_by_their_depth(load, bits, type_):
    source = arrays()
    images = {
        f"{x}_images": (source[f"{x}_images"] / 255 * (2**bits - 1)).astype(type_)
        for x in SPLITS
    }
    found = load(arrays(**images)).train.images[..., 0].astype(int)
    np.testing.assert_allclose(found, source["train_images"], atol=1)


@pytest.mark.parametrize("type_", [np.float16, np.float32, np.float64])
def test_floats_from_0_to_1_are_multiplied_by_255(load, type_):
    source = arrays()
    images = {
        f"{x}_images": (source[f"{x}_images"] / 255).astype(type_) for x in SPLITS
    }
    found = load(arrays(**images)).train.images
    np.testing.assert_array_equal(found[..., 0], source["train_images"])


@pytest.mark.parametrize(("axis", "channels"), [(3, 1), (1, 1), (1, 3)])
def test_channels_may_be_last_or_first(load, axis, channels):
    source = arrays()
    images = {
        f"{x}_images": np.stack([source[f"{x}_images"]] * channels, axis)
        for x in SPLITS
    }
    assert load(arrays(**images)).identity == load(source).identity


def flip(contents: bytes) -> bytes:
    return contents[:2000] + bytes([contents[2000] ^ 255]) + contents[2001:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b"text", "not an .npz file, or a truncated"),
        (lambda b: b"", "not an .npz file, or a truncated"),
        (lambda b: b[: len(b) // 2], "not an .npz file, or a truncated"),
        (flip, "cannot read train_images: .*CRC"),
    ],
)
def test_damaged_file_is_named(tmp_path, load, damage, message):
    load(arrays())
    path = tmp_path / "set.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"set.npz: {message}"):
        data.load(str(path), 8, split_seed=0, cache_dir=tmp_path / "cache")
