"""Converts models published by version 0.1 of cxr_gan to the current card schema.

The weights stay byte for byte the same; only the keys of the card are renamed.
"""

import pathlib
from collections.abc import Callable
from typing import Any

from flax import traverse_util

from cxr_gan.config import REMOVED_KEYS, RENAMED_KEYS
from cxr_gan.sampling import pretrained

# Names of 0.1 -> names since 0.2, in each part of a card.
CARD = {"spec": "generator", "figures": "metrics"}
GENERATOR = {"embedding": "class_embedding_dim"}
METRICS = {  # on the validation split; "/CLASS" may follow
    "eval/fidelity": "eval/label_accuracy",
    "eval/repetition": "eval/ms_ssim_excess",
}
REPORT = {"figures": "metrics"}
REPORT_ROW = {"floor": "reference"}
REPORT_VALUES = {"label_fidelity": "label_accuracy", "judge": "classifier"}
# Key of a configuration -> whether a value of it needs a feature that 0.2 removed.
REMOVED_FEATURES: dict[str, Callable[[Any], bool]] = {
    "condition": lambda value: value != 0,
    "loss.classes": lambda value: value == "discriminating",
}


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
        return data, _convert_card(card, str(card_path))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{card_path}: not a card of version 0.1 ({error!r}); give the .npz of a "
            "model published by it"
        ) from error


def _convert_card(card: dict[str, Any], where: str) -> dict[str, Any]:
    """The card with the key names of the current schema.

    Args:
        card: card of version 0.1.
        where: name of its file, for error messages.

    Raises:
        ValueError: the model was trained with a feature that was removed since.
        KeyError, TypeError, AttributeError: it is not a card of version 0.1.
    """
    card = _rename(card, CARD)
    report = _rename(card["report"], REPORT)
    rows = [_rename(row, REPORT_ROW) for row in report["metrics"]]
    for row in rows:
        for key in ("metric", "space"):
            row[key] = REPORT_VALUES.get(row[key], row[key])
    metrics = {_metric(name): value for name, value in card["metrics"].items()}
    return {
        **card,
        "config": _convert_config(card["config"], where),
        "generator": _rename(card["generator"], GENERATOR),
        "metrics": metrics,
        "report": {**report, "metrics": rows},
    }


def _metric(name: str) -> str:
    """eval/fidelity/NORMAL -> eval/label_accuracy/NORMAL."""
    for old, new in METRICS.items():
        if name == old or name.startswith(f"{old}/"):
            return new + name.removeprefix(old)
    return name


def _convert_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """A nested training configuration with the current keys.

    Raises:
        ValueError: it uses a feature that was removed since.
    """
    flat = traverse_util.flatten_dict(config, sep=".")
    for key, is_removed in REMOVED_FEATURES.items():
        if is_removed(flat[key]):
            raise ValueError(
                f"{where}: the model was trained with {key}={flat[key]!r}, a feature "
                "that version 0.2 removed; use it with version 0.1"
            )
    kept = {key: value for key, value in flat.items() if key not in REMOVED_KEYS}
    nested: dict[str, Any] = traverse_util.unflatten_dict(
        _rename(kept, RENAMED_KEYS), sep="."
    )
    return nested


def _rename(content: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The same values in the same order, with some keys renamed."""
    return {names.get(key, key): value for key, value in content.items()}
