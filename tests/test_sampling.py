import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_generator

import cxr_gan
from cxr_gan import checkpoint, sampling
from cxr_gan.gan import spec_of

N = 37  # more than two chunks, and no multiple of one
LABELS = np.arange(N) % 2
ROUNDING = 1e-4  # between programs; images are in [0, 1]


@pytest.fixture(scope="module")
def params():
    return tiny_generator.params()


@pytest.fixture(scope="module")
def images(params):
    """N images of seed 0, classes in turn."""
    return np.asarray(cxr_gan.sample(params, LABELS, 0))


def test_images_are_float32_in_the_unit_range_and_all_differ(images):
    assert images.shape == (N, 32, 32, 1)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert len(np.unique(images.reshape(N, -1), axis=0)) == N


@pytest.mark.parametrize("size", [5, 7, 16, 23])
def test_any_division_into_calls_gives_the_same_bits(params, images, size):
    parts = [
        cxr_gan.sample(params, LABELS[i : i + size], 0, start=i)
        for i in range(0, N, size)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), images)


def test_images_asked_for_one_by_one_are_the_same_up_to_rounding(params, images):
    alone = [cxr_gan.sample(params, [LABELS[i]], 0, start=i) for i in range(N)]
    np.testing.assert_allclose(np.concatenate(alone), images, atol=1e-5)


def test_start_skips_images_and_changes_none(params, images):
    tail = cxr_gan.sample(params, LABELS[30:], 0, start=30)
    np.testing.assert_array_equal(tail, images[30:])


def test_an_image_does_not_depend_on_the_labels_of_others(params, images):
    flipped = LABELS.copy()
    flipped[::3] = 1 - flipped[::3]
    drawn = cxr_gan.sample(params, flipped, 0)
    same = (drawn == images).all((1, 2, 3))
    np.testing.assert_array_equal(same, flipped == LABELS)


def test_the_last_index_there_is_can_be_drawn(params):
    assert cxr_gan.sample(params, [1], 0, start=2**32 - 1).shape == (1, 32, 32, 1)


def test_no_labels_give_no_images(params):
    assert cxr_gan.sample(params, [], 0).shape == (0, 32, 32, 1)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.tolist(),
        LABELS.astype(np.uint8),
        jnp.asarray(LABELS),
        [("NORMAL", "PNEUMONIA")[y] for y in LABELS],
        np.array(["NORMAL", "PNEUMONIA"])[LABELS],
        np.array(["NORMAL", "PNEUMONIA"], object)[LABELS],
    ],
    ids=["list", "uint8", "jax", "names", "array of names", "objects"],
)
def test_labels_of_every_kind_mean_the_same(params, images, labels):
    np.testing.assert_array_equal(cxr_gan.sample(params, labels, 0), images)


@pytest.mark.parametrize(
    "make",
    [
        np.int64,
        jnp.uint32,
        jax.random.key,
        jax.random.PRNGKey,
        lambda seed: np.asarray(jax.random.PRNGKey(seed)),
        lambda seed: jax.random.key(seed, impl="rbg"),
    ],
    ids=["int64", "uint32", "typed", "old", "old as NumPy", "other generator"],
)
def test_seed_and_keys_made_of_it_mean_the_same(params, make):
    for seed in (3, 2**31 + 3):
        expected = cxr_gan.sample(params, [0, 1], seed)
        drawn = cxr_gan.sample(params, [0, 1], make(seed))
        np.testing.assert_array_equal(drawn, expected)


def test_another_seed_gives_other_images(params, images):
    assert np.abs(cxr_gan.sample(params, LABELS, 1) - images).mean() > 0.01


def test_truncation_zero_gives_one_image_a_class_and_one_is_the_default(params, images):
    still = np.asarray(cxr_gan.sample(params, [0, 1, 0, 1], 0, truncation=0))
    np.testing.assert_array_equal(still[:2], still[2:])
    assert (still[0] != still[1]).any()
    full = cxr_gan.sample(params, LABELS, 0, truncation=1)
    np.testing.assert_array_equal(full, images)


