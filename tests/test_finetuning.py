"""benchmarks.finetuning and benchmarks.growth: their data sets, runs and tables."""

import functools
import json

import benchmark_command
import jax
import numpy as np
import optax
import pytest
import tiny

from benchmarks import finetuning, growth
from cxr_gan import config as configs
from cxr_gan.data import patients
from cxr_gan.runtime import config_files
from cxr_gan.training import train_state


@pytest.fixture
def source(tmp_path):
    """Names as in the paediatric data set: up to three images of each patient."""
    folder = tmp_path / "chest_xray"
    for part, first, count in (("train", 1, 40), ("val", 100, 12)):
        names = {"NORMAL": [], "PNEUMONIA": []}
        for number in range(first, first + count):
            for image in range(1 + number % 3):
                names["NORMAL"].append(f"IM-{number:04}-{image:04}")
                for germ in ("bacteria", "virus"):
                    names["PNEUMONIA"].append(f"person{number}_{germ}_{image}")
        for label, stems in names.items():
            (folder / part / label).mkdir(parents=True)
            for stem in stems:
                (folder / part / label / f"{stem}.jpeg").touch()
    return folder


def names_in(folder):
    return {path.name for path in folder.rglob("*.jpeg")}


def patients_in(folder):
    return {patients.patient_of(name) for name in names_in(folder)}


def test_new_class_shares_no_image_with_the_pretraining(source, tmp_path):
    sets = tmp_path / "sets"
    finetuning.link_sets(source, sets, [6, 20])
    assert {p.name for p in (sets / "6/train").iterdir()} == {"NORMAL", "VIRAL"}
    for part in ("train", "val"):
        viral = names_in(sets / "20" / part) - names_in(sets / "bacterial" / part)
        assert viral and all("virus" in name for name in viral)
    for label in ("NORMAL", "VIRAL"):
        few, more = (set((sets / n / "train" / label).iterdir()) for n in ("6", "20"))
        assert (len(few), len(more)) == (6, 20)
        assert {p.name for p in few} < {p.name for p in more}


def test_no_patient_is_both_in_training_and_held_out(source, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuning, "LARGEST", 20)
    finetuning.link_sets(source, tmp_path, [20])
    held_out = {p for p in patients_in(tmp_path / "held_out") if "virus" in str(p)}
    train = patients_in(tmp_path / "20" / "train")
    val = patients_in(tmp_path / "20" / "val")
    assert held_out and not train & held_out and not train & val
    assert {p for p in val if "virus" in str(p)} < held_out


def test_another_data_set_is_refused(tmp_path, capsys):
    (tmp_path / "train/A").mkdir(parents=True)
    (tmp_path / "train/A/a.png").touch()
    flags = f"--data={tmp_path}", f"--workdir={tmp_path / 'runs'}"
    assert benchmark_command.run(finetuning, *flags) == 1
    assert "is not the paediatric data set" in capsys.readouterr().err
    assert benchmark_command.run(finetuning, *flags, "--only=fine-tunde") == 1
    assert "did you mean fine-tuned?" in capsys.readouterr().err


@pytest.mark.parametrize("name", finetuning.STARTS)
def test_start_changes_existing_keys_to_valid_values(name):
    start = finetuning.STARTS[name]
    config = config_files.read(config_files.shipped(start.file))
    config.update_from_flattened_dict(dict(start.changes))
    config.init = start.ancestor
    configs.check(config)


def test_frozen_layers_are_not_updated():
    params = {"stem": {"bias": np.ones(2)}, "mix": {"bias": np.ones(2)}}
    optimizer = finetuning.without(("stem",), optax.sgd(0.5))
    updates, _ = optimizer.update(params, optimizer.init(params))
    assert updates["stem"]["bias"].tolist() == [0, 0]
    assert updates["mix"]["bias"].tolist() == [-0.5, -0.5]
    with pytest.raises(KeyError, match="block_7"):
        finetuning.without(("block_7",), optax.sgd(0.5)).init(params)


def test_frozen_layers_are_those_of_the_default_discriminator():
    definition = tiny.build(configs.published())
    create = functools.partial(train_state.create_train_state, definition)
    params = jax.eval_shape(create, tiny.key(0)).discriminator.params
    for start in finetuning.STARTS.values():
        assert set(start.frozen) <= set(params)


