"""ONNX Runtime Web: the files that a browser needs to run an ONNX file.

They are fetched once with npm, at a pinned version and checksum, and cached. The .mjs
files are renamed to .js, because some file servers do not send .mjs as JavaScript.
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
LICENCE = f"""ONNX Runtime Web {VERSION}: MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this
software and associated documentation files (the "Software"), to deal in the Software
without restriction, including without limitation the rights to use, copy, modify,
merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
permit persons to whom the Software is furnished to do so, subject to the following
conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR
PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE
LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT
OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR
OTHER DEALINGS IN THE SOFTWARE.

Software that it contains:
https://github.com/microsoft/onnxruntime/blob/v{VERSION}/ThirdPartyNotices.txt
"""
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
        ValueError: the download, or `given`, is not the pinned version.
        files.DiskError: a file cannot be written.
    """
    if not given:
        return _cached()
    folder = files.require_local_path(given, "--runtime")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"--runtime={given} lacks {', '.join(missing)}; give the folder dist of "
            f"the npm package {PACKAGE} {VERSION}"
        )
    start = (folder / next(iter(FILES))).read_bytes()[:200].decode(errors="replace")
    if f"v{VERSION}" not in start:
        raise ValueError(
            f"--runtime={given} is not version {VERSION} of {PACKAGE}; get it with "
            f"`npm pack {PACKAGE}@{VERSION}`"
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
    unpacked = archive.with_suffix(".files")
    unpacked.mkdir()
    with tarfile.open(archive) as content:
        for name in FILES:
            member = content.extractfile(f"package/dist/{name}")
            assert member is not None  # the checksum is that of an archive with them
            (unpacked / name).write_bytes(member.read())
    with files.translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:  # each appears at once, also for another process
            partial = pathlib.Path(tempfile.mkdtemp(dir=folder)) / name
            shutil.copyfile(unpacked / name, partial)
            partial.replace(folder / name)
            partial.parent.rmdir()
