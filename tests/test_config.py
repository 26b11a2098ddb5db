import ast
import pathlib
import re

import pytest
import tiny
from flax import traverse_util
from ml_collections import ConfigDict

from cxr_gan import config as configs
from cxr_gan.losses import ADVERSARIAL
from cxr_gan.models.registry import DISCRIMINATORS, GENERATORS
from cxr_gan.runtime import config_files
from cxr_gan.training import experiment, run_record

PUBLISHED = configs.flatten(configs.published())
NAMES = ("NORMAL", "PNEUMONIA")
SHIPPED = sorted(file.stem for file in tiny.CONFIGS.glob("*.py"))

# A key of every rule, a value that it refuses, and a part of its advice.
WRONG = [
    ("seed", -1, "from 0 to 2147483647"),
    ("seed", 2**31, "from 0 to 2147483647"),
    ("dataset", "", "phantom"),
    ("resolution", 48, "32, 64, 128, 256"),
    *(
        ("samples_per_class", samples, "(100, 0)")
        for samples in [(), (-1,), (1.5, 2), (True,)]
    ),
    ("batch_size", 0, "above 0"),
    ("optimizer_g.learning_rate", 0.0, "above 0"),
    ("discriminator.features_at_32", 4, "8 or more"),
    ("stddev_group_per_class", 1, "2 or more"),
    ("loss.adversarial", "wasserstein", "least_squares"),
    ("loss.class_loss", "fake", "one of real, both"),
    ("loss.class_weight.d", -0.1, "0 or more"),
    ("augment.brightness", 2.1, "from 0 to 2"),
    ("augment.contrast", 1.1, "from 0 to 1"),
    ("optimizer_d.beta1", 1.0, "below 1"),
    ("balance.low", 0.9, "balance.high"),
    ("balance.high", 0.05, "balance.low"),
]
NO_RULE = {
    *("balance.enabled", "augment.adaptive", "balance.low", "balance.high"),
    *("init", "init_classes"),
    *(key for key in PUBLISHED if key.startswith("manifest.")),
}


def to_json(config: ConfigDict) -> dict:
    """A configuration as a record holds it."""
    return configs.to_json(configs.freeze(config))


def without(key: str) -> tuple[ConfigDict, ConfigDict, str]:
    """The default configuration without a key, its section, and the key's last part."""
    config = section = configs.published()
    *path, last = key.split(".")
    for name in path:
        section = section[name]
    del section[last]
    return config, section, last


def changed(key: str, value: object) -> ConfigDict:
    """The default configuration with another value, of whatever type."""
    config, section, last = without(key)
    section[last] = value
    return config


def error_of(config: ConfigDict) -> str:
    with pytest.raises(ValueError) as caught:
        configs.check(config)
    return str(caught.value)


@pytest.mark.parametrize(("key", "value", "advice"), WRONG)
def test_wrong_value_is_named_with_its_key_and_what_to_give(key, value, advice):
    message = error_of(changed(key, value))
    assert f"{key}={value}" in message or f"{key}={value!r}" in message
    assert advice in message


def test_every_number_and_name_has_a_rule_of_its_own_or_with_another_key():
    assert {*PUBLISHED} - {*configs.RULES} == NO_RULE


@pytest.mark.parametrize("value", [-1, -0.1])
def test_no_key_but_the_range_of_the_score_gap_may_be_negative(value):
    for key, default in PUBLISHED.items():
        if type(default) is type(value) and key not in NO_RULE:
            assert f"{key}={value}: give" in error_of(changed(key, value))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configuration_passes_with_the_keys_of_the_default(name):
    config = tiny.load_config(name)
    configs.check(config)
    assert configs.flatten(config).keys() == PUBLISHED.keys()


@pytest.mark.parametrize("key", ["seed", "loss.r1_weight", "samples_per_class"])
def test_missing_key_is_named_with_its_default(key):
    words = f"{key}: missing; copy it from configs/acgan.py, where it is "
    assert words + repr(PUBLISHED[key]) in error_of(without(key)[0])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("loss.r1_wieght", "did you mean loss.r1_weight?"),
        ("zzz", "there are: augment.adaptive, augment.brightness, "),
        ("report_kimg", "version 0.2 renamed it log_kimg"),
        ("microbatches", "version 0.2 removed it"),
        ("loss.feature_matching", "version 0.2 removed it"),
        ("sharpen", "version 0.2 removed it"),
    ],
)
def test_unknown_key_is_named_with_what_to_write_instead(key, words):
    config = configs.published()
    config.update_from_flattened_dict({key: 1.0})
    assert f"  {key}: no such key; {words}" in error_of(config)


def test_all_keys_of_version_0_1_have_a_new_name():
    for old, new in configs.RENAMED_KEYS.items():
        assert old not in PUBLISHED
        assert configs.suggest(old, [*PUBLISHED]) == f"; version 0.2 renamed it {new}"
    config, _, _ = without("log_kimg")
    config.report_kimg = 1.0
    assert len(error_of(config).splitlines()) == 2  # log_kimg is not also missing


