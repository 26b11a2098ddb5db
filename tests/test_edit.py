"""python -m cxr_gan.edit: pairs of classes, and projections of images."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny_generator
from absl import flags
from PIL import Image

import cxr_gan
from cxr_gan import edit
from cxr_gan.runtime import cli
from cxr_gan.sampling import class_pairs, pair_files, projection
from cxr_gan.storage import checkpoint, files

META = {"step": 7, "generator": dataclasses.asdict(tiny_generator.CONFIG)}


@pytest.fixture(scope="module")
def params():
    return tiny_generator.params()


@pytest.fixture
def command(monkeypatch, params, tmp_path):
    """command("pairs", "--num=3", ...) -> exit code; every run is the tiny one."""
    monkeypatch.setattr(checkpoint, "load_item", lambda *_: (params.params, META))
    monkeypatch.setattr(projection, "CANDIDATES", 16)

    def command(action, *arguments):
        main, define_flags = edit.ACTIONS[action]
        values = flags.FlagValues()
        define_flags(values)
        given = ["--model=runs/tiny", f"--out={tmp_path / 'out'}", *arguments]
        return main(values([action, *given]), values)

    return command


def pixels(path):
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def table(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def drawn(params, label, n, seed):
    """uint8 [n, s, s, 1], as `cxr_gan.sample` draws them."""
    images = cxr_gan.sample(params, np.full(n, label), seed)
    return np.round(255 * np.asarray(images)).astype(np.uint8)


def write_images(folder, images):
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / f"patient{index}.png")


def test_pairs_are_the_images_of_each_class_for_one_seed(command, params, tmp_path):
    assert command("pairs", "--num=3", "--seed=5") == 0
    out = tmp_path / "out"
    a, b = (drawn(params, label, 3, 5) for label in (0, 1))
    for index in range(3):
        name = f"PNEUMONIA/PNEUMONIA_{index:05}.png"
        normal = pixels(out / f"images/NORMAL/NORMAL_{index:05}.png")
        np.testing.assert_array_equal(normal, a[index, ..., 0])
        np.testing.assert_array_equal(pixels(out / "images" / name), b[index, ..., 0])
        shown = pixels(out / "differences" / name).astype(float)
        exact = 128 + (b[index, ..., 0].astype(float) - a[index, ..., 0]) / 2
        assert np.abs(shown - np.clip(exact, 0, 255)).max() <= 0.5


def test_table_of_pairs_has_the_mean_change_in_each_region(command, params, tmp_path):
    assert command("pairs", "--num=2") == 0
    rows = table(tmp_path / "out" / "pairs.csv")
    assert [row["class_name"] for row in rows] == ["NORMAL", "PNEUMONIA"] * 2
    assert [row["latent"] for row in rows] == ["0", "0", "1", "1"]
    a, b = (drawn(params, label, 2, 0).astype(float) / 255 for label in (0, 1))
    change = np.abs(b - a)[..., 0]
    inner = change[:, 4:-4, 4:-4]
    frame = (change.sum((1, 2)) - inner.sum((1, 2))) / (32**2 - 24**2)
    centre = change[:, 8:-8, 8:-8].mean((1, 2))
    for index in range(2):
        assert float(rows[2 * index + 1]["frame"]) == pytest.approx(
            frame[index], abs=1e-5
        )
        assert float(rows[2 * index + 1]["centre"]) == pytest.approx(
            centre[index], abs=1e-5
        )
        assert rows[2 * index]["difference"] == ""
        assert float(rows[2 * index]["frame"]) == 0
    record = json.loads((tmp_path / "out" / "pairs.json").read_text(encoding="utf-8"))
    assert record["mean_change"]["centre"] == pytest.approx(centre.mean(), abs=1e-5)


def test_ctrl_c_keeps_the_pairs_that_are_finished(command, tmp_path, monkeypatch):
    write = pair_files.write

    def write_and_stop(out, jobs, index, images):
        if index == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return write(out, jobs, index, images)

    monkeypatch.setattr(pair_files, "write", write_and_stop)
    assert command("pairs", "--num=50") == cli.STOPPED
    rows = table(tmp_path / "out" / "pairs.csv")
    assert len(rows) == 6
    images = list((tmp_path / "out" / "images").rglob("*.png"))
    assert len(images) == len(rows)


def test_frame_and_centre_of_eight_pixels():
    regions = class_pairs.regions(8)
    assert regions["frame"].sum() == 64 - 36
    assert regions["centre"].sum() == 16
    assert not (regions["frame"] & regions["centre"]).any()
    a, b = (np.full((1, 8, 8, 1), value, np.uint8) for value in (10, 61))
    b[:, 2:-2, 2:-2] = 10
    assert class_pairs.changes(a, b, regions["frame"]) == pytest.approx(51 / 255)
    assert class_pairs.changes(a, b, regions["centre"]) == 0


def test_generated_images_project_nearer_than_any_random_latent(
    command, params, tmp_path
):
    for label, name in enumerate(params.class_names):
        write_images(tmp_path / "real" / name, drawn(params, label, 2, 9))
    assert command("project", f"--images={tmp_path}/real", "--steps=120") == 0
    out = tmp_path / "out"
    found = np.load(out / "latents.npz")
    assert found["labels"].tolist() == [0, 0, 1, 1]
    given = np.concatenate([drawn(params, label, 2, 9) for label in (0, 1)]) / 255
    images = np.asarray(
        cxr_gan.sample(params, found["labels"], latents=found["latents"])
    )
    error = np.abs(images - given).mean((1, 2, 3))
    start = projection.nearest_candidates(
        params, np.round(255 * given).astype(np.uint8), found["labels"], 0
    )
    nearest = np.asarray(cxr_gan.sample(params, found["labels"], latents=start))
    assert np.all(error < 0.8 * np.abs(nearest - given).mean((1, 2, 3)))
    rows = table(out / "projections.csv")
    assert [float(row["mean_absolute_difference"]) for row in rows] == pytest.approx(
        error, abs=1e-5
    )
    assert all((out / row["panel"]).is_file() for row in rows)


def test_projection_of_an_image_does_not_depend_on_the_others(params):
    images, labels = drawn(params, 1, 3, 4), np.ones(3, np.int32)
    start = np.asarray(cxr_gan.latents(params, 3, 0))
    together = projection.project(params, images, labels, start, steps=20)
    for i in range(3):
        rows = np.resize([i], 3)
        alone = projection.project(params, images[rows], labels, start[rows], steps=20)
        np.testing.assert_allclose(
            alone.latents[0], together.latents[i], rtol=0, atol=1e-3
        )


def test_no_file_of_a_projection_names_a_source(command, params, tmp_path):
    write_images(tmp_path / "real" / "ward7", drawn(params, 0, 1, 9))
    arguments = (f"--images={tmp_path}/real", "--label=NORMAL", "--steps=2")
    assert command("project", *arguments) == 0
    paths = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(paths) == 5
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".npz":
            arrays = np.load(path)
            content = repr([(key, arrays[key].tolist()) for key in arrays]).encode()
        for word in (b"patient0", b"ward7"):
            assert word not in content and word.decode() not in path.name


def test_ctrl_c_keeps_the_projections_of_finished_batches(
    command, params, tmp_path, monkeypatch
):
    write_images(tmp_path / "real" / "NORMAL", drawn(params, 0, 5, 9))
    monkeypatch.setattr(edit, "BATCH_ROWS", 64)  # two images
    project, steps = projection.project, []

    def project_and_stop(*arguments, on_step, **keys):
        def stop_in_the_second_batch():
            steps.append(1)
            if len(steps) == 5:
                os.kill(os.getpid(), signal.SIGINT)
            on_step()

        return project(*arguments, on_step=stop_in_the_second_batch, **keys)

    monkeypatch.setattr(projection, "project", project_and_stop)
    arguments = ("project", f"--images={tmp_path}/real", "--steps=4")
    assert command(*arguments) == cli.STOPPED
    assert len(steps) == 5
    assert len(table(tmp_path / "out" / "projections.csv")) == 2
    assert len(np.load(tmp_path / "out" / "latents.npz")["latents"]) == 2


def test_full_disk_leaves_the_table_of_finished_pairs(
    command, tmp_path, monkeypatch, capsys
):
    write = pair_files.write

    def write_until_full(out, jobs, index, images):
        if index == 2:
            raise files.DiskError("images/a.png cannot be written (full)")
        return write(out, jobs, index, images)

    monkeypatch.setattr(pair_files, "write", write_until_full)
    assert command("pairs", "--num=50") == 1
    assert "cannot be written" in capsys.readouterr().err
    assert len(table(tmp_path / "out" / "pairs.csv")) == 4


@pytest.mark.parametrize(
    ("folder", "arguments", "words"),
    [
        ("NORMAL", ("--label=NORMALS",), ["did you mean 'NORMAL'"]),
        ("HEALTHY", (), ["'HEALTHY' is none", "--label=NORMAL"]),
        (".", (), ["in none", "--label=NORMAL"]),
        ("NORMAL", ("--images=missing",), ["no such folder"]),
        ("NORMAL", ("--images=gs://bucket/a",), ["gcloud storage"]),
    ],
)
def test_images_without_a_class_of_the_model_are_refused(
    command, params, tmp_path, capsys, folder, arguments, words
):
    write_images(tmp_path / "real" / folder, drawn(params, 0, 1, 0))
    assert command("project", f"--images={tmp_path}/real", *arguments) == 1
    error = capsys.readouterr().err
    assert all(word in error for word in words), error
    assert not (tmp_path / "out").exists()


def test_images_smaller_than_the_model_are_refused(command, tmp_path, capsys):
    write_images(tmp_path / "real" / "NORMAL", np.zeros((2, 20, 40, 1), np.uint8))
    assert command("project", f"--images={tmp_path}/real") == 1
    error = capsys.readouterr().err
    assert "patient0.png has 20 px" in error
    assert "generates 32 px" in error


def test_folder_without_images_is_refused(command, tmp_path, capsys):
    (tmp_path / "real").mkdir()
    assert command("project", f"--images={tmp_path}/real") == 1
    assert "no images" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["pairs", "project"])
def test_folder_that_is_not_empty_is_refused(command, tmp_path, capsys, action):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    extra = () if action == "pairs" else (f"--images={tmp_path}",)
    assert command(action, *extra) == 1
    assert "is not empty" in capsys.readouterr().err


@pytest.fixture
def repository(tmp_path):
    """A git repository that ignores the folder `ignored`."""
    folder = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    (folder / ".gitignore").write_text("/ignored/\n")
    return folder


@pytest.mark.parametrize("out", ["repository/new", "link/new"])
def test_projection_that_git_could_commit_is_refused(
    command, repository, tmp_path, capsys, out
):
    (tmp_path / "link").symlink_to(repository)
    assert command("project", f"--images={tmp_path}", f"--out={tmp_path}/{out}") == 1
    assert "not ignored by git" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["ignored", "../beside"])
def test_projection_that_git_cannot_commit_is_written(
    command, params, repository, tmp_path, out
):
    write_images(tmp_path / "real" / "NORMAL", drawn(params, 0, 1, 0))
    arguments = (f"--images={tmp_path}/real", "--steps=1", f"--out={repository}/{out}")
    assert command("project", *arguments) == 0
    assert (repository / out / "latents.npz").is_file()


def test_what_is_left_out_is_stated(command, params, tmp_path, capsys):
    write_images(tmp_path / "real" / "NORMAL", drawn(params, 0, 1, 0))
    write_images(tmp_path / "real" / "test", drawn(params, 0, 2, 0))
    assert command("project", f"--images={tmp_path}/real", "--steps=1") == 0
    assert "left out 2: of a test split" in capsys.readouterr().out


def test_black_images_are_refused(command, tmp_path, capsys):
    write_images(tmp_path / "real" / "NORMAL", np.zeros((1, 40, 40, 1), np.uint8))
    assert command("project", f"--images={tmp_path}/real") == 1
    assert "patient0.png is nearly black" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["paris"], 1, "must be pairs or project, not 'paris'"),
        (["--help"], 0, "project"),
    ],
)
def test_first_argument_names_the_action(arguments, code, words):
    result = subprocess.run(
        [sys.executable, "-m", "cxr_gan.edit", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code
    assert words in result.stdout + result.stderr
