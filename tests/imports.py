"""Which module imports which, as the source says."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent


def modules_of(folder: Path) -> dict[str, Path]:
    """Return the Python files of a package by the dotted names of their modules."""
    return {
        ".".join(
            part
            for part in path.relative_to(folder.parent).with_suffix("").parts
            if part != "__init__"
        ): path
        for path in sorted(folder.rglob("*.py"))
        if "node_modules" not in path.parts
    }


def names_imported(
    nodes: Iterable[ast.AST], module: str, path: Path, known: Container[str]
) -> set[str]:
    """Return the absolute names of what these nodes of a module import.

    What is imported from a package is a module of its own if it is known as one.
    """
    package = module.split(".")
    if path.name != "__init__.py":
        package.pop()
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            names = {f"{name}.{alias.name}" for alias in node.names}
            found |= {each for each in names if each in known} or {name}
    return found - {"__future__"}


def graph_of(folder: Path) -> dict[str, set[str]]:
    """Return each module of a package with those of the same package it imports.

    Imports in functions count, and those for type checkers alone.
    """
    modules = modules_of(folder)
    return {
        name: names_imported(ast.walk(ast.parse(path.read_text())), name, path, modules)
        & modules.keys()
        for name, path in modules.items()
    }


def circles(graph: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """Return the sets of modules that need each other to be understood."""

    def reach(start: str) -> set[str]:
        found: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            if (name := waiting.pop()) not in found:
                found.add(name)
                waiting += graph[name]
        return found

    reached = {name: reach(name) for name in graph}
    found: list[set[str]] = []
    for name in graph:
        circle = {other for other in reached[name] if name in reached[other]}
        if circle and circle not in found:
            found.append(circle)
    return found
