"""Folders of image files: root/{train,val,test}/CLASS/* or root/CLASS/*."""

import collections
import difflib
import itertools
import re
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from cxr_gan.data import split_words
from cxr_gan.data.dataset import check_classes
from cxr_gan.data.formats import file_tree
from cxr_gan.data.formats.file_tree import Folder, Tree
from cxr_gan.data.listing import Entry, Listing, ManifestOptions, ReadOptions
from cxr_gan.storage import files

LAYOUT = "root/{train,val,test}/CLASS/* or root/CLASS/*"
MAX_BESIDE = 50  # with more folders beside it, a folder is no split
BESIDE_CLASSES = "beside the class folders"
BESIDE_SPLITS = "beside the folders of the splits"
# Names that number the parts, or the patients, of a data set.
NUMBERED = (
    r"(images?|imgs?|part|batch|chunk|shard|patient|pat|p|subject|sub|study|series|s)"
    r"[ _-]?\d+"
)
MAX_NUMBERS = 20  # classes may be called by numbers, but not more of them

# A folder of images, the split of its images, and the folders from there down.
Placed = tuple[Folder, str, tuple[str, ...]]


def open_folder(location: str, options: ReadOptions) -> Listing:
    """Lists a folder of class folders, without reading any image.

    The classes are the folders directly below those of the splits. Without splits, they
    are the root's folders. A single folder that contains all others is no class. Files
    in deeper folders belong to the class above them. A split is named by a word that
    `split_words.split_of` knows; folders beside a test split are classes.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there are no images; images are not in class folders; a class is
            empty or missing in a split; train is missing; names of folders are those of
            parts of the set, or misspelt; or options are for a manifest.
    """
    root = files.expand_user(location, "dataset")
    if not root.is_dir():
        raise FileNotFoundError(f"{location}: no such folder; check the path")
    tree = file_tree.scan(root)
    if options.manifest != ManifestOptions():
        raise ValueError(
            f"{root}: a folder of class folders, but options of a manifest are given; "
            f"remove the flags --manifest.* (--config.manifest.*){_or_manifest(tree)}"
        )
    if not any(folder.images for folder in tree.folders):
        raise _no_images(tree)
    _check_spelling(tree)
    placed = _placed(tree)
    found = [item for item in placed if item[2]]
    loose = sum(len(folder.images) for folder, _, below in placed if not below)
    tree.left_out[BESIDE_CLASSES] += loose
    names = sorted({below[0] for _, _, below in found})
    _check_names(tree, names)
    _check_empty(tree, {folder.parts[: -len(below)] for folder, _, below in found})
    if len(names) < 2:
        where = "/".join(placed[0][0].parts) or "."
        raise ValueError(
            f"{root}: the images in {where!r} are not in class folders, of which there "
            f"must be two or more; move those of each class into a folder of its own, "
            f"such as {str(PurePosixPath(where, 'NORMAL'))!r}{_or_manifest(tree)}"
        )
    entries = [
        Entry(root / file, file, below[0], split)
        for folder, split, below in found
        for file in map("/".join, ((*folder.parts, name) for name in folder.images))
    ]
    entries.sort(key=lambda e: (e.split != "train", e.class_name, e.file))
    count = collections.Counter((entry.split, entry.class_name) for entry in entries)
    in_train, in_val = ([count[split, n] for n in names] for split in ("train", "val"))
    check_classes(names, in_train, in_val if any(in_val) else None, str(root))
    left_out = dict(+tree.left_out)  # without those that are 0
    return Listing(root, tuple(entries), left_out, tuple(_notes(tree)))


def _placed(tree: Tree) -> list[Placed]:
    """The folders of images, each with its split and the folders below that."""
    filled = [folder for folder in tree.folders if folder.images]
    splits = {}
    for folder in filled:
        words = list(map(split_words.split_of, folder.parts))
        split = next(filter(None, words), "")
        splits[folder] = split, words.index(split) if split else -1
    if any(split for split, _ in splits.values()):
        levels = [level for split, level in splits.values() if split == "train"]
        if not levels:
            raise ValueError(f"{tree.root}: has val but no train; expected {LAYOUT}")
        # A copy of the set within it has its splits on a deeper level.
        level = min(levels)
        for folder in filled:
            if splits[folder][1] != level:
                tree.left_out[BESIDE_SPLITS] += len(folder.images)
        filled = [folder for folder in filled if splits[folder][1] == level]
    placed = [
        (folder, splits[folder][0] or "train", folder.parts[splits[folder][1] + 1 :])
        for folder in filled
    ]
    while (
        all(below for _, _, below in placed)
        and len({below[0] for _, _, below in placed}) == 1
        and any(len(below) > 1 for _, _, below in placed)
    ):
        placed = [(folder, split, below[1:]) for folder, split, below in placed]
    return placed


