"""A local Cloud Storage server: gcp-storage-emulator and three features it lacks.

- The generation of an object, which Cloud Storage returns in a header of every read.
- The precondition ifGenerationMatch of a write, answered with 412 if it does not hold
  (Cloud Storage JSON API, "Request preconditions"). A lease needs both.
- The bounds startOffset and endOffset of a listing, with which TensorStore selects a
  folder.
"""

import contextlib
import urllib.parse
from collections.abc import Iterator
from unittest import mock

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound

NAME = "my-bucket"


class Handler(server.RequestHandler):
    """Handles one request of the server in `serve`."""

    def __init__(self, storage, *arguments):
        self._storage = storage
        super().__init__(storage, *arguments)

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        for first in query.get("startOffset", []):  # endOffset bounds the same folder
            self.path += f"&prefix={urllib.parse.quote(first)}"
        return super().do_GET()

    def do_POST(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        (expected,) = query.get("ifGenerationMatch", [None])
        if expected is not None and expected != self._generation(query["name"][0]):
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
def serve() -> Iterator[str]:
    """Yields the address of a server with one empty bucket, NAME."""
    with (
        mock.patch.object(server, "RequestHandler", Handler),
        server.create_server(
            "127.0.0.1", 0, in_memory=True, default_bucket=NAME
        ) as running,
    ):
        yield f"http://127.0.0.1:{running._api._httpd.server_port}"
