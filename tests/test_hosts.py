import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import jax
import numpy as np
import pytest
import tiny_generator
from absl import flags
from orbax import checkpoint as ocp
from PIL import Image

from cxr_gan import checkpoint, data, evaluate, evaluation, hosts, judges, sampling
from cxr_gan.metrics import fidelity
from cxr_gan.state import Player, TrainState

ROOT = pathlib.Path(__file__).parents[1]
TIMEOUT = 1200  # seconds, for what takes ten on an idle machine
FLAGS = [
    *("--config=configs/quick.py", "--config.dataset=phantom:60"),
    *("--config.batch_size=16", "--config.group_per_class=2"),
    *("--config.latent_size=8", "--config.loss.r1_weight=0"),
    *("--config.decay=0.0", "--config.sharpen=0.0"),  # they ask how long a run will be
    *("--config.generator.features_at_32=8", "--config.generator.max_features=8"),
    "--config.discriminator.features_at_32=8",
    "--config.discriminator.max_features=8",
    *("--config.report_kimg=0.016", "--config.save_kimg=1000"),
]
ROUNDS = 100_000  # a report each; none is played to the end


class Peers:
    """Processes that were started as one, and what each of them says."""

    def __init__(self, folder, arguments, devices, environment):
        """Starts a process for each list of arguments, with so many devices each."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        together = {
            hosts.ADDRESS: address,
            hosts.COUNT: str(len(arguments)),
            "JAX_NUM_CPU_DEVICES": str(devices),
        }
        self._said = [folder / f"{i}.txt" for i in range(len(arguments))]
        self.processes = []
        for i, (own, said) in enumerate(zip(arguments, self._said, strict=True)):
            multihost = ["--multihost"] if len(arguments) > 1 else []
            with said.open("w") as file:
                process = subprocess.Popen(
                    [sys.executable, *own, *multihost],
                    cwd=folder,
                    env={**environment, **together, hosts.INDEX: str(i)},
                    stdout=file,
                    stderr=file,
                )
            self.processes.append(process)

    def words(self, index):
        return self._said[index].read_text()

    def codes(self):
        """Exit codes, when all have ended."""
        return [process.wait(TIMEOUT) for process in self.processes]

    def end_well(self):
        said = [self.words(i) for i, code in enumerate(self.codes()) if code != 0]
        assert not said, "\n".join(said)

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where all processes find what one of them decoded, compiled or fitted."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def start(tmp_path_factory, cache):
    """start(arguments of each process, devices): they share their caches.

    They compile as the tests do, by XLA_FLAGS: figures are then rounded alike.
    """
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
    """train(workdir, flags..., processes=2, devices=1): the command, with SGD."""
    script = str(pathlib.Path(__file__).with_name("by_sgd.py"))

    def train(workdir, *flags, processes=2, devices=1, rounds=ROUNDS):
        total = f"--config.total_kimg={(rounds * 16 - 1) / 1000}"  # rounded up
        command = [script, *FLAGS, f"--workdir={workdir}", total, *flags]
        return start([command] * processes, devices)

    return train


def lines(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def until(workdir, step, peers):
    """Returns when that step, or a later one, has been reported."""
    path = workdir / "metrics.jsonl"
    while not path.exists() or path.read_text().count("\n") < step:
        assert peers.processes[0].poll() is None, peers.words(0)
        time.sleep(0.01)


def arrays(workdir, step):
    """All arrays of a checkpoint: the state's, and the mean's."""
    restore = ocp.args.StandardRestore()
    items = ocp.args.Composite(state=restore, ema=restore)
    with ocp.CheckpointManager(workdir / "checkpoints") as manager:
        return jax.tree.leaves(dict(manager.restore(step, args=items)))


def steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_run_may_go_on_with_other_processes_and_devices(train, tmp_path):
    alone, run = tmp_path / "alone", tmp_path / "run"
    train(alone, processes=1, rounds=6).end_well()
    start = arrays(alone, 6)
    shutil.copytree(alone, run)

    for path, how in ((alone, {"processes": 1}), (run, {"devices": 2})):
        peers = train(path, rounds=7, **how)
        peers.end_well()
    assert "round 7 of 7, 4 devices" in peers.words(0)
    for ours, wanted in zip(arrays(run, 7), arrays(alone, 7), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)

    peers = train(run, devices=2)
    until(run, 9, peers)
    peers.processes[1].send_signal(signal.SIGTERM)
    peers.end_well()
    stopped = lines(run)[-1]["step"]
    assert 9 <= stopped < ROUNDS
    assert steps(run) == [7, stopped]
    assert f"round 8 of {ROUNDS}, 4 devices" in peers.words(0)
    assert peers.words(0).endswith("kimg; the same command goes on\n")
    assert str(run) not in peers.words(1)  # the first speaks for all

    end = stopped + 1
    save = f"--config.save_kimg={stopped * 0.016}"
    for peers in [train(path, save, processes=1, rounds=end) for path in (alone, run)]:
        peers.end_well()
    assert [line["step"] for line in lines(run)] == [*range(1, end + 1)]
    # From then on what is continuous: a rectifier that turns over makes of a difference
    # of 1e-8 in a weight one of 1e-5 in its slope, and rounds add up.
    for step, near in ((7, 1e-5), (8, 1e-5), (end, 1e-3)):
        here, there = (lines(path)[step - 1] for path in (run, alone))
        for key in ("d/adversarial", "d/class", "g/adversarial", "g/class"):
            assert here[key] == pytest.approx(there[key], rel=near, abs=near), key
    pairs = zip(start, arrays(run, end), strict=True)
    assert sum(np.abs(a - b).max() > 1e-4 for a, b in pairs) > 10  # much was learnt


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number"), [(1, signal.SIGKILL), (0, signal.SIGSTOP)]
)
def test_a_process_that_dies_or_falls_silent_ends_the_other(
    train, tmp_path, victim, number
):
    peers = train(tmp_path / "run")
    until(tmp_path / "run", 3, peers)
    peers.processes[victim].send_signal(number)
    code = peers.processes[1 - victim].wait(30)
    assert code != 0
    said = peers.words(1 - victim)
    assert "cannot go on without the others" in said or "another task died" in said


@pytest.mark.slow
def test_what_one_process_cannot_read_none_begins_with(train, start, tmp_path):
    commands = [
        [*("-m", "cxr_gan.main"), *FLAGS, f"--workdir={tmp_path / 'run'}", *more]
        for more in ([], ["--config.dataset=path/to/nothing"])
    ]
    peers = start(commands)
    assert peers.codes() == [1, 1]
    complaint = "error: dataset 'path/to/nothing': there is no such file"
    assert complaint in peers.words(1)
    assert complaint.replace("error: ", "error: process 1: ") in peers.words(0)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_the_first_generates_is_what_one_process_would(start, tmp_path):
    model, out = tmp_path / "model", tmp_path / "out"
    params = tiny_generator.params()
    player = Player({"weight": np.zeros(1)}, {"memory": np.zeros(1)})
    spec = dataclasses.asdict(params.spec)
    meta = {"spec": spec, "kimg": 1.0, "dataset": {}, "config": {}}
    with checkpoint.Checkpoints(model) as checkpoints:
        ema = jax.device_get(params.params)
        state = TrainState(np.int32(7), player, player, ema, np.float32(0))
        checkpoints.save(state, meta)
        checkpoints.wait()
    command = ["-m", "cxr_gan.generate", f"--model={model}", "--num=3", f"--out={out}"]
    peers = start([command] * 2)
    peers.end_well()
    assert f"wrote 3 images, labels.csv, grid.png, generation.json to {out}" in (
        peers.words(0)
    )
    assert "wrote" not in peers.words(1)
    wanted = 255 * np.asarray(sampling.sample(params, [0, 1, 0], 0)[..., 0])
    for path, image in zip(sorted(out.glob("*_*.png"), key=index), wanted, strict=True):
        with Image.open(path) as written:
            np.testing.assert_allclose(np.asarray(written), image, atol=0.51)


def index(path):
    """NORMAL_00002.png -> 2."""
    return int(path.stem.rpartition("_")[2])


@pytest.fixture
def fake_images(tmp_path, cache, monkeypatch):
    """A data set of noise whose judge is in the cache; images, a tenth of them copies.

    Returns:
        The flags of `evaluate` that name both.
    """
    noise = np.random.default_rng(0).integers(0, 256, (320, 32, 32), np.uint8)
    label = np.arange(120) % 2
    parts = {
        f"{name}_{what}": array
        for name, of in (("train", noise[:120]), ("val", noise[120:240]))
        for what, array in (("images", of), ("labels", label))
    }
    np.savez(tmp_path / "set.npz", **parts)
    mixed = np.concatenate([noise[:8], noise[240:312]])
    np.savez(tmp_path / "fake.npz", images=mixed, labels=label[:80])
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(judges.fidelity, "fit", partial(fidelity.fit, steps=2))
    dataset = data.load(str(tmp_path / "set.npz"), 32, split_seed=0)
    judges.judge_of(evaluation.divide(dataset).train, 2)
    given = [f"--images={tmp_path}/fake.npz", f"--dataset={tmp_path}/set.npz"]
    return [*given, "--spaces=texture", "--most_copied=0.01"]


@pytest.mark.slow
def test_what_the_first_evaluates_is_what_one_process_would(
    start, fake_images, tmp_path
):
    command = ["-m", "cxr_gan.evaluate", *fake_images, f"--out={tmp_path}/out"]
    peers = start([command] * 2)
    values = flags.FlagValues()
    evaluate.define_flags(values)
    values(["evaluate", *fake_images, f"--out={tmp_path}/alone"])
    alone = evaluate.main(["evaluate"], values)
    assert peers.codes() == [alone] * 2 == [evaluate.COPIED] * 2, peers.words(0)
    wrote = f"wrote report.json and report.html to {tmp_path}/out"
    assert wrote in peers.words(0) and "wrote" not in peers.words(1)
    ours, wanted = (
        json.loads((tmp_path / name / "report.json").read_text())
        for name in ("out", "alone")
    )
    assert ours == wanted


@pytest.fixture
def environment(monkeypatch):
    """environment(NAME=value, ...): all it says of who is who."""

    def environment(**given):
        for name in (hosts.ADDRESS, hosts.COUNT, hosts.INDEX):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return environment


@pytest.mark.parametrize(
    "given",
    [
        {hosts.ADDRESS: "a:1"},
        {hosts.COUNT: "2", hosts.INDEX: "0"},
        {hosts.ADDRESS: "a", hosts.COUNT: "2", hosts.INDEX: "0"},
        {hosts.ADDRESS: "a:1", hosts.COUNT: "2", hosts.INDEX: "2"},
        {hosts.ADDRESS: "a:1", hosts.COUNT: "two", hosts.INDEX: "0"},
        {hosts.ADDRESS: "a:1", hosts.COUNT: "2", hosts.INDEX: "-1"},
    ],
)
def test_who_is_who_must_be_said_in_full(environment, given):
    environment(**given)
    with pytest.raises(ValueError, match="the environment says") as caught:
        hosts.join()
    for name in (hosts.ADDRESS, hosts.COUNT, hosts.INDEX):
        assert name in str(caught.value)


def test_where_nothing_says_who_is_who_it_is_said_what_to_set(environment, tmp_path):
    environment()
    done = subprocess.run(
        [sys.executable, "-m", "cxr_gan.main", "--multihost"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: --multihost: the processes did not meet" in done.stderr
    assert f"{hosts.ADDRESS}=HOST:PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [*tmp_path.iterdir()]


def test_one_process_is_the_first_and_agrees_with_itself():
    assert hosts.first()
    tree = {"a": np.float32(-0.0), "b": np.arange(3)}
    assert hosts.from_first(tree) is tree
    hosts.require_same(config={"a": 1}, dataset="phantom")
    with hosts.together():
        pass
    with pytest.raises(OSError, match="mine"), hosts.together():
        raise OSError("mine")


@pytest.fixture
def two(monkeypatch):
    """two(words of process 1): this process is 0 of 2, whose other one is acted."""
    said = []

    def two(words):
        def exchange(own):
            said.append(own)
            return [own, words]

        monkeypatch.setattr(hosts, "_exchange", exchange)
        return said

    return two


def test_what_all_could_do_nobody_complains_of(two):
    said = two("")
    with hosts.together():
        pass
    assert said == [""]


def test_a_complaint_of_one_is_raised_in_all(two):
    said = two("no such file")
    refused = pytest.raises(hosts.PeerError, match="process 1: no such file")
    with refused, hosts.together():
        pass
    with pytest.raises(ValueError, match="mine"), hosts.together():
        raise ValueError("mine")
    assert said == ["", "mine"]


def test_a_bug_is_no_complaint_and_ends_the_process_instead(two):
    said = two("")
    with pytest.raises(TypeError), hosts.together():
        raise TypeError
    assert said == []


def test_other_flags_or_files_in_one_process_are_refused_in_all(two):
    two("another digest")
    with pytest.raises(ValueError, match="process 1 was given another configuration"):
        hosts.require_same(configuration={"seed": 0})


class Left(BaseException):
    """In place of os._exit."""


@pytest.fixture
def joined(monkeypatch):
    """A process that has met others, and leaves without them by raising `Left`."""

    def leave(code):
        raise Left(code)

    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(hosts, "LAST_WORDS", 0)
    monkeypatch.setattr(os, "_exit", leave)


@pytest.mark.usefixtures("joined")
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (SystemExit("error: mine"), 1, "error: mine\n"),
        (SystemExit(3), 3, ""),
        (TypeError("a bug"), 1, "TypeError: a bug\n"),
        (
            jax.errors.JaxRuntimeError("UNKNOWN: Connection reset\nby peer"),
            1,
            "cannot go on without the others (UNKNOWN: Connection reset); see what",
        ),
    ],
)
def test_a_process_that_fails_says_why_and_waits_for_nobody(capsys, error, code, words):
    with pytest.raises(Left) as left, hosts.ending():
        raise error
    assert left.value.args == (code,)
    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("joined")
def test_a_process_that_ends_well_leaves_with_the_others():
    with pytest.raises(SystemExit) as left, hosts.ending():
        raise SystemExit(0)
    assert left.value.code == 0


def test_one_process_ends_as_ever():
    for error in (SystemExit("error: mine"), KeyboardInterrupt(), TypeError("a bug")):
        with pytest.raises(type(error)), hosts.ending():
            raise error


@pytest.mark.parametrize("first", [True, False])
def test_the_first_does_a_command_and_all_end_with_its_code(monkeypatch, first):
    done = []
    monkeypatch.setattr(hosts, "join", lambda: None)
    monkeypatch.setattr(hosts, "first", lambda: first)
    monkeypatch.setattr(hosts, "from_first", lambda code: code if first else 3)

    def command():
        done.append("it")
        return 3

    assert hosts.by_first(command, multihost=True) == 3
    assert done == ["it"] * first


def test_without_multihost_a_command_is_as_ever(monkeypatch):
    monkeypatch.setattr(hosts, "join", None)
    assert hosts.by_first(lambda: 3, multihost=False) == 3
