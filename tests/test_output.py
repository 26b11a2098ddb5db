"""Output that nobody can read ends no command."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FULL = pathlib.Path("/dev/full")  # every write to it fails with ENOSPC
# Writes more than the buffers hold, by everything that writes in a command.
CODE = """
import sys, warnings
from absl import logging
from tqdm import tqdm
from cxr_gan.runtime import output
output.tolerate_errors()
for i in tqdm(range(3), disable=False, mininterval=0):
    print("x" * 10_000)
    logging.warning("y" * 10_000)
    warnings.warn("z")
    sys.stderr.write("w" * 10_000)
open("done", "w").close()
sys.exit("last words")
"""


def run(folder, **streams):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=folder, env=environment, **streams
    )
    assert (folder / "done").exists()
    return done.returncode


def test_closed_pipe_changes_no_exit_code(tmp_path):
    read, write = os.pipe()
    os.close(read)
    assert run(tmp_path, stdout=write, stderr=write) == 1  # that of sys.exit
    os.close(write)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full of Linux")
def test_full_disk_changes_no_exit_code(tmp_path):
    with FULL.open("w") as full:
        assert run(tmp_path, stdout=full, stderr=full) == 1


def test_terminal_that_is_gone_changes_no_exit_code(tmp_path):
    pty = pytest.importorskip("pty")  # of Unix
    terminal, end = pty.openpty()
    os.close(terminal)
    assert run(tmp_path, stdout=end, stderr=end) == 1
    os.close(end)


@pytest.mark.skipif(os.name == "nt", reason="needs a Unix shell")
def test_streams_that_were_never_open_change_no_exit_code(tmp_path):
    shell = f"exec \"{sys.executable}\" -c '{CODE}' >&- 2>&-"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=environment)
    assert (tmp_path / "done").exists() and done.returncode == 1
