"""Whether a run generates the requested class, and as varied images as the data.

CXR_RUN=runs/local tests an existing run; otherwise a run is trained for
CXR_QUALITY_MINUTES (default 10). All images are phantoms at 64 x 64 pixels.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import cxr_gan
from cxr_gan import data
from cxr_gan.evaluation.metrics import label_classifier, ms_ssim
from cxr_gan.models import pixel_range

ROOT = pathlib.Path(__file__).parents[1]
PER_CLASS = 256  # generated images
PAIRS = 1000  # of each class, for the mean MS-SSIM
MIN_LABEL_ACCURACY = 0.90
MAX_MS_SSIM_EXCESS = 0.1  # above that within a class of real images


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A separate cache, so that test and training use the same phantoms."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def real(cache):
    return data.load("phantom", 64, split_seed=0, cache_dir=cache / "cxr_gan")


@pytest.fixture(scope="module")
def predict_class(real):
    """predict_class(images) -> int [n], by a classifier of the real images."""
    num_classes = len(real.class_names)
    fitted = label_classifier.fit(real.train.images, real.train.labels, num_classes, 0)
    return lambda images: label_classifier.predict(fitted, images).argmax(1)


@pytest.fixture(scope="module")
def faults(real, predict_class):
    """faults(images, labels) -> descriptions of faults; prints the metrics."""
    real_ms_ssim = [
        ms_ssim.mean_pairwise(real.train.images[real.train.labels == c], 0, PAIRS)
        for c in range(len(real.class_names))
    ]

    def faults(images, labels):
        correct = predict_class(images) == labels
        accuracy = correct.mean()
        print(f"\n{accuracy:.1%} of {len(labels)} images show the requested class")
        descriptions = []
        if accuracy < MIN_LABEL_ACCURACY:
            descriptions.append(f"only {accuracy:.1%} show the requested class")
        for c, name in enumerate(real.class_names):
            mean = ms_ssim.mean_pairwise(images[labels == c], 0, PAIRS)
            similarity = f"MS-SSIM {mean:.3f}, real {real_ms_ssim[c]:.3f}"
            print(f"{name}: {correct[labels == c].mean():.1%} correct, {similarity}")
            if mean > real_ms_ssim[c] + MAX_MS_SSIM_EXCESS:
                descriptions.append(f"{name} is too uniform: {similarity}")
        return descriptions

    return faults


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    """The folder of the tested run: CXR_RUN, or a new one."""
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
def test_trained_run_generates_requested_classes_as_varied_as_the_data(
    run, real, faults, capsys
):
    params = cxr_gan.load(run)
    assert params.class_names == real.class_names, f"{run} was not trained on phantoms"
    assert params.config.resolution == 64, f"{run} has another resolution"
    labels = np.arange(PER_CLASS * len(real.class_names)) % len(real.class_names)
    images = pixel_range.to_uint8(cxr_gan.sample(params, labels, 0))
    with capsys.disabled():
        found = faults(images, labels)
    assert not found


@pytest.mark.slow
def test_classifier_is_correct_on_val(real, predict_class):
    correct = predict_class(real.val.images) == real.val.labels
    assert correct.mean() >= 0.95


@pytest.mark.slow
def test_real_images_have_no_faults(real, faults):
    found = faults(real.val.images, real.val.labels)
    assert not found


@pytest.mark.slow
def test_repeated_images_are_detected(real, faults):
    labels = np.repeat(np.arange(len(real.class_names)), 64)
    first = [np.flatnonzero(real.val.labels == label)[0] for label in labels]
    found = faults(real.val.images[first], labels)
    for name in real.class_names:
        assert any(f"{name} is too uniform" in fault for fault in found)


@pytest.mark.slow
def test_swapped_classes_are_detected(real, faults):
    found = faults(real.val.images, 1 - real.val.labels)
    assert any("show the requested class" in fault for fault in found)
