"""Runs the cloud commands of README.md and docs exactly as written there."""

import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from fenced import read, typed
from test_cloud import ROOT, WORKDIR, Cloud, script

import cxr_gan
from cxr_gan.runtime import multihost

# As in test_cloud, but runs the command in the foreground.
TMUX = """#!/bin/sh
case $1 in has-session) exit 1 ;; new-session) exec bash -c "$5" ;; esac
"""
# Prints the log and exits, as if Ctrl-C were typed at once.
TAIL = """#!/bin/sh
exec /usr/bin/tail -n 100 "$4"
"""
LOGGED = """#!/bin/sh
echo "${0##*/} $*" >>"$HOME/typed.log"
"""
# A local stand-in for SkyPilot: runs the two scripts of the job in its workdir.
SKY = """#!PYTHON
import os, subprocess, sys, yaml
match sys.argv[1:]:
    case ["check", "gcp"] | ["jobs", "queue"]:
        pass
    case ["jobs", "launch", file, *more]:
        job = yaml.safe_load(open(file))
        assert more[::2] == ["--env"] * (len(more) // 2), more
        values = dict(item.split("=", 1) for item in more[1::2])
        assert values.keys() <= job["envs"].keys(), values
        env = {**os.environ, "HOME": os.environ["VM"], **job["envs"], **values}
        for part in ("setup", "run"):
            subprocess.run(["bash", "-ec", job[part]], env=env, check=True)
    case words:
        sys.exit(f"no such command: sky {words}")
"""
TRAINING = WORKDIR + "echo line >>metrics.jsonl\n"


def section(page: str, title: str) -> str:
    """The text between a heading of the second level and the next."""
    return read(page).split(f"\n## {title}\n")[1].split("\n## ")[0]


class User(Cloud):
    """A user who types commands in a terminal, in a checkout."""

    def __init__(self, folder):
        super().__init__(folder)
        for name in [name for name in self.env if re.match("CXR_(?!POLL)", name)]:
            del self.env[name]
        self.checkout = folder / "checkout"
        self.checkout.mkdir()
        for name in ("configs", "cxr_gan", "launch"):
            shutil.copytree(ROOT / name, self.checkout / name)
        for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
            shutil.copy(ROOT / name, self.checkout)
        self.bucket = folder / "buckets/my-bucket"
        (self.bucket / "chest_xray").mkdir(parents=True)
        (self.bucket / "chest_xray/a.png").touch()
        (self.vm / "training").write_text(TRAINING)
        self.env["VM"] = str(self.vm)
        sky = SKY.replace("PYTHON", sys.executable)
        stand_ins = {"tmux": TMUX, "tail": TAIL, "sky": sky}
        for name, text in {**stand_ins, "pip": LOGGED, "python": LOGGED}.items():
            script(folder / "bin" / name, text)

    def type(self, command: str) -> str:
        """Runs a command in a shell with earlier exports; returns its output."""
        exports = self.folder / "exports"
        load = f"[ ! -e {exports} ] || . {exports}"
        lines = f"set -e\n{load}\n{command}\nexport -p >{exports}"
        done = subprocess.run(
            ["bash", "-c", lines],
            cwd=self.checkout,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def logged(self) -> list[str]:
        """The commands that were only logged, with their arguments."""
        return (self.folder / "home/typed.log").read_text().splitlines()


@pytest.fixture
def user(tmp_path) -> User:
    return User(tmp_path)


GRANTED = {"request": ["PROVISIONING", "ACTIVE"], "node": ["CREATING", "READY"]}


def test_gcloud_commands_of_the_page_run_twice_from_create_to_delete(user):
    user.set_world(granted=GRANTED, ssh_runs=True)
    *steps, again = typed(section("docs/cloud.md", "With gcloud alone"))
    outputs = {command: user.type(command) for command in steps}
    expected = {
        "create": "next: bash launch/tpu.sh wait",
        "wait": "is billed from now",
        "setup": "next: bash launch/tpu.sh run",
        "run": "the training has ended; the run is in gs://my-bucket/runs/cxr-gan",
        "logs": "the training has ended",
        "fetch": "the run, as last copied",
        "delete": "nothing named cxr-gan is left in any zone of my-project",
    }
    for step, words in expected.items():
        (output,) = [outputs[c] for c in steps if f"tpu.sh {step}" in c]
        assert words in output
    assert "--config.dataset=phantom:3000" in user.training_commands()[0]
    run = user.checkout / "runs/cxr-gan/metrics.jsonl"
    assert run.read_text() == "line\n"

    shutil.rmtree(user.vm / "cxr_gan")  # the slice was preempted
    user.set_world(
        **{"request": ["SUSPENDED"], "node": ["PREEMPTED"]},
        **{"granted": GRANTED, "ssh_runs": True},
    )
    assert "the training has ended" in user.type(again)
    user.type(next(command for command in steps if "fetch" in command))
    assert run.read_text() == "line\n" * 2
    calls = [call for call in user.calls() if call[3] == "create"]
    assert len(calls) == 2 and calls[0] == calls[1]


def test_skypilot_commands_of_the_page_run(user):
    text = section("docs/cloud.md", "With SkyPilot, recommended")
    install, check, launch, queue = typed(text)
    for command in (install, check, launch, queue):
        user.type(command)
    assert user.logged() == ["pip install skypilot[gcp]"]
    runs = user.bucket / "runs/cxr-gan"
    assert (runs / "metrics.jsonl").read_text() == "line\n"
    data, training = re.findall(r"`(--env [^`]+)`", text)
    user.type(f"{launch} {data} {training}")
    assert "--config.total_kimg=400" in user.training_commands()[1]
    assert "--config.dataset=data" in user.training_commands()[1]
    assert (user.checkout / "data/a.png").exists()


def test_copy_commands_of_the_bucket_error_run(user):
    model = "gs://my-bucket/runs/a"
    with pytest.raises(ValueError, match="model=gs") as refused:
        cxr_gan.load(model)
    fetch, upload = re.findall("gcloud .*", str(refused.value))
    (user.bucket / "runs/a").mkdir(parents=True)
    (user.bucket / "runs/a/run.json").write_text("{}")
    (user.checkout / "a").mkdir()
    user.type(fetch)
    assert (user.checkout / "a/run.json").read_text() == "{}"
    (user.checkout / "a/metrics.jsonl").write_text("line")
    user.type(upload)
    assert (user.bucket / "runs/a/metrics.jsonl").read_text() == "line"


def test_tpu_vm_commands_of_readme_and_manual_run(user, monkeypatch):
    """The training command is only logged here; test_manual runs it."""
    text = section("README.md", "Train on your data")
    install = re.findall("`(pip install [^`]+)`", text)[0]
    *_, train = typed(text)
    export = typed(section("docs/cloud.md", "Several hosts"))
    for command in (install, train, *export):
        user.type(command)
    installed, trained = user.logged()
    assert installed == "pip install -e .[tpu]"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "tpu" in project["optional-dependencies"]
    assert trained.startswith("python -m cxr_gan.main --config=configs/acgan.py ")
    for name in (multihost.ADDRESS, multihost.COUNT, multihost.INDEX):
        monkeypatch.setenv(name, user.type(f"printf %s ${name}"))
    assert multihost._from_environment() == {
        "coordinator_address": "10.0.0.1:1234",
        "num_processes": 2,
        "process_id": 0,
    }
