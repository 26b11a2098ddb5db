"""The phantom is one patient per (seed, index), shows its label only in the lungs, and
agrees with published anatomy."""

import collections

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr_gan.data.phantom import renderer


@pytest.fixture(scope="module")
def phantoms():
    return [renderer.render(0, index, 64) for index in range(1200)]


@pytest.fixture(scope="module")
def images(phantoms):
    return np.stack([p.image[..., 0] for p in phantoms]).astype(np.float64)


@pytest.fixture(scope="module")
def labels(phantoms):
    return np.array([p.label for p in phantoms])


def auc(labels, scores):
    """AUC of the scores or of their negation, whichever is larger."""
    area = roc_auc_score(labels, scores)
    return max(area, 1.0 - area)


def with_pneumonia(phantoms):
    return [p for p in phantoms if p.label == 1]


def width(mask):
    """Width of the mask's bounding box, px."""
    columns = np.flatnonzero(mask.any(axis=0))
    return columns[-1] - columns[0] + 1


def test_render_is_deterministic_and_depends_on_index_and_seed():
    first, second = renderer.render(3, 5, 32), renderer.render(3, 5, 32)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.opacity, second.opacity)
    assert (first.image.shape, first.image.dtype) == ((32, 32, 1), np.uint8)
    assert (first.opacity.shape, first.opacity.dtype) == ((32, 32), np.float32)
    assert first.opacity.min() >= 0.0 and first.opacity.max() <= 1.0
    for mask in (first.lungs, first.heart):
        assert (mask.shape, mask.dtype) == ((32, 32), bool)
    assert np.any(first.image != renderer.render(3, 7, 32).image)
    assert np.any(first.image != renderer.render(4, 5, 32).image)


def test_render_many_equals_render_in_any_order():
    images, labels = renderer.render_many(0, iter([9, 2, 4]), 32)
    assert images.shape == (3, 32, 32, 1) and labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [1, 0, 0])
    for image, index in zip(images, [9, 2, 4], strict=True):
        np.testing.assert_array_equal(image, renderer.render(0, index, 32).image)


@pytest.mark.parametrize("index", [0, 1, 2, 3, 5, 7])
def test_index_is_the_same_patient_at_every_resolution(index):
    small, large = renderer.render(0, index, 64), renderer.render(0, index, 128)
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


def test_labels_alternate_and_only_pneumonia_has_opacity(phantoms):
    assert [p.label for p in phantoms[:6]] == [0, 1, 0, 1, 0, 1]
    for p in phantoms:
        assert (p.opacity.sum() > 0) == (p.label == 1)
        assert (p.side == "none") == (p.label == 0)


def test_opacity_lies_in_the_lungs_on_the_stated_side(phantoms):
    for p in with_pneumonia(phantoms):
        assert not np.any(p.opacity[~p.lungs])
        assert p.opacity.sum() > 0.04 * p.lungs.sum()
        # The middle 12 columns are not tested: patients may be rotated and shifted.
        patients_right, patients_left = p.opacity[:, :26].sum(), p.opacity[:, 38:].sum()
        assert (patients_left > 0) == (p.side in ("left", "both"))
        assert (patients_right > 0) == (p.side in ("right", "both"))


def test_opacity_is_equally_often_on_the_left_and_on_the_right(phantoms):
    sides = collections.Counter(p.side for p in with_pneumonia(phantoms))
    one_sided = sides["left"] + sides["right"]
    # Three standard deviations of a fair coin toss.
    assert abs(sides["left"] - sides["right"]) < 3.0 * np.sqrt(one_sided)
    kinds = collections.Counter(
        p.factors.disease.kind for p in with_pneumonia(phantoms)
    )
    assert min(kinds["lobar"], kinds["interstitial"]) > 0.4 * len(
        with_pneumonia(phantoms)
    )


def test_opacity_brightens_the_lung(phantoms):
    for p in with_pneumonia(phantoms)[:100]:
        dense, clear = p.opacity > 0.5, p.lungs & (p.opacity < 0.05)
        if dense.sum() > 30 and clear.sum() > 30:
            assert p.image[dense].mean() > p.image[clear].mean() + 10


def test_mean_and_standard_deviation_do_not_predict_the_label(images, labels):
    assert auc(labels, images.mean(axis=(1, 2))) < 0.6
    assert auc(labels, images.std(axis=(1, 2))) < 0.6


def test_border_of_four_pixels_does_not_predict_the_label(images, labels):
    in_border = np.ones((64, 64), bool)
    in_border[4:-4, 4:-4] = False
    border, half = images[:, in_border], len(images) // 2
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=1e-4, max_iter=200)
    )
    classifier.fit(border[:half], labels[:half])
    assert auc(labels[half:], classifier.decision_function(border[half:])) < 0.6
    assert auc(labels, border.mean(axis=1)) < 0.6
    assert auc(labels, border.std(axis=1)) < 0.6


def test_border_contains_no_lung_and_lungs_are_darker_than_the_heart(phantoms):
    for p in phantoms:
        assert p.lungs[4:-4, 4:-4].sum() == p.lungs.sum()
        if p.label == 0:
            assert p.image[p.lungs].mean() + 15 < p.image[p.heart].mean()


def test_cardiothoracic_ratio_is_in_the_published_range():
    """Measured on the masks, as on a radiograph. Source: see anatomy.Patient."""
    ratios = []
    for index in range(60):
        p = renderer.render(1, index, 128)
        ratios.append(width(p.heart) / width(p.lungs))
        assert abs(ratios[-1] - p.factors.patient.cardiothoracic_ratio) < 0.04
    assert min(ratios) >= 0.42 and max(ratios) <= 0.55
    assert abs(np.mean(ratios) - 0.493) < 0.02


def test_lung_area_is_in_range_and_the_right_lung_is_larger(phantoms):
    """The right lung has about 55 % of the lung area. Source: see anatomy.Chest."""
    area = [p.lungs.mean() for p in phantoms]
    assert min(area) >= 0.13 and max(area) <= 0.28
    shares = []
    for p in phantoms:
        columns = np.flatnonzero(p.lungs.any(axis=0))
        middle = (columns[0] + columns[-1] + 1) // 2
        shares.append(p.lungs[:, :middle].sum() / p.lungs.sum())
    assert abs(np.mean(shares) - 0.55) < 0.03
    assert min(shares) >= 0.45 and max(shares) <= 0.68


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1, 0, 64), "seed=-1"), ((0, -2, 64), "index=-2"), ((0, 0, 8), "resolution=8")],
)
def test_invalid_arguments_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        renderer.render(*arguments)


def test_tensorflow_datasets_yields_the_rendered_phantoms(tmp_path):
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
        phantom = renderer.render(0, int(example["index"]), 32)
        np.testing.assert_array_equal(example["image"], phantom.image)
        np.testing.assert_array_equal(example["opacity"], phantom.opacity)
        np.testing.assert_array_equal(example["lungs"][..., 0] > 0, phantom.lungs)
        assert example["label"] == phantom.label
        assert renderer.SIDES[example["side"]] == phantom.side
