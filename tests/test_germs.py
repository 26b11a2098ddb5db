"""Whether both looks of pneumonia are drawn: the measure, and its command."""

import numpy as np
import pytest
from absl import flags
from PIL import Image

from benchmarks import germs
from cxr_gan import evaluation
from cxr_gan.data import Dataset, ImageSet

SIDE = 64


def lungs(germ, rng):
    """One side white (bacteria) or both grey (virus): uint8 [64, 64, 1]."""
    image = rng.normal(60, 8, (SIDE, SIDE))
    image[:, :32] += 90 if germ == 0 else 30
    image[:, 32:] += 0 if germ == 0 else 30
    return np.clip(image, 0, 255).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def real():
    """Normals, and pneumonias of both germs, one image a patient."""
    rng = np.random.default_rng(0)
    images, labels, ids = [], [], []
    for patient in range(120):
        germ = patient % 2
        images.append(lungs(germ, rng))
        labels.append(1)
        ids.append(f"train/PNEUMONIA/person{patient}_{germs.GERMS[germ]}_1.jpeg")
        images.append(lungs(germ, rng)[::-1])
        labels.append(0)
        ids.append(f"train/NORMAL/IM-{patient:04}-0001.jpeg")
    train = ImageSet(np.stack(images), np.array(labels, np.int32), tuple(ids))
    val = train.take(np.zeros(len(train), bool))
    return evaluation.divide(Dataset(train, val, ("NORMAL", "PNEUMONIA"), ""))


def drawn(share_viral, n=40):
    rng = np.random.default_rng(1)
    return np.stack([lungs(int(i < share_viral * n), rng) for i in range(n)])


def test_germs_are_told_by_file_names_and_normals_left_out(real):
    images, found = germs.germs_of(real.train)
    assert len(images) == len(found) == 120
    assert np.bincount(found).tolist() == [60, 60]
    assert set(images.labels) == {1}


def test_other_names_than_the_paediatric_sets_are_refused(real):
    normals = real.train.take(real.train.labels == 0)
    with pytest.raises(ValueError, match="no image of half A or B is named after bac"):
        germs.germs_of(normals)


def test_a_look_that_is_never_drawn_shows_in_share_and_coverage(real):
    both, _ = germs.measure(drawn(0.5), real, steps=60)
    one, viral = germs.measure(drawn(0.0), real, steps=60)
    assert both["viral"]["generated"][0] == pytest.approx(0.5, abs=0.05)
    assert one["viral"]["generated"][0] == 0
    assert 0 < one["viral"]["generated"][2] < 0.2  # an interval, even of none
    assert both["viral"]["real"] == one["viral"]["real"]
    assert min(right for right, *_ in both["right"].values()) > 0.9
    of_one, of_both = (f["coverage"]["cxr"]["virus"] for f in (one, both))
    assert of_one["generated"] < 0.2 < 0.5 < of_both["generated"]
    assert of_one["real"] == of_both["real"] > 0.5
    assert (viral < 0.5).all()
    told = germs.text(one)
    assert "| called viral by the judge | 0 % (0 to" in told
    assert "40 images of pneumonia" in told


def test_more_images_than_half_a_has_are_refused(real):
    with pytest.raises(ValueError, match=r"fewer than the 200 drawn; give --num=\d+"):
        germs.measure(drawn(0.5, 200), real, steps=1)


def test_the_surest_of_each_germ_are_shown(real):
    images = drawn(0.5, 64)
    shown = germs.picture(images, np.linspace(1, 0, 64))
    assert shown.shape[0] == 4 * (SIDE + 2) + 2
    tile = SIDE + 2
    last = shown[2 : 2 + SIDE, -tile:-2]
    assert np.array_equal(last, images[63 - 7, ..., 0])  # the eighth surest bacterial
    below = shown[2 + 2 * tile : 2 + 2 * tile + SIDE, -tile:-2]
    assert np.array_equal(below, images[7, ..., 0])


def command(*words):
    values = flags.FlagValues()
    germs.define_flags(values)
    values(["germs", "--dataset=phantom:60", *words])
    return germs.main(["germs"], values)


def test_the_page_gets_table_figures_and_picture(real, tmp_path, monkeypatch):
    page = tmp_path / "quality.md"
    page.write_text("Words.\n<!-- germs -->\n<!-- end of germs -->\n")
    monkeypatch.setattr(germs.data, "load", lambda *_, **__: None)
    monkeypatch.setattr(germs.evaluation, "divide", lambda _: real)
    words = ("--model=pediatric64", f"--out={page}", "--num=32", "--steps=2")
    assert command(*words) == 0
    assert "| called viral by the judge |" in page.read_text()
    assert (tmp_path / "quality.germs.json").is_file()
    with Image.open(tmp_path / "germs.png") as shown:
        assert shown.mode == "L"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--label=COVID",), "--label=COVID: give a class of it, NORMAL, PNEUMONIA"),
        (("--out=none.md",), "no such page"),
        (("--model=none",), "none"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, capsys, words, complaint):
    page = tmp_path / "quality.md"
    page.write_text("<!-- germs -->\n<!-- end of germs -->\n")
    assert command("--model=pediatric64", f"--out={page}", *words) == 1
    assert complaint in capsys.readouterr().err
