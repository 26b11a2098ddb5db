"""The wheel as users install it, without a checkout."""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator

import dicom_files
import numpy as np
import pydicom
import pytest

from cxr_gan.data.phantom import renderer

ROOT = pathlib.Path(__file__).parents[1]

TINY = (
    "--config.total_kimg=2",
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
def bin_dir(scratch, wheel) -> Iterator[pathlib.Path]:
    """The folder of commands of a new environment: the wheel with the extra dicom.

    The dependencies have the versions of those installed here, which are in pip's cache
    if pip installed them.
    """
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=scratch)
    bin_dir = scratch / "env" / ("Scripts" if os.name == "nt" else "bin")
    versions = scratch / "versions.txt"
    installed = importlib.metadata.distributions()
    pins = (f"{d.name}=={d.version}" for d in installed if d.name != "cxr-gan")
    versions.write_text("\n".join(pins))
    pip = (sys.executable, "-m", "pip", "--python", bin_dir / "python")
    install = (*pip, "install", "--quiet", "--no-compile", "--constraint", versions)
    subprocess.run((*install, f"{wheel}[dicom]"), cwd=scratch, check=True)
    yield bin_dir
    shutil.rmtree(scratch / "env")  # 2.4 GB, which pytest would keep


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


@pytest.fixture(scope="module")
def trained(scratch, bin_dir) -> pathlib.Path:
    """The folder of a training on 60 DICOM files of 12 bits, in class folders."""
    images, labels = renderer.render_many(0, range(60), 64)
    for i, (image, label) in enumerate(zip(images[..., 0], labels, strict=True)):
        path = scratch / "export" / ("NORMAL", "PNEUMONIA")[label] / f"{i}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        words = image.astype(np.uint16) * 16
        dicom_files.save(dicom_files.image(words, PatientID=f"P{i}"), path)
    train = (bin_dir / "cxr-gan", "--config=configs/quick.py", *TINY)
    run(*train, "--config.dataset=export", "--workdir=run", cwd=scratch)
    return scratch / "run"


@pytest.mark.slow
def test_installed_wheel_trains_on_dicom_and_writes_dicom(scratch, bin_dir, trained):
    import SimpleITK

    generate = (bin_dir / "python", "-m", "cxr_gan.generate", f"--model={trained}")
    flags = ("--format=dicom", "--bits=16", "--num=8", "--out=dicom")
    run(*generate, *flags, cwd=scratch)
    paths = [*scratch.glob("dicom/images/*/*.dcm")]
    assert len(paths) == 8
    for path in paths:
        pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))[0]
        assert pixels.shape == (32, 32) and np.ptp(pixels) > 256
        np.testing.assert_array_equal(pixels, pydicom.dcmread(path).pixel_array)


@pytest.mark.slow
def test_installed_wheel_samples_generates_and_evaluates(scratch, bin_dir, trained):
    python = bin_dir / "python"
    path = run(python, "-c", "import cxr_gan; print(cxr_gan.__file__)", cwd=scratch)
    assert pathlib.Path(path.strip()).is_relative_to(scratch)
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
