"""Does a run draw what is asked for, and as variedly as the data? In numbers.

CXR_RUN=runs/local judges a run that is there; without it one is trained, for
CXR_QUALITY_MINUTES. The images judged are phantoms of 64 x 64 pixels.
"""

import os
import pathlib
import subprocess
import sys

import classifier
import numpy as np
import pytest

import cxr_gan
from cxr_gan import data
from cxr_gan.metrics import ssim

ROOT = pathlib.Path(__file__).parents[1]
PER_CLASS = 256  # images drawn
PAIRS = 1000  # of a class, of which the mean MS-SSIM is taken
LEAST_GIVEN_BACK = 0.90  # share of the asked classes
MOST_ABOVE_DATA = 0.1  # of MS-SSIM within a class


def unit(images):
    """uint8 -> float32 in [0, 1]."""
    return images.astype(np.float32) / 255


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of our own, where test and training find the same phantoms."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def real(cache):
    return data.load("phantom", 64, split_seed=0, cache_dir=cache / "cxr_gan")


@pytest.fixture(scope="module")
def judge(real):
    return classifier.fit(unit(real.train.images), real.train.labels, seed=0, epochs=14)


@pytest.fixture(scope="module")
def faults(real, judge):
    """faults(images, labels) -> what is wrong with them, a sentence each; it prints."""
    likeness = [
        ssim.mean_pairwise(unit(real.train.images[real.train.labels == c]), 0, PAIRS)
        for c in range(len(real.class_names))
    ]

    def faults(images, labels):
        given_back = judge(images) == labels
        share = given_back.mean()
        print(f"\n{share:.1%} of {len(labels)} images show the class asked for")
        found = []
        if share < LEAST_GIVEN_BACK:
            found.append(f"only {share:.1%} show the class asked for")
        for c, name in enumerate(real.class_names):
            mean, error = ssim.mean_pairwise(images[labels == c], 0, PAIRS)
            own, own_error = likeness[c]
            print(
                f"{name}: {given_back[labels == c].mean():.1%}, MS-SSIM within "
                f"{mean:.3f} +- {error:.3f}, of the data {own:.3f} +- {own_error:.3f}"
            )
            if mean > own + MOST_ABOVE_DATA:
                found.append(f"{name} is too alike: {mean:.3f}, the data {own:.3f}")
        return found

    return faults


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    """The folder of the run that is judged: one that is there, or a new one."""
    if "CXR_RUN" in os.environ:
        return pathlib.Path(os.environ["CXR_RUN"])
    folder = tmp_path_factory.mktemp("run")
    minutes = float(os.environ.get("CXR_QUALITY_MINUTES", "10"))
    command = (
        *(sys.executable, "-m", "cxr_gan.main", "--config=configs/acgan.py"),
        *(f"--config.max_minutes={minutes}", f"--workdir={folder}"),
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    env["XDG_CACHE_HOME"] = str(cache)
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return folder


@pytest.mark.quality
def test_trained_run_draws_the_asked_class_and_as_variedly_as_the_data(
    run, real, faults, capsys
):
    params = cxr_gan.load(run)
    assert params.class_names == real.class_names, f"{run} is no run on phantoms"
    assert params.spec.resolution == 64, f"{run} is of another resolution"
    labels = np.arange(PER_CLASS * len(real.class_names)) % len(real.class_names)
    images = np.asarray(cxr_gan.sample(params, labels, 0))
    with capsys.disabled():
        found = faults(images, labels)
    assert not found


@pytest.mark.slow
def test_judge_knows_real_images_it_has_not_seen(real, judge):
    right = judge(unit(real.val.images)) == real.val.labels
    assert right.mean() >= 0.95


@pytest.mark.slow
def test_real_images_have_no_fault(real, faults):
    found = faults(unit(real.val.images), real.val.labels)
    assert not found


@pytest.mark.slow
def test_the_same_image_again_and_again_is_found_out(real, faults):
    labels = np.repeat(np.arange(len(real.class_names)), 64)
    first = [np.flatnonzero(real.val.labels == label)[0] for label in labels]
    found = faults(unit(real.val.images[first]), labels)
    for name in real.class_names:
        assert any(f"{name} is too alike" in fault for fault in found)


@pytest.mark.slow
def test_swapped_classes_are_found_out(real, faults):
    found = faults(unit(real.val.images), 1 - real.val.labels)
    assert any("show the class asked for" in fault for fault in found)
