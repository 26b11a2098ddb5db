import xml.etree.ElementTree
from html.parser import HTMLParser

import made
import numpy as np
import pytest

from cxr_gan import page
from cxr_gan.evaluation import Findings, aspects, comparisons
from cxr_gan.evaluation.copies import Pairs
from cxr_gan.page import plots, text

NAMES = ["NORMAL", "<b>PNEUMONIA"]


def row(metric, space="cxr", group="all classes", sets="generated~B", value=0.5):
    of = {"low": value - 0.1, "high": value + 0.1, "n": 100, "seed": 0, "error": 0.05}
    floor = {"sets": "A~B", "value": 0.9, **of, "low": 0.8, "high": 1.0}
    return {
        **{"metric": metric, "space": space, "group": group, "sets": sets},
        **{"value": value, **of, "floor": floor},
    }


def report(**changed):
    figures = [row("fid", value=3.25), row("precision"), row("recall")]
    figures += [row("kid", sets="generated~val", value=0.031)]
    figures += [
        row("power", octave, name, value=value)
        for name in NAMES
        for octave, value in (("1/8-1/4", -1.0), ("1/4-1/2", -7.0))
    ]
    return {
        "verdict": "verdict: labels swapped",
        "faults": ["labels swapped"],
        "notes": ["only <few> images"],
        "images": {"from": "images", "path": "a&b", "counts": dict.fromkeys(NAMES, 60)},
        "dataset": {
            "name": "phantom",
            "duplicates_dropped": 3,
            "counts": {"A": dict.fromkeys(NAMES, 50)},
        },
        "resolution": 64,
        "class_names": NAMES,
        "pooled": "all classes",
        "seed": 0,
        "method": "halves",
        "figures": figures,
        **changed,
    }


class Outline(HTMLParser):
    """Tags that are open, words, and addresses of what is fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.words, self.fetched = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("img", "meta"):
            self.open.append(tag)
        self.fetched += [v for k, v in attributes if k in ("src", "href")]

    def handle_endtag(self, tag):
        if tag in ("line", "rect", "circle", "polyline"):
            self.open.remove(tag)
        else:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def outline(page_):
    found = Outline()
    found.feed(page_)
    return found


def test_the_page_is_whole_and_fetches_nothing():
    shown = {"A grid": np.zeros((20, 30), np.uint8)}
    found = outline(page.render(report(), shown))
    assert found.open == []
    assert [address[:22] for address in found.fetched] == ["data:image/png;base64,"]


def test_the_page_begins_and_ends_with_the_verdict():
    made_page = page.render(report(), {})
    words = [word for word in outline(made_page).words if "verdict: " in word]
    assert words == ["verdict: labels swapped"] * 2
    assert 'class="verdict good"' not in made_page
    assert 'class="verdict good"' in page.render(report(faults=[]), {})


def test_names_and_paths_cannot_break_the_page():
    made_page = page.render(report(), {})
    assert "<b>PNEUMONIA" not in made_page
    assert "&lt;b&gt;PNEUMONIA" in made_page
    assert "a&amp;b" in made_page
    assert "only &lt;few&gt; images" in made_page


def test_the_page_has_every_figure_beside_its_floor():
    words = outline(page.render(report(), {})).words
    assert "3.25 [3.15, 3.35]" in words
    assert words.count("0.9 [0.8, 1]") == len(report()["figures"])
    assert "Against half A and val" in words


def test_plots_are_whole_svg():
    rows = report()["figures"]
    shares = xml.etree.ElementTree.fromstring(plots.shares(rows[1:3]))
    assert len(shares.findall("{*}circle")) == 2
    octaves = xml.etree.ElementTree.fromstring(plots.octaves(rows[4:6], "<NORMAL>"))
    assert "<NORMAL>" in [one.text for one in octaves.findall("{*}text")]
    assert plots.shares([]).startswith("<svg")


def test_a_lower_value_is_lower_in_the_plot():
    rows = report()["figures"][4:6]
    drawn = xml.etree.ElementTree.fromstring(plots.octaves(rows, "NORMAL"))
    high, low = (float(one.get("cy")) for one in drawn.findall("{*}circle"))
    assert low > high


def test_the_summary_is_a_table_of_what_says_most():
    lines = page.summary(report()).splitlines()
    assert lines[0] == "note: only <few> images"
    assert [line.split()[0] for line in lines[1:]] == [
        *("figure", "FID", "precision", "recall", "power", "power")
    ]
    assert not any("1/8-1/4" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (0.12345, "0.1235"),
        (1.234, "1.23"),
        (-7.517, "-7.52"),
        (123.4, "123"),
        (-5.359e-05, "-5.4e-05"),
    ],
)
def test_numbers_are_short(value, words):
    assert text.number(value) == words


def test_every_metric_is_explained():
    metrics = {name for one in comparisons.DISTANCES for name in one.names}
    assert metrics | set(aspects.ASPECTS) <= set(text.MEANINGS)


def test_pictures_show_each_class_and_the_nearest_pairs():
    images, labels = made.fresh(20)
    near = Pairs(np.array([1, 0]), np.array([3, 4]), np.zeros(2))
    found = Findings({}, {"cxr": near}, [], [])
    shown = page.pictures(images, labels, made.real(), found)
    (classes, pairs) = shown.values()
    assert classes.shape[0] == 4 * 66 + 2  # real and generated, of two classes
    assert pairs.shape[0] == 2 * 66 + 2
    left = pairs.shape[1] - (10 * 66 + 2) + 2
    np.testing.assert_array_equal(pairs[2:66, left : left + 64], images[1, ..., 0])
    train = made.real().train.images[3, ..., 0]
    np.testing.assert_array_equal(pairs[68:132, left : left + 64], train)
    assert not pairs[2:66, left + 2 * 66 :].any()  # only two pairs were there


def test_the_course_of_a_run_goes_through_its_points_above_the_floor():
    points = [(10.0, 0.8), (20.0, 0.4), (30.0, 0.2)]
    drawn = xml.etree.ElementTree.fromstring(plots.course(points, 0.1, "KID"))
    space = "{http://www.w3.org/2000/svg}"
    circles = drawn.findall(f"{space}circle")
    heights = [float(circle.get("cy")) for circle in circles]
    assert len(circles) == 3
    assert heights == sorted(heights)  # downwards is better, and further down the page
    floor = [
        line for line in drawn.iter(f"{space}line") if line.get("stroke-width") == "3"
    ]
    assert float(floor[0].get("y1")) > heights[-1]