def test_less_truncation_than_one_brings_images_closer_to_each_other(params):
    spread = [
        np.asarray(cxr_gan.sample(params, [0] * 16, 0, truncation=t)).std(0).mean()
        for t in (0.25, 0.5, 1)
    ]
    assert spread == sorted(spread)
    assert spread[0] < 0.7 * spread[-1]


@pytest.mark.parametrize("n", [3, N])
def test_within_jit_images_agree_up_to_rounding(params, images, n):
    drawn = jax.jit(cxr_gan.sample)(params, LABELS[:n], jax.random.key(0))
    np.testing.assert_allclose(drawn, images[:n], atol=ROUNDING)


def test_within_jit_even_start_and_truncation_may_be_traced(params, images):
    @jax.jit
    def draw(params, start, truncation):
        return cxr_gan.sample(
            params, LABELS[20:], 0, start=start, truncation=truncation
        )

    np.testing.assert_allclose(draw(params, 20, 1.0), images[20:], atol=ROUNDING)


def test_within_jit_a_label_without_class_gives_nan(params):
    drawn = jax.jit(cxr_gan.sample)(params, np.array([0, 2, -1]), 0)
    np.testing.assert_array_equal(np.isnan(drawn).all((1, 2, 3)), [False, True, True])


def test_vmap_over_keys_draws_for_each_key(params, images):
    keys = jnp.stack([jax.random.key(seed) for seed in (0, 1)])
    drawn = jax.vmap(lambda key: cxr_gan.sample(params, LABELS[:3], key))(keys)
    other = cxr_gan.sample(params, LABELS[:3], 1)
    np.testing.assert_allclose(drawn[0], images[:3], atol=ROUNDING)
    np.testing.assert_allclose(drawn[1], other, atol=ROUNDING)


