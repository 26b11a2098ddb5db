import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys

import chex
import pytest
from tiny_runs import metric_lines, restore, without_times

PHASES = ("compile", "step", "save", "sample", "validate")  # see killed.py
KILLS = 50
SIGNALS = ("SIGKILL", "SIGTERM", "SIGHUP")  # in turn; every second one after a pipe
STEPS = 60  # a report each, a checkpoint and a grid every 2, a validation every 10
COMMAND = [
    *("--config=configs/quick.py", "--config.dataset=phantom:200"),
    *("--config.batch_size=8", "--config.stddev_group_per_class=2"),
    *("--config.generator.features_at_32=8", "--config.generator.max_features=8"),
    "--config.discriminator.features_at_32=8",
    "--config.discriminator.max_features=8",
    *("--config.latent_size=8", "--config.loss.r1_weight=0"),
    *("--config.log_kimg=0.008", "--config.eval_kimg=0.08"),
    *("--config.sample_kimg=0.016", "--config.checkpoint_kimg=0.016"),
]


@pytest.fixture(scope="module")
def run_command(tmp_path_factory):
    """run_command(workdir, phase, nth, delay, by, pipe): the exit status, phase marks.

    The command ends by itself, or by a signal as in killed.py. Only SIGKILL ends it
    before it has saved.
    """
    folder = tmp_path_factory.mktemp("kill")
    own = ("JAX_", "XLA_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    here = pathlib.Path(__file__)
    env |= {"PYTHONPATH": str(here.parents[1]), "XDG_CACHE_HOME": str(folder / "cache")}
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", here.with_name("killed.py")],
        cwd=folder,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = folder / "log"

    def run_command(workdir, phase=None, nth=1, delay=0.0, by="SIGKILL", pipe=False):
        length = f"--config.total_kimg={STEPS * 0.008}"
        job = {
            "argv": [*COMMAND, length, f"--workdir={workdir}"],
            "log": str(log),
            **{"phase": phase, "nth": nth, "delay": delay, "by": by, "pipe": pipe},
        }
        print(json.dumps(job), file=server.stdin, flush=True)
        marks = []
        for line in server.stdout:
            mark, number = line.split()
            if mark == "ended":
                status = int(number)
                killed_by = os.WIFSIGNALED(status) and os.WTERMSIG(status)
                is_kill = by == "SIGKILL" and killed_by == signal.SIGKILL
                assert status == 0 or is_kill, log.read_text()
                assert "Traceback" not in log.read_text()
                return status, marks
            marks.append((mark[0], mark[1:], float(number)))
        raise AssertionError(log.read_text())

    yield run_command
    os.killpg(server.pid, signal.SIGKILL)
    server.communicate()


def median_durations(marks):
    """{phase: median duration in seconds}."""
    durations = {phase: [] for phase in PHASES}
    started = {}
    for sign, phase, seconds in marks:
        if sign == "+":
            started[phase] = seconds
        else:
            durations[phase].append(seconds - started[phase])
    return {phase: statistics.median(values) for phase, values in durations.items()}


def killed_phase(marks):
    """The phase that began and did not end, or "between"."""
    sign, phase, _ = marks[-1] if marks else ("-", "", 0.0)
    return phase if sign == "+" else "between"


@pytest.mark.slow
def test_run_ended_fifty_times_in_every_phase_equals_uninterrupted_run_bit_for_bit(
    run_command, tmp_path
):
    run_command(tmp_path / "first")  # fills the caches
    _, marks = run_command(tmp_path / "uninterrupted")
    durations, rng = median_durations(marks), random.Random(0)
    workdirs, kills = [tmp_path / "killed0"], []
    expected_kills = {*PHASES, *SIGNALS[1:], "pipe"}
    for attempt in range(2 * KILLS):
        if len(kills) >= KILLS and expected_kills <= {*kills}:
            break
        phase = PHASES[attempt % len(PHASES)]
        by, pipe = SIGNALS[attempt % len(SIGNALS)], attempt % 2 == 1
        nth = rng.randint(1, 4) if phase == "step" else 1
        delay = rng.uniform(0, durations[phase])
        _, marks = run_command(workdirs[-1], phase, nth, delay, by, pipe)
        if (workdirs[-1] / "checkpoints" / str(STEPS)).exists():  # it was not ended
            workdirs.append(tmp_path / f"killed{len(workdirs)}")
        else:
            kills += ["pipe"] * pipe
            kills.append(killed_phase(marks) if by == "SIGKILL" else by)
    print("ended in:", *kills)
    assert len(kills) >= KILLS and expected_kills <= {*kills}
    assert run_command(workdirs[-1])[0] == 0
    expected, expected_validations = lines_of(tmp_path / "uninterrupted")
    for folder in workdirs:
        chex.assert_trees_all_equal(
            restore(folder, STEPS), restore(tmp_path / "uninterrupted", STEPS)
        )
        lines, validations = lines_of(folder)
        assert lines == expected
        # A signal in a step that is due to be validated leaves no time for it.
        assert all(line in expected_validations for line in validations)


def lines_of(folder):
    """The lines of metrics.jsonl of training, and those of validation."""
    lines = without_times(metric_lines(folder))
    validations = [line for line in lines if "eval/kid" in line]
    return [line for line in lines if line not in validations], validations
