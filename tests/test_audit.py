"""The audit finds planted faults by name, and none in phantoms without faults."""

import dataclasses
import functools
import html.parser
import io
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from absl import flags
from PIL import Image, ImageDraw

from cxr_gan import prepare
from cxr_gan.data import ImageSet
from cxr_gan.data.formats import prepared_writer
from cxr_gan.data.listing import Header
from cxr_gan.data.phantom import renderer
from cxr_gan.evaluation.audit import auditor, copies, measurements, shortcuts

NAMES = "NORMAL", "PNEUMONIA"
SIDE, TRAIN, VAL = 64, 240, 60


@functools.cache
def phantoms() -> ImageSet:
    images, labels = renderer.render_many(7, range(TRAIN + VAL), SIDE)
    ids = tuple(f"{number}.png" for number in range(TRAIN + VAL))
    return ImageSet(images, labels, ids, ids, tuple(f"patient {x}" for x in ids))


def header(**fields) -> Header:
    known = {"kind": "PNG", "height": 256, "width": 256, "manufacturer": "Acme"}
    return Header(**(known | fields))


def audit(
    folder: pathlib.Path, images: ImageSet, headers: dict[str, Header] | None = None
) -> dict:
    """The report on a set whose last VAL images are val."""
    if headers is None:
        headers = {id_: header() for id_ in images.ids}
    is_val = np.arange(len(images)) >= len(images) - VAL
    parts = [("train", images.take(~is_val)), ("val", images.take(is_val))]
    prepared_writer.write(folder, NAMES, parts, headers=headers)
    return auditor.load_or_audit(folder)


def checks_of(report: dict) -> dict[str, dict]:
    return {check["name"]: check for check in report["checks"]}


def as_jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))[..., np.newaxis]


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("clean") / "set"
    audit(folder, phantoms())
    return folder


def test_phantoms_without_faults_exceed_no_limit(clean):
    report = json.loads((clean / auditor.REPORT).read_text())
    assert report["exceeded"] == []
    assert report["copies"] == {"exact": [], "exact_or_near": []}
    assert sum(report["counts"]["split"]["train"].values()) == TRAIN
    assert report["counts"]["manufacturer"]["Acme"] == report["counts"]["file"]["PNG"]
    checks = checks_of(report)
    assert checks["label from size and origin"]["value"] is None
    text = checks["difference of burnt-in text between classes"]
    assert (text["value"], text["text"]) == (None, "not searched for below 128 px")


def leaked_patient(images: ImageSet) -> ImageSet:
    return dataclasses.replace(
        images, patients=(images.patients[-1], *images.patients[1:])
    )


def leaked_image(images: ImageSet) -> ImageSet:
    pixels = images.images.copy()
    pixels[-1] = as_jpeg(pixels[images.labels == images.labels[-1]][0])
    return dataclasses.replace(images, images=pixels)


def inverted_in_one_class(images: ImageSet) -> ImageSet:
    pixels = images.images.copy()
    chosen = np.flatnonzero(images.labels == 1)[:10]
    pixels[chosen] = 255 - pixels[chosen]
    return dataclasses.replace(images, images=pixels)


def flipped_labels(images: ImageSet) -> ImageSet:
    """A twentieth of the images of train are there twice, once with another label."""
    pixels, labels = images.images.copy(), images.labels.copy()
    for one, other in zip(range(12), range(100, 112), strict=True):
        pixels[other], labels[other] = as_jpeg(pixels[one]), 1 - labels[one]
    return dataclasses.replace(images, images=pixels, labels=labels)


def repeated(images: ImageSet) -> ImageSet:
    """Five images of a class are there twice, equal pixel by pixel."""
    pixels, labels = images.images.copy(), images.labels.copy()
    pixels[100:105], labels[100:105] = pixels[:5], labels[:5]
    return dataclasses.replace(images, images=pixels, labels=labels)


def darker_class(images: ImageSet) -> ImageSet:
    pixels = images.images.copy()
    pixels[images.labels == 1] //= 2
    return dataclasses.replace(images, images=pixels)


def framed_class(images: ImageSet) -> ImageSet:
    """A corner that shows the class, and a black border around it."""
    pixels = images.images.copy()
    pixels[images.labels == 1, :3] = 0
    return dataclasses.replace(images, images=pixels)


