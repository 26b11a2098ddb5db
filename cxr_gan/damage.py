"""What reading a damaged npz raises."""

import zipfile
import zlib

# All that NumPy and zipfile raise on flipped, missing or foreign bytes; zipfile says
# NotImplementedError where a flipped byte names a compression it does not know.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
