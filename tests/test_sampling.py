import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_generator

import cxr_gan
from cxr_gan.sampling import latents, sampler
from cxr_gan.storage import checkpoint
from cxr_gan.training.gan import generator_config

N = 37  # more than two chunks, and not a multiple of the chunk size
LABELS = np.arange(N) % 2
CLASS_NAMES = ("NORMAL", "PNEUMONIA")
KEY = jax.random.key(0)
ROUNDING = 1e-4  # between compiled programs; images are in [0, 1]


@pytest.fixture(scope="module")
def params():
    return tiny_generator.params()


@pytest.fixture(scope="module")
def images(params):
    """N images of seed 0 with alternating classes."""
    return np.asarray(cxr_gan.sample(params, LABELS, 0))


def test_images_are_float32_in_unit_range_and_differ_by_index_and_seed(params, images):
    assert images.shape == (N, 32, 32, 1)
    assert images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert len(np.unique(images.reshape(N, -1), axis=0)) == N
    assert np.abs(cxr_gan.sample(params, LABELS, 1) - images).mean() > 0.01


@pytest.mark.parametrize("size", [5, 16, 23])
def test_any_division_into_calls_is_bit_identical(params, images, size):
    parts = [
        cxr_gan.sample(params, LABELS[i : i + size], 0, start=i)
        for i in range(0, N, size)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), images)


def test_images_generated_one_by_one_agree_up_to_rounding(params, images):
    single = [cxr_gan.sample(params, [LABELS[i]], 0, start=i) for i in range(N)]
    np.testing.assert_allclose(np.concatenate(single), images, atol=1e-5)


def test_image_does_not_depend_on_labels_of_other_images(params, images):
    flipped = LABELS.copy()
    flipped[::3] = 1 - flipped[::3]
    sampled = cxr_gan.sample(params, flipped, 0)
    same = (sampled == images).all((1, 2, 3))
    np.testing.assert_array_equal(same, flipped == LABELS)


@pytest.mark.parametrize("labels", [[], [1]])
def test_largest_index_and_no_labels_are_accepted(params, labels):
    images = cxr_gan.sample(params, labels, 0, start=2**32 - 1)
    assert images.shape == (len(labels), 32, 32, 1)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.tolist(),
        LABELS.astype(np.uint8),
        jnp.asarray(LABELS),
        [CLASS_NAMES[y] for y in LABELS],
        np.array(CLASS_NAMES)[LABELS],
        np.array(CLASS_NAMES, object)[LABELS],
    ],
    ids=["list", "uint8", "jax", "names", "array of names", "objects"],
)
def test_all_label_types_give_equal_images(params, images, labels):
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
    ids=["int64", "uint32", "typed", "old-style", "old-style NumPy", "rbg"],
)
def test_seed_and_keys_made_from_it_are_equivalent(params, make):
    for seed in (3, 2**31 + 3):
        expected = cxr_gan.sample(params, [0, 1], seed)
        sampled = cxr_gan.sample(params, [0, 1], make(seed))
        np.testing.assert_array_equal(sampled, expected)


def test_truncation_reduces_variation_between_images_of_a_class(params, images):
    at_zero = np.asarray(cxr_gan.sample(params, [0, 1, 0, 1], 0, truncation=0))
    np.testing.assert_array_equal(at_zero[:2], at_zero[2:])
    assert (at_zero[0] != at_zero[1]).any()
    full = cxr_gan.sample(params, LABELS, 0, truncation=1)
    np.testing.assert_array_equal(full, images)
    spread = [
        np.asarray(cxr_gan.sample(params, [0] * 16, 0, truncation=t)).std(0).mean()
        for t in (0.25, 0.5, 1)
    ]
    assert spread == sorted(spread)
    assert spread[0] < 0.7 * spread[-1]


@pytest.mark.parametrize("start", [0, 5])
def test_images_of_the_latents_of_a_seed_are_those_of_the_seed(params, images, start):
    z = cxr_gan.latents(params, N - start, 0, start=start)
    assert (z.dtype, z.shape) == (np.float32, (N - start, 8))
    found = cxr_gan.sample(params, LABELS[start:], latents=z, start=start)
    np.testing.assert_array_equal(found, images[start:])
    traced = jax.jit(lambda z: cxr_gan.sample(params, LABELS[start:], latents=z))(z)
    np.testing.assert_allclose(traced, images[start:], atol=ROUNDING)


