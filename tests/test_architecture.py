"""The structure of docs/architecture.md: imports go downwards, quick rooms stay light, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "composer"
LEAVES = {"errors", "value", "paths", "disk", "oci", "inotify", "syscalls", "layered", "offline"}

BELOW = {"model", "plan", "record", "bundle", "images", "network", "volumes", "keeper", "runtime", "logs"}
BELOW |= {"build"}

# What each room may import of ours, besides itself and the leaves.
ALLOWED: dict[str, set[str]] = {
    "model": set(),
    "plan": {"model"},
    "bundle": {"model", "runtime"},
    "record": {"model", "plan"},
    "logs": set(),
    "runtime": {"oci"},
    "keeper": {"runtime"},
    "network": {"model"},
    "images": {"model"},
    "volumes": {"model"},
    "build": {"images", "bundle", "runtime", "keeper", "model"},
    "supervisor": BELOW,
    "api": BELOW | {"supervisor"},
    "watch": BELOW | {"supervisor", "api"},
    "cli": BELOW | {"supervisor", "api", "watch"},
    "testing": {"api"},
    "__main__": {"cli"},
    "__init__": {"api"},
    **dict.fromkeys(LEAVES, LEAVES),
}
NO_LEAVES = {"runtime", "keeper"}
STDLIB_ONLY = {"runtime", "keeper"}
LONGEST = 500

# Files over LONGEST lines, each with its reason.
LONG: dict[str, str] = {
    "model/fields.py": "the one table: a row per field of a stack file",
}


def room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports for use (not for types only)."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "composer"}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path: Path) -> None:
    """A room imports what its row allows, and nothing else of ours."""
    own = room(path)
    allowed = ALLOWED[own] | {own} | (set() if own in NO_LEAVES else LEAVES)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("composer.")}
    used -= {"__version__"}
    assert used <= allowed, f"{path.relative_to(ROOT)} may not import {sorted(used - allowed)}"


@pytest.mark.parametrize(
    "path", [p for p in FILES if room(p) in STDLIB_ONLY], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_quick_rooms_use_the_standard_library_only(path: Path) -> None:
    """The keeper and the runtime load nothing that has to be installed."""
    foreign = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"composer"}
    assert not foreign


HEAVY = {"jsonschema", "pyroute2", "httpx2", "typer", "rich", "anyio", "asyncio", "pydantic", "textual"}
QUICK = {
    "ps": HEAVY | {"yaml"},
    "logs": HEAVY | {"yaml"},
    "exec": HEAVY | {"yaml"},
    "version": HEAVY | {"yaml"},
}


@pytest.mark.parametrize("verb", sorted(QUICK))
def test_quick_verbs_load_no_heavy_module(verb: str, tmp_path: Path) -> None:
    """A reading command pays only for what it uses."""
    code = (
        "import sys; from composer.cli.app import main; "
        f"main(['-p', 'nothing-is-called-so', {verb!r}] + (['web', 'true'] if {verb!r} == 'exec' else [])); "
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    environment = {"COMPOSER_RUN_DIR": f"{tmp_path}/run", "COMPOSER_STATE_DIR": f"{tmp_path}/state"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert loaded, done.stderr
    assert not loaded & QUICK[verb]


SELDOM = {
    *("yaml", "jsonschema", "pyroute2", "typer", "rich", "httpx2", "http.client", "tempfile", "secrets"),
    *("composer.model.tree", "composer.model.load", "composer.images.registry", "composer.build.builder"),
}


def test_the_supervisor_starts_without_what_it_seldom_needs() -> None:
    """Its imports are the longest part of a first `up`."""
    code = (
        f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}; import composer.supervisor.main; "
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & SELDOM


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_do_one_thing(path: Path) -> None:
    """No file grows past what fits a head, unless the table above says why."""
    lines = path.read_text().count("\n")
    assert lines <= LONGEST or str(path.relative_to(PACKAGE)) in LONG, f"{lines} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
