"""benchmarks.speed and benchmarks.ops: how they take turns, count and tell."""

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
from benchmarks.rivals import OURS, RIVALS, Entry, published
from cxr_gan import step

ROOT = pathlib.Path(__file__).parents[1]
PAGE = "Words.\n<!-- speed -->\nold\n<!-- end of speed -->\nMore words.\n"


def test_a_table_is_put_between_its_marks_and_nowhere_else():
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
def test_a_page_without_both_marks_is_refused_and_told_which(page):
    with pytest.raises(ValueError, match="<!-- speed -->"):
        pages.put(page, "speed", "new")


def test_figures_are_kept_beside_their_page_and_found_again(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert pages.earlier(page, "speed") == {}
    pages.write(page, {"a": 1}, "speed", lambda found: f"{found}\n")
    assert pages.earlier(page, "speed") == {"a": 1}
    assert page.read_text() == PAGE.replace("old", "\n{'a': 1}\n")
    assert {path.name for path in tmp_path.iterdir()} == {"page.md", "page.speed.json"}


@pytest.mark.parametrize(
    ("text", "words"), [("{", "is no JSON"), ("[]", "is not what")]
)
def test_figures_of_somebody_else_are_left_alone(tmp_path, text, words):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    pages.file_of(page, "speed").write_text(text)
    with pytest.raises(ValueError, match=f"page.speed.json {words}.*move it away"):
        pages.earlier(page, "speed")


def turns(*seconds):
    return [{"cpu": cpu, "wall": 2 * cpu, "rss": 5e8} for cpu in seconds]


def test_rates_are_of_the_median_turn_and_ratios_turn_by_turn():
    found = {
        OURS: {"turns": turns(1, 2, 4)},
        "other": {"turns": turns(1, 3, 8)},
    }
    table = standings.training(100, found).splitlines()
    assert table[2].startswith("| cxr_gan | 50.0 | 25.0 | 1.00 (1.00 to 1.00) |")
    other = "| other | 33.3 | 16.7 | 1.50 (1.00 to 2.00) | 1.50 (1.00 to 2.00) | 500 |"
    assert table[3] == other


def test_a_contest_without_us_has_no_ratio():
    assert OURS not in standings.training(100, {"other": {"turns": turns(1)}})


class Fake:
    """A worker that takes no time."""

    def __init__(self, name, orders):
        self.name, self._orders = name, orders

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def first_step(self):
        return {}

    def do(self, **order):
        self._orders.append((self.name, order))
        return {}


def test_contestants_play_in_turn():
    orders = []
    workers = [Fake("a", orders), Fake("b", orders)]
    answers = list(contest.in_turn(workers, 2, play=8))
    assert orders == [(name, {"play": 8}) for name in "abab"]
    assert [worker.name for worker, _ in answers] == list("abab")


def test_each_keeps_what_it_compiled_to_itself(monkeypatch):
    caches = {}

    class Kept(Fake):
        def __init__(self, name, rules, cores, cache):
            super().__init__(name, [])
            caches.setdefault(name, []).append(cache)

    monkeypatch.setattr(contest, "Worker", Kept)
    rules = published.rules_of(published.measured(16))
    names = (OURS, "PyTorch, compiled")
    held = contest.Contest(names, rules, (0,), rounds=1, sampling=False)
    assert set(held.hold(lambda what: None)) == set(names)
    ours, theirs = caches.values()
    assert ours[0] == ours[1] != theirs[0] == theirs[1]  # cold, then warm
    assert " " not in theirs[0].name  # its compiler takes no such path


def test_what_a_worker_died_of_is_told(tmp_path):
    rules = published.rules_of(published.measured(16))
    with (
        contest.Worker("nobody", rules, [0], tmp_path) as worker,
        pytest.raises(RuntimeError, match=r"nobody ended(?s:.)*KeyError: 'nobody'"),
    ):
        worker.first_step()


def asked(*words):
    """The flags of the command as parsed."""
    values = flags.FlagValues()
    speed.define(values)
    values(["speed", *words])
    return values


def test_a_contest_is_of_every_batch_on_every_number_of_cores(monkeypatch):
    monkeypatch.setattr(speed.os, "sched_getaffinity", lambda _: {3, 5})
    monkeypatch.setattr(Entry, "installed", True)
    held = speed.contests(asked("--out=x"))
    assert list(held) == [
        *("64 px, batch 16, 1 core", "64 px, batch 64, 1 core"),
        *("64 px, batch 16, 2 cores", "64 px, batch 64, 2 cores"),
    ]
    assert held["64 px, batch 64, 1 core"].cores == (3,)
    assert held["64 px, batch 64, 2 cores"].rules.batch_size == 64
    small, large = held["64 px, batch 16, 2 cores"], held["64 px, batch 64, 1 core"]
    assert small.sampling and not large.sampling


def test_larger_images_are_a_contest_of_those_who_can_make_them(monkeypatch):
    monkeypatch.setattr(Entry, "installed", True)
    held = speed.contests(asked("--out=x", "--resolution=128", "--cores=1"))
    contest = held["128 px, batch 16, 1 core"]
    assert contest.rules.resolution == 128
    others = {"public ACGAN", "cxr_gan, one core", "cxr_gan, one device"}
    assert set(RIVALS) - set(contest.names) == others


def test_where_there_are_several_cores_we_also_play_on_one(monkeypatch):
    monkeypatch.setattr(speed.os, "sched_getaffinity", lambda _: {3, 5})
    monkeypatch.setattr(Entry, "installed", True)
    for held in speed.contests(asked("--out=x")).values():
        alone = {"cxr_gan, one core", "cxr_gan, one device"} & set(held.names)
        assert len(alone) == (0 if len(held.cores) == 1 else 2)


@pytest.mark.parametrize(
    ("name", "pinned", "told"),
    [
        (OURS, [3, 5], {}),
        ("cxr_gan, one core", [3], {}),
        ("cxr_gan, one device", [3, 5], {"devices": 1}),
    ],
)
def test_a_worker_is_pinned_to_the_cores_it_uses(name, pinned, told, monkeypatch):
    built = []

    def build(rules, cores, **options):
        built.append((rules.batch_size, cores, options))
        return types.SimpleNamespace(play=lambda rounds: None)

    monkeypatch.setattr(
        worker.importlib, "import_module", lambda _: types.SimpleNamespace(build=build)
    )
    monkeypatch.setattr(
        worker.os, "sched_setaffinity", lambda _, cores: built.append(cores)
    )
    monkeypatch.setattr(worker.os, "dup2", lambda *_: None)
    monkeypatch.setattr(worker.sys, "stdin", [])
    rules = dataclasses.asdict(published.rules_of(published.measured(16)))
    order = {"name": name, "rules": rules, "cores": [3, 5], "begun": 0.0}
    monkeypatch.setattr(worker.sys, "argv", ["", json.dumps(order)])
    worker.main()
    assert built == [pinned, (16, len(pinned), told)]


def test_what_is_not_installed_is_told_before_anything_starts(monkeypatch):
    monkeypatch.setattr(
        Entry, "installed", property(lambda self: self.needs != "torch")
    )
    with pytest.raises(ValueError, match=r"PyTorch needs torch.*pip install"):
        speed.contests(asked("--out=x"))
    assert speed.contests(asked("--quick"))["64 px, batch 16, 1 core"].names == (OURS,)


@pytest.mark.parametrize("batch", [12, 24])
def test_a_batch_that_cores_cannot_share_is_refused(batch, monkeypatch):
    monkeypatch.setattr(speed.os, "sched_getaffinity", lambda _: {3, 5})
    with pytest.raises(
        ValueError, match=f"--batch={batch} on 2 cores: .*multiple of 16"
    ):
        speed.contests(asked("--cores=2", f"--batch={batch}", f"--rival={OURS}"))


def test_more_cores_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr(speed.os, "sched_getaffinity", lambda _: {3, 5})
    with pytest.raises(ValueError, match="--cores=3: this process may use 2"):
        speed.contests(asked("--out=x", "--cores=3", f"--rival={OURS}"))


@pytest.fixture
def held(monkeypatch):
    """Contests that are held in no time: us and another, one turn each."""

    def hold(contest, done):
        done("all of it")
        start = turns(3)[0]
        took = {"cold": start, "warm": start, "turns": turns(1)}
        if contest.sampling:
            took["sampling"] = {"1": turns(1), "16": turns(1), "256": turns(1)}
        return {OURS: took, "other": took}

    monkeypatch.setattr(contest.Contest, "hold", hold)


def test_contests_are_added_to_those_of_the_page(held, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for batch in (64, 16):
        words = (f"--batch={batch}", "--cores=1", f"--rival={OURS}")
        assert speed.main([""], asked(f"--out={page}", *words)) == 0
    figures = pages.earlier(page, speed.MARK)
    assert set(figures) == {f"64 px, batch {n}, 1 core" for n in (16, 64)}
    told = page.read_text()
    assert told == pages.put(PAGE, speed.MARK, standings.text(figures))
    assert told.index("px, batch 16, 1 core") < told.index("px, batch 64, 1 core")
    assert "| cxr_gan | 128.0 | 64.0 | 1.00 (1.00 to 1.00) |" in told
    assert "| other | 32, 16 | 128, 64 | 256, 128 |" in told  # sampling


def test_quick_prints_and_writes_nothing(held, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert speed.main([""], asked("--quick", f"--rival={OURS}")) == 0
    assert "### 64 px, batch 16, 1 core" in capsys.readouterr().out
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "give a page"),
        (["--quick", "--out=x.md"], "give a page"),
        (["--out=nowhere.md"], "nowhere.md: no such page"),
        (["--quick", "more"], "'more' is no flag"),
    ],
)
def test_a_command_that_cannot_be_followed_is_refused(words, complaint):
    values = asked(*words)
    with pytest.raises(app.UsageError, match=complaint):
        speed.main(["", *(w for w in words if not w.startswith("-"))], values)


