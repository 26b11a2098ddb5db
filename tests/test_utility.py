import collections
import itertools
import json

import made
import numpy as np
import pytest
import test_fidelity
import test_page
from absl import flags
from sklearn import metrics

from benchmarks import utility as benchmark
from cxr_gan import data, page
from cxr_gan.data import Dataset, ImageSet, pipeline
from cxr_gan.data.sets import identity
from cxr_gan.evaluation import figures, utility
from cxr_gan.evaluation.sides import Side
from cxr_gan.evaluation.utility import arms, paired

NAMES = ("NORMAL", "PNEUMONIA")
ONCE = np.ones((1, 4))


def discs(n, seed, num_classes=2):
    """Images of 32 px whose class a few steps tell, and never by the frame."""
    return test_fidelity.made(n, seed, num_classes, 32)


def side(images, labels):
    return Side.of_generated(images, labels)


def used(generated, seen, views=(arms.WHOLE,), **other):
    given = {"draw": None, "seed": 0, "seeds": 2, "steps": 20, **other}
    val = given.pop("val", None) or side(*discs(80, 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utility, "VIEWS", {view: arms.VIEWS[view] for view in views})
        return utility.utility(generated, seen, val, **given)


# Figures


def test_auroc_counts_pairs_in_order_and_ties_as_half():
    scores, positive = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]) > 0
    assert paired.auroc(scores, positive, ONCE) == 0.75  # 3 of the 4 pairs
    assert paired.auroc(-scores, positive, ONCE) == 0.25
    tied = np.array([0.5, 0.5, 0.5, 0.8])
    assert paired.auroc(tied, positive, ONCE) == 0.75  # 1/2, 1/2, 1, 1
    assert paired.auroc(np.zeros(4), positive, ONCE) == 0.5


def test_auroc_agrees_with_scikit_learn_also_where_images_count_more_than_once():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, 99).astype(float)
    positive = rng.random(99) < 0.3
    weights = rng.integers(0, 4, (5, 99)).astype(float)
    wanted = [
        metrics.roc_auc_score(positive, scores, sample_weight=row) for row in weights
    ]
    np.testing.assert_allclose(paired.auroc(scores, positive, weights), wanted)


def test_auroc_of_what_has_one_kind_only_is_refused():
    scores = np.arange(4.0)
    with pytest.raises(ValueError, match="no positive image, or no other"):
        paired.auroc(scores, np.ones(4, bool), ONCE)
    with pytest.raises(ValueError, match="not finite"):
        paired.auroc(scores + np.nan, np.arange(4) > 1, ONCE)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_several_classes_and_seeds_are_averaged(num_classes):
    rng = np.random.default_rng(1)
    labels = np.arange(60, dtype=np.int32) % num_classes
    chances = rng.dirichlet(np.ones(num_classes), (2, 60))
    draws = paired.draw(labels, np.arange(60), 2, 0)
    found = paired.mean_auroc(np.log(chances / (1 - chances)), labels, draws)
    wanted = [
        metrics.roc_auc_score(
            labels, of[:, 1] if num_classes == 2 else of, multi_class="ovr"
        )
        for of in chances
    ]
    assert found[0] == pytest.approx(np.mean(wanted))
    assert len(found) == 1 + paired.DRAWS


def test_draws_take_patients_of_a_class_together_and_as_many():
    labels = np.repeat([0, 1], [6, 4])
    patients = np.array([0, 0, 0, 1, 2, 3, 3, 3, 4, 5])
    draws = paired.draw(labels, patients, 5, 0)
    assert (draws.images[0] == 1).all()
    assert (draws.seeds[0] == 0.2).all()
    np.testing.assert_allclose(draws.seeds.sum(1), 1)
    again = draws.images[1:]
    assert (again[:, 0] == again[:, 1]).all() and (again[:, 0] == again[:, 2]).all()
    # Patient 3 has images of both classes, and is drawn in each by itself.
    assert (again[:, [0, 3, 4, 5]].sum(1) == 4).all()
    assert (again[:, [6, 8, 9]].sum(1) == 3).all()


def test_draws_of_seeds_have_the_variance_of_their_mean():
    values = np.array([0.90, 0.91, 0.95, 0.89, 0.93])
    labels = np.repeat([0, 1], 4)
    draws = paired.draw(labels, np.arange(8), 5, 0)
    spread = (draws.seeds[1:] @ values).std()
    assert spread == pytest.approx(values.std(ddof=1) / 5**0.5, rel=0.06)


