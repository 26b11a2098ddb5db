"""benchmarks.germs: shares and coverage of both pathogens, and its command."""

import numpy as np
import pytest
from absl import flags
from PIL import Image

from benchmarks import germs
from cxr_gan.data import Dataset, ImageSet
from cxr_gan.evaluation import image_sets

SIDE = 64


def lungs(germ, rng):
    """One lung white (bacteria) or both grey (virus): uint8 [64, 64, 1]."""
    image = rng.normal(60, 8, (SIDE, SIDE))
    image[:, :32] += 90 if germ == 0 else 30
    image[:, 32:] += 0 if germ == 0 else 30
    return np.clip(image, 0, 255).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def real():
    """Normal images, and pneumonia of both pathogens; one image of each per patient."""
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
    return image_sets.split_reference(Dataset(train, val, ("NORMAL", "PNEUMONIA"), ""))


def generated(share_viral, n=40):
    rng = np.random.default_rng(1)
    return np.stack([lungs(int(i < share_viral * n), rng) for i in range(n)])


def test_pathogens_come_from_file_names_and_normal_images_are_excluded(real):
    images, pathogens = germs.germs_of(real.train)
    assert len(images) == len(pathogens) == 120
    assert np.bincount(pathogens).tolist() == [60, 60]
    assert set(images.labels) == {1}


def test_file_names_without_pathogens_are_refused(real):
    normals = real.train.take(real.train.labels == 0)
    with pytest.raises(ValueError, match="no image of half A or B is named after bac"):
        germs.germs_of(normals)


def test_missing_pathogen_lowers_share_and_coverage(real):
    both, _ = germs.measure(generated(0.5), real, steps=60)
    one, viral = germs.measure(generated(0.0), real, steps=60)
    assert both["viral"]["generated"][0] == pytest.approx(0.5, abs=0.05)
    assert one["viral"]["generated"][0] == 0
    assert 0 < one["viral"]["generated"][2] < 0.2  # an interval even for a share of 0
    assert both["viral"]["real"] == one["viral"]["real"]
    assert min(accuracy for accuracy, *_ in both["accuracy"].values()) > 0.9
    of_one, of_both = (f["coverage"]["cxr"]["virus"] for f in (one, both))
    assert of_one["generated"] < 0.2 < 0.5 < of_both["generated"]
    assert of_one["real"] == of_both["real"] > 0.5
    assert (viral < 0.5).all()
    text = germs.text(one)
    assert "| predicted as viral | 0 % (0 to" in text
    assert "40 generated images of pneumonia" in text


def test_more_images_than_in_half_a_are_refused(real):
    with pytest.raises(
        ValueError, match=r"fewer than the 200 generated; give --num=\d+"
    ):
        germs.measure(generated(0.5, 200), real, steps=1)


def test_picture_shows_the_most_certain_predictions_of_each_pathogen(real):
    images = generated(0.5, 64)
    grid = germs.picture(images, np.linspace(1, 0, 64))
    assert grid.shape[0] == 4 * (SIDE + 2) + 2
    tile = SIDE + 2
    last = grid[2 : 2 + SIDE, -tile:-2]
    assert np.array_equal(
        last, images[63 - 7, ..., 0]
    )  # the eighth most certain bacterial image
    below = grid[2 + 2 * tile : 2 + 2 * tile + SIDE, -tile:-2]
    assert np.array_equal(below, images[7, ..., 0])


def command(*arguments):
    values = flags.FlagValues()
    germs.define_flags(values)
    values(["germs", "--dataset=phantom:60", *arguments])
    return germs.main(["germs"], values)


def test_page_gets_table_results_and_picture(real, tmp_path, monkeypatch):
    page = tmp_path / "quality.md"
    page.write_text("Words.\n<!-- germs -->\n<!-- end of germs -->\n")
    monkeypatch.setattr(germs.data, "load", lambda *_, **__: None)
    monkeypatch.setattr(germs.image_sets, "split_reference", lambda _: real)
    arguments = ("--model=pediatric64", f"--out={page}", "--num=32", "--steps=2")
    assert command(*arguments) == 0
    assert "| predicted as viral |" in page.read_text()
    assert (tmp_path / "quality.germs.json").is_file()
    with Image.open(tmp_path / "germs.png") as picture:
        assert picture.mode == "L"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--label=COVID",),
            "--label=COVID: not a class of the model; give one of NORMAL, PNEUMONIA",
        ),
        (("--out=none.md",), "no such page"),
        (("--model=none",), "none"),
    ],
)
def test_invalid_arguments_are_refused(tmp_path, capsys, arguments, message):
    page = tmp_path / "quality.md"
    page.write_text("<!-- germs -->\n<!-- end of germs -->\n")
    assert command("--model=pediatric64", f"--out={page}", *arguments) == 1
    assert message in capsys.readouterr().err