def test_vmap_over_stacked_params_draws_from_each(params, images):
    second = tiny_generator.params(seed=1)
    both = jax.tree.map(lambda *leaves: np.stack(leaves), params, second)
    drawn = jax.vmap(lambda p: cxr_gan.sample(p, LABELS[:3], 0))(both)
    other = cxr_gan.sample(second, LABELS[:3], 0)
    np.testing.assert_allclose(drawn[0], images[:3], atol=ROUNDING)
    np.testing.assert_allclose(drawn[1], other, atol=ROUNDING)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"labels": [0, 2]}, ValueError, r"no class has label 2.*1 = 'PNEUMONIA'"),
        ({"labels": [-1]}, ValueError, "no class has label -1"),
        ({"labels": ["pneumonia"]}, ValueError, "did you mean 'PNEUMONIA'"),
        ({"labels": ["XY"]}, ValueError, "'XY'; classes are NORMAL, PNEUMONIA"),
        ({"labels": "NORMAL"}, TypeError, r"use \['NORMAL'\] \* n"),
        ({"labels": 1}, ValueError, r"must be \[n\]"),
        ({"labels": [[0]]}, ValueError, r"must be \[n\]"),
        ({"labels": [0.5]}, TypeError, "labels are float64; use integers"),
        ({"labels": [True]}, TypeError, "labels are bool"),
        ({"rng": "0"}, TypeError, "rng is str; use one int"),
        ({"rng": 0.0}, TypeError, "rng is float"),
        ({"rng": True}, TypeError, "rng is bool"),
        ({"rng": None}, TypeError, "rng is NoneType"),
        ({"rng": [0, 1]}, TypeError, "rng is list"),
        ({"rng": np.zeros(3, np.uint32)}, TypeError, r"rng is uint32 \[3\]"),
        ({"rng": -1}, ValueError, "rng=-1 is no seed"),
        ({"rng": 2**32}, ValueError, "from 0 to 4294967295"),
        ({"start": -1}, ValueError, "start=-1"),
        ({"start": 2**32}, ValueError, "start=4294967296 for 1 images"),
        ({"start": 0.5}, TypeError, "start=0.5 is no int"),
        ({"truncation": -0.1}, ValueError, "truncation=-0.1 is out of range"),
        ({"truncation": float("nan")}, ValueError, "truncation=nan"),
        ({"params": {}}, TypeError, r"params is a dict; pass what cxr_gan.load"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_refused_with_words(params, wrong, error, words):
    with pytest.raises(error, match=words):
        cxr_gan.sample(**{"params": params, "labels": [0], "rng": 0, **wrong})


def test_many_keys_are_refused_with_the_word_vmap(params):
    with pytest.raises(TypeError, match=r"key<fry> \[2\].*vmap"):
        cxr_gan.sample(params, [0], jax.random.split(jax.random.key(0)))


def test_fingerprint_tells_weights_and_specs_apart_but_not_their_containers(params):
    name = sampling.fingerprint(params)
    assert len(name) == 16
    assert sampling.fingerprint(jax.tree.map(jnp.asarray, params)) == name
    renamed = dataclasses.replace(params.spec, class_names=("A", "B"))
    assert sampling.fingerprint(params.replace(spec=renamed)) != name
    assert sampling.fingerprint(tiny_generator.params(seed=1)) != name


def save(folder, config, state, *steps):
    """Checkpoints whose averaged generator holds the number of the step."""
    spec = dataclasses.asdict(spec_of(config, ("NORMAL", "PNEUMONIA")))
    with checkpoint.Checkpoints(folder) as checkpoints:
        for step in steps:
            ema = jax.tree.map(lambda w, step=step: np.full_like(w, step), state.ema)
            now = state.replace(step=np.int32(step), ema=ema)
            score = float(step != 2)  # the second is the best
            checkpoints.save(now, {"spec": spec, "kimg": step * 0.064}, score)
        checkpoints.wait()


def test_load_gives_the_averaged_generator_of_the_newest_step_or_of_one(
    tmp_path, config, state
):
    save(tmp_path, config, state, 1, 2)
    newest, older = cxr_gan.load(tmp_path), cxr_gan.load(f"{tmp_path}@1")
    assert newest.spec == spec_of(config, ("NORMAL", "PNEUMONIA"))
    assert newest.class_names == ("NORMAL", "PNEUMONIA")
    for loaded, step in ((newest, 2), (older, 1)):
        assert all((w == step).all() for w in jax.tree.leaves(loaded.params))
    assert jax.tree.structure(newest.params) == jax.tree.structure(state.ema)
    assert cxr_gan.sample(newest, ["NORMAL"], 0).shape == (1, 32, 32, 1)


def test_load_finds_the_best_and_the_latest_by_name(tmp_path, config, state):
    save(tmp_path, config, state, 1, 2, 3, 4)
    for word, step in (("best", 2), ("latest", 4)):
        loaded = cxr_gan.load(f"{tmp_path}@{word}")
        assert all((w == step).all() for w in jax.tree.leaves(loaded.params))


def test_load_takes_a_folder_with_an_at_sign_by_its_name(tmp_path, config, state):
    folder = tmp_path / "run@home"
    save(folder, config, state, 1)
    assert cxr_gan.load(folder).class_names == cxr_gan.load(f"{folder}@1").class_names


@pytest.mark.parametrize("word", ["newest", "", "-3", "1.5"])
def test_load_of_no_known_checkpoint_says_what_to_write(tmp_path, word):
    with pytest.raises(ValueError, match=r"names no checkpoint; .* best, latest or a"):
        cxr_gan.load(f"{tmp_path}@{word}")


def test_load_of_a_folder_without_run_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        cxr_gan.load(tmp_path)


def test_load_of_another_versions_generator_says_so(monkeypatch):
    meta = {"spec": {"name": "residual", "depth": 3}}
    monkeypatch.setattr(checkpoint, "load_ema", lambda *_: ({}, meta))
    with pytest.raises(ValueError, match=r"runs/old .*'depth'.* the version it was"):
        cxr_gan.load("runs/old")


def test_package_shows_its_face_and_fetches_it_late():
    code = (
        "import sys, cxr_gan; early = set(sys.modules); "
        "assert {*cxr_gan.__all__} <= {*dir(cxr_gan)}; "
        "assert not {'jax', 'flax', 'tensorflow'} & early; "
        "from cxr_gan import GeneratorParams, load, sample; "
        "assert not {'tensorflow', 'orbax', 'optax'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="'cxr_gan' has no attribute 'smaple'"):
        _ = cxr_gan.smaple
