"""The card of a folder of generated images: README.md and croissant.json.

README.md has the YAML header that Hugging Face reads. croissant.json follows Akhtar et
al. 2024, "Croissant: A Metadata Format for ML-Ready Datasets", version 1.0.
"""

import hashlib
import json
import pathlib
import shlex
from typing import Any

from cxr_gan.evaluation.report.templates import environment
from cxr_gan.sampling.image_files import ARCHIVE, LABELS
from cxr_gan.storage import files

# What https://huggingface.co/docs/hub/datasets-cards calls size_categories.
SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
}
LARGEST = "n>10M"
UNKNOWN_LICENCE = (
    "The model states no licence. That of its training data applies: find it before "
    "you share these images."
)
FILES = {  # --format -> (what is in the folder, media type)
    "png": ("images/*/*.png", "image/png"),
    "dicom": ("images/*/*.dcm", "application/dicom"),
    "npz": (ARCHIVE, "application/octet-stream"),
}
DATA_TYPES = {"label": "sc:Integer", "index": "sc:Integer", "seed": "sc:Integer"}
# Terms of Croissant 1.0 by their namespace; readers compare all of it.
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        term: f"cr:{term}"
        for term in (
            *("citeAs", "column", "equivalentProperty", "extract", "field"),
            *("fileObject", "fileProperty", "fileSet", "format", "includes"),
            *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path"),
            *("recordSet", "references", "regex", "repeated", "replace"),
            *("samplingRate", "separator", "source", "subField", "transform"),
        )
    },
}


def write(record: dict[str, Any], model: dict[str, Any], out: pathlib.Path) -> None:
    """Writes both files beside images that are complete.

    Args:
        record: content of generation.json.
        model: metadata of the model; "licence" and "people" are those of a published
            one.
        out: the folder, which has labels.csv.

    Raises:
        files.DiskError: a file cannot be written.
    """
    files.write_text(out / "README.md", readme(record, model))
    files.write_text(out / "croissant.json", as_json(croissant(record, model, out)))


def as_json(content: dict[str, Any]) -> str:
    """Indented JSON that ends in a line break."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def title(record: dict[str, Any]) -> str:
    """The name of the data set."""
    return f"Synthetic chest radiographs by {files.last_name(record['model'])}"


def readme(record: dict[str, Any], model: dict[str, Any]) -> str:
    """The card as Markdown with a YAML header.

    Args:
        record: content of generation.json.
        model: see `write`.
    """
    sizes = (name for limit, name in SIZES.items() if record["written"] < limit)
    template = environment().get_template("dataset_card.md.jinja")
    return template.render(
        command=command(record),
        licence=model.get("licence", ""),
        unknown_licence=UNKNOWN_LICENCE,
        people=model.get("people", ""),
        record=record,
        size=next(sizes, LARGEST),
        title=title(record),
    )


def command(record: dict[str, Any]) -> str:
    """The command that generates these images again, without the model's folder."""
    shown = {**record, "model": files.last_name(record["model"])}
    keys = ("model", "label", "num", "seed", "truncation", "format", "bits")
    flags = [shlex.quote(f"--{key}={shown[key]}") for key in keys]
    return " ".join(("python -m cxr_gan.generate", *flags, "--out=DIR"))


def croissant(
    record: dict[str, Any], model: dict[str, Any], out: pathlib.Path
) -> dict[str, Any]:
    """The card as Croissant, for the images that labels.csv lists.

    Args:
        record: content of generation.json.
        model: see `write`.
        out: the folder, which has labels.csv.
    """
    pattern, media_type = FILES[record["format"]]
    images: dict[str, Any] = {"@id": "images", "encodingFormat": media_type}
    if record["format"] == "npz":
        images |= _file_object(out / pattern)
    else:
        images |= {"@type": "cr:FileSet", "name": "images", "includes": pattern}
    table = {"@id": LABELS, "encodingFormat": "text/csv", **_file_object(out / LABELS)}
    columns = (out / LABELS).read_text(encoding="utf-8").partition("\n")[0].split(",")
    fields = [_column(name) for name in columns]
    if record["format"] == "png":
        # Joined by the last part of the path, as mlcroissant 1.1 joins no full paths.
        fields[0]["source"]["transform"] = {"regex": ".*/(.+)$"}
        fields[0]["references"] = {
            "fileSet": {"@id": "images"},
            "extract": {"fileProperty": "filename"},
        }
        fields.append(
            {
                "@type": "cr:Field",
                "@id": "samples/image",
                "name": "image",
                "dataType": "sc:ImageObject",
                "source": {
                    "fileSet": {"@id": "images"},
                    "extract": {"fileProperty": "content"},
                },
            }
        )
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": title(record),
        "description": (
            f"{record['written']} synthetic chest radiographs. {record['note']} Model "
            f"{record['model_hash']}, seed {record['seed']}."
        ),
        "license": model.get("licence", UNKNOWN_LICENCE),
        "keywords": ["synthetic data", "chest radiograph", "generative model"],
        "creator": {"@type": "sc:Organization", "name": "cxr_gan"},
        "version": record["software"]["cxr_gan"],
        "isLiveDataset": False,
        "distribution": [images, table],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "field": fields,
            }
        ],
    }


def _file_object(path: pathlib.Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject",
        "name": path.name,
        "contentUrl": path.name,
        "sha256": digest,
    }


def _column(name: str) -> dict[str, Any]:
    """The field of a column of labels.csv."""
    return {
        "@type": "cr:Field",
        "@id": f"samples/{name}",
        "name": name,
        "dataType": DATA_TYPES.get(name, "sc:Text"),
        "source": {"fileObject": {"@id": LABELS}, "extract": {"column": name}},
    }
