"""The file with the lowest versions, which one row of CI installs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LOWEST = (ROOT / "tests" / "lowest.txt").read_text()
OURS = "django-realtime-ticket"
GROUPS = ("demo", "test", "mysql")
"""Dependency groups that the row installs, beside the package with its extras."""


def requirements() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["project"]["dependencies"],
             *project["project"]["optional-dependencies"].values(),
             *(project["dependency-groups"][name] for name in GROUPS)]  # fmt: skip
    for line in (line for lines in lists for line in lines if isinstance(line, str)):
        requirement = Requirement(line)
        if requirement.name != OURS:
            yield requirement


def test_they_are_those_that_the_project_allows() -> None:
    """Each direct requirement is there, at its lower bound, and nothing else."""
    bounds = {}
    for requirement in requirements():
        # A release that does not work may be left out.
        (specifier,) = (s for s in requirement.specifier if s.operator != "!=")
        assert specifier.operator in (">=", "=="), requirement
        assert requirement.name not in bounds, f"{requirement} is there twice"
        bounds[requirement.name] = Version(specifier.version)
    pinned = re.findall(r"^([\w-]+)==(\S+)$", LOWEST, re.M)
    assert {name: Version(version) for name, version in pinned} == bounds
    assert len(pinned) == len(bounds) > 10


def test_nothing_else_is_in_the_file() -> None:
    """No address of a registry, and the commands that use it."""
    lines = [line for line in LOWEST.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)
    assert "://" not in LOWEST
    assert "--constraint tests/lowest.txt" in LOWEST
