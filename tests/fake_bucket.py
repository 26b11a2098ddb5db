"""Cloud Storage on this machine: gcp-storage-emulator, and what that leaves out.

That is the generation of what is read, which Cloud Storage tells in a header, and the
condition ifGenerationMatch of a write, which it answers with 412 where it does not hold
(its JSON API, on request preconditions): what a lease in a bucket rests on. And the
bounds of a listing, startOffset and endOffset, by which TensorStore names a folder.
"""

import contextlib
import urllib.parse
from collections.abc import Iterator
from unittest import mock

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound

NAME = "my-bucket"


class Handler(server.RequestHandler):
    """One request; speaks to `serving()` alone."""

    def __init__(self, storage, *arguments):
        self._storage = storage
        super().__init__(storage, *arguments)

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        for first in query.get("startOffset", []):  # the end is that of the folder
            self.path += f"&prefix={urllib.parse.quote(first)}"
        return super().do_GET()

    def do_POST(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        (wanted,) = query.get("ifGenerationMatch", [None])
        if wanted is not None and wanted != self._generation(query["name"][0]):
            self.rfile.read(int(self.headers["content-length"]))
            return self.send_error(412, "conditionNotMet")
        return super().do_POST()

    def end_headers(self):
        _, slash, name = urllib.parse.urlsplit(self.path).path.rpartition("/o/")
        if self.command == "GET" and slash:
            generation = self._generation(urllib.parse.unquote(name))
            self.send_header("x-goog-generation", generation)
        super().end_headers()

    def _generation(self, name: str) -> str:
        with contextlib.suppress(NotFound):
            return self._storage.get_file_obj(NAME, name)["generation"]
        return "0"


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The address of a server that holds an empty bucket, NAME."""
    with (
        mock.patch.object(server, "RequestHandler", Handler),
        server.create_server("127.0.0.1", 0, in_memory=True, default_bucket=NAME) as up,
    ):
        yield f"http://127.0.0.1:{up._api._httpd.server_port}"
