"""Time to read DICOM radiographs and resize them, beside MONAI.

    python -m venv monai && monai/bin/pip install "monai==1.6.*" pydicom python-gdcm
    python -m benchmarks.preparation --monai=monai/bin/python --out=preparation.json

Writes --count files of 1955 x 1841 pixels of 12 bits, native and as lossless JPEG
(process 14, selection value 1), in a temporary folder: 9 MB of disk for each of them.
They are phantoms with noise. `cxr_gan.prepare` lists, checks, decodes and writes all of
them with as many threads as there are cores. MONAI decodes them in the other
interpreter: LoadImage with PydicomReader, then Resize, in a DataLoader. The runs
alternate, with files in the page cache if it holds them. Imports are not timed; the
start of worker processes is. A ratio is taken from each pair of neighbouring runs, and
the table shows the medians.
"""

import itertools
import pathlib
import statistics
import subprocess
import tempfile
import time
from typing import Any

import imagecodecs
import numpy as np
import tqdm
from absl import flags
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from benchmarks import command_line
from cxr_gan.data import loading
from cxr_gan.data.formats import dicom
from cxr_gan.data.phantom import renderer

CLASSES = "NORMAL", "PNEUMONIA"
HEIGHT, WIDTH, BITS = 1955, 1841, 12
RENDERED = 256  # pixels of a side of the phantom that is enlarged
NOISE = 12  # standard deviation, of 4095
SYNTAXES = {"native": "1.2.840.10008.1.2.1", "lossless": "1.2.840.10008.1.2.4.70"}
MONAI = pathlib.Path(__file__).parent / "baselines" / "monai_reading.py"


def make_image(index: int) -> np.ndarray:
    """A phantom with noise, uint16 [HEIGHT, WIDTH] of BITS bits."""
    phantom = Image.fromarray(renderer.render(0, index, RENDERED).image[..., 0])
    enlarged = phantom.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    values = np.asarray(enlarged, np.float32) * ((2**BITS - 1) / 255)
    values += NOISE * np.random.default_rng(index).standard_normal(
        values.shape, np.float32
    )
    return np.rint(values).clip(0, 2**BITS - 1).astype(np.uint16)


def write_file(path: pathlib.Path, image: np.ndarray, kind: str, index: int) -> None:
    """Writes `image` as a computed radiograph; `kind` is a key of SYNTAXES."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = SYNTAXES[kind]
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.SOPInstanceUID = f"2.25.{index + 1}"
    dataset.Modality, dataset.PatientID = "CR", f"{index}"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *image.shape, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, BITS, BITS - 1
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 2**BITS // 2, 2**BITS
    dataset.PixelData = image.tobytes()
    if kind == "lossless":
        frame = imagecodecs.jpeg_encode(
            image, lossless=True, predictor=1, bitspersample=16
        )
        dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OW" if kind == "native" else "OB"
    dataset.save_as(path, enforce_file_format=True)


def time_ours(folder: pathlib.Path, resolution: int) -> float:
    """Milliseconds a file of `cxr_gan.prepare`, from the listing to the written set."""
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        prepared = pathlib.Path(out) / "set"
        loading.prepare(str(folder), resolution, prepared, split_seed=0)
        taken = time.perf_counter() - start
        images = np.load(prepared / "images.npy", mmap_mode="r")
        assert images.shape[1:] == (resolution, resolution, 1)
        return 1000 * taken / len(images)


def time_monai(
    python: str, folder: pathlib.Path, resolution: int, workers: int
) -> float:
    """Milliseconds a file."""
    command = [python, str(MONAI), str(folder), str(resolution), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    return float(done.stdout.split()[-1])


def headers_per_second(paths: list[pathlib.Path]) -> float:
    """How many headers one thread reads and checks in a second."""
    start = time.perf_counter()
    for path in paths:
        dicom.inspect(path)
    return len(paths) / (time.perf_counter() - start)


def measure(values: flags.FlagValues) -> tuple[command_line.Results, str]:
    """Runs the benchmark; returns its results and Markdown of them."""
    results: dict[str, Any] = {}
    rows = []
    with tempfile.TemporaryDirectory() as root:
        folders = {kind: pathlib.Path(root, kind) for kind in SYNTAXES}
        for folder, name in itertools.product(folders.values(), CLASSES):
            (folder / name).mkdir(parents=True)
        for index in tqdm.trange(values.count, desc="writing files", disable=None):
            image = make_image(index)
            for kind, folder in folders.items():
                path = folder / CLASSES[index % 2] / f"{index:05d}.dcm"
                write_file(path, image, kind, index)
        for kind, folder in folders.items():
            paths = sorted(folder.rglob("*.dcm"))
            headers = headers_per_second(paths)
            ours, monai = [], []
            for _ in range(values.repeats):
                ours.append(time_ours(folder, values.resolution))
                if values.monai:
                    monai.append(
                        time_monai(
                            values.monai, folder, values.resolution, values.workers
                        )
                    )
            ratios = [a / b for a, b in zip(ours, monai, strict=False)]
            results[kind] = {"ours": ours, "monai": monai, "headers": headers}
            rows.append(
                [
                    kind,
                    f"{statistics.median(ours):.1f}",
                    f"{statistics.median(monai):.1f}" if monai else "",
                    f"{statistics.median(ratios):.2f}" if monai else "",
                    f"{headers:.0f}",
                ]
            )
    head = ["files", "cxr_gan, ms a file", "MONAI, ms a file", "ratio", "headers a s"]
    return results, command_line.table(head, rows)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_integer("count", 400, "Files of each kind.", lower_bound=1, **own)
    flags.DEFINE_integer("repeats", 3, "Runs of each program.", lower_bound=1, **own)
    flags.DEFINE_integer("resolution", 256, "Pixels of a side.", lower_bound=1, **own)
    flags.DEFINE_integer("workers", 2, "Workers of MONAI.", lower_bound=1, **own)
    flags.DEFINE_string("monai", "", "Python interpreter that has MONAI.", **own)


if __name__ == "__main__":
    command_line.run(measure, define_flags)
