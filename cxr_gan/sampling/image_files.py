"""Writes generated images as PNG files or as one .npz."""

import csv
import pathlib
import zipfile
from typing import Protocol

import numpy as np
from PIL import Image, PngImagePlugin

from cxr_gan.models import pixel_range
from cxr_gan.sampling.generation import Generation
from cxr_gan.storage import files

FOLDER = "images"  # in --out; holds the class folders
ARCHIVE = "images.npz"
LABELS = "labels.csv"  # beside them
METADATA = "metadata.csv"  # of Hugging Face's imagefolder, beside the class folders


class ImageFiles(Protocol):
    """Writes the images of a request, one after the other."""

    complete_at_once: bool  # whether an image can be read as soon as it is saved

    def file(self, index: int) -> str:
        """The file of an image, relative to the output folder."""

    def save(self, index: int, image: np.ndarray) -> None:
        """Writes float32 [s, s] in [0, 1]; indices count up from 0.

        Raises:
            files.DiskError: the file cannot be written.
        """

    def finish(self) -> None:
        """Completes what is written after the last image.

        Raises:
            files.DiskError: the file cannot be written.
        """


class PngFiles:
    """A PNG for each image, in a folder for each class."""

    complete_at_once = True

    def __init__(self, job: Generation, out: pathlib.Path) -> None:
        self._job, self._out = job, out

    def file(self, index: int) -> str:
        """images/NORMAL/NORMAL_00000.png."""
        return f"{FOLDER}/{self._job.file(index, '.png')}"

    def save(self, index: int, image: np.ndarray) -> None:
        """Writes an image; see `ImageFiles.save`."""
        path = files.with_parents(self._out / self.file(index))
        origin = self._job.origin(self._job.class_name(index))
        save_png(path, pixel_range.to_uint8(image), origin)

    def finish(self) -> None:
        """Nothing is left to write."""


class NpzArchive:
    """One .npz: images uint8 [n, s, s], labels int32 [n] and class_names [K].

    The pixels are appended to a temporary file, so that memory does not grow with n.
    """

    complete_at_once = False

    def __init__(self, job: Generation, out: pathlib.Path) -> None:
        self._job = job
        self._path = out / ARCHIVE
        self._pixels = out / f"pixels{files.PARTIAL_SUFFIX}"
        self._written = 0

    def file(self, index: int) -> str:
        """images.npz, for every image."""
        return ARCHIVE

    def save(self, index: int, image: np.ndarray) -> None:
        """Appends an image; see `ImageFiles.save`."""
        with files.translate_os_errors(self._path):
            try:
                with self._pixels.open("ab") as file:
                    file.write(pixel_range.to_uint8(image).tobytes())
            except OSError:
                self._pixels.unlink(missing_ok=True)
                raise
        self._written += 1

    def finish(self) -> None:
        """Writes the .npz; nothing if there are no images."""
        if not self._written:
            return
        side = self._job.params.config.resolution
        shape = (self._written, side, side)
        with files.atomic_write(self._path) as unfinished:
            try:
                images = np.memmap(self._pixels, np.uint8, "r", shape=shape)
                arrays = {
                    "images": images,
                    "labels": self._job.labels[: self._written],
                    "class_names": np.array(self._job.params.class_names),
                }
                save_npz(unfinished, arrays)
            finally:
                self._pixels.unlink(missing_ok=True)


def save_npz(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """`np.savez_compressed` to any file name, with the same bytes at any time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # Without a date of its own, an entry has that of the clock.
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array))


def save_png(path: pathlib.Path, image: np.ndarray, origin: dict[str, str]) -> None:
    """Writes uint8 [h, w] as a PNG whose metadata say how it was generated.

    Raises:
        files.DiskError: the file cannot be written.
    """
    metadata = PngImagePlugin.PngInfo()
    for key, value in origin.items():
        metadata.add_text(key, value)
    with files.atomic_write(path) as unfinished:
        Image.fromarray(image).save(unfinished, format="PNG", pnginfo=metadata)


def write_metadata(
    job: Generation, writer: ImageFiles, written: int, out: pathlib.Path
) -> None:
    """Writes metadata.csv of the first images, unless all are in one file.

    Hugging Face's imagefolder ignores the names of folders where this file is, so the
    class is a column.

    Raises:
        files.DiskError: the file cannot be written.
    """
    if writer.file(0) == ARCHIVE:
        return
    with (
        files.atomic_write(out / FOLDER / METADATA) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file_name", "label", "index", "seed"))
        for index in range(written):
            name = writer.file(index).removeprefix(f"{FOLDER}/")
            table.writerow((name, job.class_name(index), index, job.seed))
