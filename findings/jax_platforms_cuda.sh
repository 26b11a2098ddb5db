#!/usr/bin/env bash
# JAX_PLATFORMS=cuda on a machine without JAX's CUDA plugin makes jax.devices() fail with
# an AssertionError that has no message. A name that JAX does not know, such as "tpux",
# raises a RuntimeError that says what is wrong. JAX knows "cuda", skips it because the
# plugin is not installed, and then has no backend at all. With "cuda,cpu" it uses the
# CPU, without a warning.
#
# jax 0.10.2, jaxlib 0.10.2, Python 3.11, Linux. Output:
#   JAX_PLATFORMS=cuda: AssertionError ''
#   JAX_PLATFORMS=cuda,cpu: cpu
#   JAX_PLATFORMS=tpux: RuntimeError "Unable to initialize backend 'tpux': Bac"
#
# Usage: bash findings/jax_platforms_cuda.sh; exits non-zero if the behaviour changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "jax==0.10.2" "jaxlib==0.10.2" 2>"$folder/pip"

cat >"$folder/devices.py" <<'PYTHON'
import os

import jax

try:
    found = jax.devices()[0].platform
except Exception as error:
    found = f"{type(error).__name__} {str(error)[:40]!r}"
print(f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']}: {found}")
PYTHON

for platforms in cuda cuda,cpu tpux; do
  JAX_PLATFORMS=$platforms "$folder/venv/bin/python" "$folder/devices.py" 2>"$folder/log"
done | tee "$folder/output"
diff "$folder/output" - <<'EXPECTED'
JAX_PLATFORMS=cuda: AssertionError ''
JAX_PLATFORMS=cuda,cpu: cpu
JAX_PLATFORMS=tpux: RuntimeError "Unable to initialize backend 'tpux': Bac"
EXPECTED
