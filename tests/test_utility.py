import collections
import itertools
import json

import evaluation_data
import numpy as np
import pytest
import test_html_report
import test_label_classifier
from sklearn import metrics

from cxr_gan.data import Dataset, ImageSet, pipeline
from cxr_gan.data.dataset import identity
from cxr_gan.evaluation import results, utility
from cxr_gan.evaluation.image_sets import ImageGroup
from cxr_gan.evaluation.inputs import EvaluationInput, training_set
from cxr_gan.evaluation.report import render, summary
from cxr_gan.evaluation.utility import auroc, training_sets

NAMES = ("NORMAL", "<b>PNEUMONIA")
ONCE = np.ones((1, 4))


def discs(n, seed, num_classes=2):
    """Images of 32 px with easily learned classes; their frames show no class."""
    return test_label_classifier.make_images(n, seed, num_classes, 32)


def run_utility(generated, train, views=(training_sets.WHOLE,), few=(), **overrides):
    arguments = {"draw": None, "seed": 0, "seeds": 2, "steps": 10, **overrides}
    val = arguments.pop("val", None) or ImageGroup.from_generated(*discs(80, 9))
    with pytest.MonkeyPatch.context() as patch:
        shown = {view: training_sets.VIEWS[view] for view in views}
        patch.setattr(utility, "VIEWS", shown)
        patch.setattr(utility, "FEW", few)
        return utility.utility(generated, train, val, NAMES, **arguments)


# AUROC and intervals


def test_auroc_is_the_share_of_ordered_pairs_with_ties_as_half():
    scores, positive = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]) > 0
    assert auroc.auroc(scores, positive, ONCE) == 0.75  # 3 of the 4 pairs
    assert auroc.auroc(-scores, positive, ONCE) == 0.25
    assert auroc.auroc(np.zeros(4), positive, ONCE) == 0.5


def test_weighted_auroc_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, 99).astype(float)
    positive = rng.random(99) < 0.3
    weights = rng.integers(0, 4, (5, 99)).astype(float)
    expected = [
        metrics.roc_auc_score(positive, scores, sample_weight=row) for row in weights
    ]
    np.testing.assert_allclose(auroc.auroc(scores, positive, weights), expected)


def test_auroc_of_one_class_or_non_finite_scores_is_refused():
    scores = np.arange(4.0)
    with pytest.raises(ValueError, match="no positive or no negative image"):
        auroc.auroc(scores, np.ones(4, bool), ONCE)
    with pytest.raises(ValueError, match="not finite"):
        auroc.auroc(scores + np.nan, np.arange(4) > 1, ONCE)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_mean_auroc_averages_classes_and_seeds(num_classes):
    rng = np.random.default_rng(1)
    labels = np.arange(60, dtype=np.int32) % num_classes
    probabilities = rng.dirichlet(np.ones(num_classes), (2, 60))
    weights = auroc.draw_bootstrap(labels, np.arange(60), 2, 0)
    log_odds = np.log(probabilities / (1 - probabilities))
    values = auroc.mean_auroc(log_odds, labels, weights)
    expected = [
        metrics.roc_auc_score(
            labels, p[:, 1] if num_classes == 2 else p, multi_class="ovr"
        )
        for p in probabilities
    ]
    assert values[0] == pytest.approx(np.mean(expected))
    assert len(values) == 1 + auroc.DRAWS


def test_bootstrap_draws_patients_within_each_class():
    labels = np.repeat([0, 1], [6, 4])
    patients = np.array([0, 0, 0, 1, 2, 3, 3, 3, 4, 5])
    weights = auroc.draw_bootstrap(labels, patients, 5, 0)
    assert (weights.images[0] == 1).all()
    assert (weights.seeds[0] == 0.2).all()
    np.testing.assert_allclose(weights.seeds.sum(1), 1)
    drawn = weights.images[1:]
    assert (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 0] == drawn[:, 2]).all()
    # Patient 3 has images of both classes and is drawn separately in each.
    assert (drawn[:, [0, 3, 4, 5]].sum(1) == 4).all()
    assert (drawn[:, [6, 8, 9]].sum(1) == 3).all()


