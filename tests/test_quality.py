"""Whether a run generates the requested class, and as varied images as the data.

CXR_RUN=runs/local tests an existing run on phantoms; otherwise a run is trained for
CXR_QUALITY_MINUTES (default 10).
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MIN_LABEL_ACCURACY = 0.90
MAX_MS_SSIM_EXCESS = 0.1  # above that within a class of real images


def run_command(*arguments):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.quality
def test_trained_run_generates_requested_classes_as_varied_as_the_data(tmp_path):
    run, report = os.environ.get("CXR_RUN"), tmp_path / "report"
    if run is None:
        run = tmp_path / "run"
        minutes = float(os.environ.get("CXR_QUALITY_MINUTES", "10"))
        limit = f"--config.max_minutes={minutes}"
        run_command("cxr_gan.main", limit, f"--workdir={run}")
    arguments = (f"--model={run}", "--dataset=phantom", f"--out={report}")
    run_command("cxr_gan.evaluate", *arguments, "--num=512", "--spaces=cxr")
    rows = json.loads((report / "report.json").read_text())["metrics"]
    accuracies, excesses = (
        {
            row["group"]: row["value"]
            for row in rows
            if (row["metric"], row["sets"]) == key
        }
        for key in (("label_accuracy", "generated"), ("ms_ssim", "generated~A+B"))
    )
    assert accuracies["all classes"] >= MIN_LABEL_ACCURACY
    assert set(excesses) == {"NORMAL", "PNEUMONIA"}
    assert max(excesses.values()) <= MAX_MS_SSIM_EXCESS
