import dataclasses

import evaluation_data
import numpy as np
import pytest

from cxr_gan import data
from cxr_gan.evaluation import (
    evaluator,
    image_sets,
    pairwise_metrics,
    results,
)
from cxr_gan.evaluation.image_sets import EvaluationContext, ImageGroup
from cxr_gan.evaluation.metrics import (
    feature_spaces,
    kid,
)
from cxr_gan.evaluation.results import POOLED, Estimate, MetricKey


@pytest.fixture(scope="module")
def faultless():
    return evaluation_data.evaluate(*evaluation_data.new_phantoms())


def make_context(n=60, d=3, shift=0.0, seed=0):
    """Four sets with n images of each of two classes, and features of pure noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * n) % 2
    images = rng.integers(0, 255, (2 * n, 8, 8, 1), np.uint8)
    image_groups = {
        name: ImageGroup(
            images, labels.copy(), np.array([f"{name}/{i}" for i in range(2 * n)])
        )
        for name in ("generated", "A", "B", "val")
    }
    features = {name: rng.standard_normal((2 * n, d)) for name in image_groups}
    features["generated"] += shift
    context = EvaluationContext(image_groups, ("a", "b"), 0, {}, None)
    context._features["noise"] = features
    return context


def test_images_of_the_real_distribution_have_no_fault(faultless):
    assert faultless.faults == []
    assert faultless.verdict == "verdict: no fault found"


@pytest.mark.slow
@pytest.mark.parametrize("fault", evaluation_data.FAULTS)
def test_fault_is_detected(fault):
    spaces = [feature_spaces.open_space("cxr"), feature_spaces.open_space("texture")]
    images, labels = evaluation_data.FAULTS[fault](*evaluation_data.new_phantoms())
    labels, classifier = labels.astype(np.int32), evaluation_data.classifier(900)
    result = evaluation_data.evaluate(
        images, labels, spaces=spaces, classifier=classifier
    )
    assert fault in result.faults
    also_allowed = {"few images repeated": ["less varied than real images"]}
    assert set(result.faults) <= {fault, *also_allowed.get(fault, [])}


def test_every_estimate_has_interval_sample_size_and_seed(faultless):
    for _, estimate, reference in results.with_reference(faultless.estimates):
        for one in (estimate, reference):
            assert one.n >= 10 and one.seed == 0
            assert np.isfinite([one.value, one.low, one.high]).all()
            assert one.low <= one.high


def test_distances_cover_all_pairs_and_classes_and_have_references(faultless):
    sets = {key.sets for key in faultless.estimates if key.metric == "kid"}
    assert sets == {
        *("generated~B", "A~B", "generated~A", "B~A"),
        *("generated~val", "A~val", "B~val"),
    }
    groups = {key.group for key in faultless.estimates if key.metric == "kid"}
    assert groups == {"NORMAL", "PNEUMONIA", POOLED}
    for row in results.to_rows(faultless.estimates):
        if row["metric"] in ("kid", "precision"):
            assert row["n"] == row["reference"]["n"]


def test_small_val_yields_kid_but_no_precision_or_coverage(faultless):
    metrics = {key.metric for key in faultless.estimates if key.sets == "generated~val"}
    assert "kid" in metrics
    assert not metrics & {"fid", "precision", "coverage"}


def test_nearest_pairs_are_sorted_by_distance(faultless):
    assert set(faultless.nearest_pairs) == {"cxr", "pixels"}
    for pairs in faultless.nearest_pairs.values():
        distances = [distance for _, _, distance in pairs]
        assert distances == sorted(distances)
        assert len(pairs) == 16


def test_split_reference_halves_by_patient_and_drops_duplicates(tmp_path):
    dataset = data.load("phantom:60", 64, split_seed=0, cache_dir=tmp_path)
    train, val = dataset.train, dataset.val
    copies = dataclasses.replace(
        train.take(np.arange(len(train)) < 3), ids=("again/1", "again/2", "x")
    )
    dataset = dataclasses.replace(
        dataset, train=train.join(copies), val=val.join(copies)
    )
    real = image_sets.split_reference(dataset)
    assert real.dropped == 6
    assert sorted(real.train.ids) == sorted(train.ids)
    assert real.val.ids == val.ids
    groups = real.image_groups()
    assert len(groups["A"]) + len(groups["B"]) == len(train)
    assert not set(groups["A"].patients) & set(groups["B"].patients)
    np.testing.assert_array_equal(groups["A"].images, real.train.images[real.in_a])
    assert [dataset.train.ids[row] for row in real.rows] == list(real.train.ids)


def test_smaller_selection_is_a_subset_of_a_larger_one():
    group = ImageGroup(
        np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 2, np.arange(40)
    )
    few, more = group.select((0,), 5, seed=3), group.select((0,), 9, seed=3)
    assert set(few) < set(more)
    assert set(group.labels[more]) == {0}
    assert set(group.select((0,), 5, seed=4)) != set(few)
    with pytest.raises(ValueError, match="20 images of label 1, but 21"):
        group.select((1,), 21, seed=0)


def test_pooled_distances_use_equally_many_images_of_each_class():
    context = make_context()
    context.image_groups["generated"].labels[:100] = 0  # 10 of class 1 remain
    estimates = pairwise_metrics.pairwise_distances(context, "noise")
    assert estimates[MetricKey("kid", "noise", "a", "generated~B")].n == 60
    assert estimates[MetricKey("kid", "noise", POOLED, "generated~B")].n == 20
    assert estimates[MetricKey("kid", "noise", POOLED, "A~B")].n == 20
    assert MetricKey("precision", "noise", POOLED, "A~B") not in estimates


def test_distances_are_larger_for_shifted_features_and_fid_needs_enough_images():
    near, far, of_25_features = (
        pairwise_metrics.pairwise_distances(context, "noise")
        for context in (make_context(), make_context(shift=3.0), make_context(d=25))
    )
    for metric, sign in (("fid", 1), ("kid", 1), ("precision", -1), ("coverage", -1)):
        key = MetricKey(metric, "noise", POOLED, "generated~B")
        assert sign * far[key].value > sign * near[key].value
        assert sign * far[key].value > sign * far[key._replace(sets="A~B")].value
        assert (key in of_25_features) == (metric != "fid")


def test_spacing_is_the_ratio_of_nearest_neighbour_distances():
    line = np.arange(6.0)[:, None]
    assert pairwise_metrics.spacing(2 * line, line) == pytest.approx(2)
    assert pairwise_metrics.spacing(np.repeat(line, 2, 0), line) == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize(
    ("metric", "value", "exceeded"),
    [
        ("below_first_percentile", 0.04, False),
        ("below_first_percentile", 0.06, True),
        ("near_copies", 1, True),
        ("exact_copies", 1, True),
    ],
)
def test_copy_limit_is_exceeded_by_share_or_any_copy(metric, value, exceeded):
    key = MetricKey(metric, "cxr", POOLED, "generated~train")
    row = {**key._asdict(), "value": value}
    assert evaluator.exceeds_copy_limit({"metrics": [row]}, 0.05) is exceeded


def test_unusable_images_are_refused():
    real, (images, labels) = evaluation_data.real(), evaluation_data.new_phantoms()
    with pytest.raises(ValueError, match="are bit-identical to images of the data set"):
        evaluation_data.evaluate(real.val.images, real.val.labels)
    with pytest.raises(ValueError, match=r"images are \[32, 32, 1\], real ones \[64"):
        evaluation_data.evaluate(images[:, ::2, ::2], labels)
    with pytest.raises(ValueError, match="generated: 0 images of class 'PNEUMONIA'"):
        evaluation_data.evaluate(images[labels == 0], labels[labels == 0])
    few = (labels == 0) | (np.arange(len(labels)) < 18)
    with pytest.raises(
        ValueError, match="9 images of class 'PNEUMONIA'; give at least"
    ):
        evaluation_data.evaluate(images[few], labels[few])


def test_fewer_than_fifty_images_of_a_class_give_a_warning():
    image_groups = {
        "generated": ImageGroup(
            np.zeros((60, 8, 8, 1)), np.arange(60) % 2, np.arange(60)
        )
    }
    context = dataclasses.replace(make_context(), image_groups=image_groups)
    (note,) = context.check()
    assert note.startswith(
        "generated: only 30 of a, 30 of b; comparisons with this set"
    )
    assert "which need 50 images of a class" in note


@pytest.mark.parametrize(
    ("generated", "val", "words"),
    [
        (1.0, 0.9, "more typical of their class than real images"),
        (0.9, 0.9, ""),
        (1.0, 0.6, "is correct on only 60% of val: labels are not assessed"),
    ],
)
def test_remarks_on_the_label_classifier(generated, val, words):
    key = MetricKey("label_accuracy", "classifier", POOLED, "generated")
    estimates = {
        key._replace(sets=sets): Estimate(x, x - 0.01, x, 9, 0)
        for sets, x in (("generated", generated), ("val", val))
    }
    notes = evaluator.remarks(estimates, 0.5)
    assert (words in notes[0]) if words else not notes


def test_kid_in_classes_is_relative_to_kid_between_real_classes():
    context = make_context()
    b, features = context.image_groups["B"], context._features["noise"]
    features["B"][b.labels == 1] += 2.0
    features["generated"][:] = features["B"] + [0.0, 0.0, 9.0]
    estimates = pairwise_metrics.pairwise_distances(context, "noise")
    key = MetricKey("kid", "noise", POOLED, "generated~B")
    ratio = estimates[key._replace(metric="kid_in_classes")].value
    labels, x = b.labels, features["B"]
    between = kid.mmd2(x[labels == 0], x[labels == 1])
    chance = estimates[key._replace(sets="A~B")]
    unit = max(between, chance.high - chance.low)
    assert ratio == pytest.approx(estimates[key].value / unit)
    assert ratio > 1
