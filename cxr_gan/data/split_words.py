"""The words by which folders and manifests name a split."""

import re

_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation", "dev"),
    "test": ("test", "testing", "holdout"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
ACCEPTED = ", ".join(_SPLIT_OF)  # for messages


def split_of(word: str) -> str | None:
    """Names the split, "train", "val" or "test"; None if the word names none.

    Case, blanks and punctuation are ignored, and a word such as "set" may follow:
    "Validation", "hold-out" and "test_images" name a split; "tested" does not.
    """
    letters = re.sub(r"[\W_]", "", word.casefold())
    return _SPLIT_OF.get(re.sub(r"(set|split|data|images)$", "", letters))
