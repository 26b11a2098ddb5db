"""Converts models published by version 0.1 of cxr_gan to the current card schema.

The weights stay byte for byte the same; only the keys of the card are renamed.
"""

import pathlib
from typing import Any

from flax import traverse_util

from cxr_gan.config import REMOVED_KEYS, RENAMED_KEYS
from cxr_gan.sampling import pretrained

CARD_KEYS = {"spec": "generator", "figures": "metrics"}
GENERATOR_KEYS = {"embedding": "class_embedding_dim"}
REPORT_KEYS = {"figures": "metrics"}
ROW_KEYS = {"floor": "reference"}
# Names of metrics on the validation split; "/CLASS" may follow.
VALIDATION_METRICS = {
    "eval/fidelity": "eval/label_accuracy",
    "eval/repetition": "eval/ms_ssim_excess",
}
REPORT_METRICS = {"label_fidelity": "label_accuracy"}
REPORT_SPACES = {"judge": "classifier"}


def read_version_0_1(path: pathlib.Path) -> tuple[bytes, dict[str, Any]]:
    """The npz of a model published by version 0.1, unchanged, and its converted card.

    Args:
        path: NAME.npz; its card is NAME.json beside it.

    Raises:
        FileNotFoundError: one of the files does not exist.
        ValueError: a file is damaged or was changed, the card is not of version 0.1, or
            the model was trained with a feature that was removed since.
    """
    if path.suffix != pretrained.SUFFIX:
        raise ValueError(
            f"--from={path} is not the .npz of a published model, and nothing else can "
            "be converted; give NAME.npz"
        )
    pretrained.require_both_files(path)
    card_path = path.with_suffix(".json")
    card = pretrained.read_card(card_path)
    if "schema" in card:
        raise ValueError(
            f"{card_path}: the card has schema {card['schema']!r}; only cards of "
            "version 0.1, which have none, can be converted: give one of these"
        )
    try:
        data = pretrained.read_weights(path, card)
        return data, convert_card(card, str(card_path))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{card_path}: not a card of version 0.1 ({error!r}); give the .npz of a "
            "model published by it"
        ) from error


def convert_card(card: dict[str, Any], where: str) -> dict[str, Any]:
    """The card with the key names of the current schema.

    Args:
        card: card of version 0.1.
        where: name of its file, for error messages.

    Raises:
        ValueError: the model was trained with a feature that was removed since.
        KeyError, TypeError, AttributeError: it is not a card of version 0.1.
    """
    card = _rename(card, CARD_KEYS)
    return {
        **card,
        "config": convert_config(card["config"], where),
        "generator": _rename(card["generator"], GENERATOR_KEYS),
        "metrics": {
            _validation_metric(name): value for name, value in card["metrics"].items()
        },
        "report": _convert_report(card["report"]),
    }


def convert_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """A training configuration with the current keys.

    Args:
        config: nested dict of version 0.1.
        where: name of its file, for error messages.

    Raises:
        ValueError: it uses a feature that was removed since.
    """
    flat = traverse_util.flatten_dict(config, sep=".")
    for key, removed in (
        ("condition", flat["condition"] != 0),
        ("loss.classes", flat["loss.classes"] == "discriminating"),
    ):
        if removed:
            raise ValueError(
                f"{where}: the model was trained with {key}={flat[key]!r}, a feature "
                "that version 0.2 removed; use it with version 0.1"
            )
    kept = {key: value for key, value in flat.items() if key not in REMOVED_KEYS}
    renamed = _rename(kept, RENAMED_KEYS)
    nested: dict[str, Any] = traverse_util.unflatten_dict(renamed, sep=".")
    return nested


def _convert_report(report: dict[str, Any]) -> dict[str, Any]:
    """The evaluation report inside a card, with the current names."""
    report = _rename(report, REPORT_KEYS)
    rows = [
        {
            **_rename(row, ROW_KEYS),
            "metric": REPORT_METRICS.get(row["metric"], row["metric"]),
            "space": REPORT_SPACES.get(row["space"], row["space"]),
        }
        for row in report["metrics"]
    ]
    return {**report, "metrics": rows}


def _validation_metric(name: str) -> str:
    """eval/fidelity/NORMAL -> eval/label_accuracy/NORMAL."""
    for old, new in VALIDATION_METRICS.items():
        if name == old or name.startswith(f"{old}/"):
            return new + name.removeprefix(old)
    return name


def _rename(content: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The same values in the same order, with some keys renamed."""
    return {names.get(key, key): value for key, value in content.items()}
