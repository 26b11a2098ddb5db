"""Names of files, folders and patients stay in the data set and in the cache."""

import base64
import gzip
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import dicom_files
import numpy as np
import orbax.checkpoint as ocp
import published
import pytest
import tensorstore
import tiny
import tiny_runs
from absl import flags
from PIL import Image, PngImagePlugin

from cxr_gan import config as configs
from cxr_gan import data, evaluate, generate, reader_study
from cxr_gan.data import loading
from cxr_gan.evaluation import label_classifier_cache
from cxr_gan.evaluation.metrics import label_classifier
from cxr_gan.training import experiment, loop, run_record

# Of the folder above the splits, of the patients of the manifest and of the files.
PLANTED_NAMES = (b"QXCLINIC", b"77190455628300", b"QXNAME")
# Of the DICOM headers: patient's name and ID, date of birth, hospital.
PLANTED_HEADERS = (b"QXPERSON", b"QXID", b"19570613", b"QXHOSPITAL")
PLANTED = (*PLANTED_NAMES, *PLANTED_HEADERS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A manifest of DICOM files that carry PLANTED; fills a cache of its own."""
    root = tmp_path_factory.mktemp("set")
    rows = ["file,label,patient"]
    rng = np.random.default_rng(0)
    for i, image in enumerate(rng.integers(0, 256, (160, 40, 40), np.uint8)):
        split, name = "Valid" if i >= 128 else "Train", tiny.CLASS_NAMES[i % 2]
        file = f"QXCLINIC/{split}/QXNAME_{i}.dcm"
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        header = {
            "PatientName": f"QXPERSON^{i}",
            "PatientID": f"QXID{i}",
            "PatientBirthDate": "19570613",
            "InstitutionName": "QXHOSPITAL",
        }
        dicom_files.save(dicom_files.image(image, 8, **header), root / file)
        rows.append(f"{file},{name},77190455628300{i % 120}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield root / "labels.csv"


@pytest.fixture(scope="module")
def run(dataset, training, compiled_once, tmp_path_factory):
    """A finished training run of six steps on the data set."""
    config = tiny.tiny_config(16)
    config.update({**tiny_runs.SCHEDULE, "dataset": str(dataset)})
    loaded = data.load(str(dataset), 16, split_seed=0)
    assert b"QXCLINIC" in loaded.train.ids[0].encode()
    folder = tmp_path_factory.mktemp("run") / "run"
    folder.mkdir()
    run = experiment.Run(configs.freeze(config), folder, loaded, training.gan)
    run_record.claim_workdir(folder, run.record())
    loop.train(run)
    return run


def command(verb, *arguments) -> int:
    values = flags.FlagValues()
    verb.define_flags(values)
    values([verb.__name__, *arguments])
    return verb.main([verb.__name__], values)


def unpacked(content: bytes) -> Iterator[bytes]:
    """The content, and what is compressed or encoded within it."""
    yield content
    if content.startswith(b"\x1f\x8b"):
        yield from unpacked(gzip.decompress(content))
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield from unpacked(archive.read(name))
    if content.startswith(b"\x89PNG"):
        with Image.open(io.BytesIO(content)) as image:
            yield repr(image.info).encode()
    for encoded in re.findall(rb"base64,([\w+/=]+)", content):
        yield from unpacked(base64.b64decode(encoded))


def checkpoint_values(folder: Path) -> Iterator[bytes]:
    """Keys and values of a checkpoint's database, which are compressed on disk."""
    spec = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}
    store = tensorstore.KvStore.open(spec).result()
    for key in store.list().result():
        yield key
        yield store.read(key).result().value


def leaks(folder: Path, texts: tuple[bytes, ...] = PLANTED) -> set[tuple[str, bytes]]:
    """(file, text) wherever one of the texts is in a name or in a content."""
    found = set()
    for path in folder.rglob("*"):
        contents = [path.name.encode()]
        if path.is_file():
            contents += unpacked(path.read_bytes())
        if path.name == "manifest.ocdbt":
            contents += checkpoint_values(path.parent)
        name = path.relative_to(folder).as_posix()
        found |= {(name, p) for p in texts for c in contents if p in c}
    return found


def test_planted_text_is_found_in_every_kind_of_file(tmp_path):
    text = PLANTED[0].decode()
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.gz").write_bytes(gzip.compress(PLANTED[0]))
    np.savez_compressed(tmp_path / "c.npz", np.frombuffer(PLANTED[0], np.uint8))
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", text, zip=True)
    Image.new("L", (1, 1)).save(tmp_path / "d.png", pnginfo=info)
    png = base64.b64encode((tmp_path / "d.png").read_bytes()).decode()
    (tmp_path / "e.html").write_text(f'<img src="data:image/png;base64,{png}">')
    (tmp_path / text).mkdir()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "f", {text: np.zeros(3)})
    found = {name.partition("/")[0] for name, _ in leaks(tmp_path)}
    assert found == {"a.txt", "b.gz", "c.npz", "d.png", "e.html", "f", text}


def test_training_and_generation_write_no_name_of_a_file_folder_or_patient(
    run, dataset, tmp_path
):
    model = f"--model={run.folder}"
    assert command(generate, model, "--num=4", f"--out={tmp_path}/samples") == 0
    assert len(list(run.folder.rglob("*"))) > 10
    folders = [os.fsencode(path.parent) for path in (dataset, run.folder)]
    # Orbax writes the path of a checkpoint into its commit_success.txt.
    assert not leaks(run.folder, (*PLANTED, folders[0]))
    assert not leaks(tmp_path, (*PLANTED, *folders))


def test_only_the_last_part_of_the_data_set_s_path_is_in_what_generation_writes(
    run, dataset, tmp_path
):
    model = f"--model={run.folder}"
    assert command(generate, model, "--num=4", f"--out={tmp_path}/samples") == 0
    written = json.loads((tmp_path / "samples/generation.json").read_text())
    assert written["dataset"]["name"] == dataset.name
    assert str(dataset.parent) not in json.dumps(written["dataset"])


def fit_briefly(train, num_classes):
    return label_classifier.fit(train.images, train.labels, num_classes, 0, steps=20)


@pytest.mark.slow
def test_evaluation_and_publication_write_no_name_of_a_file_folder_or_patient(
    run, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(label_classifier_cache, "load_or_fit", fit_briefly)
    loaded = data.load(str(dataset), 32, split_seed=0)
    record = run.record()["dataset"] | {"identity": loaded.identity}
    # The model of the run is too small to be evaluated.
    published.patch(monkeypatch, published.META | {"dataset": record})
    given = "--model=runs/tiny", f"--dataset={dataset}"
    out = f"--out={tmp_path}/report"
    assert command(evaluate, *given, out, "--num=40", "--spaces=cxr") == 0
    assert command(reader_study, *given, f"--out={tmp_path}/panel.png") == 0
    assert published.command(tmp_path) == 0
    assert not leaks(tmp_path, (*PLANTED, os.fsencode(dataset.parent), b"runs/tiny"))
    for name in ("report.json", "report.html"):
        text = (tmp_path / "report" / name).read_text("utf-8")
        assert str(dataset) not in text
        assert dataset.name in text


def test_prepared_set_keeps_names_of_files_but_no_patient(dataset, tmp_path):
    loading.prepare(str(dataset), 16, tmp_path / "set", split_seed=0)
    assert {text for _, text in leaks(tmp_path)} == {b"QXCLINIC", b"QXNAME"}
