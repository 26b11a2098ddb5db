"""What README.md and docs/cloud.md say to type for a cloud, typed word for word."""

import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from test_cloud import ROOT, WORKDIR, Cloud, script

import cxr_gan
from cxr_gan import hosts

# As in test_cloud, but what is started under it is done before it returns.
TMUX = """#!/bin/sh
case $1 in has-session) exit 1 ;; new-session) exec bash -c "$5" ;; esac
"""
# Looks once: Ctrl-C is typed at once.
TAIL = """#!/bin/sh
exec /usr/bin/tail -n 100 "$4"
"""
LOGGED = """#!/bin/sh
echo "${0##*/} $*" >>"$HOME/typed.log"
"""
# SkyPilot, on this machine: the job's two scripts, in its workdir.
SKY = """#!PYTHON
import os, subprocess, sys, yaml
match sys.argv[1:]:
    case ["check", "gcp"] | ["jobs", "queue"]:
        pass
    case ["jobs", "launch", file, *more]:
        job = yaml.safe_load(open(file))
        assert more[::2] == ["--env"] * (len(more) // 2), more
        given = dict(one.split("=", 1) for one in more[1::2])
        assert given.keys() <= job["envs"].keys(), given
        env = {**os.environ, "HOME": os.environ["VM"], **job["envs"], **given}
        for part in ("setup", "run"):
            subprocess.run(["bash", "-ec", job[part]], env=env, check=True)
    case words:
        sys.exit(f"no such command: sky {words}")
"""
TRAINING = WORKDIR + "ls >../seen; echo round >>metrics.jsonl\n"


def section(page: str, title: str) -> str:
    """From a heading of the second level to the next."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def commands(text: str) -> list[str]:
    """Those of the bash blocks; lines that one command goes on over are one."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = re.sub(r"(\\|&&)\n", r"\1\0", "".join(blocks)).splitlines()
    return [line.replace("\0", "\n") for line in lines if line.strip()]


class Person(Cloud):
    """Who types in a terminal, in a checkout, what is written there."""

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
        """In a shell that knows what was exported before; returns all it says."""
        known = self.folder / "exported"
        lines = f"set -e\n[ ! -e {known} ] || . {known}\n{command}\nexport -p >{known}"
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

    def typed(self) -> list[str]:
        """What only was logged, with its arguments."""
        return (self.folder / "home/typed.log").read_text().splitlines()


@pytest.fixture
def person(tmp_path) -> Person:
    return Person(tmp_path)


GRANTED = {"request": ["PROVISIONING", "ACTIVE"], "node": ["CREATING", "READY"]}


def test_the_page_of_gcloud_can_be_followed_from_create_to_delete_and_again(person):
    person.play(granted=GRANTED, ssh_runs=True)
    *steps, again = commands(section("docs/cloud.md", "With gcloud alone"))
    said = {command: person.type(command) for command in steps}
    heard = {
        "create": "next: bash launch/tpu.sh wait",
        "wait": "bills from now",
        "setup": "next: bash launch/tpu.sh run",
        "run": "the training has ended; the run is in gs://my-bucket/runs/cxr-gan",
        "logs": "the training has ended",
        "fetch": "the run, as last copied",
        "delete": "nothing named cxr-gan is left in any zone of my-project",
    }
    for step, words in heard.items():
        (answer,) = [said[c] for c in steps if f"tpu.sh {step}" in c]
        assert words in answer
    assert "--config.dataset=phantom:3000" in person.trained()[0]
    run = person.checkout / "runs/cxr-gan/metrics.jsonl"
    assert run.read_text() == "round\n"

    shutil.rmtree(person.vm / "cxr_gan")  # the slice was taken away
    person.play(
        **{"request": ["SUSPENDED"], "node": ["PREEMPTED"]},
        **{"granted": GRANTED, "ssh_runs": True},
    )
    assert "the training has ended" in person.type(again)
    person.type(next(command for command in steps if "fetch" in command))
    assert run.read_text() == "round\n" * 2
    calls = [call for call in person.calls() if call[3] == "create"]
    assert len(calls) == 2 and calls[0] == calls[1]


def test_the_page_of_skypilot_can_be_followed(person):
    text = section("docs/cloud.md", "With SkyPilot, recommended")
    install, check, launch, queue = commands(text)
    for command in (install, check, launch, queue):
        person.type(command)
    assert person.typed() == ["pip install skypilot[gcp]"]
    runs = person.bucket / "runs/cxr-gan"
    assert (runs / "metrics.jsonl").read_text() == "round\n"
    data, training = re.findall(r"`(--env [^`]+)`", text)
    person.type(f"{launch} {data} {training}")
    assert "--config.resolution=128" in person.trained()[1]
    assert "--config.dataset=data" in person.trained()[1]
    assert (person.checkout / "data/a.png").exists()


def test_what_is_said_of_a_workdir_in_a_bucket_can_be_typed(person):
    model = "gs://my-bucket/runs/a"
    with pytest.raises(ValueError, match="model=gs") as refused:
        cxr_gan.load(model)
    fetch, keep = re.findall("gcloud .*", str(refused.value))
    (person.bucket / "runs/a").mkdir(parents=True)
    (person.bucket / "runs/a/run.json").write_text("{}")
    (person.checkout / "a").mkdir()
    person.type(fetch)
    assert (person.checkout / "a/run.json").read_text() == "{}"
    (person.checkout / "a/metrics.jsonl").write_text("round")
    person.type(keep)
    assert (person.bucket / "runs/a/metrics.jsonl").read_text() == "round"


def test_the_section_of_the_readme_can_be_followed(person, monkeypatch):
    """That its training runs is tested with all commands of the README."""
    install, train, *export = commands(section("README.md", "On a Cloud TPU VM"))
    for command in (install, train, *export):
        person.type(command)
    installed, trained = person.typed()
    assert installed == "pip install -e .[tpu]"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "tpu" in project["optional-dependencies"]
    assert trained.startswith("python -m cxr_gan.main --config=configs/acgan.py ")
    for name in (hosts.ADDRESS, hosts.COUNT, hosts.INDEX):
        monkeypatch.setenv(name, person.type(f"printf %s ${name}"))
    assert hosts._given() == {
        "coordinator_address": "10.0.0.1:1234",
        "num_processes": 2,
        "process_id": 0,
    }
