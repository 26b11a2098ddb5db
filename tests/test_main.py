import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from cxr_gan import config as configs
from cxr_gan import data, main
from cxr_gan.storage import checkpoint, files, lock
from cxr_gan.training import experiment, loop, metric_writer

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def clean_flags(monkeypatch, tmp_path):
    """Resets absl's global flags, and keeps every write inside tmp_path."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield
    reset_flags()


def reset_flags():
    for name in list(flags.FLAGS):
        if name.partition(".")[0] == "config":
            delattr(flags.FLAGS, name)
    flags.FLAGS["workdir"].unparse()
    flags.FLAGS.unparse_flags()


def parse(*arguments):
    """The remaining arguments of a command line, and its configuration."""
    reset_flags()
    rest = main.parse(["cxr-gan", *arguments])
    return rest, flags.FLAGS.config


def run_main(*arguments):
    """Runs the command in this process."""
    main.main(parse(*arguments)[0])


def error_text(capsys, *arguments):
    """All output of a command that must end with an error and without a traceback."""
    with pytest.raises(SystemExit) as exit:
        run_main(*arguments)
    output = capsys.readouterr()
    text = f"{exit.value.code}\n{output.out}{output.err}"
    assert exit.value.code not in (0, None)
    assert "Traceback" not in text
    return text


def test_bucket_as_dataset_is_refused_and_no_folder_created(capsys, tmp_path):
    arguments = ("--config=configs/quick.py", "--config.dataset=gs://b/runs/a")
    text = error_text(capsys, *arguments)
    assert "dataset=gs://b/runs/a is not a local folder" in text
    assert "gcloud storage rsync a gs://b/runs/a --recursive" in text
    assert not [*tmp_path.glob("gs*")] and not [*tmp_path.glob("runs")]


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "cxr_gan.main"],
        [sys.executable, "-c", "from cxr_gan import main; main.cli()"],  # as cxr-gan
    ],
)
def test_help_shows_the_docstring_and_the_flags(tmp_path, command):
    done = subprocess.run(
        [*command, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode in (0, 1)
    assert "Traceback" not in text
    for words in ("The same command resumes", "--config:", "--workdir:"):
        assert words in text
    assert "(default: 'runs/acgan')" in text


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
def test_config_flag_is_accepted_at_any_position(arguments):
    rest, config = parse(*arguments)
    assert rest == ["cxr-gan"]
    assert config.dataset == "phantom:1000"
    assert config.seed == (3 if "--config.seed" in " ".join(arguments) else 0)
    assert config.is_locked
    _, config = parse("--config.batch_size=32")  # of configs/acgan.py, the default
    published = configs.published()
    published.batch_size = 32
    assert config.to_dict() == published.to_dict()


def test_file_in_the_current_folder_precedes_the_packaged_one(tmp_path):
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
def test_every_type_of_key_can_be_set_by_flag(argument, key, value):
    _, config = parse(argument)
    assert configs.flatten(config)[key] == value
    configs.check(config)


def test_flags_can_be_read_from_a_file(tmp_path):
    (tmp_path / "flags").write_text("--config=configs/quick.py\n--config.seed=5\n")
    _, config = parse(f"--flagfile={tmp_path / 'flags'}")
    assert (config.dataset, config.seed) == ("phantom:1000", 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.batchsize", "8"], ["did you mean batch_size?"]),
        (["--config.r1_weight=2"], ["did you mean loss.r1_weight?"]),
        (["--noconfig.balance.enabeld"], ["did you mean balance.enabled?"]),
        (["--config.zzz=1"], ["there are: ", "seed", "loss.r1_interval"]),
        (["--config.loss=1"], ["--config.loss: no such key"]),
        (["--config.batch_size=abc"], ["batch_size=abc", "; give int, as "]),
        (["--config.samples_per_class=all"], ["samples_per_class"]),
        (["--config.samples_per_class=1.5"], ["samples_per_class", "whole numbers"]),
        (["--config.batch_size"], ["config.batch_size"]),
        (["--workdri=x"], ["workdri", "workdir"]),
        (["train"], ["unexpected argument 'train'", "--workdir=runs/acgan"]),
        (["--config=nope.py"], ["nope.py: no such", "configs/acgan.py"]),
        (["--config"], ["--config", "give one file"]),
        (["--config=a.py", "--config=b.py"], ["['a.py', 'b.py']; give one file"]),
        (["--config=."], [".: no such configuration file"]),
        (["--config=configs/quick.py:tiny"], ["takes no argument 'tiny'"]),
        (["--flagfile=nope"], ["nope"]),
        (["--nomultihost=1"], ["multihost", "--help"]),
        (["--config.precision=float32"], ["renamed it compute_dtype"]),
        (["--config.loss.class_loss=discriminating"], ["0.2 removed discriminating"]),
        (["--config.batch_size=-8"], ["batch_size=-8: give a number above 0"]),
        (["--config.dataset=path/to/nothing"], ["path/to/nothing", "phantom:N"]),
        (["--config.dataset="], ["dataset=''", "phantom"]),
        (
            ["--config.dataset=phantom:40", "--config.batch_size=12"],
            ["batch_size=12", "--config.batch_size="],
        ),
    ],
)
def test_wrong_command_line_gives_an_error_without_a_traceback(
    capsys, arguments, words
):
    text = error_text(capsys, *arguments)
    for word in words:
        assert word in text
    assert not pathlib.Path("runs").exists()


@pytest.fixture
def without_training(monkeypatch):
    """Replaces data and training, so that a command only opens its run."""
    images = data.load("phantom:40", 32, split_seed=0)
    monkeypatch.setattr(experiment.data, "load", lambda *_, **__: images)
    monkeypatch.setattr(experiment.jax, "device_count", lambda: 1)
    monkeypatch.setattr(loop, "train", lambda run: f"would train {run.folder}")


@pytest.mark.usefixtures("without_training")
def test_run_continues_only_if_no_key_but_its_length_changes(capsys):
    run_main("--config=configs/quick.py")
    run_main("--config=configs/quick.py", "--config.total_kimg=1000")
    assert capsys.readouterr().err.count("would train runs/quick") == 2
    before = pathlib.Path("runs/quick/run.json").read_bytes()
    pathlib.Path("runs/quick/checkpoints/7").mkdir(parents=True)
    text = error_text(capsys, "--config=configs/quick.py", "--config.seed=3")
    assert "seed: 0 -> 3" in text and "another --workdir" in text
    assert pathlib.Path("runs/quick/run.json").read_bytes() == before


@pytest.mark.usefixtures("without_training")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (metric_writer.NonFiniteError("in step 3"), "in step 3; the checkpoints bef"),
        (checkpoint.CheckpointError("every one is damaged"), "every one is damaged"),
        (lock.InUseError("a", "process 7"), "in use by process 7"),
        (
            files.DiskError("a cannot be written (b); repair the disk"),
            "repair the disk; the same command resumes from the last checkpoint",
        ),
    ],
)
def test_expected_errors_end_the_training_without_a_traceback(
    capsys, monkeypatch, error, words
):
    def end(_):
        raise error

    monkeypatch.setattr(loop, "train", end)
    assert words in error_text(capsys)


@pytest.mark.usefixtures("without_training")
def test_unexpected_error_keeps_its_traceback(monkeypatch):
    def end(_):
        raise ValueError("a bug")

    monkeypatch.setattr(loop, "train", end)
    with pytest.raises(ValueError, match="a bug"):
        run_main()


def test_missing_decoder_is_named_without_a_traceback(capsys, monkeypatch):
    def refuse(*_, **__):
        raise ImportError("DICOM needs pydicom")

    monkeypatch.setattr(experiment.data, "load", refuse)
    assert "error: DICOM needs pydicom" in error_text(capsys)


def test_immediate_keyboard_interrupt_ends_without_a_traceback(monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(main.app, "run", stop)
    monkeypatch.setattr(main.signals, "end_quietly", lambda: None)
    monkeypatch.setattr(main.output, "tolerate_errors", lambda: None)
    with pytest.raises(SystemExit, match="stopped at once; the same command resumes"):
        main.cli()