def _empty(tree: Tree) -> list[tuple[str, ...]]:
    """The folders without images, at any depth."""
    filled = {
        folder.parts[:depth]
        for folder in tree.folders
        if folder.images
        for depth in range(len(folder.parts) + 1)
    }
    return [folder.parts for folder in tree.folders if folder.parts not in filled]


def _check_empty(tree: Tree, parents: Collection[tuple[str, ...]]) -> None:
    """Checks that every folder beside a class folder has images."""
    for parts in _empty(tree):
        if parts[:-1] in parents and not split_words.split_of(parts[-1]):
            raise ValueError(
                f"{tree.root.joinpath(*parts)}: empty class: no image in it; put "
                f"images there or remove the folder (expected {LAYOUT})"
            )


def _check_spelling(tree: Tree) -> None:
    """Checks that no folder has the misspelt name of a split.

    Only a split that is missing among folders with a known split is looked for, or
    where all folders have such names: a class may have a similar name.
    """
    children = collections.defaultdict(list)
    for parts in (*(folder.parts for folder in tree.folders), *tree.tests):
        if parts:
            children[parts[:-1]].append(parts[-1])
    for parent, names in children.items():
        if len(names) > MAX_BESIDE:
            continue
        present = {split_words.split_of(name) for name in names} - {None}
        missing = [
            word
            for word in split_words.ACCEPTED.split(", ")
            if split_words.split_of(word) not in present
        ]
        likely = {
            name: match
            for name in names
            if split_words.split_of(name) is None
            for match in difflib.get_close_matches(name.lower(), missing, 1, 0.75)
            if abs(len(match) - len(name)) <= 1  # "Viral" is not "val"
        }
        if likely and (present or (len(likely) == len(names) > 1)):
            name, match = next(iter(likely.items()))
            raise ValueError(
                f"{tree.root.joinpath(*parent, name)}: a folder beside those of the "
                f"splits; did you mean {match!r}? If it is a class, move it into the "
                "folder of its split"
            )


def _check_names(tree: Tree, names: list[str]) -> None:
    """Checks that the names of the classes are different, and those of classes."""
    parts = {name for folder in tree.folders for name in folder.parts}
    splits = any(map(split_words.split_of, parts))
    for name in names:
        words = re.split(r"[\W\d_]+", name)
        if not splits and any(map(split_words.split_of, words)):
            raise ValueError(
                f"{tree.root}: {name!r} would be a class, but names a split; call the "
                "folder of a split train, val or test, with class folders in it"
                f"{_or_manifest(tree)}"
            )
    pattern = NUMBERED if len(names) <= MAX_NUMBERS else rf"{NUMBERED}|[\d._-]+"
    if names and all(re.fullmatch(pattern, name, re.IGNORECASE) for name in names):
        raise ValueError(
            f"{tree.root}: {names[0]!r} would be a class, but numbers a part of the "
            "data set or a patient; move the images into one folder for each class"
            f"{_or_manifest(tree)}"
        )
    same = collections.defaultdict(list)
    for name in names:
        same[name.casefold().strip()].append(name)
    for first, second in (pair[:2] for pair in same.values() if len(pair) > 1):
        raise ValueError(
            f"{tree.root}: the classes {first!r} and {second!r} differ in case or "
            "blanks only; give their folders one name"
        )


def _or_manifest(tree: Tree) -> str:
    """Names the uppermost file that may be a manifest, but none of a test split."""
    for file in sorted(tree.others, key=lambda file: file.count("/")):
        path = PurePosixPath(file)
        split = split_words.split_of(path.stem)
        is_table = path.suffix.lower() in (".csv", ".tsv", ".parquet")
        if split != "test" and (is_table or (split and path.suffix == ".txt")):
            return f"; or did you mean --config.dataset={tree.root / file}, a manifest?"
    return "; or give a manifest, a .csv file with the class of each image"


def _no_images(tree: Tree) -> ValueError:
    endings = collections.Counter(
        PurePosixPath(file).suffix.lower() or "without ending" for file in tree.others
    )
    counts = itertools.chain(endings.most_common(5), tree.left_out.items())
    found = ", ".join(f"{n} {what}" for what, n in counts if what != file_tree.NO_IMAGE)
    advice = f"expected {LAYOUT}, of {file_tree.KINDS} files"
    for file in tree.others:
        if command := file_tree.unpack_command(tree.root / file):
            advice = f"unpack the archive first: {command}"
        elif file.endswith(".npz"):
            advice = f"give the file: --config.dataset={tree.root / file}"
    return ValueError(
        f"{tree.root}: no images found, only {found or 'empty folders'}; {advice}"
    )


def _notes(tree: Tree) -> Iterator[str]:
    for parts in _empty(tree):
        if split_words.split_of(parts[-1]):
            folder = tree.root.joinpath(*parts)
            yield f"{folder}: named as a split, but has no images; ignored"
    if tree.others:
        examples = ", ".join(map(repr, tree.others[:3]))
        number = len(tree.others)
        yield f"{tree.root}: {number} files that are no images, such as {examples}"
