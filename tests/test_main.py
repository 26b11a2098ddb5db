import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from cxr_gan import checkpoint, data, disk, lock, main, report, run, train
from cxr_gan import config as configs

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def clean_flags(monkeypatch, tmp_path):
    """absl remembers; and no command of these tests may write but in tmp_path."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield
    forget()


def forget():
    for name in list(flags.FLAGS):
        if name.partition(".")[0] == "config":
            delattr(flags.FLAGS, name)
    flags.FLAGS["workdir"].unparse()
    flags.FLAGS.unparse_flags()


def parse(*arguments):
    """What is left of a command line, and the configuration it names."""
    forget()
    rest = main.parse(["cxr-gan", *arguments])
    return rest, flags.FLAGS.config


def begin(*arguments):
    """The whole command, in this process."""
    main.main(parse(*arguments)[0])


def refusal(capsys, *arguments):
    """What a command that must not train says."""
    with pytest.raises(SystemExit) as exit:
        begin(*arguments)
    said = capsys.readouterr()
    text = f"{exit.value.code}\n{said.out}{said.err}"
    assert exit.value.code not in (0, None)
    assert "Traceback" not in text
    return text


def command(*arguments, cwd):
    """Runs the command as one types it; returns its exit code and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "cxr_gan.main", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    assert "Traceback" not in text
    return done.returncode, text


def test_a_misspelt_key_ends_with_a_suggestion_and_code_1(tmp_path):
    code, text = command("--config.batchsize=8", cwd=tmp_path)
    assert code == 1
    assert "--config.batchsize: no such key; did you mean batch_size?" in text
    assert not [*tmp_path.glob("runs")]


def test_a_bucket_in_place_of_a_folder_is_refused_and_no_folder_made(capsys, tmp_path):
    given = ("--config=configs/quick.py", "--config.dataset=gs://b/runs/a")
    said = refusal(capsys, *given)
    assert "dataset=gs://b/runs/a is no folder" in said
    assert "gcloud storage rsync a gs://b/runs/a --recursive" in said
    assert not [*tmp_path.glob("gs*")] and not [*tmp_path.glob("runs")]


def test_help_tells_the_flags(tmp_path):
    code, text = command("--help", cwd=tmp_path)
    assert code in (0, 1)
    assert "--config" in text
    assert "--workdir" in text


def test_a_shipped_configuration_is_found_from_any_folder(tmp_path):
    given = ("--config", "configs/quick.py", "--config.dataset", "path/to/nothing")
    code, text = command(*given, cwd=tmp_path)
    assert code == 1
    assert "error: dataset 'path/to/nothing'" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config=configs/quick.py"],
        ["--config", "configs/quick.py"],
        ["-config=quick.py"],
        ["--config.seed=3", "--config=configs/quick.py"],
        ["--config.seed", "3", "--config", "configs/quick.py", "--workdir=x"],
        ["--workdir", "x", "--config", str(ROOT / "configs" / "quick.py")],
    ],
)
def test_the_configuration_is_read_wherever_it_stands(arguments):
    rest, config = parse(*arguments)
    assert rest == ["cxr-gan"]
    assert config.dataset == "phantom:1000"
    assert config.seed == (3 if "--config.seed" in " ".join(arguments) else 0)
    assert config.is_locked


def test_without_a_configuration_it_is_the_published_one():
    _, config = parse("--config.batch_size=32")
    published = configs.published()
    published.batch_size = 32
    assert config.to_dict() == published.to_dict()


def test_a_file_in_the_current_folder_goes_before_a_shipped_one(tmp_path):
    (tmp_path / "configs").mkdir()
    text = (ROOT / "configs" / "acgan.py").read_text()
    text = text.replace("config.seed = 0", "config.seed = 17")
    (tmp_path / "configs" / "quick.py").write_text(text)
    _, config = parse("--config=configs/quick.py")
    assert config.seed == 17


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("--config.total_kimg=3", "total_kimg", 3.0),
        ("--config.samples_per_class=100", "samples_per_class", (100,)),
        ("--config.samples_per_class=(100, 0)", "samples_per_class", (100, 0)),
        ("--config.samples_per_class=100,0", "samples_per_class", (100, 0)),
        ("--noconfig.balance.enabled", "balance.enabled", False),
        ("--config.balance.enabled=false", "balance.enabled", False),
        ("--config.dataset=a=b", "dataset", "a=b"),
        ("--config.optimizer_d.learning_rate=1e-3", "optimizer_d.learning_rate", 1e-3),
    ],
)
def test_any_key_can_be_given(argument, key, value):
    _, config = parse(argument)
    assert configs.flatten(config)[key] == value
    configs.check(config)


