import os
import subprocess
import sys
import xml.etree.ElementTree
from html.parser import HTMLParser

import evaluation_data
import numpy as np
import pytest

from cxr_gan.evaluation import pairwise_metrics, per_set_metrics
from cxr_gan.evaluation.evaluator import EvaluationResult
from cxr_gan.evaluation.report import pictures, plots, render, summary, text
from cxr_gan.evaluation.report.scorecard import CRITERIA, scorecard

NAMES = ["NORMAL", '"<b>PNEUMONIA']


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
    metrics += [row("label_accuracy", "classifier", sets="generated")]
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
            "read": {"left out": {"in colour": 2}, "patients by": {"PatientID": 90}},
            "counts": {"A": dict.fromkeys(NAMES, 50)},
        },
        **{"resolution": 64, "class_names": NAMES, "pooled": "all classes"},
        **{"seed": 0, "method": "halves of `cxr`", "metrics": metrics},
        "software": {"cxr_gan": "0", "jax": "1"},
        **changes,
    }


class Outline(HTMLParser):
    """Collects unclosed tags, texts, ids, and the attributes of links and images."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts, self.ids, self.links, self.images = [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in ("img", "meta"):
            self.open.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        if tag == "img":
            self.images.append((attributes["src"], attributes["alt"]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def html():
    return render(report(), {"A grid": np.zeros((20, 30), np.uint8)})


@pytest.fixture(scope="module")
def page(html):
    return Outline(html)


def test_page_closes_all_tags_and_contains_all_it_shows(page):
    assert page.open == []
    kinds = [url.partition(";base64,")[0] for url, _ in page.images]
    svg, png = "data:image/svg+xml", "data:image/png"
    assert kinds == [svg] * 4 + [png]  # two of metrics, a spectrum of each class
    assert all(alt for _, alt in page.images)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


def test_page_begins_with_the_verdict(html, page):
    verdict = page.texts.index("Verdict: labels swapped")
    assert verdict < page.texts.index("Image sets")
    assert 'class="verdict"' in html
    assert 'class="verdict good"' in render(report(faults=[]), {})


def test_names_and_paths_are_escaped(html, page):
    assert "<b>PNEUMONIA" not in html
    assert "&lt;b&gt;PNEUMONIA" in html
    assert "<code>a&amp;b</code>" in html
    assert "only &lt;few&gt; images" in html
    assert any("<b>PNEUMONIA" in alt for _, alt in page.images)


def test_page_has_every_metric_with_its_interval_and_reference(page):
    at = page.texts.index("3.25")
    numbers = [x for x in page.texts[at : at + 40] if x.strip(".0")]
    assert numbers[:8] == ["3.25", "3.15", "3.35", "100", "0.9", "0.8", "1", "100"]
    assert "Comparisons with half A and val" in page.texts


def test_figures_are_reproducible_svg_and_show_names_as_they_are():
    rows = [row("precision", "cxr"), row("precision", "$a^{"), row("kid", value=9.0)]
    figure = plots.interval_plot(rows)
    assert figure == plots.interval_plot(rows)
    texts = {one.text for one in xml.etree.ElementTree.fromstring(figure).iter()}
    assert {"precision, $a^{", "KID", "generated images", "value"} <= texts
    spectrum = plots.spectrum_plot(report()["metrics"][5:7])
    texts = {one.text for one in xml.etree.ElementTree.fromstring(spectrum).iter()}
    assert {"1/4-1/2", "spatial frequency (cycles/pixel)"} <= texts


def test_summary_is_a_table_of_the_headline_metrics():
    lines = summary(report()).splitlines()
    assert lines[0] == "note: only <few> images"
    assert [line.split()[0] for line in lines[1:]] == [
        *("metric", "FID", "precision", "recall", "label", "power", "power")
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


def test_scorecard_has_each_metric_below_its_criterion(page):
    metrics = [row("fid", value=3.25), row("fid", group="NORMAL", value=4.25)]
    metrics += [row("power", octave, "NORMAL") for octave in ("1/8-1/4", "1/4-1/2")]
    metrics += [row("fid", sets="generated~val"), row("membership_auroc", "pixels")]
    cards = {card["name"]: card for card in scorecard(report(metrics=metrics))}
    assert list(cards) == [one.name for one in CRITERIA]
    first, finest = cards["Congruence"]["rows"]  # all classes; the finest octave
    reference = "0.9 [0.8, 1]"
    assert first == ("FID", "cxr", "all classes", "3.25 [3.15, 3.35]", reference)
    assert finest[:3] == ("power", "1/4-1/2", "NORMAL")
    (of_class,) = cards["Consistency"]["rows"]
    assert of_class[2:4] == ("NORMAL", "4.25 [4.15, 4.35]")
    assert "--utility" in cards["Completeness"]["open"]
    assert "--membership" not in cards["Compliance"]["open"]
    assert "--membership" in scorecard(report())[4]["open"]
    assert any(line.startswith("Open: --utility measures") for line in page.texts)


def test_scorecard_names_known_metrics():
    named = {metric for criterion in CRITERIA for metric in criterion.metrics}
    assert named <= set(text.MEANINGS)


def test_pictures_show_each_class_and_the_nearest_pairs():
    images, labels = evaluation_data.new_phantoms(20)
    result = EvaluationResult({}, {"cxr": [(1, 3, 0.0), (0, 4, 0.0)]}, [], [])
    grids = pictures(images, labels, evaluation_data.real(), result)
    (classes, pairs) = grids.values()
    assert classes.shape[0] == 4 * 66 + 2  # real and generated, of two classes
    assert pairs.shape[0] == 2 * 66 + 2
    left = pairs.shape[1] - (10 * 66 + 2) + 2
    np.testing.assert_array_equal(pairs[2:66, left : left + 64], images[1, ..., 0])
    train = evaluation_data.real().train.images[3, ..., 0]
    np.testing.assert_array_equal(pairs[68:132, left : left + 64], train)
    assert not pairs[2:66, left + 2 * 66 :].any()  # only two pairs exist


def test_backend_of_another_environment_does_not_matter():
    code = (
        "from cxr_gan.evaluation.report import plots; plots.import_matplotlib(); "
        "import os; print(os.environ['MPLBACKEND'])"
    )
    environment = {**os.environ, "MPLBACKEND": "module://of.another.environment"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == environment["MPLBACKEND"], done.stderr
