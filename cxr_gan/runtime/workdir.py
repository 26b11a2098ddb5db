"""Resolves --workdir: a local folder, or a local folder mirrored to a bucket."""

import contextlib
import pathlib
from collections.abc import Iterator

from cxr_gan.runtime import multihost
from cxr_gan.storage import files
from cxr_gan.storage.gcs_mirror import Mirror

SCHEME = "gs://"


@contextlib.contextmanager
def open_workdir(workdir: str) -> Iterator[pathlib.Path]:
    """The local folder of a --workdir.

    That of a gs:// address is in the user's cache; the primary process mirrors it to
    the bucket during the block.

    Raises:
        ValueError: the workdir is a URL other than a gs:// folder, or is used by
            another process or machine.
        BucketError: the bucket cannot be read or written, or the folder there holds
            something other than a run.
        DiskError: the local folder cannot be written.
        multihost.PeerError: one of these was raised in the primary process.
    """
    if not workdir.startswith(SCHEME):
        yield files.require_local_path(workdir, "--workdir")
        return
    bucket, *path = workdir.removeprefix(SCHEME).rstrip("/").split("/")
    if not bucket or not path or {"", ".", ".."} & {*path}:
        raise ValueError(
            f"--workdir={workdir} does not name a folder in a bucket; give one, such "
            f"as --workdir={SCHEME}{bucket or 'my-bucket'}/runs/a"
        )
    folder = files.user_cache_dir() / "buckets" / pathlib.Path(bucket, *path)
    with multihost.on_primary(lambda: Mirror(f"{workdir.rstrip('/')}/", folder)):
        yield folder
