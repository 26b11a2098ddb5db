"""benchmarks.train_baseline and its baselines: recipe, public ACGAN, Gaussian."""

import numpy as np
import pytest
from absl import flags

from benchmarks import command_line, train_baseline
from benchmarks.baselines import Program, gaussian, published
from cxr_gan import data
from cxr_gan.evaluation import image_input

LABEL = np.arange(32, dtype=np.int32) % 2


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return data.load("phantom:60", 64, split_seed=0, cache_dir=cache)


# The command


@pytest.fixture
def command(phantoms, monkeypatch, tmp_path):
    """command(*flags): runs the command; returns the exit code."""
    monkeypatch.setattr(train_baseline.data, "load", lambda *_, **__: phantoms)
    monkeypatch.setattr(train_baseline, "NUM_IMAGES", 20)

    def command(*arguments):
        values = flags.FlagValues()
        command_line.define(train_baseline.define_flags, values)
        required = ("--dataset=phantom:60", f"--workdir={tmp_path / 'new' / 'run'}")
        values(["train_baseline", *required, *arguments])
        return command_line.main(train_baseline.measure, [""], values)

    return command


@pytest.fixture
def batches(monkeypatch):
    """Replaces the recipe; the batches that it was trained on."""
    batches = []

    def program(dataset, seed):
        def generate(labels):
            return np.full((len(labels), 64, 64), len(batches), np.uint8)

        return Program(generate, lambda *batch: batches.append(batch), 16)

    monkeypatch.setattr(
        train_baseline.importlib,
        "import_module",
        lambda _: type("Module", (), {"program": program}),
    )
    return batches


def test_images_are_written_at_intervals_and_at_the_end(
    command, batches, tmp_path, capsys
):
    arguments = ("--baseline=recipe", "--kimg=2.5", "--save_kimg=1")
    assert command(*arguments) == 0
    assert len(batches) == 157
    image, label = batches[0]
    assert image.dtype == np.uint8 and image.shape == (16, 64, 64, 1)
    assert np.bincount(label).tolist() == [8, 8]
    folder = tmp_path / "new" / "run"
    assert [path.name for path in sorted(folder.iterdir())] == [
        *("1.npz", "2.npz", "3.npz")
    ]
    images = image_input.read(str(folder / "2.npz"))
    assert images.images.shape == (20, 64, 64, 1) and images.images.max() == 125
    assert np.bincount(images.labels(("NORMAL", "PNEUMONIA"))).tolist() == [10, 10]
    assert "| 1.008 |" in capsys.readouterr().out
    assert command(*arguments) == 1
    assert "exists already; give another --workdir" in capsys.readouterr().err


