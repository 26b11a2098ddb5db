import ast
import pathlib
import re

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict

from cxr_gan import config as configs
from cxr_gan.losses import ADVERSARIAL, gradient_penalty
from cxr_gan.models.registry import DISCRIMINATORS, GENERATORS
from cxr_gan.runtime import config_files
from cxr_gan.training import experiment

KEYS = [*configs.flatten(configs.published())]
NAMES = ("NORMAL", "PNEUMONIA")

# A wrong value for every rule of every kind, and words the complaint must contain.
WRONG = [
    ("seed", -1, "from 0 to 2147483647"),
    ("seed", 2**31, "from 0 to 2147483647"),
    ("split_seed", -1, "0 or more"),
    ("dataset", "", "phantom"),
    ("resolution", 48, "32, 64, 128, 256"),
    ("resolution", 16, "32, 64, 128, 256"),
    ("samples_per_class", (), "(100, 0)"),
    ("samples_per_class", (-1,), "(100, 0)"),
    ("samples_per_class", (1.5, 2), "(100, 0)"),
    ("samples_per_class", (True,), "(100, 0)"),
    ("latent_size", 0, "above 0"),
    ("generator.name", "residul", "residual"),
    ("generator.features_at_32", 4, "8 or more"),
    ("generator.max_features", 0, "above 0"),
    ("generator.class_embedding_dim", 0, "above 0"),
    ("discriminator.name", "", "residual"),
    ("discriminator.features_at_32", 4, "8 or more"),
    ("discriminator.max_features", 0, "above 0"),
    ("compute_dtype", "float16", "float32, bfloat16"),
    ("stddev_group_per_class", 1, "give 2 or more"),
    ("loss.adversarial", "wasserstein", "least_squares"),
    ("loss.class_loss", "fake", "one of real, both"),
    ("loss.class_weight.d", -0.1, "0 or more"),
    ("loss.class_weight.g", -0.1, "0 or more"),
    ("loss.feature_matching_weight", -0.1, "0 or more"),
    ("loss.diversity_weight", -0.1, "0 or more"),
    ("loss.r1_weight", -0.1, "0 or more"),
    ("loss.r2_weight", -0.1, "0 or more"),
    ("loss.r1_interval", 0, "above 0"),
    ("augment.brightness", 2.1, "from 0 to 2"),
    ("augment.contrast", 1.1, "from 0 to 1"),
    ("augment.translation", -0.1, "from 0 to 1"),
    ("augment.cutout", 1.1, "from 0 to 1"),
    ("balance.low", 0.9, "balance.high"),
    ("balance.high", 0.05, "balance.low"),
    ("balance.strength", -1.0, "0 or more"),
    ("balance.halflife_kimg", 0.0, "above 0"),
    ("optimizer_d.learning_rate", 0.0, "above 0"),
    ("optimizer_d.beta1", 1.0, "below 1"),
    ("optimizer_d.beta2", -0.1, "below 1"),
    ("optimizer_g.learning_rate", -1e-4, "above 0"),
    ("optimizer_g.beta1", 1.0, "below 1"),
    ("optimizer_g.beta2", 2.0, "below 1"),
    ("ema_halflife_kimg", 0.0, "above 0"),
    ("ema_rampup", 0.0, "above 0"),
    ("lr_decay_fraction", 1.1, "from 0 to 1"),
    ("checkerboard_ramp", -0.1, "from 0 to 1"),
    ("batch_size", 0, "above 0"),
    ("total_kimg", 0.0, "above 0"),
    ("max_minutes", -1.0, "0 or more"),
    ("log_kimg", 0.0, "above 0"),
    ("sample_kimg", 0.0, "above 0"),
    ("eval_kimg", -1.0, "0 or more"),
    ("checkpoint_kimg", 0.0, "above 0"),
    ("on_nan", "ignore", "one of stop, rollback"),
    ("max_rollbacks", -1, "0 or more"),
]


def to_json(config: ConfigDict) -> dict:
    """A configuration as a record holds it."""
    return configs.to_json(configs.freeze(config))


def changed(key: str, value: object) -> ConfigDict:
    """The published configuration with another value, of whatever type."""
    config = configs.published()
    *path, last = key.split(".")
    part = config
    for name in path:
        part = part[name]
    del part[last]  # else it would be cast to the type it had
    part[last] = value
    return config


@pytest.mark.parametrize(("key", "value", "advice"), WRONG)
def test_a_wrong_value_is_named_with_its_key_and_what_to_give(key, value, advice):
    with pytest.raises(ValueError) as caught:
        configs.check(changed(key, value))
    complaint = str(caught.value)
    assert f"{key}={value}" in complaint or f"{key}={value!r}" in complaint
    assert advice in complaint


