import dataclasses
import errno
import json
import pathlib

import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict
from PIL import Image

from cxr_gan import config as configs
from cxr_gan import data
from cxr_gan.storage import checkpoint, files, lock
from cxr_gan.training import experiment, restore, run_record
from cxr_gan.training.gan import build_gan

RECORD = {
    "schema": 2,
    "ancestors": [],
    "config": {"seed": 0, "total_kimg": 8.0, "loss": {"r1_weight": 1.0}},
    "dataset": {"name": "phantom", "identity": "ab" * 32, "class_names": ["A", "B"]},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return data.load("phantom:40", 32, split_seed=0, cache_dir=cache)


@pytest.fixture
def run(images, gan, tmp_path):
    """A run with batches of 64 images: 0.064 kimg a step."""
    config = tiny.tiny_config()
    config.total_kimg = 1.0
    return experiment.Run(configs.freeze(config), tmp_path / "run", images, gan)


@pytest.fixture
def trained(tmp_path):
    """The folder of a run of RECORD with a checkpoint of step 7."""
    run_record.claim_workdir(tmp_path / "run", RECORD)
    (tmp_path / "run" / "checkpoints" / "7").mkdir(parents=True)
    return tmp_path / "run"


def changed_record(**changes):
    """RECORD with another config, or with other entries in its dataset."""
    config = changes.pop("config", RECORD["config"])
    return {**RECORD, "config": config, "dataset": {**RECORD["dataset"], **changes}}


def test_more_samples_than_a_class_has_are_refused_by_name(images):
    count = int(images.train.counts(2)[1])
    experiment.check_samples((0, count), images)
    words = f"{count + 1} images of class 'PNEUMONIA', which has {count} in train; use "
    with pytest.raises(ValueError, match=words):
        experiment.check_samples((0, count + 1), images)


def test_total_steps_are_the_fewest_that_show_total_kimg(run):
    assert run.total_steps == 16  # 1000 / 64 = 15.6
    assert run.kimg(10) == pytest.approx(0.64)
    assert run.kimg(run.total_steps) >= run.config.total_kimg


@pytest.mark.parametrize(
    ("every_kimg", "due"),
    [
        (0.064, [*range(1, 17)]),
        (0.128, [2, 4, 6, 8, 10, 12, 14, 16]),
        (0.32, [5, 10, 15, 16]),
        (1e-9, [*range(1, 17)]),
        (1e9, [16]),
    ],
)
def test_interval_ends_every_so_many_steps_and_with_the_last_step(run, every_kimg, due):
    assert [s for s in range(1, 17) if run.due(s, every_kimg)] == due


def test_checkpoint_metadata_suffices_to_build_the_generator(run, images):
    metadata = run.metadata(10, 2, {"eval/kid": 0.25})
    assert json.loads(json.dumps(metadata)) == metadata
    assert metadata["schema"] == 2
    assert metadata["dataset"]["identity"] == images.identity
    keys = configs.flatten(ConfigDict(metadata["config"])).keys()
    assert keys == configs.flatten(configs.published()).keys()
    fields = dataclasses.fields(run.generator_config)
    assert {*metadata["generator"]} == {field.name for field in fields}
    assert metadata["kimg"] == run.kimg(10)
    assert (metadata["rollbacks"], metadata["metrics"]) == (2, {"eval/kid": 0.25})


@pytest.mark.parametrize("folder", ["runs/a", ""])
@pytest.mark.parametrize(
    "changes",
    [{}, {"config": {**RECORD["config"], "total_kimg": 9.0}}, {"name": "path/to/same"}],
    ids=["same", "longer", "moved data"],
)
def test_folder_is_claimed_with_a_record_and_claimed_again_without_writing(
    tmp_path, folder, changes
):
    tmp_path /= folder
    run_record.claim_workdir(tmp_path, RECORD)
    assert json.loads((tmp_path / "run.json").read_text()) == RECORD
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "run.lock"}
    before = (tmp_path / "run.json").stat()
    run_record.claim_workdir(tmp_path, changed_record(**changes))
    assert (tmp_path / "run.json").stat().st_mtime_ns == before.st_mtime_ns


