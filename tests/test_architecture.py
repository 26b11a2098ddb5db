"""The house keeps its shape: imports only point down, and each door is opened once."""

import ast
import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(p.relative_to(ROOT) for p in (ROOT / "cxr_gan").rglob("*.py"))

# A room is a module or a package of cxr_gan; it may import only rooms of lower floors.
FLOORS = {
    "cxr_gan": 10,  # cxr_gan/__init__.py
    **dict.fromkeys(("main", "evaluate", "generate", "publish", "panel"), 9),
    "train": 8,
    **dict.fromkeys(("looks", "resume", "page", "subject"), 7),
    **dict.fromkeys(("sampling", "run", "evaluation"), 6),
    **dict.fromkeys(("checkpoint", "parallel", "report", "shelf"), 5),
    "step": 4,
    **dict.fromkeys(("state", "config", "terms"), 3),
    **dict.fromkeys(("monitor", "bucket"), 3),
    **dict.fromkeys(("gan", "judges", "given", "lease"), 2),
    **dict.fromkeys(("models", "losses", "augment", "balance"), 1),
    **dict.fromkeys(("images", "grids", "microbatches", "request", "terminal"), 1),
    **dict.fromkeys(("checksums", "health", "hosts", "lock", "stop", "version"), 1),
    **dict.fromkeys(("data", "metrics", "schedule"), 1),
    **dict.fromkeys(("damage", "disk"), 0),
}
# They alone speak to a terminal.
COMMANDS = {"main", "evaluate", "generate", "publish", "panel"}
ONLY_IN = {"tensorflow": "data", "tensorflow_datasets": "data", "orbax": "checkpoint"}
UNSAFE = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}


def room_of(module: str) -> str:
    """cxr_gan.models.layers -> models; cxr_gan itself and its names -> cxr_gan."""
    room = module.split(".")[1] if "." in module else module
    exists = (ROOT / "cxr_gan" / room).is_dir() or (
        ROOT / f"cxr_gan/{room}.py"
    ).exists()
    return room if exists else "cxr_gan"


def imports(path: pathlib.Path, tree: ast.AST) -> set[str]:
    """Dotted names of all that is imported, wherever in the file: a.b and a.b.name."""
    package = ".".join(path.parent.parts)
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(dots, package)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


@pytest.fixture(params=MODULES, ids=str)
def module(request) -> tuple[str, ast.AST, set[str]]:
    """Of each file in turn: its room, its syntax tree, what it imports."""
    path = request.param
    tree = ast.parse((ROOT / path).read_text())
    room = room_of(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    return room, tree, imports(path, tree)


def test_imports_point_down(module):
    room, _, imported = module
    assert room in FLOORS, f"{room} is new: give it a floor in FLOORS above"
    for name in sorted(imported):
        if name.split(".")[0] == "cxr_gan" and room_of(name) != room:
            assert FLOORS.get(room_of(name), 0) < FLOORS[room], (
                f"{room} (floor {FLOORS[room]}) must not import {name}: not below it"
            )


def test_tensorflow_is_only_in_data_and_orbax_only_in_checkpoint(module):
    room, _, imported = module
    for library in {name.split(".")[0] for name in imported}:
        assert ONLY_IN.get(library, room) == room, f"{room} imports {library}"


def test_pmap_is_only_in_parallel(module):
    room, tree, imported = module
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert room == "parallel" or "pmap" not in named | {
        name.split(".")[-1] for name in imported
    }


def test_nothing_unpickles(module):
    _, tree, imported = module
    assert not UNSAFE & {name.split(".")[0] for name in imported}
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant) and node.value.value is False


def test_only_commands_print(module):
    room, tree, _ = module
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert room in COMMANDS or "print" not in names


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("cxr_gan", {"tensorflow", "orbax", "optax"}),
        ("cxr_gan.sampling", {"tensorflow"}),
        ("cxr_gan.data", {"tensorflow"}),
    ],
)
def test_importing_does_not_bring_along_what_is_used_later(imported, absent):
    loaded = set(run(f"import {imported}, sys; print(*sys.modules)").split())
    assert imported in loaded
    assert not absent & loaded


def test_cxr_gan_is_imported_in_under_two_seconds():
    code = "import time; t = time.time(); import cxr_gan; print(time.time() - t)"
    assert min(float(run(code)) for _ in range(3)) < 2
