"""Folders and manifests of real files, read into prepared sets."""

import csv
import pathlib
import shutil

import dicom_files
import numpy as np
import pytest
from PIL import Image

from cxr_gan import data
from cxr_gan.data import chunks, loading
from cxr_gan.data.formats import image_file, prepared
from cxr_gan.data.listing import ManifestOptions, ReadOptions
from cxr_gan.storage import files

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
    for row in rows:
        is_png = row["file"].endswith(".png")
        kind = "PNG" if is_png else "DICOM"
        known = kind, *(2 * [str(2 * SIZE)]), "8" if is_png else "12"
        assert (row["kind"], row["height"], row["width"], row["bits"]) == known
        assert row["modality"] == ("" if is_png else "CR")
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


def test_interrupted_reading_continues_and_a_second_one_changes_nothing(
    root, tmp_path, monkeypatch
):
    monkeypatch.setattr(chunks, "SIZE", 4)
    decoded: list[str] = []
    read = image_file.read

    def count(path, resolution):
        if len(decoded) >= 10:
            raise KeyboardInterrupt
        decoded.append(str(path))
        return read(path, resolution)

    monkeypatch.setattr(image_file, "read", count)
    with pytest.raises(KeyboardInterrupt):
        prepare(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(
        image_file, "read", lambda *args: (decoded.append(str(args[0])), read(*args))[1]
    )
    prepare(root, tmp_path / "out")
    assert len(decoded) <= 12 + 24 - 4  # at least one chunk was not decoded again
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    decoded.clear()
    prepare(root, tmp_path / "out")
    assert not decoded
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    prepare(root, tmp_path / "other")
    images = (tmp_path / "other" / prepared.IMAGES).read_bytes()
    assert images == before[prepared.IMAGES]


def test_all_unusable_files_are_listed_at_once_and_can_be_skipped(root, tmp_path):
    normal = root / "NORMAL"
    whole = (normal / "0.png").read_bytes()
    (normal / "half.png").write_bytes(whole[: len(whole) // 2])
    (normal / "empty.png").write_bytes(b"")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(normal / "black.png")
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(normal / "white.png")
    dicom = (normal / "deep/0").read_bytes()
    (normal / "deep/half").write_bytes(dicom[:-600])
    with pytest.raises(ValueError) as caught:
        prepare(root, tmp_path / "out")
    text = str(caught.value)
    assert "5 images cannot be used" in text
    for name, reason in {
        "half.png": "truncated or damaged",
        "empty.png": "empty",
        "black.png": "nearly black",
        "white.png": "nearly white",
        "deep/half": "",
    }.items():
        (line,) = [line for line in text.splitlines() if f"NORMAL/{name}: " in line]
        assert reason in line
    description = prepare(root, tmp_path / "out", on_error="skip")
    assert len(rows_of(tmp_path / "out")) == 24
    assert sum(description.summary["left out"].values()) == 5


def test_repaired_file_costs_one_chunk(root, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "SIZE", 4)
    bad = root / "PNEUMONIA/zzz.png"
    bad.write_bytes(b"")
    with pytest.raises(ValueError, match="the file is empty"):
        prepare(root, tmp_path / "out")
    write_png(bad, 7)
    decoded = []
    read = image_file.read
    monkeypatch.setattr(
        image_file, "read", lambda *args: (decoded.append(args[0]), read(*args))[1]
    )
    prepare(root, tmp_path / "out")
    assert bad in decoded
    assert len(decoded) <= 4
    assert len(rows_of(tmp_path / "out")) == 25


def test_what_is_no_frontal_radiograph_is_left_out_and_counted(root, tmp_path):
    write_dicom(root / "NORMAL/lateral", 50, ViewPosition="LL")
    write_dicom(root / "NORMAL/hand", 51, BodyPartExamined="HAND")
    write_dicom(root / "NORMAL/ct", 52, Modality="CT")
    colour = np.zeros((32, 32, 3), np.uint8)
    colour[..., 0] = 200
    Image.fromarray(colour).save(root / "NORMAL/colour.png")
    write_png(root / "Test/NORMAL/1.png", 1)
    description = prepare(root, tmp_path / "out")
    assert sum(description.summary["left out"].values()) == 5
    assert len(rows_of(tmp_path / "out")) == 24
    more = prepare(root, tmp_path / "more", views="all")
    assert sum(more.summary["left out"].values()) == 4
    assert "NORMAL/lateral" in {row["file"] for row in rows_of(tmp_path / "more")}


@pytest.mark.parametrize("is_one_class", [False, True])
def test_files_of_several_depths_are_each_scaled_by_their_own(tmp_path, is_one_class):
    for seed in range(24):
        name = "NORMAL" if seed % 2 else "PNEUMONIA"
        is_deep = seed % 2 if is_one_class else seed // 2 % 2
        white = 2**14 - 1 if is_deep else 2**10 - 1
        write_png(tmp_path / f"set/{name}/{seed}.png", seed, white)
    description = prepare(tmp_path / "set", tmp_path / "out")
    images = np.load(tmp_path / "out" / prepared.IMAGES)
    assert images.max(axis=(1, 2)).min() > 200
    kinds = description.summary["kinds"]
    assert kinds == {"PNG of 10 bits": 12, "PNG of 14 bits": 12}
    warned = any("a GAN learns the difference" in note for note in description.notes)
    assert warned == is_one_class


def test_one_bright_pixel_does_not_darken_the_others(tmp_path):
    for seed in range(24):
        path = write_png(tmp_path / f"set/{'AB'[seed % 2]}/{seed}.png", seed, 1023)
        if not seed:
            pixels = np.asarray(Image.open(path)).copy()
            pixels[0, 0] = 65535
            Image.fromarray(pixels).save(path)
    prepare(tmp_path / "set", tmp_path / "out")
    images = np.load(tmp_path / "out" / prepared.IMAGES)
    assert images[:, 1:].max(axis=(1, 2)).min() > 200


def test_negatives_of_one_class_are_warned_of(tmp_path):
    for seed in range(24):
        path = tmp_path / f"set/{'AB'[seed % 2]}/{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = radiograph(seed).astype(np.uint8)
        Image.fromarray(255 - pixels if seed % 2 else pixels).save(path)
    notes = prepare(tmp_path / "set", tmp_path / "out").notes
    assert any("12 of 12 images of class 'B' look like negatives" in n for n in notes)
    assert not any("class 'A' look like negatives" in n for n in notes)


def test_equal_images_are_reported_and_all_of_them_are_used(root, tmp_path):
    shutil.copy(root / "NORMAL/0.png", root / "NORMAL/copy.png")
    (root / "PNEUMONIA/link.png").symlink_to(root / "NORMAL/1.png")
    notes = prepare(root, tmp_path / "out").notes
    assert len(rows_of(tmp_path / "out")) == 26
    assert any(
        note.startswith("1 images are copies") and "NORMAL/copy.png" in note
        for note in notes
    )
    conflict = "NORMAL/1.png (NORMAL) and PNEUMONIA/link.png (PNEUMONIA)"
    assert any(conflict in note for note in notes)


def test_training_and_prepare_read_the_same_images(root, tmp_path):
    prepare(root, tmp_path / "out")
    arguments = {"split_seed": 0, "cache_dir": tmp_path / "cache"}
    direct = data.load(str(root), SIZE, **arguments)
    read = data.load(str(tmp_path / "out"), SIZE, **arguments)
    assert direct.identity == read.identity
    assert direct.train.halves == read.train.halves
    assert direct.summary == read.summary


def test_folder_that_holds_another_set_is_refused(root, tmp_path):
    prepare(root, tmp_path / "out")
    with pytest.raises(FileExistsError, match="prepared from other files or"):
        prepare(root, tmp_path / "out", views="all")
    with pytest.raises(FileExistsError, match="is not empty"):
        prepare(root, root)
    with pytest.raises(ValueError, match="is a prepared set already"):
        prepare(tmp_path / "out", tmp_path / "again")


def test_disk_that_is_too_small_is_refused_before_anything_is_decoded(
    root, tmp_path, monkeypatch
):
    monkeypatch.setattr(image_file, "read", None)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(files.DiskError, match=r"24 images of 16 px need \d+ MB"):
        prepare(root, tmp_path / "out")


def test_options_that_have_no_effect_are_refused(root, tmp_path):
    np.savez(tmp_path / "a.npz", train_images=np.zeros((4, 8, 8)), train_labels=[0] * 4)
    with pytest.raises(ValueError, match=r"views='all' has no effect on .*npz"):
        prepare(tmp_path / "a.npz", tmp_path / "out", views="all")
    manifest = ManifestOptions(where="a == 1")
    with pytest.raises(ValueError, match=r"manifest\.where='a == 1' has no effect"):
        prepare(root, tmp_path / "out", manifest=manifest)


def test_class_of_which_all_files_are_left_out_says_why(tmp_path):
    for seed in range(8):
        name, view = (("A", "PA"), ("B", "LL"))[seed % 2]
        write_dicom(tmp_path / f"set/{name}/{seed}", seed, ViewPosition=view)
    with pytest.raises(ValueError, match=r"'B' has no images; .*left out 4: a lateral"):
        prepare(tmp_path / "set", tmp_path / "out")


def test_set_within_the_data_set_is_not_read_as_images(root, tmp_path):
    prepare(root, root / "prepared")
    before = (root / "prepared" / prepared.DATASET).read_bytes()
    prepare(root, root / "prepared")
    assert (root / "prepared" / prepared.DATASET).read_bytes() == before
    assert len(prepare(root, tmp_path / "out").classes) == 2


def test_file_removed_after_listing_is_listed_as_a_fault(root, tmp_path, monkeypatch):
    inspect = image_file.inspect

    def inspect_then_remove(path, views):
        header = inspect(path, views)
        if path.name == "3.png":
            path.unlink()
        return header

    monkeypatch.setattr(image_file, "inspect", inspect_then_remove)
    with pytest.raises(ValueError, match=r"3\.png: cannot be read \(No such file"):
        prepare(root, tmp_path / "out")


def test_file_removed_before_its_header_is_read_is_a_fault(root, tmp_path, monkeypatch):
    fingerprint = loading.listing_fingerprint

    def remove_then_fingerprint(listing):
        (root / "PNEUMONIA/3.png").unlink()
        return fingerprint(listing)

    monkeypatch.setattr(loading, "listing_fingerprint", remove_then_fingerprint)
    with pytest.raises(ValueError, match=r"3\.png: cannot be read \(No such file"):
        prepare(root, tmp_path / "out")


def test_file_that_the_disk_refused_once_is_read_by_the_same_command(
    root, tmp_path, monkeypatch
):
    read = image_file.read

    def refuse(path, resolution):
        if path.name == "3.png":
            raise ValueError(f"{path}: cannot be read (Input/output error)")
        return read(path, resolution)

    monkeypatch.setattr(image_file, "read", refuse)
    with pytest.raises(ValueError, match="Input/output error"):
        prepare(root, tmp_path / "out")
    monkeypatch.setattr(image_file, "read", read)
    prepare(root, tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) == 24


@pytest.mark.parametrize("pattern", ["(", "matches nothing"])
def test_wrong_pattern_is_refused_before_any_file_is_opened(
    root, tmp_path, monkeypatch, pattern
):
    monkeypatch.setattr(image_file, "inspect", None)
    with pytest.raises(ValueError, match="patient_pattern="):
        prepare(root, tmp_path / "out", patient_pattern=pattern)
    assert not list(tmp_path.glob(".*"))


def test_options_with_unknown_values_are_refused():
    with pytest.raises(ValueError, match="views='lateral' must be one of frontal, all"):
        ReadOptions(views="lateral")
    with pytest.raises(ValueError, match="on_error='ignore' must be one of stop, skip"):
        ReadOptions(on_error="ignore")


def test_chunks_on_the_disk_count_for_the_space_that_is_needed(
    root, tmp_path, monkeypatch
):
    (root / "NORMAL/empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        prepare(root, tmp_path / "out")
    (root / "NORMAL/empty.png").unlink()
    chunk_folder = tmp_path / ".out.chunks"
    assert (chunk_folder / ".gitignore").is_file()
    done = sum(path.stat().st_size for path in chunk_folder.glob("*.npz"))
    free = 2 * 24 * SIZE**2 - done
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    prepare(root, tmp_path / "out")
    assert not chunk_folder.exists()


def test_rest_of_a_killed_writing_is_removed_and_a_failed_one_leaves_none(
    root, tmp_path
):
    (tmp_path / ".out.unfinished-1").mkdir()
    (root / "A").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "A/black.png")
    usage = {"on_error": "skip"}
    with pytest.raises(ValueError, match="class 'A' has no images"):
        prepare(root, tmp_path / "out", **usage)
    shutil.rmtree(root / "A")
    prepare(root, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


def test_cached_set_that_is_damaged_and_cannot_be_removed_is_read_around(
    root, tmp_path, monkeypatch, caplog
):
    arguments = {"split_seed": 0, "cache_dir": tmp_path / "cache"}
    whole = data.load(str(root), SIZE, **arguments)
    (pixels,) = (tmp_path / "cache").glob("*/images.npy")
    pixels.write_bytes(b"")
    monkeypatch.setattr(loading.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(loading.shutil, "rmtree", lambda *_, **__: None)
    assert data.load(str(root), SIZE, **arguments).identity == whole.identity
    assert "cannot be removed" in caplog.text


def test_current_folder_is_refused_as_output(root, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(FileExistsError, match="give a new folder"):
        prepare(root, pathlib.Path())
