#!/usr/bin/env bash
# pydicom's apply_voi returns wrong values for a VOI LUT that has entries of 8 bits and
# more than 256 of them, such as one for an image of 12 bits. It stores the index of the
# entry in the type of the entry, uint8, so that the index wraps modulo 256. PS3.3
# C.11.2.1.1 allows such tables, and no error or warning is raised.
#
# pydicom 3.0.2, NumPy 2.4.6, Python 3.11, Linux. Output:
#   entries of the LUT:     [0, 15, 16, 128, 255]
#   returned by apply_voi:  [0, 15, 0, 0, 15]
#
# Usage: bash findings/pydicom_voi_lut_8_bit.sh; exits non-zero if the behaviour changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "pydicom==3.0.2" "numpy==2.4.6" 2>"$folder/pip"

cat >"$folder/lut.py" <<'PYTHON'
import sys

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi

entries = np.arange(4096) // 16
table = Dataset()
table.add_new("LUTDescriptor", "US", [4096, 0, 8])
table.add_new("LUTData", "US", entries.tolist())
dataset = Dataset()
dataset.VOILUTSequence = [table]
values = np.array([0, 255, 256, 2048, 4095], np.uint16)
shown = apply_voi(values, dataset)
print("entries of the LUT:    ", entries[values].tolist())
print("returned by apply_voi: ", shown.tolist())
sys.exit(shown.tolist() != entries[values % 256].tolist())
PYTHON

"$folder/venv/bin/python" "$folder/lut.py"
