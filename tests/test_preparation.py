"""Folders and manifests of real files, read into prepared sets."""

import csv
import pathlib

import dicom_files
import numpy as np
import pytest
from PIL import Image

from cxr_gan.data import loading
from cxr_gan.data.formats import prepared
from cxr_gan.data.listing import ReadOptions

SIZE = 16


def radiograph(seed: int, white: int = 255) -> np.ndarray:
    """Grey values [2 * SIZE, 2 * SIZE] from 0 to white, bright in the middle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : 2j * SIZE, -1 : 1 : 2j * SIZE]
    image = 0.9 * np.exp(-2 * x**2 - y**2) + 0.1 * rng.random(x.shape)
    return np.rint(image / image.max() * white).astype(np.uint16)


def write_dicom(path: pathlib.Path, seed: int, **elements) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = radiograph(seed, 4095)
    known = {"PatientID": f"P{seed // 2}", "StudyInstanceUID": f"1.2.{seed}"}
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    image = dicom_files.image(pixels, 12, **{**known, **window, **elements})
    return dicom_files.save(image, path)


def write_png(path: pathlib.Path, seed: int, white: int = 255) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = radiograph(seed, white)
    Image.fromarray(pixels if white > 255 else pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
    """12 DICOM and 12 PNG files in two class folders, a patient for every two."""
    for seed in range(12):
        name = ("NORMAL", "PNEUMONIA")[seed // 2 % 2]
        write_dicom(tmp_path / f"set/{name}/deep/{seed}", seed)
        write_png(tmp_path / f"set/{name}/{seed}.png", 100 + seed)
    return tmp_path / "set"


def prepare(root, out, **options) -> prepared.Description:
    loading.prepare(str(root), SIZE, out, split_seed=0, options=ReadOptions(**options))
    return prepared.read_description(out)


def rows_of(folder: pathlib.Path) -> list[dict[str, str]]:
    with (folder / prepared.INDEX).open(newline="") as text:
        return list(csv.DictReader(text))


def test_folder_of_dicom_and_png_becomes_one_prepared_set(root, tmp_path):
    out = tmp_path / "out"
    description = prepare(root, out)
    rows = rows_of(out)
    assert len(rows) == 24
    assert {row["class_name"] for row in rows} == {"NORMAL", "PNEUMONIA"}
    assert description.summary["patients by"] == {"PatientID": 12, "unknown": 12}
    images = np.load(out / prepared.IMAGES)
    assert images.shape == (24, SIZE, SIZE, 1)
    for row, image in zip(rows, images[..., 0], strict=True):
        seed = int(pathlib.Path(row["file"]).stem)
        is_png = row["file"].endswith(".png")
        grey = radiograph(100 + seed) if is_png else radiograph(seed, 4095) / 4095 * 255
        box_mean = grey.reshape(SIZE, 2, SIZE, 2).mean((1, 3))
        assert np.abs(image - box_mean).mean() < 5
    assert not list(tmp_path.glob(".*chunks"))


def test_images_of_a_patient_stay_together_in_splits_and_halves(root, tmp_path):
    out = tmp_path / "out"
    prepare(root, out)
    of_patient: dict[str, set[tuple[str, str]]] = {}
    for row in rows_of(out):
        if row["patient"]:
            of_patient.setdefault(row["patient"], set()).add(
                (row["split"], row["half"])
            )
    assert len(of_patient) == 6
    assert all(len(places) == 1 for places in of_patient.values())
