import pytest

from cxr_gan.data.split_words import split_of


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train", "train Train TRAINING train_set"),
        ("val", "val Valid validate VALIDATION dev val-images"),
        ("test", "test Testing TEST holdout hold-out Hold_Out testdata"),
        (None, "tested NORMAL trainval 0 set images unlabeled retrain"),
    ],
)
def test_split_words_are_known_in_any_case_and_spelling(split, words):
    assert {word: split_of(word) for word in words.split()} == dict.fromkeys(
        words.split(), split
    )


def test_blanks_around_a_split_word_are_ignored_and_nothing_is_no_split():
    assert split_of(" Test ") == "test"
    assert split_of("") is None
