"""Reads a data set once, checks it, and writes it as a prepared set.

    python -m cxr_gan.prepare --dataset=path/to/export --resolution=256 --out=prepared/
    python -m cxr_gan.prepare --dataset=labels.csv --resolution=256 --out=prepared/

The data set is a folder of class folders or a manifest with DICOM, JPEG, PNG or TIFF
files, or any other value of config.dataset. Trainings and evaluations then take the
folder, --config.dataset=prepared/, which opens without decoding. The same command
continues after an interruption. audit.html in the folder shows what is in the set, and
what would mislead a GAN. Exit codes: 0 success, 1 invalid input, 3 a check of the audit
exceeds its limit (--strict).
"""

import functools
from typing import Any

from absl import flags

from cxr_gan.data import flags as data_flags
from cxr_gan.data import loading
from cxr_gan.data.formats import prepared
from cxr_gan.evaluation.audit import auditor
from cxr_gan.runtime import cli
from cxr_gan.storage import files, lock

EXIT_EXCEEDED = 3  # exit code
UNFINISHED = "; the same command continues where it stopped"


@cli.command(example="--dataset=path/to/chest_xray")
def main(values: flags.FlagValues) -> int:
    """Checks the flags and writes the prepared set. Returns the exit code."""
    out = files.require_local_path(values.out, "--out")
    try:
        is_new = loading.prepare(
            values.dataset,
            values.resolution,
            out,
            split_seed=values.split_seed,
            options=data_flags.options(values),
        )
    except KeyboardInterrupt:
        raise OSError(f"stopped{UNFINISHED}") from None
    except lock.InUseError as error:
        raise ValueError(
            f"{out} is written by {error.holder}; wait until it ends, stop it, or give "
            "another --out"
        ) from error
    except files.DiskError as error:
        raise files.DiskError(f"{error}{UNFINISHED}") from error
    try:
        audit = auditor.load_or_audit(out)
    except files.DiskError as error:
        raise files.DiskError(f"{error}; the set itself is complete") from error
    except KeyboardInterrupt:
        raise OSError(f"stopped; {out} is complete, but not audited") from None
    description = prepared.read_description(out)
    for note in description.notes:
        print(f"warning: {note}")
    print(describe(description))
    print(
        f"{'wrote' if is_new else 'nothing to do: the same data are in'} {out}; train "
        f"with --config.dataset={out} --config.resolution={values.resolution}"
    )
    exceeded = audit["exceeded"]
    print(
        f"audit: checks above their limit: {len(exceeded)} of {len(audit['checks'])}"
        f"{': ' if exceeded else ''}{', '.join(exceeded)}; see {out / auditor.PAGE}"
    )
    return EXIT_EXCEEDED if exceeded and values.strict else 0


def describe(description: prepared.Description) -> str:
    """What a prepared set holds, line by line."""
    lines = [f"{description.resolution} px, classes {', '.join(description.classes)}"]
    for title, counts in description.summary.items():
        if counts and title != "left out":  # as the notes say
            listed = ", ".join(f"{count} {what}" for what, count in counts.items())
            lines.append(f"{title}: {listed}")
    return "\n".join(lines)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags; not at import, because other commands share flag names."""
    own: dict[str, Any] = {"flag_values": values}
    text = functools.partial(flags.DEFINE_string, **own)
    text("dataset", None, "Data set to read, as in config.dataset of a training run.")
    flags.DEFINE_integer(
        "resolution", None, "Height and width of the images, px.", 1, **own
    )
    text("out", None, "New folder to write to.")
    flags.DEFINE_integer(
        "split_seed",
        0,
        "Seed of the choice of held-out images, if there is no val.",
        0,
        **own,
    )
    strict = "Exit with code 3 if a check of the audit exceeds its limit."
    flags.DEFINE_boolean("strict", False, strict, **own)
    data_flags.define(values)
    flags.mark_flags_as_required(["dataset", "resolution", "out"], **own)


if __name__ == "__main__":
    cli.run(main, define_flags)
