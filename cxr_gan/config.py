"""Every complaint about a configuration, said before anything is built."""

import difflib
import importlib.util
import inspect
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from cxr_gan.gan import DISCRIMINATORS, GENERATORS
from cxr_gan.losses import ADVERSARIAL, CLASSES

# A run may go on with other values of these; any other change makes it another run.
FREE_TO_CHANGE = frozenset(
    {
        *("total_kimg", "max_minutes", "microbatches"),
        *("report_kimg", "draw_kimg", "evaluate_kimg", "save_kimg"),
        *("on_nan", "rollbacks"),
    }
)
RESOLUTIONS = (32, 64, 128, 256, 512)
PRECISIONS = ("float32", "bfloat16")
ON_NAN = ("stop", "rollback")


def shipped(name: str) -> pathlib.Path:
    """The configuration file of that name that came with the package."""
    package = pathlib.Path(__file__).parent
    installed = package / "configs" / name
    return installed if installed.exists() else package.parent / "configs" / name


def published() -> ConfigDict:
    """configs/acgan.py: the one place of defaults, and of which keys there are."""
    return read(shipped("acgan.py"))


def read(path: pathlib.Path, *words: str) -> ConfigDict:
    """What get_config(*words) of a configuration file returns.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no configuration, or takes no words.
    """
    if not path.is_file():
        known = sorted(file.name for file in shipped("acgan.py").parent.glob("*.py"))
        raise FileNotFoundError(
            f"{path}: no such configuration file; with cxr_gan came "
            + ", ".join(f"configs/{name}" for name in known)
        )
    if path.suffix != ".py":
        raise ValueError(f"{path} is no .py file; give one with a get_config()")
    spec = importlib.util.spec_from_file_location("cxr_gan_config", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "get_config", None)):
        raise ValueError(f"{path} has no get_config(); see configs/quick.py for one")
    if words and not inspect.signature(module.get_config).parameters:
        raise ValueError(f"{path} takes no {words[0]!r}; leave off what follows {path}")
    config = module.get_config(*words)
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"{path}: get_config() returns a {type(config).__name__}; return an "
            "ml_collections.ConfigDict"
        )
    return config


def flatten(config: ConfigDict) -> dict[str, Any]:
    """{"loss.r1_weight": 1.0, ...}: dotted keys, in order."""
    return dict(_leaves(config, ""))


