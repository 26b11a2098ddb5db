"""The configuration of a training run: its types, and checks of its values.

configs/acgan.py holds all keys, their defaults and their units. A configuration file
and the command line give an ml_collections.ConfigDict; `check` validates it and
`freeze` turns it into the dataclasses below, which the rest of the package reads.
"""

import dataclasses
import difflib
import functools
import json
import math
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flax import traverse_util
from ml_collections import ConfigDict

from cxr_gan.data.listing import ON_ERROR, VIEWS, ManifestOptions, ReadOptions
from cxr_gan.losses import ADVERSARIAL, CLASS_LOSSES
from cxr_gan.models.registry import DISCRIMINATORS, GENERATORS
from cxr_gan.runtime import config_files

RESOLUTIONS = (32, 64, 128, 256, 512)
COMPUTE_DTYPES = ("float32", "bfloat16")
Rule = tuple[Callable[[Any], bool], str]  # whether a value passes; what to give instead


def _key(passes: Callable[[Any], bool], advice: str) -> Any:
    """A field of a configuration whose values must pass a rule."""
    return dataclasses.field(metadata={"rule": (passes, advice)})


def _one_of(names: Sequence[Any]) -> Any:
    return _key(lambda x: x in names, "give one of " + ", ".join(map(str, names)))


def _at_least(least: int, why: str = "") -> Any:
    return _key(lambda x: x >= least, f"give {least} or more{why}")


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


_positive = functools.partial(_key, lambda x: x > 0, "give a number above 0")
_not_negative = functools.partial(_key, lambda x: x >= 0, "give 0 or more")
_fraction = functools.partial(_key, lambda x: 0 <= x <= 1, "give a number from 0 to 1")
_beta = functools.partial(
    _key, lambda x: 0 <= x < 1, "give a number from 0 to below 1, as 0.99"
)


@dataclasses.dataclass(frozen=True)
class DiscriminatorSettings:
    """config.discriminator."""

    name: str = _one_of([*DISCRIMINATORS])
    features_at_32: int = _at_least(8)
    max_features: int = _positive()


@dataclasses.dataclass(frozen=True)
class GeneratorSettings:
    """config.generator."""

    name: str = _one_of([*GENERATORS])
    features_at_32: int = _at_least(8)
    max_features: int = _positive()
    class_embedding_dim: int = _positive()


@dataclasses.dataclass(frozen=True)
class ClassWeight:
    """config.loss.class_weight: weights of the class loss in D's and in G's update."""

    d: float = _not_negative()
    g: float = _not_negative()


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """config.loss."""

    class_weight: ClassWeight
    adversarial: str = _one_of([*ADVERSARIAL])
    class_loss: str = _key(
        lambda x: x in CLASS_LOSSES,
        f"give one of {', '.join(CLASS_LOSSES)} (0.2 removed discriminating)",
    )
    diversity_weight: float = _not_negative()
    spectrum_weight: float = _not_negative()
    pair_weight: float = _not_negative()
    r1_weight: float = _not_negative()
    r2_weight: float = _not_negative()
    r1_interval: int = _positive()


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """config.augment: strengths of the policies, and whether they adapt."""

    adaptive: bool
    brightness: float = _key(lambda x: 0 <= x <= 2, "give a number from 0 to 2")
    contrast: float = _fraction()
    translation: float = _fraction()
    cutout: float = _fraction()


@dataclasses.dataclass(frozen=True)
class BalanceConfig:
    """config.balance; see training.gd_balance."""

    enabled: bool
    low: float
    high: float
    strength: float = _not_negative()
    halflife_kimg: float = _positive()


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """config.optimizer_d and config.optimizer_g."""

    learning_rate: float = _positive()
    beta1: float = _beta()
    beta2: float = _beta()


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked configuration; configs/acgan.py documents every key."""

    generator: GeneratorSettings
    discriminator: DiscriminatorSettings
    loss: LossConfig
    augment: AugmentConfig
    balance: BalanceConfig
    optimizer_d: OptimizerConfig
    optimizer_g: OptimizerConfig
    manifest: ManifestOptions
    init: str
    init_classes: str
    seed: int = _key(
        lambda x: 0 <= x < 2**31, "give a whole number from 0 to 2147483647"
    )
    dataset: str = _key(
        bool,
        'give "phantom", a folder, a manifest, a prepared set, an .npz file or '
        '"tfds:NAME"',
    )
    resolution: int = _one_of(RESOLUTIONS)
    base_resolution: int = _one_of((0, *RESOLUTIONS))
    samples_per_class: tuple[int, ...] = _key(
        lambda x: bool(x) and all(type(n) is int and n >= 0 for n in x),
        "give whole numbers of 0 or more, as (100,) or (100, 0); 0 = all",
    )
    split_seed: int = _not_negative()
    patient_pattern: str = _key(_is_pattern, "give a regular expression")
    views: str = _one_of(VIEWS)
    on_error: str = _one_of(ON_ERROR)
    latent_size: int = _positive()
    compute_dtype: str = _one_of(COMPUTE_DTYPES)
    stddev_group_per_class: int = _at_least(2, ": D compares the images of a group")
    lr_decay_fraction: float = _fraction()
    ema_halflife_kimg: float = _positive()
    ema_rampup: float = _positive()
    batch_size: int = _positive()
    total_kimg: float = _positive()
    max_minutes: float = _not_negative()
    log_kimg: float = _positive()
    sample_kimg: float = _positive()
    eval_kimg: float = _not_negative()
    checkpoint_kimg: float = _positive()
    on_nan: str = _one_of(("stop", "rollback"))
    max_rollbacks: int = _not_negative()

    @property
    def read_options(self) -> ReadOptions:
        """How the data set is read."""
        return ReadOptions(
            self.manifest, self.patient_pattern, self.views, self.on_error
        )


def _rules(kind: Any, prefix: str = "") -> Iterator[tuple[str, Rule]]:
    """(dotted key, rule) of every field with a rule."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _rules(hints[field.name], f"{prefix}{field.name}.")
        elif "rule" in field.metadata:
            yield prefix + field.name, field.metadata["rule"]


