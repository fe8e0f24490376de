"""Mutants: small breaks of the package, and the tests that must notice them.

A mutant is a table of a TOML file in this folder. A test names in the last line of its
docstring those that make it fail: ``Mutants: one-name, another-name.``
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_NAMES = re.compile(r"\bMutants:\s+([a-z0-9-]+(?:,\s+[a-z0-9-]+)*)\.$")


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is broken, and how: ``old``, which stands once in the file, becomes ``new``.

    ``file`` is a path below the package, ``table`` the TOML file that says all this.
    """

    table: str
    why: str
    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """Return the broken text. Raise ValueError if that is not one clear change."""
        if text.count(self.old) != 1:
            raise ValueError(f"In {self.file}, once, and not: {self.old!r}")
        return text.replace(self.old, self.new)


def load(root: Path = ROOT) -> dict[str, Mutant]:
    """Return all mutants by name. Raise ValueError if two have the same."""
    found: dict[str, Mutant] = {}
    for path in sorted((root / "tests" / "mutants").glob("*.toml")):
        for name, table in tomllib.loads(path.read_text()).items():
            if name in found:
                raise ValueError(f"There are two mutants {name!r}.")
            found[name] = Mutant(table=path.relative_to(root).as_posix(), **table)
    return found


def named(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the mutants that each test names, by pytest's name of the test."""
    return {
        f"{path.relative_to(root).as_posix()}::{name}": _names(test)
        for path in sorted((root / "tests").rglob("test_*.py"))
        for name, test in _tests(ast.parse(path.read_text()))
    }


def changed(revision: str, root: Path = ROOT) -> set[str]:
    """Return the files that differ from a revision of git, those not committed too.

    Raise ValueError if git knows no such revision.
    """
    try:
        return {
            name
            for words in (
                ("diff", "--name-only", "--relative", "-z", revision, "--"),
                ("ls-files", "--others", "--exclude-standard", "-z"),
            )
            for name in _git(root, *words).split("\0")
            if name
        }
    except subprocess.CalledProcessError as exc:
        raise ValueError(exc.stderr.strip()) from exc


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _tests(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) if name.startswith("Test"):
                yield from ((f"{name}::{each}", test) for each, test in _tests(node))
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("test"):
                    yield name, node


def _names(test: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    found = _NAMES.search(ast.get_docstring(test) or "")
    return re.split(r",\s+", found[1]) if found else []
