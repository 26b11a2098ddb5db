"""The flags of the commands that read a data set, named like the configuration keys."""

import dataclasses
from typing import Any

from absl import flags

from cxr_gan.data.listing import ON_ERROR, VIEWS, ManifestOptions, ReadOptions

flags.disclaim_key_flags()  # so that --help of each command lists them
MANIFEST_HELP = {
    "file": "Column of the manifest with the file names.",
    "label": "Column with the labels; several columns of 0 and 1 as 'A,B'.",
    "patient": "Column with the patients.",
    "split": "Column with train, val or test; or lists: train=a.txt,test=b.txt.",
    "view": "Column with the views, such as PA, AP or lateral.",
    "where": "Rows to use, such as \"view in ['PA', 'AP'] and age >= 18\".",
    "classes": "Class of each label, such as 'Pneumonia=PNEUMONIA,No Finding=NORMAL'.",
    "images": "Folder of the files; by default that of the manifest.",
}


def define(values: flags.FlagValues) -> None:
    """Defines the flags of `options`."""
    own: dict[str, Any] = {"flag_values": values}
    for field in dataclasses.fields(ManifestOptions):
        help_text = MANIFEST_HELP[field.name]
        flags.DEFINE_string(f"manifest.{field.name}", "", help_text, **own)
    flags.DEFINE_string(
        "patient_pattern",
        "",
        "Regular expression that finds the patient in a file name: its first group, "
        "or else the match.",
        **own,
    )
    flags.DEFINE_enum(
        "views", VIEWS[0], VIEWS, "Views of the radiographs to read.", **own
    )
    flags.DEFINE_enum(
        "on_error",
        ON_ERROR[0],
        ON_ERROR,
        "What to do about damaged, black or constant images: stop and list them all, "
        "or skip and count them.",
        **own,
    )


def options(values: flags.FlagValues) -> ReadOptions:
    """How to read the data set, from the flags of `define`."""
    manifest = {
        field.name: str(values[f"manifest.{field.name}"].value)
        for field in dataclasses.fields(ManifestOptions)
    }
    return ReadOptions(
        ManifestOptions(**manifest),
        values.patient_pattern,
        values.views,
        values.on_error,
    )
