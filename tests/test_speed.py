"""benchmarks.speed and benchmarks.ops: interleaving, counting, tables and errors."""

import dataclasses
import functools
import json
import pathlib
import types

import jax
import numpy as np
import pytest
import tiny
from absl import app, flags

from benchmarks import (
    contest,
    operations,
    ops,
    pages,
    speed,
    standings,
    timing,
    worker,
)
from benchmarks.baselines import BASELINES, OURS, Entry, published
from cxr_gan.training import train_step

ROOT = pathlib.Path(__file__).parents[1]
PAGE = "Text.\n<!-- speed -->\nold\n<!-- end of speed -->\nMore text.\n"


def test_put_replaces_only_the_text_between_the_marks():
    assert pages.put(PAGE, "speed", "new\n") == PAGE.replace("old", "\nnew\n")


@pytest.mark.parametrize(
    "page",
    [
        "no marks",
        PAGE.replace("<!-- end of speed -->\n", ""),
        PAGE + PAGE,
        "<!-- end of speed -->\n<!-- speed -->\n",
    ],
)
def test_page_without_both_marks_is_rejected_naming_the_mark(page):
    with pytest.raises(ValueError, match="<!-- speed -->"):
        pages.put(page, "speed", "new")


def test_results_are_stored_beside_their_page_and_read_again(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert pages.earlier(page, "speed") == {}
    pages.write(page, {"a": 1}, "speed", lambda results: f"{results}\n")
    assert pages.earlier(page, "speed") == {"a": 1}
    assert page.read_text() == PAGE.replace("old", "\n{'a': 1}\n")
    assert {path.name for path in tmp_path.iterdir()} == {"page.md", "page.speed.json"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "is not valid JSON"), ("[]", "was not written by this command")],
)
def test_results_file_of_another_format_is_rejected(tmp_path, text, reason):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    pages.file_of(page, "speed").write_text(text)
    with pytest.raises(ValueError, match=f"page.speed.json {reason}.*move it away"):
        pages.earlier(page, "speed")


def turns(*seconds):
    return [{"cpu": cpu, "wall": 2 * cpu, "rss": 5e8} for cpu in seconds]


def test_rates_use_the_median_run_and_ratios_are_taken_run_by_run():
    results = {
        OURS: {"turns": turns(1, 2, 4)},
        "other": {"turns": turns(1, 3, 8)},
    }
    table = standings.training(100, results).splitlines()
    assert table[2].startswith("| cxr_gan | 50.0 | 25.0 | 1.00 (1.00 to 1.00) |")
    other = "| other | 33.3 | 16.7 | 1.50 (1.00 to 2.00) | 1.50 (1.00 to 2.00) | 500 |"
    assert table[3] == other


def test_table_without_cxr_gan_has_no_ratio():
    assert OURS not in standings.training(100, {"other": {"turns": turns(1)}})


class FakeWorker:
    """A worker that records its commands and returns empty timings."""

    def __init__(self, name, commands):
        self.name, self._commands = name, commands

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def first_step(self):
        return {}

    def do(self, **command):
        self._commands.append((self.name, command))
        return {}


def test_runs_of_programs_are_interleaved():
    commands = []
    workers = [FakeWorker("a", commands), FakeWorker("b", commands)]
    timings = list(contest.interleave(workers, 2, train=8))
    assert commands == [(name, {"train": 8}) for name in "abab"]
    assert [worker.name for worker, _ in timings] == list("abab")


@pytest.fixture(scope="module")
def settings():
    return published.settings_of(published.benchmark_config(16))


def test_each_program_has_its_own_compilation_cache(monkeypatch, settings):
    caches = {}

    class CacheRecorder(FakeWorker):
        def __init__(self, name, settings, cores, cache):
            super().__init__(name, [])
            caches.setdefault(name, []).append(cache)

    monkeypatch.setattr(contest, "Worker", CacheRecorder)
    names = (OURS, "PyTorch, compiled")
    comparison = contest.Comparison(names, settings, (0,), repeats=1, sampling=False)
    assert set(comparison.run(lambda what: None)) == set(names)
    ours, other = caches.values()
    assert ours[0] == ours[1] != other[0] == other[1]  # cold, then warm
    assert " " not in other[0].name  # PyTorch's compiler fails on such paths


def test_error_of_a_worker_contains_its_stderr(tmp_path, settings):
    with (
        contest.Worker("nobody", settings, [0], tmp_path) as worker,
        pytest.raises(RuntimeError, match=r"nobody ended(?s:.)*KeyError: 'nobody'"),
    ):
        worker.first_step()