def test_bootstrap_of_seeds_has_the_variance_of_the_mean():
    values = np.array([0.90, 0.91, 0.95, 0.89, 0.93])
    labels = np.repeat([0, 1], 4)
    weights = auroc.draw_bootstrap(labels, np.arange(8), 5, 0)
    deviation = (weights.seeds[1:] @ values).std()
    assert deviation == pytest.approx(values.std(ddof=1) / 5**0.5, rel=0.06)


def test_too_few_seeds_or_patients_are_refused():
    with pytest.raises(ValueError, match="1 seeds; at least 2"):
        auroc.draw_bootstrap(np.array([0, 0, 1, 1]), np.arange(4), 1, 0)
    with pytest.raises(ValueError, match="1 patient of class 1"):
        auroc.draw_bootstrap(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]), 2, 0)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((-0.01, 0.03), "no difference detected (smallest detectable: 0.028 AUROC)"),
        ((0.01, 0.05), "better than plain by 0.02 AUROC (smallest detectable: 0.028)"),
        ((-0.05, -0.01), "worse than plain by 0.02 AUROC (smallest detectable: 0.028)"),
    ],
)
def test_difference_is_described_with_direction_and_detectable_difference(
    interval, words
):
    value = 0.02 if interval[1] > 0 else -0.02
    difference = auroc.AurocEstimate(value, *interval, 0.01)
    assert auroc.describe(difference, "plain") == words


# Training sets


def test_frame_and_centre_views_blacken_the_rest():
    images = np.full((1, 64, 64, 1), 9, np.uint8)
    frame, centre = (
        training_sets.frame(images)[0, ..., 0],
        training_sets.centre(images)[0, ..., 0],
    )
    assert not frame[4:-4, 4:-4].any()
    assert frame.sum() == 9 * (64**2 - 56**2)
    assert (centre[8:-8, 8:-8] == 9).all()
    assert centre.sum() == 9 * 48**2
    assert (images == 9).all()


def test_augmentation_is_small_and_does_not_mirror():
    images = np.full((40, 64, 64, 1), 50, np.uint8)
    images[:, 28:36, 12:20] = 200
    augmented = training_sets.augment(images, 0)
    np.testing.assert_array_equal(augmented, training_sets.augment(images, 0))
    assert augmented.dtype == np.uint8
    assert len({image.tobytes() for image in augmented}) == 40
    assert (np.argwhere(augmented[..., 0] > 150)[:, 2] < 32).all()
    assert (augmented[:, :, 40:] < 60).all()  # border pixels are repeated


def few(normal=5, pneumonia=20):
    images, _ = discs(normal + pneumonia, 3)
    return ImageGroup.from_generated(
        images, np.repeat(np.int32([0, 1]), [normal, pneumonia])
    )


def test_variants_fill_every_class_to_the_size_of_the_largest():
    calls = []

    def draw(labels, seed):
        calls.append((labels.tolist(), seed))
        return np.full((len(labels), 32, 32, 1), 7, np.uint8)

    variants = training_sets.few_image_variants(few(), draw)
    sets = {name: variant(4) for name, variant in variants.items()}
    counts = {name: (*np.bincount(one.labels),) for name, one in sets.items()}
    assert counts == {
        **dict.fromkeys(("plain", "class weights"), (5, 20)),
        **dict.fromkeys(("moved copies", "plain copies", "generated"), (20, 20)),
    }
    assert sets["class weights"].class_weights.tolist() == [2.5, 0.625]
    assert calls == [([0] * 15, 4)]
    copies = sets["plain copies"]
    in_class = copies.images[copies.labels == 0]
    multiplicity = collections.Counter(image.tobytes() for image in in_class)
    assert set(multiplicity.values()) == {4}  # of each of the five images
    for name, training in sets.items():
        np.testing.assert_array_equal(training.images[:25], few().images, name)


