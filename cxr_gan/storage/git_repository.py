"""Keeps files that show real patients out of git repositories."""

import pathlib
import subprocess


def require_ignored(*paths: pathlib.Path) -> None:
    """Checks that no path could be committed to a git repository.

    Raises:
        ValueError: a path is inside a git repository that does not ignore it.
        OSError: a path is inside a repository, but git is not installed.
    """
    for path in map(pathlib.Path.absolute, paths):
        repositories = [folder for folder in path.parents if (folder / ".git").exists()]
        if not repositories:
            continue
        root = repositories[0]
        command = ("git", "-C", root, "check-ignore", "--quiet", path)
        if subprocess.run(command, capture_output=True, check=False).returncode:
            raise ValueError(
                f"{path} shows or names real patients and is not ignored by git in "
                f"{root}; add {path.name} to its .gitignore, or write elsewhere"
            )