def test_every_key_has_a_rule_or_a_wrong_type_only():
    ruled = {key for key, *_ in WRONG}
    assert set(KEYS) - ruled == {"balance.enabled", "augment.adaptive"}


SHIPPED = sorted(file.stem for file in tiny.CONFIGS.glob("*.py"))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_configurations_pass(name):
    configs.check(tiny.load_config(name))


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named_with_its_published_value(key):
    config = configs.published()
    *path, last = key.split(".")
    part = config
    for name in path:
        part = part[name]
    del part[last]
    value = re.escape(repr(configs.flatten(configs.published())[key]))
    with pytest.raises(ValueError, match=rf"{re.escape(key)}: missing; .*{value}"):
        configs.check(config)


def test_an_unknown_key_is_answered_with_the_one_that_was_meant():
    config = configs.published()
    config.loss.r1_wieght = 1.0
    with pytest.raises(
        ValueError, match=r"loss.r1_wieght: .*did you mean loss.r1_weig"
    ):
        configs.check(config)


@pytest.mark.parametrize(("old", "new"), configs.RENAMED_KEYS.items())
def test_a_key_of_version_0_1_is_answered_with_its_new_name(old, new):
    assert configs.suggest(old, KEYS) == f"; version 0.2 renamed it {new}"


def test_a_file_of_version_0_1_is_answered_with_new_names_once():
    config = configs.published()
    del config.log_kimg
    config.report_kimg = 1.0
    with pytest.raises(ValueError) as caught:
        configs.check_keys(config)
    assert str(caught.value).splitlines()[1:] == [
        "  report_kimg: no such key; version 0.2 renamed it log_kimg"
    ]


@pytest.mark.parametrize("old", configs.REMOVED_KEYS)
def test_a_removed_key_is_answered_so(old):
    assert configs.suggest(old, KEYS) == "; version 0.2 removed it"


def test_an_unknown_key_like_no_other_is_answered_with_all_there_are():
    config = configs.published()
    config.zzz = 1
    with pytest.raises(
        ValueError, match=r"zzz: no such key; there are: augment.*, total_kimg"
    ):
        configs.check(config)


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
def test_a_value_of_another_type_is_answered_with_both_types(key, value, kinds):
    with pytest.raises(ValueError, match=re.escape(f"{key}={value!r} {kinds}")):
        configs.check(changed(key, value))


@pytest.mark.parametrize("key", ["total_kimg", "loss.r1_weight", "max_minutes"])
def test_a_whole_number_passes_for_a_float(key):
    configs.check(changed(key, 3))


FLOATS = [
    k for k, v in configs.flatten(configs.published()).items() if type(v) is float
]


