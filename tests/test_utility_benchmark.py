"""benchmarks.utility: what it trains and evaluates, and its table."""

import json

import benchmark_command
import pytest

from benchmarks import command_line, utility
from cxr_gan.training.experiment import Run

NAMES = ("NORMAL", "PNEUMONIA")


@pytest.fixture
def command(tmp_path, monkeypatch, phantoms):
    """command(*flags): runs it; returns the exit code and the work that was done."""
    work = []

    def evaluate(model, dataset, out):
        work.append(f"evaluate {model.name} on {dataset}")
        comparison = {"question": "added", "view": "whole image"}
        report = {"utility": {"comparisons": [comparison]}}
        command_line.write_json(out / "report.json", report)

    def open_run(config, folder):
        samples, kimg = config.samples_per_class, config.total_kimg
        return Run(f"{samples}, {kimg:g} kimg", folder, phantoms, None)

    monkeypatch.setattr(utility.experiment, "open_run", open_run)
    monkeypatch.setattr(utility.loop, "train", lambda run: work.append(run.config))
    monkeypatch.setattr(utility, "evaluate", evaluate)
    monkeypatch.setattr(utility.data, "load", lambda *_, **__: phantoms)
    monkeypatch.setattr(utility.process, "enable_compilation_cache", lambda: None)
    table = [("trained on", "AUROC"), ("real", "0.9")]
    monkeypatch.setattr(utility.text, "variant_rows", lambda comparison: table)

    def command(*arguments):
        workdir = f"--workdir={tmp_path / 'runs'}"
        return benchmark_command.run(utility, workdir, *arguments), work

    return command


def test_finished_work_is_not_repeated(command, tmp_path, capsys):
    out = tmp_path / "utility.json"
    arguments = ("--sizes=4", "--config.total_kimg=1", "--config.dataset=set")
    code, work = command(*arguments, f"--out={out}")
    assert code == 0
    assert work == ["(4, 0), 1 kimg", "evaluate run on set"]
    assert "## 4 of NORMAL: added, whole image" in capsys.readouterr().out
    assert [*json.loads(out.read_text())["sizes"]] == ["4"]
    assert command(*arguments) == (0, work[:2])  # nothing left to do


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rare=COVID",), "no such class; give one of NORMAL, PNEUMONIA"),
        (("--sizes=0",), "--sizes=0 is below 1"),
    ],
)
def test_invalid_flags_are_refused(command, arguments, message, capsys):
    code, work = command(*arguments)
    assert (code, work) == (1, [])
    assert message in capsys.readouterr().err


def test_samples_are_limited_for_the_rare_class_only():
    assert utility.samples_of(9, "PNEUMONIA", NAMES) == (0, 9)
