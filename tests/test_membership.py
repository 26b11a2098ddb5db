import evaluation_data
import numpy as np
import pytest

from cxr_gan.config import freeze, published
from cxr_gan.evaluation import membership
from cxr_gan.evaluation.evaluator import remarks
from cxr_gan.evaluation.image_sets import ImageGroup
from cxr_gan.evaluation.membership import SETS, Target
from cxr_gan.evaluation.results import POOLED, MetricKey, with_reference
from cxr_gan.evaluation.verdict import find_faults
from cxr_gan.models import pixel_range
from cxr_gan.sampling import sampler, trained_networks
from cxr_gan.training import gan


@pytest.fixture(scope="module")
def half_b():
    real = evaluation_data.real()
    return ImageGroup.from_image_set(real.train.take(~real.in_a))


def attack(images, labels, target):
    result = evaluation_data.evaluate(images, labels, target=target)
    return result.estimates


def value(estimates, space, metric="membership_auroc", group=POOLED):
    return estimates[MetricKey(metric, space, group, SETS)]


def test_found_share_agrees_with_hand_calculation():
    others = np.arange(100.0)  # one of them, 99, is above 98: 1 %
    members = np.array([98.5, 120.0, 98.0, 3.0])
    scores = np.concatenate([members, others])
    is_member = np.arange(104) < 4
    weights = np.ones((2, 104))
    weights[1, 0] = 3  # the first member three times
    weights[1, -1] = 0  # and 98 is now the largest of the others
    found = membership.found_at_false_alarms(scores, is_member, weights)
    np.testing.assert_allclose(found, [2 / 4, 4 / 6])


def test_found_share_by_chance_is_that_of_equal_distributions():
    scores = np.random.default_rng(0).random((4000, 300))  # 50 members, 250 others
    found = [
        membership.found_at_false_alarms(row, np.arange(300) < 50, np.ones((1, 300)))
        for row in scores
    ]
    assert membership.found_by_chance(250) == 3 / 251
    np.testing.assert_allclose(np.mean(found), 3 / 251, rtol=0.05)


def test_discriminator_sees_groups_with_interleaved_classes_and_every_image():
    labels = np.array([0] * 5 + [1] * 9)
    images = np.zeros((14, 8, 8, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(14)
    seen = []

    def score(batch):
        number = batch[:, 0, 0, 0]
        assert len(number) % 4 == 0
        np.testing.assert_array_equal(labels[number], np.arange(len(number)) % 2)
        seen.append(number)
        # Of the group of four, so that the score depends on its other images.
        return number + number.reshape(-1, 4).max(1).repeat(4)

    group = ImageGroup(images, labels, labels)
    scores = membership.discriminator_scores(score, group, 4, seed=0)
    assert set(np.concatenate(seen)) == set(range(14))
    assert (scores >= 2 * np.arange(14)).all()
    np.testing.assert_array_equal(
        scores, membership.discriminator_scores(score, group, 4, seed=0)
    )


def test_images_of_other_patients_reveal_nobody(half_b):
    images, labels = evaluation_data.new_phantoms()
    estimates = attack(images, labels, Target(np.ones(len(half_b), bool)))
    rows = [row for row in with_reference(estimates) if row[0].sets == SETS]
    assert len(rows) == 2 * 2 * 3  # views, metrics, classes and pooled
    for key, found, reference in rows:
        assert key.space != "discriminator"
        assert found.low <= reference.high
        assert reference.low <= found.high
    faults = find_faults(estimates, ("NORMAL", "PNEUMONIA"))
    assert "training patients recognisable" not in faults


def test_copies_and_an_overfitted_discriminator_reveal_who_was_in_the_training(half_b):
    rows = half_b.select((0, 1), 20, seed=0)
    trained_on = np.isin(np.arange(len(half_b)), rows)
    images = np.repeat(evaluation_data.add_noise(half_b.images[rows], 3), 2, 0)
    images[1::2] ^= 1  # not bit-identical
    known = {image.tobytes() for image in half_b.images[rows]}

    def score(batch):
        return np.array([image.tobytes() in known for image in batch], float)

    target = Target(trained_on, score, group_size=8)
    estimates = attack(images, half_b.labels[rows].repeat(2), target)
    for space in ("cxr", "pixels", "discriminator"):
        assert value(estimates, space).value > 0.95
        assert value(estimates, space, "membership_found").value > 0.8
    assert value(estimates, "discriminator", group="PNEUMONIA").value == 1
    references = {
        (key.space, key.metric): reference.value
        for key, _, reference in with_reference(estimates)
        if key.sets == SETS and key.group == POOLED
    }
    assert references["discriminator", "membership_auroc"] == 0.5
    val = evaluation_data.real().val.counts(2)  # fewer than 100: the largest is found
    chance = np.mean([1 / (1 + m) for m in val])
    assert references["discriminator", "membership_found"] == pytest.approx(chance)
    assert 0.3 < references["pixels", "membership_auroc"] < 0.7
    faults = find_faults(estimates, ("NORMAL", "PNEUMONIA"))
    assert "training patients recognisable" in faults
    assert any("AUROC 1.00: do not share" in note for note in remarks(estimates, 0.5))


def test_scores_are_those_of_the_trained_discriminator():
    _, card = sampler.load_with_meta("pediatric64")
    score, group_size = trained_networks.open_discriminator("pediatric64", card)
    assert group_size == 8
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3 * group_size, 64, 64, 1), np.uint8)
    definition = gan.build_gan(freeze(published()), tuple("NP"))
    params = trained_networks.load("pediatric64", card)["discriminator"]
    output = definition.discriminate(params, pixel_range.from_uint8(images))
    np.testing.assert_allclose(score(images), output.score, atol=1e-4)
