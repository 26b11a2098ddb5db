import dataclasses

import made
import numpy as np
import pytest

from cxr_gan import data, evaluation
from cxr_gan.data import ImageSet
from cxr_gan.evaluation import comparisons, figures, truth
from cxr_gan.evaluation.draws import together
from cxr_gan.evaluation.figures import POOLED, Figure, Key
from cxr_gan.evaluation.sides import Evidence, Side
from cxr_gan.metrics import features, fidelity, intervals, kid
from cxr_gan.metrics.features import FeatureSpace


@pytest.fixture(scope="module")
def clean():
    return made.evaluate(*made.fresh())


def evidence(n=60, d=3, shift=0.0, seed=0):
    """Four sets of n images of each of two classes, and features that are noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * n) % 2
    images = rng.integers(0, 255, (2 * n, 8, 8, 1), np.uint8)
    sides = {
        name: Side(
            images, labels.copy(), np.array([f"{name}/{i}" for i in range(2 * n)])
        )
        for name in ("generated", "A", "B", "val")
    }
    known = {name: rng.standard_normal((2 * n, d)) for name in sides}
    known["generated"] += shift
    space = FeatureSpace("noise", d, lambda images: images)
    judge = fidelity.Judge({"head": {"bias": np.zeros(2)}})
    found = Evidence(sides, ("a", "b"), 0, {"noise": space}, judge)
    found._known["noise"] = known
    return found


def test_images_as_good_as_real_ones_have_no_fault(clean):
    assert clean.faults == []
    assert clean.verdict == "verdict: no fault found"


@pytest.mark.slow
@pytest.mark.parametrize("words", made.FAULTS)
def test_a_fault_is_named(words):
    spaces = [features.space("cxr"), features.space("texture")]
    images, labels = made.FAULTS[words](*made.fresh())
    labels, judge = labels.astype(np.int32), made.judge(900)
    found = made.evaluate(images, labels, spaces=spaces, judge=judge)
    assert words in found.faults
    allowed = {"few images repeated": ["less varied than real images"]}
    assert set(found.faults) <= {words, *allowed.get(words, [])}


def test_every_figure_has_an_interval_about_it_n_and_seed(clean):
    for _, figure, floor in figures.with_floors(clean.figures):
        for one in (figure, floor):
            assert one.n >= 10 and one.seed == 0
            assert np.isfinite([one.value, one.low, one.high]).all()
            assert one.low <= one.high


def test_comparisons_have_all_pairs_groups_and_floors(clean):
    sets = {key.sets for key in clean.figures if key.metric == "kid"}
    assert sets == {
        *("generated~B", "A~B", "generated~A", "B~A"),
        *("generated~val", "A~val", "B~val"),
    }
    groups = {key.group for key in clean.figures if key.metric == "kid"}
    assert groups == {"NORMAL", "PNEUMONIA", POOLED}
    for row in clean.rows():
        if row["metric"] in ("kid", "precision"):
            assert row["n"] == row["floor"]["n"]


def test_too_few_images_for_the_features_have_no_fid(clean):
    assert not [key for key in clean.figures if key.metric == "fid"]  # 64 dimensions


def test_half_a_class_of_val_gives_kid_alone(clean):
    metrics = {key.metric for key in clean.figures if key.sets == "generated~val"}
    assert "kid" in metrics
    assert not metrics & {"fid", "precision", "coverage"}


def test_phantoms_have_their_factors_compared(clean):
    factors = [row for row in clean.rows() if row["metric"] == "factor_distance"]
    assert {row["space"] for row in factors} == set(truth.FACTORS)
    assert all(0 <= row["value"] < 0.4 for row in factors)


def test_the_nearest_pairs_are_listed_nearest_first(clean):
    assert set(clean.pairs) == {"cxr", "pixels"}
    for pairs in clean.pairs.values():
        assert (np.diff(pairs.distance) >= 0).all()
        assert len(pairs.generated) == len(pairs.train) == 16


def test_a_set_is_halved_and_loses_its_duplicates(tmp_path):
    dataset = data.load("phantom:60", 64, split_seed=0, cache_dir=tmp_path)
    train, val = dataset.train, dataset.val
    twice = ImageSet(train.images[:3], train.labels[:3], ("again/1", "again/2", "x"))
    whole = dataclasses.replace(dataset, train=train.join(twice), val=val.join(twice))
    real = evaluation.divide(whole)
    assert real.dropped == 6
    assert sorted(real.train.ids) == sorted(train.ids)
    assert real.val.ids == val.ids
    sides = real.sides()
    assert len(sides["A"]) + len(sides["B"]) == len(train)
    assert not set(sides["A"].patients) & set(sides["B"].patients)
    np.testing.assert_array_equal(sides["A"].images, real.train.images[real.in_a])


def test_a_choice_of_images_grows_without_losing_any():
    side = Side(np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 2, np.arange(40))
    few, more = side.pick((0,), 5, seed=3), side.pick((0,), 9, seed=3)
    assert set(few) < set(more)
    assert set(side.labels[more]) == {0}
    assert set(side.pick((0,), 5, seed=4)) != set(few)
    with pytest.raises(ValueError, match="20 images of label 1, not 21"):
        side.pick((1,), 21, seed=0)


def test_pooled_comparisons_have_equally_many_of_each_class():
    some = evidence()
    some.sides["generated"].labels[:100] = 0  # 10 of class 1 are left
    found = comparisons.compare(some, "noise")
    assert found[Key("kid", "noise", "a", "generated~B")].n == 60
    assert found[Key("kid", "noise", POOLED, "generated~B")].n == 20
    assert found[Key("kid", "noise", POOLED, "A~B")].n == 20
    assert Key("precision", "noise", POOLED, "A~B") not in found


def test_fid_is_taken_where_there_are_enough_images():
    key = Key("fid", "noise", POOLED, "generated~B")
    assert key in comparisons.compare(evidence(d=3), "noise")
    assert key not in comparisons.compare(evidence(d=25), "noise")


def test_features_that_are_apart_are_found_to_be():
    near = comparisons.compare(evidence(), "noise")
    far = comparisons.compare(evidence(shift=3.0), "noise")
    for metric, sign in (("fid", 1), ("kid", 1), ("precision", -1), ("coverage", -1)):
        own = Key(metric, "noise", POOLED, "generated~B")
        assert sign * far[own].value > sign * near[own].value
        assert sign * far[own].value > sign * far[own._replace(sets="A~B")].value


def test_spacing_is_the_ratio_of_distances_to_the_nearest():
    line = np.arange(6.0)[:, None]
    assert comparisons.spacing(2 * line, line) == pytest.approx(2)
    assert comparisons.spacing(np.repeat(line, 2, 0), line) == pytest.approx(
        0, abs=1e-6
    )


def test_figures_that_are_drawn_together_are_those_drawn_alone():
    x, groups = np.random.default_rng(0).normal(size=30), np.arange(30)

    def interval(statistic):
        return intervals.bootstrap(statistic, groups, draws=50, seed=1)

    found = together(lambda i: (x[i].mean(), x[i].max()), 30, interval)
    assert found[0] == (x.mean(), *interval(lambda i: x[i].mean()))
    assert found[1] == (x.max(), *interval(lambda i: x[i].max()))


def copies_of(below, near, exact):
    counts = {
        "below_first_percentile": below,
        "near_copies": near,
        "exact_copies": exact,
    }
    return {
        Key(metric, "cxr", POOLED, "generated~train"): Figure(x, x, x, 100, 0)
        for metric, x in counts.items()
    }


@pytest.mark.parametrize(
    ("found", "copied"),
    [((0.04, 0, 0), False), ((0.06, 0, 0), True), ((0, 1, 0), True), ((0, 0, 1), True)],
)
def test_copies_are_what_is_above_the_share_allowed_or_any_near_one(found, copied):
    assert evaluation.copied(copies_of(*found), 0.05) is copied


def test_real_images_are_not_evaluated():
    real = made.real()
    with pytest.raises(ValueError, match="are, to the bit, the data set's own"):
        made.evaluate(real.val.images, real.val.labels)


def test_fewer_than_ten_images_of_a_class_are_refused():
    images, labels = made.fresh()
    with pytest.raises(ValueError, match="generated: 0 images of class 'PNEUMONIA'"):
        made.evaluate(images[labels == 0], labels[labels == 0])
    few = (labels == 0) | (np.arange(len(labels)) < 18)
    with pytest.raises(
        ValueError, match="9 images of class 'PNEUMONIA'; give at least"
    ):
        made.evaluate(images[few], labels[few])


def test_fewer_than_fifty_images_of_a_class_are_warned_of():
    sides = {
        "generated": Side(np.zeros((60, 8, 8, 1)), np.arange(60) % 2, np.arange(60))
    }
    some = dataclasses.replace(evidence(), sides=sides)
    (note,) = some.check()
    assert note.startswith("generated: only 30 of a, 30 of b; comparisons of fewer")


def test_images_of_another_size_are_refused():
    images, labels = made.fresh()
    with pytest.raises(ValueError, match=r"images are \[32, 32, 1\], real ones \[64"):
        made.evaluate(images[:, ::2, ::2], labels)


def shares(own, val):
    return {
        Key("label_fidelity", "judge", POOLED, name): Figure(x, x - 0.01, x, 9, 0)
        for name, x in (("generated", own), ("val", val))
    }


def test_more_typical_than_real_is_remarked():
    said = evaluation.remarks(shares(1.0, 0.9), 0.5)
    assert "more typical than real images" in said[0]
    assert evaluation.remarks(shares(0.9, 0.9), 0.5) == []


def test_a_judge_who_does_not_know_real_images_is_not_asked():
    said = evaluation.remarks(shares(1.0, 0.6), 0.5)
    assert said == [
        "the judge of classes knows but 60% of val's images: nothing is said of labels"
    ]


def test_kid_is_told_in_distances_between_real_classes():
    some = evidence()
    b = some.sides["B"]
    some._known["noise"]["B"][b.labels == 1] += 2.0
    some._known["noise"]["generated"][:] = some._known["noise"]["B"] + [0.0, 0.0, 9.0]
    found = comparisons.compare(some, "noise")
    key = Key("kid", "noise", POOLED, "generated~B")
    ratio = found[key._replace(metric="kid_in_classes")].value
    labels, x = b.labels, some._known["noise"]["B"]
    between = kid.mmd2(x[labels == 0], x[labels == 1])
    chance = found[key._replace(sets="A~B")]
    unit = max(between, chance.high - chance.low)
    assert ratio == pytest.approx(found[key].value / unit)
    assert ratio > 1