def test_start_that_was_killed_while_claiming_can_be_repeated(tmp_path):
    (tmp_path / "run.unfinished").write_text('{"conf')
    (tmp_path / "run.lock").write_text("process 7 on a host since yesterday")
    run_record.claim_workdir(tmp_path, RECORD)
    assert json.loads((tmp_path / "run.json").read_text()) == RECORD


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a/thesis.txt", "a is not empty and holds no run: it has no run.json"),
        ("a", "a is a file; give another --workdir"),
    ],
)
def test_other_files_are_refused_and_left_unchanged(tmp_path, path, words):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text("mine")
    before = [*tmp_path.rglob("*")]
    with pytest.raises(ValueError, match=words):
        run_record.claim_workdir(tmp_path / "a", RECORD)
    assert [*tmp_path.rglob("*")] == before


def test_another_configuration_is_refused_and_every_changed_key_is_named(trained):
    config = {"seed": 1, "total_kimg": 8.0, "loss": {"r1_weight": 2.0}}
    with pytest.raises(ValueError) as caught:
        run_record.claim_workdir(trained, changed_record(config=config))
    message = str(caught.value)
    assert "loss.r1_weight: 1.0 -> 2.0\n  seed: 0 -> 1" in message
    assert "another --workdir" in message
    assert str(trained) in message


OTHER_IMAGES = [{"identity": "cd" * 32}, {"class_names": ["A", "C"]}]


@pytest.mark.parametrize("changes", OTHER_IMAGES)
def test_other_images_are_refused(trained, changes):
    with pytest.raises(ValueError, match="trained on other images than phantom holds"):
        run_record.claim_workdir(trained, changed_record(**changes))


@pytest.mark.parametrize("changes", [{"config": {"seed": 1}}, *OTHER_IMAGES])
@pytest.mark.parametrize("left", [[], ["checkpoints"], ["checkpoints/7.orbax-tmp"]])
def test_run_that_ended_before_its_first_checkpoint_gives_its_folder_to_another(
    tmp_path, changes, left
):
    run_record.claim_workdir(tmp_path, RECORD)
    for folder in left:
        (tmp_path / folder).mkdir(parents=True)
    other = changed_record(**changes)
    run_record.claim_workdir(tmp_path, other)
    assert json.loads((tmp_path / "run.json").read_text()) == other


def test_run_whose_folder_another_took_at_the_same_time_does_not_train(run):
    run_record.claim_workdir(run.folder, {**run.record(), "config": {"seed": 1}})
    (run.folder / "checkpoints").mkdir()
    with (
        checkpoint.Checkpoints(run.folder) as checkpoints,
        pytest.raises(checkpoint.CheckpointError, match="another configuration"),
    ):
        restore.restore_latest(run, checkpoints, None)


def test_record_has_no_folders_above_the_data_set_and_allows_it_to_move(run):
    paths = {"images": "/home/jane/files", "split": "train=/home/jane/a.txt,val=b.txt"}

    def record(home):
        config = run.config
        manifest = dataclasses.replace(
            config.manifest, **{k: v.replace("jane", home) for k, v in paths.items()}
        )
        config = dataclasses.replace(
            config, dataset=f"/home/{home}/set.csv", manifest=manifest
        )
        return dataclasses.replace(run, config=config).record()

    content = record("jane")
    assert "/home" not in json.dumps(content)
    assert content["config"]["dataset"] == content["dataset"]["name"] == "set.csv"
    assert content["config"]["manifest"]["split"] == "train=a.txt,val=b.txt"
    assert record("joe") == content
    assert content["jax"]["threefry_partitionable"] is True
    with_paths = {
        **content,
        "config": configs.to_json(run.config),
    }  # as 0.2 wrote first
    assert run_record.describe_difference(with_paths, content) == ""


