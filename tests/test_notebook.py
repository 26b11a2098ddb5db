"""The notebooks of the manual run from their first cell to their last."""

import ast
import json
import os
import subprocess
import sys

import pytest
from fenced import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
assert NOTEBOOKS
SHORT = {  # of what takes minutes
    "config.max_minutes = 2.0": "config.total_kimg = 0.5",
    "phantom:1000": "phantom:240",
    "num=400": "num=80",
}


def cells(path):
    """The code of each cell."""
    content = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    return ["".join(cell["source"]) for cell in code]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_saved_with_the_output_of_every_cell(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))
            assert cell["outputs"]
            assert not [x for x in cell["outputs"] if x["output_type"] == "error"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_of_the_notebook_run_in_order(path, tmp_path):
    code = "\n\n".join(cells(path))
    for long, short in SHORT.items():
        assert long in code
        code = code.replace(long, short)
    (tmp_path / "notebook_cells.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "notebook_cells.py"],
        cwd=tmp_path,
        env=os.environ
        | {
            "MPLBACKEND": "agg",
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "verdict: " in done.stdout
    assert "change, outside of lungs: " in done.stdout
