"""Which tests run where is said in one place, and the contributors' page quotes it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import parts
from tests.parts import PARTS, RUNS, TESTS, part_of

ROOT = TESTS.parent


def test_the_page_shows_the_table(tmp_path: Path) -> None:
    """``python -m tests.parts`` would change nothing."""
    page = tmp_path / "page.md"
    page.write_text(parts.PAGE.read_text())
    parts.write(page)
    assert page.read_text() == parts.PAGE.read_text()
    assert parts.table() in parts.PAGE.read_text()


def test_parts_are_told_apart() -> None:
    """Each pattern finds files, and no file is in two parts."""
    files = sorted(TESTS.rglob("test_*.py"))
    for part in PARTS[1:]:
        for pattern in part.files:
            assert list(TESTS.glob(pattern)), pattern
    for file in files:
        name = file.relative_to(TESTS)
        assert sum(any(map(name.match, part.files)) for part in PARTS) <= 1, name
    assert {part_of(file).name for file in files} == {part.name for part in PARTS}


@pytest.mark.parametrize("named", [True, False], ids=["named", "found"])
def test_a_run_has_its_parts(named: bool) -> None:
    """And no other, whether a file is named or found in its folder."""
    files = ["test_conf.py", "test_contract.py", "test_layering.py"]
    words = [f"tests/{file}" for file in files] if named else []
    process = collect("others", *words)
    found = set(re.findall(r"^tests/(\w+\.py)::", process.stdout, re.M))
    assert found & set(files) == {"test_contract.py", "test_layering.py"}


def test_make_test_runs_every_part() -> None:
    """Each is in one of its two runs, but for those that make faults runs."""
    for part in PARTS:
        assert part.runs or part.name == "faults"
        assert set(part.runs) <= set(RUNS)
        runs = {"measured", "others"} & set(part.runs)
        assert len(runs) == {"contract": 2, "faults": 0}.get(part.name, 1), part.name


def test_an_unknown_run_is_refused() -> None:
    """A run with a mistake in its name is not everything."""
    process = collect("quik", "tests/test_conf.py")
    assert process.returncode != 0
    assert "REALTIME_TICKET_RUN is one of all, measured" in process.stderr


def test_commands_are_those_of_the_makefile() -> None:
    """Every ``make`` that the page shows is there."""
    makefile = (ROOT / "Makefile").read_text()
    page = parts.PAGE.read_text()
    commands = re.findall(r"^make ([a-z ]+)", page, re.MULTILINE)
    shown = {target for words in commands for target in words.split()}
    assert {"quick", "test", "lint", "docs", "mutants"} <= shown
    for target in shown:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def collect(run: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", *words],
        cwd=ROOT,
        env={**os.environ, "REALTIME_TICKET_RUN": run},
        capture_output=True,
        text=True,
    )
