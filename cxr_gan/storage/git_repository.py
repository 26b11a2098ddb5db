"""Keeps files that show real patients out of git repositories."""

import pathlib
import subprocess

NOT_IGNORED = 1  # exit code of git check-ignore


def require_ignored(*paths: pathlib.Path) -> None:
    """Checks that no path could be committed to a git repository.

    Raises:
        ValueError: a path is inside a git repository that does not ignore it.
        OSError: a path is inside a repository, but git is not installed.
    """
    for path in map(pathlib.Path.resolve, paths):
        repositories = [folder for folder in path.parents if (folder / ".git").exists()]
        if not repositories:
            continue
        root = repositories[0]
        command = ("git", "-C", root, "check-ignore", "--quiet", path)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == NOT_IGNORED:
            raise ValueError(
                f"{path} shows or names real patients and is not ignored by git in "
                f"{root}; add {path.name}, or its folder, to its .gitignore, or write "
                "elsewhere"
            )
        if done.returncode:
            raise ValueError(
                f"{path} shows or names real patients, and git cannot tell whether it "
                f"is ignored in {root} ({done.stderr.strip()}); write elsewhere"
            )