@pytest.mark.parametrize(
    ("plant", "names"),
    [
        (leaked_patient, {"patients in both train and val"}),
        (leaked_image, {"images of val that are in train"}),
        (inverted_in_one_class, {"inverted images in PNEUMONIA"}),
        (flipped_labels, {"copies with another label", "repeated images"}),
        (repeated, {"repeated images"}),
        (
            darker_class,
            {
                *("difference of brightness between classes", "label from brightness"),
                *(
                    "difference of contrast between classes",
                    "label from the outer frame",
                ),
            },
        ),
        (
            framed_class,
            {
                "difference of flat borders between classes",
                "label from the outer frame",
            },
        ),
    ],
)
def test_planted_fault_is_named(plant, names, tmp_path):
    report = audit(tmp_path / "set", plant(phantoms()))
    assert set(report["exceeded"]) == names


def test_scanner_of_one_class_and_enlarged_images_are_named(tmp_path):
    images = phantoms()
    headers = {
        id_: header(manufacturer=f"maker {label}", height=60 if label else 256)
        for id_, label in zip(images.ids, images.labels.tolist(), strict=True)
    }
    report = audit(tmp_path / "set", images, headers)
    assert report["exceeded"] == ["enlarged images", "label from size and origin"]
    assert report["counts"]["manufacturer"]["maker 0"]["PNEUMONIA"] == 0


