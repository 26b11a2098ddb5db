import pytest

from cxr_gan.evaluation import verdict
from cxr_gan.evaluation.evaluator import EvaluationResult
from cxr_gan.evaluation.results import (
    POOLED,
    REFERENCES,
    Estimate,
    MetricKey,
    to_rows,
    with_reference,
)

NAMES = ("NORMAL", "PNEUMONIA")
LESS_VARIED = "less varied than real images"
SETS = {
    **dict.fromkeys(("label_accuracy", "repeated"), "generated"),
    **dict.fromkeys(("exact_copies", "near_copies"), "generated~train"),
    "below_first_percentile": "generated~train",
    "ms_ssim": "generated~A+B",
}


def make_estimates(
    metric, value, reference, space="cxr", group=POOLED, sets=None, width=0.02
):
    """One estimate and its real-data reference."""
    sets = sets or SETS.get(metric, "generated~B")
    return {
        MetricKey(metric, space, group, name): Estimate(x, x - width, x + width, 100, 0)
        for name, x in ((sets, value), (REFERENCES[sets], reference))
    }


@pytest.mark.parametrize(
    ("metric", "space", "group", "value", "reference", "words"),
    [
        ("label_accuracy", "classifier", POOLED, 0.1, 0.95, "labels swapped"),
        ("label_accuracy", "classifier", POOLED, 0.6, 0.95, "labels often wrong"),
        ("repeated", "bytes", POOLED, 0.5, 0.0, "few images repeated"),
        ("spacing", "cxr", "NORMAL", 0.1, 1.0, "few images repeated (NORMAL)"),
        ("ms_ssim", "pairs", "NORMAL", 0.3, 0.0, f"{LESS_VARIED} (NORMAL)"),
        ("coverage", "cxr", POOLED, 0.2, 0.9, LESS_VARIED),
        ("exact_copies", "bytes", POOLED, 1, 0, "training images copied"),
        ("near_copies", "pixels", POOLED, 1, 0, "training images copied"),
        ("below_first_percentile", "cxr", POOLED, 0.2, 0.01, "training images copied"),
        ("power", "1/4-1/2", "NORMAL", -5, 0.1, "texture too smooth (NORMAL)"),
        ("power", "1/4-1/2", "PNEUMONIA", 5, 0.1, "texture too noisy (PNEUMONIA)"),
        ("alternation", "rows", "NORMAL", 4, 0.1, "texture too noisy (NORMAL)"),
        ("precision", "texture", POOLED, 0.2, 0.9, "texture unlike real images"),
        ("precision", "cxr", POOLED, 0.2, 0.9, "far from real images"),
        ("kid_in_classes", "cxr", POOLED, 1.5, 0.0, "far from real images"),
        # Within the thresholds.
        ("label_accuracy", "classifier", POOLED, 0.93, 0.95, None),
        # The classifier is unreliable.
        ("label_accuracy", "classifier", POOLED, 0.1, 0.55, None),
        ("repeated", "bytes", POOLED, 0.0, 0.0, None),
        ("spacing", "cxr", "NORMAL", 0.8, 1.0, None),
        ("spacing", "texture", "NORMAL", 0.1, 1.0, None),
        ("ms_ssim", "pairs", "NORMAL", 0.06, 0.0, None),
        ("ms_ssim", "pairs", "NORMAL", -0.3, 0.0, None),
        ("below_first_percentile", "cxr", POOLED, 0.04, 0.01, None),
        ("power", "1/4-1/2", "NORMAL", -2, 0.1, None),
        ("power", "1/8-1/4", "NORMAL", -9, 0.1, None),
        ("alternation", "both", "NORMAL", 2, 0.1, None),
        ("alternation", "both", "NORMAL", -9, 0.1, None),
        ("power", "1/4-1/2", "NORMAL", -4, 2.5, None),  # real images differ as much
        ("precision", "cxr", POOLED, 0.8, 0.9, None),
        ("kid_in_classes", "cxr", POOLED, 0.5, 0.0, None),
        ("a_new_metric", "cxr", POOLED, 1e9, 0.0, None),
    ],
)
def test_fault_is_found_beyond_the_threshold_only(
    metric, space, group, value, reference, words
):
    estimates = make_estimates(metric, value, reference, space, group)
    faults = [] if words is None else [words]
    assert verdict.find_faults(estimates, NAMES) == faults


def test_wide_intervals_give_no_fault():
    assert not verdict.find_faults(
        make_estimates("precision", 0.2, 0.9, width=0.4), NAMES
    )
    assert not verdict.find_faults(
        make_estimates("kid_in_classes", 1.5, 0.0, width=0.6), NAMES
    )


def test_fault_of_every_class_names_no_class():
    both = make_estimates("spacing", 0.1, 1.0, group="NORMAL")
    both |= make_estimates("spacing", 0.1, 1.0, group="PNEUMONIA")
    assert verdict.find_faults(both, NAMES) == ["few images repeated"]


def test_consequences_of_a_fault_are_not_reported_as_faults():
    far = make_estimates("precision", 0.0, 0.9)
    wrong = make_estimates("label_accuracy", 0.6, 0.95, "classifier")
    assert verdict.find_faults(far | wrong, NAMES) == ["far from real images"]


def test_comparisons_with_half_a_and_val_do_not_enter_the_verdict():
    assert not verdict.find_faults(
        make_estimates("precision", 0, 1, sets="generated~A"), NAMES
    )
    assert not verdict.find_faults(
        make_estimates("precision", 0, 1, sets="generated~val"), NAMES
    )


def test_verdict_lists_faults_or_states_that_there_are_none():
    none, two = (
        EvaluationResult({}, {}, [], faults).verdict for faults in ([], ["a", "b (c)"])
    )
    assert none == "verdict: no fault found"
    assert two == "verdict: a; b (c)"


def test_estimate_without_reference_is_not_reported():
    complete = make_estimates("fid", 3.0, 1.0)
    incomplete = {
        MetricKey("fid", "texture", POOLED, "generated~B"): Estimate(1.0, 0, 2, 9, 0)
    }
    assert [key.space for key, _, _ in with_reference(complete | incomplete)] == ["cxr"]
    (row,) = to_rows(complete | incomplete)
    assert (row["value"], row["reference"]["value"]) == (3.0, 1.0)
    assert row["error"] == pytest.approx(0.02 / 1.96, rel=1e-4)