def test_too_few_to_draw_from_are_refused():
    with pytest.raises(ValueError, match="1 seeds; at least 2"):
        paired.draw(np.array([0, 0, 1, 1]), np.arange(4), 1, 0)
    with pytest.raises(ValueError, match="1 patient of class 1"):
        paired.draw(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]), 2, 0)


def test_the_detectable_difference_is_two_point_eight_standard_errors():
    assert paired.detectable(0.01) == pytest.approx(0.0280159, abs=1e-7)


def test_the_detectable_difference_is_seen_in_four_of_five_cases():
    rng, error = np.random.default_rng(0), 0.02
    found = paired.detectable(error) + error * rng.standard_normal(20_000)
    assert (found > 1.96 * error).mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-0.01, 0.03), "no difference seen; one of 0.028 AUROC would have been"),
        ((0.01, 0.05), "better than plain by 0.02 AUROC (one of 0.028 would"),
        ((-0.05, -0.01), "worse than plain by 0.02 AUROC (one of 0.028 would"),
    ],
)
def test_a_finding_is_said_as_plainly_whichever_way_it_went(ends, said):
    value = 0.02 if ends[1] > 0 else -0.02
    of = paired.Estimate(value, *ends, 0.01)
    assert paired.words(of, "plain").startswith(said)


# Arms


def test_the_frame_and_the_centre_hide_the_rest():
    images = np.full((1, 64, 64, 1), 9, np.uint8)
    frame, centre = arms.frame(images)[0, ..., 0], arms.centre(images)[0, ..., 0]
    assert not frame[4:-4, 4:-4].any()
    assert frame.sum() == 9 * (64**2 - 56**2)
    assert (centre[8:-8, 8:-8] == 9).all()
    assert centre.sum() == 9 * 48**2
    assert (images == 9).all()


def test_moved_copies_differ_by_little_and_are_not_mirrored():
    images = np.full((40, 64, 64, 1), 50, np.uint8)
    images[:, 28:36, 12:20] = 200
    moved = arms.moved(images, 0)
    np.testing.assert_array_equal(moved, arms.moved(images, 0))
    assert moved.dtype == np.uint8
    assert len({image.tobytes() for image in moved}) == 40
    assert (np.argwhere(moved[..., 0] > 150)[:, 2] < 32).all()
    assert (moved[:, :, 40:] < 60).all()  # edges are drawn out


def few(normals=5, ill=20):
    images, _ = discs(normals + ill, 3)
    return side(images, np.repeat(np.int32([0, 1]), [normals, ill]))


def test_arms_that_fill_a_class_do_it_to_the_size_of_the_largest():
    asked = []

    def draw(labels, seed):
        asked.append((labels.tolist(), seed))
        return np.full((len(labels), 32, 32, 1), 7, np.uint8)

    lessons = {name: arm(4) for name, arm in arms.few_arms(few(), draw).items()}
    counts = {name: lesson.counts(2) for name, lesson in lessons.items()}
    assert counts == {
        "plain": [5, 20],
        "class weights": [5, 20],
        "moved copies": [20, 20],
        "plain copies": [20, 20],
        "generated": [20, 20],
    }
    assert lessons["class weights"].class_weights.tolist() == [2.5, 0.625]
    assert asked == [([0] * 15, 4)]
    of = lessons["plain copies"]
    often = collections.Counter(x.tobytes() for x in of.images[of.labels == 0])
    assert set(often.values()) == {4}  # each of the five
    for name, lesson in lessons.items():
        np.testing.assert_array_equal(lesson.images[:25], few().images, name)


def small_dataset():
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 1), np.uint8)
    labels = np.repeat(np.int32([0, 1]), 12)
    whole = ImageSet(images, labels, tuple(f"{i}.png" for i in range(24)))
    parts = whole.take(np.arange(24) % 4 < 3), whole.take(np.arange(24) % 4 == 3)
    return Dataset(*parts, NAMES, identity(*parts, NAMES))


def test_the_real_images_are_exactly_those_a_training_shows():
    dataset = small_dataset()
    card = utility.Card(dataset.identity, (4, 0), seed=3)
    seen = utility.training_set(dataset, card)
    batches = pipeline.batches(
        dataset.train, num_classes=2, batch_size=4, samples_per_class=(4, 0), seed=3
    )
    shown = {x.tobytes() for b in itertools.islice(batches, 20) for x in b["image"]}
    assert {image.tobytes() for image in seen.images} == shown
    assert np.bincount(seen.labels).tolist() == [4, 9]
    assert utility.has_few(card, seen)


