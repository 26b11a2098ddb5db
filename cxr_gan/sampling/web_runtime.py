"""ONNX Runtime Web: the files that a browser needs to run an ONNX file.

They are fetched once with npm, at a pinned version and checksum, and cached. A page
loads them under names that every file server sends as JavaScript.
"""

import base64
import hashlib
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

from cxr_gan.storage import files

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = (  # of the archive, in base64, as npm's registry states it
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02V"
    "b7QmRMDs1SigqR4CXAfKYQ=="
)
LICENCE = (
    f"ONNX Runtime Web {VERSION}: MIT License, Copyright (c) Microsoft Corporation; "
    "https://github.com/microsoft/onnxruntime/blob/main/LICENSE and, of the software "
    "it contains, ThirdPartyNotices.txt beside it."
)
# Names in the package's folder dist -> names in a page's folder.
FILES = {
    "ort.wasm.min.mjs": "ort.js",
    "ort-wasm-simd-threaded.mjs": "ort-wasm.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm.wasm",
}


def find(given: str) -> pathlib.Path:
    """The folder that holds the runtime's files.

    Args:
        given: folder with the files of the package's dist; "" for the cache, which npm
            fills if it lacks them.

    Raises:
        FileNotFoundError: `given` lacks a file, or npm is not installed.
        OSError: npm could not download the package.
        ValueError: the download is not the pinned one.
        files.DiskError: a file cannot be written.
    """
    if not given:
        return _cached()
    folder = files.require_local_path(given, "--runtime")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"--runtime={given}: lacks {', '.join(missing)}; give the folder dist of "
            f"the npm package {PACKAGE} {VERSION}"
        )
    return folder


def copy(source: pathlib.Path, folder: pathlib.Path) -> int:
    """Copies the runtime, found by `find`, into a folder; returns the bytes written.

    Raises:
        files.DiskError: a file cannot be written.
    """
    written = 0
    for name, target in FILES.items():
        with files.translate_os_errors(folder / target):
            shutil.copyfile(source / name, folder / target)
        written += (folder / target).stat().st_size
    return written


def _cached() -> pathlib.Path:
    """The folder of the cached files, which npm fetches if they are not there."""
    folder = files.user_cache_dir() / f"{PACKAGE}-{VERSION}"
    if all((folder / name).is_file() for name in FILES):
        return folder
    manual = (
        f"download {PACKAGE} {VERSION} elsewhere with `npm pack {PACKAGE}@{VERSION}`, "
        "unpack it, and give its folder dist as --runtime=FOLDER"
    )
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(
            f"the page needs {PACKAGE}, which npm fetches, and npm is not installed; "
            f"install Node.js, or {manual}"
        )
    with tempfile.TemporaryDirectory() as scratch:
        command = (npm, "pack", f"{PACKAGE}@{VERSION}", "--silent")
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, check=False
        )
        archives = list(pathlib.Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise OSError(f"npm could not download {PACKAGE} ({reason}); {manual}")
        _unpack(archives[0], folder)
    return folder


def _unpack(archive: pathlib.Path, folder: pathlib.Path) -> None:
    """Checks the archive and extracts FILES into the folder."""
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != SHA512:
        raise ValueError(
            f"the download of {PACKAGE} {VERSION} has the sha512 {digest[:16]}..., "
            f"not {SHA512[:16]}...; nothing was installed. Try again"
        )
    with tarfile.open(archive) as content:
        for name in FILES:
            member = content.extractfile(f"package/dist/{name}")
            if member is None:
                raise ValueError(f"{PACKAGE} {VERSION} lacks dist/{name}")
            target = files.with_parents(folder / name)
            with files.atomic_write(target) as unfinished:
                unfinished.write_bytes(member.read())
