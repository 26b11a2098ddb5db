import dataclasses
import functools

import evaluation_data
import numpy as np
import pytest

from cxr_gan import data
from cxr_gan.data import ImageSet
from cxr_gan.evaluation import (
    evaluator,
    image_sets,
    pairwise_metrics,
    phantom_factors,
    results,
)
from cxr_gan.evaluation.image_sets import EvaluationContext, ImageGroup
from cxr_gan.evaluation.metrics import (
    confidence_intervals,
    feature_spaces,
    kid,
    label_classifier,
)
from cxr_gan.evaluation.metrics.confidence_intervals import joint_intervals
from cxr_gan.evaluation.metrics.feature_spaces import FeatureSpace
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
    space = FeatureSpace("noise", d, lambda images: images)
    classifier = label_classifier.LabelClassifier({"head": {"bias": np.zeros(2)}})
    context = EvaluationContext(
        image_groups, ("a", "b"), 0, {"noise": space}, classifier
    )
    context._features["noise"] = features
    return context


@functools.cache
def noise_distances(d=3, shift=0.0):
    return pairwise_metrics.pairwise_distances(make_context(d=d, shift=shift), "noise")


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
    for row in faultless.rows():
        if row["metric"] in ("kid", "precision"):
            assert row["n"] == row["reference"]["n"]


def test_small_val_yields_kid_but_no_precision_or_coverage(faultless):
    metrics = {key.metric for key in faultless.estimates if key.sets == "generated~val"}
    assert "kid" in metrics
    assert not metrics & {"fid", "precision", "coverage"}


def test_factors_of_phantoms_are_compared(faultless):
    factors = [row for row in faultless.rows() if row["metric"] == "factor_distance"]
    assert {row["space"] for row in factors} == set(phantom_factors.FACTORS)
    assert all(0 <= row["value"] < 0.4 for row in factors)


def test_nearest_pairs_are_sorted_by_distance(faultless):
    assert set(faultless.nearest_pairs) == {"cxr", "pixels"}
    for pairs in faultless.nearest_pairs.values():
        assert (np.diff(pairs.distance) >= 0).all()
        assert len(pairs.generated) == len(pairs.train) == 16


def test_split_reference_halves_by_patient_and_drops_duplicates(tmp_path):
    dataset = data.load("phantom:60", 64, split_seed=0, cache_dir=tmp_path)
    train, val = dataset.train, dataset.val
    copies = ImageSet(train.images[:3], train.labels[:3], ("again/1", "again/2", "x"))
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


def test_fid_is_computed_with_enough_images_for_the_dimension():
    key = MetricKey("fid", "noise", POOLED, "generated~B")
    assert key in noise_distances()
    assert key not in noise_distances(d=25)


def test_distances_are_larger_for_shifted_features():
    near, far = noise_distances(), noise_distances(shift=3.0)
    for metric, sign in (("fid", 1), ("kid", 1), ("precision", -1), ("coverage", -1)):
        key = MetricKey(metric, "noise", POOLED, "generated~B")
        assert sign * far[key].value > sign * near[key].value
        assert sign * far[key].value > sign * far[key._replace(sets="A~B")].value


def test_spacing_is_the_ratio_of_nearest_neighbour_distances():
    line = np.arange(6.0)[:, None]
    assert pairwise_metrics.spacing(2 * line, line) == pytest.approx(2)
    assert pairwise_metrics.spacing(np.repeat(line, 2, 0), line) == pytest.approx(
        0, abs=1e-6
    )


def test_joint_intervals_equal_separate_intervals():
    x, groups = np.random.default_rng(0).normal(size=30), np.arange(30)

    def interval(statistic):
        return confidence_intervals.bootstrap(statistic, groups, draws=50, seed=1)

    joint = joint_intervals(lambda i: (x[i].mean(), x[i].max()), 30, interval)
    assert joint[0] == (x.mean(), *interval(lambda i: x[i].mean()))
    assert joint[1] == (x.max(), *interval(lambda i: x[i].max()))


def copy_estimates(below, near, exact):
    counts = {
        "below_first_percentile": below,
        "near_copies": near,
        "exact_copies": exact,
    }
    return {
        MetricKey(metric, "cxr", POOLED, "generated~train"): Estimate(x, x, x, 100, 0)
        for metric, x in counts.items()
    }


@pytest.mark.parametrize(
    ("values", "exceeded"),
    [((0.04, 0, 0), False), ((0.06, 0, 0), True), ((0, 1, 0), True), ((0, 0, 1), True)],
)
def test_copy_limit_is_exceeded_by_share_or_any_near_or_exact_copy(values, exceeded):
    assert evaluator.exceeds_copy_limit(copy_estimates(*values), 0.05) is exceeded


def test_images_of_the_data_set_are_refused():
    real = evaluation_data.real()
    with pytest.raises(ValueError, match="are bit-identical to images of the data set"):
        evaluation_data.evaluate(real.val.images, real.val.labels)


def test_fewer_than_ten_images_of_a_class_are_refused():
    images, labels = evaluation_data.new_phantoms()
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


def test_images_of_another_size_are_refused():
    images, labels = evaluation_data.new_phantoms()
    with pytest.raises(ValueError, match=r"images are \[32, 32, 1\], real ones \[64"):
        evaluation_data.evaluate(images[:, ::2, ::2], labels)


def label_accuracy(generated, val):
    return {
        MetricKey("label_accuracy", "classifier", POOLED, name): Estimate(
            x, x - 0.01, x, 9, 0
        )
        for name, x in (("generated", generated), ("val", val))
    }


def test_label_accuracy_above_that_of_val_gives_a_note():
    notes = evaluator.remarks(label_accuracy(1.0, 0.9), 0.5)
    assert "more typical of their class than real images" in notes[0]
    assert evaluator.remarks(label_accuracy(0.9, 0.9), 0.5) == []


def test_unreliable_classifier_gives_a_note():
    notes = evaluator.remarks(label_accuracy(1.0, 0.6), 0.5)
    assert notes == [
        "the label classifier is correct on only 60% of val: labels are not assessed"
    ]


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
