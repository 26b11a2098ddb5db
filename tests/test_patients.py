"""Patients of images: from manifests, headers and names."""

from pathlib import Path

import pytest

from cxr_gan.data import patients
from cxr_gan.data.listing import Entry, Header


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("train/P/person1000_bacteria_2931.jpeg", ("kermany", "bacteria", 1000)),
        ("train/P/person1000_virus_1681.jpeg", ("kermany", "virus", 1000)),
        ("IM-0115-0001.jpeg", ("kermany", "IM", 115)),
        ("train/NORMAL/IM-0640-0001-0001.jpeg", ("kermany", "IM", 640)),
        ("NORMAL2-IM-1427-0001.jpeg", ("kermany", "NORMAL2-IM", 1427)),
        ("P/BACTERIA-1008087-0001.jpeg", ("kermany", 1008087)),
        ("P/VIRUS-1008087-0002.jpeg", ("kermany", 1008087)),
        ("NORMAL/NORMAL-28501-0001.jpeg", ("kermany", 28501)),
        ("val/Effusion/00000013_005.png", ("nih", 13)),
        ("train/A/patient00001/study1/view1_frontal.jpg", ("chexpert", 1)),
        ("files/p10/p10000032/s50414267/02aa804e.jpg", ("mimic", 10000032)),
        ("p10/p10000032/s50414267.dcm", ("mimic", 10000032)),
        ("phantom/0/17", ("phantom", 0, 17)),
        ("train/NORMAL/chest13.png", None),
        ("train/17", None),
        ("NORMAL/1.png", None),
        ("patient1/2.png", None),
    ],
)
def test_patient_is_parsed_from_ids_of_known_datasets(name, patient):
    assert patients.patient_of(name) == patient


def entry(file: str, patient: str = "") -> Entry:
    return Entry(Path(file), file, "A", "train", patient)


def header(patient_id: str = "", study: str = "") -> Header:
    return Header("DICOM", 8, 8, patient_id=patient_id, study=study)


def test_manifest_precedes_header_study_and_name():
    found = patients.decide(
        [
            entry("00000001_000.png", "17"),
            entry("00000001_000.dcm"),
            entry("00000001_001.dcm"),
            entry("00000001_002.png"),
            entry("a.png"),
        ],
        [
            header("0012", "1.2"),
            header(" 0012", "1.2"),
            header("anon ", "1.2"),
            *[header()] * 2,
        ],
        "",
    )
    assert found.keys == (
        "('manifest', '17')",
        "('patient', '0012')",
        "('study', '1.2')",
        "('nih', 1)",
        "a.png",
    )
    assert found.known == (True, True, True, True, False)
    assert found.how == {
        "manifest": 1,
        "PatientID": 1,
        "study": 1,
        "file name (nih)": 1,
        "unknown": 1,
    }
    (by_study,) = found.notes
    assert "1 of 5 images have no PatientID of their own and are grouped" in by_study
    assert "not two visits of one patient" in by_study


def test_keys_of_names_are_those_of_images_without_headers():
    names = ["train/A/IM-0115-0001.jpeg", "train/A/00000013_005.png", "train/A/x.png"]
    found = patients.decide(list(map(entry, names)), [header()] * 3, "")
    assert list(found.keys) == patients.patient_keys(names)


@pytest.mark.parametrize(
    "id_", ["", " ", "ANON", "anonymous", "Unknown", "0", "PATIENT ", "None", "n/a"]
)
def test_placeholder_in_place_of_a_patient_id_is_passed_over(id_):
    found = patients.decide(
        [entry("a"), entry("b"), entry("c")],
        [header(id_, "1.2"), header(id_, "1.2"), header("P", "1.3")],
        "",
    )
    assert found.keys == ("('study', '1.2')", "('study', '1.2')", "('patient', 'P')")


def test_one_patient_id_in_all_headers_is_a_placeholder_if_studies_differ():
    entries = [entry("a"), entry("b"), entry("c"), entry("d.png")]

    def keys(*headers):
        return patients.decide(entries, [*headers, header()], "").keys[:3]

    shared = keys(header("X", "1.2"), header("X", "1.2"), header("X", "1.3"))
    assert shared == ("('study', '1.2')", "('study', '1.2')", "('study', '1.3')")
    assert keys(*[header("X")] * 3) == ("a", "b", "c")
    # The views of one visit are of one patient, and so are two visits beside others.
    assert set(keys(*[header("X", "1.2")] * 3)) == {"('patient', 'X')"}
    others = keys(header("X", "1.2"), header("X", "1.3"), header("Y", "1.4"))
    assert others == ("('patient', 'X')", "('patient', 'X')", "('patient', 'Y')")


def test_numbers_are_text_and_zero_is_a_patient_of_a_manifest():
    entries = [entry("a", "0"), entry("b", "12"), entry("c", "012"), entry("d", "nan")]
    found = patients.decide(entries, [header()] * 4, "")
    assert len(set(found.keys[:3])) == 3
    assert found.known == (True, True, True, False)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"case(\d+)", ("07", "8", "")),
        (r"case\d+", ("case07", "case8", "")),
        (r"(?:case|scan)(\d+)", ("07", "8", "9")),
        (r"case(7)?", ("", "", "")),
        (r"^A/(.)", ("c", "c", "s")),
    ],
)
def test_pattern_gives_the_patient_by_its_group_or_match(pattern, expected):
    entries = [entry("A/case07_1.png"), entry("A/case8_1.png"), entry("A/scan9.png")]
    headers = [header("P", "1"), header("Q", "2"), header("R", "3")]
    if not any(expected):
        with pytest.raises(ValueError, match="matches none of 3 files"):
            patients.decide(entries, headers, pattern)
        return
    found = patients.decide(entries, headers, pattern)
    assert found.keys == tuple(
        str(("pattern", text)) if text else str(("patient", "R")) for text in expected
    )
    assert found.how["pattern"] == sum(map(bool, expected))
    assert len(found.notes) == (not all(expected))
    if found.notes:
        assert "matches 2 of 3 files, but not 'A/scan9.png'" in found.notes[0]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("case(", r"patient_pattern='case\(' is not a regular expression \(missing"),
        ("x", "patient_pattern='x' matches none of 1 files, such as 'a.png'; give one"),
    ],
)
def test_unusable_pattern_is_answered_in_one_sentence(pattern, message):
    with pytest.raises(ValueError, match=message):
        patients.decide([entry("a.png")], [header()], pattern)
