"""No module needs one that needs it, and no test needs another test's file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.imports import ROOT, circles, graph_of, modules_of, names_imported

TEST_MODULE = re.compile(r"tests\.(\w+\.)*test_\w+\b")
FOLDERS = ["realtime_ticket", "tests", "benchmarks", "examples"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_there_is_no_circle(folder: str) -> None:
    """Not even one of imports in functions, or for type checkers alone.

    What two modules need of each other belongs into a third.
    """
    graph = graph_of(ROOT / folder)
    assert any(graph.values())
    assert circles(graph) == []


def test_nothing_is_imported_from_a_test_module() -> None:
    """What tests share is in a module without tests: helpers.py, processes.py...

    Nor by the dotted path that a setting holds.
    """
    found = set()
    for name, path in modules_of(ROOT / "tests").items():
        tree = ast.parse(path.read_text())
        texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        texts |= names_imported(ast.walk(tree), name, path, ())
        found |= {
            (name, text)
            for text in texts
            if TEST_MODULE.match(text) and not text.startswith(f"{name}.")
        }
    assert found == set()


def test_circles_and_imports_are_found(tmp_path: Path) -> None:
    """Of every kind: absolute, relative, in a function, for a type checker."""
    package = tmp_path / "house"
    (package / "room").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "a.py": "from . import b",
        "b.py": "def late():\n    import house.room.c\n    from os import path",
        "room/__init__.py": "",
        "room/c.py": "if TYPE_CHECKING:\n    from ..a import name",
        "room/d.py": "from house.a import name\nfrom house import room",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    graph = graph_of(package)
    assert graph == {
        "house": set(),
        "house.a": {"house.b"},
        "house.b": {"house.room.c"},
        "house.room": set(),
        "house.room.c": {"house.a"},
        "house.room.d": {"house.a", "house.room"},
    }
    assert circles(graph) == [{"house.a", "house.b", "house.room.c"}]
