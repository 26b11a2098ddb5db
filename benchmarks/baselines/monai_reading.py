"""Times MONAI on a folder of DICOM files; run by its interpreter, without cxr_gan.

    python monai_reading.py FOLDER RESOLUTION WORKERS

Prints milliseconds a file, without the time of imports.
"""

import pathlib
import sys
import time

from monai.data import DataLoader, Dataset, PydicomReader
from monai.transforms import Compose, LoadImage, Resize


def main(folder: str, resolution: int, workers: int) -> None:
    """Reads and resizes all files once."""
    paths = sorted(str(path) for path in pathlib.Path(folder).rglob("*.dcm"))
    load = LoadImage(reader=PydicomReader(), ensure_channel_first=True)
    transform = Compose([load, Resize((resolution, resolution))])
    start = time.perf_counter()
    loader = DataLoader(Dataset(paths, transform), batch_size=8, num_workers=workers)
    count = sum(len(images) for images in loader)
    assert count == len(paths)
    print(1000 * (time.perf_counter() - start) / count)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
