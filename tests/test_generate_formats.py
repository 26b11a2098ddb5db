"""The formats of `cxr_gan.generate` other than PNG."""

import csv
import pathlib
import signal
import zipfile

import numpy as np
import pydicom
import pytest
import tiny_generator
from absl import flags
from PIL import Image

from cxr_gan import generate
from cxr_gan.runtime import cli
from cxr_gan.sampling import generation, sampler

META = {"step": 1, "kimg": 0.1, "dataset": {"name": "a", "identity": "ab" * 32}}
BESIDE = ["README.md", "croissant.json", "generation.json", "grid.png", "labels.csv"]


@pytest.fixture(scope="module")
def params():
    return tiny_generator.params()


@pytest.fixture
def command(monkeypatch, params):
    """command("--num=3", ...) -> exit code; every model is the tiny generator."""
    monkeypatch.setattr(sampler, "load_with_meta", lambda _: (params, META))

    def command(*arguments):
        values = flags.FlagValues()
        generate.define_flags(values)
        return generate.main(values(["", "--model=tiny", *arguments]), values)

    return command


def rows(folder):
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_dicom_files_have_the_pixels_of_the_png_files(command, tmp_path, params):
    for out, *arguments in (
        ("png",),
        ("dicom", "--format=dicom"),
        ("deep", "--format=dicom", "--bits=16"),
    ):
        assert command("--num=4", f"--out={tmp_path / out}", *arguments) == 0
        assert names(tmp_path / out) == sorted([*BESIDE, "images"])
    sampled = np.asarray(sampler.sample(params, [0, 1, 0, 1], 0))[..., 0]
    png_rows, uids = rows(tmp_path / "png"), set()
    for image, png, row in zip(sampled, png_rows, rows(tmp_path / "deep"), strict=True):
        assert row["file"] == png["file"].replace(".png", ".dcm")
        shallow = pydicom.dcmread(tmp_path / "dicom" / row["file"])
        deep = pydicom.dcmread(tmp_path / "deep" / row["file"])
        with Image.open(tmp_path / "png" / png["file"]) as expected:
            np.testing.assert_array_equal(shallow.pixel_array, np.asarray(expected))
        np.testing.assert_array_equal(deep.pixel_array, np.round(image * 65535))
        uids |= {shallow.SOPInstanceUID, deep.SOPInstanceUID}
    assert len(uids) == 8
    table = (tmp_path / "dicom/images/metadata.csv").read_text().splitlines()
    assert table[1] == "NORMAL/NORMAL_00000.dcm,NORMAL,0,0"


def test_without_pydicom_nothing_is_written(command, tmp_path, monkeypatch, capsys):
    def load_pydicom():
        raise ImportError("DICOM needs pydicom; type: pip install pydicom")

    monkeypatch.setattr(
        "cxr_gan.data.formats.dicom.secondary_capture.load_pydicom", load_pydicom
    )
    assert command("--format=dicom", f"--out={tmp_path}/out") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "pip install 'cxr-gan[dicom]'" in error
    assert not (tmp_path / "out").exists()


def test_npz_has_images_labels_and_class_names(command, tmp_path, params):
    for out in ("a", "b"):
        assert command("--num=3", "--format=npz", f"--out={tmp_path / out}") == 0
    assert names(tmp_path / "a") == sorted([*BESIDE, "images.npz"])
    with np.load(tmp_path / "a" / "images.npz") as arrays:
        sampled = np.asarray(sampler.sample(params, [0, 1, 0], 0))[..., 0]
        assert arrays["images"].dtype == np.uint8
        np.testing.assert_array_equal(arrays["images"], np.round(255 * sampled))
        np.testing.assert_array_equal(arrays["labels"], [0, 1, 0])
        assert arrays["class_names"].tolist() == ["NORMAL", "PNEUMONIA"]
    table = rows(tmp_path / "a")
    assert [(row["file"], row["index"]) for row in table] == [
        ("images.npz", "0"),
        ("images.npz", "1"),
        ("images.npz", "2"),
    ]
    for name in names(tmp_path / "a"):
        one, two = ((tmp_path / out / name).read_bytes() for out in ("a", "b"))
        assert one == two, name
    with zipfile.ZipFile(tmp_path / "a" / "images.npz") as archive:
        assert archive.getinfo("images.npy").date_time[0] == 1980


@pytest.fixture
def third_image(monkeypatch):
    """third_image(action): calls action() before the image of index 2 is given out."""

    def third_image(action):
        sample_images = generation.sample_images

        def changed(job):
            for index, image in enumerate(sample_images(job)):
                if index == 2:
                    action()
                yield image

        monkeypatch.setattr(generation, "sample_images", changed)

    return third_image


@pytest.mark.parametrize("kind", ["npz", "dicom"])
def test_interrupt_leaves_exactly_the_listed_images(
    command, tmp_path, third_image, kind
):
    third_image(lambda: signal.raise_signal(signal.SIGINT))
    out = f"--out={tmp_path}"
    assert command("--num=8", f"--format={kind}", out) == cli.STOPPED
    table = rows(tmp_path)
    assert [row["index"] for row in table] == ["0", "1"]
    if kind == "npz":
        with np.load(tmp_path / "images.npz") as arrays:
            assert len(arrays["images"]) == len(arrays["labels"]) == 2
        assert names(tmp_path) == sorted([*BESIDE, "images.npz"])
    else:
        written = tmp_path.glob("images/*/*")
        assert {path.relative_to(tmp_path).as_posix() for path in written} == {
            row["file"] for row in table
        }


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="not on Linux")
@pytest.mark.parametrize(
    "name",
    [
        "images/NORMAL/NORMAL_00002.unfinished",
        pytest.param("images.unfinished", id="npz, at the end"),
        pytest.param("pixels.unfinished", id="npz, while images are generated"),
    ],
)
def test_full_disk_leaves_exactly_the_listed_images(
    command, tmp_path, third_image, capsys, name
):
    def fill():
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to("/dev/full")

    third_image(fill)
    kind = "dicom" if "NORMAL" in name else "npz"
    assert command("--num=4", f"--format={kind}", f"--out={tmp_path}") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "No space left on device" in error
    listed = [row["file"] for row in rows(tmp_path)]
    assert f"the {len(listed)} images before it are complete" in error
    assert len(listed) == (2 if kind == "dicom" else 0)
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")}
    assert left == {*listed, "labels.csv"}
