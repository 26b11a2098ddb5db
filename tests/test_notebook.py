"""The public ACGAN that quality at equal time is compared with: it trains and draws."""

import numpy as np
import pytest
from absl import flags

from cxr_gan import given

pytest.importorskip("keras", reason="Keras is not installed")
from benchmarks.rivals import notebook, public_acgan, published
from benchmarks.rivals.public_acgan import PublicAcgan


def command(*typed):
    values = flags.FlagValues()
    notebook.define_flags(values)
    return notebook.main(values(["notebook", *typed]), values)


def test_it_trains_for_so_long_and_draws_both_classes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notebook, "DRAWN", 40)
    # TensorFlow refuses once another test has used it.
    monkeypatch.setattr(public_acgan, "use_threads", lambda cores: None)
    learnt, learn = [], PublicAcgan.learn

    def seen(self, real, label):
        learnt.append((real.min(), real.max(), np.bincount(label).tolist()))
        learn(self, real, label)

    monkeypatch.setattr(PublicAcgan, "learn", seen)
    out = tmp_path / "new" / "drawn.npz"
    typed = ["--dataset=phantom:64", f"--out={out}", "--minutes=0.01"]
    assert command(*typed) == 0
    shown = len(learnt) * notebook.BATCH / 1000
    assert f"{shown:g} kimg in 0.01 minutes of CPU; wrote" in capsys.readouterr().out
    assert learnt[0][0] < -0.5 and learnt[0][1] > 0.5 and learnt[0][2] == [8, 8]
    read = given.read(str(out))
    labels = read.labels(("NORMAL", "PNEUMONIA"))
    assert read.images.shape == (40, 64, 64, 1) and read.images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(labels), [20, 20])
    assert command(*typed) == 1
    assert "is there already; give another --out" in capsys.readouterr().err
    assert command(typed[0], f"--out={tmp_path / 'drawn'}") == 1
    assert "give a name that ends in .npz" in capsys.readouterr().err


def test_d_learns_from_both_at_once_and_g_from_twice_as_many(monkeypatch):
    monkeypatch.setattr(public_acgan, "use_threads", lambda cores: None)
    rules = published.rules_of(published.measured(16, 64))
    acgan, given = public_acgan.build(rules, cores=1), {}
    for name, network in (("d", acgan.d), ("g", acgan.stacked)):

        def keep(x, y, name=name, network=network):
            given[name] = (x, y, network.trainable and acgan.d.trainable)

        monkeypatch.setattr(network, "train_on_batch", keep)
    real, label = np.full((16, 64, 64, 1), 0.5, np.float32), np.ones(16, np.int32)
    acgan.learn(real, label)
    image, (target, classes), learns = given["d"]
    assert learns and image.shape == (32, 64, 64, 1)
    np.testing.assert_array_equal(image[:16], real)
    assert 0.8 <= target[:16].min() < target[:16].max() <= 1
    assert 0 <= target[16:].min() < target[16:].max() <= 0.2
    np.testing.assert_array_equal(classes[:16], label)
    assert set(classes[16:]) == {0, 1}
    (z, asked), (trick, of_g), learns = given["g"]
    assert not learns and z.shape == (32, 100)
    assert -1 <= z.min() < -0.9 and 0.9 < z.max() <= 1
    np.testing.assert_array_equal(asked, of_g)
    assert trick.min() == 1 and len(trick) == 32


def test_the_layout_has_the_weights_the_notebook_prints():
    smaller = 49 - 16  # spots at the start, of 64 pixels a side in place of 112
    g = 22_303_108 - 101 * 1024 * smaller - 101 * smaller - 2 * (25 * 128 + 1)
    d = 1_672_900 - 512 * smaller * (1 + 3) - 2 * 9 * 32  # one channel, not three
    assert public_acgan.generator(3).count_params() == g
    assert public_acgan.discriminator(3).count_params() == d