def test_training_ends_after_the_given_cpu_time(command, batches, monkeypatch):
    times = iter(range(100))  # each step takes a second
    monkeypatch.setattr(train_baseline.time, "process_time", lambda: next(times))
    assert command("--baseline=recipe", "--kimg=0", "--minutes=0.1") == 0
    assert len(batches) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kimg=0",), "give --kimg or --minutes above 0"),
        (("--resolution=128",), "--resolution=128: recipe has 64 px"),
    ],
)
def test_invalid_flags_are_refused(command, batches, arguments, message, capsys):
    assert command("--baseline=recipe", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not batches


def test_gaussian_is_fitted_and_written_at_once(command, tmp_path):
    assert command("--baseline=gaussian") == 0
    assert image_input.read(str(tmp_path / "new/run/0.npz")).images.std() > 10


# The Gaussian


def test_samples_have_the_mean_and_covariance_of_the_images():
    """With images of 8 x 8 pixels that vary along two directions only."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(64, 2)))[0]
    images = 128 + rng.normal(size=(4_000, 2)) * [60, 30] @ directions.T
    images = np.round(images).astype(np.uint8).reshape(-1, 8, 8, 1)
    samples = gaussian.sample(images, 2, 4_000, rng).reshape(4_000, 64)
    real = images.reshape(4_000, 64).astype(float)
    np.testing.assert_allclose(samples.mean(0), real.mean(0), atol=2)
    for axis, deviation in zip(directions.T, (60, 30), strict=True):
        assert (samples @ axis).std() == pytest.approx(deviation, rel=0.05)
    rest = samples - samples.mean(0)
    rest = rest - rest @ directions @ directions.T
    assert rest.std() < 0.5  # only rounding


# The public ACGAN


@pytest.fixture
def acgan(monkeypatch):
    pytest.importorskip("keras", reason="Keras is not installed")
    from benchmarks.baselines import public_acgan

    # TensorFlow raises an error if it has been used in another test.
    monkeypatch.setattr(public_acgan, "set_threads", lambda cores: None)
    return public_acgan


@pytest.mark.slow
def test_public_acgan_trains_on_a_batch_and_generates_both_classes(acgan, phantoms):
    program = acgan.program(phantoms, seed=0)
    program.train_step(phantoms.train.images[:16], LABEL[:16])
    images = program.generate(LABEL)
    assert images.shape == (32, 64, 64) and images.dtype == np.uint8
    assert images.std() > 1


def test_d_trains_on_real_and_fake_at_once_and_g_on_twice_as_many(acgan, monkeypatch):
    settings = published.settings_of(published.benchmark_config(16, 64))
    gan, calls = acgan.build(settings, cores=1), {}
    for name, network in (("d", gan.d), ("g", gan.stacked)):

        def record(x, y, name=name, network=network):
            calls[name] = (x, y, network.trainable and gan.d.trainable)

        monkeypatch.setattr(network, "train_on_batch", record)
    real, label = np.full((16, 64, 64, 1), 0.5, np.float32), np.ones(16, np.int32)
    gan.train_step(real, label)
    image, (target, classes), d_trainable = calls["d"]
    assert d_trainable and image.shape == (32, 64, 64, 1)
    np.testing.assert_array_equal(image[:16], real)
    assert 0.8 <= target[:16].min() < target[:16].max() <= 1
    assert 0 <= target[16:].min() < target[16:].max() <= 0.2
    np.testing.assert_array_equal(classes[:16], label)
    assert set(classes[16:]) == {0, 1}
    (z, label_in), (target, label_out), d_trainable = calls["g"]
    assert not d_trainable and z.shape == (32, 100)
    assert -1 <= z.min() < -0.9 and 0.9 < z.max() <= 1
    np.testing.assert_array_equal(label_in, label_out)
    assert target.min() == 1 and len(target) == 32


def test_networks_have_as_many_weights_as_the_notebook_prints(acgan):
    fewer = 49 - 16  # pixels of the first stage, for 64 instead of 112 per side
    g = 22_303_108 - 101 * 1024 * fewer - 101 * fewer - 2 * (25 * 128 + 1)
    d = 1_672_900 - 512 * fewer * (1 + 3) - 2 * 9 * 32  # one channel, not three
    assert acgan.generator(3).count_params() == g
    assert acgan.discriminator(3).count_params() == d


# The recipe


@pytest.fixture
def torch():
    return pytest.importorskip(
        "torch", reason="PyTorch is not installed: pip install -e '.[bench]'"
    )


@pytest.fixture
def recipe(torch):
    from benchmarks.baselines import recipe

    torch.set_num_threads(1)
    return recipe.Recipe(num_classes=2, seed=0)


def test_step_updates_both_networks_and_the_ema(torch, recipe):
    networks = (recipe.g, recipe.d, recipe.ema)
    before = [[p.detach().clone() for p in net.parameters()] for net in networks]
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 1), np.uint8)
    recipe.train_step(image, LABEL)
    after = [[*net.parameters()] for net in networks]
    for old, new in zip(before[:2], after[:2], strict=True):
        assert any((a != b).any() for a, b in zip(old, new, strict=True))
    for old, weight, mean in zip(before[2], after[0], after[2], strict=True):
        torch.testing.assert_close(mean, old + 0.002 * (weight - old))
    assert all(p.requires_grad for p in recipe.d.parameters())
    assert all(p.grad is None for p in (*after[0], *after[1]))
    images = recipe.generate(LABEL, seed=0)
    assert images.shape == (32, 64, 64) and images.dtype == np.uint8


def test_weights_of_d_have_spectral_norm_1(torch, recipe):
    x = torch.randn(4, 1, 64, 64)
    for _ in range(30):  # each call runs one power iteration
        recipe.d(x)
    recipe.d.eval()
    for layer in (*recipe.d.convs, recipe.d.realness, recipe.d.pathology):
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=0.05)