@pytest.mark.parametrize(
    ("key", "value", "kinds"),
    [
        ("batch_size", 64.0, "is of type float; give int"),
        ("batch_size", True, "is of type bool; give int"),
        ("batch_size", None, "is of type NoneType; give int"),
        ("loss.r1_weight", True, "is of type bool; give float"),
        ("total_kimg", "300", "is of type str; give float"),
        ("balance.enabled", 1, "is of type int; give bool"),
        ("dataset", 3, "is of type int; give str"),
        ("samples_per_class", [0], "is of type list; give tuple"),
        ("samples_per_class", 100, "is of type int; give tuple"),
    ],
)
def test_value_of_another_type_is_named_with_both_types(key, value, kinds):
    assert f"{key}={value!r} {kinds}" in error_of(changed(key, value))
    config = changed("total_kimg", 3)  # an integer is accepted for a float
    configs.check(config)
    assert type(configs.freeze(config).total_kimg) is float


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_number_is_refused_for_every_key(value):
    for key in [key for key, default in PUBLISHED.items() if type(default) is float]:
        message = error_of(changed(key, value))
        assert f"{key}={value}: give a finite number" in message


def test_all_errors_are_reported_at_once():
    config = changed("batch_size", -1)
    config.seed = -5
    config.loss.adversarial = "x"
    assert len(error_of(config).splitlines()) == 4


def test_every_key_is_read_by_the_package():
    read = set()
    for path in pathlib.Path(configs.__file__).parent.rglob("*.py"):
        if path.name != "config.py":
            tree = ast.parse(path.read_text())
            read |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    # config.augment is read as a whole: each of its keys names a policy.
    read |= {*configs.published().augment}
    assert not [key for key in PUBLISHED if not {*key.split(".")} <= read]


@pytest.mark.parametrize(
    ("batch_size", "devices", "words"),
    [
        (70, 4, r"batch_size=70 .* 4 devices .*4 images.* multiple of 32.*=64\b"),
        (1, 1, r"--config.batch_size=8\b"),
    ],
)
def test_indivisible_batch_size_is_refused_with_the_nearest_that_fits(
    batch_size, devices, words
):
    config = changed("batch_size", batch_size)
    with pytest.raises(ValueError, match=words):
        experiment.check_fit(config, NAMES, devices)
    config.batch_size = 64
    experiment.check_fit(config, NAMES, devices)


@pytest.mark.parametrize("samples", [(0,), (100,), (100, 0)])
def test_samples_are_limited_for_all_classes_or_for_each(samples):
    experiment.check_fit(changed("samples_per_class", samples), NAMES, devices=1)
    config = changed("samples_per_class", (1, 2, 3))
    with pytest.raises(ValueError, match=r"names 3 classes, .* 2 \(NORMAL, PNEUMONIA"):
        experiment.check_fit(config, NAMES, devices=1)


def test_differences_name_key_old_and_new():
    limited = to_json(changed("samples_per_class", (100, 0)))
    assert limited["samples_per_class"] == [100, 0]  # as JSON stores a tuple
    assert run_record.differences(limited, limited) == []
    old, new = to_json(configs.published()), to_json(changed("seed", 5))
    assert run_record.differences(old, new) == ["seed: 0 -> 5"]
    del new["seed"]
    assert run_record.differences(old, new) == ["seed: 0 -> 'absent'"]


def test_keys_of_schedule_rollbacks_and_paths_of_a_run_may_change():
    old = configs.flatten(configs.published())
    assert old.keys() >= run_record.FREE_TO_CHANGE
    new = old | dict.fromkeys(run_record.FREE_TO_CHANGE, 7.0)
    nested = (traverse_util.unflatten_dict(flat, ".") for flat in (old, new))
    assert run_record.differences(*nested) == []


FUNCTION = "def get_config():\n    "


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("x = 1", [], "mine.py has no get_config()"),
        (f"{FUNCTION}return {{}}", [], "returns a dict; return an ml_coll"),
        (f"{FUNCTION}return {{}}", ["tiny"], "takes no argument 'tiny'"),
        ("\nimport nope", [], "mine.py: line 2: ModuleNotFoundError: No module named"),
        (f"{FUNCTION}return 1 / 0", [], "mine.py: line 2: ZeroDivisionError: division"),
        ("\nexit()", [], "mine.py: line 2: SystemExit"),
        ("x = (", [], "SyntaxError: '(' was never closed (mine.py, line 1); correct"),
    ],
)
def test_wrong_configuration_file_is_refused(tmp_path, text, arguments, words):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)):
        config_files.read(tmp_path / "mine.py", *arguments)


def test_all_entries_of_the_registries_are_offered():
    advice = " ".join(advice for _, advice in configs.RULES.values())
    assert all(name in advice for name in [*GENERATORS, *DISCRIMINATORS, *ADVERSARIAL])
