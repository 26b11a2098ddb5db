import csv
import types

import numpy as np
import pytest
import tiny_generator
from absl import flags
from PIL import Image

from cxr_gan import data, generate
from cxr_gan.evaluation import image_input
from cxr_gan.evaluation.inputs import open_input
from cxr_gan.sampling import sampler

NAMES = ("NORMAL", "PNEUMONIA")
META = {"step": 1, "kimg": 0.1, "dataset": {"name": "a", "identity": "ab" * 32}}
COLOUR = np.zeros((32, 32, 3), np.uint8)
COLOUR[..., 0] = 200


def noise(n=4, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (n, size, size), np.uint8)


def folder(root, images, names):
    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        (root / name).mkdir(exist_ok=True, parents=True)
        Image.fromarray(image).save(root / name / f"{index}.png")
    return str(root)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_class_folders_are_read_without_changes(tmp_path):
    images = noise()
    root = folder(tmp_path, images, ["NORMAL", "PNEUMONIA"] * 2)
    (tmp_path / "grid.png").write_bytes(b"ignored")
    read, classes, _ = image_input.read(root)
    np.testing.assert_array_equal(read[..., 0], images[[0, 2, 1, 3]])
    assert classes == ("NORMAL", "NORMAL", "PNEUMONIA", "PNEUMONIA")


def test_folder_of_generate_is_read_in_the_order_of_its_table(tmp_path):
    images = noise(2)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "label", "class_name", "index", "seed"))
        for index, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"{index}.png")
            table.writerow((f"{index}.png", 1 - index, NAMES[1 - index], index, 0))
    Image.fromarray(noise(1, 64)[0]).save(tmp_path / "grid.png")
    read, classes, _ = image_input.read(str(tmp_path))
    np.testing.assert_array_equal(read[..., 0], images)
    assert classes == ("PNEUMONIA", "NORMAL")


@pytest.mark.parametrize("kind", ["png", "npz", "dicom"])
def test_folder_of_generate_is_read_in_every_format(tmp_path, kind):
    params = tiny_generator.params()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "load_with_meta", lambda _: (params, META))
        values = flags.FlagValues()
        generate.define_flags(values)
        command = ["", "--model=a", "--num=3", f"--format={kind}", f"--out={tmp_path}"]
        assert generate.main(values(command), values) == 0
    read, classes, _ = image_input.read(str(tmp_path))
    expected = np.asarray(sampler.sample(params, [0, 1, 0], 0))
    np.testing.assert_array_equal(read, np.round(255 * expected))
    assert classes == ("NORMAL", "PNEUMONIA", "NORMAL")


def test_folder_with_metadata_is_read_by_its_table(tmp_path):
    images = noise(2)
    for folder_name, image in zip("ab", images, strict=True):
        folder(tmp_path, [image], [folder_name])
    rows = "file_name,label\na/0.png,PNEUMONIA\nb/0.png,NORMAL\n"
    (tmp_path / "metadata.csv").write_text(rows)
    read, classes, _ = image_input.read(str(tmp_path))
    assert classes == ("NORMAL", "PNEUMONIA")
    np.testing.assert_array_equal(read[..., 0], images[::-1])


def test_files_are_read_as_those_of_a_data_set(tmp_path):
    stored = [(image.astype(np.uint16) * 16 + 15) for image in noise(2)]
    root = tmp_path / "a"
    folder(root, stored, ["NORMAL", "PNEUMONIA"])
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(stored[0]).save(root / "NORMAL" / "0.png", exif=exif)
    (root / "PNEUMONIA" / "1.png").rename(root / "PNEUMONIA" / "1")  # no ending
    read, _, notes = image_input.read(str(root))
    expected = [stored[0][::-1, ::-1] / 4095 * 255, stored[1] / 4095 * 255]
    np.testing.assert_allclose(read[..., 0], expected, atol=0.51)
    assert notes[0].startswith("2 16-bit images hold 12-bit values")


@pytest.mark.parametrize(
    ("scale", "note"),
    [
        (1.0, None),
        (0.9, None),
        (0.02, "much darker than those of the data set: median brightness 2 against 1"),
    ],
)
def test_images_far_darker_than_the_data_set_are_reported(scale, note):
    real = noise(20)[..., None]
    images = (noise(20, seed=1)[..., None] * scale).astype(np.uint8)
    found = image_input.compare_ranges(images, real)
    assert found is None if note is None else note in found


@pytest.mark.parametrize("name", ["../up.png", "none.png"])
def test_table_with_files_outside_its_folder_is_refused(tmp_path, name):
    Image.fromarray(noise(1)[0]).save(tmp_path / "up.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.csv").write_text(f"file,class_name\n{name},NORMAL\n")
    with pytest.raises(ValueError, match="which is not a file in this folder"):
        image_input.read(str(tmp_path / "out"))


def test_table_without_required_columns_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\na.png,1\n")
    with pytest.raises(ValueError, match="must have file and class_name"):
        image_input.read(str(tmp_path))


def test_npz_of_floats_and_16_bits_is_read_as_a_data_set(tmp_path):
    images = noise()
    deep = images.astype(np.uint16) * 257
    for stored in (images / 255, deep, deep[:, None]):
        file = npz(tmp_path / "a.npz", images=stored, labels=[0, 1, 0, 1])
        np.testing.assert_array_equal(image_input.read(file).images[..., 0], images)


