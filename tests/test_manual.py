"""Runs the commands and code of README.md and of the manual, and checks their output.

Every fenced block is of a language in LANGUAGES, and every command is run here with
tiny networks, or is one of ELSEWHERE. Output is compared except for its numbers; a line
of `...` stands for any lines. Code with a title is a file, which commands use.
"""

import ast
import collections
import contextlib
import functools
import importlib
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import dicom_files
import numpy as np
import pytest
from absl import flags
from fenced import ROOT, blocks, commands, console, read, title, typed
from PIL import Image
from test_onnx_encoder import write_network

from cxr_gan import config as configs
from cxr_gan.data.phantom import renderer as phantom
from cxr_gan.evaluation import utility
from cxr_gan.sampling import web_runtime

PAGES = ["README.md", "CONTRIBUTING.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
LANGUAGES = ("bash", "console", "json", "python", "text")
# Commands that are not run here, and what covers them instead.
ELSEWHERE = {
    r"pip install|source \.venv|bash launch/(local|test)\.sh|bash \.ci/run": ".ci/run",
    r"mkdocs |pre-commit ": "the steps of .ci/run, which runs the same programs",
    r"sky |export (CXR|JAX)_|bash launch/tpu\.sh": "tests/test_cloud_pages.py",
    r"tensorboard |git worktree ": "nothing: programs of others",
    r"python -m cxr_gan\.prepare --dataset=path/to/(?!export|chest_xray)": (
        "tests/test_manifest_recipes.py, test_image_folder.py and test_npz.py"
    ),
    r"python -m benchmarks\.": "test_flags_of_benchmark_commands_exist",
}
NEEDS_DOWNLOADS = "import torch"  # in code that is only compiled here
# Before the flags of a training command, and after them.
TINY = [
    "--config.resolution=32",
    "--config.generator.features_at_32=8",
    "--config.generator.max_features=8",
    "--config.discriminator.features_at_32=8",
    "--config.discriminator.max_features=8",
]
SHORT = [
    "--config.batch_size=16",  # one compiled step for most commands
    "--config.total_kimg=0.064",
    "--config.log_kimg=0.016",
    "--config.eval_kimg=0",
]
NAMED_TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def is_run_elsewhere(command: str) -> bool:
    return any(re.match(pattern, command) for pattern in ELSEWHERE)


def normalised(text: str) -> list[str]:
    """Lines without numbers and repeated spaces; a verdict depends on the training."""
    text = re.sub(r"verdict: .*", "verdict:", text)
    text = re.sub(r"-?\d[\d.,:]*(e-?\d+)?", "0", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def assert_shown(expected: str, output: str) -> None:
    """`output` has the lines of `expected`; "..." stands for any lines between."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n"
        for line in normalised(expected)
    )
    found = "".join(f"{line}\n" for line in normalised(output))
    assert re.search(rf"^{pattern}", found, re.MULTILINE), f"{expected}\n{output}"


class Reader:
    """Types commands and code into one folder, each command once."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.outputs: dict[str, str] = {}

    def type(self, command: str, succeeds: bool = True) -> str:
        """Runs a command; its output.

        The exit code 3 of --most_copied depends on the training.
        """
        if command not in self.outputs:
            words = shlex.split(command, comments=True)
            code, output = self.run(words[1:])
            any_code = "--help" in words or "--most_copied" in command
            assert any_code or succeeds == (code == 0), f"{command}\n{output}"
            self.outputs[command] = output
        return self.outputs[command]

    def run(self, words: list[str]) -> tuple[int, str]:
        module = words[1].removeprefix("cxr_gan.")
        # Runs as short as SHORT are not validated and have no best checkpoint.
        arguments = [word.replace("@best", "") for word in words[2:]]
        if module == "main":
            if "--config=configs/quick.py" in arguments:
                arguments.append("--config.dataset=phantom:240")
            tiny = TINY
            if any(re.search("dataset=.*prepared", word) for word in arguments):
                tiny = TINY[1:]  # of the resolution that the page prepares
            if re.search(r"acgan_(128|256)\.py", " ".join(arguments)):
                arguments += ["--config.base_resolution=32", "--config.resolution=64"]
            model = "--config.init=pediatric64"  # whose networks are larger
            if model in arguments:
                arguments += ["--config.init=runs/kermany64"]
            arguments = [*tiny, *arguments, *SHORT]
        elif words[0] == "-m":
            return self.call(module, arguments)
        done = subprocess.run(
            [sys.executable, *words[:2], *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def call(self, name: str, arguments: list[str]) -> tuple[int, str]:
        """Runs a command in this process, which has compiled and imported already."""
        module = importlib.import_module(f"cxr_gan.{name}")
        values, output = flags.FlagValues(), io.StringIO()
        if name == "edit":  # images of the pages have 32 px
            main, define_flags = module.ACTIONS[arguments.pop(0)]
            arguments = [a.replace("pediatric64", "runs/kermany64") for a in arguments]
            arguments.append("--steps=2" if main is module.project else "--num=4")
        else:
            main, define_flags = module.main, module.define_flags
        if name == "demo":  # npm is not needed here, and --serve does not end
            arguments = [*(set(arguments) - {"--serve"}), f"--runtime={self.runtime()}"]
        define_flags(values)
        if name == "evaluate":  # of fewer images, all of 32 px
            text = " ".join([*arguments, "--num=80"])
            text = text.replace("phantom:1000", "phantom:240")
            arguments = text.replace("pediatric64 ", "runs/kermany64 ").split()
        values([name, *arguments])
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = main([name], values)
        return code, output.getvalue()

    def runtime(self) -> pathlib.Path:
        """A folder with files of the names of ONNX Runtime Web."""
        folder = self.folder / "runtime"
        folder.mkdir(exist_ok=True)
        for file in web_runtime.FILES:
            (folder / file).write_text(f"v{web_runtime.VERSION}")
        return folder

    def execute(self, code: str) -> str:
        """Runs Python code; its output. Data sets have 32 px, as TINY."""
        code = code.replace('"path/to/chest_xray", 64', '"path/to/chest_xray", 32')
        if "cxr_gan.train(" in code:  # on the devices that fit its batches
            short = [flag.removeprefix("--config.") for flag in [*TINY, *SHORT]]
            changes = "".join(f"mine.{setting}\n" for setting in short)
            code = code.replace("mine.max_minutes = 10.0\n", changes)
            status, printed = self.run(["-c", code])
            assert status == 0, printed
            return printed
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, "<manual>", "exec"), {"__name__": "__main__"})
        return output.getvalue()


def write_export(folder: pathlib.Path) -> None:
    """120 DICOM files of 60 patients, six of them lateral, and a table of findings."""
    (folder / "images").mkdir(parents=True)
    rows = ["file,finding,patient"]
    for i in range(120):
        words = phantom.render(1, i, 80).image.astype(np.uint16)[..., 0] * 16
        view = "LL" if i % 20 == 19 else "PA"
        image = dicom_files.image(words, 12, ViewPosition=view, PatientID="ANON")
        dicom_files.save(image, folder / f"images/{i}.dcm")
        finding = ("No finding", "Pneumonia")[i // 2 % 2]
        rows.append(f"images/{i}.dcm,{finding},{i // 2:04}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A reader in a folder where the paths of the pages hold noise images."""
    folder = tmp_path_factory.mktemp("manual")
    rng = np.random.default_rng(0)
    for path, count, size in (("chest_xray/train", 120, 40), ("images", 40, 32)):
        for name in ("NORMAL", "PNEUMONIA"):
            images = folder / "path/to" / path / name
            images.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (size, size), dtype=np.uint8)
                Image.fromarray(pixels).save(images / f"{i}.png")
    for name, new in (("mine", "PNEUMONIA"), ("mine_viral", "VIRAL")):
        for old, label in (("NORMAL", "NORMAL"), ("PNEUMONIA", new)):
            link = folder / "path/to" / name / "train" / label
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder / "path/to/chest_xray/train" / old)
    write_export(folder / "path/to/export")
    (folder / "path/to/empty/train/PNEUMONIA").mkdir(parents=True)
    (folder / "path/to/empty/train/NORMAL").symlink_to(images)
    network = folder / "path/to/dinov2.onnx"
    write_network(network, ("n", 3, 224, 224))
    network.with_suffix(".json").write_text(
        dict(blocks(read("docs/encoders.md")))["json"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        short = functools.partial(utility.utility, seeds=2, steps=2)
        patch.setattr(utility, "utility", short)
        patch.chdir(folder)
        reader = Reader(folder)
        for command in typed(
            read("docs/quickstart.md")
        ):  # other pages use these two runs
            if "-m cxr_gan.main" in command:
                reader.type(command)
        yield reader


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands_and_code_of_the_page_run_and_print_what_it_shows(page, reader):
    printed = ""  # by the code directly above
    for language, text in blocks(read(page)):
        file = title(language)
        if language == "text" and printed:
            assert_shown(text, printed)
        printed = ""
        if file:
            (reader.folder / file).write_text(text)
        elif language == "python" and NEEDS_DOWNLOADS not in text:
            printed = reader.execute(text)
        elif language == "bash":
            for command in commands(text):
                if not is_run_elsewhere(command):
                    reader.type(command)
        elif language == "console":
            for command, expected in console(text):
                fails = expected.startswith("error: ")
                assert_shown(expected, reader.type(command, succeeds=not fails))


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_valid_and_of_a_known_language(page):
    for language, text in blocks(read(page)):
        language = language.split(" ")[0]
        assert language in LANGUAGES
        if language == "json":
            json.loads(text)
        elif language == "python":
            ast.parse(text)
    for command in typed(read(page)):
        known = re.match(r"python -(m cxr_gan\.\w+|c) ", command)
        assert known or is_run_elsewhere(command), command


@pytest.mark.slow
def test_flags_of_benchmark_commands_exist():
    used = collections.defaultdict(set)
    keys = {f"config.{key}" for key in configs.flatten(configs.published())}
    for page in PAGES:
        text = read(page)
        for command in typed(text) + re.findall(r"`(python -m [^`]+)`", text):
            if "-m benchmarks." in command:
                words = shlex.split(command, comments=True)
                names = {w[2:].partition("=")[0] for w in words if w.startswith("--")}
                used[words[2]] |= names - keys
    assert used
    for module, names in used.items():
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if "No module named 'torch'" in done.stderr:
            continue
        known = {*re.findall(r"--(?:\[no\])?(\w+)", done.stdout)}
        assert names <= known, f"{module}: {names - known}\n{done.stderr}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_files_outside_the_site_lead_to_existing_headings(page):
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]+)#?([^)]*)\)", read(page)):
        assert (ROOT / file).exists(), file
        if anchor:
            target = (ROOT / file).read_text(encoding="utf-8")
            titles = re.findall(r"^#+ (.*)$", target, re.MULTILINE)
            slugs = [
                re.sub(r"[^\w\- ]", "", t).lower().replace(" ", "-") for t in titles
            ]
            assert anchor in slugs, f"{file}#{anchor}"


def test_configuration_page_has_every_key_with_its_meaning_and_default():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = hooks.on_page_markdown("<!-- configuration -->\n")
    rows = dict(re.findall(r"^\| `([\w.]+)`\{.*?\} \| `(.*?)` \| ", page, re.MULTILINE))
    known = configs.flatten(configs.published())
    assert rows == {key: repr(value) for key, value in known.items()}
    assert "of the gradient penalty on real images | 0 or more |" in page


def test_every_fault_names_existing_tests():
    text = read("docs/troubleshooting.md")
    tables = re.findall(r"^\| fault .*?(?=^$)", text, re.DOTALL | re.MULTILINE)
    rows = [row.strip("|").split(" | ") for t in tables for row in t.splitlines()[2:]]
    assert len(tables) == 8 and len(rows) > 25
    for *cells, tests in rows:
        assert len(cells) == 3 and all(cells)
        assert NAMED_TEST.findall(tests) and not NAMED_TEST.sub("", tests).strip(", ")
    for file, name in {*NAMED_TEST.findall(text)}:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert name in names, f"{file}::{name}"
