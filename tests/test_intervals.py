import numpy as np
import pytest

from cxr_gan.metrics.frechet import frechet_distance
from cxr_gan.metrics.intervals import bootstrap, share_interval, subsample


def alone(n):
    """Groups of one."""
    return np.arange(n)


def lots(seed=0, draws=1000):
    return {"draws": draws, "seed": seed}


@pytest.mark.parametrize("interval", [bootstrap, subsample])
def test_images_of_a_patient_are_drawn_together(interval):
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    seen = []
    interval(lambda i: seen.append(i) or 0.0, groups, **lots(draws=50))
    for index in seen:
        times = np.bincount(index, minlength=6)
        assert times[0] == times[2] == times[5]
        assert times[1] == times[4]


def test_a_bootstrap_draws_as_many_patients_as_there_are():
    groups = np.repeat(np.arange(30), 2)
    seen = []
    bootstrap(lambda i: seen.append(i) or 0.0, groups, **lots(draws=50))
    assert {len(index) for index in seen} == {60}
    assert max(np.bincount(index).max() for index in seen) > 2


def test_a_subsample_draws_none_twice():
    seen = []
    subsample(lambda i: seen.append(i) or 0.0, alone(30), share=0.3, **lots(draws=50))
    np.testing.assert_array_equal(seen[0], np.arange(30))  # all: what is shown
    assert {len(index) for index in seen[1:]} == {9}
    assert all((np.diff(index) > 0).all() for index in seen)


@pytest.mark.parametrize("interval", [bootstrap, subsample])
def test_interval_of_a_mean_is_two_standard_errors_either_way(interval):
    x = np.random.default_rng(0).normal(5, 2, 400)
    low, high = interval(lambda i: x[i].mean(), alone(400), **lots())
    error = x.std() / 20
    assert low == pytest.approx(x.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(x.mean() + 1.96 * error, abs=0.25 * error)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_width_of_a_subsample_does_not_depend_on_its_share(share):
    x = np.random.default_rng(0).normal(5, 2, 400)
    low, high = subsample(lambda i: x[i].mean(), alone(400), share=share, **lots())
    assert high - low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.1)


@pytest.mark.parametrize("interval", [bootstrap, subsample])
def test_repeated_images_of_a_patient_do_not_narrow_the_interval(interval):
    x = np.random.default_rng(0).normal(size=100)
    one = interval(lambda i: x[i].mean(), alone(100), **lots())
    nine = interval(lambda i: x[i // 9].mean(), alone(900) // 9, **lots())
    np.testing.assert_allclose(nine, one)
    naive = interval(lambda i: x[i // 9].mean(), alone(900), **lots())
    assert np.ptp(naive) < 0.4 * np.ptp(nine)


@pytest.mark.parametrize("interval", [bootstrap, subsample])
def test_intervals_hold_the_truth_in_95_of_100_cases(interval):
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=60).repeat(3) + rng.normal(size=180)  # 3 images a patient
        low, high = interval(
            lambda i, x=x: x[i].mean(), alone(180) // 3, **lots(seed, 200)
        )
        held += low <= 0 <= high
    assert 0.90 < held / 300 < 0.985


def test_a_bootstrapped_frechet_distance_is_too_large_and_a_subsampled_one_is_not():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200, 20))
    b = b + 0.1

    def distance(i):
        return frechet_distance(a[i], b)

    whole = distance(alone(200))
    low, _ = bootstrap(distance, alone(200), **lots(draws=100))
    assert low > whole
    low, high = subsample(distance, alone(200), **lots(draws=100))
    assert low < whole < high


@pytest.mark.parametrize("interval", [bootstrap, subsample])
def test_the_seed_decides_and_names_of_patients_do_not(interval):
    x = np.random.default_rng(0).normal(size=50)
    groups = alone(50) // 2

    def of(groups, seed):
        return interval(lambda i: x[i].mean(), groups, **lots(seed, 100))

    assert of(groups, 3) == of(groups, 3) == of(groups + 1000, 3)
    assert of(groups, 3) != of(groups, 4)


def test_interval_of_a_share_is_that_of_a_binomial():
    hits = np.arange(400) < 100
    low, high = share_interval(hits, alone(400), **lots())
    error = np.sqrt(0.25 * 0.75 / 400)
    assert low == pytest.approx(0.25 - 1.96 * error, abs=0.006)
    assert high == pytest.approx(0.25 + 1.96 * error, abs=0.006)


def test_no_hit_among_few_patients_is_no_proof_that_there_are_none():
    # 1 - 0.025^(1/10) = 0.3085, for 10 patients with 5 images each.
    groups = alone(50) // 5
    low, high = share_interval(np.zeros(50, bool), groups, **lots())
    assert (low, high) == (0, pytest.approx(0.3085, abs=1e-4))
    low, high = share_interval(np.ones(50, bool), groups, **lots())
    assert (low, high) == (pytest.approx(0.6915, abs=1e-4), 1)


@pytest.mark.parametrize("interval", [bootstrap, subsample])
@pytest.mark.parametrize(
    ("groups", "draws", "figure", "words"),
    [
        (np.zeros(9), 40, 0.0, "40 draws of 1 groups; give at least"),
        (np.arange(9), 39, 0.0, "39 draws of 9 groups; give at least 40"),
        (np.zeros((9, 1)), 40, 0.0, r"groups are \[9, 1\]; must be \[n\]"),
        (np.arange(9), 40, np.nan, "not finite"),
    ],
)
def test_what_has_no_interval_is_refused(interval, groups, draws, figure, words):
    with pytest.raises(ValueError, match=words):
        interval(lambda i: figure, groups, draws=draws, seed=0)


@pytest.mark.parametrize("share", [0, 1, np.nan])
def test_a_share_of_none_or_all_is_refused(share):
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        subsample(lambda i: 0.0, alone(9), share=share, **lots())


@pytest.mark.parametrize("hits", [np.zeros(9), np.zeros(8, bool)])
def test_hits_that_are_not_one_an_image_are_refused(hits):
    with pytest.raises(ValueError, match="must be bool, and as many"):
        share_interval(hits, alone(9), **lots())


def test_strata_keep_their_shares_in_every_draw():
    strata = np.repeat([0, 1, 2], [40, 20, 8])
    seen = []

    def statistic(drawn):
        seen.append(np.bincount(strata[drawn], minlength=3).tolist())
        return float(drawn.mean())

    subsample(statistic, np.arange(68), strata=strata, draws=40, seed=0)
    assert seen[0] == [40, 20, 8]
    assert seen[1:] == [[20, 10, 4]] * 40


def test_strata_take_what_they_differ_in_out_of_the_interval():
    strata = np.repeat([0, 1], 50)
    values = 10.0 * strata + np.random.default_rng(0).normal(size=100)

    def width(**kinds):
        ends = subsample(
            lambda i: float(values[i].mean()),
            np.arange(100),
            draws=100,
            seed=0,
            **kinds,
        )
        return ends[1] - ends[0]

    assert width(strata=strata) < 0.5 * width()
