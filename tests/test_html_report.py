import xml.etree.ElementTree
from html.parser import HTMLParser

import evaluation_data
import numpy as np
import pytest

from cxr_gan.evaluation import pairwise_metrics, per_set_metrics
from cxr_gan.evaluation.evaluator import EvaluationResult
from cxr_gan.evaluation.memorization import NearestPairs
from cxr_gan.evaluation.report import pictures, plots, render, summary, text

NAMES = ["NORMAL", "<b>PNEUMONIA"]


def row(metric, space="cxr", group="all classes", sets="generated~B", value=0.5):
    rest = {"low": value - 0.1, "high": value + 0.1, "n": 100, "seed": 0}
    rest["error"] = 0.05
    reference = {"sets": "A~B", "value": 0.9, **rest, "low": 0.8, "high": 1.0}
    return {
        **{"metric": metric, "space": space, "group": group, "sets": sets},
        **{"value": value, **rest, "reference": reference},
    }


def report(**changes):
    metrics = [row("fid", value=3.25), row("precision"), row("recall")]
    metrics += [row("kid", sets="generated~val", value=0.031)]
    metrics += [
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
        "metrics": metrics,
        **changes,
    }


class Outline(HTMLParser):
    """Collects unclosed tags, texts and the URLs that the page loads."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.urls = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("img", "meta"):
            self.open.append(tag)
        self.urls += [v for k, v in attributes if k in ("src", "href")]

    def handle_endtag(self, tag):
        if tag in ("line", "rect", "circle", "polyline"):
            self.open.remove(tag)
        else:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def outline(html):
    parser = Outline()
    parser.feed(html)
    return parser


def test_page_closes_all_tags_and_loads_nothing():
    grids = {"A grid": np.zeros((20, 30), np.uint8)}
    page = outline(render(report(), grids))
    assert page.open == []
    assert [url[:22] for url in page.urls] == ["data:image/png;base64,"]


def test_page_begins_and_ends_with_the_verdict():
    html = render(report(), {})
    verdicts = [text for text in outline(html).texts if "verdict: " in text]
    assert verdicts == ["verdict: labels swapped"] * 2
    assert 'class="verdict good"' not in html
    assert 'class="verdict good"' in render(report(faults=[]), {})


def test_names_and_paths_are_escaped():
    html = render(report(), {})
    assert "<b>PNEUMONIA" not in html
    assert "&lt;b&gt;PNEUMONIA" in html
    assert "a&amp;b" in html
    assert "only &lt;few&gt; images" in html


def test_page_has_every_metric_with_its_reference():
    texts = outline(render(report(), {})).texts
    assert "3.25 [3.15, 3.35]" in texts
    assert texts.count("0.9 [0.8, 1]") == len(report()["metrics"])
    assert "Comparisons with half A and val" in texts


def test_plots_are_valid_svg():
    rows = report()["metrics"]
    intervals = xml.etree.ElementTree.fromstring(plots.interval_plot(rows[1:3]))
    assert len(intervals.findall("{*}circle")) == 2
    spectrum = xml.etree.ElementTree.fromstring(
        plots.spectrum_plot(rows[4:6], "<NORMAL>")
    )
    assert "<NORMAL>" in [one.text for one in spectrum.findall("{*}text")]
    assert plots.interval_plot([]).startswith("<svg")


def test_lower_value_is_lower_in_the_plot():
    rows = report()["metrics"][4:6]
    plot = xml.etree.ElementTree.fromstring(plots.spectrum_plot(rows, "NORMAL"))
    high, low = (float(one.get("cy")) for one in plot.findall("{*}circle"))
    assert low > high


def test_summary_is_a_table_of_the_headline_metrics():
    lines = summary(report()).splitlines()
    assert lines[0] == "note: only <few> images"
    assert [line.split()[0] for line in lines[1:]] == [
        *("metric", "FID", "precision", "recall", "power", "power")
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
def test_numbers_have_about_three_significant_digits(value, words):
    assert text.format_number(value) == words


def test_every_metric_is_explained():
    metrics = {name for one in pairwise_metrics.DISTANCES for name in one.names}
    assert metrics | set(per_set_metrics.PER_SET_METRICS) <= set(text.MEANINGS)


def test_pictures_show_each_class_and_the_nearest_pairs():
    images, labels = evaluation_data.new_phantoms(20)
    nearest = NearestPairs(np.array([1, 0]), np.array([3, 4]), np.zeros(2))
    result = EvaluationResult({}, {"cxr": nearest}, [], [])
    grids = pictures(images, labels, evaluation_data.real(), result)
    (classes, pairs) = grids.values()
    assert classes.shape[0] == 4 * 66 + 2  # real and generated, of two classes
    assert pairs.shape[0] == 2 * 66 + 2
    left = pairs.shape[1] - (10 * 66 + 2) + 2
    np.testing.assert_array_equal(pairs[2:66, left : left + 64], images[1, ..., 0])
    train = evaluation_data.real().train.images[3, ..., 0]
    np.testing.assert_array_equal(pairs[68:132, left : left + 64], train)
    assert not pairs[2:66, left + 2 * 66 :].any()  # only two pairs exist


def test_training_curve_passes_through_its_points_above_the_reference():
    points = [(10.0, 0.8), (20.0, 0.4), (30.0, 0.2)]
    plot = xml.etree.ElementTree.fromstring(plots.training_curve(points, 0.1, "KID"))
    space = "{http://www.w3.org/2000/svg}"
    circles = plot.findall(f"{space}circle")
    heights = [float(circle.get("cy")) for circle in circles]
    assert len(circles) == 3
    assert heights == sorted(heights)  # y grows downwards; KID falls
    reference = [
        line for line in plot.iter(f"{space}line") if line.get("stroke-width") == "3"
    ]
    assert float(reference[0].get("y1")) > heights[-1]