@pytest.mark.parametrize("schema", [{}, {"schema": 1}, {"schema": 3}])
def test_run_of_another_version_is_refused_in_one_sentence(trained, schema):
    """Version 0.1 wrote no schema number."""
    path = trained / "run.json"
    content = {k: v for k, v in RECORD.items() if k != "schema"} | schema
    path.write_text(json.dumps(content))
    before = path.read_bytes()
    with pytest.raises(ValueError) as caught:
        run_record.claim_workdir(trained, RECORD)
    assert str(caught.value) == (
        f"{trained} was trained by another version of cxr_gan, whose runs this "
        "version cannot continue; give another --workdir, or use the version that "
        "trained it"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "\x00\x00", "\xff\xfe", "[]", "3", "null", '{"schema": 2}'),
        '{"schema": 2, "config": 3, "dataset": 4}',
        '{"schema": 2, "config": "a", "dataset": {}}',
        '{"schema": 2, "config": [], "dataset": []}',
        '{"schema": 2, "config": {}, "dataset": {"class_names": [], "identity": 3}}',
    ],
)
def test_damaged_record_is_named_and_left_unchanged(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"run.json is damaged .*; restore it, or"):
        run_record.claim_workdir(tmp_path, RECORD)
    assert path.read_text(encoding="latin-1") == text


def test_record_is_written_atomically(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    run_record.write_record(path, {"a": 1})

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        run_record.write_record(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """configs/quick.py with few phantoms and a batch that fits the test devices."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = tiny.load_config("quick")
    config.dataset = "phantom:40"
    config.batch_size = 16 * config.stddev_group_per_class
    return config


def test_open_run_claims_the_folder_and_builds_the_gan(quick, tmp_path):
    run = experiment.open_run(quick, tmp_path / "run")
    assert run.dataset.class_names == ("NORMAL", "PNEUMONIA")
    assert run.gan.resolution == 32
    assert (tmp_path / "run" / "run.json").exists()
    gan = build_gan(configs.freeze(quick), run.dataset.class_names)
    assert run.gan.generator == gan.generator


@pytest.fixture
def radiographs(tmp_path):
    """A folder of ten noise images of each class."""
    rng = np.random.default_rng(0)
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "chest_xray" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "chest_xray" / name / f"{i}.png")
    return tmp_path / "chest_xray"


def change_one_pixel(path):
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("change", [change_one_pixel, pathlib.Path.unlink])
def test_changed_dataset_is_refused_until_it_is_restored(
    quick, tmp_path, radiographs, change
):
    quick.dataset = str(radiographs)
    experiment.open_run(quick, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "7").mkdir(parents=True)
    path = radiographs / "NORMAL" / "3.png"
    before = path.read_bytes()
    change(path)
    with pytest.raises(ValueError, match=r"trained on other images.*restore the old d"):
        experiment.open_run(quick, tmp_path / "run")
    path.write_bytes(before)
    experiment.open_run(quick, tmp_path / "run")


def test_open_run_refuses_a_folder_that_another_process_trains_in(quick, tmp_path):
    experiment.open_run(quick, tmp_path / "run")
    with (
        lock.acquire(tmp_path / "run"),
        pytest.raises(lock.InUseError, match="is in use by process"),
    ):
        experiment.open_run(quick, tmp_path / "run")


def test_read_only_folder_is_refused_before_training_and_left_unchanged(
    tmp_path, monkeypatch
):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    run_record.claim_workdir(tmp_path / "old", RECORD)
    before = (tmp_path / "old" / "run.json").read_bytes()
    monkeypatch.setattr(pathlib.Path, "mkdir", read_only)
    with pytest.raises(files.DiskError, match=r"new cannot be written \(Read-only"):
        run_record.claim_workdir(tmp_path / "new", RECORD)
    monkeypatch.undo()
    monkeypatch.setattr(pathlib.Path, "touch", read_only)
    with pytest.raises(files.DiskError, match=r"run.lock cannot be written \(Read-o"):
        run_record.claim_workdir(tmp_path / "old", RECORD)
    monkeypatch.undo()
    assert (tmp_path / "old" / "run.json").read_bytes() == before
