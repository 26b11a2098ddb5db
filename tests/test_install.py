"""What launch/install.sh prints of pip's output."""

import base64
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def write_wheel(folder: pathlib.Path) -> str:
    """Writes a package without content, as tiny-1.0; returns its sha256."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    files = {
        "METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            sha256 = digest.decode().rstrip("=")
            record += f"tiny-1.0.dist-info/{name},sha256={sha256},{len(text)}\n"
            wheel.writestr(f"tiny-1.0.dist-info/{name}", text)
        wheel.writestr("tiny-1.0.dist-info/RECORD", record)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def install(tmp_path):
    """install(): (exit code, output) of launch/install.sh in a folder of its own.

    Its Python is this one, which installs into the folder, and no project.
    """
    for name in ("launch", ".venv/bin", "wheels"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(ROOT / "launch/install.sh", tmp_path / "launch")
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / ".venv/bin/python"
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--editable*|*build-requirements*) exit 0 ;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    sha256 = write_wheel(tmp_path / "wheels")
    lock = tmp_path / "launch/requirements.lock"
    lock.write_text(f"tiny==1.0 --hash=sha256:{sha256}\n")
    own = {
        "PIP_NO_INDEX": "1",
        "PIP_TARGET": str(tmp_path / "installed"),
        # As in a configuration of pip that names a folder which is not there.
        "PIP_FIND_LINKS": f"{tmp_path}/absent {tmp_path}/wheels",
    }

    def install():
        done = subprocess.run(
            ["bash", "-c", "source launch/install.sh"],
            cwd=tmp_path,
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return install


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_installation_shows_errors_of_pip_and_no_warnings(install, tmp_path):
    code, output = install()
    assert code == 0, output
    assert (tmp_path / "installed/tiny-1.0.dist-info").exists()
    assert [line.partition(" ")[0] for line in output.splitlines()] == ["launch:"]
    (tmp_path / "launch/requirements.lock").write_text("huge==1.0 --hash=sha256:0\n")
    code, output = install()
    assert code == 1
    assert "ERROR:" in output and "WARNING" not in output
    assert "launch: the installation failed (see pip's output above)" in output