@pytest.mark.parametrize("key", FLOATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_may_be_infinite_or_none(key, value):
    with pytest.raises(ValueError, match=f"{key}={value}: give a finite number"):
        configs.check(changed(key, value))


def test_all_that_is_wrong_is_said_at_once():
    config = changed("batch_size", -1)
    config.seed = -5
    config.loss.adversarial = "x"
    with pytest.raises(ValueError) as caught:
        configs.check(config)
    assert len(str(caught.value).splitlines()) == 4


def test_every_published_key_is_read_by_the_library():
    read = set()
    for path in pathlib.Path(configs.__file__).parent.rglob("*.py"):
        if path.name == "config.py":  # complaining of a key is not using it
            continue
        tree = ast.parse(path.read_text())
        read |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    # augmentation is read as a whole: each of its keys names a policy
    read |= {*configs.published().augment} if "augment" in read else set()
    unread = [key for key in KEYS if not {*key.split(".")} <= read]
    assert not unread


@pytest.mark.parametrize("side", [128, 256])
def test_a_larger_run_differs_in_what_its_size_asks_for_alone(side):
    published, larger = (
        configs.flatten(tiny.load_config(n)) for n in ("acgan", f"acgan_{side}")
    )
    changed = {key for key in published if published[key] != larger[key]}
    assert published.keys() == larger.keys()
    assert changed == {"resolution", "loss.r1_weight", "total_kimg"}
    assert larger["resolution"] == side


@pytest.mark.parametrize("side", [128, 256])
def test_r1_weighs_the_same_judgement_alike_at_any_size(side):
    published, larger = (tiny.load_config(n) for n in ("acgan", f"acgan_{side}"))
    factor = side // published.resolution
    small = np.random.default_rng(0).random((2, 4, 4, 1), np.float32)
    large = small.repeat(factor, 1).repeat(factor, 2)

    def judge(x):
        return jnp.sin(3 * x).sum((1, 2, 3))

    def judge_shrunk(x):
        return judge(x.reshape(-1, 4, factor, 4, factor, 1).mean((2, 4)))

    np.testing.assert_allclose(
        larger.loss.r1_weight * gradient_penalty(judge_shrunk, large),
        published.loss.r1_weight * gradient_penalty(judge, small),
        rtol=1e-5,
    )


def test_quick_derives_from_the_published_run():
    published, quick = (
        configs.flatten(tiny.load_config(n)) for n in ("acgan", "quick")
    )
    assert published.keys() == quick.keys()
    assert {k: type(v) for k, v in published.items()} == {
        k: type(v) for k, v in quick.items()
    }
    assert quick["total_kimg"] < published["total_kimg"]
    untouched = ["seed", "loss.adversarial", "augment.cutout", "optimizer_g.beta2"]
    assert all(quick[key] == published[key] for key in untouched)


def test_each_optimizer_has_its_own_numbers():
    config = configs.published()
    config.optimizer_d.learning_rate = 0.5
    assert config.optimizer_g.learning_rate != 0.5


def test_a_batch_that_does_not_divide_is_answered_with_one_that_does():
    config = changed("stddev_group_per_class", 4)  # of each of 2 classes
    config.batch_size = 70
    with pytest.raises(ValueError, match=r"batch_size=70 .* 4 devices .*4 images") as e:
        experiment.check_fit(config, NAMES, devices=4)
    assert "multiple of 32" in str(e.value)
    assert "--config.batch_size=64" in str(e.value)
    config.batch_size = 64
    experiment.check_fit(config, NAMES, devices=4)


def test_the_batch_advised_is_never_zero():
    config = changed("batch_size", 1)
    config.stddev_group_per_class = 4
    with pytest.raises(ValueError, match=r"--config.batch_size=8\b"):
        experiment.check_fit(config, NAMES, devices=1)


@pytest.mark.parametrize("wanted", [(0,), (100,), (100, 0)])
def test_samples_are_limited_for_all_classes_or_for_each(wanted):
    experiment.check_fit(changed("samples_per_class", wanted), NAMES, devices=1)


def test_limits_for_another_number_of_classes_are_refused_by_name():
    config = changed("samples_per_class", (1, 2, 3))
    with pytest.raises(ValueError, match=r"names 3 classes, .* 2 \(NORMAL, PNEUMONIA"):
        experiment.check_fit(config, NAMES, devices=1)


def test_differences_name_key_old_and_new():
    old = to_json(configs.published())
    new = to_json(changed("seed", 5))
    assert experiment.differences(old, new) == ["seed: 0 -> 5"]
    assert experiment.differences(old, old) == []


def test_a_tuple_is_no_different_from_what_json_makes_of_it():
    config = changed("samples_per_class", (100, 0))
    assert to_json(config)["samples_per_class"] == [100, 0]
    assert experiment.differences(to_json(config), to_json(config)) == []


@pytest.mark.parametrize("key", sorted(experiment.FREE_TO_CHANGE))
def test_length_reports_and_rollbacks_of_a_run_may_change(key):
    assert key in KEYS
    old, new = to_json(configs.published()), to_json(changed(key, 7.0))
    assert experiment.differences(old, new) == []


def test_a_key_that_one_of_two_runs_lacks_is_absent_there():
    old = to_json(configs.published())
    new = to_json(configs.published())
    del new["seed"]
    assert experiment.differences(old, new) == ["seed: 0 -> 'absent'"]


def test_a_missing_file_is_answered_with_those_that_came_along(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"x.py: no such.*configs/acgan.py, con"
    ):
        config_files.read(tmp_path / "x.py")


@pytest.mark.parametrize(
    ("text", "words", "complaint"),
    [
        ("x = 1", (), r"has no get_config\(\)"),
        ("def get_config():\n    return {}", (), "returns a dict; return an ml_coll"),
        ("def get_config():\n    return {}", ("tiny",), "takes no argument 'tiny'"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, words, complaint):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        config_files.read(tmp_path / "mine.py", *words)


@pytest.mark.parametrize("name", sorted({*GENERATORS, *DISCRIMINATORS, *ADVERSARIAL}))
def test_entries_of_the_tables_are_offered(name):
    text = " ".join(advice for _, advice in configs.RULES.values())
    assert name in text
