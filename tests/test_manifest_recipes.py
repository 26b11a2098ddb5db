"""The recipes of docs/manifests.md, on small imitations of their sets."""

import dataclasses
import re
import shlex

import pytest
from fenced import read, typed
from manifest_layouts import LAYOUTS, touch

from cxr_gan.data.formats.manifest import open_manifest
from cxr_gan.data.listing import ManifestOptions, ReadOptions

RSNA = "rsna/stage_2_train_images/00"
CHEXPERT = "CheXpert-v1.0-small/train/patient0000"
COVIDX = "covidx/train/SARS-10.1148rg.242035193-Fig8"
NOT_NAMED = "of a label that manifest.classes does not name"
# Heading -> of each command: the images with class, patient and view; what is left out.
EXPECTED = {
    "Manifests": [
        (
            [
                ("export/0001.dcm", "NORMAL", "P-0012", ""),
                ("export/deeper/0003.dcm", "NORMAL", "P-0013", ""),
                ("export/sub/0002.dcm", "PNEUMONIA", "P-0012", ""),
            ],
            {},
        )
    ],
    "RSNA Pneumonia": [
        (
            [
                (f"{RSNA}04cfab-14fd.dcm", "NO_PNEUMONIA", "0004cfab-14fd", ""),
                (f"{RSNA}313ee0-9eaa.dcm", "NO_PNEUMONIA", "00313ee0-9eaa", ""),
                (f"{RSNA}436515-870c.dcm", "PNEUMONIA", "00436515-870c", ""),
            ],
            {"a repeated row of a file": 1},
        ),
        (
            [
                (f"{RSNA}313ee0-9eaa.dcm", "NORMAL", "00313ee0-9eaa", ""),
                (f"{RSNA}436515-870c.dcm", "PNEUMONIA", "00436515-870c", ""),
            ],
            {NOT_NAMED: 1, "a repeated row of a file": 1},
        ),
    ],
    "NIH ChestX-ray14": [
        (
            [
                ("nih/images_001/images/00000002_000.png", "NORMAL", "2", "PA"),
                ("nih/images_002/images/00000001_001.png", "PNEUMONIA", "1", "PA"),
            ],
            {"not chosen by manifest.where": 1, "of a test split": 1, NOT_NAMED: 1},
        )
    ],
    "CheXpert": [
        (
            [
                (f"{CHEXPERT}1/study1/view1_frontal.jpg", "NORMAL", "", "AP"),
                (f"{CHEXPERT}2/study2/view1_frontal.jpg", "PNEUMONIA", "", "PA"),
            ],
            {
                "a lateral, decubitus or oblique view": 1,
                "of an uncertain label (-1)": 1,
                "without a label": 1,
            },
        )
    ],
    "VinDr-PCXR": [
        (
            [
                ("vindr-pcxr/train/13f4ab78.dicom", "NORMAL", "", ""),
                ("vindr-pcxr/train/4c6bb1ab.dicom", "PNEUMONIA", "", ""),
                ("vindr-pcxr/train/a5ed8a63.dicom", "PNEUMONIA", "", ""),
            ],
            {"without a label": 1},
        )
    ],
    "COVIDx": [
        (
            [
                ("covidx/train/16745_2_1.PNG", "COVID-19", "ANON56", ""),
                (f"{COVIDX}a-day0.jpeg", "pneumonia", "3", ""),
                (f"{COVIDX}b-day5.jpeg", "pneumonia", "3", ""),
            ],
            {},
        )
    ],
    "Hugging Face": [
        (
            [
                ("imagefolder/train/0001.png", "NORMAL", "", ""),
                ("imagefolder/train/0002.png", "PNEUMONIA", "", ""),
                ("imagefolder/validation/0001.png", "NORMAL", "", ""),
                ("imagefolder/validation/0002.png", "PNEUMONIA", "", ""),
            ],
            {"of a test split": 2},
        )
    ],
}


def recipes(heading: str) -> list[dict[str, str]]:
    """The flags of each command of `prepare` below a heading of the page."""
    parts = re.split(r"^#+ (.*)$", read("docs/manifests.md"), flags=re.MULTILINE)
    text = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    words = [shlex.split(command) for command in typed(text)]
    return [
        dict(word[2:].split("=", 1) for word in command[3:])
        for command in words
        if command[2] == "cxr_gan.prepare"
    ]


@pytest.mark.parametrize("heading", LAYOUTS)
def test_recipe_lists_the_images_of_its_layout(heading, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LAYOUTS[heading](tmp_path / "path/to", touch)
    commands = recipes(heading)
    assert len(commands) == len(EXPECTED[heading])
    names = [field.name for field in dataclasses.fields(ManifestOptions)]
    for flags, (images, left_out) in zip(commands, EXPECTED[heading], strict=True):
        given = {x: flags.pop(f"manifest.{x}", "") for x in names}
        listing = open_manifest(
            flags.pop("dataset"), ReadOptions(ManifestOptions(**given))
        )
        found = [
            (x.path.as_posix(), x.class_name, x.patient, x.view)
            for x in listing.entries
        ]
        assert found == [(f"path/to/{image[0]}", *image[1:]) for image in images]
        assert listing.left_out == left_out
        assert set(flags) == {"resolution", "out"}