def test_flags_can_stand_in_a_file(tmp_path):
    (tmp_path / "flags").write_text("--config=configs/quick.py\n--config.seed=5\n")
    _, config = parse(f"--flagfile={tmp_path / 'flags'}")
    assert (config.dataset, config.seed) == ("phantom:1000", 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.batchsize=8"], ["--config.batchsize", "did you mean batch_size?"]),
        (["--config.batchsize", "8"], ["did you mean batch_size?"]),
        (["--config=configs/quick.py", "--config.sed=1"], ["did you mean seed?"]),
        (["--config", "configs/quick.py", "--config.sed=1"], ["did you mean seed?"]),
        (["--config.r1_weight=2"], ["did you mean loss.r1_weight?"]),
        (["--noconfig.balance.enabeld"], ["did you mean balance.enabled?"]),
        (["--config.zzz=1"], ["there are: ", "seed", "loss.r1_every"]),
        (["--config.loss=1"], ["--config.loss: no such key"]),
        (["--config.seed.x=1"], ["--config.seed.x: no such key"]),
        (["--config.batch_size=abc"], ["batch_size=abc", "; give int, as "]),
        (["--config.batch_size=1.5"], ["batch_size=1.5", "; give int, as "]),
        (["--config.balance.enabled=maybe"], ["enabled=maybe", "; give bool, as "]),
        (["--config.total_kimg=many"], ["total_kimg=many", "; give float, as "]),
        (["--config.samples_per_class=all"], ["samples_per_class"]),
        (["--config.samples_per_class=1.5"], ["samples_per_class", "whole numbers"]),
        (["--config.batch_size"], ["config.batch_size"]),
        (["--workdri=x"], ["workdri", "workdir"]),
        (["train"], ["'train' is no flag", "--workdir=runs/acgan"]),
        (["--config=nope.py"], ["nope.py: no such", "configs/acgan.py"]),
        (["--config", "nope.py"], ["nope.py: no such", "configs/quick.py"]),
        (["--config=nope.py", "--config.seed=1"], ["nope.py: no such"]),
        (["--config"], ["--config", "give one file"]),
        (["--config="], ["--config", "give one file"]),
        (["--config=a.py", "--config=b.py"], ["['a.py', 'b.py']; give one file"]),
        (["--config=."], [".: no such configuration file"]),
        (["--config=configs/quick.py:tiny"], ["takes no 'tiny'"]),
        (["--flagfile=nope"], ["nope"]),
        (["--config.batch_size=-8"], ["batch_size=-8: give a number above 0"]),
        (["--config.resolution=48"], ["resolution=48: give one of 32, 64"]),
        (["--config.total_kimg=inf"], ["total_kimg=inf: give a finite number"]),
        (["--config.dataset=path/to/nothing"], ["path/to/nothing", "phantom:N"]),
        (["--config.dataset="], ["dataset=''", "phantom"]),
        (
            ["--config.dataset=phantom:40", "--config.batch_size=12"],
            ["batch_size=12", "--config.batch_size="],
        ),
    ],
)
def test_a_wrong_command_line_is_answered_without_a_traceback(capsys, arguments, words):
    text = refusal(capsys, *arguments)
    for word in words:
        assert word in text
    assert not pathlib.Path("runs").exists()


@pytest.fixture
def opening_only(monkeypatch):
    """Takes data and training away: what is asked for is only opened."""
    images = data.load("phantom:40", 32, split_seed=0)
    monkeypatch.setattr(run.data, "load", lambda *_, **__: images)
    monkeypatch.setattr(run.jax, "device_count", lambda: 1)
    monkeypatch.setattr(train, "train", lambda opened: f"would train {opened.folder}")


@pytest.mark.usefixtures("opening_only")
def test_without_a_workdir_it_is_named_after_the_configuration(capsys):
    begin("--config=configs/quick.py")
    assert "would train runs/quick" in capsys.readouterr().err
    assert pathlib.Path("runs/quick/run.json").exists()


@pytest.mark.usefixtures("opening_only")
def test_a_workdir_of_another_configuration_says_which_keys_differ(capsys):
    begin("--workdir=a")
    before = pathlib.Path("a/run.json").read_bytes()
    text = refusal(capsys, "--workdir=a", "--config.seed=3")
    assert "seed: 0 -> 3" in text
    assert "another --workdir" in text
    assert pathlib.Path("a/run.json").read_bytes() == before


@pytest.mark.usefixtures("opening_only")
def test_a_workdir_goes_on_when_only_the_length_changes(capsys):
    begin("--workdir=a")
    begin("--workdir=a", "--config.total_kimg=1000", "--config.max_minutes=1")
    assert capsys.readouterr().err.count("would train a") == 2


@pytest.mark.usefixtures("opening_only")
def test_a_folder_that_holds_something_else_is_left_alone(capsys):
    pathlib.Path("a").mkdir()
    pathlib.Path("a/thesis.txt").write_text("mine")
    text = refusal(capsys, "--workdir=a")
    assert "a is not empty, and no run of ours" in text
    assert [*pathlib.Path("a").iterdir()] == [pathlib.Path("a/thesis.txt")]


@pytest.mark.usefixtures("opening_only")
def test_a_workdir_that_is_a_file_is_left_alone(capsys):
    pathlib.Path("a").write_text("mine")
    text = refusal(capsys, "--workdir=a")
    assert "a is a file; give another --workdir" in text


@pytest.mark.usefixtures("opening_only")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            report.NonFiniteError("d/class became non-finite in step 3"),
            "in step 3; the",
        ),
        (report.NonFiniteError("x"), "--config.on_nan=rollback"),
        (checkpoint.CheckpointError("every one is damaged"), "every one is damaged"),
        (lock.InUseError("a is in use by process 7"), "in use by process 7"),
        (
            disk.DiskError("a cannot be written (b); make room or mend it"),
            "mend it, and the same command goes on from the last checkpoint",
        ),
    ],
)
def test_what_ends_a_training_is_said_without_a_traceback(
    capsys, monkeypatch, error, words
):
    def end(_):
        raise error

    monkeypatch.setattr(train, "train", end)
    assert words in refusal(capsys)


@pytest.mark.usefixtures("opening_only")
def test_an_error_of_our_own_keeps_its_traceback(monkeypatch):
    def end(_):
        raise ValueError("a bug")

    monkeypatch.setattr(train, "train", end)
    with pytest.raises(ValueError, match="a bug"):
        begin()


def test_an_impatient_stop_is_said_without_a_traceback(monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(main.app, "run", stop)
    with pytest.raises(SystemExit, match="stopped at once; the same command"):
        main.cli()
