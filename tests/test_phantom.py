"""The phantom is one patient per (seed, index), tells its label by the lungs alone, and
keeps to published anatomy."""

import collections
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr_gan.data import phantom


@pytest.fixture(scope="module")
def phantoms():
    return [phantom.render(0, index, 64) for index in range(1200)]


@pytest.fixture(scope="module")
def images(phantoms):
    return np.stack([p.image[..., 0] for p in phantoms]).astype(np.float64)


@pytest.fixture(scope="module")
def labels(phantoms):
    return np.array([p.label for p in phantoms])


def auc(labels, scores):
    """Whichever way round the score points."""
    area = roc_auc_score(labels, scores)
    return max(area, 1.0 - area)


def ill(phantoms):
    return [p for p in phantoms if p.label == 1]


def width(mask):
    columns = np.flatnonzero(mask.any(axis=0))
    return columns[-1] - columns[0] + 1


def test_the_same_call_twice_draws_the_same_and_another_index_or_seed_does_not():
    first, again = phantom.render(3, 5, 32), phantom.render(3, 5, 32)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.opacity, again.opacity)
    assert np.any(first.image != phantom.render(3, 7, 32).image)
    assert np.any(first.image != phantom.render(4, 5, 32).image)


def test_shapes_and_types_are_those_of_the_contract():
    drawn = phantom.render(0, 1, 32)
    assert drawn.image.shape == (32, 32, 1) and drawn.image.dtype == np.uint8
    assert drawn.lungs.shape == (32, 32) and drawn.lungs.dtype == bool
    assert drawn.heart.shape == (32, 32) and drawn.heart.dtype == bool
    assert drawn.opacity.shape == (32, 32) and drawn.opacity.dtype == np.float32
    assert drawn.opacity.min() >= 0.0 and drawn.opacity.max() <= 1.0


def test_many_are_drawn_as_one_by_one_in_any_order():
    images, labels = phantom.render_many(0, [9, 2, 4], 32)
    assert images.shape == (3, 32, 32, 1) and labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [1, 0, 0])
    for image, index in zip(images, [9, 2, 4], strict=True):
        np.testing.assert_array_equal(image, phantom.render(0, index, 32).image)


@pytest.mark.parametrize("index", [0, 1, 2, 3, 5, 7])
def test_an_index_is_the_same_patient_at_every_resolution(index):
    small, large = phantom.render(0, index, 64), phantom.render(0, index, 128)
    assert small.factors.patient.thickness == large.factors.patient.thickness
    assert small.side == large.side

    def half(x):
        return x.reshape(64, 2, 64, 2).mean(axis=(1, 3))

    shrunk = half(large.image[..., 0].astype(np.float64))
    assert np.corrcoef(shrunk.ravel(), small.image.ravel())[0, 1] > 0.98
    assert np.mean((half(large.lungs) > 0.5) != small.lungs) < 0.02
    np.testing.assert_allclose(
        half(large.opacity).mean(), small.opacity.mean(), atol=0.01
    )


def test_labels_alternate_and_only_the_ill_have_opacity(phantoms):
    assert [p.label for p in phantoms[:6]] == [0, 1, 0, 1, 0, 1]
    for p in phantoms:
        assert (p.opacity.sum() > 0) == (p.label == 1)
        assert (p.side == "none") == (p.label == 0)


def test_opacity_lies_in_the_lungs_and_on_the_side_it_names(phantoms):
    for p in ill(phantoms):
        assert not np.any(p.opacity[~p.lungs])
        assert p.opacity.sum() > 0.04 * p.lungs.sum()
        # A little beyond the middle is allowed: the patient may be turned and shifted.
        patients_right, patients_left = p.opacity[:, :26].sum(), p.opacity[:, 38:].sum()
        assert (patients_left > 0) == (p.side in ("left", "both"))
        assert (patients_right > 0) == (p.side in ("right", "both"))


def test_opacity_is_as_often_on_the_left_as_on_the_right(phantoms):
    sides = collections.Counter(p.side for p in ill(phantoms))
    one_sided = sides["left"] + sides["right"]
    # Three standard deviations of a fair coin.
    assert abs(sides["left"] - sides["right"]) < 3.0 * np.sqrt(one_sided)
    kinds = collections.Counter(p.factors.disease.kind for p in ill(phantoms))
    assert min(kinds["lobar"], kinds["interstitial"]) > 0.4 * len(ill(phantoms))


