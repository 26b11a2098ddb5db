"""The public ACGAN that quality at equal time is compared with: it trains and draws."""

import numpy as np
import pytest
from absl import flags

from cxr_gan import given

pytest.importorskip("keras", reason="Keras is not installed")
from benchmarks.rivals import notebook, public_acgan
from benchmarks.rivals.stacked import Stacked


def command(*typed):
    values = flags.FlagValues()
    notebook.define_flags(values)
    return notebook.main(values(["notebook", *typed]), values)


def test_it_trains_for_so_long_and_draws_both_classes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notebook, "DRAWN", 40)
    # TensorFlow refuses once another test has used it.
    monkeypatch.setattr(public_acgan, "use_threads", lambda cores: None)
    learnt, learn = [], Stacked.learn

    def seen(self, real, label):
        learnt.append((real.min(), real.max(), np.bincount(label).tolist()))
        learn(self, real, label)

    monkeypatch.setattr(Stacked, "learn", seen)
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
