"""The page that says what the tests run with says what they run with."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests import servers, tested_with
from tests.asgi_servers import COMMANDS
from tests.engines.packages import ENGINES
from tests.tested_with import DRIVERS, PROGRAMS, PYPROJECT, SERVERS, Package, Program


def test_the_page_shows_the_tables(tmp_path: Path) -> None:
    """``python -m tests.tested_with`` would change nothing."""
    page = tmp_path / "page.md"
    page.write_text(tested_with.PAGE.read_text("utf-8"), "utf-8")
    tested_with.write(page)
    text = page.read_text("utf-8")
    assert text == tested_with.PAGE.read_text("utf-8")
    for lines in tested_with.tables().values():
        assert lines.count("\n") > 3
        assert lines in text


@pytest.mark.parametrize(
    "program", PROGRAMS, ids=lambda each: f"{each.name}-{each.version}"
)
def test_a_program_has_the_version_of_the_page(program: Program) -> None:
    if (said := program.said()) is None:
        servers.do_without(f"{program.name} {program.version} is not installed")
    if not re.search(rf"(?<![\d.]){re.escape(program.version)}(?!\d)", said):
        servers.do_without(f"{program.name} is not {program.version}: {said}")


@pytest.mark.parametrize("package", [*DRIVERS, *SERVERS], ids=lambda each: each.name)
def test_a_package_is_at_least_what_the_page_says(package: Package) -> None:
    """Newer is fine: the page is of the day when somebody wrote it."""
    try:
        found = Version(version(package.name))
    except PackageNotFoundError:
        servers.do_without(f"{package.name} is not installed")
    assert found >= Version(package.version)


def test_nothing_is_left_out() -> None:
    """Each server has a row that the tests start by its name, and each engine."""
    rows = {program.program for program in PROGRAMS}
    assert rows >= {program for program, _ in servers.PROGRAMS.values()}
    assert rows >= ENGINES.keys()
    assert {package.name for package in SERVERS} >= {
        command.split()[0] for command in COMMANDS.values()
    }


def test_engines_are_pinned() -> None:
    """Third parties package them: a new version is looked at before it is used."""
    group = map(Requirement, PYPROJECT["dependency-groups"]["engines"])
    pins = {each.name: str(each.specifier) for each in group}
    assert pins.keys() >= {engine.package for engine in ENGINES.values()}
    assert all(re.fullmatch(r"==[\d.]+(\.?post\d+)?", pin) for pin in pins.values())
