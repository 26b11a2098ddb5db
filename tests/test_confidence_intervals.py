import numpy as np
import pytest

from cxr_gan.evaluation.metrics.confidence_intervals import (
    bootstrap,
    share_interval,
    subsample,
)
from cxr_gan.evaluation.metrics.frechet import frechet_distance

both = pytest.mark.parametrize("interval", [bootstrap, subsample])


def sampling(seed=0, draws=1000):
    return {"draws": draws, "seed": seed}


@both
def test_images_of_a_patient_are_resampled_together(interval):
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    samples = []
    interval(lambda i: samples.append(i) or 0.0, groups, **sampling(draws=50))
    assert len(samples) == 51  # the first one is that of all images
    for index in samples:
        count = np.bincount(index, minlength=6)
        assert count[0] == count[2] == count[5]
        assert count[1] == count[4]


@both
def test_interval_of_a_mean_is_two_standard_errors_on_both_sides(interval):
    x = np.random.default_rng(0).normal(5, 2, 400)
    value, low, high = interval(lambda i: x[i].mean(), np.arange(400), **sampling())
    assert value == x.mean()
    error = x.std() / 20
    assert low == pytest.approx(x.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(x.mean() + 1.96 * error, abs=0.25 * error)


@both
def test_repeated_images_of_a_patient_do_not_narrow_the_interval(interval):
    x = np.random.default_rng(0).normal(size=100)
    one = interval(lambda i: x[i].mean(), np.arange(100), **sampling())
    nine = interval(lambda i: x[i // 9].mean(), np.arange(900) // 9, **sampling())
    np.testing.assert_allclose(nine, one)
    ungrouped = interval(lambda i: x[i // 9].mean(), np.arange(900), **sampling())
    assert np.ptp(ungrouped) < 0.4 * np.ptp(nine)


@both
def test_intervals_of_several_values_are_those_of_each(interval):
    x, groups = np.random.default_rng(0).normal(size=30), np.arange(30)
    joint = interval(lambda i: (x[i].mean(), x[i].max()), groups, **sampling(1, 50))
    for column, function in zip(joint.T, (np.mean, np.max), strict=True):
        one = interval(lambda i, f=function: f(x[i]), groups, **sampling(1, 50))
        np.testing.assert_array_equal(column, one)


@both
def test_coverage_of_the_true_mean_is_95_percent(interval):
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=60).repeat(3) + rng.normal(size=180)  # 3 images a patient
        _, low, high = interval(
            lambda i, x=x: x[i].mean(), np.arange(180) // 3, **sampling(seed, 200)
        )
        covered += low <= 0 <= high
    assert 88 <= covered <= 99


def test_bootstrap_of_frechet_distance_is_biased_and_subsample_is_not():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200, 20))
    b = b + 0.1

    def distance(i):
        return frechet_distance(a[i], b)

    value, low, _ = bootstrap(distance, np.arange(200), **sampling(draws=100))
    assert low > value
    value, low, high = subsample(distance, np.arange(200), **sampling(draws=100))
    assert low < value < high


@both
def test_interval_depends_on_seed_but_not_on_names_of_patients(interval):
    x = np.random.default_rng(0).normal(size=50)
    groups = np.arange(50) // 2

    def compute(groups, seed):
        return interval(lambda i: x[i].mean(), groups, **sampling(seed, 100)).tolist()

    assert compute(groups, 3) == compute(groups, 3) == compute(groups + 1000, 3)
    assert compute(groups, 3) != compute(groups, 4)


def test_share_interval_agrees_with_the_binomial_standard_error():
    hits = np.arange(400) < 100
    low, high = share_interval(hits, np.arange(400), **sampling())
    error = np.sqrt(0.25 * 0.75 / 400)
    assert low == pytest.approx(0.25 - 1.96 * error, abs=0.006)
    assert high == pytest.approx(0.25 + 1.96 * error, abs=0.006)


def test_share_interval_of_0_or_1_is_that_of_clopper_and_pearson():
    # 1 - 0.025^(1/10) = 0.3085, for 10 patients with 5 images each.
    groups = np.arange(50) // 5
    low, high = share_interval(np.zeros(50, bool), groups, **sampling())
    assert (low, high) == (0, pytest.approx(0.3085, abs=1e-4))
    low, high = share_interval(np.ones(50, bool), groups, **sampling())
    assert (low, high) == (pytest.approx(0.6915, abs=1e-4), 1)


@both
@pytest.mark.parametrize(
    ("groups", "draws", "value", "message"),
    [
        (np.zeros(9), 40, 0.0, "40 draws of 1 groups; give at least"),
        (np.arange(9), 39, 0.0, "39 draws of 9 groups; give at least 40"),
        (np.arange(9), 40, np.nan, "not finite"),
    ],
)
def test_invalid_arguments_are_refused(interval, groups, draws, value, message):
    with pytest.raises(ValueError, match=message):
        interval(lambda i: value, groups, draws=draws, seed=0)


def test_strata_have_the_same_proportions_in_all_draws():
    strata = np.repeat([0, 1, 2], [40, 20, 8])
    counts = []

    def statistic(index):
        assert (np.diff(index) > 0).all()  # no image is drawn twice
        counts.append(np.bincount(strata[index], minlength=3).tolist())
        return 0.0

    subsample(statistic, np.arange(68), strata=strata, **sampling(draws=40))
    assert counts[0] == [40, 20, 8]
    assert counts[1:] == [[20, 10, 4]] * 40
