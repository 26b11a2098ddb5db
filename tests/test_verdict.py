import pytest

from cxr_gan.evaluation import verdict
from cxr_gan.evaluation.figures import FLOORS, POOLED, Figure, Key, rows, with_floors

NAMES = ("NORMAL", "PNEUMONIA")


def figures(metric, value, floor, space="cxr", group=POOLED, sets=None, width=0.02):
    """One figure and its floor, as an evaluation finds them."""
    own = {"label_fidelity": "generated", "repeated": "generated"}
    own |= dict.fromkeys(
        ("exact_copies", "near_copies", "below_first_percentile"), "generated~train"
    )
    own["ms_ssim"] = "generated~A+B"
    sets = sets or own.get(metric, "generated~B")
    return {
        Key(metric, space, group, name): Figure(x, x - width, x + width, 100, 0)
        for name, x in ((sets, value), (FLOORS[sets], floor))
    }


@pytest.mark.parametrize(
    ("metric", "space", "group", "value", "floor", "words"),
    [
        ("label_fidelity", "judge", POOLED, 0.1, 0.95, "labels swapped"),
        ("label_fidelity", "judge", POOLED, 0.6, 0.95, "labels often wrong"),
        ("repeated", "bytes", POOLED, 0.5, 0.0, "few images repeated"),
        ("spacing", "cxr", "NORMAL", 0.1, 1.0, "few images repeated (NORMAL)"),
        (
            "ms_ssim",
            "pairs",
            "NORMAL",
            0.3,
            0.0,
            "less varied than real images (NORMAL)",
        ),
        ("coverage", "cxr", POOLED, 0.2, 0.9, "less varied than real images"),
        ("exact_copies", "bytes", POOLED, 1, 0, "training images copied"),
        ("near_copies", "pixels", POOLED, 1, 0, "training images copied"),
        ("below_first_percentile", "cxr", POOLED, 0.2, 0.01, "training images copied"),
        ("power", "1/4-1/2", "NORMAL", -5, 0.1, "texture too smooth (NORMAL)"),
        ("power", "1/4-1/2", "PNEUMONIA", 5, 0.1, "texture too noisy (PNEUMONIA)"),
        ("precision", "texture", POOLED, 0.2, 0.9, "texture unlike real images"),
        ("precision", "cxr", POOLED, 0.2, 0.9, "far from real images"),
        ("kid_in_classes", "cxr", POOLED, 1.5, 0.0, "far from real images"),
    ],
)
def test_a_fault_is_named(metric, space, group, value, floor, words):
    assert verdict.judge(figures(metric, value, floor, space, group), NAMES) == [words]


@pytest.mark.parametrize(
    ("metric", "space", "group", "value", "floor"),
    [
        ("label_fidelity", "judge", POOLED, 0.93, 0.95),
        ("label_fidelity", "judge", POOLED, 0.1, 0.55),  # the judge knows nothing
        ("repeated", "bytes", POOLED, 0.0, 0.0),
        ("spacing", "cxr", "NORMAL", 0.8, 1.0),
        ("spacing", "texture", "NORMAL", 0.1, 1.0),
        ("ms_ssim", "pairs", "NORMAL", 0.06, 0.0),
        ("ms_ssim", "pairs", "NORMAL", -0.3, 0.0),
        ("below_first_percentile", "cxr", POOLED, 0.04, 0.01),
        ("power", "1/4-1/2", "NORMAL", -2, 0.1),
        ("power", "1/8-1/4", "NORMAL", -9, 0.1),
        ("power", "1/4-1/2", "NORMAL", -4, 2.5),  # real images differ as much
        ("precision", "cxr", POOLED, 0.8, 0.9),
        ("kid_in_classes", "cxr", POOLED, 0.5, 0.0),
        ("a_new_metric", "cxr", POOLED, 1e9, 0.0),
    ],
)
def test_no_fault_is_found_where_there_is_none(metric, space, group, value, floor):
    assert not verdict.judge(figures(metric, value, floor, space, group), NAMES)


def test_what_chance_may_have_done_is_no_fault():
    assert not verdict.judge(figures("precision", 0.2, 0.9, width=0.4), NAMES)
    assert not verdict.judge(figures("kid_in_classes", 1.5, 0.0, width=0.6), NAMES)


def test_a_fault_in_every_class_names_none():
    both = figures("spacing", 0.1, 1.0, group="NORMAL")
    both |= figures("spacing", 0.1, 1.0, group="PNEUMONIA")
    assert verdict.judge(both, NAMES) == ["few images repeated"]


def test_consequences_of_a_fault_are_not_told_as_others():
    far = figures("precision", 0.0, 0.9)
    wrong = figures("label_fidelity", 0.6, 0.95, "judge")
    assert verdict.judge(far | wrong, NAMES) == ["far from real images"]


def test_comparisons_with_half_a_and_val_find_no_fault():
    assert not verdict.judge(figures("precision", 0, 1, sets="generated~A"), NAMES)
    assert not verdict.judge(figures("precision", 0, 1, sets="generated~val"), NAMES)


def test_the_last_line_says_what_was_found_or_that_nothing_was():
    assert verdict.line([]) == "verdict: no fault found"
    assert verdict.line(["a", "b (NORMAL)"]) == "verdict: a; b (NORMAL)"


def test_every_rule_has_its_reason():
    assert all(rule.words and rule.reason for rule in verdict.RULES)


def test_a_figure_without_a_floor_is_not_reported():
    found = figures("fid", 3.0, 1.0)
    alone = {Key("fid", "texture", POOLED, "generated~B"): Figure(1.0, 0, 2, 9, 0)}
    assert [key.space for key, _, _ in with_floors(found | alone)] == ["cxr"]
    (row,) = rows(found | alone)
    assert (row["value"], row["floor"]["value"]) == (3.0, 1.0)
    assert row["error"] == pytest.approx(0.02 / 1.96, rel=1e-4)