def test_curve_has_the_minutes_of_training_up_to_each_validation(tmp_path):
    rows = [
        {"kimg": 1.0, "time/images_per_second": 10.0},
        {"kimg": 1.0, "eval/kid/VIRAL": 0.5},
        {"kimg": 3.0, "time/images_per_second": 20.0},
        {"kimg": 3.0, "eval/kid/VIRAL": 0.25},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text)
    expected = [[1.0, 0.5, 100 / 60], [3.0, 0.25, 200 / 60]]
    np.testing.assert_allclose(finetuning.curve(tmp_path), expected)


def test_table_has_means_over_seeds_and_the_minutes_of_the_best(monkeypatch):
    metrics = {key: 0.5 for key, _ in finetuning.COLUMNS.values() if key != "minutes"}
    runs = [
        metrics | {"fid/cxr": fid, "kimg": 2.0, "curve": [[1, 0, 3.0], [2, 0, 6.0]]}
        for fid in (4.0, 8.0)
    ]
    text = finetuning.table({"fine-tuned, 100": runs}, {"fid/cxr": 2.25})
    row = [cell.strip() for cell in text.splitlines()[2].split("|")]
    assert row[1:4] == ["fine-tuned, 100", "2", "6.0"] and row[-2] == "6.0"
    assert "| real images |  | 2.2 |" in text


# Growth


@pytest.fixture
def validator(open_run, tmp_path, monkeypatch):
    """validator(records): of a run whose KID falls from 0.5 by 0.125."""
    kids = iter([0.5, 0.375, 0.25, 0.125])
    monkeypatch.setattr(
        growth.snapshots.Validator, "metrics", lambda *_: {"eval/kid": next(kids)}
    )
    labels = []

    def sample(params, label, seed):
        labels.append(label)
        return np.zeros((len(label), 32, 32, 1), np.float32)

    space = growth.feature_spaces.FeatureSpace(
        "texture", lambda x: np.ones((len(x), 2))
    )
    monkeypatch.setattr(growth.feature_spaces, "open_space", lambda _: space)
    monkeypatch.setattr(growth.sampler, "sample", sample)
    run = open_run(tmp_path / "run")
    return lambda records: growth.Validator(run, 0.3125, records)


def test_run_ends_when_the_mean_of_two_validations_reaches_the_target(validator):
    records = []
    one = validator(records)
    for _ in range(2):
        assert one.metrics(None)
    with pytest.raises(growth.Reached):
        one.metrics(None)
    assert [record["kid"] for record in records] == [0.5, 0.375, 0.25]
    minutes = [record["minutes"] for record in records]
    assert minutes == sorted(minutes) and minutes[0] >= 0


def test_minutes_of_the_short_training_count(monkeypatch, tmp_path, capsys):
    record = {"kimg": 2.0, "minutes": 3.0, "kid": 0.02, "texture": 1.5}
    started = []

    def train(folder, values, **keys):
        started.append((folder.name, keys.get("init", "")))
        return [{"minutes": 5.0}] if keys.get("resolution") == 64 else [record] * 2

    monkeypatch.setattr(growth, "train", train)
    out = tmp_path / "growth.json"
    flags = ["--dataset=phantom", f"--workdir={tmp_path}", "--init=m", f"--out={out}"]
    assert benchmark_command.run(growth, *flags) == 0
    printed = capsys.readouterr().out
    assert "| from a model | 2 | 3.0 | 3.0 | 0.0200 | 1.50 |" in printed
    assert f"| {growth.FROM_SHORT} | 2 | 3.0 | 8.0 | 0.0200 | 1.50 |" in printed
    short = "short64", ""
    assert started[1:3] == [("from_a_model", "m"), short]
    assert started[3][1] == str(tmp_path / "short64")
    assert json.loads(out.read_text())["minutes_at_64_px"] == {growth.FROM_SHORT: 5.0}


def test_time_of_a_run_is_not_continued(tmp_path, capsys):
    (tmp_path / "from_scratch").mkdir()
    flags = "--dataset=phantom", f"--workdir={tmp_path}", "--only=from scratch"
    assert benchmark_command.run(growth, *flags) == 1
    assert "exists already; give another --workdir" in capsys.readouterr().err
