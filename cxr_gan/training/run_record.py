"""The record of a run in its folder, and whether another run may take the folder.

A run continues only with the configuration and the data set that its record states.
"""

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from cxr_gan import config as configs
from cxr_gan.storage import files, lock

RECORD = "run.json"
SCHEMA = 2  # of RECORD and of checkpoint metadata; 0.1 wrote none
# Keys that may change when a run continues. The data set may have moved: its identity
# is compared, not its path.
FREE_TO_CHANGE = frozenset(
    {
        *("dataset", "manifest.images", "manifest.split"),
        *("total_kimg", "max_minutes"),
        *("log_kimg", "sample_kimg", "eval_kimg", "checkpoint_kimg"),
        *("on_nan", "max_rollbacks"),
    }
)


def claim_workdir(folder: pathlib.Path, record: dict[str, Any]) -> None:
    """Creates the folder of a run, or checks that it holds the same run.

    Another run may take the folder of a run without a checkpoint, which has nothing to
    keep.

    Raises:
        ValueError: the folder holds another run or other files, or is in use; says what
            to type.
        DiskError: the folder cannot be written.
    """
    path = folder / RECORD
    if not path.exists():
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; give another --workdir")
        ours = (path.with_suffix(files.PARTIAL_SUFFIX), folder / lock.LOCK_NAME)
        if folder.exists() and any(p not in ours for p in folder.iterdir()):
            raise ValueError(
                f"{folder} is not empty and holds no run: it has no {RECORD}; give "
                "another --workdir"
            )
        with files.translate_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    with lock.acquire(folder):
        difference = read_difference(folder, record)
        if difference and has_checkpoint(folder):
            raise ValueError(f"{folder} {difference}")
        # The model to start from may have changed since a start that saved nothing.
        has_ancestors = [*read_ancestors(folder)] == record["ancestors"]
        if difference or not path.exists() or not has_ancestors:
            write_record(path, record)


def has_checkpoint(folder: pathlib.Path) -> bool:
    """Whether the run in a folder has saved a checkpoint, damaged or not."""
    return any(path.name.isdecimal() for path in folder.glob("checkpoints/*"))


def read_ancestors(folder: pathlib.Path) -> tuple[str, ...]:
    """The fingerprints in the folder's RECORD; () if it is missing or damaged."""
    try:
        return tuple(json.loads((folder / RECORD).read_text("utf-8"))["ancestors"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # `claim_workdir` refuses the folder


def read_difference(folder: pathlib.Path, record: dict[str, Any]) -> str:
    """Why the run in a folder cannot continue as a record; "" if it can.

    Raises:
        ValueError: RECORD is damaged.
    """
    path = folder / RECORD
    if not path.exists():
        return ""
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        return describe_difference(old, record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}); restore it, or give another --workdir"
        ) from error


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """'key: old -> new' for each key that must not change; both from to_json."""
    olds, news = (configs.flatten(ConfigDict(c)) for c in (old, new))
    return [
        f"{key}: {olds.get(key, 'absent')!r} -> {news.get(key, 'absent')!r}"
        for key in sorted(olds.keys() | news.keys())
        if key not in FREE_TO_CHANGE and olds.get(key) != news.get(key)
    ]


def describe_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Why a run recorded as `old` cannot continue as `new`; "" if it can."""
    if old.get("schema") != new["schema"]:
        return (
            "was trained by another version of cxr_gan, whose runs this version cannot "
            "continue; give another --workdir, or use the version that trained it"
        )
    changed = differences(old["config"], new["config"])
    was, now = old["dataset"], new["dataset"]
    hashes = was["identity"][:12], now["identity"][:12]
    if changed:
        return (
            "was trained with another configuration (old -> new):\n  "
            + "\n  ".join(changed)
            + "\ngive another --workdir to train from the beginning, or the old values "
            "to continue"
        )
    if (was["identity"], was["class_names"]) != (now["identity"], now["class_names"]):
        return (
            f"was trained on other images than {now['name']} holds now (classes "
            f"{was['class_names']}, sha256 {hashes[0]}; now {now['class_names']}, "
            f"{hashes[1]}); restore the old data to continue, or give another --workdir"
        )
    return ""


def write_record(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes JSON atomically."""
    with files.atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