RULES = dict(_rules(Config))
# Keys of version 0.1 -> names since 0.2. All other keys keep their names.
RENAMED_KEYS = {
    "decay": "lr_decay_fraction",
    "precision": "compute_dtype",
    "group_per_class": "stddev_group_per_class",
    "augment_by_lead": "augment.adaptive",
    "generator.embedding": "generator.class_embedding_dim",
    "loss.classes": "loss.class_loss",
    "loss.class_weight_d": "loss.class_weight.d",
    "loss.class_weight_g": "loss.class_weight.g",
    "loss.sameness_weight": "loss.diversity_weight",
    "loss.r1_every": "loss.r1_interval",
    "report_kimg": "log_kimg",
    "draw_kimg": "sample_kimg",
    "evaluate_kimg": "eval_kimg",
    "save_kimg": "checkpoint_kimg",
    "rollbacks": "max_rollbacks",
}
# Since 0.2.
REMOVED_KEYS = ("microbatches", "condition", "loss.feature_matching", "sharpen")


def published() -> ConfigDict:
    """configs/acgan.py: the only place of defaults, and the list of all keys."""
    return config_files.read(config_files.shipped("acgan.py"))


def flatten(config: ConfigDict) -> dict[str, Any]:
    """{"loss.r1_weight": 0.1, ...}: dotted keys, in alphabetical order."""
    flat: dict[str, Any] = traverse_util.flatten_dict(config.to_dict(), sep=".")
    return flat


def suggest(word: str, words: Sequence[str]) -> str:
    """'; did you mean X?' or '; there are: ...' for a word that is none of them."""
    if RENAMED_KEYS.get(word) in words:
        return f"; version 0.2 renamed it {RENAMED_KEYS[word]}"
    if word in REMOVED_KEYS:
        return "; version 0.2 removed it"
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return (
        f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(words)}"
    )


def freeze(config: ConfigDict) -> Config:
    """A checked configuration as nested frozen dataclasses."""
    frozen: Config = _freeze(Config, config)
    return frozen


def _freeze(kind: Any, values: ConfigDict) -> Any:
    hints = typing.get_type_hints(kind)
    fields = {}
    for key, value in values.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            fields[key] = _freeze(hint, value)
        else:
            fields[key] = float(value) if hint is float else value
    return kind(**fields)


def check_keys(config: ConfigDict) -> None:
    """Raises ValueError naming every unknown and every missing key."""
    known, given = flatten(published()), flatten(config)
    renamed = {RENAMED_KEYS.get(key) for key in given}
    wrong = [f"{k}: no such key{suggest(k, [*known])}" for k in given if k not in known]
    wrong += [
        f"{k}: missing; copy it from configs/acgan.py, where it is {known[k]!r}"
        for k in known
        if k not in given and k not in renamed
    ]
    _raise_if(wrong)


def check(config: ConfigDict) -> None:
    """Raises ValueError naming every wrong key, or else every wrong value."""
    check_keys(config)
    known, wrong = flatten(published()), []
    for key, value in flatten(config).items():
        kind = type(known[key])
        passes, advice = RULES.get(key, (lambda _: True, ""))
        if type(value) is not kind and (type(value), kind) != (int, float):
            wrong.append(
                f"{key}={value!r} is of type {type(value).__name__}; give "
                f"{kind.__name__}, as {known[key]!r}"
            )
        elif type(value) is float and not math.isfinite(value):
            wrong.append(f"{key}={value!r}: give a finite number, as {known[key]}")
        elif not passes(value):
            wrong.append(f"{key}={value!r}: {advice}")
    if not wrong and config.base_resolution > config.resolution:
        wrong.append(
            f"base_resolution={config.base_resolution} is above "
            f"resolution={config.resolution}; type --config.base_resolution=0, or the "
            "resolution of the model that the run starts from"
        )
    if not wrong and config.init_classes and not config.init:
        wrong.append(
            f"init_classes={config.init_classes!r} has no effect without init; give "
            "the model to start from, as --config.init=pediatric64"
        )
    if not wrong and config.balance.low >= config.balance.high:
        wrong.append(
            f"balance.low={config.balance.low} is not below "
            f"balance.high={config.balance.high}; give a range, as 0.05 and 0.7"
        )
    _raise_if(wrong)


def _raise_if(wrong: list[str]) -> None:
    if wrong:
        raise ValueError("the configuration is wrong:\n  " + "\n  ".join(wrong))


def to_json(config: Any) -> dict[str, Any]:
    """A configuration, or part of one, as JSON reads it back: tuples become lists."""
    content: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return content
