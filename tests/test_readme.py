import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SMALL = [
    "--config.resolution=32",
    "--config.generator.features_at_32=8",
    "--config.generator.max_features=8",
    "--config.discriminator.features_at_32=8",
    "--config.discriminator.max_features=8",
    "--config.total_kimg=0.064",
]


def blocks(language: str) -> list[str]:
    """The README's code blocks in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """The commands of the README's bash blocks, split into words."""
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """A working directory where the README's paths hold noise images of two classes."""
    root = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    for path, count, size in (("chest_xray/train", 120, 40), ("images", 12, 32)):
        for name in ("NORMAL", "PNEUMONIA"):
            images = root / "path/to" / path / name
            images.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (size, size), dtype=np.uint8)
                Image.fromarray(pixels).save(images / f"{i}.png")
    return root


def run(words: list[str], folder: pathlib.Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
def test_commands_and_code_of_the_readme_run(folder, monkeypatch):
    """Trains, trains on more devices, samples from code, generates, evaluates twice."""
    modules = [words for words in commands() if words[:2] == ["python", "-m"]]
    training = [words for words in modules if words[2] == "cxr_gan.main"]
    others = [words for words in modules if words[2] != "cxr_gan.main"]
    assert len(training) == 2 and len(others) == 3
    for words in training:
        run([sys.executable, *words[1:], *SMALL], folder, monkeypatch)
    for code in blocks("python"):
        run([sys.executable, "-c", code], folder, monkeypatch)
    for words in others:
        run([sys.executable, *words[1:]], folder, monkeypatch)
    assert len([*folder.glob("samples/PNEUMONIA_*.png")]) == 64
    for report in ("report", "report2"):
        assert "verdict: " in (folder / report / "report.json").read_text()


def test_every_file_named_in_the_readme_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    scripts = [words[1] for words in commands() if words[0] == "bash"]
    assert len(scripts) == 2
    missing = [name for name in links + scripts if not (ROOT / name).exists()]
    assert not missing
