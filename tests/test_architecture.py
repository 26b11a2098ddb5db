"""Imports between folders point one way, and heavy libraries stay in one place."""

import ast
import importlib.util
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(p.relative_to(ROOT) for p in (ROOT / "cxr_gan").rglob("*.py"))
VERBS = {
    *("main", "generate", "edit", "export", "demo"),
    *("evaluate", "prepare", "publish", "reader_study"),
}

# Folder or file of cxr_gan -> those it may import, beside `version`. Verbs, and
# cxr_gan/__init__.py, may import all of them.
MAY_IMPORT = {
    "version": set(),
    "losses": set(),
    "storage": set(),
    "data": {"storage"},
    "runtime": {"storage"},
    "models": {"runtime", "storage"},
    "config": {"models", "data", "runtime", "losses"},
    "sampling": {"config", "models", "runtime", "storage"},
    "evaluation": {"sampling", "models", "data", "runtime", "storage"},
    "training": {
        *("evaluation", "sampling", "models", "data", "runtime", "storage"),
        *("config", "losses"),
    },
}
# Libraries that only these modules import.
ONLY_IN = {
    "imagecodecs": "cxr_gan.data.formats.dicom.",
    "pydicom": "cxr_gan.data.formats.dicom.",
    "tensorflow": "cxr_gan.data.",
    "tensorflow_datasets": "cxr_gan.data.",
    "orbax": "cxr_gan.storage.checkpoint",
    "matplotlib": "cxr_gan.evaluation.report.plots",
    "jinja2": "cxr_gan.evaluation.report.templates",
    "pmap": "cxr_gan.training.data_parallel",
}
UNSAFE = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}


def folder_of(name: str) -> str:
    """cxr_gan.models.layers -> models; cxr_gan and its public names -> cxr_gan."""
    parts = name.split(".")
    is_name = len(parts) < 2 or not (
        (ROOT / "cxr_gan" / parts[1]).is_dir()
        or (ROOT / "cxr_gan" / f"{parts[1]}.py").exists()
    )
    return "cxr_gan" if is_name else parts[1]


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
    """Each file in turn: its dotted name, its syntax tree, what it imports."""
    path = request.param
    tree = ast.parse((ROOT / path).read_text())
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    return name, tree, imports(path, tree)


def test_imports_between_folders_point_one_way(module):
    name, _, imported = module
    own = folder_of(name)
    if own in VERBS | {"cxr_gan"}:
        return
    for other in {folder_of(i) for i in imported if i.split(".")[0] == "cxr_gan"}:
        assert other in MAY_IMPORT[own] | {own, "version"}, f"{name} imports {other}"


def test_heavy_libraries_are_imported_in_one_place(module):
    name, tree, imported = module
    used = {i.split(".")[0] for i in imported} | {i.split(".")[-1] for i in imported}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for library in used & set(ONLY_IN):
        assert f"{name}.".startswith(ONLY_IN[library]), f"{name} uses {library}"


def test_nothing_unpickles(module):
    _, tree, imported = module
    assert not UNSAFE & {name.split(".")[0] for name in imported}
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant) and node.value.value is False


def test_only_verbs_print(module):
    name, tree, _ = module
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert folder_of(name) in VERBS or "print" not in names


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
        ("cxr_gan.sampling.sampler", {"tensorflow"}),
        ("cxr_gan.data", {"tensorflow", "jax", "pydicom", "imagecodecs"}),
        ("cxr_gan.data.formats.dicom", {"pydicom", "imagecodecs"}),
        ("cxr_gan.storage", {"orbax", "tensorstore"}),
        ("cxr_gan.evaluation", {"scipy", "optax", "jinja2", "matplotlib"}),
        ("cxr_gan.evaluate", {"matplotlib"}),
    ],
)
def test_imports_leave_out_what_is_used_later(imported, absent):
    loaded = set(run(f"import {imported}, sys; print(*sys.modules)").split())
    assert imported in loaded
    assert not absent & loaded
