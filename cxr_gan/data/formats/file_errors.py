"""Errors of image files: one sentence that names the file, the fault and a remedy."""

import contextlib
import errno
import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from cxr_gan.data.listing import LeftOutError
from cxr_gan.storage.checksums import CORRUPT_FILE_ERRORS

# All errors that Pillow raises for flipped or missing bytes.
DECODE_ERRORS = (
    *CORRUPT_FILE_ERRORS,
    RuntimeError,
    SyntaxError,
    TypeError,
    struct.error,
)
# First bytes of files that Pillow opens, unless they are damaged.
IMAGE_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    b"GIF8",
    b"\0\0\0\x0cjP",
)
# First bytes of files that are often taken for images -> what they are.
OTHER_STARTS = {
    b"<": "a web page or XML",
    b"%PDF": "a PDF document",
    b"PK\3\4": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "a pointer of Git LFS; run git lfs pull",
}


class RefusalError(ValueError):
    """A sentence about an undamaged file, which `readable` begins with its name."""


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns errors of reading an image file into one sentence that names it."""
    try:
        if path.stat().st_size == 0:
            raise RefusalError(
                "the file is empty (0 bytes); copy it again or delete it"
            )
        yield
    except LeftOutError:
        raise
    except RefusalError as error:
        raise ValueError(f"{path}: {error}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too large: {error}; make it smaller") from error
    except DECODE_ERRORS as error:
        # Pillow's own OSErrors have no errno. Offsets of damaged files are invalid.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            advice = "check the path and the disk"
            if isinstance(error, PermissionError):
                advice = "change its permissions"
            raise ValueError(
                f"{path}: cannot be read ({error.strerror}); {advice}"
            ) from error
        raise ValueError(
            f"{path}: truncated or damaged image ({error}); copy it again or delete it"
        ) from error


def unidentified(start: bytes) -> RefusalError:
    """The error for a file with these first bytes that Pillow cannot open."""
    if start.startswith(IMAGE_STARTS):
        return RefusalError(
            "truncated or damaged image, or of a kind that Pillow cannot open; copy it "
            "again, or save it as PNG of 8 or 16 bits"
        )
    for first, kind in OTHER_STARTS.items():
        if start.startswith(first):
            return RefusalError(f"not an image but {kind}; replace it or delete it")
    return RefusalError("not an image, despite its file name; replace it or delete it")
