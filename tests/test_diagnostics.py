import pytest

from cxr_gan.losses import ADVERSARIAL
from cxr_gan.training import diagnostics

NAMES = ("NORMAL", "{PNEUMONIA}")
# Means over a run of 200 kimg of the default configuration.
HEALTHY = {
    "d/adversarial": 0.17,
    "d/class": 0.08,
    "d/r1": 0.02,
    "d/score_gap": 0.24,
    "d/score_gap/NORMAL": 0.4,
    "d/score_gap/{PNEUMONIA}": 0.3,
    "g/adversarial": 0.22,
    "g/class": 0.01,
    "g/diversity": 0.03,
    "eval/near_training": 0.03,
    "eval/ms_ssim_excess": 0.01,
    "eval/ms_ssim_excess/NORMAL": 0.02,
    "eval/ms_ssim_excess/{PNEUMONIA}": 0.0,
}


def make_monitor(target_distance=1.0, diversity_weight=1.0):
    return diagnostics.DiagnosticMonitor(
        diagnostics.make_checks(
            NAMES, target_distance, diversity_weight, near_training_limit=0.03
        )
    )


def warnings_of(monitor, *changes):
    """The warnings after each of several healthy reports with these changes."""
    return [monitor.update({**HEALTHY, **change}) for change in changes]


def test_healthy_run_gives_no_warning():
    assert warnings_of(make_monitor(), *[{}] * 20) == [[]] * 20


@pytest.mark.parametrize("key", diagnostics.LOSSES)
@pytest.mark.parametrize("loss", [100, -1e30])
def test_exploding_loss_gives_a_warning_with_the_first_report(key, loss):
    (warnings,) = warnings_of(make_monitor(), {key: loss})
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{key} is {loss:.3g}: losses explode")
    assert "another --workdir" in warnings[0]


def test_warning_is_given_once_and_again_when_the_check_fails_again():
    failing, passing = {"d/class": 1e4}, {}
    reports = [failing, failing, failing, passing, failing, failing]
    warnings = warnings_of(make_monitor(), *reports)
    assert [len(w) for w in warnings] == [1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("name", ["least_squares", "hinge"])
@pytest.mark.parametrize(
    ("score_gap", "words"),
    [(0.95, "D has separated nearly all images,"), (-0.1, "D has separated no images")],
)
def test_network_that_wins_gives_a_warning_if_it_persists(name, score_gap, words):
    distance = ADVERSARIAL[name].target_distance
    report = {"d/score_gap": score_gap * distance}
    warnings = warnings_of(make_monitor(distance), *[report] * 7)
    assert [len(w) for w in warnings] == [0, 0, 0, 0, 1, 0, 0]
    assert words in warnings[4][0]


@pytest.mark.parametrize("name", NAMES)
def test_class_that_d_always_separates_is_named_in_a_warning_if_it_persists(name):
    metric = f"d/score_gap/{name}"
    warnings = warnings_of(make_monitor(), *[{metric: 0.93}] * 6)
    assert [len(w) for w in warnings] == [0, 0, 0, 0, 1, 0]
    assert warnings[4][0].startswith(f"{metric} is 0.93: ")
    assert "another --config.seed" in warnings[4][0]


def test_score_gap_that_recovers_within_five_reports_gives_no_warning():
    high, medium = {"d/score_gap": 0.95}, {"d/score_gap": 0.5}
    reports = [high, high, high, high, medium] * 3
    assert not any(warnings_of(make_monitor(), *reports))


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_unequal_within_class_variation_gives_a_warning_if_it_persists(weight):
    report = {"g/diversity": 0.6 * weight}
    warnings = warnings_of(make_monitor(diversity_weight=weight), *[report] * 5)
    assert [len(w) for w in warnings] == [0, 0, 0, 0, 1]
    assert "vary about half or twice as much as real ones" in warnings[4][0]


def test_diversity_is_not_checked_without_its_loss_term():
    report = {"g/diversity": 0.0}
    assert not any(warnings_of(make_monitor(diversity_weight=0.0), *[report] * 9))


@pytest.mark.parametrize("name", NAMES)
def test_class_less_varied_than_val_is_named_in_a_warning_at_once(name):
    metric = f"eval/ms_ssim_excess/{name}"
    assert make_monitor().update({metric: 0.19}) == []
    (warning,) = make_monitor().update({metric: 0.2})
    assert warning.startswith(f"{metric} is 0.2: G repeats itself")


def test_run_that_begins_to_copy_is_warned_of_at_the_second_validation():
    warnings = warnings_of(make_monitor(), *[{"eval/near_training": 0.04}] * 3)
    assert [len(w) for w in warnings] == [0, 1, 0]
    assert "the run begins to copy; use @best" in warnings[1][0]


def test_validation_between_reports_does_not_reset_the_count_of_other_checks():
    monitor = make_monitor()
    report, val_metrics = {"d/score_gap": 0.95}, {"eval/ms_ssim_excess/NORMAL": 0.0}
    warnings = [monitor.update(m) for m in [report, val_metrics] * 4 + [report]]
    assert [len(w) for w in warnings] == [0] * 8 + [1]
