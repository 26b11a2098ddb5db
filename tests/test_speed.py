"""benchmarks.speed and benchmarks.worker: interleaving, pinning, ratios and errors."""

import dataclasses
import functools
import json

import benchmark_command
import pytest

from benchmarks import command_line, speed, worker
from benchmarks.baselines import BASELINES, OURS, Entry, published


def timings(*seconds):
    return [{"cpu": cpu, "wall": 2 * cpu, "rss": 5e8} for cpu in seconds]


def test_speeds_are_medians_and_ratios_are_taken_pair_by_pair():
    runs = {OURS: timings(1, 2, 4), "other": timings(1, 3, 8)}
    table = speed.run_table("training", 100, runs).splitlines()
    assert "| cxr_gan | 50.0 | 25.0 | 1.000 (1.000 to 1.000) |" in table[2]
    assert "| other | 33.3 | 16.7 | 1.500 (1.250 to 1.750) |" in table[3]


class FakeWorker:
    """A worker that records its commands and returns constant timings."""

    def __init__(self, name, commands):
        self.name, self._commands = name, commands

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def first_step(self):
        return timings(1)[0]

    def do(self, **command):
        self._commands.append((self.name, command))
        return timings(1)[0]


def test_runs_of_programs_are_interleaved():
    commands = []
    workers = [FakeWorker("a", commands), FakeWorker("b", commands)]
    pairs = list(worker.interleave(workers, 2, train=8))
    assert commands == [(name, {"train": 8}) for name in "abab"]
    assert [worker.name for worker, _ in pairs] == list("abab")


@pytest.fixture(scope="module")
def settings():
    return published.settings_of(published.benchmark_config(16))


def test_each_cold_start_has_an_empty_cache_that_no_other_program_shares(
    monkeypatch, settings
):
    caches = {}

    class CacheRecorder(FakeWorker):
        def __init__(self, name, entry, settings, cores, cache):
            super().__init__(name, [])
            caches.setdefault(name, []).append(cache)

    monkeypatch.setattr(speed, "Worker", CacheRecorder)
    programs = {name: BASELINES[name] for name in (OURS, "PyTorch, compiled")}
    comparison = speed.Comparison(
        programs, settings, (0,), repeats=1, starts=2, sampling=False
    )
    runs = comparison.run(lambda part: None)["runs"]
    assert [len(runs["cold"][name]) for name in programs] == [2, 2]
    ours, other = caches.values()
    first, second, warm = ours
    assert first == warm != second
    assert not set(ours) & set(other)
    assert " " not in str(other[0])  # PyTorch's compiler fails on such paths


def test_error_of_a_worker_contains_its_stderr(tmp_path, settings):
    entry, shared = dataclasses.asdict(Entry("nobody", "jax")), vars(settings)
    with (
        worker.Worker("a program", entry, shared, [0], tmp_path) as process,
        pytest.raises(ChildProcessError, match=r"a program ended(?s:.)*nobody"),
    ):
        process.first_step()


PROGRAM = """
import pathlib
class Program:
    def train(self, steps):
        with pathlib.Path("log").open("a") as log:
            print(self.options, steps, file=log)
    def sample(self, count):
        return [0] * count
def build(settings, cores):
    built = Program()
    built.options = settings, cores
    return built
"""
PUBLISHED = """
def benchmark_config(batch_size, resolution): return batch_size, resolution
def settings_of(config): return config
"""


def test_another_checkout_runs_its_own_code(tmp_path, settings):
    """The program writes what it is asked to do into a file."""
    for folder in ("benchmarks", "benchmarks/baselines", "cxr_gan"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "benchmarks/baselines/ours.py").write_text(PROGRAM)
    (tmp_path / "benchmarks/baselines/published.py").write_text(PUBLISHED)
    entry = dataclasses.asdict(Entry("ours", "jax", checkout=str(tmp_path)))
    with worker.Worker("other", entry, vars(settings), [0], tmp_path) as process:
        process.first_step()
        process.do(train=7)
        assert process.do(sample=2, times=3)["rss"] > 0
    log = (tmp_path / "log").read_text().splitlines()
    assert log == ["((16, 64), 1) 1", "((16, 64), 1) 7"]


parse_flags = functools.partial(benchmark_command.parse, speed)


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(speed.os, "sched_getaffinity", lambda _: {3, 5})


@pytest.mark.usefixtures("two_cores")
def test_batches_and_core_counts_are_combined(monkeypatch):
    monkeypatch.setattr(Entry, "installed", True)
    comparisons = speed.comparisons(parse_flags("--batch=16", "--batch=64"))
    assert list(comparisons) == [
        *("64 px, batch 16, 1 core", "64 px, batch 64, 1 core"),
        *("64 px, batch 16, 2 cores", "64 px, batch 64, 2 cores"),
    ]
    assert comparisons["64 px, batch 64, 1 core"].cores == (3,)
    assert comparisons["64 px, batch 64, 2 cores"].settings.batch_size == 64
    assert comparisons["64 px, batch 16, 2 cores"].sampling
    assert not comparisons["64 px, batch 64, 1 core"].sampling


def test_missing_library_is_reported_before_anything_starts(monkeypatch):
    monkeypatch.setattr(
        Entry, "installed", property(lambda self: self.needs != "torch")
    )
    with pytest.raises(ValueError, match=r"PyTorch needs torch.*pip install"):
        speed.comparisons(parse_flags())
    quick = speed.comparisons(parse_flags("--quick"))
    assert [*quick["64 px, batch 16, 1 core"].programs] == [OURS]


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cores=2", "--batch=24"], "--batch=24 on 2 cores: .*multiple of 16"),
        (["--cores=3"], "--cores=3: this process may use 2"),
        (["--against=nowhere"], "--against=nowhere has no folder benchmarks"),
    ],
)
def test_invalid_flags_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        speed.comparisons(parse_flags(f"--baseline={OURS}", *arguments))


def test_benchmark_prints_its_table_and_writes_its_results(
    tmp_path, monkeypatch, capsys
):
    def run(comparison, report):
        report("everything")
        parts = ("cold", "warm", "train", "sample 1", "sample 16", "sample 256")
        return {"images": 128, "runs": {part: {OURS: timings(1)} for part in parts}}

    monkeypatch.setattr(speed.Comparison, "run", run)
    out = tmp_path / "results" / "speed.json"
    values = parse_flags(f"--baseline={OURS}", "--cores=1", f"--out={out}")
    assert command_line.main(speed.measure, [""], values) == 0
    assert "| cxr_gan | 128.0 | 64.0 | 1.000 " in capsys.readouterr().out
    results = json.loads(out.read_text())
    assert results["about"].keys() >= {"date", "processor", "jax"}
    (comparison,) = results["comparisons"].values()
    assert comparison["runs"]["train"] == {OURS: timings(1)}


@pytest.mark.parametrize(
    ("out", "positional", "message"),
    [
        ("taken.json", [], "taken.json exists already"),
        ("page.md", [], "give a name that ends in .json"),
        ("new.json", ["more"], "unexpected argument 'more'"),
    ],
)
def test_invalid_arguments_end_with_one_line(
    tmp_path, capsys, out, positional, message
):
    (tmp_path / "taken.json").touch()
    values = parse_flags(f"--out={tmp_path / out}")
    assert command_line.main(lambda _: ({}, ""), ["", *positional], values) == 1
    assert message in capsys.readouterr().err
