"""benchmarks.metric_sensitivity: held-out images, their faults, and the table."""

import json

import benchmark_command
import numpy as np
import pytest

from benchmarks import metric_sensitivity
from cxr_gan.data import Dataset, ImageSet, splits
from cxr_gan.data.patients import patient_keys, patient_of

N = 20  # held-out images of each class


@pytest.fixture(scope="module")
def dataset():
    """Random images, two of each patient; those of some patients are equal."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 32, 32, 1), np.uint8)
    images[1::50] = images[0::50]
    labels = np.arange(400, dtype=np.int32) // 2 % 2
    names = [
        f"train/PNEUMONIA/person{i // 2}_virus_{i}.jpeg"
        if label
        else f"train/NORMAL/IM-{i // 2:04}-{i:04}.jpeg"
        for i, label in enumerate(labels)
    ]
    train = ImageSet(images, labels, tuple(names))
    val = train.take(np.zeros(400, bool))
    return Dataset(train, val, ("NORMAL", "PNEUMONIA"), "noise")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(metric_sensitivity, "PER_CLASS", N)


def distinct(images):
    return {image.tobytes() for image in images.reshape(-1, *images.shape[-3:])}


def test_held_out_patients_are_of_half_b_and_not_in_the_real_set(dataset):
    held_out = metric_sensitivity.hold_out(dataset, seed=0)
    assert held_out.images.shape == (2, N, 32, 32, 1)
    selected = distinct(held_out.images)
    assert len(selected) == 2 * N
    rows = [i for i, x in enumerate(dataset.train.images) if x.tobytes() in selected]
    names = [dataset.train.ids[i] for i in rows]
    assert not splits.keys_in_half_a(patient_keys(names)).any()
    patients = {patient_of(name) for name in names}
    rest = {patient_of(name) for name in held_out.real.train.ids}
    assert not patients & rest
    other = metric_sensitivity.hold_out(dataset, seed=1)
    assert distinct(other.images) != selected


def test_too_small_data_set_is_refused(dataset, monkeypatch):
    monkeypatch.setattr(metric_sensitivity, "PER_CLASS", 200)
    with pytest.raises(ValueError, match="of NORMAL can be held out; 200 are needed"):
        metric_sensitivity.hold_out(dataset, seed=0)


def test_faults_are_those_that_their_names_say(dataset):
    faulty = {}
    for name, fault in metric_sensitivity.FAULTS.items():
        held_out = metric_sensitivity.hold_out(dataset, seed=0)
        faulty[name] = fault(held_out)
        assert faulty[name].shape == held_out.images.shape, name
        assert faulty[name].dtype == np.uint8, name
    clean = faulty.pop("real, other patients").astype(float)
    assert not any(np.array_equal(images, clean) for images in faulty.values())
    # Clipping at 0 and 255 lowers the deviation of the noise.
    assert (faulty["noise, sd 3"] - clean).std() == pytest.approx(3, rel=0.05)
    assert faulty["blur, 1.5 px"].std() < faulty["blur, 0.7 px"].std() < clean.std()
    for width in (1, 2):
        change = faulty[f"stripes of {width} px"] - clean
        inner = change[(clean > 1) & (clean < 254)]
        np.testing.assert_array_equal(np.abs(inner), 2)
        rows = np.sign(change[0, 0, :, :, 0].sum(1))
        np.testing.assert_array_equal(
            rows[:8], [-1, 1] * 4 if width == 1 else [-1, -1, 1, 1] * 2
        )
    assert len(distinct(faulty["ten images repeated"])) == 10
    train = distinct(held_out.real.train.images)
    copied = [x.tobytes() in train for x in faulty["two fifths copied"].reshape(40, -1)]
    assert 0.2 < np.mean(copied) < 0.6
    np.testing.assert_array_equal(faulty["labels swapped"], clean[[1, 0]])
    mean = (clean[0, 1] + clean[0, 0]) / 2
    np.testing.assert_allclose(faulty["mean of two images"][0, 1], mean, atol=0.5)


def test_finished_rows_are_kept_and_the_table_shows_their_means(
    dataset, tmp_path, monkeypatch, capsys
):
    calls = []

    def evaluate_fault(dataset, fault, seed):
        calls.append((fault, seed))
        metrics = dict.fromkeys(metric_sensitivity.COLUMNS, 1.0 + 2 * seed)
        return {"metrics": metrics, "verdict": "no fault found"}

    monkeypatch.setattr(metric_sensitivity, "evaluate_fault", evaluate_fault)
    monkeypatch.setattr(metric_sensitivity.data, "load", lambda *_, **__: dataset)
    out = tmp_path / "table.json"
    command = (metric_sensitivity, "--dataset=d", "--seeds=2", f"--out={out}")
    command += (f"--workdir={tmp_path}/rows",)
    assert benchmark_command.run(*command) == 0
    assert len(calls) == 2 * len(metric_sensitivity.FAULTS)
    assert "| phantoms | 2 ± 1.4 | 2 ± 1.4 |" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["faults"]["phantoms"]) == 2
    out.unlink()
    (tmp_path / "rows" / "1" / "phantoms.json").unlink()
    assert benchmark_command.run(*command) == 0
    assert calls[-1] == ("phantoms", 1)
    assert len(calls) == 2 * len(metric_sensitivity.FAULTS) + 1
