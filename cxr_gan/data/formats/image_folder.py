"""Folders of image files: root/{train,val,test}/CLASS/* or root/CLASS/*."""

import collections
import difflib
import itertools
import re
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

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
# Folders between a split and its classes that are neither.
CONTAINERS = ("images", "image", "imgs", "img", "data", "dicom", "jpg", "jpeg", "png")
# Names that number the parts, or the patients, of a data set.
NUMBERED = re.compile(
    r"(images?|imgs?|part|batch|chunk|shard|patient|pat|p|subject|sub|study|series|s)"
    r"[ _-]?\d+",
    re.IGNORECASE,
)
NUMBERED_OR_NUMBER = re.compile(rf"{NUMBERED.pattern}|[\d._-]+", re.IGNORECASE)
MAX_NUMBERS = 20  # classes may be called by numbers, but not more of them

# A folder of images, the split of its images, and the folders from there down.
Placed = tuple[Folder, str, tuple[str, ...]]


def open_folder(location: str, options: ReadOptions) -> Listing:
    """Lists a folder of class folders, without reading any image.

    The classes are the folders directly below those of the splits. Without splits, they
    are the root's folders, or those below a chain of single folders. Files in deeper
    folders belong to the class above them. A split is named by a word that
    `split_words.split_of` knows; folders beside a test split are classes.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there are no images; images are not in class folders; a class is
            empty or missing in a split; train is missing; names of folders are those of
            parts of the set, or misspelt; or options are for a manifest.
    """
    root = files.expand_user(location, "dataset")
    _check_is_folder(root, location)
    tree = file_tree.scan(root)
    if options.manifest != ManifestOptions():
        raise ValueError(
            f"{root}: a folder of class folders, but options of a manifest are given; "
            f"remove the flags --manifest.* (--config.manifest.*){_or_manifest(tree)}"
        )
    if not any(folder.images for folder in tree.folders):
        raise _no_images(tree)
    _check_spelling(tree)
    entries = _entries(tree, _with_class(tree, _placed(tree)))
    names = sorted({entry.class_name for entry in entries})
    _check_names(tree, names)
    count = collections.Counter((entry.split, entry.class_name) for entry in entries)
    in_train, in_val = ([count[split, n] for n in names] for split in ("train", "val"))
    check_classes(names, in_train, in_val if any(in_val) else None, str(root))
    return Listing(root, tuple(entries), dict(tree.left_out), tuple(_notes(tree)))


def _check_is_folder(root: Path, location: str) -> None:
    if root.is_dir():
        return
    if not root.is_file():
        raise FileNotFoundError(f"{location}: no such folder; check the path")
    command = file_tree.unpack_command(root)
    what = f"an archive; unpack it ({command}) and" if command else "a file, no folder;"
    raise ValueError(f"{location}: {what} give the folder")


def _split_index(parts: tuple[str, ...]) -> int | None:
    """Which of the folders names the split; None if none does."""
    words = (i for i, name in enumerate(parts) if split_words.split_of(name))
    return next(words, None)


def _placed(tree: Tree) -> list[Placed]:
    """The folders of images, each with its split."""
    filled = [folder for folder in tree.folders if folder.images]
    split_at: dict[Folder, tuple[str, int]] = {}
    for folder in filled:
        for depth, name in enumerate(folder.parts):
            if split := split_words.split_of(name):
                split_at[folder] = split, depth
                break
    train_levels = [depth for split, depth in split_at.values() if split == "train"]
    if split_at and not train_levels and len(split_at) == len(filled):
        raise ValueError(f"{tree.root}: has val but no train; expected {LAYOUT}")
    # A copy of the set within it has its splits on a deeper level. Class folders,
    # perhaps beside a val, are those of train.
    levels = train_levels or [depth for _, depth in split_at.values()]
    level = min(levels) if levels else _chain(filled)
    placed: list[Placed] = []
    for folder in filled:
        split, depth = split_at.get(folder, ("", level))
        if depth != level or (train_levels and not split):
            tree.left_out[BESIDE_SPLITS] += len(folder.images)
        else:
            below = folder.parts[level + bool(split) :]
            placed.append((folder, split or "train", below))
    return placed