def test_the_convolutions_of_the_table_are_those_of_a_step(monkeypatch):
    """Their FLOPs are nearly all that XLA counts in a step without R1."""
    monkeypatch.setattr(operations, "noise", lambda *s: np.zeros(s, np.float32))
    config = published.measured(16)
    config.loss.r1_weight = 0.0
    game, state = ops.shapes(config)
    image, label = published.rules_of(config).batch()
    play = functools.partial(step.train_step, game)
    play = jax.vmap(play, axis_name=step.AXIS, in_axes=(None, 0, None))
    share = {"image": image[None], "label": label[None]}
    with ops.plainly():
        lowered = jax.jit(play).lower(state, share, tiny.key(0))
    counted = lowered.cost_analysis()["flops"]
    listed = sum(x.per_step * x.flops for x in operations.convolutions(game, 16))
    assert 0.85 * counted < listed < counted


@pytest.mark.slow
@pytest.mark.parametrize("fast", [True, False], ids=["with AMX", "without"])
def test_operations_of_a_tiny_step_are_timed_and_told(monkeypatch, fast):
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    monkeypatch.setattr(operations, "multiplies_bfloat16", lambda: fast)
    config = tiny.tiny_config(16)
    figures = ops.measure(config, rounds=1)
    kinds = ops.kinds(figures)
    assert all(taken > 0 for _, taken in kinds.values())
    assert {
        operations.TO_WEIGHTS,
        "skips",
        "LayerNorm",
        "upsample",
        "Adam",
        "EMA",
    } < kinds.keys()
    figures["costs"] = {"16": ops.cost(config)}
    assert figures["costs"]["16"]["flops"] > 0
    words = ops.text(figures, "page.operations.svg")
    assert "(page.operations.svg)" in words
    assert ("forward: bfloat16" in words) == fast
    for row in figures["operations"]:
        assert "convolutions" not in row["kind"] or row["name"] in words
        assert row["name"] in ops.figure(figures)


PAGES = [ROOT / "docs" / name for name in ("performance.md", "performance_avx2.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_has_the_tables_of_its_contests(page):
    figures = pages.earlier(page, speed.MARK)
    words = page.read_text()
    assert pages.put(words, speed.MARK, standings.text(figures)) == words


def test_the_page_has_the_tables_of_a_step_and_its_drawing():
    page = PAGES[0]
    figures, picture = pages.earlier(page, ops.MARK), ops.picture_of(page)
    words = page.read_text()
    assert pages.put(words, ops.MARK, ops.text(figures, picture.name)) == words
    assert picture.read_text() == ops.figure(figures)