def test_a_generator_of_all_images_or_of_unknown_ones_stands_beside_all():
    dataset = small_dataset()
    for card in (None, utility.Card(dataset.identity, (0,), 0)):
        seen = utility.training_set(dataset, card)
        assert len(seen) == len(dataset.train)
        assert not utility.has_few(card, seen)


def test_a_model_whose_card_lists_other_images_is_refused():
    dataset = small_dataset()
    with pytest.raises(ValueError, match=r"other training images \(sha256 abababab"):
        utility.training_set(dataset, utility.Card("ab" * 32, (4, 0), 0))
    card = utility.Card(dataset.identity, (0,), 0)
    with pytest.raises(ValueError, match=r"samples_per_class=\(0,\), not \(4, 0\)"):
        utility.training_set(dataset, card, expected=(4, 0))
    with pytest.raises(ValueError, match="which has 9 images"):
        utility.training_set(dataset, utility.Card(dataset.identity, (99, 0), 0))


# All together


@pytest.fixture(scope="module")
def of_wrong():
    """Images of swapped classes in place of real ones, shown whole and by the frame."""
    images, labels = discs(60, 2)
    wrong = side(images, 1 - labels)
    return used(wrong, side(*discs(60, 1)), views=("whole image", "frame only"))


def test_images_of_the_wrong_class_teach_far_worse_than_real_ones(of_wrong):
    whole, _ = of_wrong.comparisons
    real, generated = whole.lines
    assert (real.arm, generated.arm) == (whole.against, "generated")
    assert real.counts == generated.counts == (30, 30)
    assert real.auroc.value > 0.95
    assert generated.difference.high < -0.5
    assert generated.words("real").startswith("worse than real by")
    assert real.difference is None


def test_where_the_class_is_not_in_the_frame_it_shows_by_chance_alone(of_wrong):
    _, frame = of_wrong.comparisons
    assert frame.view == "frame only"
    assert abs(frame.lines[0].auroc.value - 0.5) < 0.25


def test_figures_have_the_real_images_as_their_floor(of_wrong):
    rows = figures.rows(of_wrong.figures())
    assert [(row["metric"], row["space"]) for row in rows] == [
        ("auroc", "whole image"),
        ("auroc", "frame only"),
    ]
    real, generated = of_wrong.comparisons[0].lines
    assert rows[0]["value"] == pytest.approx(generated.auroc.value, rel=1e-5)
    assert rows[0]["floor"]["value"] == pytest.approx(real.auroc.value, rel=1e-5)
    assert rows[0]["floor"]["sets"] == "trained on real"
    assert rows[0]["n"] == 80


def test_the_report_is_json_with_intervals_and_what_would_have_been_seen(of_wrong):
    report = json.loads(json.dumps(of_wrong.report(NAMES), allow_nan=False))
    assert "2 seeds, 20 steps" in report["method"]
    real, generated = report["comparisons"][0]["arms"]
    assert real["counts"] == {"NORMAL": 30, "PNEUMONIA": 30}
    assert "difference" not in real
    assert set(generated["difference"]) == {"value", "low", "high", "error"}
    wanted = paired.detectable(generated["difference"]["error"])
    assert generated["detectable"] == pytest.approx(wanted, rel=1e-4)


def test_the_page_and_the_terminal_tell_every_arm_and_break_on_no_name(of_wrong):
    report = {**test_page.report(), "utility": of_wrong.report(("<b>A", "B"))}
    html = page.render(report, {})
    assert test_page.outline(html).open == []
    assert "<b>A" not in html
    words = test_page.outline(html).words
    assert "in place of real images, frame only" in words
    assert "30 <b>A, 30 B" in words
    printed = page.summary(report)
    for arm in report["utility"]["comparisons"][0]["arms"]:
        assert arm["words"] in words
        assert arm["words"] in printed


def test_copies_of_the_real_images_make_no_difference_and_come_out_the_same_again():
    seen = side(*discs(40, 1))
    found, again = (used(seen, seen, steps=4) for _ in range(2))
    assert found == again
    generated = found.comparisons[0].lines[1]
    assert generated.difference == (0, 0, 0, 0)
    assert generated.words("real").startswith("no difference seen; one of 0 AUROC")


