#!/usr/bin/env bash
# A checkpoint that Orbax saves has a file commit_success.txt with the absolute path that
# it was saved under. A checkpoint that is copied to somebody else
# keeps the path, which often has the name of a user, a machine or a project.
#
# orbax-checkpoint 0.12.8, jax 0.10.2, Python 3.11, Linux. Output:
#   found the absolute path in: commit_success.txt
#
# Usage: bash findings/orbax_absolute_path.sh; exits non-zero if the behaviour changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "orbax-checkpoint==0.12.8" "jax==0.10.2" \
  "jaxlib==0.10.2" 2>"$folder/pip"

cat >"$folder/save.py" <<'PYTHON'
import pathlib
import sys

import numpy as np
import orbax.checkpoint as ocp

folder = pathlib.Path(sys.argv[1]) / "user_jane" / "checkpoints"
with ocp.CheckpointManager(folder) as manager:
    manager.save(1, args=ocp.args.StandardSave({"x": np.zeros(3)}))
    manager.wait_until_finished()
files = (path for path in folder.rglob("*") if path.is_file())
found = {path.name for path in files if b"user_jane" in path.read_bytes()}
print("found the absolute path in:", ", ".join(sorted(found)))
sys.exit("commit_success.txt" not in found)
PYTHON

"$folder/venv/bin/python" "$folder/save.py" "$folder" 2>"$folder/log"