def _chain(folders: list[Folder]) -> int:
    """Number of single folders above the class folders."""
    lengths = [len(folder.parts) for folder in folders]
    levels = zip(*(folder.parts for folder in folders), strict=False)
    different = (depth for depth, names in enumerate(levels) if len(set(names)) > 1)
    common = next(different, min(lengths))
    return common if max(lengths) > common else max(common - 1, 0)


def _with_class(tree: Tree, placed: list[Placed]) -> list[Placed]:
    """The folders of images of a class: the first folder from there down names it."""
    while all(below and below[0].lower() in CONTAINERS for _, _, below in placed):
        placed = [(folder, split, below[1:]) for folder, split, below in placed]
    found = [item for item in placed if item[2]]
    if not found:
        found = _with_class_above(tree, placed)
    elif len(found) < len(placed):
        loose = sum(len(folder.images) for folder, _, below in placed if not below)
        tree.left_out[BESIDE_CLASSES] += loose
    parents = {folder.parts[: -len(below)] for folder, _, below in found}
    _check_empty(tree, parents)
    return found


def _with_class_above(tree: Tree, placed: list[Placed]) -> list[Placed]:
    """CLASS/train/*: the folders above those of the splits name the classes.

    Raises:
        ValueError: there are no two of them.
    """
    above = [
        (folder, split, folder.parts[at - 1 :])
        for folder, split, _ in placed
        if (at := _split_index(folder.parts))
    ]
    if len(above) == len(placed) and len({below[0] for _, _, below in above}) > 1:
        return above
    where = "/".join(placed[0][0].parts) or "."
    raise ValueError(
        f"{tree.root}: the images in {where!r} are not in class folders; move those of "
        f"each class into a folder of its own, such as "
        f"{str(PurePosixPath(where, 'NORMAL'))!r}{_or_manifest(tree)}"
    )


def _entries(tree: Tree, found: list[Placed]) -> list[Entry]:
    entries = []
    for folder, split, below in found:
        for name in folder.images:
            file = "/".join((*folder.parts, name))
            entries.append(Entry(tree.root / file, file, below[0], split))
    entries.sort(key=lambda e: (e.split != "train", e.class_name, e.file))
    return entries


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
    splits = any(_split_index(folder.parts) is not None for folder in tree.folders)
    for name in names:
        words = re.split(r"[\W\d_]+", name)
        if not splits and any(map(split_words.split_of, words)):
            raise ValueError(
                f"{tree.root}: {name!r} would be a class, but names a split; call the "
                "folder of a split train, val or test, with class folders in it"
                f"{_or_manifest(tree)}"
            )
    pattern = NUMBERED if len(names) <= MAX_NUMBERS else NUMBERED_OR_NUMBER
    if all(map(pattern.fullmatch, names)):
        raise ValueError(
            f"{tree.root}: {names[0]!r} would be a class, but numbers a part of the "
            "data set or a patient; move the images into one folder for each class"
            f"{_or_manifest(tree)}"
        )
    same = collections.defaultdict(list)
    for name in names:
        same[unicodedata.normalize("NFC", name).casefold().strip()].append(name)
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
    for split in ("train", "val"):
        names = {name for f in tree.folders for name in f.parts}
        same = sorted(name for name in names if split_words.split_of(name) == split)
        if len(same) > 1:
            yield f"{tree.root}: {', '.join(same)} are all read as {split}"
    archives = [file for file in tree.others if file_tree.unpack_command(Path(file))]
    for what, found in (
        ("files that are no images", tree.others),
        ("archives, which are not opened", archives),
    ):
        if found:
            examples = ", ".join(map(repr, found[:3]))
            yield f"{tree.root}: {len(found)} {what}, such as {examples}"
