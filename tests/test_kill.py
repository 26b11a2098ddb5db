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
ROUNDS = 100
COMMAND = [
    *("--config=configs/quick.py", "--config.dataset=phantom:200"),
    *("--config.batch_size=8", "--config.group_per_class=2"),
    *("--config.generator.features_at_32=8", "--config.generator.max_features=8"),
    "--config.discriminator.features_at_32=8",
    "--config.discriminator.max_features=8",
    *("--config.latent_size=8", "--config.loss.r1_weight=0"),
    *("--config.total_kimg=0.8", "--config.report_kimg=0.008"),
    *("--config.draw_kimg=0.016", "--config.save_kimg=0.016"),
    "--config.evaluate_kimg=0.08",
]


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """play(workdir, phase, nth, delay): the command; how it ended, and its marks."""
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
    )

    def play(workdir, phase=None, nth=1, delay=0.0):
        order = {
            "argv": [*COMMAND, f"--workdir={workdir}"],
            "log": str(folder / "log"),
            **{"phase": phase, "nth": nth, "delay": delay},
        }
        print(json.dumps(order), file=server.stdin, flush=True)
        marks = []
        for line in server.stdout:
            mark, number = line.split()
            if mark == "ended":
                return int(number), marks
            marks.append((mark[0], mark[1:], float(number)))
        raise AssertionError((folder / "log").read_text())

    yield play
    server.kill()
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
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    status, marks = play(whole)
    assert status == 0
    typical = durations(marks)
    chance = random.Random(0)
    hit = []
    while len(hit) < KILLS or {*PHASES} - {*hit}:
        assert len(hit) < 2 * KILLS, f"some phases were never met: {hit}"
        phase = PHASES[len(hit) % len(PHASES)]
        nth = chance.randint(1, 4) if phase == "step" else 1
        delay = chance.uniform(0, typical[phase])
        status, marks = play(broken, phase, nth, delay)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        hit.append(died_in(marks))
    status, _ = play(broken)
    assert status == 0
    assert_same_end(broken, whole, ROUNDS)
    print("killed in:", *hit)
