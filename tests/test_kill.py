import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys

import pytest
from rounds import assert_same_end

PHASES = ("compile", "step", "save", "draw", "evaluate")  # see killed.py
KILLS = 20
ROUNDS = 60  # a report each, a checkpoint and a grid every 2, a look at val every 10
COMMAND = [
    *("--config=configs/quick.py", "--config.dataset=phantom:200"),
    *("--config.batch_size=8", "--config.group_per_class=2"),
    *("--config.generator.features_at_32=8", "--config.generator.max_features=8"),
    "--config.discriminator.features_at_32=8",
    "--config.discriminator.max_features=8",
    *("--config.latent_size=8", "--config.loss.r1_weight=0"),
    *("--config.report_kimg=0.008", "--config.evaluate_kimg=0.08"),
    *("--config.draw_kimg=0.016", "--config.save_kimg=0.016"),
]


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """play(workdir, phase, nth, delay): the command; how it ended, and its marks.

    It ends by itself, or by SIGKILL so many seconds after it entered the phase.
    """
    folder = tmp_path_factory.mktemp("kill")
    ours = ("JAX_", "XLA_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
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

    def play(workdir, phase=None, nth=1, delay=0.0):
        length = f"--config.total_kimg={ROUNDS * 0.008}"
        order = {
            "argv": [*COMMAND, length, f"--workdir={workdir}"],
            "log": str(log),
            **{"phase": phase, "nth": nth, "delay": delay},
        }
        print(json.dumps(order), file=server.stdin, flush=True)
        marks = []
        for line in server.stdout:
            mark, number = line.split()
            if mark == "ended":
                status = int(number)
                killed = os.WIFSIGNALED(status) and os.WTERMSIG(status)
                assert status == 0 or killed == signal.SIGKILL, log.read_text()
                return status, marks
            marks.append((mark[0], mark[1:], float(number)))
        raise AssertionError(log.read_text())

    yield play
    os.killpg(server.pid, signal.SIGKILL)
    server.communicate()


def durations(marks):
    """The median seconds of each phase."""
    took = {phase: [] for phase in PHASES}
    begun = {}
    for sign, phase, when in marks:
        if sign == "+":
            begun[phase] = when
        else:
            took[phase].append(when - begun[phase])
    return {phase: statistics.median(seconds) for phase, seconds in took.items()}


def died_in(marks):
    """The phase that had begun and not ended, or "between"."""
    sign, phase, _ = marks[-1] if marks else ("-", "", 0.0)
    return phase if sign == "+" else "between"


@pytest.mark.slow
def test_killed_twenty_times_in_every_phase_a_run_ends_bit_for_bit_as_unbroken(
    play, tmp_path
):
    play(tmp_path / "first")  # all is compiled, drawn and fitted once
    _, marks = play(tmp_path / "whole")
    typical, chance = durations(marks), random.Random(0)
    broken, hit = [tmp_path / "broken0"], []
    for attempt in range(2 * KILLS):
        if len(hit) >= KILLS and {*PHASES} <= {*hit}:
            break
        phase = PHASES[attempt % len(PHASES)]
        nth = chance.randint(1, 4) if phase == "step" else 1
        delay = chance.uniform(0, typical[phase])
        status, marks = play(broken[-1], phase, nth, delay)
        if status == 0:  # it had come to its end before the moment came
            broken.append(tmp_path / f"broken{len(broken)}")
        else:
            hit.append(died_in(marks))
    print("killed in:", *hit)
    assert len(hit) >= KILLS and {*PHASES} <= {*hit}
    assert play(broken[-1])[0] == 0
    for folder in broken:
        assert_same_end(folder, tmp_path / "whole", ROUNDS)
