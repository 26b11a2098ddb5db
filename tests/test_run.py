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
from cxr_gan import data, disk, lock, run
from cxr_gan.gan import build

RECORD = {
    "config": {"seed": 0, "total_kimg": 8.0, "loss": {"r1_weight": 1.0}},
    "dataset": {"name": "phantom", "identity": "ab" * 32, "class_names": ["A", "B"]},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return data.load("phantom:40", 32, split_seed=0, cache_dir=cache)


@pytest.fixture
def small(images, gan, tmp_path):
    """Batches of 64: 0.064 kimg a round."""
    config = tiny.tiny_config()
    config.total_kimg = 1.0
    return run.Run(config, tmp_path / "run", images, gan)


def other(**changes):
    """RECORD with other parts of its dataset, or another config."""
    config = changes.pop("config", RECORD["config"])
    return {"config": config, "dataset": {**RECORD["dataset"], **changes}}


def test_rounds_are_counted_in_thousands_of_images(small):
    assert small.total_steps == 16  # 1000 / 64 = 15.6
    assert small.kimg(10) == pytest.approx(0.64)
    assert small.kimg(small.total_steps) >= small.config.total_kimg


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
def test_an_interval_ends_with_its_rounds_and_with_the_run(small, every_kimg, due):
    assert [s for s in range(1, 17) if small.due(s, every_kimg)] == due


def test_the_record_survives_json_and_names_config_and_data(small, images):
    record = small.record()
    assert json.loads(json.dumps(record)) == record
    assert record["config"]["seed"] == small.config.seed
    assert record["dataset"]["identity"] == images.identity


def test_a_checkpoint_says_all_it_takes_to_build_its_generator(small):
    meta = small.meta(10, 2, {"eval/kid": 0.25})
    assert json.loads(json.dumps(meta)) == meta
    assert {*meta["spec"]} == {f.name for f in dataclasses.fields(small.spec)}
    assert meta["kimg"] == small.kimg(10)
    assert (meta["rollbacks"], meta["figures"]) == (2, {"eval/kid": 0.25})


def test_a_new_folder_is_claimed_with_a_record(tmp_path):
    folder = tmp_path / "runs" / "a"
    run.claim(folder, RECORD)
    assert json.loads((folder / "run.json").read_text()) == RECORD
    assert {path.name for path in folder.iterdir()} == {"run.json", "run.lock"}


def test_an_empty_folder_is_claimed(tmp_path):
    run.claim(tmp_path, RECORD)
    assert (tmp_path / "run.json").exists()


def test_a_run_claims_its_folder_again_and_writes_nothing(tmp_path):
    run.claim(tmp_path, RECORD)
    before = (tmp_path / "run.json").stat()
    run.claim(tmp_path, RECORD)
    assert (tmp_path / "run.json").stat().st_mtime_ns == before.st_mtime_ns


def test_a_longer_run_is_the_same_run(tmp_path):
    run.claim(tmp_path, RECORD)
    run.claim(tmp_path, other(config={**RECORD["config"], "total_kimg": 9.0}))


def test_a_start_that_was_killed_while_claiming_can_be_repeated(tmp_path):
    (tmp_path / "run.unfinished").write_text('{"conf')
    (tmp_path / "run.lock").write_text("process 7 on a host since yesterday")
    run.claim(tmp_path, RECORD)
    assert json.loads((tmp_path / "run.json").read_text()) == RECORD


def test_another_configuration_is_refused_with_each_key(tmp_path):
    run.claim(tmp_path, RECORD)
    changed = {"seed": 1, "total_kimg": 8.0, "loss": {"r1_weight": 2.0}}
    with pytest.raises(ValueError) as caught:
        run.claim(tmp_path, other(config=changed))
    complaint = str(caught.value)
    assert "loss.r1_weight: 1.0 -> 2.0\n  seed: 0 -> 1" in complaint
    assert "another --workdir" in complaint
    assert str(tmp_path) in complaint


@pytest.mark.parametrize(
    "changes", [{"identity": "cd" * 32}, {"class_names": ["A", "C"]}]
)
def test_other_images_are_refused(tmp_path, changes):
    run.claim(tmp_path, RECORD)
    with pytest.raises(ValueError, match="trained on other images than phantom holds"):
        run.claim(tmp_path, other(**changes))


def test_the_same_images_under_another_name_are_another_configuration_alone(tmp_path):
    run.claim(tmp_path, RECORD)
    run.claim(tmp_path, other(name="path/to/the/same"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "\x00\x00",
        "[]",
        "3",
        "null",
        "{}",
        '{"config": 3, "dataset": 4}',
        '{"config": "a", "dataset": {}}',
        '{"config": [], "dataset": []}',
        '{"config": {}, "dataset": {"class_names": [], "identity": 3}}',
    ],
)
def test_a_damaged_record_is_named_and_left_alone(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"run.json is damaged .*bring it back, or"):
        run.claim(tmp_path, RECORD)
    assert path.read_text() == text


def test_a_record_that_is_no_text_is_damaged_too(tmp_path):
    (tmp_path / "run.json").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ValueError, match="is damaged"):
        run.claim(tmp_path, RECORD)


