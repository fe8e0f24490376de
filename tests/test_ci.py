"""What a hosted CI runs is what .ci/run says, on the rows that .ci/run has."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
RUN = (ROOT / ".ci" / "run").read_text()
ROWS = re.findall(r'^    "(3\.\d+) (\d\.\d)(?: .*)?"$', RUN, re.MULTILINE)


def test_every_row_is_run() -> None:
    """The first Python by the job for everything, each other one by a job of a row."""
    (first, *_), others = ROWS[0], [row for row in ROWS if row[0] != ROWS[0][0]]
    assert f"image: python:{first}-bookworm\n" in WORKFLOW
    jobs = re.findall(r'\{ python: "(.*)", django: "(.*)" \}', WORKFLOW)
    assert jobs == others != []
    commands = re.findall(r"- run: (.*)", WORKFLOW)
    words = "${{ matrix.python }} ${{ matrix.django }}"
    assert commands == [".ci/run", f".ci/run {words}"]


def test_rows_are_what_the_package_promises() -> None:
    """Each Python and each Django of the classifiers is in a row."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = " ".join(project["classifiers"])
    pythons, djangos = map(set, zip(*ROWS, strict=True))
    assert set(re.findall(r"Python :: (3\.\d+)", promised)) == pythons
    assert set(re.findall(r"Django :: (\d\.\d)", promised)) == djangos


def test_the_script_can_be_read() -> None:
    """Of a script that runs for half an hour, typing errors are found here."""
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)
