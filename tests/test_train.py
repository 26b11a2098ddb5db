"""`cxr_gan.train`, the training command as a function."""

import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import chex
import pytest
from tiny_runs import checkpoint_steps, metric_lines, without_times

import cxr_gan
from cxr_gan import config as configs
from cxr_gan.runtime import process
from cxr_gan.training import experiment
from cxr_gan.training.train import SetupError

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def opened(open_run, monkeypatch):
    """The runs that were opened: all are of six steps of `training.gan`."""

    def open_tiny_run(_, folder):
        runs.append(open_run(folder))
        return runs[-1]

    runs = []
    monkeypatch.setattr(experiment, "open_run", open_tiny_run)
    for setting in ("enable_compilation_cache", "tune_malloc"):
        monkeypatch.setattr(process, setting, lambda: None)
    return runs


def test_train_can_be_called_again_and_in_any_thread(
    opened, final_checkpoint, tmp_path, capsys
):
    config = configs.published()
    first = cxr_gan.train(config, tmp_path / "a")
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(
            cxr_gan.train, "configs/quick.py", f"{tmp_path}/b"
        ).result()
    assert (first, second) == (tmp_path / "a", tmp_path / "b")
    assert config.to_dict() == configs.published().to_dict()
    states = [final_checkpoint(run) for run in opened]
    chex.assert_trees_all_equal(*states)
    lines = [without_times(metric_lines(folder)) for folder in (first, second)]
    assert lines[0] == lines[1]
    assert cxr_gan.load(first).config.resolution == 16
    assert cxr_gan.train(config, first) == first
    printed = capsys.readouterr().err
    assert printed.count("finished; python -m cxr_gan.generate") == 2
    assert printed.count(f"{first} is finished; to continue") == 1


class Unwritable:
    """A stderr that nobody reads."""

    def write(self, *_):
        raise BrokenPipeError("Broken pipe")

    flush = isatty = write


def test_training_goes_on_where_nobody_reads_what_it_prints(
    opened, tmp_path, monkeypatch
):
    stderr = Unwritable()
    stderr.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stderr)
    cxr_gan.train(configs.published(), tmp_path / "a")
    assert sys.stderr is stderr
    assert checkpoint_steps(opened[0]) == [4, 6]


@pytest.mark.parametrize(
    ("config", "workdir", "words"),
    [
        ("none.py", "a", "no such configuration file; the package has"),
        ({"batch_sise": 8}, "a", "no such key; did you mean batch_size?"),
        ({"dataset": "path/to/nothing"}, "a", "path/to/nothing"),
        ({}, "gs://", "does not name a folder in a bucket"),
    ],
)
def test_run_that_cannot_start_is_refused_and_no_folder_created(
    tmp_path, monkeypatch, config, workdir, words
):
    monkeypatch.chdir(tmp_path)
    if isinstance(config, dict):
        changes, config = config, configs.published()
        config.update(changes)
    with pytest.raises(SetupError, match=words.replace("?", r"\?")):
        cxr_gan.train(config, workdir)
    assert not [*tmp_path.iterdir()]


CODE = """
import cxr_gan
from cxr_gan import config as configs

def train(workdir, **changes):
    config = configs.published()
    config.update(resolution=32, dataset="phantom:60", latent_size=8, eval_kimg=0.0)
    config.update(stddev_group_per_class=2, total_kimg=0.032)
    for network in (config.generator, config.discriminator):
        network.update(features_at_32=8, max_features=8)
    config.update(changes)
    return cxr_gan.load(cxr_gan.train(config, workdir))

cxr_gan.sample(train("a", batch_size=8), [0, 1], rng=0)
train("b", batch_size=16)
try:
    train("c", batch_size=12)
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_other_batch_sizes_train_in_one_process_if_they_fit_its_devices(tmp_path):
    paths = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        env={**os.environ, **paths, "JAX_NUM_CPU_DEVICES": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "batch_size=12 cannot be split over 2 devices" in done.stdout
    assert "or train in a new process, with other devices" in done.stdout
    assert not (tmp_path / "c").exists()
