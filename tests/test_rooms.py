"""Arrows between rooms point one way, and no modules import each other in a circle, in functions neither."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

# What each room may import of the project.
ROOMS = {
    "fileio": set(),
    "clip": {"fileio"},
    "dassl": {"fileio"},
    "adapt": {"clip", "fileio"},
    "trainers": {"adapt", "clip", "dassl", "fileio"},
    "datasets": {"command_line", "dassl", "fileio"},
    "reporting": {"command_line", "fileio"},
    "runner": {"adapt", "clip", "command_line", "dassl", "datasets", "fileio", "reporting", "trainers"},
}
# Packages that a room must do without.
ABSENT = {
    "fileio": {"torchvision", "yacs"},
    "adapt": {"yacs", "torchvision"},
    "reporting": {"torch", "torchvision", "yacs"},
}
FOLDERS = [*ROOMS, "benchmarks", "demo"]


def modules() -> dict[str, Path]:
    """Every module of the project by name; a package is its ``__init__``."""
    files = [*ROOT.glob("*.py"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]
    parts = {file: file.relative_to(ROOT).with_suffix("").parts for file in files}
    return {".".join(p[:-1] if p[-1] == "__init__" else p): file for file, p in parts.items()}


def imports(file: Path) -> set[str]:
    """What a file imports, anywhere in it: modules, and names of modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    names = modules()
    own = {name.split(".")[0] for name in names} - {room}
    for name, file in names.items():
        if name.split(".")[0] == room:
            used = {imported.split(".")[0] for imported in imports(file)}
            assert used & own <= ROOMS[room], file
            assert not used & ABSENT.get(room, set()), file


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = modules()
    arrows = {
        # A package hands on its members' names: importing one of these is no arrow back to the package.
        name: {other for other in imports(file) & names.keys() if not name.startswith(f"{other}.")} - {name}
        for name, file in names.items()
    }
    for name in arrows:
        arrows[name] = {other for other in arrows[name] if not other.startswith(f"{name}.")}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_a_method_takes_from_dassl_its_registry_alone() -> None:
    for file in (ROOT / "trainers").glob("*.py"):
        taken = {name for name in imports(file) if name.startswith("dassl.") and name != "dassl.engine"}
        assert file.name == "clip_trainer.py" or taken <= {"dassl.engine.TRAINER_REGISTRY"}, file