def _leaves(config: ConfigDict, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def suggest(word: str, words: Sequence[str]) -> str:
    """'; did you mean X?' or '; there are: ...' for a word that is none of them."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return (
        f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(words)}"
    )


def check(config: ConfigDict) -> None:
    """Passes in silence, or raises ValueError naming every wrong key of a config."""
    known, given = flatten(published()), flatten(config)
    wrong = [f"{k}: no such key{suggest(k, [*known])}" for k in given if k not in known]
    wrong += [
        f"{k}: missing; copy it from configs/acgan.py, where it is {known[k]!r}"
        for k in known
        if k not in given
    ]
    if not wrong:
        for key, value in given.items():
            if not _same_type(value, known[key]):
                wrong.append(
                    f"{key}={value!r} is of type {type(value).__name__}; give "
                    f"{type(known[key]).__name__}, as {known[key]!r}"
                )
            elif type(value) is float and not math.isfinite(value):
                wrong.append(f"{key}={value!r}: give a finite number, as {known[key]}")
            elif key in RULES and not RULES[key][0](value):
                wrong.append(f"{key}={value!r}: {RULES[key][1]}")
    if not wrong and config.balance.low >= config.balance.high:
        wrong.append(
            f"balance.low={config.balance.low} is not below "
            f"balance.high={config.balance.high}; give a range, as 0.05 and 0.7"
        )
    if wrong:
        raise ValueError("the configuration is wrong:\n  " + "\n  ".join(wrong))


def check_fit(config: ConfigDict, class_names: Sequence[str], devices: int) -> None:
    """Whether a checked config suits the data's classes and the machine's devices.

    Raises:
        ValueError: naming what does not divide, and the nearest that would.
    """
    classes, wanted = len(class_names), config.samples_per_class
    if len(wanted) not in (1, classes):
        raise ValueError(
            f"samples_per_class={wanted} names {len(wanted)} classes, the data has "
            f"{classes} ({', '.join(class_names)}); give one number for all, as "
            f"(100,), or {classes}"
        )
    share = config.group_per_class * classes * devices * config.microbatches
    if config.batch_size % share:
        nearest = max(share, round(config.batch_size / share) * share)
        parts = f" in {config.microbatches} parts" if config.microbatches > 1 else ""
        raise ValueError(
            f"batch_size={config.batch_size} cannot give each of {devices} devices "
            f"whole groups of {config.group_per_class} images of each of {classes} "
            f"classes{parts}; use a multiple of {share}, as "
            f"--config.batch_size={nearest}, or a smaller group_per_class"
        )


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON would give it back: tuples are lists."""
    return json.loads(json.dumps(config.to_dict()))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """'key: old -> new' for each key that makes it another run; both from to_json."""
    olds, news = (flatten(ConfigDict(c)) for c in (old, new))
    return [
        f"{key}: {olds.get(key, 'absent')!r} -> {news.get(key, 'absent')!r}"
        for key in sorted(olds.keys() | news.keys())
        if key not in FREE_TO_CHANGE and olds.get(key) != news.get(key)
    ]


def _same_type(value: Any, published_value: Any) -> bool:
    """A whole number passes for a float; a truth value for nothing but itself."""
    if type(published_value) is float:
        return type(value) in (int, float)
    return type(value) is type(published_value)


Rule = tuple[Callable[[Any], bool], str]
POSITIVE: Rule = (lambda x: x > 0, "give a number above 0")
NOT_NEGATIVE: Rule = (lambda x: x >= 0, "give 0 or more")
UNIT: Rule = (lambda x: 0 <= x <= 1, "give a number from 0 to 1")
DECAY: Rule = (lambda x: 0 <= x < 1, "give a number from 0 to below 1, as 0.99")


def _one_of(words: Sequence[Any]) -> Rule:
    return (lambda x: x in words, "give one of " + ", ".join(map(str, words)))


RULES: dict[str, Rule] = {
    "seed": (lambda x: 0 <= x < 2**31, "give a whole number from 0 to 2147483647"),
    "split_seed": NOT_NEGATIVE,
    "dataset": (
        bool,
        'give "phantom", a folder, an .npz file, "tfds:NAME" or "tfrecord:FOLDER"',
    ),
    "resolution": _one_of(RESOLUTIONS),
    "samples_per_class": (
        lambda x: bool(x) and all(type(n) is int and n >= 0 for n in x),
        "give whole numbers of 0 or more, as (100,) or (100, 0); 0 = all",
    ),
    "latent_size": POSITIVE,
    "generator.name": _one_of([*GENERATORS]),
    "generator.features_at_32": (lambda x: x >= 8, "give 8 or more"),
    "generator.max_features": POSITIVE,
    "generator.embedding": POSITIVE,
    "discriminator.name": _one_of([*DISCRIMINATORS]),
    "discriminator.features_at_32": (lambda x: x >= 8, "give 8 or more"),
    "discriminator.max_features": POSITIVE,
    "precision": _one_of(PRECISIONS),
    "group_per_class": (lambda x: x >= 2, "give 2 or more: images are compared in it"),
    "loss.adversarial": _one_of([*ADVERSARIAL]),
    "loss.classes": _one_of([*CLASSES]),
    "loss.class_weight_d": NOT_NEGATIVE,
    "loss.class_weight_g": NOT_NEGATIVE,
    "loss.feature_matching": NOT_NEGATIVE,
    "loss.sameness_weight": NOT_NEGATIVE,
    "loss.r1_weight": NOT_NEGATIVE,
    "loss.r2_weight": NOT_NEGATIVE,
    "loss.r1_every": POSITIVE,
    "augment.brightness": (lambda x: 0 <= x <= 2, "give a number from 0 to 2"),
    "augment.contrast": UNIT,
    "augment.translation": UNIT,
    "augment.cutout": UNIT,
    "balance.strength": NOT_NEGATIVE,
    "balance.halflife_kimg": POSITIVE,
    "optimizer_d.learning_rate": POSITIVE,
    "optimizer_d.beta1": DECAY,
    "optimizer_d.beta2": DECAY,
    "optimizer_g.learning_rate": POSITIVE,
    "optimizer_g.beta1": DECAY,
    "optimizer_g.beta2": DECAY,
    "ema_halflife_kimg": POSITIVE,
    "ema_rampup": POSITIVE,
    "decay": UNIT,
    "sharpen": UNIT,
    "condition": UNIT,
    "batch_size": POSITIVE,
    "microbatches": POSITIVE,
    "total_kimg": POSITIVE,
    "max_minutes": NOT_NEGATIVE,
    "report_kimg": POSITIVE,
    "draw_kimg": POSITIVE,
    "evaluate_kimg": NOT_NEGATIVE,
    "save_kimg": POSITIVE,
    "on_nan": _one_of(ON_NAN),
    "rollbacks": NOT_NEGATIVE,
}