def test_latents_are_normal_and_depend_on_their_index_alone(params):
    z = np.asarray(cxr_gan.latents(params, 4000, 3))
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.02
    np.testing.assert_array_equal(cxr_gan.latents(params, 21, 3, start=40), z[40:61])
    within_jit = jax.jit(lambda key: cxr_gan.latents(params, 13, key))(
        jax.random.key(3)
    )
    np.testing.assert_allclose(within_jit, z[:13], atol=1e-5)
    assert cxr_gan.latents(params, 0, 3).shape == (0, 8)


def test_arc_has_equal_angles_and_keeps_the_length():
    a, b = np.eye(3, dtype=np.float32)[:2] * 2
    z = np.asarray(latents.on_arc(np.stack([a, a]), np.stack([b, a]), 4))
    angles = np.radians([0, 30, 60, 90])
    expected = 2 * np.stack([np.cos(angles), np.sin(angles), np.zeros(4)], 1)
    np.testing.assert_allclose(z[0], expected, atol=1e-6)
    np.testing.assert_allclose(z[1], np.stack([a] * 4), atol=1e-6)


def test_interpolation_begins_and_ends_with_the_images_of_both_latents(params):
    z = cxr_gan.latents(params, 4, 0)
    walk = cxr_gan.interpolate(params, z[:2], z[2:], ["NORMAL", "PNEUMONIA"], 3)
    assert walk.shape == (2, 3, 32, 32, 1)
    ends = cxr_gan.sample(params, [0, 1, 0, 1], latents=z)
    np.testing.assert_allclose(walk[:, 0], ends[:2], atol=ROUNDING)
    np.testing.assert_allclose(walk[:, 2], ends[2:], atol=ROUNDING)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rng": 0, "latents": np.zeros((2, 8))}, TypeError, "not both"),
        ({"latents": np.zeros((2, 9))}, ValueError, r"\[2, 9\]; must be \[2, 8\]"),
        ({"latents": np.zeros((2, 8), int)}, TypeError, "int64; use floats"),
        ({"latents": np.full((2, 8), np.nan)}, ValueError, "not all finite"),
    ],
)
def test_unusable_latents_are_refused(params, arguments, error, message):
    with pytest.raises(error, match=message):
        cxr_gan.sample(params, [0, 1], **arguments)


@pytest.mark.parametrize("n", [3, N])
def test_images_within_jit_agree_up_to_rounding(params, images, n):
    @jax.jit
    def generate(params, key, start, factor):
        return cxr_gan.sample(params, LABELS[-n:], key, start=start, truncation=factor)

    sampled = generate(params, KEY, N - n, 1.0)
    np.testing.assert_allclose(sampled, images[-n:], atol=ROUNDING)


def test_label_out_of_range_within_jit_gives_nan(params):
    sampled = jax.jit(cxr_gan.sample)(params, np.array([0, 2, -1]), 0)
    np.testing.assert_array_equal(np.isnan(sampled).all((1, 2, 3)), [False, True, True])


def test_vmap_over_keys_and_params_generates_images_of_each(params, images):
    keys = jnp.stack([jax.random.key(seed) for seed in (0, 1)])
    second = tiny_generator.params(seed=1)
    both = jax.tree.map(lambda *leaves: np.stack(leaves), params, second)
    sampled = jax.vmap(lambda p, key: cxr_gan.sample(p, LABELS[:3], key))(both, keys)
    other = cxr_gan.sample(second, LABELS[:3], 1)
    np.testing.assert_allclose(sampled[0], images[:3], atol=ROUNDING)
    np.testing.assert_allclose(sampled[1], other, atol=ROUNDING)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
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
        ({"rng": None}, TypeError, "give either rng, such as 0, or latents"),
        ({"rng": [0, 1]}, TypeError, "rng is list"),
        ({"rng": np.zeros(3, np.uint32)}, TypeError, r"rng is uint32 \[3\]"),
        ({"rng": jax.random.split(KEY)}, TypeError, r"key<fry> \[2\].*vmap"),
        ({"rng": -1}, ValueError, "rng=-1 is out of range; use an int"),
        ({"rng": 2**32}, ValueError, "from 0 to 4294967295"),
        ({"start": -1}, ValueError, "start=-1"),
        ({"start": 2**32}, ValueError, "start=4294967296 for 1 images is out of range"),
        ({"start": 0.5}, TypeError, "start=0.5 is not an int"),
        ({"truncation": -0.1}, ValueError, "truncation=-0.1 is out of range"),
        ({"truncation": float("nan")}, ValueError, "truncation=nan"),
        ({"params": {}}, TypeError, r"params is a dict; pass what cxr_gan.load"),
    ],
    ids=str,
)
def test_invalid_argument_is_refused(params, arguments, error, message):
    with pytest.raises(error, match=message):
        cxr_gan.sample(**{"params": params, "labels": [0], "rng": 0, **arguments})


