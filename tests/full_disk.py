"""Saves on a file system until it is full; run where FOLDER may be mounted on.

Usage: python full_disk.py FOLDER. Prints what the full disk is told as, and which
checkpoint is whole then, and after there is room again.
"""

import contextlib
import pathlib
import subprocess
import sys

import chex
from test_checkpoint import restore, save, small_state

from cxr_gan.checkpoint import CheckpointError


def fill(path: pathlib.Path) -> None:
    """To the last byte."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def whole(folder: pathlib.Path) -> str:
    state, meta = restore(folder)
    chex.assert_trees_all_equal(state, small_state(meta["step"]))
    return f"whole: {meta['step']}"


def main(folder: pathlib.Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder]
    subprocess.run(mount, check=True)
    save(folder, 10)
    fill(folder / "filler")
    try:
        save(folder, 20)
    except CheckpointError as error:
        print(error)
    print(whole(folder))
    (folder / "filler").unlink()
    save(folder, 20)
    print(whole(folder))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