def test_rare_class_is_named(tmp_path):
    images = phantoms()
    is_rare = (images.labels == 1) & (np.cumsum(images.labels) > 5)
    few = images.take(~is_rare | (np.arange(len(images)) >= len(images) - VAL // 10))
    report = audit(tmp_path / "set", few)
    assert {"imbalance of classes", "classes that are too small"} <= set(
        report["exceeded"]
    )
    assert checks_of(report)["label from brightness"]["value"] is None


def test_near_copies_are_grouped_with_exact_ones():
    pixels = phantoms().images[:6].copy()
    pixels[3], pixels[5] = pixels[0], as_jpeg(pixels[0])
    found = copies.find(measurements.measure(pixels).details, list("abcaef"))
    assert found.exact == [[0, 3]]
    assert found.all == [[0, 3, 5]]


@pytest.mark.parametrize("size", [5, 14])
def test_burnt_in_text_is_counted_near_the_edges_only(size):
    image = np.asarray(renderer.render(7, 1, 256).image)
    assert not measurements.measure(image[np.newaxis]).characters

    def count(place: tuple[int, int]) -> int:
        picture = Image.fromarray(image[..., 0])
        ImageDraw.Draw(picture).text(place, "R 42", fill=255, font_size=2 * size)
        marked = np.asarray(picture)[np.newaxis, ..., np.newaxis]
        return int(measurements.measure(marked).characters[0])

    assert count((4, 4)) >= 2
    assert count((110, 120)) == 0


def test_border_is_the_widest_flat_edge():
    image = phantoms().images[0].copy()
    image[:, -6:] = 9
    image[:2] = 9
    found = measurements.measure(np.stack([image, np.full_like(image, 40)]))
    np.testing.assert_allclose(found.border, [6 / SIDE, 0.5])


def test_auroc_of_features_is_by_patient():
    rng = np.random.default_rng(0)
    patients = np.repeat([f"p{number}" for number in range(60)], 5)
    labels = np.repeat(rng.permutation(60) % 2, 5)
    of_patient = np.repeat(rng.standard_normal((60, 40)), 5, 0)
    by_chance = shortcuts.estimate(of_patient, labels, patients, 2)
    assert by_chance.low < 0.5 < by_chance.high
    telling = labels[:, np.newaxis] + rng.standard_normal((300, 1))
    found = shortcuts.estimate(telling, labels, patients, 2)
    assert shortcuts.estimate(telling, labels, patients, 3) is None  # an absent class
    expected = 0.76  # P(x > y) of normals one standard deviation apart
    assert found.value == pytest.approx(expected, abs=0.06)
    assert found.low < expected < found.high


def test_audit_is_repeated_only_if_its_report_is_missing_or_of_another_set(
    clean, monkeypatch
):
    before = (clean / auditor.REPORT).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(auditor, "gather", None)  # an audit would raise TypeError
        auditor.load_or_audit(clean)
    for text in (None, json.dumps(json.loads(before) | {"identity": "another"})):
        (clean / auditor.REPORT).unlink()
        if text:
            (clean / auditor.REPORT).write_text(text)
        auditor.load_or_audit(clean)
        assert (clean / auditor.REPORT).read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"exceeded": 1, "checks": 2}'])
def test_damaged_report_and_missing_page_are_written_again(clean, tmp_path, text):
    folder = shutil.copytree(clean, tmp_path / "set")
    before = (folder / auditor.REPORT).read_bytes()
    (folder / auditor.REPORT).write_text(text)
    (folder / auditor.PAGE).unlink()
    auditor.load_or_audit(folder)
    assert (folder / auditor.REPORT).read_bytes() == before
    assert (folder / auditor.PAGE).exists()


def test_report_does_not_depend_on_the_hashes_of_patients(clean, tmp_path):
    again = audit(tmp_path / "set", phantoms())
    assert again == json.loads((clean / auditor.REPORT).read_text())


@pytest.mark.parametrize("mark", ["white frame", "black frame", "marker"])
def test_shared_frames_and_markers_are_not_taken_for_copies(mark):
    pixels = phantoms().images[:150].copy()
    if mark == "marker":
        pixels[:, :13, :13] = 255
    else:
        width, value = (3, 255) if mark == "white frame" else (6, 0)
        inside = pixels[:, width:-width, width:-width].copy()
        pixels[:] = value
        pixels[:, width:-width, width:-width] = inside
    details = measurements.measure(pixels).details
    assert copies.find(details, list(map(str, range(150)))).all == []


def test_copies_are_found_across_blocks_and_chained(monkeypatch):
    monkeypatch.setattr(copies, "ROWS_PER_BLOCK", 3)
    angles = np.radians([0, 90, 20, 180, 40, 270, 60, 110])  # neighbours are near
    details = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    found = copies.find(details, list("abcdefgh"))
    assert found == copies.Copies([], [[0, 2, 4, 6], [1, 7]])


def test_patient_with_too_many_images_is_skipped_alone(monkeypatch):
    monkeypatch.setattr(shortcuts, "MAX_IMAGES", 20)
    patients = np.array(["large"] * 30 + [f"p{i}" for i in range(15)])
    assert shortcuts.select(patients).tolist() == list(range(30, 45))


def run_prepare(*arguments: str) -> int:
    values = flags.FlagValues()
    prepare.define_flags(values)
    return prepare.main(values(["prepare", *arguments]), values)


def test_prepare_audits_what_it_writes_and_strict_is_an_exit_code(tmp_path, capsys):
    for i, (image, label) in enumerate(
        zip(phantoms().images[:40], phantoms().labels.tolist(), strict=False)
    ):
        path = tmp_path / "set" / NAMES[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    out = tmp_path / "out"
    given = f"--dataset={tmp_path / 'set'}", "--resolution=64", f"--out={out}"
    assert run_prepare(*given) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {auditor.PAGE, auditor.REPORT} < set(before)
    assert run_prepare(*given, "--strict") == prepare.EXIT_EXCEEDED
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert "checks above their limit: 1 of 16: classes" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif("CXR_DATA" not in os.environ, reason="needs CXR_DATA")
def test_known_facts_of_the_paediatric_set_are_found(tmp_path):
    out = tmp_path / "out"
    run_prepare(
        f"--dataset={os.environ['CXR_DATA']}", "--resolution=64", f"--out={out}"
    )
    report = json.loads((out / auditor.REPORT).read_text())
    assert report["exceeded"] == ["label from the outer frame", "label from brightness"]
    groups = report["copies"]["exact"]
    assert (len(groups), sum(map(len, groups))) == (24, 50)  # by md5sum of the files
    texts = [checks_of(report)[name]["text"] for name in report["exceeded"]]
    aurocs = [float(text.split()[1]) for text in texts]
    assert aurocs == [pytest.approx(0.95, abs=0.01), pytest.approx(0.85, abs=0.02)]


def test_page_shows_every_check_and_loads_nothing(clean):
    class Page(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.text, self.links = [], []

        def handle_data(self, data):
            self.text.append(data)

        def handle_starttag(self, tag, attributes):
            self.links += [v for k, v in attributes if k in ("src", "href")]

    page = Page()
    page.feed((clean / auditor.PAGE).read_text())
    for check in json.loads((clean / auditor.REPORT).read_text())["checks"]:
        assert check["text"] in page.text
    assert all(link.startswith(("#", "data:image/png")) for link in page.links)
