"""Imports run one way: between the rooms of the pack, between the floors of training/, and never in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "models": {"models"},
    "nodes": {"nodes", "models"},
    "training": {"training", "models"},
    "tools": {"tools", "training", "nodes", "models", "run"},
}
FLOORS = ("core", "data", "tasks", "stages", "evaluation", "commands", "cli")  # each may import those before it


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the pack's rooms, and of `run`."""
    found = {"run": PACK / "run.py"}
    for room in MAY_IMPORT:
        for path in (PACK / room).rglob("*.py"):
            parts = path.relative_to(PACK).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: dict[str, Path], nested: bool) -> set[str]:
    """Modules of the pack that a module imports; `nested`: also inside of functions."""
    tree = ast.parse(path.read_text("utf-8"))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree) if nested else _top_level(tree.body):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        parts = package.split(".") if package else []
        parts = parts[: len(parts) - (node.level - 1)]
        base = ".".join([*parts, *(node.module.split(".") if node.module else [])])
        for alias in node.names:
            target = f"{base}.{alias.name}" if base else alias.name
            found.add(target if target in known else base)
    return {target for target in found if target in known and target != name}


def _top_level(body: list) -> list:
    """Statements that run when the module is imported; not those for type checkers."""
    found = []
    for node in body:
        found.append(node)
        for part in ("body", "orelse", "handlers", "finalbody"):
            checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not checking:
                found += _top_level(getattr(node, part, []))
    return found


KNOWN = modules()


def test_the_walk_sees_the_pack():
    assert len(KNOWN) > 100
    assert "models.nets.files" in imported("training.core.loop", KNOWN["training.core.loop"], KNOWN, nested=True)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms(room):
    wrong = [
        (name, target)
        for name, path in KNOWN.items()
        if name.split(".")[0] == room
        for target in imported(name, path, KNOWN, nested=True)
        if target.split(".")[0] not in MAY_IMPORT[room]
    ]
    assert not wrong


def test_floors_of_training():
    def floor(name: str) -> int | None:
        parts = name.split(".")
        return FLOORS.index(parts[1]) if parts[0] == "training" and len(parts) > 1 else None

    pairs = [(name, target) for name, path in KNOWN.items() for target in imported(name, path, KNOWN, nested=True)]
    wrong = [
        (name, target)
        for name, target in pairs
        if floor(name) is not None and floor(target) is not None and floor(name) < floor(target)
    ]
    assert sum(floor(name) is not None for name in KNOWN) > 80
    assert not wrong


def test_no_circles():
    graph = {name: imported(name, path, KNOWN, nested=False) for name, path in KNOWN.items()}
    graphlib.TopologicalSorter(graph).prepare()