def test_fingerprint_depends_on_weights_and_config_but_not_on_array_type(params):
    digest = sampler.fingerprint(params)
    assert len(digest) == 16
    assert sampler.fingerprint(jax.tree.map(jnp.asarray, params)) == digest
    renamed = dataclasses.replace(params.config, class_names=("A", "B"))
    assert sampler.fingerprint(params.replace(config=renamed)) != digest
    assert sampler.fingerprint(tiny_generator.params(seed=1)) != digest


def save(folder, config, state, *steps):
    """Saves checkpoints whose averaged generator is filled with the step number."""
    generator = dataclasses.asdict(generator_config(config, CLASS_NAMES))
    with checkpoint.Checkpoints(folder) as checkpoints:
        for step in steps:
            ema = jax.tree.map(lambda w, step=step: np.full_like(w, step), state.ema)
            now = state.replace(step=np.int32(step), ema=ema)
            meta = {"generator": generator, "kimg": step * 0.064}
            score = float(step != 2)  # step 2 is the best
            checkpoints.save(step, now.to_items(), meta, score)
        checkpoints.wait()


def test_load_returns_averaged_generator_of_newest_best_or_given_step(
    tmp_path, config, state
):
    folder = tmp_path / "run@home"
    save(folder, config, state, 1, 2, 3, 4)
    for suffix, step in (("", 4), ("@latest", 4), ("@best", 2), ("@3", 3)):
        loaded = cxr_gan.load(f"{folder}{suffix}")
        assert all((w == step).all() for w in jax.tree.leaves(loaded.params))
        assert loaded.config == generator_config(config, CLASS_NAMES)
        assert loaded.class_names == CLASS_NAMES
    assert jax.tree.structure(loaded.params) == jax.tree.structure(state.ema)
    assert cxr_gan.sample(loaded, ["NORMAL"], 0).shape == (1, 32, 32, 1)


@pytest.mark.parametrize("suffix", ["newest", "", "-3", "1.5"])
def test_load_refuses_unknown_suffix_and_lists_the_valid_ones(tmp_path, suffix):
    with pytest.raises(ValueError, match=r"not name a checkpoint; .* best, latest or"):
        cxr_gan.load(f"{tmp_path}@{suffix}")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"generator": {"name": "resnet", "depth": 3}}, "runs/old .*'depth'.* the"),
        ({"spec": {"name": "resnet"}}, "runs/old: another version .* use the"),
    ],
    ids=["unknown field", "version 0.1"],
)
def test_load_refuses_checkpoint_of_another_version(monkeypatch, meta, message):
    monkeypatch.setattr(checkpoint, "load_item", lambda *_: ({}, meta))
    with pytest.raises(ValueError, match=f"{message} version that trained it"):
        cxr_gan.load("runs/old")


def test_package_lists_its_public_names_and_imports_them_on_first_use():
    code = (
        "import sys, cxr_gan; early = set(sys.modules); "
        "assert {*cxr_gan.__all__} <= {*dir(cxr_gan)}; "
        "assert not {'jax', 'flax', 'tensorflow'} & early; "
        "from cxr_gan import GeneratorParams, load, sample; load('pediatric64'); "
        "assert not {'tensorflow', 'orbax', 'optax'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="'cxr_gan' has no attribute 'smaple'"):
        _ = cxr_gan.smaple
