r"""Writes a web page that generates images in the browser, without a server program.

    python -m cxr_gan.demo --model=pediatric64 --out=page --serve

The folder has the page, the generator as ONNX, and ONNX Runtime Web, which is fetched
once with npm and cached; --runtime=FOLDER takes it from a folder instead. Any file
server can serve it. The page shows single images, the same latent under each class, a
interpolation between two images, many images, and a reader test with a folder of real
images, which stay in the browser. It makes no request to any other host. Its images
equal those of `cxr_gan.sample` for the same seed and number, within two grey levels of
256. --serve serves the folder on this
machine until Ctrl-C.
"""

import contextlib
import functools
import http.server
import importlib.resources
import json
import pathlib
import shlex
from typing import Any

from absl import flags

from cxr_gan.runtime import cli
from cxr_gan.sampling import exporting, sampler, web_runtime
from cxr_gan.storage import files

PAGE = "page"  # folder of the package with the files of the page
LICENCES = "LICENSES.txt"


@cli.command(example="--model=pediatric64")
def main(values: flags.FlagValues) -> int:
    """Checks the flags and writes the folder. Returns the exit code."""
    out = cli.new_output_folder(values.out)
    params, meta = sampler.load_with_meta(values.model)
    about: dict[str, Any] = exporting.describe(params, meta)
    content, run = exporting.export_onnx(params, "float32", about)
    source = web_runtime.find(values.runtime)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(bind(out, values.port)) if values.serve else None
        exporting.compare(params, run)
        with files.translate_os_errors(out):
            (out / "runtime").mkdir(parents=True, exist_ok=True)
        runtime = web_runtime.copy(source, out / "runtime")
        write_page(out)
        with files.atomic_write(out / "generator.onnx") as unfinished:
            unfinished.write_bytes(content)
        about |= {
            "class_names": params.class_names,
            "resolution": params.config.resolution,
            "latent_size": params.config.latent_size,
        }
        text = json.dumps(about, ensure_ascii=False) + "\n"
        files.write_text(out / "model.json", text)
        licence = about["licence"] or "no licence is stated"
        generator = f"Generator {about['model_hash']}: {licence}\n"
        files.write_text(out / LICENCES, f"{generator}\n{web_runtime.LICENCE}")
        print(
            f"wrote {out}/index.html: generator {len(content) / 1e6:.1f} MB, ONNX "
            f"Runtime Web {runtime / 1e6:.1f} MB (MIT License). {generator}serve it "
            "with: python -m http.server --bind 127.0.0.1 --directory "
            f"{shlex.quote(str(out))}"
        )
        if server is not None:
            serve(server)
    return 0


def write_page(out: pathlib.Path) -> None:
    """Copies the files of the page from the package."""
    folder = importlib.resources.files("cxr_gan.sampling") / PAGE
    for file in folder.iterdir():
        files.write_text(out / file.name, file.read_text(encoding="utf-8"))


def bind(folder: pathlib.Path, port: int) -> "Server":
    """Binds a server of a folder, which may not exist yet, to this machine alone.

    Raises:
        OSError: the port is in use.
    """
    handler = functools.partial(Handler, directory=str(folder))
    try:
        return Server(("127.0.0.1", port), handler)
    except OSError as error:
        raise OSError(
            f"--port={port} cannot be used ({error.strerror}); give another one"
        ) from error


def serve(server: "Server") -> None:
    """Serves until Ctrl-C."""
    print(f"http://127.0.0.1:{server.server_port} until Ctrl-C", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


class Server(http.server.ThreadingHTTPServer):
    """A server that prints nothing when a browser ends a request early."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores the error: the browser asks again."""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, without a line for each request."""

    def end_headers(self) -> None:
        """Lets the browser ask each time, as another page may use this port later."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags."""
    own: dict[str, Any] = {"flag_values": values}
    flags.DEFINE_string("model", None, "Run or published model.", **own)
    flags.DEFINE_string("out", None, "New or empty folder to write to.", **own)
    name = f"{web_runtime.PACKAGE} {web_runtime.VERSION}"
    runtime = f"Folder with the files of {name}. Default: npm fetches it once."
    flags.DEFINE_string("runtime", "", runtime, **own)
    flags.DEFINE_boolean(
        "serve", False, "Also serve the folder on this machine.", **own
    )
    flags.DEFINE_integer("port", 8000, "Port of --serve.", 0, 65535, **own)
    flags.mark_flags_as_required(["model", "out"], **own)


if __name__ == "__main__":
    cli.run(main, define_flags)
