"""Saves a checkpoint on a full file system, then again after space was freed.

Usage: python full_disk.py FOLDER, with permission to mount a file system on FOLDER.
Prints the error of the failed save, and the newest intact checkpoint after each save.
"""

import contextlib
import pathlib
import subprocess
import sys

import chex
from test_checkpoint import restore, save, small_state

from cxr_gan.storage.checkpoint import CheckpointError


def fill(path: pathlib.Path) -> None:
    """Writes zeros to a file until the file system is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def newest_intact(folder: pathlib.Path) -> str:
    state, metadata = restore(folder)
    chex.assert_trees_all_equal(state, small_state(metadata["step"]))
    return f"intact: {metadata['step']}"


def main(folder: pathlib.Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder]
    subprocess.run(mount, check=True)
    save(folder, 10)
    fill(folder / "filler")
    try:
        save(folder, 20)
    except CheckpointError as error:
        print(error)
    print(newest_intact(folder))
    (folder / "filler").unlink()
    save(folder, 20)
    print(newest_intact(folder))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