def test_each_way_to_mend_few_images_is_compared_with_the_best_without_generated():
    images, labels = discs(60, 1)

    def draw(labels, seed):
        return discs(200, 50 + seed)[0][: 2 * len(labels) : 2]  # all of class 0

    seen = side(images[labels == 1], labels[labels == 1])
    seen = side(
        np.concatenate([images[labels == 0][:6], seen.images]),
        np.concatenate([np.zeros(6, np.int32), seen.labels]),
    )
    found = used(seen, seen, draw=draw, steps=8)
    _, mended = found.comparisons
    assert [line.arm for line in mended.lines] == [
        *("plain", "class weights", "moved copies", "plain copies", "generated")
    ]
    by_name = {line.arm: line for line in mended.lines}
    without = [line.auroc.value for line in mended.lines if line.arm != "generated"]
    assert by_name[mended.against].auroc.value == max(without)
    assert [line.arm for line in mended.lines if line.difference is None] == [
        mended.against
    ]
    difference = by_name["generated"].auroc.value - max(without)
    assert by_name["generated"].difference.value == pytest.approx(difference)
    (row,) = [r for r in figures.rows(found.figures()) if r["metric"] == "auroc_few"]
    assert row["floor"]["value"] == pytest.approx(max(without), rel=1e-5)


# The benchmark


def report_for(dataset, samples):
    told = {"arms": [], "question": "added", "view": "whole image", "against": "plain"}
    return {
        "images": {
            "dataset": {"identity": dataset.identity},
            "samples_per_class": samples,
            "seed": 0,
        },
        "dataset": {"split_seed": 0},
        "resolution": 32,
        "utility": {"method": "M", "comparisons": [told]},
    }


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """bench(samples): runs it; the model it trains says it saw `samples`."""
    typed, dataset = [], small_dataset()
    monkeypatch.setattr(data, "load", lambda *_, **__: dataset)

    def command(samples, *training):
        def run(*words):
            typed.append(words)
            if words[0] == "cxr_gan.evaluate":
                folder = tmp_path / "out" / "few-4" / "evaluation"
                folder.mkdir(parents=True)
                text = json.dumps(report_for(dataset, samples))
                (folder / "report.json").write_text(text)

        monkeypatch.setattr(benchmark, "run", run)
        values = flags.FlagValues()
        benchmark.define_flags(values)
        given = ["--dataset=set", f"--out={tmp_path}/out", "--sizes=4", "--"]
        argv = values(["utility", *given, *training])
        return benchmark.main(argv, values), typed

    return command


def test_the_benchmark_trains_on_the_few_images_then_evaluates_and_goes_on(
    bench, tmp_path
):
    code, typed = bench([4, 0], "--config.total_kimg=1")
    assert code == 0
    train, judge = typed
    assert "--config.samples_per_class=4,0" in train
    assert "--config.total_kimg=1" in train
    assert "--utility" in judge
    assert "# 4 of NORMAL" in (tmp_path / "out" / "utility.md").read_text()
    assert bench([4, 0]) == (0, typed[:2])  # all is there


def test_the_benchmark_refuses_a_model_that_saw_other_images(bench, capsys):
    code, _ = bench([0])
    assert code == 1
    assert "samples_per_class=(0,), not (4, 0)" in capsys.readouterr().err


def test_the_rare_class_must_be_one():
    assert benchmark.samples_of(9, "PNEUMONIA", NAMES) == (0, 9)
    with pytest.raises(ValueError, match="classes are NORMAL, PNEUMONIA"):
        benchmark.samples_of(9, "COVID", NAMES)


@pytest.mark.slow
def test_other_phantoms_are_as_good_as_those_of_the_set_and_noise_is_not():
    real = made.real()
    images, labels = made.fresh(160)
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    seen, val = Side.of_real(real.train), Side.of_real(real.val)
    given = {"val": val, "seeds": 3, "steps": 200}
    views = ("whole image", "frame only")
    of = used(side(images, labels), seen, views, **given)
    of_noise = used(side(noise, labels), seen, **given)
    whole, frame = of.comparisons
    worse = of_noise.comparisons[0].lines[1]
    assert worse.words("real").startswith("worse than real by")
    assert whole.lines[1].words("real").startswith("no difference seen")
    assert min(line.auroc.value for line in whole.lines) > 0.75
    assert max(abs(line.auroc.value - 0.5) for line in frame.lines) < 0.25
