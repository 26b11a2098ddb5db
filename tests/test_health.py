import pytest

from cxr_gan import health
from cxr_gan.losses import ADVERSARIAL

NAMES = ("NORMAL", "{PNEUMONIA}")
# Means over a run of 200 kimg of the published configuration.
HEALTHY = {
    "d/adversarial": 0.17,
    "d/class": 0.08,
    "d/penalty": 0.02,
    "d/lead": 0.24,
    "d/lead/NORMAL": 0.4,
    "d/lead/{PNEUMONIA}": 0.3,
    "g/adversarial": 0.22,
    "g/class": 0.01,
    "g/matching": 0.0,
    "g/repetition": 0.03,
    "eval/repetition": 0.01,
    "eval/repetition/NORMAL": 0.02,
    "eval/repetition/{PNEUMONIA}": 0.0,
}


def watch(span=1.0, sameness_weight=1.0):
    return health.Watch(health.signs(NAMES, span, sameness_weight))


def reports(watched, *values):
    """What is said of each report in turn; each value changes a healthy one."""
    return [watched.look({**HEALTHY, **value}) for value in values]


def test_of_a_healthy_run_nothing_is_said():
    assert reports(watch(), *[{}] * 20) == [[]] * 20


@pytest.mark.parametrize("key", health.LOSSES)
@pytest.mark.parametrize("loss", [100, -1e30])
def test_a_loss_that_explodes_is_told_with_the_first_report(key, loss):
    (said,) = reports(watch(), {key: loss})
    assert len(said) == 1
    assert said[0].startswith(f"{key} is {loss:.3g}: losses explode")
    assert "another --workdir" in said[0]


def test_a_warning_is_given_once_and_again_when_the_fault_comes_back():
    ill, well = {"d/class": 1e4}, {}
    said = reports(watch(), ill, ill, ill, well, ill, ill)
    assert [len(warnings) for warnings in said] == [1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("name", sorted(ADVERSARIAL))
@pytest.mark.parametrize(
    ("share", "words"), [(0.95, "sure of nearly all"), (-0.1, "told nothing apart")]
)
def test_a_player_that_wins_outright_is_told_when_it_lasts(name, share, words):
    span = ADVERSARIAL[name].span
    said = reports(watch(span), *[{"d/lead": share * span}] * 7)
    assert [len(warnings) for warnings in said] == [0, 0, 0, 0, 1, 0, 0]
    assert words in said[4][0]


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_d_always_knows_is_told_when_it_lasts_and_by_name(name):
    figure = f"d/lead/{name}"
    said = reports(watch(), *[{figure: 0.93}] * 6)
    assert [len(warnings) for warnings in said] == [0, 0, 0, 0, 1, 0]
    assert said[4][0].startswith(f"{figure} is 0.93: ")
    assert "another --config.seed" in said[4][0]


def test_a_lead_that_is_lost_within_five_reports_is_chance():
    won, even = {"d/lead": 0.95}, {"d/lead": 0.5}
    assert not any(reports(watch(), *[won, won, won, won, even] * 3))


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_generated_class_mates_that_hardly_differ_are_told_when_it_lasts(weight):
    said = reports(watch(sameness_weight=weight), *[{"g/repetition": 0.6 * weight}] * 5)
    assert [len(warnings) for warnings in said] == [0, 0, 0, 0, 1]
    assert "G repeats itself" in said[4][0]


def test_without_its_term_sameness_is_not_looked_for():
    zero = {"g/repetition": 0.0}
    assert not any(reports(watch(sameness_weight=0.0), *[zero] * 9))


@pytest.mark.parametrize("name", NAMES)
def test_a_class_more_alike_than_vals_is_told_at_once_and_by_name(name):
    figure = f"eval/repetition/{name}"
    assert watch().look({figure: 0.19}) == []
    (said,) = watch().look({figure: 0.2})
    assert said.startswith(f"{figure} is 0.2: G repeats itself")


def test_a_look_at_val_between_reports_does_not_break_their_row():
    watched = watch()
    won, look = {"d/lead": 0.95}, {"eval/repetition/NORMAL": 0.0}
    said = [watched.look(figures) for figures in [won, look] * 4 + [won]]
    assert [len(warnings) for warnings in said] == [0] * 8 + [1]


def test_the_thresholds_stand_well_apart_from_healthy_figures():
    assert all(10 * abs(HEALTHY[key]) < health.EXPLODED for key in health.LOSSES)
    assert health.FOOLED < HEALTHY["d/lead"] < health.BEATEN / 2
    assert 5 * HEALTHY["g/repetition"] < health.ALIKE < 1
    assert 5 * HEALTHY["eval/repetition/NORMAL"] < health.REPEATED
