import hashlib
import json

import pytest

from cxr_gan.evaluation.report import dataset_card

RECORD = {
    "note": "Drawn by a generative model.",
    "model": "/home/anna/runs/a b",
    "model_hash": "ab" * 8,
    "step": 25000,
    "kimg": 400.0,
    "dataset": {"name": "x|y", "identity": "cd" * 32},
    "label": "all",
    "seed": 3,
    "truncation": 0.5,
    "format": "png",
    "bits": 8,
    "resolution": 64,
    "num": 3,
    "written": 3,
    "counts": {"NORMAL": 2, "A|B": 1},
    "software": {"cxr_gan": "1.2.3", "jax": "0.10"},
    "backend": "cpu",
}
PUBLISHED = {"licence": "CC BY 4.0, A. Author", "people": "Children, one hospital."}
TABLE = (
    "file,label,class_name,index,seed\nimages/NORMAL/NORMAL_00000.png,0,NORMAL,0,3\n"
)


def card(model=PUBLISHED, **changes):
    return dataset_card.readme({**RECORD, **changes}, model)


@pytest.fixture
def croissant(tmp_path):
    """croissant(format="npz", ...) -> the content of croissant.json."""

    def croissant(model=PUBLISHED, **changes):
        (tmp_path / "labels.csv").write_text(TABLE)
        (tmp_path / "images.npz").write_bytes(b"npz")
        dataset_card.write({**RECORD, **changes}, model, tmp_path)
        return json.loads((tmp_path / "croissant.json").read_text())

    return croissant


def test_card_begins_with_a_header_that_points_to_the_images():
    header, text = card().removeprefix("---\n").split("---\n", 1)
    assert "license: other\n" in header
    assert "- synthetic\n" in header and "- n<1K\n" in header
    assert "configs:\n- config_name: default\n  data_dir: images\n" in header
    assert text.startswith("\n# Synthetic chest radiographs by a b\n")


@pytest.mark.parametrize("kind", ["npz", "dicom"])
def test_card_of_files_that_imagefolder_cannot_read_has_no_configuration(kind):
    assert "config" not in card(format=kind) and "load_dataset" not in card(format=kind)


def test_card_names_model_seed_licence_and_use():
    text = card()
    for line in (
        "| model hash | abababababababab |",
        "| seed | 3 |",
        "| A\\|B | 1 |",
        "| training data | x\\|y, identity cdcdcdcdcdcdcdcd |",
        "## Intended use",
        "## What it is not for",
        "CC BY 4.0, A. Author",
        "The training images show: Children, one hospital.",
    ):
        assert f"{line}\n" in text


def test_card_of_a_run_says_that_no_licence_is_stated():
    assert "The model states no licence." in card(model={})
    assert "The training images show" not in card(model={})


def test_command_of_the_card_has_all_flags_and_no_folder_of_the_model():
    assert dataset_card.command(RECORD) == (
        "python -m cxr_gan.generate '--model=a b' --label=all --num=3 --seed=3 "
        "--truncation=0.5 --format=png --bits=8 --out=DIR"
    )
    assert "anna" not in card()


def test_card_of_a_stopped_command_says_so():
    assert "stopped after 2 of 3 images" in card(written=2)
    assert "stopped" not in card()


@pytest.mark.parametrize(
    ("written", "size"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (9_999_999, "1M<n<10M"), (10**7, "n>10M")],
)
def test_size_category_holds_the_number_of_images(written, size):
    assert f"\n- {size}\n" in card(written=written, num=written)


@pytest.mark.parametrize("kind", ["png", "dicom", "npz"])
def test_croissant_describes_the_files_and_every_column(croissant, kind):
    content = croissant(format=kind)
    assert content["@type"] == "sc:Dataset"
    assert content["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert content["license"] == PUBLISHED["licence"]
    images, table = content["distribution"]
    assert table["sha256"] == hashlib.sha256(TABLE.encode()).hexdigest()
    if kind == "npz":
        assert images["sha256"] == hashlib.sha256(b"npz").hexdigest()
    else:
        ending = {"png": "png", "dicom": "dcm"}[kind]
        assert images["includes"] == f"images/*/*.{ending}"
    fields = content["recordSet"][0]["field"]
    columns = ["file", "label", "class_name", "index", "seed"]
    assert [field["name"] for field in fields] == columns + ["image"] * (kind == "png")