def test_pretraining_variants_have_the_same_real_images():
    generated = ImageGroup.from_generated(*discs(40, 5))
    variants = training_sets.pretraining_variants(generated, few(10, 20), 6)
    real, after = (variants[name](3) for name in ("real", "generated, then real"))
    assert np.bincount(real.labels).tolist() == [6, 6]
    np.testing.assert_array_equal(real.images, after.images)
    assert real.first is None
    np.testing.assert_array_equal(after.first.images, generated.images)
    assert not np.array_equal(variants["real"](4).images, real.images)


def training_set_of(dataset, trained_on, samples_per_class=(0,)):
    """The images that a model was trained on, by its metadata."""
    none = np.zeros(0)
    source = EvaluationInput(none, none, dataset, 0, {}, trained_on, samples_per_class)
    return training_set(source)


@pytest.fixture(scope="module")
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 1), np.uint8)
    labels = np.repeat(np.int32([0, 1]), 12)
    all_images = ImageSet(images, labels, tuple(f"{i}.png" for i in range(24)))
    in_train = np.arange(24) % 4 < 3
    parts = all_images.take(in_train), all_images.take(~in_train)
    return Dataset(*parts, NAMES, identity(*parts, NAMES))


def test_training_set_is_exactly_the_images_used_in_training(dataset):
    train = training_set_of(dataset, dataset.identity, (4, 0))
    batches = pipeline.batches(
        dataset.train, num_classes=2, batch_size=4, samples_per_class=(4, 0), seed=3
    )
    used = {x.tobytes() for b in itertools.islice(batches, 20) for x in b["image"]}
    assert {image.tobytes() for image in train.images} == used
    assert np.bincount(train.labels).tolist() == [4, 9]
    for trained_on in (None, dataset.identity):
        assert len(training_set_of(dataset, trained_on)) == len(dataset.train)


def test_model_trained_on_more_images_than_there_are_is_refused(dataset):
    with pytest.raises(ValueError, match="which has 9 images"):
        training_set_of(dataset, dataset.identity, (99, 0))


# The whole utility test


@pytest.fixture(scope="module")
def swapped():
    """Images with swapped classes in place of real ones, in two views."""
    images, labels = discs(60, 2)
    generated = ImageGroup.from_generated(images, 1 - labels)
    train = ImageGroup.from_generated(*discs(60, 1))
    return run_utility(generated, train, views=("whole image", "frame only"))


def test_images_of_the_wrong_class_are_much_worse_than_real_ones(swapped):
    report = json.loads(json.dumps(swapped[1], allow_nan=False))
    assert "2 seeds, 10 steps" in report["method"]
    whole, frame = report["comparisons"]
    real, generated = whole["variants"]
    assert (real["variant"], generated["variant"]) == (whole["baseline"], "generated")
    assert real["counts"] == generated["counts"] == {"NORMAL": 30, "<b>PNEUMONIA": 30}
    assert real["auroc"]["value"] > 0.95
    assert "difference" not in real
    assert generated["difference"]["high"] < -0.5
    assert generated["words"].startswith("worse than real by")
    expected = auroc.detectable_difference(generated["difference"]["error"])
    assert generated["detectable"] == pytest.approx(expected, rel=1e-4)
    assert frame["view"] == "frame only"  # which does not show the class
    assert abs(frame["variants"][0]["auroc"]["value"] - 0.5) < 0.25


def test_estimates_have_the_real_images_as_reference(swapped):
    estimates, report = swapped
    rows = results.to_rows(estimates)
    assert [(row["metric"], row["space"]) for row in rows] == [
        ("auroc", "whole image"),
        ("auroc", "frame only"),
    ]
    real, generated = report["comparisons"][0]["variants"]
    assert rows[0]["value"] == generated["auroc"]["value"]
    assert rows[0]["reference"]["value"] == real["auroc"]["value"]
    assert rows[0]["reference"]["sets"] == "trained on real"
    assert rows[0]["n"] == 80


def test_page_and_summary_show_every_variant_and_escape_names(swapped):
    report = {**test_html_report.report(), "utility": swapped[1]}
    html = render(report, {})
    page = test_html_report.Outline(html)
    assert page.open == []
    assert "<b>PNEUMONIA" not in html
    assert "In place of real images, frame only" in page.texts
    assert "30 NORMAL, 30 <b>PNEUMONIA" in page.texts
    printed = summary(report)
    for variant in report["utility"]["comparisons"][0]["variants"]:
        assert variant["words"] in page.texts
        assert variant["words"] in printed


