"""The public ACGAN that cxr_gan is compared with at equal training time."""

import numpy as np
import pytest
from absl import flags

from cxr_gan.evaluation import image_input

pytest.importorskip("keras", reason="Keras is not installed")
from benchmarks.baselines import notebook, public_acgan, published
from benchmarks.baselines.public_acgan import PublicAcgan


@pytest.fixture(autouse=True)
def _keep_tensorflow_threads(monkeypatch):
    # TensorFlow raises an error if it has been used in another test.
    monkeypatch.setattr(public_acgan, "set_threads", lambda cores: None)


def run_command(*arguments):
    values = flags.FlagValues()
    notebook.define_flags(values)
    return notebook.main(values(["notebook", *arguments]), values)


def test_command_trains_for_the_given_time_and_writes_both_classes(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(notebook, "NUM_IMAGES", 40)
    batches, train_step = [], PublicAcgan.train_step

    def record(self, real, label):
        batches.append((real.min(), real.max(), np.bincount(label).tolist()))
        train_step(self, real, label)

    monkeypatch.setattr(PublicAcgan, "train_step", record)
    out = tmp_path / "new" / "images.npz"
    arguments = ["--dataset=phantom:64", f"--out={out}", "--minutes=0.01"]
    assert run_command(*arguments) == 0
    kimg = len(batches) * notebook.BATCH / 1000
    assert f"{kimg:g} kimg in 0.01 minutes of CPU; wrote" in capsys.readouterr().out
    assert batches[0][0] < -0.5 and batches[0][1] > 0.5 and batches[0][2] == [8, 8]
    written = image_input.read(str(out))
    labels = written.labels(("NORMAL", "PNEUMONIA"))
    assert written.images.shape == (40, 64, 64, 1) and written.images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(labels), [20, 20])
    assert run_command(*arguments) == 1
    assert "already exists; give another --out" in capsys.readouterr().err
    assert run_command(arguments[0], f"--out={tmp_path / 'images'}") == 1
    assert "give a name that ends in .npz" in capsys.readouterr().err


def test_d_trains_on_real_and_fake_at_once_and_g_on_twice_as_many(monkeypatch):
    settings = published.settings_of(published.benchmark_config(16, 64))
    acgan, calls = public_acgan.build(settings, cores=1), {}
    for name, network in (("d", acgan.d), ("g", acgan.stacked)):

        def record(x, y, name=name, network=network):
            calls[name] = (x, y, network.trainable and acgan.d.trainable)

        monkeypatch.setattr(network, "train_on_batch", record)
    real, label = np.full((16, 64, 64, 1), 0.5, np.float32), np.ones(16, np.int32)
    acgan.train_step(real, label)
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


def test_networks_have_as_many_weights_as_the_notebook_prints():
    fewer = 49 - 16  # pixels of the first stage, for 64 instead of 112 per side
    g = 22_303_108 - 101 * 1024 * fewer - 101 * fewer - 2 * (25 * 128 + 1)
    d = 1_672_900 - 512 * fewer * (1 + 3) - 2 * 9 * 32  # one channel, not three
    assert public_acgan.generator(3).count_params() == g
    assert public_acgan.discriminator(3).count_params() == d