def test_opacity_brightens_the_lung_it_lies_in(phantoms):
    for p in ill(phantoms)[:100]:
        dense, clear = p.opacity > 0.5, p.lungs & (p.opacity < 0.05)
        if dense.sum() > 30 and clear.sum() > 30:
            assert p.image[dense].mean() > p.image[clear].mean() + 10


def test_mean_and_spread_do_not_tell_the_label(images, labels):
    assert auc(labels, images.mean(axis=(1, 2))) < 0.6
    assert auc(labels, images.std(axis=(1, 2))) < 0.6


@pytest.mark.parametrize("strength", [1e-4, 1e-2])
def test_the_outer_four_pixels_do_not_tell_the_label(images, labels, strength):
    outer = np.ones((64, 64), bool)
    outer[4:-4, 4:-4] = False
    frame, half = images[:, outer], len(images) // 2
    reader = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, max_iter=200)
    )
    reader.fit(frame[:half], labels[:half])
    assert auc(labels[half:], reader.decision_function(frame[half:])) < 0.6
    assert auc(labels, frame.mean(axis=1)) < 0.6
    assert auc(labels, frame.std(axis=1)) < 0.6


def test_the_frame_holds_no_lung(phantoms):
    for p in phantoms:
        assert p.lungs[4:-4, 4:-4].sum() == p.lungs.sum()


def test_cardiothoracic_ratio_stays_in_the_published_range():
    """Measured as on film, on the masks. See anatomy.Patient for the source."""
    ratios = []
    for index in range(60):
        p = phantom.render(1, index, 128)
        ratios.append(width(p.heart) / width(p.lungs))
        assert abs(ratios[-1] - p.factors.patient.cardiothoracic_ratio) < 0.04
    assert min(ratios) >= 0.42 and max(ratios) <= 0.55
    assert abs(np.mean(ratios) - 0.493) < 0.02


def test_lung_area_stays_in_range_and_the_right_lung_is_the_larger(phantoms):
    """About 55 % of the lung area is the right lung's: see anatomy.Chest."""
    area = [p.lungs.mean() for p in phantoms]
    assert min(area) >= 0.13 and max(area) <= 0.28
    shares = []
    for p in phantoms:
        columns = np.flatnonzero(p.lungs.any(axis=0))
        middle = (columns[0] + columns[-1] + 1) // 2
        shares.append(p.lungs[:, :middle].sum() / p.lungs.sum())
    assert abs(np.mean(shares) - 0.55) < 0.03
    assert min(shares) >= 0.45 and max(shares) <= 0.68


def test_lungs_are_dark_and_the_middle_of_the_chest_is_bright(phantoms):
    for p in phantoms[:200:2]:
        assert p.image[p.lungs].mean() + 15 < p.image[p.heart].mean()


def test_phantoms_differ_from_each_other(images):
    apart = np.abs(images[:-2:2] - images[2::2]).mean(axis=(1, 2))
    assert apart.min() > 4.0


def test_fifty_images_take_a_moment():
    start = time.perf_counter()
    phantom.render_many(0, range(50), 64)
    assert time.perf_counter() - start < 5.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((-1, 0, 64), "seed=-1"), ((0, -2, 64), "index=-2"), ((0, 0, 8), "resolution=8")],
)
def test_impossible_requests_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        phantom.render(*arguments)


def test_importing_the_renderer_brings_in_no_tensorflow():
    code = (
        "import sys, cxr_gan.data.phantom as p; assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tensorflow_datasets_loads_what_the_renderer_draws(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    from cxr_gan.data.cxr_phantom import cxr_phantom_dataset_builder as builder

    config = builder.PhantomConfig(name="few", size=6, resolution=32)
    loaded = tfds.load(
        "cxr_phantom",
        split="train",
        data_dir=str(tmp_path),
        builder_kwargs={"config": config},
    )
    examples = list(tfds.as_numpy(loaded))
    assert sorted(int(e["index"]) for e in examples) == list(range(6))
    for example in examples:
        drawn = phantom.render(0, int(example["index"]), 32)
        np.testing.assert_array_equal(example["image"], drawn.image)
        np.testing.assert_array_equal(example["opacity"], drawn.opacity)
        np.testing.assert_array_equal(example["lungs"][..., 0] > 0, drawn.lungs)
        assert example["label"] == drawn.label
        assert phantom.SIDES[example["side"]] == drawn.side