def test_a_record_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    run.write(path, {"a": 1})

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        run.write(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """configs/quick.py on few phantoms, for as many devices as tests have."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = tiny.load_config("quick")
    config.dataset = "phantom:40"
    config.batch_size = 16 * config.group_per_class
    return config


def test_opening_claims_a_folder_for_what_can_be_trained(quick, tmp_path):
    opened = run.open_run(quick, tmp_path / "run")
    assert opened.dataset.class_names == ("NORMAL", "PNEUMONIA")
    assert opened.gan.resolution == 32
    assert (tmp_path / "run" / "run.json").exists()
    assert opened.gan.generator == build(quick, opened.dataset.class_names).generator


@pytest.mark.parametrize(
    ("key", "value", "error", "words"),
    [
        ("seed", -1, ValueError, "seed=-1"),
        ("dataset", "path/to/nothing", OSError, "path/to/nothing"),
        ("dataset", "phantom:many", ValueError, "phantom:many"),
        ("batch_size", 17, ValueError, "batch_size=17"),
        ("samples_per_class", (1, 2, 3), ValueError, "names 3 classes"),
    ],
)
def test_what_is_wrong_is_said_before_a_folder_is_made(
    quick, tmp_path, key, value, error, words
):
    quick[key] = value
    with pytest.raises(error, match=words):
        run.open_run(quick, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def radiographs(tmp_path):
    """A folder of ten noisy pictures of each class."""
    draw = np.random.default_rng(0)
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "chest_xray" / name).mkdir(parents=True)
        for i in range(10):
            pixels = draw.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "chest_xray" / name / f"{i}.png")
    return tmp_path / "chest_xray"


def darken(picture):
    with Image.open(picture) as image:
        pixels = np.array(image)
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(picture)


@pytest.mark.parametrize("change", [darken, pathlib.Path.unlink])
def test_a_dataset_that_changed_under_a_run_is_refused_until_it_is_back(
    quick, tmp_path, radiographs, change
):
    quick.dataset = str(radiographs)
    run.open_run(quick, tmp_path / "run")
    picture = radiographs / "NORMAL" / "3.png"
    before = picture.read_bytes()
    change(picture)
    with pytest.raises(ValueError, match=r"trained on other images.*old data back"):
        run.open_run(quick, tmp_path / "run")
    picture.write_bytes(before)
    run.open_run(quick, tmp_path / "run")


def test_a_run_that_another_process_trains_is_refused_on_opening(quick, tmp_path):
    run.open_run(quick, tmp_path / "run")
    with (
        lock.held(tmp_path / "run"),
        pytest.raises(lock.InUseError, match="is in use by process"),
    ):
        run.open_run(quick, tmp_path / "run")


def test_a_read_only_folder_is_said_at_the_door_and_left_as_it_is(
    tmp_path, monkeypatch
):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    run.claim(tmp_path / "old", RECORD)
    before = (tmp_path / "old" / "run.json").read_bytes()
    monkeypatch.setattr(pathlib.Path, "mkdir", read_only)
    with pytest.raises(disk.DiskError, match=r"new cannot be written \(Read-only"):
        run.claim(tmp_path / "new", RECORD)
    monkeypatch.undo()
    monkeypatch.setattr(pathlib.Path, "open", read_only)
    with pytest.raises(disk.DiskError, match=r"run.lock cannot be written \(Read-o"):
        run.claim(tmp_path / "old", RECORD)
    monkeypatch.undo()
    assert (tmp_path / "old" / "run.json").read_bytes() == before


def test_other_images_than_before_are_refused_on_opening(quick, tmp_path):
    run.open_run(quick, tmp_path / "run")
    record = tmp_path / "run" / "run.json"
    text = json.loads(record.read_text())
    text["dataset"]["identity"] = "0" * 64
    record.write_text(json.dumps(text))
    with pytest.raises(ValueError, match="other images"):
        run.open_run(quick, tmp_path / "run")


def test_a_record_holds_every_key_of_the_configuration(quick, tmp_path):
    opened = run.open_run(quick, tmp_path / "run")
    recorded = configs.flatten(ConfigDict(opened.record()["config"]))
    assert recorded.keys() == configs.flatten(quick).keys()
