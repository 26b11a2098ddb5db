"""The wheel as users install it, without a checkout."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]

TINY = (
    "--config.dataset=phantom:200",
    "--config.total_kimg=0.1",
    "--config.loss.r1_weight=0",
    "--config.generator.features_at_32=8",
    "--config.generator.max_features=8",
    "--config.discriminator.features_at_32=8",
    "--config.discriminator.max_features=8",
)


def run(*command: str | os.PathLike[str], cwd: pathlib.Path) -> str:
    """Runs a command in a user's environment; returns its stdout.

    Environment variables for JAX, Python, TensorFlow, XLA and XDG are removed.
    """
    removed = ("JAX_", "PYTHON", "TF_", "XLA_", "XDG_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(removed)}
    env["XDG_CACHE_HOME"] = str(cwd / "cache")
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> pathlib.Path:
    """A folder outside the checkout for the wheel, its environment and its runs."""
    return tmp_path_factory.mktemp("package")


@pytest.fixture(scope="module")
def wheel(scratch) -> pathlib.Path:
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
        *("--outdir", scratch, ROOT),
        cwd=scratch,
    )
    (path,) = scratch.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def bin_dir(scratch, wheel) -> pathlib.Path:
    """The folder of commands of a new environment with only the wheel installed.

    A .pth file adds the folder of the dependencies installed here, so no network is
    needed. The checkout stays invisible: its editable install is a .pth file in that
    folder, which Python does not read there.
    """
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=scratch)
    bin_dir = scratch / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip = (sys.executable, "-m", "pip", "--python", bin_dir / "python")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=scratch)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = pathlib.Path(run(bin_dir / "python", "-c", code, cwd=scratch).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return bin_dir


@pytest.mark.slow
def test_wheel_holds_the_whole_package_and_configs_but_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cxr_gan").rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert {"cxr_gan/py.typed", "cxr_gan/sampling/weights/pediatric64.npz"} <= package
    configs = {f"cxr_gan/configs/{p.name}" for p in (ROOT / "configs").glob("*.py")}
    assert package | configs <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"cxr_gan"}
    assert not [name for name in names if "test" in name or "/__pycache__/" in name]


@pytest.mark.slow
def test_installed_wheel_trains_samples_generates_and_evaluates(scratch, bin_dir):
    python = bin_dir / "python"
    path = run(python, "-c", "import cxr_gan; print(cxr_gan.__file__)", cwd=scratch)
    assert pathlib.Path(path.strip()).is_relative_to(scratch)

    train = (bin_dir / "cxr-gan", "--config=configs/quick.py", *TINY)
    run(*train, "--workdir=run", cwd=scratch)
    code = (
        "import cxr_gan; params = cxr_gan.load('run'); "
        "print(cxr_gan.sample(params, ['NORMAL', 'PNEUMONIA'], 0).shape)"
    )
    assert run(python, "-c", code, cwd=scratch).strip() == "(2, 32, 32, 1)"

    def command(module: str, *arguments: str) -> None:
        run(python, "-m", f"cxr_gan.{module}", *arguments, cwd=scratch)

    command("generate", "--model=pediatric64", "--num=4", "--seed=0", "--out=samples")
    assert len(list((scratch / "samples" / "images").glob("*/*.png"))) == 4
    assert (scratch / "samples" / "labels.csv").exists()

    images = ("--model=run", "--num=40", "--dataset=phantom:200")
    command("evaluate", *images, "--out=report")
    page = (scratch / "report" / "report.html").read_text(encoding="utf-8")
    assert "verdict: " in page.lower() and "data:image/svg+xml" in page