def parse_flags(*arguments):
    values = flags.FlagValues()
    speed.define(values)
    values(["speed", *arguments])
    return values


def test_batches_and_core_counts_are_combined(monkeypatch):
    monkeypatch.setattr(speed.os, "sched_getaffinity", lambda _: {3, 5})
    monkeypatch.setattr(Entry, "installed", True)
    comparisons = speed.comparisons(parse_flags("--out=x"))
    assert list(comparisons) == [
        *("64 px, batch 16, 1 core", "64 px, batch 64, 1 core"),
        *("64 px, batch 16, 2 cores", "64 px, batch 64, 2 cores"),
    ]
    assert comparisons["64 px, batch 64, 1 core"].cores == (3,)
    assert comparisons["64 px, batch 64, 2 cores"].settings.batch_size == 64
    assert comparisons["64 px, batch 16, 2 cores"].sampling
    assert not comparisons["64 px, batch 64, 1 core"].sampling


def test_programs_without_the_resolution_are_left_out(monkeypatch):
    monkeypatch.setattr(Entry, "installed", True)
    values = parse_flags("--out=x", "--resolution=128", "--cores=1")
    comparison = speed.comparisons(values)["128 px, batch 16, 1 core"]
    assert comparison.settings.resolution == 128
    left_out = {"public ACGAN", "cxr_gan, one core", "cxr_gan, one device"}
    assert set(BASELINES) - set(comparison.names) == left_out


def test_single_core_variants_run_only_where_there_are_several_cores(monkeypatch):
    monkeypatch.setattr(speed.os, "sched_getaffinity", lambda _: {3, 5})
    monkeypatch.setattr(Entry, "installed", True)
    for comparison in speed.comparisons(parse_flags("--out=x")).values():
        single = {"cxr_gan, one core", "cxr_gan, one device"} & set(comparison.names)
        assert len(single) == (0 if len(comparison.cores) == 1 else 2)


@pytest.mark.parametrize(
    ("name", "pinned", "options"),
    [
        (OURS, [3, 5], {}),
        ("cxr_gan, one core", [3], {}),
        ("cxr_gan, one device", [3, 5], {"devices": 1}),
    ],
)
def test_worker_is_pinned_to_the_cores_it_uses(
    name, pinned, options, monkeypatch, settings
):
    calls = []

    def build(settings, cores, **options):
        calls.append((settings.batch_size, cores, options))
        return types.SimpleNamespace(train=lambda steps: None)

    monkeypatch.setattr(
        worker.importlib, "import_module", lambda _: types.SimpleNamespace(build=build)
    )
    monkeypatch.setattr(
        worker.os, "sched_setaffinity", lambda _, cores: calls.append(cores)
    )
    monkeypatch.setattr(worker.os, "dup2", lambda *_: None)
    monkeypatch.setattr(worker.sys, "stdin", [])
    arguments = {
        "name": name,
        "settings": dataclasses.asdict(settings),
        "cores": [3, 5],
        "begun": 0.0,
    }
    monkeypatch.setattr(worker.sys, "argv", ["", json.dumps(arguments)])
    worker.main()
    assert calls == [pinned, (16, len(pinned), options)]


def test_missing_library_is_reported_before_anything_starts(monkeypatch):
    monkeypatch.setattr(
        Entry, "installed", property(lambda self: self.needs != "torch")
    )
    with pytest.raises(ValueError, match=r"PyTorch needs torch.*pip install"):
        speed.comparisons(parse_flags("--out=x"))
    quick = speed.comparisons(parse_flags("--quick"))
    assert quick["64 px, batch 16, 1 core"].names == (OURS,)


@pytest.mark.parametrize("batch", [12, 24])
def test_batch_that_does_not_divide_over_cores_is_rejected(batch, monkeypatch):
    monkeypatch.setattr(speed.os, "sched_getaffinity", lambda _: {3, 5})
    with pytest.raises(
        ValueError, match=f"--batch={batch} on 2 cores: .*multiple of 16"
    ):
        speed.comparisons(
            parse_flags("--cores=2", f"--batch={batch}", f"--rival={OURS}")
        )


def test_more_cores_than_available_are_rejected(monkeypatch):
    monkeypatch.setattr(speed.os, "sched_getaffinity", lambda _: {3, 5})
    with pytest.raises(ValueError, match="--cores=3: this process may use 2"):
        speed.comparisons(parse_flags("--out=x", "--cores=3", f"--rival={OURS}"))


