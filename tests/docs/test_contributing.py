"""What the page for contributors names is there."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT
from tests.mutants import load

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FILES = sorted(
    {
        name
        for name in re.findall(r"`([.\w/-]+(?:/|\.\w+|/run))`", PAGE)
        if "NAME" not in name and "/" in name
    }
)
NAMES = re.findall(r"`([A-Z_]+|test_\w+)` in `([\w/]+)\.py`", PAGE)


@pytest.mark.parametrize("name", FILES)
def test_files_are_there(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize(("name", "module"), NAMES)
def test_names_are_in_those_files(name: str, module: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / f"{module}.py").read_text("utf-8"))


def test_mutants_are_those_of_the_tests() -> None:
    named = {
        *re.findall(r"Mutants: ([\w-]+)\.", PAGE),
        *re.findall(r'^make mutants ARGS="([\w-]+)"', PAGE, re.MULTILINE),
    }
    assert named and named <= load().keys()


def test_the_page_names_something() -> None:
    """Guards the tests above against finding nothing to do."""
    assert len(FILES) > 20
    assert len(NAMES) > 3