def test_generated_images_come_first_in_half_of_the_steps(monkeypatch):
    calls = []

    def fit(images, labels, num_classes, seed, *, steps, start, **_):
        calls.append((len(images), steps, start))
        return len(calls)

    def predict(classifier, images):
        return np.random.default_rng(classifier).dirichlet((1, 1), len(images))

    monkeypatch.setattr(utility.label_classifier, "fit", fit)
    monkeypatch.setattr(utility.label_classifier, "predict", predict)
    train, generated = (ImageGroup.from_generated(*discs(n, n)) for n in (60, 200))
    few = 2, 500  # more than there are
    estimates, report = run_utility(generated, train, few=few, steps=12)
    alone, first, then = (4, 12, None), (200, 6, None), (4, 6)
    assert calls == [
        *[(60, 12, None)] * 4,  # real and generated images in place of each other
        *(alone, alone, first, (*then, 7), first, (*then, 9)),
    ]
    (_, after) = report["comparisons"]
    assert (after["question"], after["view"]) == (
        "before few real images",
        "2 of each class",
    )
    real, pretrained = after["variants"]
    assert pretrained["variant"] == "generated, then real"
    assert real["counts"] == pretrained["counts"] == dict.fromkeys(NAMES, 2)
    (row,) = [r for r in results.to_rows(estimates) if r["metric"] == "auroc_after"]
    assert row["value"] == pretrained["auroc"]["value"]
    assert row["reference"]["value"] == real["auroc"]["value"]
    assert row["space"] == "2 of each class"


def test_copies_of_the_real_images_make_no_difference_reproducibly():
    train = ImageGroup.from_generated(*discs(40, 1))
    result, repeated = (run_utility(train, train, steps=4) for _ in range(2))
    assert result == repeated
    generated = result[1]["comparisons"][0]["variants"][1]
    assert set(generated["difference"].values()) == {0}
    assert generated["words"] == (
        "no difference detected (smallest detectable: 0 AUROC)"
    )


def test_variants_for_few_images_are_compared_with_the_best_without_generator():
    images, labels = discs(60, 1)

    def draw(labels, seed):
        return discs(200, 50 + seed)[0][: 2 * len(labels) : 2]  # all of class 0

    rows = [*np.flatnonzero(labels == 0)[:6], *np.flatnonzero(labels == 1)]
    train = ImageGroup.from_generated(images[rows], labels[rows])
    estimates, report = run_utility(train, train, draw=draw, steps=2)
    added = report["comparisons"][1]
    by_name = {one["variant"]: one for one in added["variants"]}
    assert list(by_name) == [
        *("plain", "class weights", "moved copies", "plain copies", "generated")
    ]
    assert [name for name, one in by_name.items() if "difference" not in one] == [
        added["baseline"]
    ]
    generated = by_name.pop("generated")
    best = max(one["auroc"]["value"] for one in by_name.values())
    assert by_name[added["baseline"]]["auroc"]["value"] == best
    difference = generated["auroc"]["value"] - best
    assert generated["difference"]["value"] == pytest.approx(difference, abs=1e-5)
    rows = results.to_rows(estimates)
    (row,) = [row for row in rows if row["metric"] == "auroc_few"]
    assert row["reference"]["value"] == best


@pytest.mark.slow
def test_new_phantoms_are_as_useful_as_real_ones():
    real = evaluation_data.real()
    _, report = run_utility(
        ImageGroup.from_generated(*evaluation_data.new_phantoms(160)),
        ImageGroup.from_image_set(real.train),
        views=("whole image", "frame only"),
        val=ImageGroup.from_image_set(real.val),
        seeds=3,
        steps=200,
    )
    whole, frame = (one["variants"] for one in report["comparisons"])
    assert whole[1]["words"].startswith("no difference detected")
    assert min(one["auroc"]["value"] for one in whole) > 0.75
    assert max(abs(one["auroc"]["value"] - 0.5) for one in frame) < 0.25