@pytest.fixture
def fake_comparisons(monkeypatch):
    """Comparisons return fixed timings of cxr_gan and "other", one run each."""

    def run(comparison, done):
        done("everything")
        start = turns(3)[0]
        timings = {"cold": start, "warm": start, "turns": turns(1)}
        if comparison.sampling:
            timings["sampling"] = {"1": turns(1), "16": turns(1), "256": turns(1)}
        return {OURS: timings, "other": timings}

    monkeypatch.setattr(contest.Comparison, "run", run)


@pytest.mark.usefixtures("fake_comparisons")
def test_comparisons_are_added_to_those_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for batch in (64, 16):
        arguments = (f"--batch={batch}", "--cores=1", f"--rival={OURS}")
        assert speed.main([""], parse_flags(f"--out={page}", *arguments)) == 0
    results = pages.earlier(page, speed.MARK)
    assert set(results) == {f"64 px, batch {n}, 1 core" for n in (16, 64)}
    text = page.read_text()
    assert text == pages.put(PAGE, speed.MARK, standings.text(results))
    assert text.index("px, batch 16, 1 core") < text.index("px, batch 64, 1 core")
    assert "| cxr_gan | 128.0 | 64.0 | 1.00 (1.00 to 1.00) |" in text
    assert "| other | 32, 16 | 128, 64 | 256, 128 |" in text  # sampling


@pytest.mark.usefixtures("fake_comparisons")
def test_quick_prints_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert speed.main([""], parse_flags("--quick", f"--rival={OURS}")) == 0
    assert "### 64 px, batch 16, 1 core" in capsys.readouterr().out
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either a page"),
        (["--quick", "--out=x.md"], "give either a page"),
        (["--out=nowhere.md"], "nowhere.md: no such page"),
        (["--quick", "more"], "unexpected argument 'more'"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, message):
    values = parse_flags(*arguments)
    positional = [a for a in arguments if not a.startswith("-")]
    with pytest.raises(app.UsageError, match=message):
        speed.main(["", *positional], values)


def test_listed_convolutions_have_most_flops_of_a_step(monkeypatch):
    """Their FLOPs are 85 to 100 % of what XLA counts in a step without R1."""
    monkeypatch.setattr(operations, "noise", lambda *s: np.zeros(s, np.float32))
    config = published.benchmark_config(16)
    config.loss.r1_weight = 0.0
    gan, state = ops.shapes(config)
    image, label = published.settings_of(config).batch()
    step = functools.partial(train_step.train_step, gan)
    step = jax.vmap(step, axis_name=train_step.AXIS, in_axes=(None, 0, None))
    shard = {"image": image[None], "label": label[None]}
    with ops.plain_convolutions():
        lowered = jax.jit(step).lower(state, shard, tiny.key(0))
    counted = lowered.cost_analysis()["flops"]
    listed = sum(x.per_step * x.flops for x in operations.convolutions(gan, 16))
    assert 0.85 * counted < listed < counted


@pytest.mark.slow
@pytest.mark.parametrize("fast", [True, False], ids=["with AMX", "without"])
def test_operations_of_a_tiny_step_are_timed_and_reported(monkeypatch, fast):
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    monkeypatch.setattr(operations, "has_fast_bfloat16", lambda: fast)
    config = tiny.tiny_config(16)
    results = ops.measure(config, rounds=1)
    kinds = ops.kinds(results)
    assert all(seconds > 0 for _, seconds in kinds.values())
    assert {
        operations.TO_WEIGHTS,
        "skips",
        "LayerNorm",
        "upsample",
        "Adam",
        "EMA",
    } < kinds.keys()
    results["costs"] = {"16": ops.cost(config)}
    assert results["costs"]["16"]["flops"] > 0
    text = ops.text(results, "page.operations.svg")
    assert "(page.operations.svg)" in text
    assert ("forward: bfloat16" in text) == fast
    for row in results["operations"]:
        assert "convolutions" not in row["kind"] or row["name"] in text
        assert row["name"] in ops.figure(results)


PAGES = [ROOT / "docs" / name for name in ("performance.md", "performance_avx2.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_has_the_tables_of_its_comparisons(page):
    results = pages.earlier(page, speed.MARK)
    text = page.read_text()
    assert pages.put(text, speed.MARK, standings.text(results)) == text


def test_page_has_the_tables_of_a_step_and_its_drawing():
    page = PAGES[0]
    results, picture = pages.earlier(page, ops.MARK), ops.picture_of(page)
    text = page.read_text()
    assert pages.put(text, ops.MARK, ops.text(results, picture.name)) == text
    assert picture.read_text() == ops.figure(results)
