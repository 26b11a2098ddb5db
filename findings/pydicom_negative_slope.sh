#!/usr/bin/env bash
# pydicom's apply_windowing inverts an image whose Rescale Slope is negative. PS3.3
# C.11.2.1.2 maps larger values, after the rescale, to larger outputs. pydicom multiplies
# the ends of its output range by the slope too, so the range runs backwards.
#
# pydicom 3.0.2, NumPy 2.4.6, Python 3.11, Linux. Output:
#   rescaled values:        [0.0, 1000.0, 2000.0, 3000.0, 4095.0]
#   after apply_windowing:  [4095.0, 3095.0, 2095.0, 1095.0, 0.0]
#
# Usage: bash findings/pydicom_negative_slope.sh; exits non-zero if the behaviour changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "pydicom==3.0.2" "numpy==2.4.6" 2>"$folder/pip"

cat >"$folder/slope.py" <<'PYTHON'
import sys

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_rescale, apply_windowing

dataset = Dataset()
dataset.PhotometricInterpretation = "MONOCHROME2"
dataset.PixelRepresentation = 0
dataset.BitsStored = 12
dataset.RescaleSlope = -1
dataset.RescaleIntercept = 4095
dataset.WindowCenter = 2048
dataset.WindowWidth = 4096
rescaled = apply_rescale(np.array([4095, 3095, 2095, 1095, 0]), dataset)
shown = apply_windowing(rescaled, dataset)
print("rescaled values:       ", rescaled.tolist())
print("after apply_windowing: ", shown.round().tolist())
sys.exit(not (np.diff(rescaled) > 0).all() or not (np.diff(shown) < 0).all())
PYTHON

"$folder/venv/bin/python" "$folder/slope.py"