def test_labels_of_npz_with_class_names_are_names(tmp_path):
    arrays = {"images": noise(), "labels": [1, 0, 0, 1]}
    read = image_input.read(npz(tmp_path / "a.npz", **arrays, class_names=["b", "a"]))
    assert read.classes == ("a", "b", "b", "a")


def test_npz_is_read_without_changes(tmp_path):
    images = noise()
    file = npz(tmp_path / "a.npz", images=images, labels=np.array([[1], [0], [1], [0]]))
    read, labels, _ = image_input.read(file)
    np.testing.assert_array_equal(read[..., 0], images)
    np.testing.assert_array_equal(labels, [1, 0, 1, 0])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": noise()}, "lacks labels; it holds images"),
        ({"images": noise() * 1.0, "labels": [0, 1, 0, 1]}, "floats must be from 0 to"),
        ({"images": np.full((2, 32, 32), np.nan), "labels": [0, 1]}, "without NaN"),
        ({"images": COLOUR[None], "labels": [0]}, "images[0]: in colour"),
        (
            {"images": np.full((2, 32, 40), 7, np.uint8), "labels": [0, 1]},
            "[2, 32, 40, 1]",
        ),
        ({"images": noise(), "labels": [0, 1]}, "int64 [2] for 4 images"),
        (
            {"images": noise(), "labels": [0.0, 1, 0, 1]},
            "give 4 integers or class names",
        ),
        ({"images": noise(2, 16), "labels": [0, 1]}, "16 px; at least 32 px"),
        ({"images": noise(0), "labels": np.zeros(0, int)}, "the shape [0, 32, 32]"),
        ({"images": np.array([None]), "labels": [0]}, "allow_pickle"),
        (
            {"images": noise(2), "labels": [0, 2], "class_names": ["a", "b"]},
            "labels are from 0 to 2 but class_names has 2 names",
        ),
        (
            {"images": noise(2), "labels": [0, 1], "class_names": [0, 1]},
            "class_names is int64 [2]; must be strings",
        ),
    ],
)
def test_invalid_npz_is_refused(tmp_path, arrays, words):
    with pytest.raises(ValueError) as error:
        image_input.read(npz(tmp_path / "a.npz", **arrays))
    assert words in str(error.value)
    assert "a.npz" in str(error.value)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.array([0, 1, 2]), "no class has label 2; labels are 0 = 'NORMAL'"),
        (("normal", "PNEUMONIA"), "did you mean 'NORMAL'"),
    ],
)
def test_classes_that_the_data_set_does_not_have_are_refused(
    tmp_path, monkeypatch, classes, message
):
    real = types.SimpleNamespace(class_names=NAMES)
    monkeypatch.setattr(data, "load", lambda *_, **__: real)
    monkeypatch.setattr(image_input, "read", lambda _: (noise(), classes, ()))
    with pytest.raises(ValueError, match=f"a.npz does not fit .*{message}"):
        open_input(None, str(tmp_path / "a.npz"), "phantom", 1, 0)


def test_images_of_different_sizes_are_refused_naming_both_sizes(tmp_path):
    folder(tmp_path, noise(1, 32), ["NORMAL"])
    root = folder(tmp_path, noise(1, 64), ["PNEUMONIA"])
    with pytest.raises(ValueError, match=r"has 64 px, 0\.png has 32"):
        image_input.read(root)


def test_non_square_colour_and_damaged_images_are_refused(tmp_path):
    root = folder(tmp_path / "wide", [noise(1, 64)[0][:32]], ["NORMAL"])
    with pytest.raises(ValueError, match="64 x 32 px; images must be square"):
        image_input.read(root)
    with pytest.raises(ValueError, match=r"0\.png: in colour"):
        image_input.read(folder(tmp_path / "colour", [COLOUR], ["NORMAL"]))
    (tmp_path / "text" / "NORMAL").mkdir(parents=True)
    (tmp_path / "text" / "NORMAL" / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"a\.png: not an image, despite"):
        image_input.read(str(tmp_path / "text"))


def test_folder_without_class_folders_is_refused(tmp_path):
    Image.fromarray(noise(1)[0]).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no images in class folders; accepted are"):
        image_input.read(str(tmp_path))


def test_missing_path_and_other_file_types_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="path does not exist"):
        image_input.read(str(tmp_path / "none"))
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match=r"is a file but not an \.npz"):
        image_input.read(str(tmp_path / "a.txt"))
    (tmp_path / "a.npz").write_text("a")
    with pytest.raises(ValueError, match="accepted are a folder"):
        image_input.read(str(tmp_path / "a.npz"))


def test_all_images_that_cannot_be_used_are_listed_at_once(tmp_path):
    root = folder(tmp_path, [*noise(3), *noise(1, 64)], ["NORMAL"] * 4)
    for name in ("1.png", "2.png"):
        path = tmp_path / "NORMAL" / name
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="3 images cannot be used") as caught:
        image_input.read(root)
    for words in ("1.png: truncated", "2.png: truncated", "3.png has 64 px, 0.png has"):
        assert words in str(caught.value)
