import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from tiny_runs import metric_lines, restore

from cxr_gan.runtime import multihost

ROOT = pathlib.Path(__file__).parents[1]
TIMEOUT = 1200  # seconds; about ten are needed on an idle machine
FLAGS = [
    *("--config=configs/quick.py", "--config.dataset=phantom:60"),
    *("--config.batch_size=16", "--config.stddev_group_per_class=2"),
    *("--config.latent_size=8", "--config.loss.r1_weight=0"),
    # A schedule over the length of the run, which differs between the compared runs.
    "--config.lr_decay_fraction=0.0",
    # Rounds images to grey levels, which amplifies differences in rounding.
    "--config.loss.spectrum_weight=0",
    *("--config.generator.features_at_32=8", "--config.generator.max_features=8"),
    "--config.discriminator.features_at_32=8",
    "--config.discriminator.max_features=8",
    *("--config.log_kimg=0.016", "--config.checkpoint_kimg=1000"),
]
VARIABLES = (multihost.ADDRESS, multihost.COUNT, multihost.INDEX)
STEPS = 100_000  # with metrics logged at each; no test trains all of them


class Peers:
    """Processes of one training, and the output of each."""

    def __init__(self, folder, arguments, devices, environment):
        """Starts a process with `devices` devices for each list of arguments."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        shared = {
            multihost.ADDRESS: address,
            multihost.COUNT: str(len(arguments)),
            "JAX_NUM_CPU_DEVICES": str(devices),
        }
        self.folder, self.processes = folder, []
        flags = ["--multihost"] if len(arguments) > 1 else []
        for i, own in enumerate(arguments):
            with (folder / f"{i}.txt").open("w") as file:
                process = subprocess.Popen(
                    [sys.executable, *own, *flags],
                    cwd=folder,
                    env={**environment, **shared, multihost.INDEX: str(i)},
                    stdout=file,
                    stderr=file,
                )
            self.processes.append(process)

    def output(self, index):
        return (self.folder / f"{index}.txt").read_text()

    def codes(self):
        """Waits for all processes; their exit codes."""
        return [process.wait(TIMEOUT) for process in self.processes]

    def assert_success(self):
        codes = enumerate(self.codes())
        failed = [self.output(i) for i, code in codes if code != 0]
        assert not failed, "\n".join(failed)

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """start(arguments of each process, devices): the processes share one cache.

    They compile with the same XLA options as the tests, so that rounding is equal.
    """
    cache = tmp_path_factory.mktemp("cache")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment = {
        **kept,
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(cache),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "xla"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    started = []

    def start(arguments, devices=1):
        folder = tmp_path_factory.mktemp("peers")
        started.append(Peers(folder, arguments, devices, environment))
        return started[-1]

    yield start
    for peers in started:
        peers.kill()


@pytest.fixture(scope="module")
def train(start):
    """train(workdir, *flags, processes=2, devices=1): runs by_sgd.py."""
    script = str(pathlib.Path(__file__).with_name("by_sgd.py"))

    def train(workdir, *flags, processes=2, devices=1, steps=STEPS):
        total = f"--config.total_kimg={(steps * 16 - 1) / 1000}"  # rounded up
        command = [script, *FLAGS, f"--workdir={workdir}", total, *flags]
        return start([command] * processes, devices)

    return train


def wait_until(workdir, step, peers):
    """Waits until the metrics of that step or a later one are logged."""
    path = workdir / "metrics.jsonl"
    while not path.exists() or path.read_text().count("\n") < step:
        assert peers.processes[0].poll() is None, peers.output(0)
        time.sleep(0.01)


def arrays(workdir, step):
    return jax.tree.leaves(restore(workdir, step))


def checkpoint_steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


@pytest.mark.slow
def test_run_resumes_with_other_numbers_of_processes_and_devices(train, tmp_path):
    alone, run = tmp_path / "alone", tmp_path / "run"
    save = f"--config.checkpoint_kimg={6 * 0.016}"
    train(alone, save, processes=1, steps=7).assert_success()
    start = arrays(alone, 6)
    shutil.copytree(alone, run)
    shutil.rmtree(run / "checkpoints" / "7")

    peers = train(run, devices=2, steps=7)
    peers.assert_success()
    assert "step 7 of 7, 4 devices" in peers.output(0)
    for actual, expected in zip(arrays(run, 7), arrays(alone, 7), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)

    peers = train(run, devices=2)
    wait_until(run, 9, peers)
    peers.processes[1].send_signal(signal.SIGTERM)
    peers.assert_success()
    stopped = metric_lines(run)[-1]["step"]
    assert 9 <= stopped < STEPS
    assert checkpoint_steps(run) == [7, stopped]
    assert f"step 8 of {STEPS}, 4 devices" in peers.output(0)
    assert peers.output(0).endswith("kimg; the same command continues\n")
    assert str(run) not in peers.output(1)  # only the primary process logs

    end = stopped + 1
    save = f"--config.checkpoint_kimg={stopped * 0.016}"
    for peers in [train(path, save, processes=1, steps=end) for path in (alone, run)]:
        peers.assert_success()
    assert [line["step"] for line in metric_lines(run)] == [*range(1, end + 1)]
    # From here on only the losses are compared, which are continuous. A ReLU that
    # changes sign turns a difference of 1e-8 in a weight into one of 1e-5 in its
    # gradient, and the differences add up over the steps.
    for step, tolerance in ((7, 1e-5), (8, 1e-5), (end, 1e-3)):
        actual, expected = (metric_lines(path)[step - 1] for path in (run, alone))
        for key in ("d/adversarial", "d/class", "g/adversarial", "g/class"):
            limits = {"rel": tolerance, "abs": tolerance}
            assert actual[key] == pytest.approx(expected[key], **limits), key
    pairs = zip(start, arrays(run, end), strict=True)
    changed = [np.abs(before - after).max() > 1e-4 for before, after in pairs]
    assert sum(changed) > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number"), [(1, signal.SIGKILL), (0, signal.SIGSTOP)]
)
def test_killed_or_stopped_process_ends_the_other(train, tmp_path, victim, number):
    peers = train(tmp_path / "run")
    wait_until(tmp_path / "run", 3, peers)
    peers.processes[victim].send_signal(number)
    code = peers.processes[1 - victim].wait(30)
    assert code != 0
    output = peers.output(1 - victim)
    assert (
        "cannot continue without the other processes" in output
        or "another task died" in output
    )


@pytest.mark.slow
def test_data_error_in_one_process_stops_all_before_training(train, start, tmp_path):
    commands = [
        [*("-m", "cxr_gan.main"), *FLAGS, f"--workdir={tmp_path / 'run'}", *more]
        for more in ([], ["--config.dataset=path/to/nothing"])
    ]
    peers = start(commands)
    assert peers.codes() == [1, 1]
    message = "error: dataset 'path/to/nothing': there is no such file"
    assert message in peers.output(1)
    assert message.replace("error: ", "error: process 1: ") in peers.output(0)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_first_of_two_processes_generates_for_both(start, tmp_path):
    images = ["--model=pediatric64", "--num=3", f"--out={tmp_path}/out"]
    peers = start([["-m", "cxr_gan.generate", *images]] * 2)
    peers.assert_success()
    wrote = f"wrote 3 images, labels.csv, grid.png, generation.json to {tmp_path}/out"
    assert wrote in peers.output(0) and "wrote" not in peers.output(1)
    assert len([*tmp_path.glob("out/images/*/*.png")]) == 3


@pytest.fixture
def environment(monkeypatch):
    """environment(*values): sets VARIABLES to these values; None unsets."""

    def environment(*values):
        for name, value in zip(VARIABLES, values, strict=True):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)

    return environment


@pytest.mark.parametrize(
    "values",
    [
        ("a:1", None, None),
        (None, "2", "0"),
        ("a", "2", "0"),
        ("a:1", "2", "2"),
        ("a:1", "two", "0"),
        ("a:1", "2", "-1"),
    ],
)
def test_incomplete_or_invalid_environment_is_refused(environment, values):
    environment(*values)
    with pytest.raises(ValueError, match="are incomplete or invalid; set") as caught:
        multihost.initialize()
    assert all(name in str(caught.value) for name in VARIABLES)


def test_missing_environment_error_names_the_variables(environment, tmp_path):
    environment(None, None, None)
    done = subprocess.run(
        [sys.executable, "-m", "cxr_gan.main", "--multihost"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: --multihost: the processes could not connect" in done.stderr
    assert f"{multihost.ADDRESS}=HOST:PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [*tmp_path.iterdir()]


def test_single_process_is_primary_and_equals_itself():
    assert multihost.is_primary()
    tree = {"a": np.float32(-0.0), "b": np.arange(3)}
    assert multihost.broadcast_from_primary(tree) is tree
    multihost.require_equal(config={"a": 1}, dataset="phantom")
    with multihost.sync_errors():
        pass
    with pytest.raises(OSError, match="mine"), multihost.sync_errors():
        raise OSError("mine")


@pytest.fixture
def two(monkeypatch):
    """two(text): this process is 0 of 2, and the simulated process 1 sends `text`.

    Returns the list of texts that this process sends.
    """
    sent = []

    def two(text):
        def gather(own):
            sent.append(own)
            return [own, text]

        monkeypatch.setattr(multihost, "_gather_text", gather)
        return sent

    return two


def test_error_in_one_process_is_raised_in_all(two):
    sent = two("")
    with multihost.sync_errors():
        pass
    two("no such file")
    refused = pytest.raises(multihost.PeerError, match="process 1: no such file")
    with refused, multihost.sync_errors():
        pass
    with pytest.raises(ValueError, match="mine"), multihost.sync_errors():
        raise ValueError("mine")
    with pytest.raises(TypeError), multihost.sync_errors():
        raise TypeError  # unexpected: the process ends and the others with it
    assert sent == ["", "", "mine"]


def test_different_configuration_in_one_process_is_refused_in_all(two):
    two("another digest")
    with pytest.raises(ValueError, match="process 1 has a different configuration"):
        multihost.require_equal(configuration={"seed": 0})


class Exited(BaseException):
    """Raised in place of os._exit."""


@pytest.fixture
def connected(monkeypatch):
    """A process connected to others, which raises `Exited` instead of exiting."""

    def exit_now(code):
        raise Exited(code)

    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(multihost, "EXIT_DELAY", 0)
    monkeypatch.setattr(os, "_exit", exit_now)


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (SystemExit("error: mine"), 1, "error: mine\n"),
        (SystemExit(3), 3, ""),
        (TypeError("a bug"), 1, "TypeError: a bug\n"),
        (
            jax.errors.JaxRuntimeError("UNKNOWN: Connection reset\nby peer"),
            1,
            "without the other processes (UNKNOWN: Connection reset); see their",
        ),
    ],
)
def test_failing_process_reports_its_error_and_exits_at_once(
    capsys, error, code, words
):
    with pytest.raises(Exited) as exited, multihost.exit_all_on_error():
        raise error
    assert exited.value.args == (code,)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("error", [SystemExit("error: mine"), KeyboardInterrupt()])
def test_success_and_errors_of_a_single_process_are_unchanged(error, request):
    with pytest.raises(type(error)), multihost.exit_all_on_error():
        raise error
    request.getfixturevalue("connected")
    with pytest.raises(SystemExit), multihost.exit_all_on_error():
        raise SystemExit(0)


@pytest.mark.parametrize("primary", [True, False])
def test_run_on_primary_returns_its_exit_code_in_all_processes(monkeypatch, primary):
    calls = []

    def command():
        calls.append(1)
        return 3

    monkeypatch.setattr(multihost, "initialize", None)
    assert multihost.run_on_primary(command, multihost=False) == 3
    monkeypatch.setattr(multihost, "initialize", lambda: None)
    monkeypatch.setattr(multihost, "is_primary", lambda: primary)
    monkeypatch.setattr(
        multihost, "broadcast_from_primary", lambda code: code if primary else 3
    )
    assert multihost.run_on_primary(command, multihost=True) == 3
    assert len(calls) == 1 + primary
